//! See [`ebrec_fuzz::capture`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ebrec_fuzz::capture(bytes));
