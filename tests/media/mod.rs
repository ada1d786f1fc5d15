//! Video and sound over the real server: WHIP, WHEP and the session on the data channel.

mod guests;
mod http;
mod layers;
mod network;
mod show;

use std::{fs, path::Path, sync::Arc, time::Duration};

use maishou::{
    client::{self, Anchor, Clip, Watcher},
    id::RoomId,
};

use crate::support::{server::Server, shop::Shop};

pub const ROOM: &str = "studio";

/// The demo's clip: upright VP8 with a keyframe every two seconds, and Opus.
pub fn clip() -> Arc<Clip> {
    let read = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo").join(name));
    let (video, sound) = (read("clip.ivf").expect("the clip"), read("clip.ogg").expect("its sound"));
    Arc::new(Clip::parse(video.into(), Some(sound.into())).expect("a clip"))
}

/// The same picture in three sizes, with its sound.
pub fn layered_clip() -> Arc<Clip> {
    let read = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo").join(name));
    let layers = ["clip-q.ivf", "clip-h.ivf", "clip-f.ivf"].map(|name| read(name).expect("a layer").into());
    let sound = read("clip.ogg").expect("its sound");
    Arc::new(Clip::layered(layers.into(), Some(sound.into())).expect("a clip"))
}

/// A server with a room to broadcast in.
struct Studio {
    server: Server,
    shop: Shop,
}

impl Studio {
    async fn open() -> Self {
        let server = Server::start().await;
        let shop = Shop::open(&server, ROOM).await;
        Self { server, shop }
    }

    async fn go_live(&self) -> Anchor {
        self.go_live_with(&client::Config::default()).await
    }

    /// An encoder that does not come back by itself, as one that was switched off.
    async fn go_live_once(&self) -> Anchor {
        let never = Duration::from_secs(24 * 3600);
        self.go_live_with(&client::Config { reconnect_base: never, reconnect_max: never, ..Default::default() }).await
    }

    async fn go_live_with(&self, config: &client::Config) -> Anchor {
        let token = self.shop.anchor_token(&self.server);
        Anchor::publish(&self.at(), &room(), &token, clip(), config).await.expect("she goes live")
    }

    async fn watch(&self, sub: &str, with_room: bool) -> Watcher {
        let token = self.shop.viewer_token(&self.server, sub);
        let watching = Watcher::watch(&self.at(), &room(), &token, with_room, &client::Config::default()).await;
        watching.expect("she watches")
    }

    fn at(&self) -> client::Server {
        client::Server::at(self.server.http)
    }
}

fn room() -> RoomId {
    ROOM.parse().expect("a room's id")
}
