//! rtc-srtp.

use crypto::{RTCCryptoProvider as _, providers::AwsLcRsProvider};
use srtp::{
    config::SessionKeys,
    context::Context,
    option::{ContextOption, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::kept_kib;

fn context(replay: Option<ContextOption>) -> Context {
    let (key, salt, provider) = (&[1; 16], &[2; 12], AwsLcRsProvider::new());
    Context::new(key, salt, ProtectionProfile::AeadAes128Gcm, replay, None, provider.crypto()).unwrap()
}

fn packet(sequence: u16, ssrc: u32) -> Vec<u8> {
    [&[0x80, 96][..], &sequence.to_be_bytes(), &[0; 4], &ssrc.to_be_bytes(), b"media"].concat()
}

/// The replay window is placed by the first packet before that packet is authenticated.
#[test]
fn one_forged_packet_shuts_out_the_genuine_ones() {
    let (mut sender, mut receiver) = (context(None), context(Some(srtp_replay_protection(64))));
    let mut forged = context(None).encrypt_rtp(&packet(20_000, 1)).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    assert!(receiver.decrypt_rtp(&forged).is_err());

    let accepted = (10..500).filter(|sequence| {
        let genuine = sender.encrypt_rtp(&packet(*sequence, 1)).unwrap();
        receiver.decrypt_rtp(&genuine).is_ok()
    });
    assert_eq!(accepted.count(), 0);
}

/// Each SSRC that a forged packet names is remembered for good, media and reports alike.
#[test]
fn forged_packets_take_memory_that_is_never_given_back() {
    const FORGED: u32 = 100_000;
    let kept = kept_kib("srtp::forged_packets_take_memory_that_is_never_given_back", || {
        let mut receiver = context(None);
        for ssrc in 0..FORGED {
            let media = [packet(1, ssrc), vec![0; 16]].concat();
            let report = [&[0x80, 200, 0, 6][..], &ssrc.to_be_bytes(), &[0; 40]].concat();
            assert!(receiver.decrypt_rtp(&media).is_err() && receiver.decrypt_rtcp(&report).is_err());
        }
        receiver
    });
    assert!(kept.is_none_or(|kib| kib > u64::from(FORGED) / 10), "{kept:?} KiB");
}

/// A session's master keys are printed whole by `{:?}`.
#[test]
fn keys_are_told_to_whoever_logs_them() {
    let keys = SessionKeys { local_master_key: vec![7, 77, 177], ..SessionKeys::default() };
    assert!(format!("{keys:?}").contains("[7, 77, 177]"));
}
