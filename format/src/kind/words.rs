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

word_kinds! {
    /// State of a task as it left the CPU, the letter that ps prints: `R` is preempted, `S` sleeping, `D` uninterruptible,
    /// `T` stopped, `t` traced, `X` dead, `Z` zombie, `P` parked, `I` idle (`task_state_to_char` in include/linux/sched.h).
    TaskState: |bits| Some(task_state(bits).to_string());
    /// TCP state by its name in include/net/tcp_states.h.
    TcpState: |state| Some(TCP_STATES.get(state as usize).map_or_else(|| format!("STATE_{state}"), |name| (*name).to_owned()));
    /// Who opened a connection: `active` here, `passive` the other end. Null: it existed before the window.
    Direction: |d| match d { 1 => Some("active".to_owned()), 2 => Some("passive".to_owned()), _ => Some("unknown".to_owned()) };
    /// What made a retransmission: `timeout` while waiting for an acknowledgement of a SYN or data, `fast` in recovery.
    RetransmitKind: |k| match k { 0 => Some("timeout".to_owned()), 1 => Some("fast".to_owned()), _ => Some("probe".to_owned()) };
}

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

/// The letter of a task state: the lowest set bit, as the kernel's `task_state_to_char` takes it.
fn task_state(bits: u32) -> char {
    // TASK_NOLOAD with TASK_UNINTERRUPTIBLE is TASK_IDLE: a kernel thread that waits without counting as load.
    if bits & 0x402 == 0x402 {
        return 'I';
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
