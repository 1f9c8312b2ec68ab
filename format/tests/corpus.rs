//! The fuzz targets over what fuzzing has found (`tests/fuzz/corpus`), what it began with, and mutations of both: the same every time,
//! without coverage. `make fuzz` is the long run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/fuzz/src/lib.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

/// For each target.
const PATIENCE: Duration = Duration::from_millis(800);
/// One input may take this long, on a machine that others use as well.
const EACH: Duration = Duration::from_secs(5);

/// The same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Bytes that mean something somewhere: lengths, signs, ends.
const TELLING: [&[u8]; 8] =
    [&[0], &[0xff], &[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x7f], &[0x80], &[0xff; 8], &[0; 8], &[0xff, 0xff, 0xff, 0xff, 0x0f]];

fn mutated(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        match random.below(6) {
            0 if !out.is_empty() => out[at] ^= 1 << random.below(8),
            1 if !out.is_empty() => out[at] = random.below(256) as u8,
            2 => out.truncate(at),
            3 => {
                let telling = TELLING[random.below(TELLING.len())];
                let end = (at + telling.len()).min(out.len());
                out.splice(at..end, telling.iter().copied());
            }
            4 => {
                let from = random.below(out.len());
                let piece: Vec<u8> = out[from..].iter().take(random.below(64)).copied().collect();
                out.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.below(32)).min(out.len());
                out.drain(at..end);
            }
        }
    }
    out
}

#[test]
fn no_input_panics_or_takes_long() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut inputs = targets::seeds(name);
        assert!(inputs.iter().all(|seed| !seed.is_empty()), "{name} has an empty seed");
        if let Ok(files) = std::fs::read_dir(corpus.join(name)) {
            let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            files.sort();
            inputs.extend(files.iter().map(|file| std::fs::read(file).unwrap()));
        }
        let mut random = Random(11);
        let began = Instant::now();
        let mut tried = 0;
        while tried < inputs.len() || began.elapsed() < PATIENCE {
            let input = match inputs.get(tried) {
                Some(input) => input.clone(),
                None => mutated(&mut random, &inputs[tried % inputs.len()]),
            };
            let at = Instant::now();
            let ended = catch_unwind(|| target(&input));
            if ended.is_err() || at.elapsed() > EACH {
                let kept = std::env::temp_dir().join(format!("ebrec-fuzz-{name}"));
                std::fs::write(&kept, &input).unwrap();
                panic!(
                    "{name}, input {tried}: {} after {:?}; it is in {}",
                    if ended.is_err() { "panicked" } else { "slow" },
                    at.elapsed(),
                    kept.display()
                );
            }
            tried += 1;
        }
        println!("{name}: {tried} inputs");
    }
}
