//! How soon a state event is with everybody, whatever else is said.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use maishou::protocol::Role;
use maishou_loadtest::hall::Hall;

use crate::{
    Options,
    measure::{House, Round, comments, median, messages, rival, tell},
};

/// Comments that a room shows in a second, and ten times as many.
const SHOWN: &str = "25";
const OVERLOAD: f64 = 250.0;

pub fn early(options: &Options) -> anyhow::Result<()> {
    println!("\nA stock event to {} viewers while 100 comments a second run", options.listeners);
    let ours = {
        let mut house = House::open(options, &[])?;
        let (mut merchant, mut p99s) = (MerchantDesk::connect(&house.hall)?, Vec::new());
        for _ in 0..options.rounds {
            let (process, listeners) = (&house.hall.process, &mut house.listeners);
            let talk = comments(100.0);
            let round = Round::with(process, listeners, options.time(), talk, |at| merchant.adjust_at(at))?;
            p99s.push(round.heard.stock.value_at_quantile(0.99) as f64 / 1e3);
            merchant.begin_again();
            println!(
                "  maishou: stock p50 {:.1} ms, p99 {:.1} ms ({} heard); comments p99 {:.1} ms, {:.0} % of a core",
                round.heard.stock.value_at_quantile(0.5) as f64 / 1e3,
                round.heard.stock.value_at_quantile(0.99) as f64 / 1e3,
                round.heard.stock.len(),
                round.p99_ms(),
                round.core()
            );
        }
        median(p99s)
    };
    let (server, mut listeners) = rival(options, "bare-loop")?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(Round::of(&server, &mut listeners, options.time(), messages(2.0))?);
    }
    tell("a bare send loop", &rounds);
    let bare = median(rounds.iter().map(Round::p99_ms).collect());
    println!("  p99 {ours:.1} ms, {:.2} of the bare loop's {bare:.1} ms (at most 1.6)", ours / bare);
    Ok(())
}

/// The same with a room as it is configured by default, once quiet and once with ten times the comments that it shows.
pub fn overload(options: &Options) -> anyhow::Result<()> {
    println!("\nA stock event to {} viewers, the chat overloaded", options.listeners);
    let mut house = House::open(options, &[("ROOM__CHAT_PER_SECOND", SHOWN)])?;
    let (mut merchant, mut ratios) = (MerchantDesk::connect(&house.hall)?, Vec::new());
    for _ in 0..options.rounds {
        let mut p99 = |per_second: f64| {
            merchant.begin_again();
            let (process, listeners) = (&house.hall.process, &mut house.listeners);
            let round =
                Round::with(process, listeners, options.time(), comments(per_second), |at| merchant.adjust_at(at))?;
            let ms = |q: f64| round.heard.stock.value_at_quantile(q) as f64 / 1e3;
            println!(
                "  {per_second:>5} comments a second: stock p50 {:.1} ms, p99 {:.1} ms; shown {:.0} comments a second",
                ms(0.5),
                ms(0.99),
                round.per_second() / options.listeners as f64
            );
            anyhow::Ok(ms(0.99))
        };
        let quiet = p99(1.0)?;
        ratios.push(p99(OVERLOAD)? / quiet);
    }
    println!("  p99 under overload is {:.2} of the quiet one (at most 1.5)", median(ratios));
    Ok(())
}

/// The merchant changes the stock twice a second.
struct MerchantDesk {
    stream: TcpStream,
    request: String,
    done: u32,
}

impl MerchantDesk {
    const EVERY: Duration = Duration::from_millis(500);

    fn connect(hall: &Hall) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(hall.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let body = r#"{"delta":1,"reason":"benchmark"}"#;
        let request = format!(
            "POST /v1/skus/{}/stock HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n",
            hall.sku,
            hall.address,
            hall.token(Role::Merchant, "merchant")?,
            body.len()
        );
        Ok(Self { stream, request: format!("{request}Idempotency-Key: KEY\r\n\r\n{body}"), done: 0 })
    }

    fn adjust_at(&mut self, at: Duration) -> anyhow::Result<()> {
        while Self::EVERY * (self.done + 1) <= at {
            self.done += 1;
            let key = format!("{:032x}", rand::random::<u128>());
            self.stream.write_all(self.request.replace("KEY", &key).as_bytes())?;
        }
        let mut answers = [0; 4 << 10];
        if let Ok(len) = self.stream.read(&mut answers) {
            let answer = String::from_utf8_lossy(&answers[..len]);
            anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "an adjustment was refused: {answer}");
        }
        Ok(())
    }

    fn begin_again(&mut self) {
        self.done = 0;
    }
}
