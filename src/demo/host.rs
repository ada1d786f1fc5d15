//! The demo's synthetic anchor: broadcasts the bundled clip and explains one product after another.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::seed::{self, Show};
use crate::{
    client::{Anchor, Clip, Config, Server, Viewer},
    protocol::Role,
    session::Keyring,
};

/// How long one product is explained; shows have about three minutes, the demo is impatient.
pub(super) const EXPLAIN: Duration = Duration::from_secs(30);

pub(super) struct Host {
    /// Waits by itself while a person is live in the studio, and comes back when nobody is.
    broadcast: Anchor,
    talk: JoinHandle<()>,
}

impl Host {
    /// Goes live and begins to explain.
    pub(super) async fn start(
        keyring: &Keyring,
        server: &Server,
        show: &Show,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let token = seed::token(keyring, &show.room.id, Role::Anchor, &seed::anchor(), &show.room.anchor_name);
        let layers: [&'static [u8]; 3] = [
            include_bytes!("../../config/demo/clip-q.ivf"),
            include_bytes!("../../config/demo/clip-h.ivf"),
            include_bytes!("../../config/demo/clip-f.ivf"),
        ];
        let sound = Bytes::from_static(include_bytes!("../../config/demo/clip.ogg"));
        let clip = Clip::layered(layers.map(Bytes::from_static).into(), Some(sound))?;
        let broadcast = Anchor::publish(server, &show.room.id, &token, Arc::new(clip), &Config::default()).await?;
        let viewer = Viewer::join(server, &show.room.id, &token, &Config::default()).await?;
        let talk = tokio::spawn(explain(viewer, show.clone(), stop));
        Ok(Self { broadcast, talk })
    }

    pub(super) async fn stop(self) {
        let _ = tokio::join!(self.broadcast.stop(), self.talk);
    }
}

/// Pins each product in turn and says its sentence. A card that a person pinned stays until its time is over.
async fn explain(viewer: Viewer, show: Show, stop: CancellationToken) {
    let mut own = None;
    for product in show.products.iter().cycle() {
        let pinned = viewer.view().pinned.as_ref().map(|p| (p.product.id.clone(), p.explain_until));
        let someone_elses = pinned.is_some() && pinned != own;
        if !someone_elses {
            let seconds = u32::try_from(EXPLAIN.as_secs()).expect("a short time");
            if let Err(error) = viewer.pin(&product.id, Some(seconds)).await {
                warn!(%error, "the demo's card is not pinned");
            }
            if let Err(error) = viewer.comment(&product.explain).await {
                warn!(%error, "the demo's anchor is not heard");
            }
            let _ = viewer
                .wait_for(Duration::from_secs(2), |v| v.pinned.as_ref().is_some_and(|p| p.product.id == product.id))
                .await;
            own = viewer.view().pinned.as_ref().map(|p| (p.product.id.clone(), p.explain_until));
        }
        tokio::select! {
            () = stop.cancelled() => return viewer.leave().await,
            () = tokio::time::sleep(EXPLAIN) => {}
        }
    }
}
