//! Prints `bpf/events.h`, the C side of the event declarations.

use crate::events;
use crate::table::Origin;
use crate::wire::{ConnHead, Endpoints, File, Head, Task};
use std::fmt::Write;
use std::mem::offset_of;

/// The whole header.
pub fn c_header() -> String {
    let mut h = String::from(PROLOGUE);
    let _ = writeln!(h, "enum ebrec_table {{");
    for (id, table) in events::tables().enumerate().filter(|(_, table)| table.origin == Origin::Kernel) {
        let _ = writeln!(h, "\tEBREC_{} = {id},", table.name.to_uppercase());
    }
    let _ = writeln!(h, "\tEBREC_TABLES = {},\n}};\n", events::tables().count());
    for (name, size, fields) in shared_structs() {
        for (field, offset) in fields {
            let _ = writeln!(h, "_Static_assert(__builtin_offsetof(struct {name}, {field}) == {offset}, \"{name}.{field}\");");
        }
        let _ = writeln!(h, "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");");
    }
    for table in events::tables() {
        let Some(c) = (table.c_struct)() else { continue };
        let name = format!("ebrec_{}", table.name);
        let _ = writeln!(h, "\n/*{} */\nstruct {name} {{", wrap(table.doc));
        for field in &c.fields {
            let _ = writeln!(h, "\t{} {}{}; /*{} */", field.c.0, field.name, field.c.1, field.doc);
        }
        let _ = writeln!(h, "}};");
        if let Some((tail, doc)) = c.tail {
            let _ = writeln!(h, "/* Followed by the variable-length field {tail}:{doc} */");
        }
        for field in &c.fields {
            let _ = writeln!(
                h,
                "_Static_assert(__builtin_offsetof(struct {name}, {}) == {}, \"{name}.{}\");",
                field.name, field.offset, field.name
            );
        }
        let _ = writeln!(h, "_Static_assert(sizeof(struct {name}) == {}, \"{name}\");", c.size);
    }
    h.push_str("\n#endif\n");
    h
}

fn wrap(doc: &str) -> String {
    doc.replace("*/", "* /")
}

const PROLOGUE: &str = "\
/* Generated from format/src/events/ by `EBREC_BLESS=1 cargo test -p ebrec-format`; do not edit. */
/* clang-format off */
#ifndef EBREC_EVENTS_H
#define EBREC_EVENTS_H

/* Values that mean \"the kernel can't tell\". */
#define EBREC_NULL32 ((__u32)-1)
#define EBREC_NULL64 ((__u64)-1)

/* A task; pid is EBREC_NULL32 where it isn't known. */
struct ebrec_task {
\t__u64 start; /* group_leader->start_boottime, ns */
\t__u32 pid; /* the kernel's tgid */
\t__u32 tid; /* the kernel's pid */
\tchar comm[16];
};

/* What every record begins with. */
struct ebrec_head {
\t__u64 ts; /* CLOCK_BOOTTIME, ns */
\t__u32 size; /* bytes of the whole record, tail included */
\t__u16 cpu;
\t__u16 table; /* enum ebrec_table */
\tstruct ebrec_task task;
};

/* The head of a record about a TCP connection; the task is its owner. */
struct ebrec_conn_head {
\tstruct ebrec_head head;
\t__u64 conn_id;
};

/* Both ends of a connection. */
struct ebrec_endpoints {
\t__u8 laddr[16]; /* network byte order, IPv4 as ::ffff:a.b.c.d */
\t__u8 raddr[16];
\t__u32 netns;
\t__u16 lport; /* host byte order */
\t__u16 rport; /* 0: not known yet */
};

/* What a file's number stands for. Its names follow. */
struct ebrec_file {
\t__u64 id;
\t__u64 base; /* 0: names of the file and the directories above it, each with its NUL; else a path from the directory of this number */
\t__u64 inode;
\t__u32 dev; /* as the kernel packs it */
\t__u32 has_names; /* 0: it has more names than could be told */
\tchar fs[16]; /* type of the file system */
};

";

type Offsets = Vec<(&'static str, usize)>;

/// The structs of the prologue with the sizes and offsets that Rust gives them.
fn shared_structs() -> [(&'static str, usize, Offsets); 5] {
    [
        (
            "ebrec_task",
            size_of::<Task>(),
            vec![
                ("start", offset_of!(Task, start)),
                ("pid", offset_of!(Task, pid)),
                ("tid", offset_of!(Task, tid)),
                ("comm", offset_of!(Task, comm)),
            ],
        ),
        (
            "ebrec_head",
            size_of::<Head>(),
            vec![
                ("ts", offset_of!(Head, ts)),
                ("size", offset_of!(Head, size)),
                ("cpu", offset_of!(Head, cpu)),
                ("table", offset_of!(Head, table)),
                ("task", offset_of!(Head, task)),
            ],
        ),
        ("ebrec_conn_head", size_of::<ConnHead>(), vec![("head", offset_of!(ConnHead, head)), ("conn_id", offset_of!(ConnHead, conn_id))]),
        (
            "ebrec_endpoints",
            size_of::<Endpoints>(),
            vec![
                ("laddr", offset_of!(Endpoints, laddr)),
                ("raddr", offset_of!(Endpoints, raddr)),
                ("netns", offset_of!(Endpoints, netns)),
                ("lport", offset_of!(Endpoints, lport)),
                ("rport", offset_of!(Endpoints, rport)),
            ],
        ),
        (
            "ebrec_file",
            size_of::<File>(),
            vec![
                ("id", offset_of!(File, id)),
                ("base", offset_of!(File, base)),
                ("inode", offset_of!(File, inode)),
                ("dev", offset_of!(File, dev)),
                ("has_names", offset_of!(File, has_names)),
                ("fs", offset_of!(File, fs)),
            ],
        ),
    ]
}
