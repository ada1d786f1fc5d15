//! The same viewers in front of Janus from Debian, with its streaming plugin. Janus offers no loopback address, so
//! everything runs in a network namespace of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use hyper::Method;
use maishou::client::{Config, Http, Server};
use maishou_loadtest::{
    rtc::{Door, Entering, Feed, Introduction, Plan, Remote, Shape},
    server::Child,
};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{ARRIVALS, CORE, House, gather, rounds, tell},
};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/janus");
/// As the configuration has them.
const HTTP: SocketAddr = local(19_088);
const PICTURES: SocketAddr = local(19_004);
const SOUND: SocketAddr = local(19_006);
const MEDIA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
/// Events that are read in search of an offer.
const EVENTS_MAX: usize = 8;

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

pub fn compare(options: &Options) -> anyhow::Result<()> {
    println!("\nJanus (streaming plugin, one event loop) and ours, in one network namespace, one core each");
    enter_namespace().context("a network namespace (this needs root)")?;
    for viewers in &options.viewers {
        ours(options, *viewers)?;
        if let Err(error) = theirs(options, *viewers) {
            println!("  janus, {viewers} viewers: {error:#}");
        }
    }
    Ok(())
}

fn ours(options: &Options, viewers: usize) -> anyhow::Result<()> {
    let house = House::open(options, &[])?;
    let before = house.hall.process.memory()?;
    let audience = gather(house.plan(viewers)?)?;
    let memory = house.hall.process.memory()?.saturating_sub(before) as f64 / 1024.0 / viewers as f64;
    tell(&format!("maishou, {viewers} viewers"), &rounds(options, &house.hall.process, &audience)?);
    println!("    {memory:.1} KiB a viewer");
    audience.stop().map(drop)
}

fn theirs(options: &Options, viewers: usize) -> anyhow::Result<()> {
    let mut command = Command::new("janus");
    command.args(["--configs-folder", CONFIG]);
    let mut janus = Child::start_on(CORE, &mut command).context("janus (its Debian package)")?;
    janus.wait_for(HTTP)?;
    let _feed = Feed::start(Shape::default(), PICTURES, SOUND)?;
    let before = janus.memory()?;
    let mut plan = Plan::new(Arc::new(Janus), MEDIA, viewers);
    plan.arrivals_per_second = ARRIVALS / 4.0;
    let audience = gather(plan)?;
    let memory = janus.memory()?.saturating_sub(before) as f64 / 1024.0 / viewers as f64;
    tell(&format!("janus, {viewers} viewers"), &rounds(options, &janus, &audience)?);
    println!("    {memory:.1} KiB a viewer");
    audience.stop().map(drop)
}

/// Its own API: a session and a handle for each viewer; Janus offers, the viewer answers.
struct Janus;

impl Door for Janus {
    fn enter<'a>(&'a self, _: usize, _: Option<IpAddr>, introduction: &'a Introduction) -> Entering<'a> {
        Box::pin(async move {
            let http = Http::new(Server::at(HTTP), Config::default());
            let post = async |path: &str, body: Value| -> anyhow::Result<Value> {
                let answer: Value = http.call(Method::POST, path, None, None, Some(body)).await?;
                ensure!(answer["janus"] != "error", "{answer}");
                Ok(answer)
            };
            let session = post("/janus", json!({"janus": "create", "transaction": "1"})).await?;
            let session = format!("/janus/{}", session["data"]["id"]);
            let attach = json!({"janus": "attach", "plugin": "janus.plugin.streaming", "transaction": "2"});
            let handle = post(&session, attach).await?;
            let handle = format!("{session}/{}", handle["data"]["id"]);
            let watch = json!({"janus": "message", "body": {"request": "watch", "id": 1}, "transaction": "3"});
            post(&handle, watch).await?;
            let offer = offer(&http, &session).await?;
            let remote = Remote::parse(&offer)?;
            let answer = json!({"type": "answer", "sdp": introduction.answer(&offer)?});
            let start = json!({"janus": "message", "body": {"request": "start"}, "jsep": answer, "transaction": "4"});
            post(&handle, start).await?;
            Ok(remote)
        })
    }
}

async fn offer(http: &Http, session: &str) -> anyhow::Result<String> {
    for _ in 0..EVENTS_MAX {
        let event: Value = http.call(Method::GET, session, None, None, None).await?;
        if let Some(sdp) = event["jsep"]["sdp"].as_str() {
            return Ok(sdp.to_owned());
        }
        ensure!(event["janus"] != "error" && event["plugindata"]["data"]["error"].is_null(), "{event}");
    }
    anyhow::bail!("Janus makes no offer")
}

/// From here on this process, with what it starts, has a network of its own with one address beside the loopback.
fn enter_namespace() -> anyhow::Result<()> {
    // SAFETY: it takes a flag and no pointers; the process has only this thread yet, so that all others inherit it.
    ensure!(unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0, std::io::Error::last_os_error());
    for arguments in [
        "link set lo up",
        "link add bench0 type veth peer name bench1",
        &format!("addr add {MEDIA}/24 dev bench0"),
        "link set bench0 up",
        "link set bench1 up",
    ] {
        let done = Command::new("ip").args(arguments.split(' ')).status().context("ip (package iproute2)")?;
        ensure!(done.success(), "ip {arguments}");
    }
    ensure!(Path::new(CONFIG).is_dir(), "{CONFIG} is missing");
    Ok(())
}
