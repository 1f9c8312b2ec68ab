//! Files, and the paths to them.
//!
//! A record names a file by a number. What it stands for is told once, by a record of `file_path`; the resolver keeps it, and rows
//! find it when their batch is finished, from whichever record told it.

use super::columns::{Codes, Numbers, coded};
use super::info::{DEVICE, FS, INODE, PATH};
use super::{Build, Context, Kind, Parts, WireKind};
use crate::text;
use crate::wire::{self, NULL32, NULL64};
use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::Int64Type;
use std::sync::Arc;
use zerocopy::FromBytes;

/// The number of the root of a mount namespace, which has no name.
const ROOT: u64 = 1;

/// What is known of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// Type of its file system.
    pub fs: Option<String>,
    /// Device of its file system, major:minor.
    pub dev: Option<String>,
    /// Its inode.
    pub inode: Option<u64>,
    /// Its path, escaped.
    pub path: Option<String>,
}

impl FileInfo {
    /// Reads what `file_path` tells: a file's number, and what it stands for. `None` if it is too short.
    fn read(tail: &[u8], context: &mut Context<'_>) -> Option<(u64, FileInfo)> {
        let (file, names) = wire::File::read_from_prefix(tail).ok()?;
        let path = match (file.has_names, file.base) {
            (0, _) => None,
            (_, 0) => Some(path_of_names(names)),
            (_, base) => path_from(base, &text::c_str(names), context),
        };
        // major and minor as include/linux/kdev_t.h packs them.
        let dev = (file.dev != NULL32).then(|| format!("{}:{}", file.dev >> 20, file.dev & 0xf_ffff));
        let fs = text::c_str(&file.fs).into_owned();
        let inode = (file.inode != NULL64).then_some(file.inode);
        Some((file.id, FileInfo { fs: Some(fs).filter(|fs| !fs.is_empty()), dev, inode, path }))
    }
}

/// The path whose names stand in `names` from its end to its beginning.
fn path_of_names(names: &[u8]) -> String {
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    let mut path = String::with_capacity(names.len() + 1);
    for name in names.rsplit(|&byte| byte == 0) {
        path.push('/');
        path.push_str(&text::escape(name));
    }
    path
}

/// `path` as it leads on from the directory with number `base`. `.` and doubled slashes are left out; `..` stays, because where it
/// leads depends on symbolic links.
fn path_from(base: u64, path: &str, context: &mut Context<'_>) -> Option<String> {
    let mut whole = if base == ROOT { String::new() } else { context.resolver.file(base)?.path.clone()? };
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        if !whole.ends_with('/') {
            whole.push('/');
        }
        whole.push_str(name);
    }
    Some(if whole.is_empty() { "/".to_owned() } else { whole })
}

const FILE_PARTS: Parts = &[
    ("fs", "Type of its file system (ext4, tmpfs, overlay, …).", &FS),
    ("dev", "Device of its file system, major:minor; on btrfs and overlayfs, stat(2) may show another.", &DEVICE),
    ("inode", "Its inode.", &INODE),
    ("path", "Its path from the root of its mount namespace, when it was first used. Null: more than 64 directories deep.", &PATH),
];

/// A file by its number: columns `fs, dev, inode, path`.
#[derive(Debug)]
pub struct FileRef;

impl Kind for FileRef {
    type Value = u64;
    type Builder = FileRefBuilder;
    const PARTS: Parts = FILE_PARTS;
}

impl WireKind for FileRef {
    const C: (&'static str, &'static str) = ("__u64", "");
}

/// Columns of files.
#[derive(Default)]
struct FileColumns {
    fs: StringBuilder,
    dev: StringBuilder,
    inode: Numbers<Int64Type>,
    path: StringBuilder,
}

impl FileColumns {
    fn push(&mut self, file: &FileInfo) {
        self.fs.append_option(file.fs.as_deref());
        self.dev.append_option(file.dev.as_deref());
        self.inode.push_option(file.inode.map(|inode| inode as i64));
        self.path.append_option(file.path.as_deref());
    }

    fn take(&mut self, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.fs.finish()));
        out.push(Arc::new(self.dev.finish()));
        out.push(Arc::new(self.inode.take()));
        out.push(Arc::new(self.path.finish()));
    }
}

impl FileColumns {
    fn bytes(&self) -> usize {
        self.path.values_slice().len() + self.dev.values_slice().len() + self.fs.values_slice().len()
    }
}

/// Builder of files by number.
///
/// Each file's path stands in a batch once, however many rows name it: others choose how long it is.
#[derive(Default)]
pub struct FileRefBuilder {
    codes: Codes<u64>,
    ids: Vec<u64>,
}

impl Build<u64> for FileRefBuilder {
    #[inline]
    fn append(&mut self, id: &u64, _: &mut Context<'_>) {
        if self.codes.push(*id) {
            self.ids.push(*id);
        }
    }

    fn finish(&mut self, context: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        let rows = self.codes.take_rows();
        let unknown = Arc::new(FileInfo::default());
        let mut columns = FileColumns::default();
        for id in &self.ids {
            columns.push(&context.resolver.file(*id).unwrap_or_else(|| unknown.clone()));
        }
        let mut values = Vec::new();
        columns.take(&mut values);
        out.extend(values.into_iter().map(|values| Arc::new(coded(rows.clone(), values)) as ArrayRef));
        // A later record may tell more of a file.
        *self = FileRefBuilder::default();
    }
}

