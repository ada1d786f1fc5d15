//! A network of the test's own: a namespace for the server, joined to ours by a pair of devices whose kernel can be told
//! to be slow. Needs rights that not every machine gives; where there are none there is no namespace.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
};

/// A namespace and the way to it. Dropping it takes both away.
pub struct Namespace {
    pub name: String,
    /// The server's address in it, and ours on the same wire.
    pub there: IpAddr,
    pub here: IpAddr,
}

impl Namespace {
    /// None where `ip` may not make one.
    pub fn make() -> Option<Self> {
        let id = std::process::id();
        let name = format!("maishou-{id}");
        let (ours, theirs) = (device('a'), device('b'));
        let third = (id % 250) as u8;
        let (here, there) = (Ipv4Addr::new(10, 211, third, 1), Ipv4Addr::new(10, 211, third, 2));
        run("ip", &format!("netns add {name}"))?;
        let namespace = Self { name: name.clone(), there: there.into(), here: here.into() };
        run("ip", &format!("link add {ours} type veth peer name {theirs} netns {name}"))?;
        run("ip", &format!("addr add {here}/30 dev {ours}"))?;
        run("ip", &format!("link set {ours} up"))?;
        namespace.run(&format!("ip addr add {there}/30 dev {theirs}"))?;
        namespace.run(&format!("ip link set {theirs} up"))?;
        namespace.run("ip link set lo up")?;
        Some(namespace)
    }

    /// What the server sends goes through a line of this many kilobits a second, with 300 ms of queue.
    pub fn narrow(&self, kbit: u32) {
        let shaped = self.run(&format!("tc qdisc replace dev {} root {}", device('b'), bucket(kbit)));
        shaped.expect("a device of ours can be slowed down");
    }

    pub fn widen(&self) {
        self.run(&format!("tc qdisc del dev {} root", device('b'))).expect("and made fast again");
    }

    /// The same for what is sent to the server.
    pub fn narrow_uplink(&self, kbit: u32) {
        let shaped = run("tc", &format!("qdisc replace dev {} root {}", device('a'), bucket(kbit)));
        shaped.expect("a device of ours can be slowed down");
    }

    pub fn widen_uplink(&self) {
        run("tc", &format!("qdisc del dev {} root", device('a'))).expect("and made fast again");
    }

    fn run(&self, command: &str) -> Option<()> {
        run("ip", &format!("netns exec {} {command}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its device goes with it, and ours with its device.
        let _ = run("ip", &format!("netns del {}", self.name));
    }
}

/// One end of the wire: `a` is ours, `b` the server's.
fn device(end: char) -> String {
    format!("mai{}{end}", std::process::id() % 100_000)
}

fn bucket(kbit: u32) -> String {
    format!("tbf rate {kbit}kbit burst 16kb latency 300ms")
}

fn run(program: &str, arguments: &str) -> Option<()> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok().filter(|status| status.success()).map(drop)
}
