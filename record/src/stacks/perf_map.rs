//! Perf maps: the files in which a JIT compiler tells where it put which function.
//!
//! `/tmp/perf-PID.map`, in the process's own root and with the pid of its own namespace, lines of `START SIZE NAME` in hexadecimal
//! (tools/perf/Documentation/jit-interface.txt of Linux). Anybody may create such a file, so it is believed only if it is the
//! process's user's or root's, as perf does.

use ebrec_format::text::escape;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Larger ones are read up to here.
const MOST_BYTES: u64 = 32 << 20;

/// Where a process's perf map is, or will be: its directory stays open, because the process may be gone before the map is complete.
pub struct Place {
    directory: OwnedFd,
    name: std::ffi::CString,
    uid: u32,
    /// The file, if it was there already: some are removed when the process ends.
    file: Option<File>,
}

impl Place {
    /// Of a process that lives.
    pub fn of(pid: u32) -> Option<Place> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let own_pid: u32 = field("NSpid:").unwrap_or_default().split_whitespace().last().and_then(|pid| pid.parse().ok()).unwrap_or(pid);
        // Real, effective, saved, file system.
        let uid = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let directory = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(format!("/proc/{pid}/root/tmp"))
            .ok()?;
        let name = std::ffi::CString::new(format!("perf-{own_pid}.map")).ok()?;
        let mut place = Place { directory: directory.into(), name, uid, file: None };
        place.look();
        Some(place)
    }

    /// Opens the file if it is there by now.
    pub fn look(&mut self) {
        if self.file.is_none() {
            self.file = self.open();
        }
    }

    fn open(&self) -> Option<File> {
        // It must not be waited for, whatever it is.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        // SAFETY: the directory is open and the name ends with NUL.
        let fd = unsafe { libc::openat(self.directory.as_raw_fd(), self.name.as_ptr(), flags) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the descriptor was just returned to us and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && (metadata.uid() == self.uid || metadata.uid() == 0)).then_some(file)
    }

    /// What it says by now.
    pub fn read(&mut self) -> Option<PerfMap> {
        self.look();
        let mut text = Vec::new();
        self.file.take()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
        Some(PerfMap::parse(&text))
    }
}

/// Functions of a JIT compiler, by address.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// Start, end, name; by start, the last that was told first.
    functions: Vec<(u64, u64, String)>,
}

impl PerfMap {
    fn parse(text: &[u8]) -> PerfMap {
        let function = |line: &[u8]| {
            let mut words = line.splitn(3, |&byte| byte == b' ');
            let mut number = || u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?.trim_start_matches("0x"), 16).ok();
            let (start, size) = (number()?, number()?);
            let name = words.next().filter(|name| !name.is_empty())?;
            Some((start, start.checked_add(size)?, escape(name).into_owned()))
        };
        // Code is moved and thrown away, and its room used again: the last line about a place is the one that holds.
        let mut functions: Vec<_> = text.split(|&byte| byte == b'\n').rev().filter_map(function).collect();
        functions.sort_by_key(|(start, ..)| *start);
        PerfMap { functions }
    }

    /// The function at an address.
    pub fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|(start, ..)| *start <= address);
        let start = self.functions.get(after.checked_sub(1)?)?.0;
        let first = self.functions.partition_point(|(other, ..)| *other < start);
        self.functions[first..after].iter().find(|(_, end, _)| address < *end).map(|(_, _, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_about_a_place_holds() {
        let map = PerfMap::parse(b"1000 10 old\n2000 20 other with spaces\nnonsense\n0x1000 10 new\n3000 zz bad\n4000 4\n");
        assert_eq!(map.find(0x1000), Some("new"));
        assert_eq!(map.find(0x100f), Some("new"));
        assert_eq!(map.find(0x1010), None);
        assert_eq!(map.find(0x201f), Some("other with spaces"));
        assert_eq!(map.find(0xfff), None);
        assert_eq!(map.find(0x4001), None);
        assert_eq!(PerfMap::parse(b"ffffffffffffffff 2 beyond\n").find(u64::MAX), None);
    }
}
