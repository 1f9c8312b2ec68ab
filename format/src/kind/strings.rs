//! Names, paths and arguments.

use super::columns::{Interned, Numbers};
use super::info::{FLAG, PATH, STRINGS, SYSCALL_NR, TEXT};
use super::{Build, Context, Kind, Parts, WireKind};
use crate::syscalls::Arch;
use crate::text;
use arrow::array::{ArrayBuilder, ArrayRef, BooleanBuilder, GenericListArray, ListBuilder, StringBuilder};
use arrow::datatypes::Int32Type;
use std::sync::Arc;

/// Tail of an exec: the file's name and NUL, then the arguments, each ended by NUL: columns `filename, args`.
#[derive(Debug)]
pub struct Exec;

impl Kind for Exec {
    type Value = [u8];
    type Builder = ExecBuilder;
    const PARTS: Parts = &[
        ("filename", "File to execute, as the caller named it.", &PATH),
        ("args", "The arguments, the program's name first; for a script, its interpreter's, as ps shows them. Null: unreadable.", &STRINGS),
    ];
}

/// Builder of exec tails.
#[derive(Default)]
pub struct ExecBuilder {
    filename: StringBuilder,
    args: ListBuilder<StringBuilder>,
}

impl Build<[u8]> for ExecBuilder {
    fn append(&mut self, tail: &[u8], _: &mut Context<'_>) {
        let end = tail.iter().position(|&b| b == 0);
        self.filename.append_option(end.map(|end| text::escape(&tail[..end])));
        append_strings(&mut self.args, end.and_then(|end| tail.get(end + 1..)));
    }

    fn bytes(&self) -> usize {
        self.filename.values_slice().len() + bytes_of_list(&self.args)
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.filename.finish()));
        out.push(Arc::new(finish_list(&mut self.args)));
    }
}

/// Appends NUL-ended strings as one list; nothing at all is null, because every program has at least a name.
fn append_strings(list: &mut ListBuilder<StringBuilder>, strings: Option<&[u8]>) {
    let strings = strings.filter(|s| !s.is_empty());
    if let Some(strings) = strings {
        let strings = strings.strip_suffix(b"\0").unwrap_or(strings);
        for arg in strings.split(|&b| b == 0) {
            list.values().append_value(text::escape(arg));
        }
    }
    list.append(strings.is_some());
}

/// What a list's texts take, and where each ends.
fn bytes_of_list(list: &ListBuilder<StringBuilder>) -> usize {
    let texts = list.values_ref();
    texts.values_slice().len() + texts.len() * size_of::<i32>()
}

fn finish_list(list: &mut ListBuilder<StringBuilder>) -> GenericListArray<i32> {
    list.finish()
}

/// A system call: columns `name, nr`. The value is its number on the architecture of the recorder.
#[derive(Debug)]
pub struct SyscallNr;

impl Kind for SyscallNr {
    type Value = u32;
    type Builder = SyscallBuilder;
    const PARTS: Parts = &[
        ("name", "The call by its name; `syscall_NNN` is one that this version doesn't know.", &TEXT),
        ("nr", "Its number on this architecture.", &SYSCALL_NR),
    ];
}

impl WireKind for SyscallNr {
    const C: (&'static str, &'static str) = ("__u32", "");
}

/// Builder of system calls.
#[derive(Default)]
pub struct SyscallBuilder {
    name: Interned<u32>,
    nr: Numbers<Int32Type>,
}

impl Build<u32> for SyscallBuilder {
    fn append(&mut self, nr: &u32, _: &mut Context<'_>) {
        self.name.push(*nr, || Some(Arch::own().name(*nr)));
        self.nr.push(*nr as i32);
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.name.take()));
        out.push(Arc::new(self.nr.take()));
    }
}

/// A short name of something in the kernel, NUL-padded; longer ones are cut.
#[derive(Debug, Default)]
pub struct ShortName(Interned<[u8; 32]>);

impl Kind for ShortName {
    type Value = [u8; 32];
    type Builder = ShortName;
    const PARTS: Parts = &[("", "", &TEXT)];
}

