//! What one viewer knows of a room: the fold of its snapshot and frames.
//!
//! Pure: no socket, no clock. The frame rule is written here once for every Rust client, and tests fold the same
//! frames into several views to show that all viewers see one order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    clock::UnixMs,
    id::{ProductId, RoomId, SkuId, Who},
    protocol::{
        Body, ComingUp, Event, Frame, MediaState, Pinned, PinnedComment, Private, Product, RunSheet, ShowState,
        Snapshot, StockCount, Tally,
    },
};

/// Where the connection behind a view stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// No answer to a join yet, for the first time or again.
    #[default]
    Joining,
    /// Joined: what the view shows is as fresh as the last frame.
    Live,
    /// The connection was lost and comes back by itself; prices and counts may be old.
    Waiting,
    /// Over for good. The close code, where the server named one.
    Ended { code: Option<u16>, reason: String },
}

/// What a view has been through, for tests and reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, also those that changed nothing.
    pub frames: u64,
    /// Events applied; those in a snapshot are not counted.
    pub events: u64,
    /// Snapshots taken, the first one included.
    pub snapshots: u64,
    /// Joins that the server answered with `resumed`.
    pub resumes: u64,
    /// Frames that began after the cursor: something was missed.
    pub gaps: u64,
    /// Comments that the server said it left out.
    pub left_out: u64,
    /// Sales that were, likewise.
    pub sales_left_out: u64,
    /// Private messages that did not come in their turn: too many were missed, they can be read over REST.
    pub private_missed: u64,
    /// Comments that this view forgot because it keeps a limited number.
    pub forgotten: u64,
    /// Messages that could not be read, events of unknown types included.
    pub unreadable: u64,
}

/// How a frame met the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The view stands at the frame's end; this many of its events were new.
    Advanced(usize),
    /// The frame holds nothing new.
    Stale,
    /// The frame begins after the cursor: join again.
    Gap,
}

/// A room as one viewer knows it.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub link: Link,
    pub room: Option<RoomId>,
    /// Empty until the first snapshot.
    pub epoch: String,
    pub seq: u64,
    pub show: ShowState,
    pub shelf: Vec<Product>,
    pub stock: BTreeMap<SkuId, StockCount>,
    pub pinned: Option<Pinned>,
    pub pinned_comment: Option<PinnedComment>,
    /// What was explained so far, and how long the shelf's products are meant to be explained.
    pub run_sheet: RunSheet,
    pub media: MediaState,
    /// Seconds between two comments of one person; 0 is off.
    pub slow_mode: u32,
    pub tally: Tally,
    /// Comments in the room's order, the newest last; deleted ones are gone.
    pub comments: VecDeque<Event>,
    /// Pieces sold per SKU since this view began, as `sold` events told: in a rush not all are.
    pub sold: BTreeMap<SkuId, u64>,
    /// Who may not comment, and until when. Not part of a snapshot: only what this view has seen.
    pub muted: BTreeMap<Who, UnixMs>,
    /// Who was removed until the show ends, as far as this view has seen.
    pub kicked: BTreeSet<Who>,
    /// The last private message's number.
    pub you: u64,
    /// Private messages, the newest last.
    pub private: VecDeque<Private>,
    /// The server asked for a fresh token, and got none yet.
    pub token_expiring: bool,
    pub counters: Counters,
    /// The most comments, private messages, mutes and kicks that are kept, of each. Of the first two the oldest go; 0
    /// keeps none.
    pub keep_max: usize,
}

impl View {
    /// A view that has seen nothing and keeps up to `keep_max` comments and private messages.
    pub fn new(keep_max: usize) -> Self {
        Self { keep_max, ..Self::default() }
    }

    /// The cursor to join again with; `None` before the first snapshot.
    pub fn cursor(&self) -> Option<(&str, u64)> {
        (!self.epoch.is_empty()).then_some((self.epoch.as_str(), self.seq))
    }

    /// A product on the shelf.
    pub fn product(&self, id: &ProductId) -> Option<&Product> {
        self.shelf.iter().find(|p| &p.id == id)
    }

    /// What comes next, by the run sheet.
    pub fn next(&self) -> Vec<ComingUp> {
        self.run_sheet.next(&self.shelf, self.pinned.as_ref())
    }

    /// Pieces left of a product in all its SKUs; none when it is on the shelf no more.
    pub fn left(&self, id: &ProductId) -> u64 {
        let skus = self.product(id).into_iter().flat_map(|p| &p.skus);
        skus.filter_map(|sku| self.stock.get(&sku.id)).map(|count| count.available).sum()
    }

    /// The texts of the comments that are kept, the newest last.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.comments.iter().filter_map(|event| match &event.body {
            Body::Comment { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }

    /// Takes a snapshot: it replaces the state and sets the cursor, whatever stood here before.
    pub fn take_snapshot(&mut self, snapshot: Snapshot) {
        self.counters.snapshots += 1;
        self.take_comments(&snapshot.epoch, snapshot.seq, snapshot.comments);
        self.room = Some(snapshot.room);
        self.epoch = snapshot.epoch;
        self.seq = snapshot.seq;
        self.show = snapshot.show;
        self.shelf = snapshot.shelf;
        self.stock = snapshot.stock;
        self.pinned = snapshot.pinned;
        self.pinned_comment = snapshot.pinned_comment;
        self.run_sheet = RunSheet { explained: snapshot.explained, planned_seconds: snapshot.planned_seconds };
        self.media = snapshot.media;
        self.slow_mode = snapshot.slow_mode;
        self.tally = snapshot.tally;
    }

