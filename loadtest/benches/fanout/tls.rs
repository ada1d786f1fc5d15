//! What TLS costs for each write: everybody has a key of her own, so every write is sealed once for each.

use std::fs;

use anyhow::ensure;

use crate::{
    Options,
    link::Trust,
    listeners::{Listeners, SILENCE},
    measure::{House, Round, SETTLE, comments, dialect, tell},
};

/// A handshake costs about a millisecond, and the listeners decipher what they are sent: fewer of them.
const SHARE: usize = 5;

pub fn tls(options: &Options) -> anyhow::Result<()> {
    let options = &Options { listeners: options.listeners / SHARE, ..options.clone() };
    let talk = comments(80_000.0 / options.listeners as f64);
    println!("\nOne message at a time with and without TLS, {} viewers", options.listeners);
    let mut house = House::open(options, &[])?;
    let plain: Result<Vec<_>, _> = (0..options.rounds).map(|_| house.round(options, talk)).collect();
    let plain = tell("plain", &plain?);

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let folder = house.scratch.path();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let House { mut hall, listeners, scratch: _scratch } = house;
    drop(listeners);
    hall.process.ask_to_end()?;
    while hall.process.is_running() {
        std::thread::yield_now();
    }
    let settings = [("HTTP__TLS_CERTIFICATE", certificate.to_string_lossy()), ("HTTP__TLS_KEY", key.to_string_lossy())];
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_ref())).collect();
    settings.extend([("ROOM__CHAT_PER_SECOND", "0"), ("FANOUT__SHARDS", "1"), ("MEDIA__WORKERS", "1")]);
    hall.open_again(&settings)?;

    let before = hall.process.memory()?;
    let dialect = dialect(&hall, options.listeners)?;
    let trust = Trust::new(made.cert.der())?;
    let mut listeners = Listeners::arrive_over(dialect, hall.address, options.listeners, Some(trust))?;
    listeners.listen(SETTLE, SILENCE, |_| Ok(()))?;
    let memory = (hall.process.memory()? - before) as f64 / options.listeners as f64;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(Round::of(&hall.process, &mut listeners, options.time(), talk)?);
    }
    ensure!(rounds.iter().all(|round| round.heard.broken == 0), "a connection broke");
    let sealed = tell("TLS", &rounds);
    println!(
        "  TLS: {:.2} of the CPU of plain (at most 2.5); about {:.1} KiB a viewer in user space",
        sealed / plain,
        memory / 1024.0
    );
    Ok(())
}
