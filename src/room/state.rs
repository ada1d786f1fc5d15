//! A room's state: the fold of its events, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{ProductId, RoomId, SkuId, Who},
    protocol::{
        Body, Event, MediaState, Pinned, PinnedComment, Product, RunSheet, ShowState, Snapshot, StockCount, Tally,
    },
};

/// Comments that a snapshot carries.
pub const COMMENTS_KEPT: usize = 30;

/// What a late joiner must know. Two states that folded the same events are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub room: RoomId,
    /// The room that this one is a rehearsal of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_of: Option<RoomId>,
    pub seq: u64,
    pub show: ShowState,
    pub shelf: Vec<Product>,
    #[serde(skip)]
    pub stock: BTreeMap<SkuId, StockCount>,
    pub pinned: Option<Pinned>,
    pub pinned_comment: Option<PinnedComment>,
    #[serde(default)]
    pub run_sheet: RunSheet,
    pub media: MediaState,
    pub slow_mode: u32,
    pub comments: VecDeque<Event>,
    pub mutes: BTreeMap<Who, UnixMs>,
    pub kicks: BTreeSet<Who>,
    pub likes: u64,
}

impl State {
    pub fn new(room: RoomId, title: String) -> Self {
        Self {
            room,
            rehearsal_of: None,
            seq: 0,
            show: ShowState { running: false, started_at: None, title },
            shelf: Vec::new(),
            stock: BTreeMap::new(),
            pinned: None,
            pinned_comment: None,
            run_sheet: RunSheet::default(),
            media: MediaState::default(),
            slow_mode: 0,
            comments: VecDeque::new(),
            mutes: BTreeMap::new(),
            kicks: BTreeSet::new(),
            likes: 0,
        }
    }

    pub fn product(&self, id: &ProductId) -> Option<&Product> {
        self.shelf.iter().find(|p| p.id == *id)
    }

    pub fn shelves(&self, sku: &SkuId) -> bool {
        self.shelf.iter().any(|p| p.skus.iter().any(|s| s.id == *sku))
    }

    /// Takes in the next event. `shown` is false for what sampling leaves out.
    pub fn fold(&mut self, event: &Event, shown: bool) {
        self.seq = event.seq;
        match &event.body {
            Body::ShowStarted {} => {
                self.show.running = true;
                self.show.started_at = Some(event.at);
                self.likes = 0;
                self.run_sheet.start(self.pinned.as_ref(), event.at);
            }
            Body::ShowEnded {} => {
                self.show.running = false;
                self.kicks.clear();
            }
            Body::CardPinned { product, explain_until } => {
                self.run_sheet.explain(product, event.at);
                let (product, explain_until) = (product.clone(), *explain_until);
                self.pinned = Some(Pinned { product, explain_until, media: event.media });
            }
            Body::CardUnpinned {} => self.pinned = None,
            Body::Shelf { items, planned_seconds, .. } => {
                self.run_sheet.shelve(&self.shelf, items, planned_seconds);
                self.set_shelf(items);
            }
            Body::Price { product, price } => {
                let cards = self.shelf.iter_mut().chain(self.pinned.as_mut().map(|p| &mut p.product));
                cards.filter(|p| p.id == *product).for_each(|p| p.price = *price);
                self.run_sheet.reprice(self.pinned.as_ref());
            }
            Body::Stock { sku, available, held, sold, entry, .. } => {
                let count = StockCount { available: *available, held: *held, sold: *sold, entry: *entry };
                self.stock.insert(sku.clone(), count);
            }
            Body::StockAdjusted { .. } | Body::Sold { .. } => {}
            Body::CommentPinned { comment } => self.pinned_comment = comment.clone(),
            Body::CommentDeleted { comment } => self.comments.retain(|c| c.seq != *comment),
            Body::Mute { who, until: Some(until) } => {
                self.mutes.retain(|_, until| *until > event.at);
                self.mutes.insert(who.clone(), *until);
            }
            Body::Mute { who, until: None } => {
                self.mutes.remove(who);
            }
            Body::Kick { who } => {
                self.kicks.insert(who.clone());
            }
            Body::SlowMode { seconds } => self.slow_mode = *seconds,
            Body::Media { live, tracks } => self.media = MediaState { live: *live, tracks: tracks.clone() },
            Body::Comment { .. } => {
                if shown {
                    self.comments.push_back(event.clone());
                    if self.comments.len() > COMMENTS_KEPT {
                        self.comments.pop_front();
                    }
                }
            }
        }
    }

    fn set_shelf(&mut self, items: &[Product]) {
        self.shelf = items.to_vec();
        if let Some(pinned) = &mut self.pinned
            && let Some(product) = items.iter().find(|p| p.id == pinned.product.id)
        {
            pinned.product = product.clone();
        }
        self.run_sheet.reprice(self.pinned.as_ref());
        let shelf = &self.shelf;
        self.stock.retain(|sku, _| shelf.iter().any(|p| p.skus.iter().any(|s| s.id == *sku)));
    }

    pub fn snapshot(&self, epoch: &str, viewers: u64) -> Snapshot {
        Snapshot {
            room: self.room.clone(),
            rehearsal_of: self.rehearsal_of.clone(),
            epoch: epoch.to_owned(),
            seq: self.seq,
            show: self.show.clone(),
            shelf: self.shelf.clone(),
            stock: self.stock.clone(),
            pinned: self.pinned.clone(),
            pinned_comment: self.pinned_comment.clone(),
            explained: self.run_sheet.explained.clone(),
            planned_seconds: self.run_sheet.planned_seconds.clone(),
            next: self.run_sheet.next(&self.shelf, self.pinned.as_ref()),
            drops: Vec::new(),
            media: self.media.clone(),
            slow_mode: self.slow_mode,
            tally: Tally { viewers, likes: self.likes },
            comments: self.comments.iter().cloned().collect(),
        }
    }
}
