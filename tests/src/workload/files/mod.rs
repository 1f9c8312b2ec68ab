//! Opens, reads, writes and syncs of files, each known: what was asked for, of which file, what came of it.

mod io;
mod log;
mod open;
mod uring;

use crate::args::Args;
use crate::sys;
use ebrec_tests::{Context, Result};
use log::Log;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `files [DIR…]`: in a new directory in each of the given ones, one after the other.
pub fn run(args: &Args) -> Result<Value> {
    let default = std::env::temp_dir().to_string_lossy().into_owned();
    let dirs: Vec<&str> = (0..).map_while(|place| args.word(place)).collect();
    let dirs = if dirs.is_empty() { vec![default.as_str()] } else { dirs };
    // Easy to find in a capture.
    sys::set_comm(c"wl-files")?;
    let mut all = Vec::new();
    for dir in dirs {
        all.push(in_dir(Path::new(dir)).context(dir)?);
    }
    Ok(json!({ "dirs": all, "comm": "wl-files" }))
}

fn in_dir(dir: &Path) -> Result<Value> {
    let dir = dir.canonicalize().context("resolve the directory")?.join(format!("ebrec-files-{}", sys::getpid()));
    std::fs::create_dir(&dir).context(format!("create {}", dir.display()))?;
    let before = std::env::current_dir().context("current directory")?;
    let result = work(&dir);
    std::env::set_current_dir(before).context("return to where we were")?;
    std::fs::remove_dir_all(&dir).context(format!("remove {}", dir.display()))?;
    result
}

fn work(dir: &Path) -> Result<Value> {
    let mut log = Log::new(dir.as_os_str().as_bytes())?;
    open::prepare(dir)?;
    std::env::set_current_dir(dir).context("chdir")?;
    let begin = sys::mark()?;
    open::run(&mut log)?;
    io::run(&mut log)?;
    let end = sys::mark()?;
    let [opens, ios, unlinks] = [&mut log.opens, &mut log.ios, &mut log.unlinks].map(std::mem::take);
    let uring_begin = sys::mark()?;
    let has_uring = uring::run(&mut log)?;
    let uring = json!({ "begin": uring_begin, "end": sys::mark()?, "ios": log.ios, "opens": log.opens, "unlinks": log.unlinks });
    Ok(json!({
        "dir": sys::hex(dir.as_os_str().as_bytes()), "fs": log.fs, "begin": begin, "end": end, "opens": opens, "ios": ios,
        "unlinks": unlinks,
        "uring": has_uring.then_some(uring),
    }))
}
