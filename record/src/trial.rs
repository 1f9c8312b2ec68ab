//! Whether a probe in a function harms who runs it: tried for real, on a child of the recorder.
//!
//! On x86-64 the return of a probed function is a system call of its own since Linux 6.11, which a filter of seccomp didn't know, so
//! that it killed the process (docker's default profile, systemd's SystemCallFilter); since 6.13 and some stable kernels the kernel lets
//! that call pass (cf6cb56ef244 "seccomp: passthrough uretprobe systemcall without filtering"). Since 6.18 a probe on a function that
//! begins with a long nop becomes such a call, too. No version tells which kernel has what: the child does.
//!
//! The child forbids itself every system call but the one that ends it, and calls a function in which there is a probe for it alone.

use crate::uprobes::{Pmu, attach_multi};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

// The function: as short as a function can be, and one that the kernel may make a call of.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.ebrec_probed,\"ax\",@progbits",
    ".balign 16",
    ".globl ebrec_probed",
    ".type ebrec_probed,@function",
    "ebrec_probed:",
    ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", // nop, five bytes long
    "ret",
    ".size ebrec_probed, . - ebrec_probed",
    ".popsection",
);
#[cfg(not(target_arch = "x86_64"))]
std::arch::global_asm!(
    ".pushsection .text.ebrec_probed,\"ax\",%progbits",
    ".balign 16",
    ".globl ebrec_probed",
    ".type ebrec_probed,%function",
    "ebrec_probed:",
    "nop",
    "ret",
    ".size ebrec_probed, . - ebrec_probed",
    ".popsection",
);

unsafe extern "C" {
    fn ebrec_probed();
}

/// How often the child calls it: what the kernel makes of the probe is made at the first call.
const CALLS: u64 = 3;
/// How long the child may take; it needs less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
/// How the child ends if the kernel has no seccomp: then no process has a filter.
const NO_SECCOMP: i32 = 3;

