//! What `/proc/PID/maps` says of a process's executable memory, and how the files that are mapped there are opened.

use crate::procs::is_alive;
use crate::tongs;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Executable mappings of one address space, and bytes of its list; one with more is not looked at beyond these.
const MOST_MAPPINGS: usize = 16 * 1024;
const MOST_MAPS: u64 = 8 << 20;
/// Bytes of the paths in it.
const MOST_PATH_BYTES: usize = 8 << 20;

/// The executable memory of a process; nothing if it has ended, or is another than the kernel meant.
pub fn maps_of(pid: u32, start: u64) -> io::Result<Vec<Line>> {
    if !is_alive(pid, start) {
        return Ok(Vec::new());
    }
    let maps = tongs::system_file(format!("/proc/{pid}/maps"))?;
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for line in BufReader::new(maps.take(MOST_MAPS)).split(b'\n') {
        let Some(line) = Line::parse(&line?) else { continue };
        bytes += line.path.len();
        lines.push(line);
        if lines.len() >= MOST_MAPPINGS || bytes >= MOST_PATH_BYTES {
            break;
        }
    }
    // What was read is this process's only if it is still there.
    Ok(if is_alive(pid, start) { lines } else { Vec::new() })
}

/// One line of /proc/PID/maps about executable memory.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// The file's device: major number in the upper half.
    pub device: u64,
    /// Its inode; 0: no file.
    pub inode: u64,
    /// START-END, as the kernel writes it.
    pub range: String,
    /// Its path, or what kind of memory it is: `[vdso]`.
    pub path: Vec<u8>,
}

impl Line {
    /// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH` (proc_pid_maps(5)).
    pub fn parse(line: &[u8]) -> Option<Line> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (range, permissions, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
        if permissions.as_bytes().get(2) != Some(&b'x') {
            return None;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = range.split_once('-')?;
        let (major, minor) = device.split_once(':')?;
        let path = words.next().unwrap_or_default();
        Some(Line {
            start: number(start)?,
            end: number(end)?,
            offset: number(offset)?,
            device: number(major)? << 32 | number(minor)?,
            inode: inode.parse().ok()?,
            range: range.to_owned(),
            path: path.trim_ascii_start().to_vec(),
        })
    }

    /// The path of the file.
    pub fn name(&self) -> &[u8] {
        self.path.strip_suffix(b" (deleted)").unwrap_or(&self.path)
    }

    /// Opens the file that is mapped: itself, be it deleted or in another mount namespace; else, where that isn't allowed
    /// (it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE), what has its path and is the same inode.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        let own = |file: File| {
            let is_it = file.metadata()?.ino() == self.inode;
            if is_it { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::EXDEV)) }
        };
        let mapped = tongs::file(format!("/proc/{pid}/map_files/{}", self.range)).and_then(own);
        mapped.or_else(|_| tongs::in_root_of(pid, std::ffi::OsStr::from_bytes(self.name())).and_then(own))
    }
}

/// The recorder's own vdso, which is every process's, as a file in memory.
pub fn own_vdso() -> Option<File> {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::FromRawFd;
    let maps = tongs::system("/proc/self/maps").ok()?;
    let line = maps.split(|&byte| byte == b'\n').filter_map(Line::parse).find(|line| line.path == b"[vdso]")?;
    let size = usize::try_from(line.end - line.start).ok().filter(|&size| size <= 1 << 20)?;
    let mut bytes = vec![0; size];
    let mut memory = tongs::system_file("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(line.start)).ok()?;
    memory.read_exact(&mut bytes).ok()?;
    // SAFETY: the name ends with NUL; a descriptor or -1 is returned.
    let fd = unsafe { libc::memfd_create(c"ebrec-vdso".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&bytes).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = Line::parse(b"55d0c0a00000-55d0c0a25000 r-xp 00002000 fe:01 1234                       /usr/bin/a b (deleted)");
        let line = line.map(|line| (line.start, line.end, line.offset, line.device, line.inode, line.path));
        assert_eq!(line, Some((0x55d0_c0a0_0000, 0x55d0_c0a2_5000, 0x2000, 0xfe_0000_0001, 1234, b"/usr/bin/a b (deleted)".to_vec())));
        assert!(Line::parse(b"7f00-7f01 rw-p 00000000 00:00 0 ").is_none());
        let anonymous = Line::parse(b"7f00-7f01 rwxp 00000000 00:00 0 ").map(|line| (line.inode, line.path));
        assert_eq!(anonymous, Some((0, Vec::new())));
        for bad in [&b""[..], b"x", b"7f00 r-xp 0 0:0 0", b"7f00-7f01 r-xp zz 00:00 0"] {
            assert!(Line::parse(bad).is_none());
        }
    }

    #[test]
    fn the_vdso_is_an_elf_file() {
        // Absent on some machines; where it is, it has symbols.
        if let Some(file) = own_vdso() {
            let mut magic = [0; 4];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut magic, 0).unwrap_or_default();
            assert_eq!(&magic, b"\x7fELF");
        }
    }
}
