//! Acts that make a show: rooms, show, shelf, cards, comments, moderation.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    id::{MerchantId, ProductId, RoomId, Sub},
    protocol::{Event, Fault, Moderation, Power, Product, Snapshot},
    room::{Command, Demand, Handle, LIKES_PER_COMMAND_MAX, RoomFacts, Seat},
    session::{Person, Shop, is_rehearsal, shop::checked_text},
};

/// Merchants whose products one room may shelve.
const MERCHANTS_MAX: usize = 50;
const TITLE_CHARS_MAX: usize = 200;

/// The body of `POST /v1/rooms`.
#[derive(Debug, Deserialize)]
pub struct RoomBody {
    pub id: RoomId,
    pub title: String,
    /// The `sub` of the room's anchor.
    pub anchor: Sub,
    pub merchants: Option<Vec<MerchantId>>,
}

impl Shop {
    pub async fn make_room(&self, person: &Person, body: RoomBody) -> Result<Handle, Fault> {
        self.may_act(person)?;
        person.may_make_room(&body.id)?;
        if is_rehearsal(&body.id) {
            return Err(Fault::malformed("id", "ids of rehearsals begin with rehearsal. and are no rooms'"));
        }
        let own = || vec![person.merchant().cloned().unwrap_or_else(MerchantId::main)];
        let merchants = body.merchants.unwrap_or_else(own);
        if !(1..=MERCHANTS_MAX).contains(&merchants.len()) {
            return Err(Fault::malformed("merchants", format!("a room has 1 to {MERCHANTS_MAX} merchants")));
        }
        if person.merchant().is_some_and(|own| merchants.iter().any(|m| m != own)) {
            return Err(Fault::forbidden("a merchant makes rooms for their own products only"));
        }
        let title = checked_text("title", &body.title, TITLE_CHARS_MAX)?;
        let created_at = self.clock.now();
        let (id, anchor) = (body.id, body.anchor);
        self.rooms.create(RoomFacts { id, title, anchor, merchants, created_at, rehearsal: None }).await
    }

    pub async fn snapshot(&self, room: &RoomId) -> Result<Snapshot, Fault> {
        self.room(room)?.snapshot().await
    }

    pub async fn run_show(&self, person: &Person, room: &RoomId, start: bool) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        let room = self.room(room)?;
        person.may_run_the_show(room.facts())?;
        let command = if start { Command::StartShow } else { Command::EndShow };
        Ok(room.act(command).await?.pop())
    }

    /// Fills the shelf, in this order; products may have a time that they are meant to be explained for.
    pub async fn set_shelf(
        &self,
        person: &Person,
        room: &RoomId,
        ids: &[ProductId],
        planned_seconds: BTreeMap<ProductId, u32>,
    ) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        let room = self.room(room)?;
        person.may_host(room.facts(), Power::Shelf)?;
        let most = self.rooms.config().shelf_max;
        if ids.len() > most {
            return Err(Fault::malformed("products", format!("a shelf has at most {most} products")));
        }
        let mut items: Vec<Product> = Vec::with_capacity(ids.len());
        for id in ids {
            let product = self.rooms.catalogue().product(id).ok_or_else(|| Fault::not_found("product"))?;
            if !room.facts().merchants.contains(&product.merchant) {
                return Err(Fault::forbidden("the room does not take this merchant's products"));
            }
            if items.iter().any(|i| i.id == *id) {
                return Err(Fault::malformed("products", "a product is on the shelf once"));
            }
            items.push((*product).clone());
        }
        let events = room.act(Command::SetShelf { items, planned_seconds }).await?;
        Ok(events.into_iter().find(|e| e.body.name() == "shelf"))
    }

    pub async fn pin(
        &self,
        person: &Person,
        room: &RoomId,
        product: ProductId,
        explain_seconds: Option<u32>,
    ) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        let room = self.room(room)?;
        person.may_host(room.facts(), Power::Pin)?;
        Ok(room.act(Command::Pin { product, explain_seconds }).await?.pop())
    }

    pub async fn unpin(&self, person: &Person, room: &RoomId) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        let room = self.room(room)?;
        person.may_host(room.facts(), Power::Pin)?;
        Ok(room.act(Command::Unpin).await?.pop())
    }

    pub async fn moderate(&self, person: &Person, room: &RoomId, act: Moderation) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        let room = self.room(room)?;
        person.may_host(room.facts(), Power::Moderate)?;
        let anchor = person_who(self, room.facts());
        if let Moderation::Mute { who, .. } | Moderation::Kick { who } = &act
            && *who == anchor
        {
            return Err(Fault::forbidden("the anchor stays in her own room"));
        }
        Ok(room.act(Command::Moderate(act)).await?.pop())
    }

    pub async fn comment(&self, person: &Person, room: &Handle, text: String) -> Result<Option<Event>, Fault> {
        self.may_act(person)?;
        person.may_enter(&room.facts().id)?;
        self.limits.comment(person.sub())?;
        let author = person.author(room.facts());
        Ok(room.act(Command::Comment { author, text }).await?.pop())
    }

    /// Counts likes; the answer says how many of them.
    pub fn like(&self, person: &Person, room: &Handle, seat: &Seat, count: u32) -> Result<u32, Fault> {
        self.may_act(person)?;
        if !(1..=LIKES_PER_COMMAND_MAX).contains(&count) {
            return Err(Fault::malformed("count", format!("count is 1 to {LIKES_PER_COMMAND_MAX}")));
        }
        let now = self.clock.now();
        let counted = seat.like(count, self.limits.config().likes_per_second, now);
        if counted > 0 {
            room.note(now, &person.who(&room.facts().id), Demand::Like { count: counted });
        }
        Ok(counted)
    }
}

fn person_who(shop: &Shop, room: &RoomFacts) -> crate::id::Who {
    shop.keyring.who(&room.id, &room.anchor)
}
