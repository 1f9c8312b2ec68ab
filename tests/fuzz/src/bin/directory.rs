//! See [`ebrec_fuzz::directory`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ebrec_fuzz::directory(bytes));
