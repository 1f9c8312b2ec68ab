//! The truth: every call is made here, and written down as it is made.

use crate::sys;
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

/// What was done so far, each call in the form of the row that it is expected to give.
pub struct Log {
    /// Where it is done, without a slash at the end.
    pub dir: Vec<u8>,
    /// Type of the file system there.
    pub fs: &'static str,
    /// Rows of file_open.
    pub opens: Vec<Value>,
    /// Rows of file_io.
    pub ios: Vec<Value>,
    /// Rows of file_unlink.
    pub unlinks: Vec<Value>,
}

/// A file that is open, and what is known of it.
#[derive(Clone)]
pub struct File {
    pub fd: i32,
    /// Whole path, by which it was opened.
    pub path: Vec<u8>,
    pub dev: String,
    pub inode: u64,
}

/// A call to open a file.
pub struct Open<'a> {
    /// SYS_open, SYS_creat, SYS_openat or SYS_openat2.
    pub call: &'static str,
    pub dirfd: i32,
    /// Without its NUL; `None` is an address that can't be read.
    pub path: Option<&'a [u8]>,
    pub flags: (i32, &'static str),
    pub mode: Option<u32>,
    /// Of openat2.
    pub resolve: u64,
    /// What the capture should say, if the directory is known.
    pub full_path: Option<Vec<u8>>,
    /// Where the file really is, links followed, if it isn't there.
    pub real_path: Option<Vec<u8>>,
}

/// `O_RDONLY`, as number and text.
pub const READ: (i32, &str) = (libc::O_RDONLY, "O_RDONLY");

impl<'a> Open<'a> {
    /// openat from the current directory, to read.
    pub fn at(path: &'a [u8], full_path: Vec<u8>) -> Self {
        Self {
            call: "openat",
            dirfd: libc::AT_FDCWD,
            path: Some(path),
            flags: READ,
            mode: None,
            resolve: 0,
            full_path: Some(full_path),
            real_path: None,
        }
    }
}

/// What a call says that moves bytes, or none.
#[derive(Clone, Copy, Default)]
pub struct Io {
    pub offset: Option<i64>,
    pub requested: Option<u64>,
    /// What it returned: bytes, or 0; negative is an errno.
    pub ret: i64,
    /// Whether it counts bytes.
    pub counts: bool,
}

/// An address that no program has mapped.
pub const NOWHERE: *const libc::c_void = 8 as *const libc::c_void;

impl Log {
    pub fn new(dir: &[u8]) -> Result<Self> {
        let path = std::ffi::CString::new(dir).context("the directory's name")?;
        // SAFETY: statfs is plain numbers, for which zero is valid.
        let mut about: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: a NUL-terminated path, and a struct that lives across the call.
        sys::check("statfs", unsafe { libc::statfs(path.as_ptr(), &raw mut about) })?;
        // include/uapi/linux/magic.h
        let fs = match about.f_type as u64 & 0xffff_ffff {
            0xef53 => "ext4",
            0x0102_1994 => "tmpfs",
            0x5846_5342 => "xfs",
            0x9123_683e => "btrfs",
            0x794c_7630 => "overlay",
            other => return fail(format!("file system {other:#x} is unknown here")),
        };
        Ok(Self { dir: dir.to_vec(), fs, opens: Vec::new(), ios: Vec::new(), unlinks: Vec::new() })
    }

    /// The whole path of a name in the directory.
    pub fn path(&self, name: &[u8]) -> Vec<u8> {
        [&self.dir, &b"/"[..], name].concat()
    }

