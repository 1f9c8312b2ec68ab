//! Whether this host lets a test record, and one such test at a time.

use crate::{Context, Result, fail, target_dir};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The right to record; no other test has it until this is dropped.
#[derive(Debug)]
pub struct BpfLock {
    _file: File,
}

/// The right to record, after waiting for it. `None` where recording is impossible: the test is skipped, loudly.
/// With `EBREC_TEST_REQUIRE_BPF=1` that is an error instead.
pub fn require_bpf() -> Result<Option<BpfLock>> {
    if let Some(why) = obstacle() {
        if std::env::var("EBREC_TEST_REQUIRE_BPF").is_ok_and(|value| value == "1") {
            return fail(format!("EBREC_TEST_REQUIRE_BPF=1, but {why}"));
        }
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Straight to stderr: the test harness hides what eprintln! says in a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
        return Ok(None);
    }
    let dir = target_dir();
    std::fs::create_dir_all(&dir).context(format!("create {}", dir.display()))?;
    let path = dir.join("bpf-tests.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.context(format!("open {}", path.display()))?;
    file.lock().context(format!("lock {}", path.display()))?;
    Ok(Some(BpfLock { _file: file }))
}

fn obstacle() -> Option<&'static str> {
    // SAFETY: takes no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("recording needs root");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)");
    }
    None
}
