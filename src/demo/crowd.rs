//! Ten simulated viewers with ordinary tokens: they comment, like, and buy now and then.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, seq::IndexedRandom};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::seed::{self, Show};
use crate::{
    client::{Config, Error, Server, Viewer},
    id::Sub,
    protocol::Role,
    session::Keyring,
};

const VIEWERS: usize = 10;
/// Between two acts of one viewer.
const PAUSE_MS: std::ops::Range<u64> = 3_000..11_000;

pub(super) struct Crowd(JoinSet<()>);

impl Crowd {
    pub(super) async fn start(
        keyring: &Keyring,
        server: &Server,
        show: &Show,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let show = Arc::new(show.clone());
        let mut viewers = JoinSet::new();
        for n in 0..VIEWERS {
            let name = &show.names[n % show.names.len()];
            let sub: Sub = format!("demo-viewer-{n}").parse().expect("a sub");
            let token = seed::token(keyring, &show.room.id, Role::Viewer, &sub, name);
            let viewer = Viewer::join(server, &show.room.id, &token, &Config::default()).await?;
            viewers.spawn(live(viewer, show.clone(), stop.clone()));
        }
        Ok(Self(viewers))
    }

    pub(super) async fn stop(self) {
        self.0.join_all().await;
    }
}

async fn live(viewer: Viewer, show: Arc<Show>, stop: CancellationToken) {
    loop {
        let pause = Duration::from_millis(rand::rng().random_range(PAUSE_MS));
        tokio::select! {
            () = stop.cancelled() => return viewer.leave().await,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(error) = act(&viewer, &show).await {
            // Sold out and limits are part of the show.
            debug!(%error, "a simulated viewer was refused");
        }
    }
}

async fn act(viewer: &Viewer, show: &Show) -> Result<(), Error> {
    let dice = rand::rng().random_range(0..100);
    match dice {
        0..45 => {
            let text = show.comments.choose(&mut rand::rng()).map_or("好看！", String::as_str);
            viewer.comment(text).await.map(drop)
        }
        45..88 => viewer.like(dice % 8 + 1).await,
        _ => buy(viewer).await,
    }
}

/// Buys one of the product in hand; one in five thinks better of it.
async fn buy(viewer: &Viewer) -> Result<(), Error> {
    let wanted =
        viewer.view().pinned.as_ref().and_then(|p| p.product.skus.choose(&mut rand::rng()).map(|s| s.id.clone()));
    let Some(sku) = wanted else { return Ok(()) };
    let key = uuid::Uuid::now_v7().to_string();
    let held = viewer.hold_one(&sku, 1, &key).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let thinks_better = rand::rng().random_ratio(1, 5);
    match thinks_better {
        true => viewer.cancel(held.hold.id).await.map(drop),
        false => viewer.confirm(held.hold.id, None).await.map(drop),
    }
}
