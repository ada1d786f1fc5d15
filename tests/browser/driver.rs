//! The browser driver itself, against small pages of our own: what the other browser tests rest on.

use std::panic::AssertUnwindSafe;

use axum::{Router, response::Html, routing::get};
use futures_util::FutureExt;
use tokio::net::TcpListener;

use crate::support::chrome::{Chrome, Habits, Turn};

/// Serves one page on a loopback address; a page from there may use the camera.
async fn serve(html: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let router = Router::new().route("/", get(async move || Html(html)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn clicks_and_keys_are_those_of_a_person() {
    let turn = Turn::wait().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let url = serve(
        r#"<form><input id="name"><button id="late" disabled>Buy</button></form><p id="said"></p><script>
            const said = document.querySelector('#said');
            const late = document.querySelector('#late');
            document.querySelector('form').onsubmit = (event) => event.preventDefault();
            document.querySelector('#name').onkeydown = (event) => { said.textContent += event.key + event.isTrusted; };
            late.onclick = (event) => { said.textContent += ' ' + document.querySelector('#name').value + event.isTrusted; };
            requestAnimationFrame(() => { late.disabled = false; });
        </script>"#,
    )
    .await;

    let page = chrome.open(&url).await;
    page.type_text("#name", "真丝 silk").await;
    page.enter().await;
    page.wait_for("document.querySelector('#said').textContent.startsWith('Entertrue')").await;
    page.click("#late").await;
    page.wait_for("document.querySelector('#said').textContent.endsWith(' 真丝 silktrue')").await;
}

#[tokio::test]
async fn a_covered_button_is_not_clicked_through_its_cover() {
    let turn = Turn::wait().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let url = serve(
        r#"<button id="below">Buy</button><div id="cover" style="position:fixed;inset:0"></div><script>
            const [below, cover] = document.body.children;
            below.onclick = () => { window.clickedAt = cover.isConnected; };
            addEventListener('message', () => cover.remove());
            requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => postMessage(1), 300)));
        </script>"#,
    )
    .await;

    let page = chrome.open(&url).await;
    page.click("#below").await;
    page.wait_for("window.clickedAt === false").await;
}

#[tokio::test]
async fn an_uncaught_error_of_a_page_is_noticed() {
    let turn = Turn::wait().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let url = serve("<script>console.log('before', 1); Promise.reject(new Error('lost sheep'));</script>").await;

    let page = chrome.blank().await;
    page.before_load("window.early = document.readyState").await;
    let opened = AssertUnwindSafe(async {
        page.goto(&url).await;
        page.wait_for("false").await;
    });
    assert!(opened.catch_unwind().await.is_err(), "a step after the error fails");
    let errors = page.take_errors().join("\n");
    assert!(errors.contains("lost sheep"), "{errors}");

    assert_eq!(page.eval::<String>("window.early").await, "loading");
    assert!(page.console().contains(&"log: before 1".to_owned()), "{:?}", page.console());
}

#[tokio::test]
async fn the_fake_camera_delivers_frames_when_it_may_and_refuses_when_not() {
    const CAMERA: &str = r"
        <video id=v muted playsinline></video><script>
        navigator.mediaDevices.getUserMedia({ video: true, audio: true }).then(
            (stream) => { v.srcObject = stream; v.play(); },
            (error) => { window.refused = error.name; });
        </script>";
    let turn = Turn::wait().await;
    let url = serve(CAMERA).await;

    let allowed = Chrome::launch(&turn, Habits::default()).await;
    let page = allowed.open(&url).await;
    page.wait_for("v.videoWidth > 0 && v.getVideoPlaybackQuality().totalVideoFrames > 5").await;
    drop((page, allowed));

    let denied = Chrome::launch(&turn, Habits { camera: false, ..Habits::default() }).await;
    let page = denied.open(&url).await;
    page.wait_for("window.refused === 'NotAllowedError'").await;
}

#[tokio::test]
async fn two_windows_have_two_storages() {
    let turn = Turn::wait().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let url = serve("<p>storage</p>").await;

    let (one, two) = (chrome.open(&url).await, chrome.open(&url).await);
    one.eval::<bool>("(localStorage.who = 'one', true)").await;
    assert_eq!(two.eval::<Option<String>>("localStorage.who ?? null").await, None);

    one.reload().await;
    assert_eq!(one.eval::<String>("localStorage.who").await, "one");
}
