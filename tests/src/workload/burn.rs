//! CPU burners and sleepers whose functions have known names, for the profiler.
//!
//! The functions are assembly, so that their stack can be followed by frame pointers however this program is built, and the
//! innermost one is where the time goes.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Defines `$name`, which calls `$inner` with its own arguments, and keeps a frame pointer.
macro_rules! caller {
    ($name:literal, $inner:literal) => {
        #[cfg(target_arch = "x86_64")]
        std::arch::global_asm!(
            concat!(".global ", $name),
            concat!(".type ", $name, ", @function"),
            concat!($name, ":"),
            "push rbp",
            "mov rbp, rsp",
            concat!("call ", $inner),
            "pop rbp",
            "ret",
            concat!(".size ", $name, ", . - ", $name),
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::global_asm!(
            concat!(".global ", $name),
            concat!(".type ", $name, ", %function"),
            concat!($name, ":"),
            "stp x29, x30, [sp, #-16]!",
            "mov x29, sp",
            concat!("bl ", $inner),
            "ldp x29, x30, [sp], #16",
            "ret",
            concat!(".size ", $name, ", . - ", $name),
        );
    };
}

caller!("ebrec_burn_outer", "ebrec_burn_middle");
caller!("ebrec_burn_middle", "ebrec_burn_leaf");
caller!("ebrec_nap_outer", "ebrec_nap_leaf");

// ebrec_burn_leaf counts its argument down; ebrec_nap_leaf is nanosleep(2), system call and all.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".global ebrec_burn_leaf",
    ".type ebrec_burn_leaf, @function",
    "ebrec_burn_leaf:",
    "push rbp",
    "mov rbp, rsp",
    "2: dec rdi",
    "jnz 2b",
    "pop rbp",
    "ret",
    ".size ebrec_burn_leaf, . - ebrec_burn_leaf",
    ".global ebrec_nap_leaf",
    ".type ebrec_nap_leaf, @function",
    "ebrec_nap_leaf:",
    "push rbp",
    "mov rbp, rsp",
    "xor esi, esi",
    "mov eax, 35",
    "syscall",
    "pop rbp",
    "ret",
    ".size ebrec_nap_leaf, . - ebrec_nap_leaf",
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".global ebrec_burn_leaf",
    ".type ebrec_burn_leaf, %function",
    "ebrec_burn_leaf:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, sp",
    "2: subs x0, x0, #1",
    "b.ne 2b",
    "ldp x29, x30, [sp], #16",
    "ret",
    ".size ebrec_burn_leaf, . - ebrec_burn_leaf",
    ".global ebrec_nap_leaf",
    ".type ebrec_nap_leaf, %function",
    "ebrec_nap_leaf:",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, sp",
    "mov x1, #0",
    "mov x8, #101",
    "svc #0",
    "ldp x29, x30, [sp], #16",
    "ret",
    ".size ebrec_nap_leaf, . - ebrec_nap_leaf",
);

unsafe extern "C" {
    fn ebrec_burn_outer(turns: u64) -> u64;
    fn ebrec_nap_outer(time: *const libc::timespec) -> i64;
}

/// Turns of the loop between two looks at the clock: some hundred microseconds.
const TURNS: u64 = 500_000;

