//! The Chrome DevTools Protocol over one WebSocket: calls are answered by id, events go to the session they concern.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::wait::within;

const CALL_DEADLINE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TcpStream>;

/// The connection to a browser; clones share it.
#[derive(Clone)]
pub struct DevTools(Arc<Connection>);

struct Connection {
    sink: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    next_id: AtomicU64,
    inbox: Arc<Inbox>,
    reader: JoinHandle<()>,
}

/// What the browser has said and nobody has fetched yet.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    events: Mutex<HashMap<String, Vec<Event>>>,
}

/// An event of one session.
#[derive(Debug, Clone)]
pub struct Event {
    pub method: String,
    pub params: Value,
}

impl DevTools {
    pub async fn connect(port: u16, path: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the browser listens");
        let sizes = WebSocketConfig::default().max_message_size(Some(256 << 20)).max_frame_size(Some(256 << 20));
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = client_async_with_config(url, stream, Some(sizes)).await.expect("the browser upgrades");

        let (sink, stream) = socket.split();
        let inbox = Arc::new(Inbox::default());
        let reader = tokio::spawn(inbox.clone().read(stream));
        let sink = tokio::sync::Mutex::new(sink);
        Self(Arc::new(Connection { sink, next_id: AtomicU64::new(1), inbox, reader }))
    }

    /// Calls a method of the browser itself.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.request(None, method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method of one session (a page).
    pub async fn call_session(&self, session: &str, method: &str, params: Value) -> Result<Value, String> {
        self.request(Some(session), method, params).await
    }

    /// Takes the events of a session that came since the last call.
    pub fn events(&self, session: &str) -> Vec<Event> {
        let mut events = self.0.inbox.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.remove(session).unwrap_or_default()
    }

    async fn request(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value, String> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (answer, answered) = oneshot::channel();
        self.0.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        let sent = self.0.sink.lock().await.send(Message::text(message.to_string())).await;
        sent.map_err(|error| error.to_string())?;

        let answered = within(method, CALL_DEADLINE, answered).await;
        let mut answer = answered.map_err(|_| "the browser is gone".to_owned())?;
        match answer.get("error") {
            Some(error) => Err(error["message"].as_str().unwrap_or("unknown").to_owned()),
            None => Ok(answer["result"].take()),
        }
    }
}

impl Inbox {
    async fn read(self: Arc<Self>, mut stream: SplitStream<Socket>) {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(text.as_str()).expect("the browser sends JSON");
            self.sort(message);
        }
        // Whoever still waits learns that the browser is gone.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn sort(&self, mut message: Value) {
        if let Some(id) = message["id"].as_u64() {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(waiting) = waiting {
                let _ = waiting.send(message);
            }
        } else if let (Some(session), Some(method)) = (message["sessionId"].as_str(), message["method"].as_str()) {
            let (session, method) = (session.to_owned(), method.to_owned());
            let event = Event { method, params: message["params"].take() };
            self.events.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default().push(event);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
