use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::{KEY_VARIABLE, Order, Share, VERSION, Wire, Word};
use crate::{
    crowd::Crowd,
    process,
    rtc::{Watchers, Watching},
    stamp::Timebase,
};

const TELL_EVERY: Duration = Duration::from_millis(100);
/// How long a coordinator may take from its first word to the next.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// What a worker is asked for on the command line.
#[derive(Args)]
pub struct Serve {
    /// Where coordinators connect. Outside of this machine MAISHOU_WORKER_KEY must be set, here and there
    #[arg(long, default_value = "127.0.0.1:9321")]
    pub listen: SocketAddr,
}

/// Brings audiences to whoever knows the key, one at a time, until the process is ended.
pub fn serve(options: &Serve) -> anyhow::Result<()> {
    let key = std::env::var(KEY_VARIABLE).unwrap_or_default();
    ensure!(
        options.listen.ip().is_loopback() || !key.is_empty(),
        "{} can be reached from outside: set {KEY_VARIABLE}, here and for `run --workers`",
        options.listen
    );
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("{} cannot be listened on (--listen names another)", options.listen))?;
    eprintln!("a worker on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        if let Err(error) = stream.map_err(Into::into).and_then(|stream| work(stream, &key)) {
            eprintln!("a run ended: {error:#}");
        }
    }
    Ok(())
}

/// One run.
fn work(stream: TcpStream, key: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut wire = Wire::new(stream)?;
    let Order::Hello { version, key: theirs } = wire.hear()? else { return Ok(()) };
    if let Some(why) = refusal(version, &theirs, key) {
        return Ok(wire.say(&Word::Refused { why })?);
    }
    wire.say(&Word::Welcome)?;
    let own = Timebase::start();
    loop {
        match wire.hear()? {
            Order::Time => wire.say(&Word::Time { us: own.now_us() })?,
            Order::Start { part, ahead_us } => return play(wire, *part, own.shifted(ahead_us), ahead_us),
            _ => return Ok(()),
        }
    }
}

fn refusal(version: u32, theirs: &str, key: &str) -> Option<String> {
    if version != VERSION {
        return Some(format!("it speaks version {VERSION} and the coordinator {version}: use the same program"));
    }
    let is_same = theirs.len() == key.len() && theirs.bytes().zip(key.bytes()).fold(0, |or, (a, b)| or | (a ^ b)) == 0;
    (!is_same).then(|| format!("the key is wrong: {KEY_VARIABLE} must be the same here and there"))
}

fn play(mut wire: Wire, part: Share, base: Timebase, ahead_us: i64) -> anyhow::Result<()> {
    let viewers = part.tokens.len();
    let allowed = process::allow_sockets(viewers)
        .and_then(|()| process::check_ports(viewers, part.server.ip().is_loopback()))
        .and_then(|()| Ok(Crowd::start(part.plan(base))?));
    let crowd = match allowed {
        Ok(crowd) => crowd,
        Err(error) => return Ok(wire.say(&Word::Refused { why: format!("{error:#}") })?),
    };
    wire.say(&Word::Started)?;
    let (said, orders) = mpsc::sync_channel(16);
    let mut ears = Wire::new(wire.writer.try_clone()?)?;
    ears.reader = wire.reader;
    let mut mouth = Wire::new(wire.writer)?;
    thread::Builder::new().name("orders".to_owned()).spawn(move || -> io::Result<()> {
        ears.writer.set_read_timeout(None)?;
        while said.send(ears.hear()?).is_ok() {}
        Ok(())
    })?;
    let mut watchers = None::<Watchers>;
    loop {
        let done = match orders.recv_timeout(TELL_EVERY) {
            Ok(Order::Watch { plan }) => process::allow_sockets(viewers + plan.tokens.len())
                .and_then(|()| Watchers::start(*plan, ahead_us))
                .map(|started| drop(watchers.replace(started))),
            Ok(Order::Begin { at_us }) => {
                crowd.begin(base.instant(at_us));
                watchers.as_mut().map_or(Ok(()), Watchers::begin)
            }
            Ok(Order::Quiet) => {
                crowd.quiet();
                watchers.as_mut().map_or(Ok(()), Watchers::quiet)
            }
            Ok(Order::Stop) => {
                let outcome = Box::new(crowd.stop()?);
                let seen = watchers.map(Watchers::stop).transpose()?.map(Box::new);
                return Ok(mouth.say(&Word::Done { outcome, seen })?);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                crowd.stop()?;
                bail!("the coordinator is gone");
            }
        };
        let watching = done.and_then(|()| watchers.as_ref().map_or(Ok(Watching::default()), Watchers::now));
        let watching = match watching {
            Ok(watching) => watching,
            Err(error) => return Ok(mouth.say(&Word::Refused { why: format!("{error:#}") })?),
        };
        let (tally, seconds, stands) = (Box::new(crowd.tally()), crowd.seconds(), crowd.stands());
        mouth.say(&Word::Now { tally, seconds, stands, watching })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_obeys_who_knows_its_key_and_its_language() {
        assert_eq!(refusal(VERSION, "secret", "secret"), None);
        assert!(refusal(VERSION, "wrong!", "secret").unwrap().contains(KEY_VARIABLE));
        assert!(refusal(VERSION, "", "secret").is_some());
        assert!(refusal(VERSION + 1, "secret", "secret").unwrap().contains("version"));
    }
}