/// `burn [THREADS] [--ms N] [--unlinked] [--jit|--jit-in-file|--jit-pieces N] [--reads]`: each thread uses a CPU for so long, in functions of
/// known names. Of code in pieces, each is mapped when its turn comes.
pub fn run(args: &Args) -> Result<Value> {
    let (threads, ms) = (args.number_at(0, 1)?, args.number_or("ms", 1000)?);
    if args.has("unlinked") {
        return from_unlinked_copy(threads, ms);
    }
    if let Some(path) = args.option("unlink") {
        std::fs::remove_file(path).context(path)?;
    }
    if let Some(pieces) = args.option("jit-pieces") {
        return in_pieces(pieces.parse().context(pieces)?, ms);
    }
    let in_file = args.has("jit-in-file");
    let jit = if in_file || args.has("jit") { Some(Jit::make(in_file, "ebrec_jit_loop")?) } else { None };
    let burn = jit.as_ref().map_or(Burn::Named, |jit| Burn::Jit(jit.code));
    let burn = if args.has("reads") { Burn::Reads } else { burn };
    let mut running = Vec::new();
    for nth in 0..threads {
        let thread = std::thread::Builder::new().name(format!("wl-burn-{nth}"));
        running.push(thread.spawn(move || burn.during(ms * 1_000_000)).context("create a thread")?);
    }
    let mut truths = Vec::new();
    for thread in running {
        truths.push(thread.join().ok().context("a thread panicked")??);
    }
    let cpu_ns: u64 = truths.iter().filter_map(|truth| truth["cpu_ns"].as_u64()).sum();
    Ok(json!({ "threads": truths, "cpu_ns": cpu_ns, "jit_pages": jit.iter().count() }))
}

fn in_pieces(pieces: u64, ms: u64) -> Result<Value> {
    let mut made = Vec::new();
    for nth in 0..pieces {
        made.push(Jit::make(false, &format!("ebrec_jit_piece_{nth}"))?);
        if let Some(jit) = made.last() {
            Burn::Jit(jit.code).during(ms * 1_000_000 / pieces)?;
        }
    }
    Ok(json!({ "pieces": pieces }))
}

#[derive(Debug, Clone, Copy)]
enum Burn {
    /// In `ebrec_burn_leaf`.
    Named,
    /// In machine code that was just written.
    Jit(extern "C" fn(u64)),
    /// In the kernel: reads of /dev/zero.
    Reads,
}

impl Burn {
    fn during(self, ns: u64) -> Result<Value> {
        let zero = std::fs::File::open("/dev/zero").context("/dev/zero")?;
        let mut buffer = vec![0; 1 << 20];
        let begin = sys::clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)?;
        let mut cpu_ns = 0;
        while cpu_ns < ns {
            match self {
                // SAFETY: the function counts its argument down and returns.
                Burn::Named => drop(unsafe { ebrec_burn_outer(TURNS) }),
                Burn::Jit(code) => code(TURNS),
                // Many for each look at the clock, which asks the kernel too.
                Burn::Reads => {
                    for _ in 0..4 {
                        std::io::Read::read_exact(&mut &zero, &mut buffer).context("read /dev/zero")?;
                    }
                }
            }
            cpu_ns = sys::clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)? - begin;
        }
        Ok(json!({ "tid": sys::gettid(), "comm": sys::comm()?, "cpu_ns": cpu_ns }))
    }
}

/// Runs a copy of this program that removes itself before it burns. Its truth is the copy's own.
fn from_unlinked_copy(threads: u64, ms: u64) -> Result<Value> {
    let copy = std::env::temp_dir().join(format!("ebrec-burner-{}", sys::getpid()));
    let cleanup = |why| {
        let _ = std::fs::remove_file(&copy);
        why
    };
    std::fs::copy("/proc/self/exe", &copy).context("copy this program").map_err(cleanup)?;
    let mut command = Command::new(&copy);
    command.args(["burn", &threads.to_string(), "--ms", &ms.to_string(), "--unlink"]).arg(&copy);
    let said = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run the copy").map_err(cleanup)?;
    if !said.status.success() {
        return Err(cleanup(ebrec_tests::Error::new(format!("the copy ended with {}", said.status))));
    }
    let mut truth: Value = serde_json::from_slice(&said.stdout).context("truth of the copy")?;
    truth["burner_pid"] = truth["pid"].take();
    truth["path"] = copy.to_string_lossy().into_owned().into();
    Ok(truth)
}

/// Machine code in anonymous memory, or in a file of memory as .NET has it, and the perf map that names it. The map goes away with it.
struct Jit {
    code: extern "C" fn(u64),
    map: String,
}

