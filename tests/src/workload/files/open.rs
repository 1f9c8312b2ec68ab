//! Opens of every kind, and those that fail.

use super::log::{Log, Open, READ};
use crate::sys;
use ebrec_tests::{Context, Result, fail};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A name that is not UTF-8, with a backslash and a line feed in it.
const ODD: &[u8] = b"od\xffd \\ n\xc3\xa4me\n";
/// Another, that goes again.
const ODD_TOO: &[u8] = b"g\xf8ne";
/// Directories one in the other, and how long the name of each is.
const DEEP: (usize, usize) = (17, 230);
const RESOLVE_IN_ROOT: u64 = 0x10;
const NOBODY: u32 = 65534;

fn deep_name(level: usize) -> String {
    format!("{level:0width$}", width = DEEP.1)
}

/// Makes what will be opened.
pub fn prepare(dir: &Path) -> Result<()> {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).context("chmod")?;
    for (name, mode) in [(&b"plain"[..], 0o644), (b"secret", 0o600), (ODD, 0o644)] {
        let path = dir.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, b"content").context("write a file")?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).context("chmod")?;
    }
    std::fs::create_dir(dir.join("sub")).context("create sub")?;
    std::fs::write(dir.join("sub/inner"), b"inner").context("write sub/inner")?;
    symlink("sub/inner", dir.join("link")).context("make a link")?;
    symlink("loop", dir.join("loop")).context("make a link")?;
    std::fs::hard_link(dir.join("plain"), dir.join("second-name")).context("make a second name")?;
    // The names are longer together than one call takes.
    let before = std::env::current_dir().context("current directory")?;
    std::env::set_current_dir(dir).context("chdir")?;
    for level in 0..DEEP.0 {
        let name = deep_name(level);
        std::fs::create_dir(&name).context("create a deep directory")?;
        std::env::set_current_dir(&name).context("chdir deeper")?;
    }
    std::fs::write("bottom", b"deep").context("write a deep file")?;
    std::env::set_current_dir(before).context("chdir back")
}

/// Closes a file that is of no further use.
fn close(fd: i32) {
    // SAFETY: our own descriptor, not used afterwards.
    unsafe { libc::close(fd) };
}

/// Opens and closes again.
fn try_open(log: &mut Log, open: &Open<'_>, errno: i32) -> Result<()> {
    let opened = log.open(open)?;
    let was = log.opens.last().map(|row| row["errno"].clone()).unwrap_or_default();
    if was != errno {
        return fail(format!("{} gave errno {was} instead of {errno}", open.call));
    }
    if let Some(file) = opened {
        close(file.fd);
    }
    Ok(())
}

pub fn run(log: &mut Log) -> Result<()> {
    let dir =
        log.opened(&Open { flags: (libc::O_DIRECTORY | libc::O_RDONLY, "O_RDONLY|O_DIRECTORY"), ..Open::at(b".", log.dir.clone()) })?;
    by_every_call(log, dir.fd)?;
    by_every_way(log, dir.fd)?;
    that_fail(log, dir.fd)?;
    from_deep_below(log)?;
    names_that_go(log, dir.fd)?;
    close(dir.fd);
    Ok(())
}

