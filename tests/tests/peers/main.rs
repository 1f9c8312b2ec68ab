//! Beside the live tools: what they print while a recording runs is what the capture says afterwards.
//!
//! Where they differ, the capture is right by the workload's truth, and the reason stands at the test. Needs Debian's
//! libbpf-tools and linux-perf; a tool that is not installed skips its test, loudly.
//!
//! These are the tools that need tracepoints, uprobes and timers only, which every kernel has. Those that put a kprobe or fentry on
//! a function of the kernel (biosnoop, biotop, cachestat, ext4slower, filelife, filetop, fsslower, oomkill, readahead, tcpconnect,
//! tcpconnlat, tcprtt, tcpsynbl, tcptop, tcptracer, vfsstat) run where the kernel has them: on the kernels that tests/vm boots.

mod block;
mod dns;
mod files;
mod interrupts;
mod process;
mod profile;
mod sched;
mod signals;
mod syscalls;
mod tcp;
mod tool;
