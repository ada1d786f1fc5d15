//! `Room`: decides what a command does to a room. Pure: it takes `now` and returns events.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    clock::UnixMs,
    id::{ProductId, SkuId, Who},
    protocol::{Body, Class, ErrorCode, Event, Fault, Moderation, PinnedComment, Product, Role, StockCount, Track},
    room::{Config, sampler::Sampler, state::State, text},
};

/// The longest a person can be muted for, and the default when no time is named.
const MUTE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest time between two comments that slow mode asks for.
const SLOW_MODE_SECONDS_MAX: u32 = 600;
const EXPLAIN_SECONDS_MAX: u32 = 4 * 3600;
/// Deleted and pinned comments are looked up among this many of the latest.
const COMMENTS_REMEMBERED: usize = 4_096;

/// The person behind a comment, as the room's public knows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Author {
    pub who: Who,
    pub name: String,
    pub role: Role,
}

impl Author {
    /// Those who run the show are not slowed, sampled or muted.
    fn runs_the_show(&self) -> bool {
        matches!(self.role, Role::Anchor | Role::Assistant | Role::Admin)
    }
}

/// What a room is asked, by people who may and by the desk and the media workers.
#[derive(Clone, Debug)]
pub enum Command {
    StartShow,
    EndShow,
    SetShelf {
        items: Vec<Product>,
        /// How long products are meant to be explained; those of the shelf only.
        planned_seconds: BTreeMap<ProductId, u32>,
    },
    /// The catalogue has a new version of a product that may be on the shelf.
    ProductChanged(Box<Product>),
    Pin {
        product: ProductId,
        explain_seconds: Option<u32>,
    },
    Unpin,
    Comment {
        author: Author,
        text: String,
    },
    Moderate(Moderation),
    Media {
        live: bool,
        tracks: Vec<Track>,
    },
    Stock {
        sku: SkuId,
        count: StockCount,
        hash: String,
    },
    Adjusted {
        sku: SkuId,
        delta: i64,
        reason: String,
        entry: u64,
    },
    Sold {
        sku: SkuId,
        quantity: u32,
        buyer: Option<String>,
    },
}

impl Command {
    /// People's state commands are answered only after a flush; chat and the server's own notices are not.
    pub fn is_flushed(&self) -> bool {
        !matches!(
            self,
            Self::Comment { .. } | Self::Media { .. } | Self::Stock { .. } | Self::Adjusted { .. } | Self::Sold { .. }
        )
    }

    /// Facts that are still true when they could not be logged at once, and are tried again.
    pub fn is_fact(&self) -> bool {
        matches!(self, Self::Media { .. } | Self::Stock { .. } | Self::Adjusted { .. } | Self::ProductChanged(_))
    }
}

/// The decided state of a room and what is needed to decide more.
///
/// It runs ahead of what is shown by the one tick that is being logged; when that fails, [`Room::back_to`] returns it.
#[derive(Debug)]
pub struct Room {
    state: State,
    comments: Sampler,
    /// Apart from the comments: neither a rush of buyers nor a flood of talk hides the other.
    sales: Sampler,
    silenced_max: usize,
    spoke_at: HashMap<Who, UnixMs>,
    remembered: std::collections::VecDeque<PinnedComment>,
}

