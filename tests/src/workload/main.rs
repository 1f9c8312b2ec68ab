//! `ebrec-workload`: known activity, and its ground truth as one JSON object on stdout.
//!
//! A test runs it while a recorder records, and compares the capture with the truth: equal, not close.
//! So everything it does is counted where it is done, and nothing is left in flight when it prints.
//! It needs std, libc and serde_json only, because it is also linked statically and run in small VMs.

mod args;
mod bench;
mod block;
mod burn;
mod calls;
mod child;
mod dns;
mod exec;
mod faults;
mod files;
mod flood;
mod hold;
mod interrupts;
mod loopdev;
mod net;
mod oom;
mod overload;
mod page_cache;
mod pingpong;
mod resets;
mod retransmit;
mod reuse;
mod rtt;
mod seccomp;
mod signals;
mod sys;
mod tcp;
mod threads;
mod transfer;

use args::Args;
use ebrec_tests::{Context, Result, fail};
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
ebrec-workload: known activity, and its ground truth as JSON on stdout

  exec [--plain N] [--codes N] [--with-core]      children with known argv, exit codes, signals
  files [DIR…]                                    opens, reads, writes, syncs, in a new directory in each DIR
  threads [N]                                     N threads, created and joined
  tcp [--repeat N] [--tx BYTES] [--rx BYTES] [--chunk BYTES] [--refused N] [--families LIST] [--settle-ms N]
                                                  connections over loopback: families x ways to close
  tcp-hold [--conns K]                            connections driven by lines on stdin: open, send N, close, quit
  tcp-rr [N] [--cpu C]                            N round trips of one byte over loopback
  tcp-retransmit [ADDR:PORT] [--timeout-ms N] [--unbound]
                                                  SYNs that nobody answers; without an address: a full backlog
  tcp-resets [N]                                  N connections for each way to be reset, in a network namespace (root)
  tcp-rtt [N] [--pause-ms N]                      N round trips with pauses, and the kernel's round-trip times before each
  signals [N]                                     N of each kind from one process to another, a fault, a child's end
  flood KIND [--ms N] [--rate N]                  one kind of activity on each CPU, at most N rounds a second: files,
                                                  calls, signals, forks, tcp, switches
  forks [N] [--after N]                           N short children, while one waits; then N of the one that waited
  oom                                             a process that needs more memory than its cgroup may have (root)
  overload [PAIRS] [--seconds N]                  PAIRS of threads that keep each other runnable, and a loop of system calls
  hog [MB] [--seconds N]                          MB of memory, touched again and again
  interrupts [SECONDS]                            traffic over loopback, and the kernel's counts of interrupts around it
  dns [--slow-ms N] [--repeat N] [--run SCRIPT]   DNS queries to a resolver of its own, in its own namespaces (root)
  major-faults [N] [--dir DIR]                    N pages of a file on a disk, touched one by one
  pingpong [N] [--cpu C]                          two processes on one CPU, N round trips over two pipes
  pid-reuse [--times N] [--gap-ms N]              processes that have the same pid one after the other (root)
  block [--device PATH] [--scheduler NAME] [--repeat N]
                                                  direct and buffered I/O, flushes, discards on a loop device (root)
  block-errors                                    reads that fail, on a loop device whose file is too short (root)
  calls [N] [--sleeps N]                          N of each of 20 system calls with known results, and sleeps
  calls-hold                                      calls in progress, driven by lines on stdin: release, block, quit
  page-cache                                      cold and warm reads, faults, dirtied pages: a process for each (root)
  syscalls [N] [--cpu C]                          N times read one byte from /dev/zero, write it to /dev/null
  burn [THREADS] [--ms N] [--unlinked | --jit | --jit-in-file | --jit-pieces N | --reads]
                                                  N ms of CPU per thread in functions of known names, machine code, or the kernel
  nap [N] [--ms M]                                N times asleep in a function of known name
  nap-hold                                        the same, driven by lines on stdin: nap N MS, quit
  seccomp kill|errno PROGRAM [ARGS…]              executes it where unknown system calls kill, or fail
  spin [SECONDS], sleep [SECONDS]                 use a CPU, or do nothing
