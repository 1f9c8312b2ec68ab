//! The sample's part about files, disks and names: rows whose columns come from a record's tail or from another record included.

use super::{Builder, SECOND, START, ends, head, task};
use ebrec_format::events::{block, dns, fault, file, host, open, page_cache};
use ebrec_format::kind::{Context, FileInfo, Resolver};
use ebrec_format::segment;
use ebrec_format::table::WireRow;
use ebrec_format::wire::{NULL32, NULL64, Task};
use std::sync::Arc;
use zerocopy::{Immutable, IntoBytes};

const MS: u64 = 1_000_000;

/// Knows a directory and five files by their numbers.
struct Files;

const FILES: [(u64, &str, u64, &str); 6] = [
    (2, "ext4", 12, "/var/lib/data.db"),
    (3, "ext4", 13, "/var/log/web.log"),
    (4, "xfs", 12, "/srv/a b"),
    (5, "btrfs", 257, "/data/x"),
    (6, "ext4", 2, "/home/u"),
    (7, "nfs4", 99, "/mnt/nfs/y"),
];

impl Resolver for Files {
    fn file(&mut self, id: u64) -> Option<Arc<FileInfo>> {
        let (_, fs, inode, path) = FILES.iter().find(|(number, ..)| *number == id)?;
        let dev = if *fs == "ext4" { "8:1" } else { "8:2" };
        let text = |text: &str| Some(text.to_owned());
        Some(Arc::new(FileInfo { fs: text(fs), dev: text(dev), inode: Some(*inode), path: text(path) }))
    }
}

/// Adds a segment with these records and their tails.
fn records<R: WireRow + IntoBytes + Immutable>(mut builder: Builder, rows: &[(R, Vec<u8>)]) -> Builder {
    let table = R::table();
    let mut context = Context { boot_to_utc_ns: START, resolver: &mut Files };
    let mut sink = (table.builder)();
    for (row, tail) in rows {
        assert!(sink.append_record(&[row.as_bytes(), tail].concat(), &mut context));
    }
    builder.manifest.tables.entry(table.name.to_owned()).or_default().rows += rows.len() as u64;
    builder.raw(&format!("{}/0-0.parquet", table.name), segment::encode(table, &[sink.finish(&mut context)]).unwrap())
}

/// The same without tails.
fn plain<R: WireRow + IntoBytes + Immutable>(builder: Builder, rows: Vec<R>) -> Builder {
    records(builder, &rows.into_iter().map(|row| (row, Vec::new())).collect::<Vec<_>>())
}

const O_CREAT: u32 = 0o100;

/// A row of `file_open`, which makes the file if it says `O_CREAT`; the path leads on from the directory with number `base`, 1 is the root.
fn opened(
    ts: u64,
    task: Task,
    uid: u32,
    (flags, mode): (u32, u32),
    (fd, errno): (u32, u32),
    (base, path): (u64, &str),
) -> (open::FileOpen, Vec<u8>) {
    let row = open::FileOpen {
        head: head(ts, task),
        latency_ns: 4_000,
        uid,
        flags,
        mode,
        fd,
        errno,
        is_new: u32::from(flags & O_CREAT != 0 && errno == 0),
        outcome: u32::from(errno != 0),
        pad: 0,
    };
    (row, [&base.to_ne_bytes()[..], path.as_bytes(), b"\0"].concat())
}

/// A row of `file_unlink`.
fn unlinked(ts: u64, task: Task, errno: u32, (base, path): (u64, &str)) -> (open::FileUnlink, Vec<u8>) {
    let row = open::FileUnlink { head: head(ts, task), latency_ns: 9_000, errno, outcome: u32::from(errno != 0) };
    (row, [&base.to_ne_bytes()[..], path.as_bytes(), b"\0"].concat())
}

/// A row of `file_io`: `op` and `call` by their places, `bytes` of `requested`.
fn file_io(
    ts: u64,
    task: Task,
    (op, call): (u32, u32),
    file: u64,
    offset: u64,
    (requested, bytes): (u64, u64),
    latency: u64,
) -> file::FileIo {
    file::FileIo {
        head: head(ts, task),
        op: op << 16 | call,
        errno: 0,
        file,
        offset,
        requested_bytes: requested,
        bytes,
        latency_ns: latency,
    }
}

