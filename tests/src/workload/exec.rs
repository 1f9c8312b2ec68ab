//! Processes with known arguments, names, errors, exit codes and signals.
//!
//! One child after the other: forked, executed, waited for. A child reports through a pipe what only it can know
//! (its errno, its name after exec); everything else is known here.

use crate::child::{ENDING, Ending, REPORT_FD};
use crate::{args::Args, sys};
use ebrec_tests::{Context, Error, Result, TempDir, fail};
use serde_json::{Value, json};
use std::ffi::{CStr, CString};
use std::io::PipeWriter;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Exit code of a child none of whose execs succeeded, as a shell has it.
const NOTHING_EXECUTED: i32 = 127;

/// How a program is executed.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    Execve,
    /// By a second thread, which thereby becomes the process.
    ExecveByThread,
    /// Relative to a descriptor of its directory.
    ExecveatDir,
    /// The descriptor of the file itself, and an empty name.
    ExecveatFile,
}

struct Attempt {
    call: Call,
    path: Vec<u8>,
    argv: Vec<Vec<u8>>,
    errno: i32,
}

struct Case {
    name: String,
    attempts: Vec<Attempt>,
    ending: Ending,
    /// What /proc/PID/cmdline must say, where it is not the arguments of the last attempt.
    cmdline: Option<Vec<Vec<u8>>>,
}

/// `exec [--plain N] [--codes N] [--with-core]`.
pub fn run(args: &Args) -> Result<Value> {
    let dir = TempDir::new("exec")?;
    std::env::set_current_dir(dir.path()).context("enter the temporary directory")?;
    let me = std::env::current_exe().context("find this program")?;
    let cases = cases(args, me.as_os_str().as_bytes(), dir.path())?;
    let mut children = Vec::new();
    for case in &cases {
        children.push(run_case(case, children.len()).context(format!("case {}", case.name))?);
    }
    let attempts = || cases.iter().flat_map(|case| &case.attempts);
    let threads = attempts().filter(|attempt| attempt.call == Call::ExecveByThread).count()
        + cases.iter().filter(|case| matches!(case.ending, Ending::LeaderFirst { .. })).count();
    Ok(json!({
        "totals": {
            "forks": children.len(), "threads": threads, "exits": children.len(),
            "execs_ok": attempts().filter(|attempt| attempt.errno == 0).count(),
            "execs_failed": attempts().filter(|attempt| attempt.errno != 0).count(),
        },
        "children": children,
    }))
}

fn cases(args: &Args, me: &[u8], dir: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut ok = |name: String, call: Call, argv: Vec<Vec<u8>>, ending: Ending| {
        cases.push(Case { name, attempts: vec![Attempt { call, path: me.to_vec(), argv, errno: 0 }], ending, cmdline: None });
    };
    let done = Ending::Exit(0);
    for index in 0..args.number_or("plain", 3)? {
        ok(format!("plain-{index}"), Call::Execve, vec![me.to_vec(), format!("plain {index}").into_bytes()], done);
    }
    ok("argv0-only".into(), Call::Execve, words(&["some other name"]), done);
    ok("many-args".into(), Call::Execve, (0..500).map(|n| format!("a{n}").into_bytes()).collect(), done);
    ok("long-arg".into(), Call::Execve, vec![b"long".to_vec(), filler(4000, 0), b"end".to_vec()], done);
    ok("long-total".into(), Call::Execve, (0..40).map(|n| filler(1023, n)).collect(), done);
    ok("one-arg-of-40k".into(), Call::Execve, vec![b"huge".to_vec(), filler(40_000, 1)], done);
    ok("empty-args".into(), Call::Execve, words(&["empty", "", "x", "", ""]), done);
    ok("first-arg-empty".into(), Call::Execve, words(&["", "x"]), done);
    let odd: &[&[u8]] = &[b"odd", b"\xff\xfe", b"caf\xe9", b"\xc3", b"a\x80b", b"\x01\x1b[31m\x7f", "größer ✓".as_bytes()];
    ok("not-utf8".into(), Call::Execve, odd.iter().map(|arg| arg.to_vec()).collect(), done);
    let escapes = ["escapes", "back\\slash", "\\x41", "\\n", "new\nline", "tab\there", "\r", "quote\"'", "  ", "\\", "\\\\"];
    ok("escapes".into(), Call::Execve, words(&escapes), done);
    ok("execveat-dir".into(), Call::ExecveatDir, words(&["at-dir", "1"]), done);
    ok("execveat-file".into(), Call::ExecveatFile, words(&["at-file", "2"]), done);
    ok("exec-by-thread".into(), Call::ExecveByThread, words(&["by-thread", "3"]), done);
    for (group, name) in [(true, "leader-first-exit-group"), (false, "leader-first-exit")] {
        let ending = Ending::LeaderFirst { leader: 3, thread: 7, group };
        ok(name.into(), Call::Execve, words(&[name]), ending);
    }
    let signals = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGILL,
        libc::SIGABRT,
        libc::SIGFPE,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGSYS,
        40,
    ];
    for signal in signals {
        ok(format!("signal-{signal}"), Call::Execve, words(&["signal"]), Ending::Signal { signal, core: false });
    }
    if args.has("with-core") {
        let ending = Ending::Signal { signal: libc::SIGABRT, core: true };
        ok("core-dump".into(), Call::Execve, words(&["core"]), ending);
    }
    for code in 0..args.number_or("codes", 256)?.min(256) {
        ok(format!("code-{code}"), Call::Execve, vec![b"code".to_vec(), code.to_string().into_bytes()], Ending::Exit(code as i32));
    }
    cases.extend(failing(me, dir)?);
    cases.extend(scripts(me, dir)?);
    Ok(cases)
}