/// Why no probe is to be put into the functions of others; nothing if they are none the worse for it. `multi`: the kernel has the
/// newer interface for them.
pub fn probes_are_harmless(multi: bool) -> Result<(), String> {
    match attempt(multi) {
        Ok(()) => Ok(()),
        Err(Failed::Harm(what)) => Err(format!("on this kernel, a process under a seccomp filter (as containers have one) {what}")),
        Err(Failed::Unknown(error)) => Err(format!("it could not be tried whether a probed function survives a seccomp filter: {error}")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// The child came to harm.
    Harm(String),
    /// The attempt says nothing.
    Unknown(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Unknown(error.to_string())
    }
}

fn attempt(multi: bool) -> Result<(), Failed> {
    let exe = own_program()?;
    let offset =
        offset_of(ebrec_probed as *const () as u64).ok_or_else(|| Failed::Unknown("its place in the file is not found".to_owned()))?;
    let child = Child::fork()?;
    let mut probe = if multi { Probe::multi(&exe, offset, child.pid)? } else { Probe::perf(&exe, offset, child.pid)? };
    let status = child.release()?;
    let hits = probe.hits();
    // Taking a probe out waits for all CPUs, on an overloaded host for seconds, and nothing else waits for it. If there is no thread to be
    // had, it is done here.
    let _ = std::thread::Builder::new().name("ebrec-trial".to_owned()).spawn(move || {
        crate::privilege::drop_unneeded();
        crate::scheduling::enter(crate::scheduling::Class::Favoured);
        drop(probe);
    });
    judge(status, hits?)
}

/// A probe at the return of a function, in one process alone, that counts.
enum Probe {
    /// By a perf event, which takes CAP_SYS_ADMIN.
    Perf(File),
    /// By a link and a program that adds to the only value of a map, which takes CAP_BPF and CAP_PERFMON.
    Multi(MapHandle, #[allow(dead_code, reason = "it is there as long as it is open")] OwnedFd),
}

impl Probe {
    fn perf(exe: &File, offset: u64, pid: i32) -> Result<Probe, Failed> {
        let pmu = Pmu::find().ok_or_else(|| Failed::Unknown("this kernel has no uprobes".to_owned()))?;
        Ok(Probe::Perf(File::from(pmu.open(exe, offset, true, Some(pid))?)))
    }

    fn multi(exe: &File, offset: u64, pid: i32) -> Result<Probe, Failed> {
        let unknown = |error: libbpf_rs::Error| Failed::Unknown(error.to_string());
        let opts = libbpf_sys::bpf_map_create_opts { sz: size_of::<libbpf_sys::bpf_map_create_opts>() as u64, ..Default::default() };
        let hits = MapHandle::create(MapType::Array, Some("ebrec_trial"), 4, 8, 1, &opts).map_err(unknown)?;
        let program = counting_program(&hits)?;
        let link = attach_multi(exe, &[(offset, 0)], true, u32::try_from(pid).ok(), &program)?;
        Ok(Probe::Multi(hits, link))
    }

    fn hits(&mut self) -> Result<u64, Failed> {
        let mut count = [0; 8];
        match self {
            Probe::Perf(event) => event.read_exact(&mut count)?,
            Probe::Multi(hits, _) => {
                let value = hits.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).map_err(|error| Failed::Unknown(error.to_string()))?;
                count = value.and_then(|value| value.first_chunk::<8>().copied()).unwrap_or(count);
            }
        }
        Ok(u64::from_ne_bytes(count))
    }
}

/// `value += 1; return 0;` for the only value of the map.
fn counting_program(map: &MapHandle) -> Result<OwnedFd, Failed> {
    const MAP_VALUE: u8 = 2; // BPF_PSEUDO_MAP_VALUE
    let instruction = |code, dst, src, imm| {
        let mut instruction = libbpf_sys::bpf_insn { code, imm, ..Default::default() };
        instruction.set_dst_reg(dst);
        instruction.set_src_reg(src);
        instruction
    };
    let program = [
        instruction(0x18, 1, MAP_VALUE, map.as_fd().as_raw_fd()), // r1 = &value, in two instructions
        instruction(0, 0, 0, 0),
        instruction(0xb7, 2, 0, 1), // r2 = 1
        instruction(0xdb, 1, 2, 0), // lock *(u64 *)r1 += r2
        instruction(0xb7, 0, 0, 0), // r0 = 0
        instruction(0x95, 0, 0, 0), // return r0
    ];
    let opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as u64,
        expected_attach_type: libbpf_sys::BPF_TRACE_UPROBE_MULTI,
        ..Default::default()
    };
    // SAFETY: all pointers are to live, initialised values for the duration of the call; the count is the array's.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_KPROBE,
            c"ebrec_trial".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as u64,
            std::ptr::from_ref(&opts).cast_mut(),
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd).into());
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the child's end says; `hits` is how often the probe was hit.
fn judge(status: i32, hits: u64) -> Result<(), Failed> {
    if libc::WIFSIGNALED(status) {
        return Err(Failed::Harm(format!("is killed when a probed function returns (signal {})", libc::WTERMSIG(status))));
    }
    match libc::WEXITSTATUS(status) {
        0 if hits == 0 => Err(Failed::Unknown("the probe was not hit".to_owned())),
        0 | NO_SECCOMP => Ok(()),
        code => Err(Failed::Harm(format!("goes astray when a probed function returns (exit status {code})"))),
    }
}

/// Our own file, of which we have a function.
#[allow(clippy::disallowed_methods, reason = "it is what runs here, and nobody else's")]
fn own_program() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Where in the file that is mapped there an address of ours lies.
#[allow(clippy::disallowed_methods, reason = "the kernel's word on ourselves")]
fn offset_of(address: u64) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (number(start)?, number(end)?, number(fields.nth(1)?)?);
        (start..end).contains(&address).then(|| address - start + offset)
    })
}

/// A child that waits for a byte, then does what is to be tried.
struct Child {
    pid: i32,
    go: OwnedFd,
    reaped: bool,
}

