//! Tasks, and what every event begins with.

use super::columns::{Codes, MOST_VALUES, Numbers, coded};
use super::info::*;
use super::{Build, Context, Kind, Parts, WireKind};
use crate::text;
use crate::wire::{self, NULL64, Task as WireTask};
use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use std::sync::Arc;

const TASK_PID: &str = "Process id (the kernel's tgid); 0 is the idle task.";
const TASK_TID: &str = "Thread id (the kernel's pid).";
const TASK_COMM: &str = "Name of the thread at that moment.";
const TASK_PROCESS_ID: &str = "Identity of the process that survives pid reuse; opaque, equal for all its threads.";

/// A task: `pid, tid, comm, process_id`, null where the kernel can't tell.
#[derive(Debug)]
pub struct Task;

impl Kind for Task {
    type Value = WireTask;
    type Builder = TaskBuilder;
    const PARTS: Parts =
        &[("pid", TASK_PID, &PID), ("tid", TASK_TID, &TID), ("comm", TASK_COMM, &COMM), ("process_id", TASK_PROCESS_ID, &PROCESS_ID)];
}

impl WireKind for Task {
    const C: (&'static str, &'static str) = ("struct ebrec_task", "");
}

/// Builder of tasks. Rows of unknown tasks may wait for an owner that a later record tells.
///
/// Few tasks make nearly all events: each is looked up once per event, and its four columns share the numbers.
#[derive(Default)]
pub struct TaskBuilder {
    codes: Codes<WireTask>,
    tasks: Vec<WireTask>,
}

impl TaskBuilder {
    #[inline]
    fn push(&mut self, task: &WireTask) {
        if self.codes.push(*task) {
            self.tasks.push(*task);
        }
    }

    /// `always_known`: the columns can't be null, whatever a record says.
    fn take(&mut self, always_known: bool, out: &mut Vec<ArrayRef>) {
        let rows = self.codes.take_rows();
        let known = || self.tasks.iter().map(|task| (always_known || task.is_known()).then_some(task));
        let pid: Int32Array = known().map(|task| Some(task?.pid as i32)).collect();
        let tid: Int32Array = known().map(|task| Some(task?.tid as i32)).collect();
        let comm: StringArray = known().map(|task| Some(text::c_str(&task?.comm))).collect();
        let process_id: Int64Array = known().map(|task| Some(task?.process_id())).collect();
        for values in [Arc::new(pid) as ArrayRef, Arc::new(tid), Arc::new(comm), Arc::new(process_id)] {
            out.push(Arc::new(coded(rows.clone(), values)));
        }
        // What was seen will be seen again; but a host that makes tasks all the time must not fill the memory.
        if self.tasks.len() > MOST_VALUES {
            *self = TaskBuilder::default();
        }
    }
}

impl Build<WireTask> for TaskBuilder {
    #[inline]
    fn append(&mut self, task: &WireTask, _: &mut Context<'_>) {
        self.push(task);
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        self.take(false, out);
    }
}

const HEAD_PARTS: Parts = &[
    ("ts", "When it happened, UTC.", &SORTED_TIMESTAMP),
    ("cpu", "Processor it happened on.", &KNOWN_CPU),
    ("pid", TASK_PID, &KNOWN_PID),
    ("tid", TASK_TID, &KNOWN_TID),
    ("comm", TASK_COMM, &KNOWN_COMM),
    ("process_id", TASK_PROCESS_ID, &KNOWN_PROCESS_ID),
];

/// What every event begins with: `ts, cpu` and the acting task.
#[derive(Debug)]
pub struct Head;

impl Kind for Head {
    type Value = wire::Head;
    type Builder = HeadBuilder;
    const PARTS: Parts = HEAD_PARTS;
}

impl WireKind for Head {
    const C: (&'static str, &'static str) = ("struct ebrec_head", "");
}

/// What an event without an acting task begins with: `ts, cpu`.
#[derive(Debug)]
pub struct CpuHead;

impl Kind for CpuHead {
    type Value = wire::Head;
    type Builder = CpuHeadBuilder;
    const PARTS: Parts = &[HEAD_PARTS[0], HEAD_PARTS[1]];
}

impl WireKind for CpuHead {
    const C: (&'static str, &'static str) = ("struct ebrec_head", "");
}

/// Builder of heads without a task.
#[derive(Default)]
pub struct CpuHeadBuilder {
    ts: Numbers<TimestampNanosecondType>,
    cpu: Numbers<Int32Type>,
}

impl Build<wire::Head> for CpuHeadBuilder {
    fn append(&mut self, head: &wire::Head, context: &mut Context<'_>) {
        self.ts.push((head.ts as i64).wrapping_add(context.boot_to_utc_ns));
        self.cpu.push(i32::from(head.cpu));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.ts.take().with_timezone("UTC")));
        out.push(Arc::new(self.cpu.take()));
    }
}

/// What a request for block I/O begins with: `ts, cpu` and the task that made it, if that was within the window.
#[derive(Debug)]
pub struct BlockHead;

