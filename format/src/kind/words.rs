//! Kinds that are a number on the wire and a word in the capture.

use super::columns::Interned;
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::wire::NULL32;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Declares kinds that are a number on the wire and a word in the capture.
macro_rules! word_kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident: |$value:ident| $word:expr; )+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Default)]
        pub struct $kind(Interned<u32>);
        impl Kind for $kind {
            type Value = u32;
            type Builder = $kind;
            const PARTS: Parts = &[("", "", &KindInfo {
                name: stringify!($kind), arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary,
            })];
        }
        impl WireKind for $kind {
            const C: (&'static str, &'static str) = ("__u32", "");
        }
        impl Build<u32> for $kind {
            #[inline]
            fn append(&mut self, value: &u32, _: &mut Context<'_>) {
                self.0.push(*value, || {
                    let $value = *value;
                    if $value == NULL32 { None } else { $word }
                });
            }
            fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
                out.push(Arc::new(self.0.take()));
            }
        }
    )+ };
}
pub(super) use word_kinds;

word_kinds! {
    /// State of a task as it left the CPU, the letter that ps prints: `R` is preempted, `S` sleeping, `D` uninterruptible,
    /// `T` stopped, `t` traced, `X` dead, `Z` zombie, `P` parked, `I` idle (`task_state_to_char` in include/linux/sched.h). A frozen
    /// task is `D`, as in ps.
    TaskState: |bits| Some(task_state(bits).to_string());
    /// TCP state by its name in include/net/tcp_states.h.
    TcpState: |state| Some(TCP_STATES.get(state as usize).map_or_else(|| format!("STATE_{state}"), |name| (*name).to_owned()));
    /// Who opened a connection: `active` here, `passive` the other end. Null: it existed before the window.
    Direction: |d| match d { 1 => Some("active".to_owned()), 2 => Some("passive".to_owned()), _ => Some("unknown".to_owned()) };
    /// What became of an attempt: `succeeded`, `failed`, `given up` by the program, `pending` at the end of the window, or `refused` by seccomp or a tracer before it began.
    Outcome: |outcome| Some(OUTCOMES.get(outcome as usize).map_or_else(|| format!("outcome_{outcome}"), |name| (*name).to_owned()));
    /// Whether a reset was `sent` or `received`.
    ResetWay: |way| Some(if way == 0 { "sent" } else { "received" }.to_owned());
    /// Why a reset was sent, by the kernel's name in lower case (include/net/rstreason.h); `other` is one that this version doesn't know.
    ResetReason: |reason| Some(RESET_REASONS.get(reason as usize).unwrap_or(&"OTHER").to_ascii_lowercase());
    /// Name of a signal on x86 and arm64, `SIGTERM`; `SIGRTMIN+N` counts from 32, as the kernel does (glibc keeps two for itself).
    SignalName: |signal| Some(signal_name(signal));
    /// Why a signal was sent: si_code by its name, or as a number if it has none.
    SignalCode: |packed| Some(signal_code(packed >> 16, packed as u16 as i16));
    /// What became of a signal (enum in include/trace/events/signal.h): `delivered` means queued, `lost_info` queued without its siginfo.
    SignalResult: |result| Some(SIGNAL_RESULTS.get(result as usize).map_or_else(|| format!("result_{result}"), |name| (*name).to_owned()));
    /// A soft interrupt, as `softirqs` names it (softirq_to_name in kernel/softirq.c, in lower case).
    SoftirqVector: |vector| Some(SOFTIRQS.get(vector as usize).map_or_else(|| format!("vector_{vector}"), |name| (*name).to_owned()));
    /// What memory ran out of: `none` is the whole host (enum oom_constraint in include/linux/oom.h).
    OomConstraint: |c| Some(OOM_CONSTRAINTS.get(c as usize).map_or_else(|| format!("constraint_{c}"), |name| (*name).to_owned()));
    /// Whose stack it is: `user` or `kernel`.
    StackKind: |k| Some(if k == 0 { "user" } else { "kernel" }.to_owned());
    /// What made a retransmission: `timeout` while waiting for an acknowledgement of a SYN or data, `fast` in recovery.
    RetransmitKind: |k| match k { 0 => Some("timeout".to_owned()), 1 => Some("fast".to_owned()), _ => Some("probe".to_owned()) };
    /// What carried a DNS message (the protocol's number in IP).
    DnsProtocol: |p| Some(if p == 6 { "tcp".to_owned() } else { "udp".to_owned() });
    /// A resolver function of the C library, by its place in [`LOOKUP_FUNCTIONS`].
    LookupFunction: |f| LOOKUP_FUNCTIONS.get(f as usize).map(|name| (*name).to_owned());
}

/// The outcomes, in the order of `enum outcome` in bpf/syscalls.h.
const OUTCOMES: [&str; 5] = ["succeeded", "failed", "given up", "pending", "refused"];

/// The resolver functions, in the order of `enum lookup_function` in bpf/dns_lookup.bpf.c.
pub const LOOKUP_FUNCTIONS: [&str; 5] = ["getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r"];

/// Names of the TCP states, by number (include/net/tcp_states.h).
pub const TCP_STATES: [&str; 14] = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

