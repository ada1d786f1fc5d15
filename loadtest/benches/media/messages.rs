//! What a message of the room costs on the data channel, beside the same message on a WebSocket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use maishou::{
    client::{Config, Server, Viewer},
    protocol::{Role, SUBPROTOCOL},
};
use maishou_loadtest::{hall::Hall, rtc::Audience};
use tokio::{runtime::Runtime, time::sleep};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::{
    Options,
    measure::{House, median, pass, until},
};

const LISTENERS: usize = 400;
const SPEAKERS: usize = 20;
/// Of each speaker.
const COMMENTS_PER_SECOND: f64 = 2.0;
const COMMENT: &str = "it would fit my sister, is there a smaller one too? 好看，想要，什么时候发货呀，包邮吗";
/// The channels of one audience are joined with one token.
const SETTINGS: [(&str, &str); 2] = [("ROOM__CHAT_PER_SECOND", "0"), ("LIMITS__CONNECTIONS_PER_PERSON", "1000")];

pub fn measure(options: &Options) -> anyhow::Result<()> {
    println!("\nA comment to {LISTENERS} viewers, {} a second, no video", SPEAKERS as f64 * COMMENTS_PER_SECOND);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let channel = by_channel(options, &runtime)?;
    let socket = by_socket(options, &runtime)?;
    println!("  data channel / WebSocket: {:.2}", channel / socket);
    Ok(())
}

fn by_channel(options: &Options, runtime: &Runtime) -> anyhow::Result<f64> {
    let house = House::silent(options, &SETTINGS)?;
    let mut plan = house.plan(LISTENERS)?;
    plan.wishes.channel = true;
    plan.hello = Some(join(&house.hall, "listener")?);
    let audience = Audience::start(plan)?;
    // A welcome and a snapshot for each.
    until("everybody has joined on her channel", || Ok(audience.tally()?.texts >= 2 * LISTENERS as u64))?;
    let told = tell("data channel", options, runtime, &house.hall, || Ok(audience.tally()?.texts))?;
    audience.stop()?;
    Ok(told)
}

fn by_socket(options: &Options, runtime: &Runtime) -> anyhow::Result<f64> {
    let house = House::silent(options, &SETTINGS)?;
    let texts = Arc::new(AtomicU64::new(0));
    let mut request = format!("ws://{}/v1/rooms/{}/ws", house.hall.address, house.hall.room).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    runtime.block_on(async {
        for number in 0..LISTENERS {
            let (mut socket, _) = connect_async(request.clone()).await?;
            socket.send(Message::text(join(&house.hall, &format!("listener-{number}"))?)).await?;
            let texts = texts.clone();
            tokio::spawn(async move {
                while let Some(Ok(message)) = socket.next().await {
                    texts.fetch_add(u64::from(message.is_text()), Relaxed);
                }
            });
        }
        anyhow::Ok(())
    })?;
    tell("WebSocket", options, runtime, &house.hall, || Ok(texts.load(Relaxed)))
}

/// Microseconds of the server's CPU for a message to one viewer: what talk costs beyond silence.
fn tell(
    name: &str,
    options: &Options,
    runtime: &Runtime,
    hall: &Hall,
    mut texts: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    let speakers = runtime.block_on(speakers(hall))?;
    let mut costs = Vec::new();
    for _ in 0..options.rounds {
        runtime.block_on(async { sleep(Duration::from_secs(1)).await });
        let before = hall.process.cpu_time()?;
        runtime.block_on(async { sleep(options.time()).await });
        let silent = hall.process.cpu_time()?.saturating_sub(before);

        let (before, texts_before) = (hall.process.cpu_time()?, texts()?);
        let said = runtime.block_on(talk(&speakers, options.time()))?;
        let spoken = hall.process.cpu_time()?.saturating_sub(before);
        pass(Duration::from_millis(100));
        let heard = texts()?.saturating_sub(texts_before).max(1);
        costs.push(spoken.saturating_sub(silent).as_secs_f64() * 1e6 / heard as f64);
        // A frame for each comment, and now and then a tally.
        anyhow::ensure!(
            heard > (LISTENERS as f64 * said as f64 * 0.9) as u64,
            "only {heard} frames of {said} comments"
        );
    }
    let cost = median(costs);
    println!("  {name:<14} {cost:>6.2} us of CPU for a frame to one viewer");
    Ok(cost)
}

async fn speakers(hall: &Hall) -> anyhow::Result<Vec<Viewer>> {
    let server = Server::at(hall.address);
    let mut speakers = Vec::new();
    for number in 0..SPEAKERS {
        let token = hall.token(Role::Viewer, &format!("speaker-{number}"))?;
        speakers.push(Viewer::join(&server, &hall.room, &token, &Config::default()).await?);
    }
    Ok(speakers)
}

/// Everybody comments in turn, evenly; how many there were.
async fn talk(speakers: &[Viewer], time: Duration) -> anyhow::Result<u32> {
    let (began, step) = (Instant::now(), Duration::from_secs_f64(1.0 / (SPEAKERS as f64 * COMMENTS_PER_SECOND)));
    for (number, speaker) in (0u32..).zip(speakers.iter().cycle()) {
        let due = began + step * number;
        if due.duration_since(began) >= time {
            return Ok(number);
        }
        sleep(due.saturating_duration_since(Instant::now())).await;
        speaker.comment(COMMENT).await?;
    }
    Ok(0)
}

fn join(hall: &Hall, user: &str) -> anyhow::Result<String> {
    let token = hall.token(Role::Viewer, user)?;
    Ok(serde_json::json!({ "id": 1, "join": { "token": token } }).to_string())
}
