//! Every target: the one whose name the program has.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| autosync::fuzz::play(env!("CARGO_BIN_NAME"), input));
