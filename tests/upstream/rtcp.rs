//! rtc-rtcp.

use std::panic::catch_unwind;

use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use shared::marshal::Unmarshal as _;

/// A transport-wide report whose length field is all ones; the build has overflow checks.
#[test]
fn a_report_of_65535_words_overflows() {
    let report = [0x8F, 205, 0xFF, 0xFF, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(catch_unwind(|| TransportLayerCc::unmarshal(&mut &report[..]).is_ok()).is_err());
    assert!(rtcp::packet::unmarshal(&mut &report[..]).is_err(), "not by this way");
}
