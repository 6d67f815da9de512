//! Hands libFuzzer's inputs to the body that the target is named after.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shardcast_protocols::fuzz::run(env!("CARGO_BIN_NAME"), bytes));
