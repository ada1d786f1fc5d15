//! The demo's synthetic anchor: broadcasts the bundled clip and explains one product after another.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::seed::{self, Show};
use crate::{
    client::{Anchor, AnchorState, AnchorStats, Clip, Config, Server, Viewer},
    protocol::Role,
    session::Keyring,
};

/// How long one product is explained; shows have about three minutes, the demo is impatient.
const EXPLAIN: Duration = Duration::from_secs(30);
/// How long the room must be without a picture before the synthetic anchor comes back.
const STEP_ASIDE: Duration = Duration::from_secs(6);

pub(super) struct Host {
    broadcast: JoinHandle<()>,
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
        let clip = Clip::parse(
            Bytes::from_static(include_bytes!("../../config/demo/clip.ivf")),
            Some(Bytes::from_static(include_bytes!("../../config/demo/clip.ogg"))),
        )?;
        let clip = Arc::new(clip);
        let anchor = Anchor::publish(server, &show.room.id, &token, clip.clone(), &Config::default()).await?;
        let viewer = Viewer::join(server, &show.room.id, &token, &Config::default()).await?;

        let broadcaster =
            Broadcaster { server: server.clone(), show: show.clone(), token, clip, viewer: viewer.clone() };
        let broadcast = tokio::spawn(broadcaster.run(anchor, stop.clone()));
        let talk = tokio::spawn(explain(viewer, show.clone(), stop));
        Ok(Self { broadcast, talk })
    }

    pub(super) async fn stop(self) {
        let _ = tokio::join!(self.broadcast, self.talk);
    }
}

struct Broadcaster {
    server: Server,
    show: Show,
    token: String,
    clip: Arc<Clip>,
    viewer: Viewer,
}

impl Broadcaster {
    /// Broadcasts until stopped. When a person goes live in the studio, the clip waits until the picture is gone.
    async fn run(self, mut anchor: Anchor, stop: CancellationToken) {
        loop {
            let mut stats = anchor.watch();
            tokio::select! {
                () = stop.cancelled() => return anchor.stop().await,
                () = gone(&mut stats) => {}
            }
            // Replaced or lost: stop trying, look who is live, and come back when nobody is.
            anchor.stop().await;
            anchor = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.nobody_is_live() => {}
                }
                let room = &self.show.room.id;
                match Anchor::publish(&self.server, room, &self.token, self.clip.clone(), &Config::default()).await {
                    Ok(anchor) => break anchor,
                    Err(error) => warn!(%error, "the demo's anchor does not get through"),
                }
            };
        }
    }

    async fn nobody_is_live(&self) {
        loop {
            let _ = self.viewer.wait_for(Duration::from_secs(3_600), |view| !view.media.live).await;
            tokio::time::sleep(STEP_ASIDE).await;
            if !self.viewer.view().media.live {
                return;
            }
        }
    }
}

/// Replaced, or lost.
async fn gone(stats: &mut watch::Receiver<AnchorStats>) {
    let _ = stats.wait_for(|s| s.state != AnchorState::Publishing).await;
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