impl Room {
    pub fn new(state: State, config: &Config) -> Self {
        let remembered = state.comments.iter().filter_map(pinnable).collect();
        let (comments, sales) = (Sampler::new(config.chat_per_second), Sampler::new(config.sold_per_second));
        Self { state, comments, sales, silenced_max: config.silenced_max, spoke_at: HashMap::new(), remembered }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Forgets what was decided after `shown`.
    pub fn back_to(&mut self, shown: &State) {
        self.state = shown.clone();
        self.remembered.retain(|c| c.comment <= shown.seq);
    }

    /// Decides one command and folds what it makes. Returns the events, each with whether it is shown to viewers.
    ///
    /// `media` is the publisher's media time now, for state events. A refusal changes nothing.
    pub fn apply(&mut self, command: Command, now: UnixMs, media: Option<u64>) -> Result<Vec<(Event, bool)>, Fault> {
        let bodies = self.decide(command, now)?;
        Ok(bodies.into_iter().map(|body| self.take(body, now, media)).collect())
    }

    fn take(&mut self, body: Body, at: UnixMs, media: Option<u64>) -> (Event, bool) {
        let media = media.filter(|_| body.class() == Class::State);
        let event = Event { seq: self.state.seq + 1, at, media, body };
        let shown = match &event.body {
            Body::Comment { who, role, .. } => {
                self.spoke_at.insert(who.clone(), at);
                *role == Role::Anchor || self.comments.shows(at)
            }
            Body::Sold { .. } => self.sales.shows(at),
            _ => true,
        };
        if let Some(comment) = pinnable(&event) {
            self.remembered.push_back(comment);
            if self.remembered.len() > COMMENTS_REMEMBERED {
                self.remembered.pop_front();
            }
        }
        self.state.fold(&event, shown);
        (event, shown)
    }

    fn decide(&mut self, command: Command, now: UnixMs) -> Result<Vec<Body>, Fault> {
        match command {
            Command::StartShow if self.state.show.running => Ok(vec![]),
            Command::StartShow => Ok(vec![Body::ShowStarted {}]),
            Command::EndShow => Ok(self.end_show()),
            Command::SetShelf { items, planned_seconds } => self.set_shelf(items, planned_seconds),
            Command::ProductChanged(product) => Ok(self.product_changed(&product)),
            Command::Pin { product, explain_seconds } => self.pin(&product, explain_seconds, now),
            Command::Unpin => Ok(self.state.pinned.iter().map(|_| Body::CardUnpinned {}).collect()),
            Command::Comment { author, text } => self.comment(author, &text, now),
            Command::Moderate(moderation) => self.moderate(moderation, now),
            Command::Media { live, tracks } => {
                let same = self.state.media.live == live && self.state.media.tracks == tracks;
                Ok(if same { vec![] } else { vec![Body::Media { live, tracks }] })
            }
            Command::Stock { sku, count, hash } => Ok(self.stock(sku, count, hash)),
            Command::Adjusted { sku, delta, reason, entry } => {
                let here = self.state.shelves(&sku);
                Ok(if here { vec![Body::StockAdjusted { sku, delta, reason, entry }] } else { vec![] })
            }
            Command::Sold { sku, quantity, buyer } => {
                let here = self.state.shelves(&sku);
                Ok(if here { vec![Body::Sold { sku, quantity, buyer }] } else { vec![] })
            }
        }
    }

    fn end_show(&self) -> Vec<Body> {
        if !self.state.show.running {
            return vec![];
        }
        let unpinned = self.state.pinned.iter().map(|_| Body::CardUnpinned {});
        unpinned.chain([Body::ShowEnded {}]).collect()
    }

    fn set_shelf(&self, items: Vec<Product>, planned_seconds: BTreeMap<ProductId, u32>) -> Result<Vec<Body>, Fault> {
        if planned_seconds.values().any(|s| !(1..=EXPLAIN_SECONDS_MAX).contains(s)) {
            return Err(Fault::malformed("planned_seconds", "planned seconds must be 1 to 14400"));
        }
        if planned_seconds.keys().any(|id| items.iter().all(|i| i.id != *id)) {
            return Err(Fault::malformed("planned_seconds", "seconds are planned for products of this shelf"));
        }
        if items == self.state.shelf && planned_seconds == self.state.run_sheet.planned_seconds {
            return Ok(vec![]);
        }
        let gone = self.state.pinned.as_ref().filter(|p| items.iter().all(|i| i.id != p.product.id));
        let unpinned = gone.map(|_| Body::CardUnpinned {});
        let products = items.iter().map(|p| p.id.clone()).collect();
        Ok(unpinned.into_iter().chain([Body::Shelf { products, items, planned_seconds }]).collect())
    }

    fn product_changed(&self, product: &Product) -> Vec<Body> {
        let Some(old) = self.state.product(&product.id) else { return vec![] };
        let priced = Product { price: product.price, ..old.clone() };
        let mut bodies = Vec::new();
        if priced != *old {
            bodies.push(Body::Price { product: product.id.clone(), price: product.price });
        }
        if priced != *product {
            let renewed = |p: &Product| if p.id == product.id { product.clone() } else { p.clone() };
            let items: Vec<Product> = self.state.shelf.iter().map(renewed).collect();
            let products = items.iter().map(|p| p.id.clone()).collect();
            let planned_seconds = self.state.run_sheet.planned_seconds.clone();
            bodies.push(Body::Shelf { products, items, planned_seconds });
        }
        bodies
    }

    fn pin(&self, id: &ProductId, explain: Option<u32>, now: UnixMs) -> Result<Vec<Body>, Fault> {
        let Some(product) = self.state.product(id) else {
            return Err(Fault { param: Some("product".into()), ..Fault::new(ErrorCode::NotFound, "not on the shelf") });
        };
        if explain.is_some_and(|s| !(1..=EXPLAIN_SECONDS_MAX).contains(&s)) {
            return Err(Fault::malformed("explain_seconds", "explain_seconds must be 1 to 14400"));
        }
        let explain_until = explain.map(|s| now.plus(Duration::from_secs(u64::from(s))));
        Ok(vec![Body::CardPinned { product: product.clone(), explain_until }])
    }

    fn comment(&self, author: Author, raw: &str, now: UnixMs) -> Result<Vec<Body>, Fault> {
        let text = text::comment(raw)
            .ok_or_else(|| Fault::malformed("text", "a comment has 1 to 200 characters that can be seen"))?;
        if !author.runs_the_show() {
            self.may_speak(&author.who, now)?;
        }
        Ok(vec![Body::Comment { who: author.who, name: author.name, role: author.role, text }])
    }

    fn may_speak(&self, who: &Who, now: UnixMs) -> Result<(), Fault> {
        if self.state.kicks.contains(who) {
            return Err(Fault::new(ErrorCode::Kicked, "you were removed from this show"));
        }
        if let Some(until) = self.state.mutes.get(who).filter(|until| **until > now) {
            let wait = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
            return Err(Fault::new(ErrorCode::Muted, "you are muted in this room").retry_after(wait));
        }
        let gap = Duration::from_secs(u64::from(self.state.slow_mode));
        match self.spoke_at.get(who) {
            Some(at) if now.since(*at) < gap => {
                let wait = u64::try_from((gap - now.since(*at)).as_millis()).unwrap_or(u64::MAX);
                Err(Fault::new(ErrorCode::SlowMode, "slow mode: wait before the next comment").retry_after(wait))
            }
            _ => Ok(()),
        }
    }

    fn moderate(&mut self, moderation: Moderation, now: UnixMs) -> Result<Vec<Body>, Fault> {
        Ok(vec![match moderation {
            Moderation::Mute { who, seconds } => {
                let muted = self.state.mutes.iter().filter(|(known, until)| **until > now && **known != who).count();
                self.has_place(muted)?;
                let time = seconds.map_or(MUTE_MAX, |s| Duration::from_secs(u64::from(s)).min(MUTE_MAX));
                Body::Mute { who, until: Some(now.plus(time)) }
            }
            Moderation::Unmute { who } => Body::Mute { who, until: None },
            Moderation::Kick { who } => {
                self.has_place(self.state.kicks.len())?;
                Body::Kick { who }
            }
            Moderation::DeleteComment { comment } => {
                self.remembered_comment(comment)?;
                let pinned = self.state.pinned_comment.as_ref().filter(|p| p.comment == comment);
                let unpinned = pinned.map(|_| Body::CommentPinned { comment: None });
                self.remembered.retain(|c| c.comment != comment);
                return Ok(unpinned.into_iter().chain([Body::CommentDeleted { comment }]).collect());
            }
            Moderation::PinComment { comment: None } => Body::CommentPinned { comment: None },
            Moderation::PinComment { comment: Some(seq) } => {
                Body::CommentPinned { comment: Some(self.remembered_comment(seq)?) }
            }
            Moderation::SlowMode { seconds } if seconds <= SLOW_MODE_SECONDS_MAX => Body::SlowMode { seconds },
            Moderation::SlowMode { .. } => {
                return Err(Fault::malformed("seconds", "slow mode asks for at most 600 seconds"));
            }
        }])
    }

    fn has_place(&self, silenced: usize) -> Result<(), Fault> {
        match silenced < self.silenced_max {
            true => Ok(()),
            false => Err(Fault::new(ErrorCode::LimitReached, "too many people of this room are silenced")),
        }
    }

    fn remembered_comment(&self, seq: u64) -> Result<PinnedComment, Fault> {
        let found = self.remembered.iter().rev().find(|c| c.comment == seq);
        found.cloned().ok_or_else(|| Fault::not_found("comment"))
    }

    /// The counts only move on: what was read at a shelf change may be newer than what is still on its way.
    fn stock(&self, sku: SkuId, count: StockCount, hash: String) -> Vec<Body> {
        let old = self.state.stock.get(&sku).map_or(0, |c| c.entry);
        if count.entry <= old || !self.state.shelves(&sku) {
            return vec![];
        }
        let StockCount { available, held, sold, entry } = count;
        vec![Body::Stock { sku, available, held, sold, entry, hash }]
    }

    /// Counts likes in; they are a tally, not events.
    pub fn set_likes(&mut self, likes: u64) {
        self.state.likes = likes;
    }

    /// Forgets who spoke before slow mode could still matter to them.
    pub fn prune(&mut self, now: UnixMs) {
        let horizon = Duration::from_secs(u64::from(SLOW_MODE_SECONDS_MAX));
        self.spoke_at.retain(|_, at| now.since(*at) < horizon);
    }
}

fn pinnable(event: &Event) -> Option<PinnedComment> {
    match &event.body {
        Body::Comment { who, name, role, text } => Some(PinnedComment {
            comment: event.seq,
            who: who.clone(),
            name: name.clone(),
            role: *role,
            text: text.clone(),
        }),
        _ => None,
    }
}