/// A request to a disk: operation and flags by their numbers.
fn request(ts: u64, task: Task, (op, flags): (u32, u32), sector: u64, bytes: u64, queued: u64, latency: u64) -> block::BlockIo {
    let mut disk = [0; 32];
    disk[..3].copy_from_slice(b"sda");
    block::BlockIo {
        head: head(ts, task),
        sector,
        bytes,
        queued_ns: queued,
        latency_ns: latency,
        disk,
        dev: 8 << 20 | 1,
        op,
        flags,
        error: if latency == NULL64 { NULL32 } else { 0 },
        layer: 0,
        pad: 0,
    }
}

/// What the device mapper gets on its way to the disk.
fn bio(mut row: block::BlockIo) -> block::BlockIo {
    row.disk = [0; 32];
    row.disk[..4].copy_from_slice(b"dm-0");
    row.dev = 254 << 20;
    row.layer = 1;
    row.queued_ns = NULL64;
    row
}

fn lookup(ts: u64, task: Task, function: u32, result: i32, latency: u64, host: &str) -> (dns::DnsLookup, Vec<u8>) {
    let row = dns::DnsLookup { head: head(ts, task), latency_ns: latency, result, function };
    let tail = [&(host.len() as u16).to_ne_bytes()[..], &u16::MAX.to_ne_bytes(), host.as_bytes()].concat();
    (row, tail)
}

/// A DNS message (RFC 1035) about the A record of `name`, with as many answers as there are addresses.
fn message(name: &str, flags: u16, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [77, flags, 1, addresses.len() as u16, 0, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    for address in addresses {
        // The name of the question, type A, class IN, an hour, four bytes.
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4]);
        out.extend_from_slice(address);
    }
    out
}

fn query(ts: u64, task: Task, question: &[u8], answer: &[u8], latency: u64, attempts: u32) -> (dns::DnsQuery, Vec<u8>) {
    let response_bytes = if answer.is_empty() { NULL32 } else { answer.len() as u32 };
    let row = dns::DnsQuery {
        head: head(ts, task),
        ends: ends(50_000, 53),
        latency_ns: latency,
        protocol: 17,
        attempts,
        request_bytes: question.len() as u32,
        response_bytes,
        // Of an answer, the code is in the fourth byte.
        outcome: answer.get(3).map_or(3, |byte| u32::from(byte & 15 != 0)),
        pad: 0,
    };
    (row, [&(question.len() as u16).to_ne_bytes()[..], question, answer].concat())
}

fn cache(ts: u64, task: Task, accesses: u32, misses: u32, dirtied: u32) -> page_cache::PageCache {
    page_cache::PageCache {
        head: head(ts, task),
        interval_ns: 100 * MS,
        accesses,
        misses,
        readahead: 8,
        fault_misses: 0,
        added: misses + 8,
        dirtied,
    }
}

