//! What only the host or the whole stream can tell: the owners of connections, and /proc.

use ebrec_format::kind::Resolver;
use ebrec_format::wire::Task;
use std::collections::HashMap;

/// Owners of connections are forgotten when this many newer ones are known, twice over.
const GENERATION: usize = 128 * 1024;

/// The recorder's resolver.
#[derive(Debug, Default)]
pub struct HostResolver {
    young: HashMap<u64, Task>,
    old: HashMap<u64, Task>,
}

impl HostResolver {
    /// Bounds the memory: forgets the older half when there are too many.
    pub fn age(&mut self) {
        if self.young.len() > GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

impl Resolver for HostResolver {
    fn note_owner(&mut self, conn_id: u64, owner: &Task) {
        // The first that was told stays: connect and accept come before any use by others.
        self.young.entry(conn_id).or_insert(*owner);
        if self.young.len() > 2 * GENERATION {
            self.age();
        }
    }

    fn owner(&mut self, conn_id: u64) -> Option<Task> {
        self.young.get(&conn_id).or_else(|| self.old.get(&conn_id)).copied()
    }

    fn cmdline(&mut self, pid: u32) -> Option<Vec<u8>> {
        std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty())
    }

    fn cgroup_path(&mut self, pid: u32) -> Option<String> {
        let text = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
        Some(ebrec_format::text::escape(line).into_owned())
    }
}
