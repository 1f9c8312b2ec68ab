//! Writes what fuzzing begins with: `seeds DIRECTORY` makes a folder of each target in it.

fn main() -> std::io::Result<()> {
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
