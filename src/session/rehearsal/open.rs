//! Opening a rehearsal: a shop from the disk up, as `app.rs` opens the real one.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow};
use tokio::sync::mpsc;

use super::{Rehearsal, Rehearsals, files};
use crate::{
    clock::Clock,
    id::RoomId,
    order::{Desk, Sqlite},
    room::{Catalogue, Command, Handle, Outside, RoomFacts, Rooms, Tape},
    session::{Limits, LimitsConfig, Payment, Presence, Shop, goods, routing},
};

/// Committed facts on their way up.
const EVENTS_WAITING_MAX: usize = 8_192;

impl Rehearsals {
    /// The room's row in the catalogue comes last but one: a folder without it was cut short and is no rehearsal.
    pub(super) async fn open_new(&self, facts: RoomFacts, of: &Handle) -> anyhow::Result<Rehearsal> {
        let snapshot = of.snapshot().await.map_err(|fault| anyhow!(fault.message))?;
        let products = self.products(&facts, &snapshot.shelf);
        let (shop, routing) = self.open_shop(&facts).await?;
        shop.rooms.catalogue().take_over(products.clone()).await?;
        let defined = products.iter().map(|p| shop.desk.define(goods::terms_of(p, self.opening(p))));
        futures_util::future::try_join_all(defined).await.map_err(|refusal| anyhow!("{refusal:?}"))?;

        let room = shop.rooms.create(facts).await.map_err(|fault| anyhow!(fault.message))?;
        let items: Vec<_> = snapshot.shelf.iter().filter_map(|p| shop.rooms.catalogue().product(&p.id)).collect();
        let items = items.into_iter().map(Arc::unwrap_or_clone).collect();
        let planned_seconds = snapshot.planned_seconds;
        let shelved = room.act(Command::SetShelf { items, planned_seconds }).await;
        shelved.map_err(|fault| anyhow!(fault.message))?;
        Ok(Rehearsal { room, shop, routing })
    }

    /// As it was left. `None`: there is no whole one.
    pub(super) async fn open_again(&self, id: &RoomId) -> anyhow::Result<Option<Rehearsal>> {
        let file = files::store(&self.making, id).join("catalogue.db");
        if !file.exists() {
            return Ok(None);
        }
        let facts = Catalogue::open(&file)?.rooms().into_iter().find(|facts| facts.id == *id);
        let Some(facts) = facts.filter(|facts| facts.rehearsal.is_some()) else { return Ok(None) };
        let (shop, routing) = self.open_shop(&facts).await?;
        let room = shop.rooms.get(id).context("its room is not there")?;
        Ok(Some(Rehearsal { room, shop, routing }))
    }

    async fn open_shop(&self, facts: &RoomFacts) -> anyhow::Result<(Arc<Shop>, Vec<tokio::task::JoinHandle<()>>)> {
        let (making, real) = (&self.making, &self.real);
        let rehearses = facts.rehearsal.as_ref().context("it rehearses nothing")?;
        let clock = Clock::start_at_speed(rehearses.speed);
        let folder = files::store(making, &facts.id);
        let (desk_events, committed) = mpsc::channel(EVENTS_WAITING_MAX);
        let (room_events, shown) = mpsc::channel(EVENTS_WAITING_MAX);
        let desk = self.open_desk(&folder, clock.clone(), desk_events).await?;
        let catalogue = Catalogue::open(&folder.join("catalogue.db"))?;
        Shop::define_all(&catalogue, &desk).await.map_err(|fault| anyhow!(fault.message))?;
        let outside = Outside {
            media_time: Box::new({
                let media = real.media.clone();
                move |room| media.media_time(room)
            }),
            stock: Box::new({
                let desk = desk.clone();
                move |sku| desk.stock(sku)
            }),
            shown: room_events,
        };
        let tape = Tape::start(making.tape.clone())?;
        let (room, ring) = (making.room.clone(), making.ring.clone());
        let show_sold = room.show_sold;
        let rooms = Rooms::open(room, ring, clock.clone(), tape, catalogue, outside).await?;
        let shop = Arc::new(Shop {
            clock,
            keyring: real.keyring.clone(),
            rooms,
            desk,
            media: real.media.clone(),
            presence: Arc::new(Presence::default()),
            limits: Arc::new(Limits::new(at_speed(making.limits.clone(), rehearses.speed))),
            // Nobody pays for what is not sold.
            payment: Payment::Sandbox,
            ledger_public: real.ledger_public,
            putting: Arc::default(),
            rehearsal_of: Some(rehearses.of.clone()),
            simulated_act: true,
        });
        let routing = vec![
            tokio::spawn(routing::route_committed(shop.clone(), show_sold, committed)),
            tokio::spawn(routing::route_shown(shop.clone(), self.channels.clone(), shown)),
        ];
        Ok((shop, routing))
    }

    async fn open_desk(
        &self,
        folder: &Path,
        clock: Clock,
        events: mpsc::Sender<crate::order::Event>,
    ) -> anyhow::Result<Desk> {
        let (folder, order) = (folder.to_owned(), self.making.order.clone());
        let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<Desk> {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let store = Sqlite::open(&folder.join("ledger.db"))?;
            Ok(Desk::open(order, clock, Box::new(store), events)?)
        });
        opened.await.context("opening the ledger was cancelled")?
    }
}

/// Limits are of the wall's seconds; people at a faster show are as much faster.
fn at_speed(mut limits: LimitsConfig, speed: u32) -> LimitsConfig {
    let rates = [
        &mut limits.commands_per_second,
        &mut limits.comments_per_second,
        &mut limits.holds_per_second,
        &mut limits.requests_per_second,
        &mut limits.arrivals_per_second,
    ];
    rates.into_iter().for_each(|rate| *rate = rate.saturating_mul(speed));
    limits
}
