use serde::{Deserialize, Serialize};

/// How connections are shared out, swept, and given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that write; 0 is one per core.
    pub shards: usize,
    /// Connections at once, over all shards; one more is closed with 3503.
    pub connections_max: usize,
    /// Sockets that may wait to be taken over by a shard; one more is dropped.
    pub adoptions_max: usize,
    /// The shortest time between two writes to one viewer, in milliseconds, state events apart. With many viewers it
    /// grows, so that sweeping takes `sweep_percent` of a core.
    pub tick_ms: u64,
    /// The part of a core that sweeping may take before ticks grow longer.
    pub sweep_percent: u32,
    /// Groups of viewers that are visited one after another within a tick.
    pub slots_max: u32,
    /// The part of a core for sweeps out of turn, which bring a state event to its viewers at once. Beyond it, state
    /// events wait for their viewers' slots.
    pub early_percent: u32,
    /// Replies and private messages that may wait for one connection; one more closes it with 3001.
    pub replies_max: usize,
    /// Their bytes together; a single message may be longer.
    pub replies_bytes_max: usize,
    /// The longest message of a client in bytes; a longer one closes its connection with 3502.
    pub message_bytes_max: usize,
    /// Seconds for a connection to begin following a room, before it is closed with 3502.
    pub join_seconds: u64,
    /// Seconds that what was sent may go unacknowledged by a client's system before the connection ends
    /// (TCP_USER_TIMEOUT): a phone that is gone is no viewer. A frame goes out every 10 s at least, so that this is
    /// noticed without a ping. 0 leaves it to the system, which takes many minutes.
    pub unacked_seconds: u64,
    /// Seconds without hearing from a client before it is pinged.
    pub ping_seconds: u64,
    /// Seconds without hearing from a client before it is closed with 3002.
    pub silent_seconds: u64,
    /// Seconds that a client may leave what it is sent untouched before it is cut off with 3001.
    pub stall_seconds: u64,
    /// Seconds for a client to answer a close before it is cut off.
    pub close_seconds: u64,
    /// The kernel's send buffer of a connection in bytes (SO_SNDBUF): what a stalled client can pin, times about three.
    pub send_buffer_bytes: usize,
    /// Whether frames are compressed for clients that offer permessage-deflate (RFC 7692): once for all of them.
    pub deflate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            connections_max: 19_000,
            adoptions_max: 1_024,
            tick_ms: 20,
            sweep_percent: 60,
            slots_max: 30,
            early_percent: 30,
            replies_max: 64,
            replies_bytes_max: 256 << 10,
            message_bytes_max: 64 << 10,
            join_seconds: 10,
            unacked_seconds: 30,
            ping_seconds: 100,
            silent_seconds: 130,
            stall_seconds: 20,
            close_seconds: 5,
            send_buffer_bytes: 32 << 10,
            deflate: true,
        }
    }
}
