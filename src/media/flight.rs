//! What we said last in a handshake, until the peer has answered it.
//!
//! The crate repeats a flight by a timer, but forgets the timer when it hears anything less than the whole answer, the
//! peer's own repeat for one: then both wait for ever, and on a line that loses one datagram in ten one handshake in eight
//! came to nothing. So the repeats are ours. A peer that says hello again is answered again (RFC 6347, 4.2.4): browsers do
//! so within 50 ms, and the handshake goes at their pace. A silent peer is spoken to again only after a while, since some
//! clients forget their timer, too, when they hear us twice.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// After this long without a word we speak again; clients that repeat themselves every second have done so by then.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Hellos that come together, as the two datagrams of one hello do, are answered once.
const TOGETHER: Duration = Duration::from_millis(20);
/// Of one flight; a server's takes two.
const DATAGRAMS_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Flight {
    datagrams: Vec<Bytes>,
    /// The number of the hello that it answers.
    hello: u16,
    said_at: Option<Instant>,
    heard_at: Option<Instant>,
}

impl Flight {
    /// Now we said this, in answer to `datagram`.
    pub fn say(&mut self, datagrams: Vec<Bytes>, datagram: &[u8], now: Instant) {
        self.hello = hello_number(datagram).unwrap_or(self.hello);
        self.datagrams = datagrams;
        self.datagrams.truncate(DATAGRAMS_MAX);
        self.said_at = Some(now);
    }

    /// What to say again to a peer who said `datagram`, which led nowhere.
    pub fn hear(&mut self, datagram: &[u8], now: Instant) -> &[Bytes] {
        self.heard_at = Some(now);
        let is_repeated = hello_number(datagram).is_some_and(|number| number <= self.hello);
        match is_repeated && self.since(self.said_at, now) >= TOGETHER {
            true => self.again(now),
            false => &[],
        }
    }

    /// What to say again because nobody has said anything for long.
    pub fn wait(&mut self, now: Instant) -> &[Bytes] {
        match self.since(self.said_at.max(self.heard_at), now) >= SILENCE {
            true => self.again(now),
            false => &[],
        }
    }

    fn again(&mut self, now: Instant) -> &[Bytes] {
        self.said_at = Some(now);
        &self.datagrams
    }

    fn since(&self, at: Option<Instant>, now: Instant) -> Duration {
        at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

/// The message number of a ClientHello (RFC 6347, 4.2.2), if the datagram begins with one.
fn hello_number(datagram: &[u8]) -> Option<u16> {
    is_hello(datagram).then_some(())?;
    datagram.get(17..19).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Whether a datagram begins with a ClientHello, or a fragment of one.
pub fn is_hello(datagram: &[u8]) -> bool {
    const CLIENT_HELLO: u8 = 1;

    is_handshake(datagram) && datagram.get(13) == Some(&CLIENT_HELLO)
}

/// Whether a datagram begins with a record of a handshake (RFC 6347, 4.1).
pub fn is_handshake(datagram: &[u8]) -> bool {
    const HANDSHAKE_RECORD: u8 = 22;

    datagram.first() == Some(&HANDSHAKE_RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(number: u8) -> Vec<u8> {
        let mut datagram = vec![0; 40];
        (datagram[0], datagram[13], datagram[18]) = (22, 1, number);
        datagram
    }

    const CERTIFICATE: [u8; 20] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 5, 0, 7, 11, 0, 0, 0, 0, 2, 0];

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_hello_that_is_said_again_is_answered_again() {
        let (mut flight, start) = (Flight::default(), Instant::now());
        flight.say(vec![Bytes::from_static(b"verify")], &hello(0), start);
        assert!(flight.hear(&hello(1), start + ms(50)).is_empty(), "the first half of her next hello");
        flight.say(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")], &hello(1), start + ms(51));
        assert!(flight.hear(&hello(1), start + ms(52)).is_empty(), "the other half of the same");
        assert_eq!(flight.hear(&hello(1), start + ms(100)), ["one", "two"]);
        assert!(flight.hear(&hello(1), start + ms(101)).is_empty());
        assert_eq!(flight.hear(&hello(0), start + ms(150)), ["one", "two"], "an old one that came late");
    }

    #[test]
    fn who_is_silent_is_spoken_to_again_and_who_is_half_heard_is_left_to_repeat_herself() {
        let (mut flight, start) = (Flight::default(), Instant::now());
        assert!(flight.wait(start + ms(5_000)).is_empty(), "nothing was said yet");
        flight.say(vec![Bytes::from_static(b"one")], &hello(0), start);
        assert!(flight.wait(start + ms(1_499)).is_empty());
        assert_eq!(flight.wait(start + ms(1_500)), ["one"]);
        assert!(flight.wait(start + ms(2_900)).is_empty());
        assert!(flight.hear(&CERTIFICATE, start + ms(2_990)).is_empty(), "she has heard us: her answer was cut short");
        assert!(flight.wait(start + ms(3_000)).is_empty());
        assert_eq!(flight.wait(start + ms(4_490)), ["one"]);
    }
}
