//! rtc-datachannel.

use std::panic::catch_unwind;

use datachannel::message::Message;
use shared::marshal::Unmarshal as _;

/// One byte from a peer is a panic.
#[test]
fn a_message_of_one_byte_panics() {
    for kind in [0u8, 1, 4, 5, 0xff] {
        let result = catch_unwind(|| Message::unmarshal(&mut &[kind][..]).is_ok());
        assert_eq!(result.is_err(), kind == 0, "message type {kind}");
    }
}
