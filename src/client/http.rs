//! REST as the client sees it: JSON in, JSON or a refusal out; and offers and answers for WHIP and WHEP.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    client::{Config, Error, Server},
    protocol::{ErrorCode, Fault},
};

/// Idle connections that are kept for the next call.
const IDLE_MAX: usize = 8;

/// A pooled HTTP client of one server; clones share the pool.
#[derive(Clone, Debug)]
pub struct Http {
    server: Server,
    client: Client<HttpConnector, Full<Bytes>>,
    config: Config,
}

/// A server's answer to an offer, and where the session lives.
#[derive(Clone, Debug)]
pub struct SdpAnswer {
    pub sdp: String,
    /// The session's path: DELETE ends it.
    pub location: String,
    pub etag: Option<String>,
}

/// One answer, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Http {
    pub fn new(server: Server, config: Config) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_local_address(config.bind);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Self { server, client, config }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One call with a JSON answer. `key` is the idempotency key, where the call takes one.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Result<T, Error> {
        let mut request = self.request(method, path, token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let answer = self.send(request, body).await?.accepted()?;
        let body = if answer.body.is_empty() { &b"null"[..] } else { &answer.body };
        serde_json::from_slice(body).map_err(|e| Error::Protocol(format!("{path}: {e}")))
    }

    /// Posts an offer (WHIP, WHEP) and returns the answer.
    pub async fn offer(&self, path: &str, token: &str, sdp: String) -> Result<SdpAnswer, Error> {
        let request = self.request(Method::POST, path, Some(token)).header(CONTENT_TYPE, "application/sdp");
        let answer = self.send(request, Bytes::from(sdp)).await?.accepted()?;
        if answer.status != StatusCode::CREATED {
            return Err(Error::Protocol(format!("an offer was answered {}", answer.status)));
        }
        let location = answer.header(&LOCATION).ok_or_else(|| Error::Protocol("no Location".into()))?;
        let etag = answer.header(&hyper::header::ETAG);
        let sdp = String::from_utf8(answer.body.to_vec()).map_err(|_| Error::Protocol("an answer not UTF-8".into()))?;
        Ok(SdpAnswer { sdp, location: self.path_of(&location), etag })
    }

    /// Ends a WHIP or WHEP session.
    pub async fn delete(&self, location: &str, token: &str) -> Result<(), Error> {
        let request = self.request(Method::DELETE, location, Some(token));
        self.send(request, Bytes::new()).await?.accepted().map(drop)
    }

    fn request(&self, method: Method, path: &str, token: Option<&str>) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(self.server.url(path));
        match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    async fn send(&self, request: hyper::http::request::Builder, body: Bytes) -> Result<Answer, Error> {
        let request = request.body(Full::new(body)).map_err(|e| Error::Address(e.to_string()))?;
        let calling = async {
            let response = self.client.request(request).await.map_err(|e| Error::Http(e.into()))?;
            Answer::read(response, self.config.message_len_max).await
        };
        timeout(self.config.request_timeout, calling).await.map_err(|_| Error::Timeout("REST call"))?
    }

    /// A Location may be a path or a whole address.
    fn path_of(&self, location: &str) -> String {
        location.strip_prefix(&self.server.url("")).unwrap_or(location).to_owned()
    }
}

impl Answer {
    async fn read(response: Response<Incoming>, len_max: usize) -> Result<Self, Error> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, len_max).collect().await.map_err(Error::Http)?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    fn header(&self, name: &hyper::header::HeaderName) -> Option<String> {
        self.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
    }

    /// This answer when it is a success, else the refusal in it.
    fn accepted(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let mut why = refusal(self.status.as_u16(), &self.body);
        if let Error::Refused(fault) = &mut why
            && fault.retry_after_ms.is_none()
        {
            let seconds = self.header(&RETRY_AFTER).and_then(|s| s.parse::<u64>().ok());
            fault.retry_after_ms = seconds.map(|s| s.saturating_mul(1_000));
        }
        Err(why)
    }
}

/// What an answer that is no success says.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<Value>(body).ok().and_then(|problem| fault_of(&problem)) {
        Some(fault) => Error::Refused(fault),
        None => Error::Status { status, body: String::from_utf8_lossy(body).into_owned() },
    }
}

/// Members of a problem body that are not a refusal's own detail.
const PROBLEM_MEMBERS: [&str; 9] =
    ["type", "title", "status", "detail", "instance", "code", "request_id", "param", "retry_after_ms"];

/// A refusal from a problem body (RFC 9457): its sentence is in `detail`, what is ours in members beside it.
fn fault_of(problem: &Value) -> Option<Fault> {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let code: ErrorCode = serde_json::from_value(problem.get("code")?.clone()).ok()?;
    let message = ["detail", "title"].into_iter().find_map(text).unwrap_or_default();
    let mut more = problem.as_object()?.clone();
    more.retain(|name, _| !PROBLEM_MEMBERS.contains(&name.as_str()));
    Some(Fault {
        param: text("param").map(Cow::Owned),
        retry_after_ms: problem.get("retry_after_ms").and_then(Value::as_u64),
        detail: (!more.is_empty()).then_some(Value::Object(more)),
        ..Fault::new(code, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_body_is_a_refusal() {
        let problem = serde_json::json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "detail": "sold out",
            "code": "sold_out", "param": "sku", "request_id": "r", "left": 2
        });
        let fault = fault_of(&problem).unwrap();
        assert_eq!((fault.code, &*fault.message), (ErrorCode::SoldOut, "sold out"));
        assert_eq!((fault.param.as_deref(), fault.detail), (Some("sku"), Some(serde_json::json!({"left": 2}))));
        assert!(fault_of(&serde_json::json!({"error": "no"})).is_none());
        assert!(fault_of(&serde_json::json!({"code": "a_code_of_tomorrow"})).is_none());
    }
}
