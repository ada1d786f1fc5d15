//! The task behind a [`Viewer`](super::Viewer): connects, talks, and comes back after a loss.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{
        Config, Error,
        conversation::{Conversation, Heard},
        error::passes,
        view::{Link, View},
        wire::{Dial, Received, Wire},
    },
    protocol::{CloseCode, Fault},
};

/// The longest that a draining server can send a viewer away for.
const BYE_WAIT_MAX: Duration = Duration::from_secs(60);

/// A command that the handle asks of the task.
pub struct Ask {
    pub name: &'static str,
    pub body: Value,
    pub answer: Answerer,
}

pub type Answerer = oneshot::Sender<Result<Value, Error>>;

/// Why a connection ended.
enum Ending {
    Left,
    /// The join was refused; the close code that followed, if one did.
    Refused {
        fault: Fault,
        code: Option<u16>,
    },
    /// There was a gap in the frames: a new connection resumes before it.
    Missed,
    Closed {
        code: u16,
        reason: String,
    },
    Lost(Error),
}

pub struct LinkTask {
    pub dial: Dial,
    /// A new token is told to the server, and used for the next join.
    pub token: watch::Receiver<String>,
    pub config: Config,
    pub asks: mpsc::Receiver<Ask>,
    pub view: Arc<watch::Sender<View>>,
    pub leave: CancellationToken,
    /// Answered once, when the first join is done or has failed.
    pub first: Option<oneshot::Sender<Result<(), Error>>>,
    pub talk: Conversation<Answerer>,
    /// Connections lost since the last one that went live.
    pub losses: u32,
}

impl LinkTask {
    /// Runs until the viewer leaves, the server says not to come back, or the first attempt fails.
    pub async fn run(mut self) {
        loop {
            let ending = self.connect_and_talk().await;
            for answer in self.talk.abandon() {
                let _ = answer.send(Err(Error::Lost));
            }
            let Some(wait) = self.wait_after(&ending) else {
                return self.end(ending);
            };
            self.view.send_modify(|view| view.link = Link::Waiting);
            tokio::select! {
                () = self.leave.cancelled() => return self.end(Ending::Left),
                () = sleep(wait) => {}
            }
            self.view.send_modify(|view| view.link = Link::Joining);
        }
    }

    async fn connect_and_talk(&mut self) -> Ending {
        let leave = self.leave.clone();
        let opened = tokio::select! {
            () = leave.cancelled() => return Ending::Left,
            opened = self.dial.open(&self.config) => opened,
        };
        match opened {
            Ok(mut wire) => self.talk_over(&mut wire).await.unwrap_or_else(Ending::Lost),
            Err(why) => Ending::Lost(why),
        }
    }

    async fn talk_over(&mut self, wire: &mut Wire) -> Result<Ending, Error> {
        self.join(wire).await?;
        let mut heard_at = Instant::now();
        loop {
            let room_for_more = self.talk.waiting() < self.config.commands_max;
            tokio::select! {
                () = self.leave.cancelled() => {
                    wire.close().await;
                    return Ok(Ending::Left);
                }
                received = wire.receive() => {
                    heard_at = Instant::now();
                    match received? {
                        Received::Text(text) => {
                            if let Some(ending) = self.hear(&text, wire).await? {
                                return Ok(ending);
                            }
                        }
                        Received::Other => {}
                        Received::Closed { code, reason } => return Ok(Ending::Closed { code, reason }),
                    }
                }
                Some(ask) = self.asks.recv(), if room_for_more => self.say(ask, wire).await?,
                Ok(()) = self.token.changed() => self.renew(wire).await?,
                () = sleep_until(heard_at + self.config.silence_max) => return Err(Error::Timeout("silence")),
            }
            if !room_for_more {
                self.talk.forget(oneshot::Sender::is_closed);
            }
        }
    }

    async fn join(&mut self, wire: &mut Wire) -> Result<(), Error> {
        let text = self.talk.join(&self.token.borrow_and_update(), &self.view.borrow());
        wire.send(text, self.config.request_timeout).await
    }

    async fn say(&mut self, ask: Ask, wire: &mut Wire) -> Result<(), Error> {
        if ask.answer.is_closed() {
            return Ok(());
        }
        let text = self.talk.ask(ask.name, ask.body, ask.answer);
        wire.send(text, self.config.request_timeout).await
    }

