//! What the recorder may do: enough to record with the documented capabilities, nothing else once it records; and whose its files are.

use ebrec_tests::{Capture, Context, Program, Recorder, Result, fail, int, list, program, require_bpf, text, workload};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

const NOBODY: u32 = 65534;

/// The capabilities that `ebrec check` names.
fn documented() -> Result<Vec<String>> {
    let check = program(Program::Record)?;
    let output = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "--inh-caps=-all"]).arg(check).arg("check").output();
    let said = String::from_utf8_lossy(&output.context("run setpriv")?.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("setcap")).context(said.clone())?;
    let names = line.split_whitespace().find(|word| word.starts_with("cap_")).and_then(|word| word.split_once('='));
    Ok(names.context(line)?.0.split(',').map(str::to_owned).collect())
}

/// A recorder that nobody can read but everybody execute, in a directory that belongs to `nobody`.
fn place_for_nobody(capture: &Capture) -> Result<std::path::PathBuf> {
    let copy = capture.dir().join("ebrec-record");
    std::fs::copy(program(Program::Record)?, &copy).context("copy the recorder")?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).context("chmod")?;
    chown(capture.dir(), Some(NOBODY), Some(NOBODY)).context("chown")?;
    Ok(copy)
}

/// That everything is recorded that root would: switches, arguments of root's processes, connections, samples with names of functions.
fn assert_recorded(capture: &Capture, args: &[&str], command: &mut Command) -> Result<()> {
    let recorder = Recorder::start_command(command.args(["-o", &capture.arg()]).args(args))?;
    let tcp = workload(&["tcp", "--families", "v4", "--refused", "0"])?;
    let burn = workload(&["burn", "1", "--ms", "400"])?;
    let reads = workload(&["burn", "1", "--ms", "400", "--reads"])?;
    let stderr = recorder.stop()?.succeeded()?.ran.stderr;
    // What root can't have either is missing here as well.
    let missing = |stderr: &str| stderr.lines().filter(|line| line.contains("is not recorded")).map(str::to_owned).collect::<Vec<_>>();
    let place = Capture::place("root")?;
    let of_root = place.start(args)?.stop()?.succeeded()?.ran.stderr;
    assert_eq!(missing(&stderr), missing(&of_root));
    let bytes = capture.number("SELECT sum(bytes) FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?;
    assert_eq!(bytes, int(&tcp["totals"]["tx_bytes"])?);
    assert!(capture.number("SELECT count(*) FROM sched_switch")? > 0);
    // This process is root's.
    let row = capture.row(&format!("SELECT args FROM process WHERE pid = {} AND NOT is_thread", std::process::id()))?;
    assert!(!list(&row["args"])?.is_empty(), "{row}");
    let named = capture.number(&format!(
        "SELECT count(*) FROM cpu_sample s JOIN stack k ON k.stack_id = s.user_stack_id
         WHERE s.pid = {} AND array_has(k.frames, 'ebrec_burn_leaf')",
        burn["pid"]
    ))?;
    assert!(named > 10, "{named} samples with names");
    // As do the kernel's own functions.
    let named = capture.number(&format!(
        "SELECT count(*) FROM cpu_sample s JOIN stack k ON k.stack_id = s.kernel_stack_id
         WHERE s.pid = {} AND array_has(k.frames, 'vfs_read')",
        reads["pid"]
    ))?;
    assert!(named > 10, "{named} samples with names of the kernel's functions");
    Ok(())
}

#[test]
fn an_ordinary_user_records_with_file_capabilities() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("filecaps")?;
    let copy = place_for_nobody(&capture)?;
    let names = documented()?.join(",");
    let set =
        Command::new("setcap").arg(format!("{names}=ep")).arg(&copy).output().context("setcap: install libcap2-bin (make test-deps)")?;
    if !set.status.success() {
        eprintln!("SKIPPED: the file system has no capabilities: {}", String::from_utf8_lossy(&set.stderr));
        return Ok(());
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]).arg(&copy).current_dir(capture.dir());
    assert_recorded(&capture, &["--probes", "all"], &mut command)?;
    assert_eq!(capture.path().metadata().context("the capture")?.uid(), NOBODY);
    Ok(())
}

/// As a container of root's is: its own pid, mount, cgroup and UTS namespace, and no other capabilities.
#[test]
fn a_container_records_with_the_documented_capabilities() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("container")?;
    let bounds = documented()?.iter().map(|name| format!("+{}", name.trim_start_matches("cap_"))).collect::<Vec<_>>().join(",");
    let mut command = Command::new("unshare");
    // What is left of root's own is what runc leaves: DAC_OVERRIDE and CHOWN among others.
    command.args(["-m", "-C", "-u", "setpriv", &format!("--bounding-set=-all,+dac_override,+chown,{bounds}"), "--inh-caps=-all", "--"]);
    assert_recorded(&capture, &["--probes", "all"], command.arg(program(Program::Record)?))
}