impl Kind for BlockHead {
    type Value = wire::Head;
    type Builder = MaybeHeadBuilder;
    const PARTS: Parts = &[
        (
            "ts",
            "When it was inserted into a queue; if it never was, or before the window, when it was issued; if that was before the window, too, when it was completed; if it never was, the window's beginning. UTC.",
            &SORTED_TIMESTAMP,
        ),
        ("cpu", "Processor that this happened on.", &KNOWN_CPU),
        (
            "pid",
            "Process that made it (the kernel's tgid); for writeback, a kernel thread. Null: made before recording was prepared.",
            &PID,
        ),
        ("tid", TASK_TID, &TID),
        ("comm", TASK_COMM, &COMM),
        ("process_id", TASK_PROCESS_ID, &PROCESS_ID),
    ];
}

impl WireKind for BlockHead {
    const C: (&'static str, &'static str) = ("struct ebrec_head", "");
}

/// What an event that concerns two tasks begins with: `ts, cpu` and the acting one, which may be the one that has no name here.
#[derive(Debug)]
pub struct PairHead;

impl Kind for PairHead {
    type Value = wire::Head;
    type Builder = MaybeHeadBuilder;
    const PARTS: Parts = &[
        HEAD_PARTS[0],
        HEAD_PARTS[1],
        (
            "pid",
            "Process id (the kernel's tgid); 0 is the idle task. Null: the recorder itself, or a task that the filters leave out.",
            &PID,
        ),
        ("tid", TASK_TID, &TID),
        ("comm", TASK_COMM, &COMM),
        ("process_id", TASK_PROCESS_ID, &PROCESS_ID),
    ];
}

impl WireKind for PairHead {
    const C: (&'static str, &'static str) = ("struct ebrec_head", "");
}

/// Builder of heads whose task may be unknown.
#[derive(Default)]
pub struct MaybeHeadBuilder(HeadBuilder);

impl Build<wire::Head> for MaybeHeadBuilder {
    fn append(&mut self, head: &wire::Head, context: &mut Context<'_>) {
        self.0.push(head, context);
        self.0.task.push(&head.task);
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        self.0.take(false, out);
    }
}

/// Builder of heads.
#[derive(Default)]
pub struct HeadBuilder {
    ts: Numbers<TimestampNanosecondType>,
    cpu: Numbers<Int32Type>,
    task: TaskBuilder,
}

impl HeadBuilder {
    #[inline]
    fn push(&mut self, head: &wire::Head, context: &Context<'_>) {
        self.ts.push((head.ts as i64).wrapping_add(context.boot_to_utc_ns));
        self.cpu.push(i32::from(head.cpu));
    }

    fn take(&mut self, always_known: bool, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.ts.take().with_timezone("UTC")));
        out.push(Arc::new(self.cpu.take()));
        self.task.take(always_known, out);
    }
}

impl Build<wire::Head> for HeadBuilder {
    #[inline]
    fn append(&mut self, head: &wire::Head, context: &mut Context<'_>) {
        self.push(head, context);
        self.task.push(&head.task);
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        self.take(true, out);
    }
}

/// What every event of a TCP connection begins with: `ts, cpu`, the connection's owner, `conn_id`.
///
/// An interrupt that moves a connection's state can't tell whose it is, and an accepted connection has no owner before
/// `accept` returns. So the owner is looked up when the batch is finished, from whichever record told it.
#[derive(Debug)]
pub struct ConnHead;

impl Kind for ConnHead {
    type Value = wire::ConnHead;
    type Builder = ConnHeadBuilder;
    const PARTS: Parts = &[
        HEAD_PARTS[0],
        HEAD_PARTS[1],
        ("pid", "Process that owns the connection (the kernel's tgid).", &PID),
        ("tid", "Thread of it that connected, accepted, or first used the connection.", &TID),
        ("comm", "Name of that thread then.", &COMM),
        ("process_id", TASK_PROCESS_ID, &PROCESS_ID),
        ("conn_id", "Number of the connection, unique within the capture.", &CONN_ID),
    ];
}

impl WireKind for ConnHead {
    const C: (&'static str, &'static str) = ("struct ebrec_conn_head", "");
}

/// Builder of connection heads.
#[derive(Default)]
pub struct ConnHeadBuilder {
    head: HeadBuilder,
    /// Tasks are added only at the end, when owners are known.
    tasks: Vec<WireTask>,
    conn_id: Vec<u64>,
}

impl Build<wire::ConnHead> for ConnHeadBuilder {
    fn append(&mut self, value: &wire::ConnHead, context: &mut Context<'_>) {
        let task = value.head.task;
        if task.is_known() {
            context.resolver.note_owner(value.conn_id, &task);
        }
        self.head.push(&value.head, context);
        self.tasks.push(task);
        self.conn_id.push(value.conn_id);
    }

    fn finish(&mut self, context: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        for (task, &conn_id) in self.tasks.drain(..).zip(&self.conn_id) {
            let known = if task.is_known() { None } else { context.resolver.owner(conn_id) };
            self.head.task.push(&known.unwrap_or(task));
        }
        self.head.take(false, out);
        let mut conn_id = Numbers::<Int64Type>::default();
        self.conn_id.drain(..).for_each(|id| conn_id.push_option((id != NULL64).then_some(id as i64)));
        out.push(Arc::new(conn_id.take()));
    }
}
