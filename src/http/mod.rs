//! The only place that knows axum, status codes and headers: REST, WHIP and WHEP, the socket upgrade, event streams,
//! pages, metrics. It translates; what may be done and how is decided in `session` and below.

mod dev;
mod error;
mod events;
mod extract;
mod goods;
mod media;
mod metrics;
mod openapi;
mod ops;
mod orders;
mod pages;
mod quality;
mod rooms;
mod server;
mod socket;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, debug, info_span};

pub use extract::Peer;
pub use pages::Asset;
pub use server::{Server, ServerError, Serving};

use crate::{
    fanout::Fanout,
    protocol::Fault,
    session::{Channels, Rehearsals, Shop},
};
use error::Problem;

/// Settings of the HTTP listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of pages, REST, WHIP, WHEP and sockets.
    pub listen: SocketAddr,
    /// Origins of pages on other hosts that may use this server, such as `https://shop.example`; `*` is any.
    pub origins: Vec<String>,
    /// PEM files of a certificate chain and its key: both set, the listener speaks TLS.
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// Seconds for a client to send the head of a request, its body, and to shake hands over TLS.
    pub head_seconds: u64,
    pub body_seconds: u64,
    pub tls_seconds: u64,
    /// Open HTTP connections, not counting upgraded sockets; beyond this, accepting waits.
    pub connections_max: usize,
    /// Seconds that a drain may take: sockets are told to come back, spread over this time.
    pub drain_seconds: u64,
    /// Seconds that a restart is thought to take: who is sent away by a drain is told to stay away for these too.
    pub restart_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            origins: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            body_bytes_max: 256 * 1024,
            head_seconds: 30,
            body_seconds: 15,
            tls_seconds: 10,
            connections_max: 8_192,
            drain_seconds: 5,
            restart_seconds: 1,
        }
    }
}

/// Settings of `/metrics`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// A bearer token for scrapers; without one only an admin's token reads metrics.
    pub token: String,
    /// Rooms with figures of their own, those with the most viewers first.
    pub rooms_max: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { token: String::new(), rooms_max: 20 }
    }
}

/// What handlers hold.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub metrics: Arc<MetricsConfig>,
    /// The real one. Whoever acts is led to hers by [`extract::Bearer`].
    pub shop: Arc<Shop>,
    pub rehearsals: Arc<Rehearsals>,
    pub fanout: Fanout,
    pub channels: Arc<Channels>,
    /// Files beside the pages: the demo's pictures.
    pub assets: Arc<Vec<Asset>>,
    /// The demo alone gives tokens to whoever asks from this machine, and shows its metrics.
    pub demo: bool,
    pub started: Instant,
    pub ready: Arc<std::sync::atomic::AtomicBool>,
    pub ops: Arc<ops::Rates>,
    pub streams: Arc<std::sync::atomic::AtomicU64>,
}

/// All routes, in the order of the contract.
pub fn router(app: App) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/ops", get(ops::ops))
        .route("/v1/rooms", post(rooms::create).get(rooms::list))
        .route("/v1/rooms/{room}", get(rooms::snapshot).delete(rooms::end))
        .route("/v1/rooms/{room}/show", post(rooms::show))
        .route("/v1/rooms/{room}/shelf", put(rooms::shelf))
        .route("/v1/rooms/{room}/pin", post(rooms::pin).delete(rooms::unpin))
        .route("/v1/rooms/{room}/ws", get(socket::upgrade))
        .route("/v1/rooms/{room}/events", get(events::events))
        .route("/v1/products/{product}", put(goods::put).get(goods::get))
        .route("/v1/skus/{sku}/stock", post(goods::adjust))
        .route("/v1/skus/{sku}/ledger", get(goods::ledger))
        .route("/v1/holds", post(orders::hold))
        .route("/v1/holds/{hold}", get(orders::hold_of))
        .route("/v1/holds/{hold}/confirm", post(orders::confirm))
        .route("/v1/holds/{hold}/cancel", post(orders::cancel))
        .route("/v1/holds/{hold}/extend", post(orders::extend))
        .route("/v1/orders", get(orders::list))
        .route("/v1/orders/{order}", get(orders::order))
        .route("/v1/orders/{order}/refund", post(orders::refund))
        .route("/v1/keys", get(goods::keys))
        .route("/v1/me/messages", get(orders::messages))
        .route("/whip/{room}", post(media::whip).get(media::nothing).options(media::options))
        .route(
            "/whip/{room}/{session}",
            delete(media::end).patch(media::patch).get(media::nothing).options(media::options),
        )
        .route("/whep/{room}", post(media::whep).get(media::nothing).options(media::options))
        .route(
            "/whep/{room}/{session}",
            delete(media::end).patch(media::patch).get(media::nothing).options(media::options),
        );
    if app.demo {
        router = router.route("/v1/dev/token", post(dev::token));
    }
    router
        .merge(pages::routes())
        .fallback(pages::asset)
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Around every request: an id, a span, the address's limit, CORS, and the body of refusals.
async fn around(State(app): State<App>, peer: Peer, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = info_span!("request", %id, %method, %path);
    async {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let allowed = origin.as_ref().filter(|o| app.allows(o, request.headers().get(header::HOST)));
        let preflight = method == Method::OPTIONS && request.headers().contains_key("access-control-request-method");
        let allowance = if is_limited(&path) { app.shop.limits.request(peer.0.ip()) } else { Ok(()) };
        let response = match allowance {
            Err(refused) => Problem(refused).into_response(),
            Ok(()) if preflight => StatusCode::NO_CONTENT.into_response(),
            Ok(()) => next.run(request).await,
        };
        let mut response = error::finish(response, &id);
        let headers = response.headers_mut();
        headers.insert(&REQUEST_ID, HeaderValue::from_str(&id).expect("a UUID is a header value"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Some(origin) = allowed {
            cors(headers, origin, preflight);
        }
        debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

/// Pages and their files cost nothing, and a whole town may open them behind one address.
fn is_limited(path: &str) -> bool {
    ["/v1/", "/whip/", "/whep/"].iter().any(|prefix| path.starts_with(prefix))
}

fn cors(headers: &mut axum::http::HeaderMap, origin: &HeaderValue, preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let exposed = "location, etag, link, retry-after, x-request-id, idempotent-replayed, accept-patch";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    if preflight {
        let methods = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        let asked = "authorization, content-type, idempotency-key, if-match, last-event-id";
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(asked));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

impl App {
    /// Whether a page of this origin may use the server: its own pages, and those that `http.origins` names.
    fn allows(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let own = host
            .and_then(|h| h.to_str().ok())
            .is_some_and(|host| origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)));
        own || self.config.origins.iter().any(|o| o == "*" || o.eq_ignore_ascii_case(origin))
    }
}

/// An answer in JSON.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers are plain data with text keys");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}

type Answer = Result<Response, Problem>;

/// A query string; what cannot be read is refused with its reason.
fn query<T: serde::de::DeserializeOwned>(uri: &axum::http::Uri) -> Result<T, Fault> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(query)| query)
        .map_err(|e| Fault::new(crate::protocol::ErrorCode::Malformed, e.body_text()))
}