/// Reasons of resets, in the order of `RESET_REASONS` in bpf/core_fixes.h.
const RESET_REASONS: [&str; 25] = [
    "NOT_SPECIFIED",
    "NO_SOCKET",
    "TCP_INVALID_ACK_SEQUENCE",
    "TCP_RFC7323_PAWS",
    "TCP_TOO_OLD_ACK",
    "TCP_ACK_UNSENT_DATA",
    "TCP_FLAGS",
    "TCP_OLD_ACK",
    "TCP_ABORT_ON_DATA",
    "TCP_TIMEWAIT_SOCKET",
    "INVALID_SYN",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_LINGER",
    "TCP_ABORT_ON_MEMORY",
    "TCP_STATE",
    "TCP_KEEPALIVE_TIMEOUT",
    "TCP_DISCONNECT_WITH_DATA",
    "MPTCP_RST_EUNSPEC",
    "MPTCP_RST_EMPTCP",
    "MPTCP_RST_ERESOURCE",
    "MPTCP_RST_EPROHIBIT",
    "MPTCP_RST_EWQ2BIG",
    "MPTCP_RST_EBADPERF",
    "MPTCP_RST_EMIDDLEBOX",
    "ERROR",
];

const SIGNAL_RESULTS: [&str; 5] = ["delivered", "ignored", "already_pending", "overflow", "lost_info"];
const SOFTIRQS: [&str; 10] = ["hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu"];
const OOM_CONSTRAINTS: [&str; 4] = ["none", "cpuset", "memory_policy", "memcg"];

/// Names of the signals from 1 on (include/uapi/asm-generic/signal.h, the same on x86).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD",
    "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Name of a signal: `SIGTERM`, `SIGRTMIN+3`.
pub fn signal_name(signal: u32) -> String {
    match signal {
        1..=31 => format!("SIG{}", SIGNALS[signal as usize - 1]),
        32 => "SIGRTMIN".to_owned(),
        33..=64 => format!("SIGRTMIN+{}", signal - 32),
        other => format!("signal_{other}"),
    }
}

/// include/uapi/asm-generic/siginfo.h: codes from 1 on are the signal's own.
fn signal_code(signal: u32, code: i16) -> String {
    let own: &[&str] = match signal {
        4 => &["ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC", "ILL_BADSTK"],
        5 => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK", "TRAP_PERF"],
        7 => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"],
        8 => &["FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV", "FPE_FLTSUB"],
        11 => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR", "SEGV_ACCADI", "SEGV_ADIDERR", "SEGV_ADIPERR", "SEGV_MTEAERR"],
        17 => &["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"],
        29 => &["POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"],
        31 => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    let name = match code {
        0 => Some("SI_USER"),
        0x80 => Some("SI_KERNEL"),
        -1 => Some("SI_QUEUE"),
        -2 => Some("SI_TIMER"),
        -3 => Some("SI_MESGQ"),
        -4 => Some("SI_ASYNCIO"),
        -5 => Some("SI_SIGIO"),
        -6 => Some("SI_TKILL"),
        -7 => Some("SI_DETHREAD"),
        -60 => Some("SI_ASYNCNL"),
        1.. => own.get(code as usize - 1).copied(),
        _ => None,
    };
    name.map_or_else(|| code.to_string(), str::to_owned)
}

/// The letter of a task state: the lowest set bit, as the kernel's `task_state_to_char` takes it.
fn task_state(bits: u32) -> char {
    // TASK_NOLOAD with TASK_UNINTERRUPTIBLE is TASK_IDLE: a kernel thread that waits without counting as load.
    if bits & 0x402 == 0x402 {
        return 'I';
    }
    // TASK_RTLOCK_WAIT and TASK_FROZEN are told as TASK_UNINTERRUPTIBLE (__task_state_index of include/linux/sched.h).
    if bits & 0x9000 != 0 {
        return 'D';
    }
    match bits & 0xff {
        0 => 'R',
        b if b & 0x01 != 0 => 'S',
        b if b & 0x02 != 0 => 'D',
        b if b & 0x04 != 0 => 'T',
        b if b & 0x08 != 0 => 't',
        b if b & 0x10 != 0 => 'X',
        b if b & 0x20 != 0 => 'Z',
        b if b & 0x40 != 0 => 'P',
        _ => 'X',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_resets_are_in_the_order_of_the_programs() {
        let fixes = include_str!("../../../bpf/core_fixes.h");
        let list = fixes.split("#define RESET_REASONS(X)").nth(1).unwrap_or_default();
        let names: Vec<&str> = list.lines().skip(1).map_while(|line| line.trim().strip_prefix("X(")?.split(')').next()).collect();
        assert_eq!(names, RESET_REASONS);
    }

    #[test]
    fn states_are_those_that_ps_prints() {
        // TASK_FROZEN, TASK_RTLOCK_WAIT, TASK_FREEZABLE | TASK_INTERRUPTIBLE, TASK_IDLE | TASK_FREEZABLE, TASK_DEAD
        assert_eq!([0, 0x8000, 0x1000, 0x2001, 0x2402, 0x80].map(task_state), ['R', 'D', 'D', 'S', 'I', 'X']);
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!((signal_name(9).as_str(), signal_name(15).as_str(), signal_name(31).as_str()), ("SIGKILL", "SIGTERM", "SIGSYS"));
        assert_eq!((signal_name(32).as_str(), signal_name(64).as_str(), signal_name(0).as_str()), ("SIGRTMIN", "SIGRTMIN+32", "signal_0"));
        assert_eq!(signal_code(11, 1), "SEGV_MAPERR");
        assert_eq!(signal_code(17, 1), "CLD_EXITED");
        assert_eq!((signal_code(10, 0).as_str(), signal_code(10, -6).as_str()), ("SI_USER", "SI_TKILL"));
        assert_eq!((signal_code(10, 1).as_str(), signal_code(10, -100).as_str()), ("1", "-100"));
    }
}
