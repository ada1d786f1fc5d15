//! How fast people and addresses may ask.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    id::Sub,
    protocol::{ErrorCode, Fault, json_depth},
    session::door::Door,
};

/// Keys that a limiter remembers before it forgets those that are full again.
const KEYS_KEPT_MAX: usize = 100_000;

/// Settings of limits. Rates are per second; a burst of twice the rate is let through.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Commands of one connection.
    pub commands_per_second: u32,
    /// Comments of one person, over all their connections.
    pub comments_per_second: u32,
    /// Likes of one person that are counted; more are let through and not counted.
    pub likes_per_second: u32,
    /// Holds asked for by one person.
    pub holds_per_second: u32,
    /// HTTP requests of one address.
    pub requests_per_second: u32,
    /// Sockets and streams let in, of everybody together; those beyond are told when to come again. 0 lets all in.
    pub arrivals_per_second: u32,
    /// Open sockets and streams of one address.
    pub connections_per_address: u32,
    /// Video sessions of one address.
    pub videos_per_address: u32,
    /// Open sockets and streams of one person in one room, and as many video sessions.
    pub connections_per_person: u32,
    /// Objects and arrays inside each other, in one message or body.
    pub json_depth_max: usize,
    /// Networks (`192.0.2.0/24`, `2001:db8::/32`) whose addresses have no limits.
    pub exempt: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            commands_per_second: 20,
            comments_per_second: 2,
            likes_per_second: 20,
            holds_per_second: 5,
            requests_per_second: 200,
            arrivals_per_second: 5_000,
            connections_per_address: 2_000,
            videos_per_address: 2_000,
            connections_per_person: 20,
            json_depth_max: 16,
            exempt: Vec::new(),
        }
    }
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((base, family), (asked, asked_family)) = (bits(self.base), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        family == asked_family && base & mask == asked & mask
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network such as 192.0.2.0/24");
        let (base, prefix) = text.split_once('/').unwrap_or((text, ""));
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let widest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { widest } else { prefix.parse().map_err(|_| wrong())? };
        if prefix > widest {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The limiters that people and addresses share.
pub struct Limits {
    config: Config,
    comments: Keyed<Sub>,
    holds: Keyed<Sub>,
    requests: Keyed<IpAddr>,
    door: Door,
    connections: Places,
    videos: Places,
    refused: AtomicU64,
}

/// The places that are taken, by address.
type Places = Arc<Mutex<HashMap<IpAddr, u32>>>;

/// A place among those of an address; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    /// None for an address without limits.
    among: Option<Places>,
}

impl Place {
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Limits {
    pub fn new(config: Config) -> Self {
        Self {
            comments: Keyed::new(config.comments_per_second),
            holds: Keyed::new(config.holds_per_second),
            requests: Keyed::new(config.requests_per_second),
            door: Door::new(config.arrivals_per_second),
            connections: Arc::default(),
            videos: Arc::default(),
            refused: AtomicU64::new(0),
            config,
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.config.exempt.iter().any(|n| n.contains(address))
    }

    /// Refusals since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub fn comment(&self, sub: &Sub) -> Result<(), Fault> {
        self.counted(self.comments.check(sub))
    }

    pub fn hold(&self, sub: &Sub) -> Result<(), Fault> {
        self.counted(self.holds.check(sub))
    }

    pub fn request(&self, address: IpAddr) -> Result<(), Fault> {
        if self.is_exempt(address) {
            return Ok(());
        }
        self.counted(self.requests.check(&address.to_canonical()))
    }

    /// A limiter for the commands of one connection.
    pub fn of_connection(&self) -> DefaultDirectRateLimiter {
        RateLimiter::direct(quota(self.config.commands_per_second))
    }

    pub fn command(&self, limiter: &DefaultDirectRateLimiter) -> Result<(), Fault> {
        let asked = limiter.check().map_err(|wait| wait.wait_time_from(governor::clock::DefaultClock::default().now()));
        self.counted(asked.map_err(rate_limited))
    }

    /// Lets one more newcomer in, or says after what time to come again.
    pub fn arrive(&self) -> Result<(), Duration> {
        self.door.enter(Instant::now())
    }

    /// Newcomers who were told to come again, since the start.
    pub fn turned_away(&self) -> u64 {
        self.door.turned_away()
    }

    /// Refused when it nests too deep.
    pub fn json(&self, text: &[u8]) -> Result<(), Fault> {
        let most = self.config.json_depth_max;
        let fits = json_depth(text) <= most;
        let too_deep = || Fault::new(ErrorCode::Malformed, format!("JSON nests at most {most} deep"));
        self.counted(fits.then_some(()).ok_or_else(too_deep))
    }

    /// A place for one more connection of this address, or `None` when it has its share.
    pub fn connect(&self, address: IpAddr) -> Option<Place> {
        self.place(address, &self.connections, self.config.connections_per_address)
    }

    /// A place for one more video session of this address, or `None` when it has its share.
    pub fn video(&self, address: IpAddr) -> Option<Place> {
        self.place(address, &self.videos, self.config.videos_per_address)
    }

    fn place(&self, address: IpAddr, among: &Places, most: u32) -> Option<Place> {
        let address = address.to_canonical();
        if self.is_exempt(address) {
            return Some(Place { address, among: None });
        }
        let mut taken = among.lock().expect("no holder panics");
        let count = taken.entry(address).or_insert(0);
        if *count >= most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        Some(Place { address, among: Some(among.clone()) })
    }

    /// Who told something a moment ago tells it again after `wait`.
    pub fn too_soon(&self, wait: Duration) -> Fault {
        self.refused.fetch_add(1, Ordering::Relaxed);
        rate_limited(wait)
    }

    fn counted(&self, outcome: Result<(), Fault>) -> Result<(), Fault> {
        if outcome.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(among) = &self.among else { return };
        let mut taken = among.lock().expect("no holder panics");
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

struct Keyed<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(per_second: u32) -> Self {
        Self(RateLimiter::keyed(quota(per_second)))
    }

    fn check(&self, key: &K) -> Result<(), Fault> {
        if self.0.len() > KEYS_KEPT_MAX {
            self.0.retain_recent();
        }
        let clock = governor::clock::DefaultClock::default();
        self.0.check_key(key).map_err(|wait| rate_limited(wait.wait_time_from(clock.now())))
    }
}

fn quota(per_second: u32) -> Quota {
    let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::new(2).expect("two")))
}

fn rate_limited(wait: Duration) -> Fault {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Fault::new(ErrorCode::RateLimited, "too fast, wait a moment").retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let net: Network = "192.0.2.0/24".parse().unwrap();
        assert!(net.contains("192.0.2.77".parse().unwrap()));
        assert!(net.contains("::ffff:192.0.2.77".parse().unwrap()));
        assert!(!net.contains("192.0.3.1".parse().unwrap()));
        assert!(!net.contains("2001:db8::1".parse().unwrap()));
        let six: Network = "2001:db8::/32".parse().unwrap();
        assert!(six.contains("2001:db8:5::1".parse().unwrap()) && !six.contains("2001:db9::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!("192.0.2.0/33".parse::<Network>().is_err() && "nonsense".parse::<Network>().is_err());
    }

    #[test]
    fn an_address_has_its_share_of_connections_and_gets_places_back() {
        let limits = Limits::new(Config { connections_per_address: 2, ..Config::default() });
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let (one, _two) = (limits.connect(address).unwrap(), limits.connect(address).unwrap());
        assert!(limits.connect(address).is_none());
        drop(one);
        assert!(limits.connect(address).is_some());
        assert!(limits.video(address).is_some(), "video sessions are counted by themselves");
    }

    #[test]
    fn a_person_comments_at_the_rate_and_is_told_how_long_to_wait() {
        let limits = Limits::new(Config { comments_per_second: 1, ..Config::default() });
        let (a, b): (Sub, Sub) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(limits.comment(&a).is_ok() && limits.comment(&a).is_ok());
        let refused = limits.comment(&a).unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert!(refused.retry_after_ms.unwrap() <= 1_000);
        assert!(limits.comment(&b).is_ok());
    }
}
