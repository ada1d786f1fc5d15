//! HTTP as any client sees it: a request, a status, headers and a body. Nothing is retried and nothing is hidden.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};

use super::wait::{DEADLINE, within};

#[derive(Clone, Copy)]
pub struct Rest {
    server: SocketAddr,
}

impl Rest {
    pub fn new(server: SocketAddr) -> Self {
        Self { server }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        Call { server: self.server, method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// A request being put together.
#[must_use = "a call does nothing until it is sent"]
pub struct Call {
    server: SocketAddr,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub fn token(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// The idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub async fn send(self) -> Answer {
        self.attempt().await.expect("an answer")
    }

    /// As [`Call::send`], of a server that may be gone before it has answered.
    pub async fn attempt(self) -> Option<Answer> {
        let what = format!("{} {} to be answered", self.method, self.path);
        within(&what, DEADLINE, self.exchange()).await
    }

    /// Sends it and reads the head of the answer only: for streams that have no end.
    pub async fn status(self) -> u16 {
        let what = format!("{} {} to begin its answer", self.method, self.path);
        within(&what, DEADLINE, async {
            let (sender, answer) = self.begin().await.expect("an answer");
            drop(sender);
            answer.status().as_u16()
        })
        .await
    }

    async fn exchange(self) -> Option<Answer> {
        let (connection, answer) = self.begin().await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        drop(connection);
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// The head of the answer, and the connection that its body comes on for as long as it is kept.
    pub(super) async fn begin(self) -> Option<(JoinSet<()>, Response<Incoming>)> {
        let socket = TcpStream::connect(self.server).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });

        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().expect("a path");
        *request.headers_mut() = self.headers;
        let host = HeaderValue::from_str(&self.server.to_string()).expect("an address is a header value");
        request.headers_mut().entry(HOST).or_insert(host);
        Some((driver, sender.send_request(request).await.ok()?))
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// The body of a success; panics with the problem otherwise.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The `code` of a problem; panics when the answer is not a whole RFC 9457 problem.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert!(self.status >= 400, "a problem, not {}: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert!(problem["request_id"].is_string(), "a request_id in {problem}");
        problem["code"].as_str().unwrap_or_else(|| panic!("a code in {problem}")).to_owned()
    }
}