/// Execs that fail, alone and before one that does not.
fn failing(me: &[u8], dir: &Path) -> Result<Vec<Case>> {
    let place = |name: &str| dir.join(name).as_os_str().as_bytes().to_vec();
    file(&dir.join("no-permission"), b"#!/bin/true\n", 0o644)?;
    file(&dir.join("no-format"), b"neither ELF nor script\n", 0o755)?;
    file(&dir.join("no-interpreter"), b"#!/nonexistent/interpreter\n", 0o755)?;
    let attempt = |path: Vec<u8>, errno| Attempt { call: Call::Execve, argv: words(&["fails", "x"]), path, errno };
    let alone = |name: &str, path: Vec<u8>, errno| Case {
        name: name.into(),
        attempts: vec![attempt(path, errno)],
        ending: Ending::Exit(NOTHING_EXECUTED),
        cmdline: None,
    };
    let mut odd_name = place("no-such-\\-file-\n-");
    odd_name.push(0xff);
    let in_path = vec![
        attempt(place("no-such-dir/prog"), libc::ENOENT),
        attempt(place("no-permission"), libc::EACCES),
        Attempt { call: Call::Execve, path: me.to_vec(), argv: words(&["found", "x"]), errno: 0 },
    ];
    Ok(vec![
        alone("ENOENT", place("no-such-file"), libc::ENOENT),
        alone("ENOENT-odd-name", odd_name, libc::ENOENT),
        alone("ENOENT-interpreter", place("no-interpreter"), libc::ENOENT),
        alone("ENOTDIR", place("no-format/prog"), libc::ENOTDIR),
        alone("EACCES", place("no-permission"), libc::EACCES),
        alone("EACCES-directory", dir.as_os_str().as_bytes().to_vec(), libc::EACCES),
        alone("ENOEXEC", place("no-format"), libc::ENOEXEC),
        Case { name: "path-search".into(), attempts: in_path, ending: Ending::Exit(0), cmdline: None },
    ])
}

/// `#!` scripts whose interpreter is this program.
fn scripts(me: &[u8], dir: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, option) in [("script", None), ("script-with-option", Some("-x y"))] {
        let path = dir.join(name);
        let interpreter: Vec<Vec<u8>> = std::iter::once(me.to_vec()).chain(option.map(|o| o.as_bytes().to_vec())).collect();
        file(&path, &[b"#!", interpreter.join(&b' ').as_slice(), b"\n"].concat(), 0o755)?;
        let path = path.as_os_str().as_bytes().to_vec();
        let argv = words(&["ignored", "arg of script", ""]);
        let cmdline = [interpreter, vec![path.clone()], argv[1..].to_vec()].concat();
        cases.push(Case {
            name: name.into(),
            attempts: vec![Attempt { call: Call::Execve, path, argv, errno: 0 }],
            ending: Ending::Exit(5),
            cmdline: Some(cmdline),
        });
    }
    Ok(cases)
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// `len` bytes in which every stretch differs, so that a wrong cut shows.
fn filler(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((at / 7 + at * 3 + seed * 5) % 26) as u8).collect()
}

