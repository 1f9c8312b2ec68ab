//! A process that needs more memory than its cgroup may have.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LIMIT: u64 = 32 << 20;
const SCORE: i32 = 500;

/// A memory cgroup that is removed with its last user.
struct Group {
    path: PathBuf,
    v2: bool,
}

impl Group {
    /// In the hierarchy that has the memory controller, v1 or v2.
    fn new() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        let mount = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                let fits = right.starts_with(kind) && right.rsplit(' ').next()?.split(',').any(|o| option.is_empty() || o == option);
                fits.then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
            })
        };
        let (root, v2) = match (mount("cgroup ", "memory"), mount("cgroup2 ", "")) {
            (Some(v1), _) => (v1, false),
            (None, Some(v2)) => (v2, true),
            (None, None) => return fail("no cgroup hierarchy is mounted"),
        };
        if v2 {
            write(&root.join("cgroup.subtree_control"), "+memory").context("the memory controller can't be had")?;
        }
        let path = root.join(format!("ebrec-oom-{}", sys::getpid()));
        std::fs::create_dir(&path).context(path.display())?;
        let group = Self { path, v2 };
        write(&group.file(if v2 { "memory.max" } else { "memory.limit_in_bytes" }), &LIMIT.to_string())?;
        // Without it the group would swap first, where there is swap. Kernels may lack the files.
        let _ = write(&group.file(if v2 { "memory.swap.max" } else { "memory.swappiness" }), "0");
        Ok(group)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process is dead and waited for, but the kernel may still be emptying the group.
        let _ = sys::wait_until("the cgroup can be removed", || Ok(std::fs::remove_dir(&self.path).is_ok()));
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(path.display())
}

/// `oom`: one victim.
pub fn run(_: &Args) -> Result<Value> {
    let group = Group::new()?;
    let id = std::fs::metadata(&group.path).context(group.path.display())?.ino();
    let procs = group.file("cgroup.procs");
    let child = sys::fork(move || {
        write(&procs, "0")?;
        write(Path::new("/proc/self/oom_score_adj"), &SCORE.to_string())?;
        sys::set_comm(c"wl-hungry")?;
        eat()
    })?;
    let status = sys::wait(child)?;
    if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGKILL {
        return fail(format!("the hungry process was not killed: wait status {status:#x}"));
    }
    Ok(json!({
        "victim": { "pid": child, "tid": child, "comm": "wl-hungry", "uid": 0, "oom_score_adj": SCORE },
        "limit_bytes": LIMIT, "limit_cgroup_id": id, "unified": group.v2,
    }))
}

/// Uses twice the limit, page by page.
fn eat() -> Result<i32> {
    let len = 2 * LIMIT as usize;
    // SAFETY: a new private mapping of this size; every byte of it may be written.
    unsafe {
        let memory =
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(ebrec_tests::Error::os("mmap"));
        }
        for at in (0..len).step_by(4096) {
            memory.cast::<u8>().add(at).write_volatile(1);
        }
    }
    Ok(sys::HELPER_FAILED)
}
