//! A listener to server-sent events that folds what it hears into a [`View`].

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    rest::Call,
    view::View,
    wait::{DEADLINE, within},
};

pub struct Sse {
    body: Incoming,
    buffer: String,
    pub view: View,
    /// The last `id` that was sent, as a browser keeps it.
    pub last_id: Option<String>,
    /// Every message as it came, with its own `id`.
    pub heard: Vec<(Option<String>, Value)>,
    /// Comment lines: signs of life.
    pub signs: usize,
    _connection: JoinSet<()>,
}

impl Sse {
    /// Opens the stream; panics when it is refused.
    pub async fn open(call: Call) -> Self {
        Self::resume(call, View::default()).await
    }

    /// Opens the stream with what an earlier one has left.
    pub async fn resume(call: Call, view: View) -> Self {
        let (connection, answer) = within("the stream to begin", DEADLINE, call.begin()).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (body, buffer) = (answer.into_body(), String::new());
        Self { body, buffer, view, last_id: None, heard: vec![], signs: 0, _connection: connection }
    }

    /// The next message, already folded into the view; `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                if let Some(message) = self.take(&block) {
                    return Some(message);
                }
                continue;
            }
            let frame = self.body.frame().await?.ok()?;
            let data = frame.into_data().unwrap_or_default();
            self.buffer.push_str(std::str::from_utf8(&data).expect("chunks end between characters"));
        }
    }

    /// Reads on until the view is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) {
        within(what, DEADLINE, async {
            while !wanted(&self.view) {
                self.next().await.unwrap_or_else(|| panic!("the stream ended while waiting for {what}"));
            }
        })
        .await;
    }

    /// Reads to the end of the stream.
    pub async fn end(&mut self) {
        within("the stream to end", DEADLINE, async { while self.next().await.is_some() {} }).await;
    }

    fn take(&mut self, block: &str) -> Option<Value> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        self.signs += block.lines().filter(|line| line.starts_with(':')).count();
        let message: Value = serde_json::from_str(field("data:")?).expect("data is JSON");
        let id = field("id:").map(str::to_owned);
        self.last_id = id.clone().or(self.last_id.take());
        self.view.take(&message);
        self.heard.push((id, message.clone()));
        Some(message)
    }
}
