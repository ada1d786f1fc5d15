//! The pages and the browser SDK, embedded in the binary. No page needs a build step, a cookie or another host.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::{
    Router,
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::App;

/// A file that the server shows as it is.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its address, such as `/assets/viewer.js`.
    pub path: &'static str,
    pub bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(Asset { path: concat!("/assets/", $name), bytes: include_bytes!(concat!("../web/", $name)) }),*]
    };
}

/// Every file of `src/web`; a test compares this with the folder.
static ASSETS: &[Asset] = assets![
    "errors.js",
    "favicon.svg",
    "fold.js",
    "format.js",
    "index.html",
    "index.js",
    "maishou.js",
    "metronome.js",
    "notice.js",
    "ops-pictures.js",
    "ops.html",
    "ops.js",
    "pages.css",
    "peer.js",
    "picture-size.js",
    "publish-layers.js",
    "publish.js",
    "quality.js",
    "rehearsal.js",
    "run-sheet.js",
    "session.js",
    "spark.js",
    "stock.js",
    "studio-broadcast.js",
    "studio-goods.js",
    "studio-health.js",
    "studio-source.js",
    "studio-talk.js",
    "studio.css",
    "studio.html",
    "studio.js",
    "style.css",
    "transport.js",
    "viewer-catch-up.js",
    "viewer-goods.js",
    "viewer-orders.js",
    "viewer-picture.js",
    "viewer-sheet.js",
    "viewer-talk.js",
    "viewer.css",
    "viewer.html",
    "viewer.js",
    "watch.js",
    "words.js",
];

/// Pages run our own scripts and styles only. Pictures of products may come over https from the shop.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
    connect-src 'self' ws: wss:; media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|headers: HeaderMap| page("/assets/index.html", false, headers)))
        .route("/watch/{room}", get(|headers: HeaderMap| page("/assets/viewer.html", true, headers)))
        .route("/studio/{room}", get(|headers: HeaderMap| page("/assets/studio.html", false, headers)))
        .route("/ops", get(|headers: HeaderMap| page("/assets/ops.html", false, headers)))
        .route("/maishou.js", get(|headers: HeaderMap| file("/assets/maishou.js", headers)))
        .route("/favicon.ico", get(|headers: HeaderMap| file("/assets/favicon.svg", headers)))
}

/// Whatever else has an address: files of the pages and of the demo.
pub(super) async fn asset(
    State(app): State<App>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let found = ASSETS.iter().chain(app.assets.iter()).find(|a| a.path == uri.path());
    match found {
        Some(asset) if method == Method::GET || method == Method::HEAD => send(asset, &headers),
        Some(_) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A page. Only the viewer may be shown inside the pages of a shop.
async fn page(path: &'static str, framed: bool, headers: HeaderMap) -> Response {
    let mut response = file(path, headers).await;
    let ancestors = if framed { "*" } else { "'none'" };
    let policy = format!("{POLICY}; frame-ancestors {ancestors}");
    let policy = HeaderValue::from_str(&policy).expect("the policy fits a header");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let features = "camera=(self), microphone=(self), autoplay=(self), geolocation=()";
    headers.insert("permissions-policy", HeaderValue::from_static(features));
    response
}

async fn file(path: &'static str, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|a| a.path == path) {
        Some(asset) => send(asset, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Files change with the binary: browsers keep them and ask whether they are still right.
fn send(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = tag_of(asset);
    let about = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(asset.path))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&tag).expect("a tag fits a header")),
    ];
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|t| t.as_bytes() == tag.as_bytes());
    match known {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (StatusCode::OK, about, asset.bytes).into_response(),
    }
}

fn tag_of(asset: &Asset) -> String {
    static TAGS: LazyLock<dashmap::DashMap<&'static str, String>> = LazyLock::new(dashmap::DashMap::new);
    let tag = TAGS.entry(asset.path).or_insert_with(|| {
        let hash = digest::digest(&digest::SHA256, asset.bytes);
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]))
    });
    tag.clone()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_web_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web");
        let listing = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = listing.map(|name| format!("/assets/{name}")).collect();
        files.sort();
        let mut served: Vec<&str> = ASSETS.iter().map(|a| a.path).collect();
        served.sort();
        assert_eq!(served, files);
        assert!(served.iter().all(|path| content_type(path) != "application/octet-stream"));
    }
}
