//! What a shop's desk committed and its rooms showed, on its way to rooms, tapes and persons. A rehearsal has its own.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    order::{self, Step, Told},
    room::{Command, Demand, Refund, Shown},
    session::{Channels, Shop},
};

/// Committed facts of the ledger: counts to every room that shelves the SKU, private messages to their persons. Nothing
/// here waits for a room or a person.
pub async fn route_committed(shop: Arc<Shop>, show_sold: bool, mut committed: mpsc::Receiver<order::Event>) {
    while let Some(event) = committed.recv().await {
        match event {
            order::Event::Stock { sku, count, hash } => {
                let command = Command::Stock { sku: sku.clone(), count, hash };
                shop.rooms.tell_shelves(&sku, &command);
            }
            order::Event::Adjusted { sku, delta, reason, entry } => {
                let command = Command::Adjusted { sku: sku.clone(), delta, reason, entry };
                shop.rooms.tell_shelves(&sku, &command);
            }
            order::Event::Sold { room: Some(room), sku, quantity, shown_as } if show_sold => {
                if let Some(room) = shop.rooms.get(&room) {
                    room.tell(Command::Sold { sku, quantity, buyer: shown_as });
                }
            }
            order::Event::Sold { .. } => {}
            order::Event::Private { sub, told } => {
                note_step(&shop, &sub, &told);
                shop.deliver(&sub, || told.message());
            }
        }
    }
}

/// A hold's making is noted where it was asked for, with what was refused.
fn note_step(shop: &Shop, sub: &crate::id::Sub, told: &Told) {
    let Some((room, hold, step)) = told.step().filter(|(.., step)| *step != Step::Held) else { return };
    if let Some(handle) = shop.rooms.get(room) {
        let refund = told.refund().map(|refund| Refund { lines: refund.lines, restock: refund.restocked });
        let demand = Demand::Order { hold, step: step.as_str().to_owned(), refund };
        handle.note(shop.clock.now(), &shop.keyring.who(room, sub), demand);
    }
}

/// What rooms showed and what reaches connections.
pub async fn route_shown(shop: Arc<Shop>, channels: Arc<Channels>, mut shown: mpsc::Receiver<Shown>) {
    while let Some(Shown::Kicked { room, who }) = shown.recv().await {
        shop.kick(&room, &who, &channels);
    }
}
