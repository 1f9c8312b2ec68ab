//! See [`ebrec_fuzz::table`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ebrec_fuzz::table(bytes));