    /// Applies a frame by the frame rule. Its tally counts in any case.
    pub fn apply(&mut self, frame: Frame) -> Applied {
        self.counters.frames += 1;
        if let Some(tally) = frame.tally {
            self.take_tally(tally);
        }

        let cursor = self.seq;
        if self.epoch.is_empty() || cursor < frame.prev {
            self.counters.gaps += 1;
            return Applied::Gap;
        }
        if cursor >= frame.seq {
            return Applied::Stale;
        }

        self.counters.left_out += u64::from(frame.left_out.unwrap_or(0));
        self.counters.sales_left_out += u64::from(frame.sales_left_out.unwrap_or(0));
        let fresh = frame.events.into_iter().filter(|event| event.seq > cursor);
        let applied = fresh.map(|event| self.fold(event)).count();
        self.seq = frame.seq;
        self.counters.events += applied as u64;
        Applied::Advanced(applied)
    }

    /// Takes the latest sums; the last one wins.
    pub fn take_tally(&mut self, tally: Tally) {
        self.tally = tally;
    }

    /// Takes a private message; one that was seen before is ignored.
    pub fn take_private(&mut self, message: Private) {
        if message.n <= self.you {
            return;
        }
        if self.you > 0 {
            self.counters.private_missed += message.n - self.you - 1;
        }
        self.you = message.n;
        self.private.push_back(message);
        while self.private.len() > self.keep_max {
            self.private.pop_front();
        }
    }

    /// In the same epoch a snapshot's comments replace those that it reaches back to; in a new one, all.
    fn take_comments(&mut self, epoch: &str, seq: u64, comments: Vec<Event>) {
        let first = comments.first().map_or(seq.saturating_add(1), |c| c.seq);
        if self.epoch == epoch {
            self.comments.retain(|kept| kept.seq < first);
        } else {
            self.comments.clear();
        }
        for comment in comments {
            self.push_comment(comment);
        }
    }

    fn push_comment(&mut self, comment: Event) {
        self.comments.push_back(comment);
        while self.comments.len() > self.keep_max {
            self.comments.pop_front();
            self.counters.forgotten += 1;
        }
    }

    fn fold(&mut self, event: Event) {
        if matches!(event.body, Body::Comment { .. }) {
            return self.push_comment(event);
        }
        let Event { at, media, body, .. } = event;
        match body {
            Body::ShowStarted {} => {
                self.show.running = true;
                self.show.started_at = Some(at);
                self.run_sheet.start(self.pinned.as_ref(), at);
            }
            Body::ShowEnded {} => {
                self.show.running = false;
                self.kicked.clear();
            }
            Body::CardPinned { product, explain_until } => {
                self.run_sheet.explain(&product, at);
                self.pinned = Some(Pinned { product, explain_until, media });
            }
            Body::CardUnpinned {} => self.pinned = None,
            Body::Shelf { items, planned_seconds, .. } => {
                self.run_sheet.shelve(&self.shelf, &items, &planned_seconds);
                self.take_shelf(items);
            }
            Body::Price { product, price } => {
                let pinned = self.pinned.as_mut().map(|p| &mut p.product);
                for shown in self.shelf.iter_mut().chain(pinned).filter(|p| p.id == product) {
                    shown.price = price;
                }
                self.run_sheet.reprice(self.pinned.as_ref());
            }
            Body::Stock { sku, available, held, sold, entry, .. } => {
                self.stock.insert(sku, StockCount { available, held, sold, entry });
            }
            Body::StockAdjusted { .. } => {}
            Body::CommentPinned { comment } => self.pinned_comment = comment,
            Body::CommentDeleted { comment } => self.comments.retain(|kept| kept.seq != comment),
            Body::Mute { who, until } => self.mute(who, until),
            Body::Kick { who } => {
                self.kicked.insert(who);
                while self.kicked.len() > self.keep_max {
                    self.kicked.pop_first();
                }
            }
            Body::SlowMode { seconds } => self.slow_mode = seconds,
            Body::Media { live, tracks } => self.media = MediaState { live, tracks },
            Body::Sold { sku, quantity, .. } => *self.sold.entry(sku).or_default() += u64::from(quantity),
            Body::Comment { .. } => unreachable!("comments were taken above"),
        }
    }

    /// The card shows the product as it is now, and counts are told only for what is on the shelf.
    fn take_shelf(&mut self, items: Vec<Product>) {
        if let Some(pinned) = &mut self.pinned
            && let Some(product) = items.iter().find(|p| p.id == pinned.product.id)
        {
            pinned.product = product.clone();
        }
        self.run_sheet.reprice(self.pinned.as_ref());
        self.stock.retain(|sku, _| items.iter().any(|p| p.skus.iter().any(|s| s.id == *sku)));
        self.shelf = items;
    }

    fn mute(&mut self, who: Who, until: Option<UnixMs>) {
        match until {
            Some(until) => self.muted.insert(who, until),
            None => self.muted.remove(&who),
        };
        while self.muted.len() > self.keep_max {
            self.muted.pop_first();
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