fn by_every_call(log: &mut Log, dirfd: i32) -> Result<()> {
    let plain = log.path(b"plain");
    let rw = (libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK, "O_RDWR|O_NONBLOCK|O_CLOEXEC");
    #[cfg(target_arch = "x86_64")]
    {
        try_open(log, &Open { call: "open", flags: rw, ..Open::at(&plain, plain.clone()) }, 0)?;
        let made = log.path(b"made");
        let creat = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, "O_WRONLY|O_CREAT|O_TRUNC");
        try_open(log, &Open { call: "creat", flags: creat, mode: Some(0o640), ..Open::at(b"made", made) }, 0)?;
    }
    try_open(log, &Open { flags: rw, ..Open::at(&plain, plain.clone()) }, 0)?;
    try_open(log, &Open { call: "openat2", flags: rw, ..Open::at(&plain, plain.clone()) }, 0)?;
    try_open(log, &Open { call: "openat2", dirfd, ..Open::at(b"plain", plain.clone()) }, 0)?;
    // There, the directory is the root.
    try_open(log, &Open { call: "openat2", dirfd, resolve: RESOLVE_IN_ROOT, ..Open::at(b"/plain", plain) }, 0)?;
    let temporary = (libc::O_TMPFILE | libc::O_WRONLY, "O_WRONLY|O_TMPFILE");
    let at = log.opens.len();
    let open = Open { flags: temporary, mode: Some(0o600), ..Open::at(b".", log.dir.clone()) };
    if let Some(file) = log.open(&open)? {
        // A file without a name is shown by its number, as in /proc/PID/fd.
        let name = log.path(format!("#{}", file.inode).as_bytes());
        let row = log.ios.last_mut().context("no row of the open")?;
        row["path"] = sys::hex(&name).into();
        close(file.fd);
    } else {
        return fail(format!("O_TMPFILE: {}", log.opens[at]));
    }
    Ok(())
}

fn by_every_way(log: &mut Log, dirfd: i32) -> Result<()> {
    for name in [&b"plain"[..], ODD, b"second-name"] {
        let path = log.path(name);
        try_open(log, &Open::at(name, path.clone()), 0)?;
        try_open(log, &Open { dirfd, ..Open::at(name, path.clone()) }, 0)?;
        try_open(log, &Open::at(&path, path.clone()), 0)?;
    }
    let inner = log.path(b"sub/inner");
    try_open(log, &Open { real_path: Some(inner.clone()), ..Open::at(b"link", log.path(b"link")) }, 0)?;
    try_open(log, &Open { real_path: Some(log.path(b"plain")), ..Open::at(b"sub/../plain", log.path(b"sub/../plain")) }, 0)?;
    try_open(log, &Open::at(b".//./sub///inner", inner.clone()), 0)?;
    std::env::set_current_dir("sub").context("chdir sub")?;
    try_open(log, &Open::at(b"inner", inner.clone()), 0)?;
    std::env::set_current_dir("..").context("chdir ..")?;
    try_open(log, &Open::at(b"sub/inner", inner.clone()), 0)?;
    let sub = log.opened(&Open { flags: (libc::O_PATH, "O_RDONLY|O_PATH"), ..Open::at(b"sub", log.path(b"sub")) })?;
    try_open(log, &Open { dirfd: sub.fd, ..Open::at(b"inner", inner) }, 0)?;
    close(sub.fd);
    // The longest path that there may be: 4095 bytes and a NUL.
    let long = [&b"./".repeat(2045)[..], b"plain"].concat();
    try_open(log, &Open::at(&long, log.path(b"plain")), 0)?;
    for len in [254, 255, 256, 257] {
        let path = [&vec![b'/'; len - log.path(b"plain").len()][..], &log.path(b"plain")].concat();
        try_open(log, &Open::at(&path, log.path(b"plain")), 0)?;
    }
    let null = Open { flags: (libc::O_WRONLY, "O_WRONLY"), ..Open::at(b"/dev/null", b"/dev/null".to_vec()) };
    try_open(log, &null, 0)
}

