//! See [`ebrec_fuzz::manifest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ebrec_fuzz::manifest(bytes));