fn file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    std::fs::write(path, content).context(format!("write {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).context(format!("chmod {}", path.display()))
}

fn run_case(case: &Case, order: usize) -> Result<Value> {
    let (reports, report) = sys::pipe()?;
    let forked_after = sys::boot_ns()?;
    let pid = sys::fork(move || attempt_all(case, report))?;
    let mut lines = sys::read_lines(reports)?.into_iter();
    let status = sys::wait(pid)?;
    let reaped_before = sys::boot_ns()?;
    if !case.ending.fits(status) {
        return fail(format!("wait status {status:#x} is not that of {:?}", case.ending));
    }
    let mut execs = Vec::new();
    for attempt in &case.attempts {
        let mut exec = lines.next().context("a child did not report its exec")?;
        if attempt.errno != 0 {
            exec["errno"] = lines.next().context("a child did not report its errno")?["errno"].clone();
        }
        if exec["errno"] != attempt.errno {
            return fail(format!("errno {} instead of {}", exec["errno"], attempt.errno));
        }
        execs.push(exec);
    }
    let executed = case.attempts.last().is_some_and(|last| last.errno == 0);
    let image = if executed { lines.next().context("the program did not report itself")? } else { Value::Null };
    if let Some(last) = case.attempts.last().filter(|_| executed) {
        let expected: Vec<String> = case.cmdline.as_ref().unwrap_or(&last.argv).iter().map(|arg| sys::hex(arg)).collect();
        if image["cmdline"] != json!(expected) {
            return fail(format!("cmdline {} instead of {}", image["cmdline"], json!(expected)));
        }
    }
    let mut truth = json!({
        "order": order, "case": case.name, "pid": pid, "ppid": sys::getpid(), "execs": execs, "image": image,
        "forked_after_boot_ns": forked_after, "reaped_before_boot_ns": reaped_before, "status": sys::status_json(status),
        "tasks": [{ "tid": pid }],
    });
    if let Ending::LeaderFirst { leader, thread, .. } = case.ending {
        let tid = lines.next().context("the second thread did not report")?["thread"].clone();
        truth["tasks"] = json!([{ "tid": pid, "exit_code": leader }, { "tid": tid, "exit_code": thread }]);
    }
    Ok(truth)
}

/// In the child: tries to become another program, until it is one.
fn attempt_all(case: &Case, report: PipeWriter) -> Result<i32> {
    for attempt in &case.attempts {
        if attempt.call == Call::ExecveByThread {
            let work = || attempt_one(attempt, case.ending, &report);
            std::thread::scope(|scope| scope.spawn(work).join()).ok().context("the thread panicked")??;
        } else {
            attempt_one(attempt, case.ending, &report)?;
        }
    }
    Ok(NOTHING_EXECUTED)
}

/// Returns only if the exec failed, and has reported why.
fn attempt_one(attempt: &Attempt, ending: Ending, mut report: &PipeWriter) -> Result<()> {
    if attempt.call == Call::ExecveByThread {
        sys::set_comm(c"wl-exec-thread")?;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(&attempt.path));
    let (opened, filename, flags) = match attempt.call {
        Call::Execve | Call::ExecveByThread => (None, attempt.path.clone(), 0),
        Call::ExecveatDir => {
            let dir = path.parent().context("no parent directory")?;
            (Some(dir), path.file_name().context("no file name")?.as_bytes().to_vec(), 0)
        }
        Call::ExecveatFile => (Some(path), Vec::new(), libc::AT_EMPTY_PATH),
    };
    let opened = opened.map(std::fs::File::open).transpose().context("open what execveat starts from")?;
    let name = CString::new(filename.clone()).context("file name")?;
    let argv = attempt.argv.iter().map(|arg| CString::new(arg.as_slice())).collect::<std::result::Result<Vec<_>, _>>();
    let argv = argv.context("argument")?;
    let fd = report.as_raw_fd();
    // SAFETY: clears close-on-exec of a descriptor we own.
    sys::check("keep the report open", unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    let env = [format!("{ENDING}={}", ending.text()), format!("{REPORT_FD}={fd}")].map(CString::new);
    let env = env.into_iter().collect::<std::result::Result<Vec<_>, _>>().context("environment")?;
    sys::send_line(
        &mut report,
        &json!({
            "call": if opened.is_some() { "execveat" } else { "execve" },
            "dirfd": opened.as_ref().map(AsRawFd::as_raw_fd),
            "flags": flags, "tid": sys::gettid(), "comm_before": sys::comm()?, "errno": 0,
            "filename": sys::hex(&filename), "argv": attempt.argv.iter().map(|arg| sys::hex(arg)).collect::<Vec<_>>(),
        }),
    )?;
    let (argv, env) = (pointers(&argv), pointers(&env));
    match &opened {
        // SAFETY: name, argv and env are NUL-terminated and live across the call.
        None => unsafe { libc::execve(name.as_ptr(), argv.as_ptr(), env.as_ptr()) },
        // SAFETY: as above; the descriptor is open.
        Some(file) => unsafe {
            libc::syscall(libc::SYS_execveat, file.as_raw_fd(), name.as_ptr(), argv.as_ptr(), env.as_ptr(), flags) as i32
        },
    };
    let errno = sys::errno();
    if errno == 0 {
        return Err(Error::new("exec returned without an error"));
    }
    sys::send_line(&mut report, &json!({ "errno": errno }))
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| CStr::as_ptr(string)).chain([std::ptr::null()]).collect()
}
