//! See [`ebrec_fuzz::records`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ebrec_fuzz::records(bytes));
