//! A person in a room: one session, its view, and what she does there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::{
        Config, Error, Held, Server,
        conversation::Conversation,
        link::{Ask, LinkTask},
        rest::OneHold,
        view::{Link, View},
        wire::Dial,
    },
    clock::UnixMs,
    id::{HoldId, ProductId, RoomId, SkuId, Who},
    protocol::{Event, Hold, LineRequest, Order, Quality, QualityReport},
};

/// A joined session; clones share it, and the last one that is dropped ends it.
///
/// The session follows the room into its [`View`] and comes back by itself after a loss, unless the server said not
/// to. Commands wait while it is away, each for at most `request_timeout`.
#[derive(Clone)]
pub struct Viewer(Arc<Inner>);

struct Inner {
    asks: mpsc::Sender<Ask>,
    token: watch::Sender<String>,
    view: Arc<watch::Sender<View>>,
    request_timeout: Duration,
    leave: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    _leave_on_drop: DropGuard,
}

impl Viewer {
    /// Opens a WebSocket session and returns when its view is complete. The first attempt's failure is returned;
    /// later losses are repaired.
    pub async fn join(server: &Server, room: &RoomId, token: &str, config: &Config) -> Result<Self, Error> {
        let dial = Dial::WebSocket { server: server.clone(), room: room.clone() };
        Self::start(dial, token, config).await
    }

    pub(super) async fn start(dial: Dial, token: &str, config: &Config) -> Result<Self, Error> {
        let (asks, mailbox) = mpsc::channel(config.commands_max.max(1));
        let view = Arc::new(watch::Sender::new(View::new(config.keep_max)));
        let (token, token_seen) = watch::channel(token.to_owned());
        let (first, joined) = oneshot::channel();
        let leave = CancellationToken::new();
        let link = LinkTask {
            dial,
            token: token_seen,
            config: config.clone(),
            asks: mailbox,
            view: Arc::clone(&view),
            leave: leave.clone(),
            first: Some(first),
            talk: Conversation::new(),
            losses: 0,
        };
        let inner = Inner {
            asks,
            token,
            view,
            request_timeout: config.request_timeout,
            _leave_on_drop: leave.clone().drop_guard(),
            leave,
            task: Mutex::new(Some(tokio::spawn(link.run()))),
        };
        let viewer = Self(Arc::new(inner));

        let deadline = config.connect_timeout + config.request_timeout;
        let joined = timeout(deadline, joined).await.map_err(|_| Error::Timeout("join"))?;
        joined.map_err(|_| Error::Lost)??;
        Ok(viewer)
    }

    /// A copy of the room as this viewer knows it now.
    pub fn view(&self) -> View {
        self.0.view.borrow().clone()
    }

