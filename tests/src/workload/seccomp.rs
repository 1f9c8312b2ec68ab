//! A program under a seccomp filter as containers have it: system calls that its author didn't know are refused.

use crate::args::Args;
use ebrec_tests::{Context, Error, Result, fail};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// include/uapi/linux/seccomp.h
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

/// The numbers from this on are those of all architectures; what is between the last of the old ones and it is the kernel's own.
const FIRST_COMMON: u32 = 424;
#[cfg(target_arch = "x86_64")]
const LAST_OLD: u32 = 334;
#[cfg(not(target_arch = "x86_64"))]
const LAST_OLD: u32 = 294;

/// `seccomp kill|errno -- PROGRAM [ARGS…]`: executes it. An unknown call is the end of it, as systemd's SystemCallFilter has it, or fails, as
/// docker's profile has it.
pub fn run(args: &Args) -> Result<Value> {
    let refuse = match args.word(0) {
        Some("kill") => KILL,
        Some("errno") => ERRNO | libc::ENOSYS as u32,
        _ => return fail("seccomp kill|errno PROGRAM [ARGS…]"),
    };
    let program = args.word(1).context("no program")?;
    let mut command = Command::new(program);
    command.args((2..).map_while(|index| args.word(index)));
    // SAFETY: `prctl` is async-signal-safe, and the filter is on the closure's own stack.
    unsafe {
        command.pre_exec(move || filter(refuse));
    }
    Err(Error::new(format!("{program}: {}", command.exec())))
}

fn filter(refuse: u32) -> std::io::Result<()> {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        op(0x20, 0, 0, 0),            // BPF_LD: the number is the first member of struct seccomp_data
        op(0x35, 1, 0, FIRST_COMMON), // BPF_JGE
        op(0x25, 1, 0, LAST_OLD),     // BPF_JGT
        op(0x06, 0, 0, ALLOW),        // BPF_RET
        op(0x06, 0, 0, refuse),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers, and a program that lives across the call.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
