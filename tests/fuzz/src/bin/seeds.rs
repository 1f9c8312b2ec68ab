//! Writes what fuzzing begins with: `seeds DIRECTORY` makes a folder of each target in it. A fuzz target that ends before it fuzzes, because
//! what is built with coverage links with libFuzzer only, whose `main` it is.
#![no_main]

fn write() -> std::io::Result<()> {
    let place = std::path::PathBuf::from(std::env::args_os().nth(1).unwrap_or_default());
    for (target, _) in ebrec_fuzz::TARGETS {
        let folder = place.join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in ebrec_fuzz::seeds(target).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

fn write_and_end() {
    if let Err(error) = write() {
        eprintln!("cannot write the seeds: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: write_and_end(), |_bytes: &[u8]| {});