    /// Looks at the view without copying it. The session stands still meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.0.view.borrow())
    }

    /// Follows the view: woken after each message. A borrowed view stops the session: never hold it over an await.
    pub fn watch(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    /// Waits until the view is as told, and gives what the predicate found in it.
    pub async fn wait_until<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&View) -> Option<T>,
    ) -> Result<T, Error> {
        let mut view = self.watch();
        let mut result = None;
        let waiting = view.wait_for(|view| {
            result = found(view);
            result.is_some()
        });
        let waited = timeout(deadline, waiting).await.map_err(|_| Error::Timeout("a state of the view"))?;
        drop(waited.map_err(|_| Error::Lost)?);
        result.ok_or(Error::Lost)
    }

    /// Waits until the predicate holds.
    pub async fn wait_for(&self, deadline: Duration, mut holds: impl FnMut(&View) -> bool) -> Result<(), Error> {
        self.wait_until(deadline, |view| holds(view).then_some(())).await
    }

    /// Says a comment. The answer is the comment as it stands in the log, also when the room leaves it out for others.
    pub async fn comment(&self, text: &str) -> Result<Event, Error> {
        self.event("comment", json!({"text": text})).await
    }

    pub async fn like(&self, count: u32) -> Result<(), Error> {
        self.ask("like", json!({"count": count})).await.map(drop)
    }

    /// Holds stock; the same `key` again gives the same hold.
    pub async fn hold(&self, lines: &[LineRequest], key: &str) -> Result<Held, Error> {
        self.typed("hold", json!({"lines": lines, "key": key})).await
    }

    /// Holds one SKU at whatever its price is.
    pub async fn hold_one(&self, sku: &SkuId, quantity: u32, key: &str) -> Result<Held, Error> {
        self.typed("hold", json!({"sku": sku, "quantity": quantity, "key": key})).await
    }

    /// Pays a hold: the sandbox provider only.
    pub async fn confirm(&self, hold: HoldId, payment: Option<&str>) -> Result<Order, Error> {
        #[derive(Deserialize)]
        struct Paid {
            order: Order,
        }
        let mut body = json!({"hold": hold});
        if let Some(payment) = payment {
            body["payment"] = payment.into();
        }
        self.typed::<Paid>("confirm", body).await.map(|paid| paid.order)
    }

    pub async fn cancel(&self, hold: HoldId) -> Result<Hold, Error> {
        self.typed::<OneHold>("cancel", json!({"hold": hold})).await.map(|one| one.hold)
    }

    pub async fn extend(&self, hold: HoldId) -> Result<Hold, Error> {
        self.typed::<OneHold>("extend", json!({"hold": hold})).await.map(|one| one.hold)
    }

    pub async fn pin(&self, product: &ProductId, explain_seconds: Option<u32>) -> Result<Event, Error> {
        let mut body = json!({"product": product});
        if let Some(seconds) = explain_seconds {
            body["explain_seconds"] = seconds.into();
        }
        self.event("pin", body).await
    }

    pub async fn unpin(&self) -> Result<(), Error> {
        self.ask("unpin", json!({})).await.map(drop)
    }

    pub async fn mute(&self, who: &Who, seconds: Option<u32>) -> Result<(), Error> {
        let mut body = json!({"action": "mute", "who": who});
        if let Some(seconds) = seconds {
            body["seconds"] = seconds.into();
        }
        self.ask("moderate", body).await.map(drop)
    }

    pub async fn unmute(&self, who: &Who) -> Result<(), Error> {
        self.ask("moderate", json!({"action": "unmute", "who": who})).await.map(drop)
    }

    /// Removes a person from the room until the show ends.
    pub async fn kick(&self, who: &Who) -> Result<(), Error> {
        self.ask("moderate", json!({"action": "kick", "who": who})).await.map(drop)
    }

    /// Takes the comment with this sequence number away.
    pub async fn delete_comment(&self, comment: u64) -> Result<(), Error> {
        self.ask("moderate", json!({"action": "delete_comment", "comment": comment})).await.map(drop)
    }

    /// Pins a comment over the others; `None` takes the pinned one away.
    pub async fn pin_comment(&self, comment: Option<u64>) -> Result<(), Error> {
        let mut body = json!({"action": "pin_comment"});
        if let Some(comment) = comment {
            body["comment"] = comment.into();
        }
        self.ask("moderate", body).await.map(drop)
    }

    /// Seconds between two comments of one person; 0 is off.
    pub async fn slow_mode(&self, seconds: u32) -> Result<(), Error> {
        self.ask("moderate", json!({"action": "slow_mode", "seconds": seconds})).await.map(drop)
    }

    /// Tells what a watcher saw ([`Watcher::quality`](crate::client::Watcher::quality)), and hears what the server sees of
    /// that session; without a session in the report, of the room's publisher, for those who run the show. `None`: there
    /// is none.
    pub async fn quality(&self, report: &QualityReport) -> Result<Option<Quality>, Error> {
        #[derive(Deserialize)]
        struct Seen {
            quality: Option<Quality>,
        }
        let body = serde_json::to_value(report).expect("a report is plain data");
        self.typed::<Seen>("quality", body).await.map(|seen| seen.quality)
    }

    /// The server's time, and how long the answer took.
    pub async fn ping(&self) -> Result<(UnixMs, Duration), Error> {
        #[derive(Deserialize)]
        struct Pong {
            server_time: UnixMs,
        }
        let asked_at = Instant::now();
        let pong: Pong = self.typed("ping", json!({})).await?;
        Ok((pong.server_time, asked_at.elapsed()))
    }

    /// Goes on with another token: told to the server, and used for the next join.
    pub fn renew(&self, token: &str) {
        self.0.token.send_replace(token.to_owned());
    }

    /// Any command. The answer's `ok`, or the refusal as [`Error::Refused`].
    pub async fn ask(&self, name: &'static str, body: Value) -> Result<Value, Error> {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.0.asks.send(Ask { name, body, answer }).await.map_err(|_| self.over())?;
            answered.await.map_err(|_| self.over())?
        };
        timeout(self.0.request_timeout, asking).await.map_err(|_| Error::Timeout(name))?
    }

    /// Ends the session and returns when its task is gone.
    pub async fn leave(&self) {
        self.0.leave.cancel();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    async fn typed<T: DeserializeOwned>(&self, name: &'static str, body: Value) -> Result<T, Error> {
        let ok = self.ask(name, body).await?;
        serde_json::from_value(ok).map_err(|e| Error::Protocol(format!("{name}: {e}")))
    }

    /// The event that a command made.
    async fn event(&self, name: &'static str, body: Value) -> Result<Event, Error> {
        #[derive(Deserialize)]
        struct Made {
            event: Event,
        }
        self.typed::<Made>(name, body).await.map(|made| made.event)
    }

    fn over(&self) -> Error {
        match self.0.view.borrow().link {
            Link::Ended { code, .. } => Error::Ended { code },
            _ => Error::Lost,
        }
    }
}