impl Child {
    fn fork() -> io::Result<Child> {
        let mut pipe = [0; 2];
        // SAFETY: an array of two descriptors to write to.
        if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors were just returned to us and nobody else has them.
        let (read, go) = unsafe { (OwnedFd::from_raw_fd(pipe[0]), OwnedFd::from_raw_fd(pipe[1])) };
        // On a host without a CPU to spare, an ordinary child would keep locks of its memory for as long as it waits for one, and the kernel
        // needs these to put the probe in.
        let inherited = crate::scheduling::Inherited::begin();
        // As fork, but the end of this child is not told by SIGCHLD, which is COMMAND's.
        // SAFETY: without flags and stack the child has a copy of everything; it calls only async-signal-safe functions.
        let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: as above.
            0 => unsafe { be_probed(&read, &go) },
            pid => {
                drop(inherited);
                Ok(Child { pid: pid as i32, go, reaped: false })
            }
        }
    }

    /// Lets it begin; returns its wait status.
    fn release(mut self) -> Result<i32, Failed> {
        // SAFETY: one byte from a valid buffer.
        if unsafe { libc::write(self.go.as_raw_fd(), [1u8].as_ptr().cast(), 1) } != 1 {
            return Err(io::Error::last_os_error().into());
        }
        let since = Instant::now();
        let mut pause = Duration::from_micros(100);
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.wait(libc::WNOHANG) {
                return Ok(status);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        Err(Failed::Unknown(format!("no answer in {} s", PATIENCE.as_secs())))
    }

    fn wait(&mut self, flags: i32) -> Option<i32> {
        let mut status = 0;
        // SAFETY: `status` is valid to write to. __WALL: a child whose end is told by no signal.
        self.reaped |= unsafe { libc::waitpid(self.pid, &mut status, flags | libc::__WALL) } == self.pid;
        self.reaped.then_some(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: our own child, which isn't reaped, so the pid is still its.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.wait(0);
        }
    }
}

/// The child: waits, forbids itself everything but its end, calls the function, and ends.
///
/// # Safety
/// Only in a forked child.
unsafe fn be_probed(read: &OwnedFd, go: &OwnedFd) -> ! {
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    const KILL: u32 = 0x8000_0000; // SECCOMP_RET_KILL_PROCESS
    let mut filter = [
        // The number is the first member of struct seccomp_data.
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 }, // BPF_LD | BPF_W | BPF_ABS
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_exit_group as u32 }, // BPF_JMP | BPF_JEQ | BPF_K
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: ALLOW }, // BPF_RET | BPF_K
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: KILL },
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: only system calls with valid arguments, and a function that does nothing.
    unsafe {
        libc::close(go.as_raw_fd());
        let mut byte = 0u8;
        if libc::read(read.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1) != 1 {
            libc::_exit(1);
        }
        // No core file, if it comes to the worst.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) != 0 {
            libc::_exit(NO_SECCOMP);
        }
        for _ in 0..CALLS {
            ebrec_probed();
        }
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_child_is_harm() {
        // As wait() reports SIGSYS, with and without a core file, and SIGSEGV.
        for status in [31, 31 | 0x80, 11] {
            assert!(matches!(judge(status, 1), Err(Failed::Harm(_))), "{status}");
        }
        assert!(matches!(judge(1 << 8, 1), Err(Failed::Harm(_))));
    }

    #[test]
    fn only_a_probe_that_was_hit_proves_something() {
        assert_eq!(judge(0, CALLS), Ok(()));
        assert!(matches!(judge(0, 0), Err(Failed::Unknown(_))));
        assert_eq!(judge(NO_SECCOMP << 8, 0), Ok(()), "nobody has a filter where there are none");
    }

    #[test]
    fn the_function_is_found_in_the_file() -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let offset = offset_of(ebrec_probed as *const () as u64).unwrap_or_default();
        let mut code = [0; 6];
        own_program()?.read_exact_at(&mut code, offset)?;
        #[cfg(target_arch = "x86_64")]
        assert_eq!(code, [0x0f, 0x1f, 0x44, 0, 0, 0xc3]);
        Ok(())
    }

    /// The child's filter bites: without the exception for the kernel's own calls, any other call kills it.
    #[test]
    fn the_child_lives_without_a_probe() -> Result<(), String> {
        let child = Child::fork().map_err(|error| error.to_string())?;
        let status = child.release().map_err(|error| format!("{error:?}"))?;
        assert!(libc::WIFEXITED(status) && [0, NO_SECCOMP].contains(&libc::WEXITSTATUS(status)), "{status:#x}");
        Ok(())
    }
}
