//! The cgroups that there are at the start; those that are made later are told of by the kernel.

use crate::tongs;
use anyhow::{Context, Result};
use ebrec_format::events;
use ebrec_format::events::process::Cgroup;
use ebrec_format::table::Row;
use ebrec_format::wire::{Head, Task};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// More are not looked at: a host with so many has another problem, and each takes a few microseconds.
const MOST: usize = 20_000;

/// Records of the cgroups of the v2 hierarchy, as the kernel would write them; `ts`, boot clock, is the start of the window.
pub fn records(ts: u64) -> Result<Vec<u8>> {
    let mountinfo = tongs::system_text("/proc/self/mountinfo").unwrap_or_default();
    let Some((mount, _)) = crate::usage::cgroup_mount(&mountinfo, Path::new("/sys/fs/cgroup")) else { return Ok(Vec::new()) };
    let table = events::tables().position(|table| table.name == Cgroup::table().name).context("an undeclared table")?;
    let mut records = Vec::new();
    let mut left = vec![PathBuf::new()];
    let mut seen = 0;
    while let Some(below) = left.pop() {
        let directory = mount.join(&below);
        let Ok(metadata) = directory.metadata() else { continue };
        put(&mut records, ts, table as u16, metadata.ino(), &below);
        seen += 1;
        for name in tongs::directories(&directory) {
            if seen + left.len() < MOST {
                left.push(below.join(name));
            }
        }
    }
    Ok(records)
}

/// A record, and what fills it up to a multiple of 8.
fn put(records: &mut Vec<u8>, ts: u64, table: u16, id: u64, below: &Path) {
    let path = [b"/", below.as_os_str().as_bytes(), b"\0"].concat();
    let size = size_of::<Cgroup>() + path.len();
    let head = Head { ts, size: size as u32, cpu: 0, table, task: Task::UNKNOWN };
    records.extend_from_slice(Cgroup { head, cgroup_id: id }.as_bytes());
    records.extend_from_slice(&path);
    records.resize(records.len().next_multiple_of(8), 0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use ebrec_format::kind::NoResolver;

    #[test]
    fn every_record_is_a_row() {
        let records = records(7).unwrap();
        let mut sink = (Cgroup::table().builder)();
        let mut context = ebrec_format::kind::Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        let mut at = 0;
        while at < records.len() {
            let size = u32::from_ne_bytes(records[at + 8..at + 12].try_into().unwrap()) as usize;
            assert!(sink.append_record(&records[at..at + size], &mut context));
            at += size.next_multiple_of(8);
        }
        // Where cgroup v2 is mounted there is a root.
        let mounted = tongs::system_text("/proc/self/mountinfo").unwrap().contains(" - cgroup2 ");
        assert_eq!(sink.rows() > 0, mounted);
    }
}