fn that_fail(log: &mut Log, dirfd: i32) -> Result<()> {
    let make = (libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, "O_RDWR|O_CREAT|O_EXCL");
    try_open(log, &Open::at(b"absent", log.path(b"absent")), libc::ENOENT)?;
    try_open(log, &Open { dirfd, ..Open::at(b"absent", log.path(b"absent")) }, libc::ENOENT)?;
    try_open(log, &Open { flags: make, mode: Some(0o4755), ..Open::at(b"plain", log.path(b"plain")) }, libc::EEXIST)?;
    try_open(log, &Open::at(b"plain/x", log.path(b"plain/x")), libc::ENOTDIR)?;
    try_open(log, &Open::at(b"loop", log.path(b"loop")), libc::ELOOP)?;
    try_open(log, &Open { flags: (libc::O_WRONLY, "O_WRONLY"), ..Open::at(b"sub", log.path(b"sub")) }, libc::EISDIR)?;
    try_open(log, &Open { full_path: None, ..Open::at(b"", Vec::new()) }, libc::ENOENT)?;
    try_open(log, &Open { dirfd: 98_765, full_path: None, ..Open::at(b"plain", Vec::new()) }, libc::EBADF)?;
    try_open(log, &Open { path: None, full_path: None, ..Open::at(b"", Vec::new()) }, libc::EFAULT)?;
    let too_long = vec![b'x'; 5000];
    try_open(log, &Open::at(&too_long, log.path(&too_long[..4095])), libc::ENAMETOOLONG)?;
    for uid in [NOBODY, 0] {
        // SAFETY: no pointers. Of this thread, which is the only one.
        sys::check("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) })?;
        let errno = if uid == 0 { 0 } else { libc::EACCES };
        try_open(log, &Open { flags: READ, ..Open::at(b"secret", log.path(b"secret")) }, errno)?;
    }
    Ok(())
}

/// From a directory whose own path is long.
fn from_deep_below(log: &mut Log) -> Result<()> {
    let mut path = log.dir.clone();
    for level in 0..DEEP.0 {
        let name = deep_name(level);
        std::env::set_current_dir(&name).context("chdir deeper")?;
        path = [&path, &b"/"[..], name.as_bytes()].concat();
    }
    let bottom = [&path, &b"/bottom"[..]].concat();
    try_open(log, &Open::at(b"bottom", bottom), 0)?;
    let dir = std::ffi::OsStr::from_bytes(&log.dir).to_owned();
    std::env::set_current_dir(dir).context("chdir back")
}

/// Files that are made and removed, by every call and way, and those that can't be.
fn names_that_go(log: &mut Log, dirfd: i32) -> Result<()> {
    let make = (libc::O_CREAT | libc::O_WRONLY, "O_WRONLY|O_CREAT");
    let at = libc::AT_FDCWD;
    // The second time, the file is there.
    for _ in 0..2 {
        try_open(log, &Open { flags: make, mode: Some(0o600), ..Open::at(b"brief", log.path(b"brief")) }, 0)?;
    }
    log.unlink("unlinkat", at, b"brief", Some(log.path(b"brief")), 0)?;
    log.unlink("unlinkat", at, b"brief", Some(log.path(b"brief")), libc::ENOENT)?;
    try_open(log, &Open { flags: make, mode: Some(0o600), ..Open::at(ODD_TOO, log.path(ODD_TOO)) }, 0)?;
    log.unlink("unlinkat", dirfd, ODD_TOO, Some(log.path(ODD_TOO)), 0)?;
    let long = [&vec![b'/'; 300][..], &log.path(b"brief")].concat();
    try_open(log, &Open { flags: make, mode: Some(0o600), ..Open::at(&long, log.path(b"brief")) }, 0)?;
    log.unlink("unlinkat", at, &long, Some(log.path(b"brief")), 0)?;
    #[cfg(target_arch = "x86_64")]
    {
        try_open(log, &Open { flags: make, mode: Some(0o600), ..Open::at(b"brief", log.path(b"brief")) }, 0)?;
        log.unlink("unlink", at, b"./brief", Some(log.path(b"brief")), 0)?;
    }
    log.unlink("unlinkat", at, b"sub", Some(log.path(b"sub")), libc::EISDIR)?;
    log.unlink("unlinkat", 98_765, b"brief", None, libc::EBADF)?;
    log.unlink("unlinkat", at, b"", None, libc::ENOENT)?;
    // A directory's end is no file's.
    std::fs::create_dir("gone").context("make a directory")?;
    std::fs::remove_dir("gone").context("remove a directory")
}