impl Jit {
    fn make(in_file: bool, name: &str) -> Result<Self> {
        // dec rdi; jnz back; ret
        const LOOP: [u8; 6] = [0x48, 0xff, 0xcf, 0x75, 0xfb, 0xc3];
        const PAGE: usize = 4096;
        if !cfg!(target_arch = "x86_64") {
            return fail("machine code at hand is for x86-64 only");
        }
        // SAFETY: the name is terminated.
        let file = if in_file { unsafe { libc::memfd_create(c"doublemapper".as_ptr(), libc::MFD_CLOEXEC) } } else { -1 };
        let kind = if in_file { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
        let map = |prot| {
            // SAFETY: a new mapping; nothing is replaced.
            let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, prot, kind, file, 0) };
            if page == libc::MAP_FAILED { Err(ebrec_tests::Error::os("mmap")) } else { Ok(page) }
        };
        if in_file {
            // SAFETY: the descriptor is ours.
            sys::check("ftruncate", unsafe { libc::ftruncate(file, PAGE as i64) })?;
        }
        let written = map(libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the page is ours, writable, and longer than the code.
        unsafe { std::ptr::copy_nonoverlapping(LOOP.as_ptr(), written.cast(), LOOP.len()) };
        let page = if in_file { map(libc::PROT_READ | libc::PROT_EXEC)? } else { written };
        // SAFETY: the page is ours.
        sys::check("mprotect", unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC) })?;
        let map = format!("/tmp/perf-{}.map", sys::getpid());
        let mut told = std::fs::OpenOptions::new().create(true).append(true).open(&map).context(&map)?;
        std::io::Write::write_all(&mut told, format!("{:x} {:x} {name}\n", page as usize, LOOP.len()).as_bytes()).context(&map)?;
        // SAFETY: the page holds a function of that type, and stays as long as the process.
        let code = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(u64)>(page) };
        Ok(Self { code, map })
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.map);
    }
}

/// `nap [N] [--ms M]`: sleeps N times in `ebrec_nap_leaf`, and knows for how long.
pub fn nap(args: &Args) -> Result<Value> {
    let (times, ms) = (args.number_at(0, 20)?, args.number_or("ms", 20)?);
    let slept_ns = sleep(times, ms)?;
    Ok(json!({ "tid": sys::gettid(), "times": times, "asked_ns": times * ms * 1_000_000, "slept_ns": slept_ns }))
}

/// `nap-hold`, then lines on stdin: `nap N MS`, `quit`.
pub fn nap_hold(_: &Args) -> Result<Value> {
    eprintln!("ready");
    let (mut times, mut slept_ns) = (0, 0);
    for line in std::io::stdin().lines() {
        let line = line.context("read stdin")?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["nap", n, ms] => {
                let n = n.parse().context(&line)?;
                slept_ns += sleep(n, ms.parse().context(&line)?)?;
                times += n;
            }
            ["quit"] => break,
            _ => return fail(format!("not understood: '{line}'; known: nap N MS, quit")),
        }
        eprintln!("done {line}");
    }
    eprintln!("done quit");
    Ok(json!({ "tid": sys::gettid(), "times": times, "slept_ns": slept_ns }))
}

/// So many times so many ms in `ebrec_nap_leaf`; how long it was in all, in ns.
fn sleep(times: u64, ms: u64) -> Result<u64> {
    let time = libc::timespec { tv_sec: (ms / 1000) as libc::time_t, tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long };
    let mut slept_ns = 0;
    for _ in 0..times {
        let before = sys::boot_ns()?;
        // SAFETY: nanosleep reads `time`, which lives across the call, and is not asked for the rest.
        if unsafe { ebrec_nap_outer(&raw const time) } != 0 {
            return fail("nanosleep was interrupted");
        }
        slept_ns += sys::boot_ns()? - before;
    }
    Ok(slept_ns)
}