";

type Command = fn(&Args) -> Result<Value>;

/// A subcommand: name, most positional arguments, options with a value, switches, and what it does.
type Entry = (&'static str, usize, &'static [&'static str], &'static [&'static str], Command);

const COMMANDS: &[Entry] = &[
    ("exec", 0, &["plain", "codes"], &["with-core"], exec::run),
    ("files", 8, &[], &[], files::run),
    ("threads", 1, &[], &[], threads::run),
    ("tcp", 0, &["repeat", "tx", "rx", "chunk", "refused", "families", "settle-ms"], &[], tcp::run),
    ("tcp-hold", 0, &["conns"], &[], hold::run),
    ("tcp-rr", 1, &["cpu"], &[], bench::tcp_rr),
    ("tcp-retransmit", 1, &["timeout-ms"], &["unbound"], retransmit::run),
    ("tcp-resets", 1, &[], &[], resets::run),
    ("tcp-rtt", 1, &["pause-ms"], &[], rtt::run),
    ("signals", 1, &[], &[], signals::run),
    ("flood", 1, &["ms", "rate"], &[], flood::run),
    ("forks", 1, &["after"], &[], flood::forks_of_two),
    ("oom", 0, &[], &[], oom::run),
    ("overload", 1, &["seconds"], &[], overload::run),
    ("hog", 1, &["seconds"], &[], overload::hog),
    ("interrupts", 1, &[], &[], interrupts::run),
    ("dns", 0, &["slow-ms", "repeat", "run"], &[], dns::run),
    ("major-faults", 1, &["dir"], &[], faults::run),
    ("pingpong", 1, &["cpu"], &[], pingpong::run),
    ("pid-reuse", 0, &["times", "gap-ms"], &[], reuse::run),
    ("block", 0, &["device", "scheduler", "repeat"], &[], block::run),
    ("page-cache", 0, &["slow"], &[], page_cache::run),
    ("block-errors", 0, &[], &[], block::errors),
    ("calls", 1, &["sleeps"], &[], calls::run),
    ("calls-hold", 0, &[], &[], calls::hold),
    ("syscalls", 1, &["cpu"], &[], bench::syscalls),
    ("burn", 1, &["ms", "unlink", "jit-pieces"], &["unlinked", "jit", "jit-in-file", "reads"], burn::run),
    ("nap", 1, &["ms"], &[], burn::nap),
    ("nap-hold", 0, &[], &[], burn::nap_hold),
    ("seccomp", 16, &[], &[], seccomp::run),
    ("spin", 1, &[], &[], bench::spin),
    ("sleep", 1, &[], &[], bench::sleep),
];

fn main() -> ExitCode {
    match child::run_if_asked().map_or_else(run, |outcome| outcome.map(|never| match never {})) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ebrec-workload: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<()> {
    let mut raw = Vec::new();
    for word in std::env::args_os().skip(1) {
        raw.push(word.into_string().ok().context("an argument is not UTF-8")?);
    }
    if raw.is_empty() || raw[0] == "--help" || raw[0] == "help" {
        print!("{HELP}");
        return Ok(());
    }
    let name = raw.remove(0);
    let Some((_, max_words, options, switches, command)) = COMMANDS.iter().find(|entry| entry.0 == name) else {
        return fail(format!("unknown workload '{name}'; --help lists them"));
    };
    let args = Args::parse(raw, *max_words, options, switches)?;
    let start = sys::mark()?;
    let mut truth = command(&args)?;
    truth["workload"] = name.into();
    truth["pid"] = sys::getpid().into();
    truth["start"] = start;
    truth["end"] = sys::mark()?;
    writeln!(std::io::stdout(), "{truth}").context("print the truth")
}
