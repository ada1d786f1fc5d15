#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| maishou::media::fuzzing::run("sdp", data));