/// Adds the rows.
pub fn add(builder: Builder) -> Builder {
    let (sh, web, curl) = (task(100, 100, "sh"), task(200, 201, "web"), task(300, 300, "curl"));
    let builder = records(
        builder,
        &[
            opened(SECOND, sh, 1000, (0o2_000_000, NULL32), (3, 0), (1, "/etc/passwd")),
            opened(2 * SECOND, curl, 0, (0, NULL32), (NULL32, 2), (6, "missing")),
            // Below a directory that nobody told.
            opened(3 * SECOND, web, 33, (0o2_101, 0o644), (7, 0), (8, "./web.log")),
            opened(4 * SECOND, web, 33, (0o302, 0o600), (8, 0), (6, "tmp/upload")),
            opened(5 * SECOND, sh, 0, (0o301, 0o600), (NULL32, 17), (1, "/home/u/tmp/upload")),
        ],
    );
    let builder = records(
        builder,
        &[
            unlinked(SECOND, sh, 0, (1, "/home/u/older")),
            unlinked(2 * SECOND, web, 2, (6, "tmp/upload")),
            unlinked(5 * SECOND + 250 * MS, sh, 0, (1, "/home/u/tmp/upload")),
            // Once it is gone, the same name is another file.
            unlinked(7 * SECOND, sh, 0, (1, "/home/u/tmp/upload")),
        ],
    );
    let (read, pread, write, open, fsync, truncate) = ((1, 1), (1, 3), (2, 2), (3, 16), (4, 18), (5, 22));
    let failed = |row: file::FileIo, errno| file::FileIo { errno, ..row };
    let builder = plain(
        builder,
        vec![
            file_io(SECOND, sh, open, 2, NULL64, (NULL64, NULL64), 20 * MS),
            file_io(SECOND + MS, sh, read, 2, 0, (65_536, 4096), 12_345_678),
            file_io(2 * SECOND, sh, pread, 2, 8192, (8192, 8192), 500_000),
            failed(file_io(3 * SECOND, sh, read, 2, 1 << 20, (4096, 0), 15 * MS), 5),
            file_io(4 * SECOND, web, write, 3, 100, (300, 300), 900),
            file_io(6 * SECOND, web, write, 3, 400, (3000, 3000), 11 * MS),
            file_io(6 * SECOND + MS, web, fsync, 3, NULL64, (NULL64, NULL64), 250 * MS),
            file_io(7 * SECOND, curl, write, 4, 0, (1 << 20, 1 << 20), 31 * MS),
            file_io(8 * SECOND, curl, truncate, 4, 2048, (NULL64, NULL64), 10_500_000),
            file_io(9 * SECOND, sh, write, 5, 1 << 30, (4096, 4096), 10 * MS + 1),
            file_io(9 * SECOND + MS, curl, pread, 7, 4096, (4096, 4096), 12 * MS),
            // It began before the window: nobody knows how long it took.
            file_io(9 * SECOND, web, read, 9, 0, (100, 100), NULL64),
        ],
    );
    let (readahead, sync_write, fua_write, flush) = ((0, 1 << 5), (1, 1), (1, 0b1001), (2, 1 << 4));
    let builder = plain(
        builder,
        vec![
            request(SECOND, sh, readahead, 2048, 131_072, 50_000, 2 * MS),
            request(2 * SECOND, web, sync_write, 4096, 4096, 10 * MS, 400_000),
            // Made later, completed earlier.
            request(2 * SECOND + MS, web, fua_write, 8192, 1536, 1_000, 300_000),
            request(3 * SECOND, web, flush, NULL64, 0, NULL64, 5 * MS),
            bio(request(6 * SECOND, curl, (1, 0), 512, 1 << 20, NULL64, 3 * MS)),
            request(6 * SECOND + 1_000, curl, (1, 0), 2560, 1 << 20, 200_000, 2_500_000),
            request(6 * SECOND + 2_000, curl, (3, 1), 1 << 33, 1 << 30, 0, 700_000),
            // Of the first the kernel knows no beginning, of the second no end.
            block::BlockIo { error: 0, ..request(7 * SECOND, Task::UNKNOWN, (0, 0), 100, 4096, NULL64, NULL64) },
            request(9 * SECOND, sh, (0, 0), 200, 8192, 1_000, NULL64),
        ],
    );
    let disk = |name: &str, dev: &str| host::Disk {
        name: Some(name.to_owned()),
        dev: Some(dev.to_owned()),
        size_bytes: 1 << 40,
        rotational: 0,
        scheduler: Some("mq-deadline".to_owned()),
        model: None,
    };
    let builder = builder.rows(&[disk("sda", "8:0")]);
    let builder = records(
        builder,
        &[
            lookup(2 * SECOND, curl, 0, 0, 12_345_678, "example.com"),
            lookup(3 * SECOND, curl, 1, 1, 1_500_000, "no.example.com"),
            lookup(4 * SECOND, web, 0, i32::MIN, NULL64, "slow.example.com"),
        ],
    );
    let (good, bad) = (message("example.com", 0x0100, &[]), message("no.example.com", 0x0100, &[]));
    let builder = records(
        builder,
        &[
            query(2 * SECOND + MS, curl, &good, &message("example.com", 0x8180, &[[192, 0, 2, 1], [192, 0, 2, 2]]), 11 * MS, 1),
            query(3 * SECOND + MS, curl, &bad, &message("no.example.com", 0x8183, &[]), 1_250_000, 1),
            query(4 * SECOND + MS, web, &bad, &[], NULL64, 3),
        ],
    );
    let builder =
        plain(builder, vec![fault::MajorFault { head: head(4 * SECOND, web), address: 0x5555_0000_1000, ip: 0xffff_ffff_8100_0000 }]);
    plain(builder, vec![cache(SECOND, sh, 100, 25, 3), cache(SECOND + 100 * MS, web, 50, 0, 10), cache(6 * SECOND, sh, 7, 7, 0)])
}