/// Effective capabilities of each thread of a process, with its name.
fn capabilities(pid: u32) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("tasks")? {
        let Ok(status) = std::fs::read_to_string(task.context("task")?.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let bits = field("CapPrm:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).context("CapPrm")?;
        all.push((field("Name:").unwrap_or_default().to_owned(), bits));
    }
    Ok(all)
}

#[test]
fn what_recording_does_not_need_is_dropped_but_the_command_keeps_it() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("dropped")?;
    let own = capabilities(std::process::id())?.first().context("no thread")?.1;
    let said = capture.dir().join("status");
    let script = format!("grep -E '^(CapPrm|NoNewPrivs)' /proc/self/status >{}; sleep 1", said.display());
    let recorder = capture.start(&["--probes", "all", "--", "sh", "-c", &script])?;
    // Modules, raw I/O, other users' identity, the network, the clock (include/uapi/linux/capability.h).
    let dangerous = [6, 7, 10, 12, 13, 16, 17, 22, 25].iter().fold(0_u64, |set, bit| set | 1 << bit);
    for (name, bits) in capabilities(recorder.pid())? {
        assert_eq!(bits & dangerous, 0, "{name} may still do {:#x}", bits & dangerous);
    }
    let _ = recorder.wait()?.succeeded()?;
    let said = std::fs::read_to_string(&said).context("what the command had")?;
    let bits = said.lines().find_map(|line| line.strip_prefix("CapPrm:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    assert_eq!(bits, Some(own), "{said}");
    assert!(said.contains("NoNewPrivs:\t0"), "{said}");
    Ok(())
}

fn owners(dir: &Path, into: &mut Vec<(String, u32, u32)>) -> Result<()> {
    let metadata = dir.symlink_metadata().context(dir.display())?;
    into.push((dir.display().to_string(), metadata.uid(), metadata.gid()));
    if metadata.is_dir() {
        for entry in std::fs::read_dir(dir).context(dir.display())? {
            owners(&entry.context("entry")?.path(), into)?;
        }
    }
    Ok(())
}

#[test]
fn under_sudo_the_files_are_the_callers() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for layout in ["file", "dir"] {
        let capture = Capture::place("sudo")?;
        let mut command = Command::new(program(Program::Record)?);
        command.args(["--format", layout, "--probes", "process,sched", "-o", &capture.arg()]);
        let recorder = Recorder::start_command(command.env("SUDO_UID", "65534").env("SUDO_GID", "65533"))?;
        std::thread::sleep(std::time::Duration::from_millis(1300));
        let mut found = Vec::new();
        owners(&capture.partial(), &mut found)?;
        let _ = recorder.stop()?.succeeded()?;
        owners(capture.path(), &mut found)?;
        assert!(found.len() > 3, "{found:?}");
        for (path, uid, gid) in found {
            assert_eq!((uid, gid), (65534, 65533), "{path}");
        }
        // And root's own recordings stay root's.
        let capture = Capture::place("sudo")?;
        let mut command = Command::new(program(Program::Record)?);
        command.args(["--format", layout, "--probes", "process", "-d", "100ms", "-o", &capture.arg()]);
        let _ = Recorder::start_command(command.env_remove("SUDO_UID"))?.wait()?.succeeded()?;
        assert_eq!(capture.path().metadata().context("the capture")?.uid(), 0);
    }
    Ok(())
}

/// A link that the caller of sudo puts where the recorder is about to write leads nowhere.
#[test]
fn under_sudo_no_link_of_the_callers_is_followed() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("link")?;
    let treasure = capture.dir().join("treasure");
    std::fs::write(&treasure, "root's").context("write")?;
    let mut command = Command::new(program(Program::Record)?);
    command.args(["--format", "dir", "--probes", "process,sched", "-o", &capture.arg()]);
    let recorder = Recorder::start_command(command.env("SUDO_UID", "65534").env("SUDO_GID", "65534"))?;
    // The first files are written soon after it says that it records.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    // Every name that will be written next to one that is there, as a link to the file, by name and by inode.
    let mut dirs = vec![capture.partial()];
    let mut links = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).context(dir.display())?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let temporary = path.with_extension("tmp");
                let made = if links % 2 == 0 {
                    std::os::unix::fs::symlink(&treasure, &temporary)
                } else {
                    std::fs::hard_link(&treasure, &temporary)
                };
                links += i32::from(made.is_ok());
            }
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let _ = recorder.stop()?.succeeded()?;
    let metadata = treasure.metadata().context("the file")?;
    if links == 0 {
        return fail("no link could be put anywhere");
    }
    assert_eq!((metadata.uid(), std::fs::read_to_string(&treasure).context("read")?.as_str()), (0, "root's"));
    assert!(text(&capture.row("SELECT ended_by FROM capture")?["ended_by"])?.contains("SIGINT"));
    Ok(())
}