    async fn renew(&mut self, wire: &mut Wire) -> Result<(), Error> {
        self.view.send_modify(|view| view.token_expiring = false);
        let text = serde_json::json!({"auth": {"token": *self.token.borrow_and_update()}}).to_string();
        wire.send(text, self.config.request_timeout).await
    }

    async fn hear(&mut self, text: &str, wire: &mut Wire) -> Result<Option<Ending>, Error> {
        let mut heard = Heard::Nothing;
        self.view.send_modify(|view| heard = self.talk.hear(text, view));
        match heard {
            Heard::Nothing | Heard::TokenWanted => {}
            Heard::Answer(answer, result) => {
                let _ = answer.send(result.map_err(Error::Refused));
            }
            Heard::Live => {
                self.losses = 0;
                self.tell_first(Ok(()));
            }
            Heard::JoinRefused(fault) => {
                let code = wire.closing_code().await;
                return Ok(Some(Ending::Refused { fault, code }));
            }
            Heard::Missed => return Ok(Some(Ending::Missed)),
            Heard::Closed { code, reason } => return Ok(Some(Ending::Closed { code, reason })),
        }
        Ok(None)
    }

    /// How long to wait before the next attempt; `None` when there shall be none.
    fn wait_after(&mut self, ending: &Ending) -> Option<Duration> {
        let again = self.config.reconnect && self.first.is_none() && matches!(self.dial, Dial::WebSocket { .. });
        let backoff = full_jitter(self.config.reconnect_base, self.config.reconnect_max, self.losses);
        let wait = match ending {
            Ending::Left => None,
            Ending::Refused { code: Some(code), .. } if !CloseCode::reconnects(*code) => None,
            Ending::Refused { fault, .. } => passes(fault).then_some(after_refusal(fault, backoff)),
            Ending::Missed => Some(full_jitter(self.config.reconnect_base, self.config.reconnect_base, 0)),
            Ending::Closed { code, .. } if !CloseCode::reconnects(*code) => None,
            // The server spreads the returns of a drain itself.
            Ending::Closed { code, reason } if *code == CloseCode::Bye.number() => {
                // A little jitter on top: the server does not know who else sends people here.
                let jitter = full_jitter(self.config.reconnect_base, self.config.reconnect_base, 0);
                Some(reason.parse().map_or(backoff, |ms| Duration::from_millis(ms).min(BYE_WAIT_MAX) + jitter))
            }
            Ending::Closed { .. } => Some(backoff),
            Ending::Lost(Error::Refused(fault)) => passes(fault).then_some(after_refusal(fault, backoff)),
            Ending::Lost(why) => why.is_passing().then_some(backoff),
        };
        self.losses = self.losses.saturating_add(1);
        wait.filter(|_| again)
    }

    fn end(mut self, ending: Ending) {
        let (code, reason) = match &ending {
            Ending::Closed { code, reason } => (Some(*code), reason.clone()),
            Ending::Refused { fault, code } => (*code, fault.message.to_string()),
            Ending::Missed => (None, "a gap in the frames".to_owned()),
            Ending::Lost(why) => (None, why.to_string()),
            Ending::Left => (None, String::new()),
        };
        let why = match ending {
            Ending::Refused { fault, .. } => Error::Refused(fault),
            Ending::Lost(why) => why,
            Ending::Missed => Error::Lost,
            Ending::Closed { .. } | Ending::Left => Error::Ended { code },
        };
        self.view.send_modify(|view| view.link = Link::Ended { code, reason });
        self.tell_first(Err(why));
    }

    fn tell_first(&mut self, outcome: Result<(), Error>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(outcome);
        }
    }
}

/// Not before the server said, and not all at once then.
fn after_refusal(fault: &Fault, backoff: Duration) -> Duration {
    fault.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis).min(BYE_WAIT_MAX) + backoff
}

/// A random wait up to an exponentially growing limit, so that a crowd does not come back in step.
pub fn full_jitter(base: Duration, max: Duration, attempt: u32) -> Duration {
    let limit = base.saturating_mul(1 << attempt.min(16)).min(max);
    limit.mul_f64(rand::random::<f64>())
}