/// The tail that tells what a number stands for: columns `fs, dev, inode, path`.
#[derive(Debug)]
pub struct FileDescription;

impl Kind for FileDescription {
    type Value = [u8];
    type Builder = FileDescriptionBuilder;
    const PARTS: Parts = FILE_PARTS;
}

/// Builder of files that are told.
#[derive(Default)]
pub struct FileDescriptionBuilder(FileColumns);

impl Build<[u8]> for FileDescriptionBuilder {
    fn append(&mut self, tail: &[u8], context: &mut Context<'_>) {
        let (id, file) = FileInfo::read(tail, context).unwrap_or_default();
        self.0.push(&file);
        context.resolver.note_file(id, file);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        self.0.take(out);
    }
}

/// Tail of a call that names a file: the number of the directory that the path leads on from, then the path and its NUL: columns `path, full_path`.
#[derive(Debug)]
pub struct OpenPath;

impl Kind for OpenPath {
    type Value = [u8];
    type Builder = OpenPathBuilder;
    const PARTS: Parts = &[
        ("path", "The path as the caller gave it, up to 4095 bytes. Null: unreadable.", &PATH),
        (
            "full_path",
            "The path from the root of the mount namespace: the caller's root, current or given directory, then `path`. `..` and symbolic links are not followed. Null: there is no such directory.",
            &PATH,
        ),
    ];
}

/// Builder of paths as calls give them.
#[derive(Default)]
pub struct OpenPathBuilder {
    bases: Vec<u64>,
    paths: Vec<Option<String>>,
    /// Of both columns, as far as the directories are known by now.
    bytes: usize,
}

impl Build<[u8]> for OpenPathBuilder {
    fn append(&mut self, tail: &[u8], context: &mut Context<'_>) {
        let (base, path) = u64::read_from_prefix(tail).unwrap_or((0, &[]));
        let path = (!path.is_empty()).then(|| text::c_str(path).into_owned());
        let directory = context.resolver.file(base);
        let of_directory = directory.and_then(|file| Some(file.path.as_ref()?.len())).unwrap_or_default();
        self.bytes += 2 * path.as_ref().map_or(0, String::len) + of_directory;
        self.bases.push(base);
        self.paths.push(path);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn finish(&mut self, context: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        let (mut paths, mut full_paths) = (StringBuilder::new(), StringBuilder::new());
        self.bytes = 0;
        for (base, path) in self.bases.drain(..).zip(self.paths.drain(..)) {
            let full = path.as_deref().filter(|_| base != 0).and_then(|path| path_from(base, path, context));
            full_paths.append_option(full);
            paths.append_option(path);
        }
        out.push(Arc::new(paths.finish()));
        out.push(Arc::new(full_paths.finish()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{NoResolver, Resolver};
    use zerocopy::IntoBytes;

    /// Knows one directory.
    struct OneDirectory;

    impl Resolver for OneDirectory {
        fn note_owner(&mut self, _: u64, _: &wire::Task) {}
        fn owner(&mut self, _: u64) -> Option<wire::Task> {
            None
        }
        fn note_file(&mut self, _: u64, _: FileInfo) {}
        fn file(&mut self, id: u64) -> Option<Arc<FileInfo>> {
            (id == 4096).then(|| Arc::new(FileInfo { path: Some("/srv/data".to_owned()), ..FileInfo::default() }))
        }
    }

    #[test]
    fn a_path_leads_on_from_its_directory() {
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut OneDirectory };
        let mut from = |base, path| path_from(base, path, &mut context);
        assert_eq!(from(4096, "x").as_deref(), Some("/srv/data/x"));
        assert_eq!(from(4096, ".//x/./y/").as_deref(), Some("/srv/data/x/y"));
        assert_eq!(from(4096, "../x").as_deref(), Some("/srv/data/../x"));
        assert_eq!(from(4096, ".").as_deref(), Some("/srv/data"));
        assert_eq!(from(ROOT, "/etc//passwd").as_deref(), Some("/etc/passwd"));
        assert_eq!(from(ROOT, "/").as_deref(), Some("/"));
        assert_eq!(from(5, "x"), None);
    }

    #[test]
    fn a_description_is_read() {
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        let mut fs = [0; 16];
        fs[..4].copy_from_slice(b"ext4");
        let file = wire::File { id: 7, base: 0, inode: 12, dev: 259 << 20 | 3, has_names: 1, fs };
        let mut tail = file.as_bytes().to_vec();
        tail.extend_from_slice(b"b\xffc\0dir\0");
        let text = |text: &str| Some(text.to_owned());
        let known = FileInfo { fs: text("ext4"), dev: text("259:3"), inode: Some(12), path: text("/dir/b\\xffc") };
        assert_eq!(FileInfo::read(&tail, &mut context), Some((7, known)));
        let root = wire::File { id: ROOT, ..file };
        assert_eq!(FileInfo::read(root.as_bytes(), &mut context).and_then(|(_, file)| file.path), text("/"));
        let deep = wire::File { has_names: 0, ..file };
        assert_eq!(FileInfo::read(deep.as_bytes(), &mut context).and_then(|(_, file)| file.path), None);
        assert_eq!(FileInfo::read(&tail[..20], &mut context), None);
    }
}
