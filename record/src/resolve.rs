//! What only the whole stream can tell: the owners of connections, and files by their numbers.

use ebrec_format::kind::{FileInfo, Resolver};
use ebrec_format::wire::Task;
use std::collections::HashMap;
use std::sync::Arc;

/// Owners of connections are forgotten when this many newer ones are known, twice over.
const GENERATION: usize = 128 * 1024;
/// Files are forgotten when others that take this much memory were used since, twice over. More than the kernel side remembers
/// (`told_files` of bpf/files.h): what it doesn't tell again is still known here.
const FILES_BYTES: usize = 12 << 20;
/// What a file takes besides its texts.
const FILE_BYTES: usize = 160;

/// The recorder's resolver.
#[derive(Debug, Default)]
pub struct HostResolver {
    young: HashMap<u64, Task>,
    old: HashMap<u64, Task>,
    files: Files,
}

/// Files by number, in two generations: what is used stays.
#[derive(Debug, Default)]
struct Files {
    young: HashMap<u64, Arc<FileInfo>>,
    young_bytes: usize,
    old: HashMap<u64, Arc<FileInfo>>,
}

impl Files {
    fn put(&mut self, id: u64, file: Arc<FileInfo>) {
        self.young_bytes += FILE_BYTES + file.path.as_ref().map_or(0, String::len);
        self.young.insert(id, file);
        if self.young_bytes > FILES_BYTES {
            self.young_bytes = 0;
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn get(&mut self, id: u64) -> Option<Arc<FileInfo>> {
        if let Some(file) = self.young.get(&id) {
            return Some(file.clone());
        }
        let file = self.old.remove(&id)?;
        self.put(id, file.clone());
        Some(file)
    }
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

    fn note_file(&mut self, id: u64, file: FileInfo) {
        self.files.put(id, Arc::new(file));
    }

    fn file(&mut self, id: u64) -> Option<Arc<FileInfo>> {
        self.files.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_use_is_not_forgotten() {
        let mut host = HostResolver::default();
        let file = |n: u64| FileInfo { path: Some(format!("/{n:01000}")), ..FileInfo::default() };
        host.note_file(1, file(1));
        let many = (4 * FILES_BYTES / 1000) as u64;
        for id in 2..many {
            host.note_file(id, file(id));
            if id % 1000 == 0 {
                assert_eq!(host.file(1).as_deref(), Some(&file(1)));
            }
        }
        assert_eq!(host.file(2), None);
        assert!(host.files.young.len() + host.files.old.len() <= 2 * FILES_BYTES / 1000 + 1);
    }
}