    /// Opens as told. The file, if it could be opened.
    pub fn open(&mut self, open: &Open<'_>) -> Result<Option<File>> {
        let path = open.path.map(|path| [path, b"\0"].concat());
        let at = path.as_ref().map_or(NOWHERE.cast(), Vec::as_ptr);
        let (flags, mode) = (open.flags.0, open.mode.unwrap_or(0));
        let how = [flags as u64, u64::from(mode), open.resolve];
        let made_if_absent = flags & libc::O_CREAT != 0 && !open.full_path.as_deref().is_some_and(exists);
        // SAFETY: the path ends with NUL or is an address that the kernel refuses; `how` lives across the call.
        let ret = unsafe {
            match open.call {
                #[cfg(target_arch = "x86_64")]
                "open" => libc::syscall(libc::SYS_open, at, flags, mode),
                #[cfg(target_arch = "x86_64")]
                "creat" => libc::syscall(libc::SYS_creat, at, mode),
                "openat" => libc::syscall(libc::SYS_openat, open.dirfd, at, flags, mode),
                "openat2" => libc::syscall(libc::SYS_openat2, open.dirfd, at, how.as_ptr(), size_of_val(&how)),
                other => return fail(format!("no call {other}")),
            }
        };
        let errno = if ret < 0 { sys::errno() } else { 0 };
        // SAFETY: takes no arguments and cannot fail.
        let uid = unsafe { libc::geteuid() };
        let shown = open.path.map(|path| &path[..path.len().min(4095)]);
        self.opens.push(json!({
            "uid": uid, "path": shown.map(sys::hex), "full_path": open.full_path.as_deref().map(sys::hex), "flags": open.flags.1,
            "mode": open.mode.map(|mode| format!("{mode:04o}")), "fd": (ret >= 0).then_some(ret), "errno": errno,
            "is_new": ret >= 0 && made_if_absent,
        }));
        if ret < 0 {
            return Ok(None);
        }
        let path = open.real_path.clone().or_else(|| open.full_path.clone()).context("a file without a path")?;
        let (file, regular) = about(ret as i32, path)?;
        if regular {
            self.row("open", open.call, &file, Io::default());
        }
        Ok(Some(file))
    }

    /// The same, of a file that can't fail to be opened.
    pub fn opened(&mut self, open: &Open<'_>) -> Result<File> {
        let path = open.path.map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default();
        self.open(open)?.context(format!("{} {path}: {}", open.call, std::io::Error::last_os_error()))
    }

    /// Removes a name, by unlink or unlinkat; `dirfd` is of the latter. `full_path` is what the capture should say.
    pub fn unlink(&mut self, call: &str, dirfd: i32, path: &[u8], full_path: Option<Vec<u8>>, errno: i32) -> Result<()> {
        let at = [path, b"\0"].concat();
        // SAFETY: the path ends with NUL.
        let ret = unsafe {
            match call {
                #[cfg(target_arch = "x86_64")]
                "unlink" => libc::syscall(libc::SYS_unlink, at.as_ptr()),
                "unlinkat" => libc::syscall(libc::SYS_unlinkat, dirfd, at.as_ptr(), 0),
                other => return fail(format!("no call {other}")),
            }
        };
        let was = if ret < 0 { sys::errno() } else { 0 };
        if was != errno {
            return fail(format!("{call} of {} gave errno {was} instead of {errno}", String::from_utf8_lossy(path)));
        }
        self.unlinks.push(json!({ "path": sys::hex(path), "full_path": full_path.map(|path| sys::hex(&path)), "errno": errno }));
        Ok(())
    }

    /// Notes a call on a file.
    pub fn row(&mut self, op: &str, call: &str, file: &File, io: Io) {
        self.ios.push(json!({
            "op": op, "call": call, "errno": (-io.ret).max(0), "fs": self.fs, "dev": file.dev, "inode": file.inode,
            "path": sys::hex(&file.path), "offset": io.offset, "requested_bytes": io.requested,
            "bytes": io.counts.then_some(io.ret.max(0)),
        }));
    }
}

/// Whether there is something of that name, be it a link that leads nowhere.
fn exists(path: &[u8]) -> bool {
    std::fs::symlink_metadata(std::ffi::OsStr::from_bytes(path)).is_ok()
}

/// Device and inode of an open file, and whether it is a regular one.
fn about(fd: i32, path: Vec<u8>) -> Result<(File, bool)> {
    // SAFETY: stat is plain numbers, for which zero is valid.
    let mut about: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the struct lives across the call.
    sys::check("fstat", unsafe { libc::fstat(fd, &raw mut about) })?;
    let dev = format!("{}:{}", libc::major(about.st_dev), libc::minor(about.st_dev));
    Ok((File { fd, path, dev, inode: about.st_ino }, about.st_mode & libc::S_IFMT == libc::S_IFREG))
}
