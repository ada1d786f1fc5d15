//! What everybody reaches for: a script in Redis, every change flushed before it is answered.
//!
//! The script does what a hold does at least: the key looked up, the limit per person, the stock, the order with its
//! fields, the time at which it expires, the key remembered for 24 hours. Callers have a connection each, or share one
//! that pipelines.

use std::{
    io::ErrorKind,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use redis::{Client, Script, aio::MultiplexedConnection};
use tokio::runtime::Runtime;

use crate::{
    Options,
    callers::{ask_in_turn, desk},
    child::{Child, free_address},
    scratch::Scratch,
    shop, socket,
    table::{Figures, Row, median, print_rows},
};

const HOLD: &str = r"
local known = redis.call('GET', KEYS[1])
if known then return known end
local quantity = tonumber(ARGV[2])
local has = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if has + quantity > tonumber(ARGV[3]) then return redis.error_reply('limit_reached') end
local available = tonumber(redis.call('GET', KEYS[3]) or '0')
if available < quantity then return redis.error_reply('sold_out') end
redis.call('DECRBY', KEYS[3], quantity)
redis.call('HINCRBY', KEYS[2], ARGV[1], quantity)
local id = redis.call('INCR', KEYS[4])
redis.call('HSET', 'hold:' .. id, 'buyer', ARGV[1], 'sku', ARGV[4], 'quantity', quantity, 'price', ARGV[5],
  'room', ARGV[6], 'show', ARGV[7], 'expires_at', ARGV[8], 'state', 'held')
redis.call('ZADD', KEYS[5], ARGV[8], id)
redis.call('SET', KEYS[1], id, 'EX', 86400)
return tostring(id)
";
const STARTS_IN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

struct Redis {
    process: Child,
    client: Client,
    script: Script,
    _scratch: Scratch,
}

impl Redis {
    /// `None` when it is not installed.
    fn start(runtime: &Runtime) -> anyhow::Result<Option<Self>> {
        let (scratch, address) = (Scratch::new()?, free_address()?);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(scratch.file("").as_os_str());
        let process = match Child::start(&mut command) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let client = Client::open(format!("redis://{address}/"))?;
        let mut redis = Self { process, client, script: Script::new(HOLD), _scratch: scratch };
        runtime.block_on(redis.ready())?;
        Ok(Some(redis))
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTS_IN;
        let mut connection = loop {
            match self.client.get_multiplexed_async_connection().await {
                Ok(connection) => break connection,
                Err(error) => ensure!(self.process.is_running() && Instant::now() < deadline, "redis-server: {error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        redis::cmd("SET").arg("stock").arg(1u64 << 40).exec_async(&mut connection).await?;
        self.script.load_async(&mut connection).await?;
        Ok(())
    }

    fn connections(&self, runtime: &Runtime, count: usize) -> anyhow::Result<Vec<MultiplexedConnection>> {
        runtime.block_on(async {
            let mut connections = Vec::with_capacity(count);
            for _ in 0..count {
                connections.push(self.client.get_multiplexed_async_connection().await?);
            }
            Ok(connections)
        })
    }

    /// Holds a second by `callers` over so many connections, and the CPU that Redis itself takes for each.
    fn round(&self, runtime: &Runtime, callers: usize, connections: usize, seconds: f64) -> anyhow::Result<Figures> {
        let connections = self.connections(runtime, connections)?;
        let script = Arc::new(self.script.clone());
        Ok(ask_in_turn(runtime, callers, seconds, &|| self.process.cpu_time(), |number| {
            let (connection, script) = (connections[number % connections.len()].clone(), script.clone());
            move || hold(script.clone(), connection.clone())
        }))
    }
}

async fn hold(script: Arc<Script>, mut connection: MultiplexedConnection) -> bool {
    let request = shop::request();
    let line = &request.lines[0];
    let mut call = script.prepare_invoke();
    call.key(&request.key).key("holders").key("stock").key("last").key("due");
    call.arg(request.sub.as_str()).arg(line.quantity).arg(10).arg(line.sku.as_str()).arg(19_900);
    call.arg("hall").arg(request.show.as_deref()).arg(1_700_000_300_000u64);
    match call.invoke_async::<String>(&mut connection).await {
        Ok(_) => true,
        Err(error) if error.to_string().contains("limit_reached") => false,
        Err(error) => panic!("redis: {error}"),
    }
}

pub fn bench(runtime: &Runtime, options: &Options, maishou: &Path) -> anyhow::Result<()> {
    if Redis::start(runtime)?.is_none() {
        println!("\nRedis is not compared: redis-server is not installed (Debian: apt-get install redis-server)");
        return Ok(());
    }
    let callers = *options.callers.first().context("no callers")?;
    let [mut each, mut shared, mut inside, mut outside] = [const { Vec::new() }; 4];
    for _ in 0..options.rounds {
        let redis = || Redis::start(runtime)?.context("redis-server was there a moment ago");
        each.push(redis()?.round(runtime, callers, callers, options.seconds)?);
        shared.push(redis()?.round(runtime, callers, 1, options.seconds)?);
        inside.push(desk(runtime, callers, options.seconds, Duration::ZERO)?);
        outside.push(socket::round(runtime, maishou, callers, options.seconds)?);
    }
    print_rows(
        &format!(
            "Redis (appendfsync always), {callers} callers; CPU is that of the server, in process that of everybody"
        ),
        &[
            Row::of("Redis, a connection each", &each),
            Row::of("Redis, one connection", &shared),
            Row::of("desk, in process", &inside),
            Row::of("maishou, a WebSocket each", &outside),
        ],
    );
    let ratio = |ours: &[Figures]| {
        let best = each.iter().zip(&shared).map(|(a, b)| a.per_second.max(b.per_second));
        median(&mut ours.iter().zip(best).map(|(ours, redis)| ours.per_second / redis).collect::<Vec<_>>())
    };
    println!("  desk in process / the better Redis of each round: {:.1}", ratio(&inside));
    println!("  maishou over sockets / the same: {:.1}", ratio(&outside));
    Ok(())
}
