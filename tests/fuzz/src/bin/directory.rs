//! See [`ebrec_fuzz::directory`].
#![no_main]

#[path = "../panics.rs"]
mod panics;

libfuzzer_sys::fuzz_target!(init: panics::end_at_panics(), |bytes: &[u8]| ebrec_fuzz::directory(bytes));