impl WireKind for ShortName {
    const C: (&'static str, &'static str) = ("char", "[32]");
}

impl Build<[u8; 32]> for ShortName {
    fn append(&mut self, name: &[u8; 32], _: &mut Context<'_>) {
        self.0.push(*name, || (name[0] != 0).then(|| text::c_str(name).into_owned()));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.0.take()));
    }
}

/// What `/proc` says of a process that existed at the start: columns `args, cgroup, args_truncated`. The value is its pid.
#[derive(Debug)]
pub struct ProcPid;

impl Kind for ProcPid {
    type Value = u32;
    type Builder = ProcBuilder;
    const PARTS: Parts = &[
        (
            "args",
            "The arguments (/proc/PID/cmdline), up to 16 KiB of them; once for each process, in the row of its first thread. Null: another thread, a thread of the kernel, or not readable any more.",
            &STRINGS,
        ),
        (
            "cgroup",
            "Path of its cgroup in the v2 hierarchy (/proc/PID/cgroup). Null: not readable any more, or there is no such hierarchy.",
            &PATH,
        ),
        ("args_truncated", "Whether there were more arguments than are recorded. Null where `args` is.", &FLAG),
    ];
}

impl WireKind for ProcPid {
    const C: (&'static str, &'static str) = ("__u32", "");
}

/// Builder of process details.
#[derive(Default)]
pub struct ProcBuilder {
    args: ListBuilder<StringBuilder>,
    cgroup: StringBuilder,
    truncated: BooleanBuilder,
}

impl Build<u32> for ProcBuilder {
    fn append(&mut self, pid: &u32, context: &mut Context<'_>) {
        let details = context.resolver.process(*pid);
        let cmdline = details.cmdline.filter(|(bytes, _)| !bytes.is_empty());
        append_strings(&mut self.args, cmdline.as_ref().map(|(bytes, _)| bytes.as_slice()));
        self.cgroup.append_option(details.cgroup);
        self.truncated.append_option(cmdline.map(|(_, more)| more));
    }

    fn bytes(&self) -> usize {
        bytes_of_list(&self.args) + self.cgroup.values_slice().len()
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(finish_list(&mut self.args)));
        out.push(Arc::new(self.cgroup.finish()));
        out.push(Arc::new(self.truncated.finish()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{NoResolver, ProcessDetails, Resolver};
    use arrow::array::{Array, AsArray};

    /// Knows one process.
    struct One;

    impl Resolver for One {
        fn process(&mut self, pid: u32) -> ProcessDetails {
            let cmdline = (pid == 7).then(|| (b"sh\0-c\0".to_vec(), true));
            ProcessDetails { cmdline, cgroup: Some("/a".into()) }
        }
    }

    #[test]
    fn a_process_that_is_gone_has_nulls() {
        let mut builder = ProcBuilder::default();
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut One };
        builder.append(&7, &mut context);
        builder.append(&8, &mut context);
        builder.append(&9, &mut Context { boot_to_utc_ns: 0, resolver: &mut NoResolver });
        let mut out = Vec::new();
        builder.finish(&mut context, &mut out);
        let nulls = |column: usize| (0..3).map(|row| out[column].is_null(row)).collect::<Vec<_>>();
        assert_eq!((nulls(0), nulls(1), nulls(2)), (vec![false, true, true], vec![false, false, true], vec![false, true, true]));
        assert_eq!(out[0].as_list::<i32>().value(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("sh"), Some("-c")]);
        assert!(out[2].as_boolean().value(0));
    }

    #[test]
    fn texts_count_as_bytes() {
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        let mut builder = ExecBuilder::default();
        builder.append(b"/bin/true\0true\0\xff\xff\0", &mut context);
        // Escaped, as they are stored.
        assert!(builder.bytes() >= 9 + 4 + 8);
        builder.finish(&mut context, &mut Vec::new());
        assert_eq!(builder.bytes(), 0);
    }
}
