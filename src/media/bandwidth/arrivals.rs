//! The arrivals that a report lists, on one clock: the viewer's, unwrapped.

use rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, RecvDelta, SymbolTypeTcc, TransportLayerCc};

/// The reference time counts 64 ms in 24 bits.
const REFERENCE_US: i64 = 64_000;
/// A viewer's clock that jumped by more than this against ours was set anew.
const JUMP_US: i64 = 2_000_000;
/// An arrival's distance to the one before, at most: what 16 bits of 250 µs hold.
const DELTA_US_MAX: i64 = 8_192_000;

#[derive(Debug, Default)]
pub struct Clock {
    newest: Option<Reference>,
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    wrapped: u32,
    us: i64,
    /// Our time when its report came.
    heard_at: u64,
}

/// A report's reference time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Microseconds since the clock began.
    At(i64),
    /// The clock begins here, at zero: times before mean nothing.
    Anew,
}

impl Clock {
    pub fn read(&mut self, wrapped: u32, heard_at: u64) -> Reading {
        let wrapped = wrapped & 0xff_ffff;
        let reading = self.newest.map(|newest| {
            let steps = (wrapped.wrapping_sub(newest.wrapped) << 8) as i32 >> 8;
            let moved = i64::from(steps) * REFERENCE_US;
            let passed = heard_at.saturating_sub(newest.heard_at) as i64;
            (moved, (moved - passed).abs() <= JUMP_US, newest.us + moved)
        });
        match reading {
            Some((moved, true, us)) => {
                if moved >= 0 {
                    self.newest = Some(Reference { wrapped, us, heard_at });
                }
                Reading::At(us)
            }
            _ => {
                self.newest = Some(Reference { wrapped, us: 0, heard_at });
                Reading::Anew
            }
        }
    }
}

/// Each packet that the report is about, in order, with its arrival; none for a lost one. What arrived at a time that
/// the report does not tell is left out.
pub fn arrivals(reference_us: i64, report: &TransportLayerCc) -> impl Iterator<Item = (u16, Option<i64>)> + '_ {
    let mut time = reference_us;
    let mut deltas = report.recv_deltas.iter().map(|RecvDelta { delta, .. }| delta);
    let symbols = report.packet_chunks.iter().flat_map(symbols).take(report.packet_status_count.into());
    symbols.zip(0u16..).filter_map(move |(symbol, offset)| {
        let number = report.base_sequence_number.wrapping_add(offset);
        match symbol {
            SymbolTypeTcc::PacketNotReceived => Some((number, None)),
            SymbolTypeTcc::PacketReceivedWithoutDelta => None,
            SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                time += deltas.next()?.clamp(&-DELTA_US_MAX, &DELTA_US_MAX);
                Some((number, Some(time)))
            }
        }
    })
}

fn symbols(chunk: &PacketStatusChunk) -> impl Iterator<Item = SymbolTypeTcc> + '_ {
    let (symbol, times, listed) = match chunk {
        PacketStatusChunk::RunLengthChunk(run) => (run.packet_status_symbol, run.run_length, &[][..]),
        PacketStatusChunk::StatusVectorChunk(vector) => (SymbolTypeTcc::default(), 0, vector.symbol_list.as_slice()),
    };
    std::iter::repeat_n(symbol, times.into()).chain(listed.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_time_goes_on_where_its_24_bits_end() {
        let mut clock = Clock::default();
        assert_eq!(clock.read(0xff_fffe, 0), Reading::Anew);
        assert_eq!(clock.read(1, 192_000), Reading::At(192_000));
        assert_eq!(clock.read(0xff_ffff, 200_000), Reading::At(64_000), "a report that was overtaken");
        assert_eq!(clock.read(2, 256_000), Reading::At(256_000));
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut clock = Clock::default();
        clock.read(1_000, 0);
        assert_eq!(clock.read(9_000, 64_000), Reading::Anew);
        assert_eq!(clock.read(9_001, 128_000), Reading::At(64_000));
    }
}
