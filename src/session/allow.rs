//! Who may do what. The one place: every act of [`Shop`](super::Shop) asks here first.

use crate::{
    id::{MerchantId, RoomId},
    protocol::{Fault, Power, Role},
    room::RoomFacts,
    session::Person,
};

impl Person {
    /// Any person, with a token for the room.
    pub fn may_enter(&self, room: &RoomId) -> Result<(), Fault> {
        match self.claims().room.covers(room) {
            true => Ok(()),
            false => Err(Fault::forbidden("the token is for another room")),
        }
    }

    pub fn is_anchor_of(&self, room: &RoomFacts) -> bool {
        self.role() == Role::Anchor && *self.sub() == room.anchor && self.claims().room.covers(&room.id)
    }

    /// The room's anchor, an assistant with this power, an admin.
    pub fn may_host(&self, room: &RoomFacts, power: Power) -> Result<(), Fault> {
        self.may_enter(&room.id)?;
        match self.role() {
            Role::Admin => Ok(()),
            Role::Assistant if self.has(power) => Ok(()),
            _ if self.is_anchor_of(room) => Ok(()),
            _ => Err(Fault::forbidden("only the room's anchor, her assistants and admins may")),
        }
    }

    /// Starting and ending a show is no power that `can` names: an assistant whose powers are narrowed has not got it.
    pub fn may_run_the_show(&self, room: &RoomFacts) -> Result<(), Fault> {
        self.may_enter(&room.id)?;
        match self.role() {
            Role::Admin => Ok(()),
            Role::Assistant if self.claims().can.is_none() => Ok(()),
            _ if self.is_anchor_of(room) => Ok(()),
            _ => Err(Fault::forbidden("only the room's anchor and admins may")),
        }
    }

    fn has(&self, power: Power) -> bool {
        self.claims().can.as_ref().is_none_or(|can| can.contains(&power))
    }

    /// Rooms are made by admins and merchants, under a token that covers the room.
    pub fn may_make_room(&self, room: &RoomId) -> Result<(), Fault> {
        self.may_enter(room)?;
        match self.role() {
            Role::Admin | Role::Merchant => Ok(()),
            _ => Err(Fault::forbidden("rooms are made by merchants and admins")),
        }
    }

    /// A room is rehearsed by who may make rooms and sells in it, and by its own anchor.
    pub fn may_rehearse(&self, room: &RoomFacts) -> Result<(), Fault> {
        self.may_enter(&room.id)?;
        match (self.role(), self.merchant()) {
            (Role::Admin, _) => Ok(()),
            (Role::Merchant, Some(own)) if room.merchants.contains(own) => Ok(()),
            _ if self.is_anchor_of(room) => Ok(()),
            _ => Err(Fault::forbidden("a room is rehearsed by its anchor, its merchants and admins")),
        }
    }

    /// Its maker, while her token is for it or for the real room, and admins.
    pub fn may_end_rehearsal(&self, room: &RoomFacts) -> Result<(), Fault> {
        let rooms = [Some(&room.id), room.rehearsal_of()];
        let covers = rooms.into_iter().flatten().any(|room| self.claims().room.covers(room));
        let made = room.rehearsal.as_ref().is_some_and(|rehearses| rehearses.made_by == *self.sub());
        match covers && (made || self.role() == Role::Admin) {
            true => Ok(()),
            false => Err(Fault::forbidden("a rehearsal is ended by who made it and by admins")),
        }
    }

    /// The merchant that this person keeps goods for: a merchant their own, an admin the one named or `main`.
    pub fn keeps_goods_of(&self, named: Option<&MerchantId>) -> Result<MerchantId, Fault> {
        match (self.role(), self.merchant(), named) {
            (Role::Admin, _, named) => Ok(named.cloned().unwrap_or_else(MerchantId::main)),
            (Role::Merchant, Some(own), None) => Ok(own.clone()),
            (Role::Merchant, Some(own), Some(named)) if own == named => Ok(own.clone()),
            (Role::Merchant, ..) => Err(Fault::forbidden("a merchant keeps their own products only")),
            _ => Err(Fault::forbidden("products are kept by merchants and admins")),
        }
    }

    /// The owner, or an admin; to other merchants the thing does not exist.
    pub fn may_keep(&self, owner: &MerchantId, what: &'static str) -> Result<(), Fault> {
        match (self.role(), self.merchant()) {
            (Role::Admin, _) => Ok(()),
            (Role::Merchant, Some(own)) if own == owner => Ok(()),
            (Role::Merchant, _) => Err(Fault::not_found(what)),
            _ => Err(Fault::forbidden("only the owning merchant and admins may")),
        }
    }

    /// An assistant may count the goods on the shelf of her own room.
    pub fn may_count_for(&self, room: &RoomFacts) -> bool {
        self.role() == Role::Assistant && self.claims().room.covers(&room.id) && self.has(Power::Stock)
    }

    pub fn may_operate(&self) -> Result<(), Fault> {
        match self.role() {
            Role::Admin => Ok(()),
            _ => Err(Fault::forbidden("only admins may")),
        }
    }
}
