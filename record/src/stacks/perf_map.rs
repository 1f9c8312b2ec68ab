//! Perf maps: the files in which a JIT compiler tells where it put which function.
//!
//! `/tmp/perf-PID.map`, in the process's own root and with the pid of its own namespace, lines of `START SIZE NAME` in hexadecimal
//! (tools/perf/Documentation/jit-interface.txt of Linux). Anybody may create such a file, so it is believed only if it is the
//! process's user's or root's, as perf does.

use crate::tongs::{self, What, Why};
use ebrec_format::text::escape;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

/// Larger ones are read up to here.
const MOST_BYTES: u64 = 32 << 20;
/// Of a longer line, the rest is left out.
const MOST_LINE: u64 = 4096;
/// Lines between two looks at the clock.
const LINES_AT_A_TIME: u32 = 1024;

/// Where a process's perf map is, or will be: its directory stays open, because the process may be gone before the map is complete.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: String,
    uid: u32,
    /// The file, if it was there already: some are removed when the process ends.
    file: Option<File>,
}

impl Place {
    /// Of a process that lives.
    pub fn of(pid: u32) -> Option<Place> {
        let (status, _) = tongs::of_process(pid, "status", 64 << 10).ok()?;
        let status = String::from_utf8_lossy(&status);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let own_pid: u32 = field("NSpid:").unwrap_or_default().split_whitespace().last().and_then(|pid| pid.parse().ok()).unwrap_or(pid);
        // Real, effective, saved, file system.
        let uid = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let directory = tongs::directory_in(&tongs::root_of(pid).ok()?, "tmp").ok()?;
        let mut place = Place { directory, name: format!("perf-{own_pid}.map"), uid, file: None };
        place.look();
        Some(place)
    }

    /// Whether the file was there when it was last looked for.
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Opens the file if it is there by now.
    pub fn look(&mut self) {
        if self.file.is_none() {
            self.file = self.open();
        }
    }

    fn open(&self) -> Option<File> {
        let file = match tongs::in_root(&self.directory, &self.name, false) {
            Ok(file) => file,
            Err(error) => {
                // Most have none.
                if Why::of(&error) != Why::Gone {
                    tongs::count(What::PerfMap, Why::of(&error));
                }
                return None;
            }
        };
        let owner = file.metadata().ok()?.uid();
        if owner != self.uid && owner != 0 {
            tongs::count(What::PerfMap, Why::Odd);
            return None;
        }
        Some(file)
    }

    /// What it says by now of these addresses, which are sorted: for each, its place among them and the function's name.
    pub fn names(&mut self, addresses: &[u64], deadline: Instant) -> Vec<(u64, Arc<str>)> {
        self.look();
        let Some(file) = self.file.take() else { return Vec::new() };
        names_of(file.take(MOST_BYTES), addresses, deadline).unwrap_or_default()
    }
}

/// The functions at `addresses`, which are sorted. Only what is asked for is kept: a map may have millions of lines.
///
/// Code is moved and thrown away, and its room used again. Of functions that begin at the same address the last one that was told of holds; of
/// others, the one that begins last.
fn names_of(map: impl Read, addresses: &[u64], deadline: Instant) -> io::Result<Vec<(u64, Arc<str>)>> {
    let mut found: Vec<Option<(u64, Arc<str>)>> = vec![None; addresses.len()];
    let mut map = BufReader::with_capacity(64 << 10, map);
    let (mut line, mut in_a_long_one, mut lines) = (Vec::new(), false, 0_u32);
    loop {
        line.clear();
        if (&mut map).take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let is_begin = !in_a_long_one;
        in_a_long_one = line.last() != Some(&b'\n');
        lines += 1;
        if lines % LINES_AT_A_TIME == 0 && Instant::now() >= deadline {
            break;
        }
        let Some((start, end, name)) = parse(&line).filter(|_| is_begin) else { continue };
        let from = addresses.partition_point(|&address| address < start);
        let count = addresses[from..].partition_point(|&address| address < end);
        let slots = &mut found[from..from + count];
        if slots.iter().any(|slot| slot.as_ref().is_none_or(|(before, _)| *before <= start)) {
            let name: Arc<str> = escape(name).into();
            for slot in slots.iter_mut().filter(|slot| slot.as_ref().is_none_or(|(before, _)| *before <= start)) {
                *slot = Some((start, name.clone()));
            }
        }
    }
    Ok(addresses.iter().zip(found).filter_map(|(address, found)| Some((*address, found?.1))).collect())
}

/// Start, end and name.
fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut words = line.strip_suffix(b"\n").unwrap_or(line).splitn(3, |&byte| byte == b' ');
    let mut number = || u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?.trim_start_matches("0x"), 16).ok();
    let (start, size) = (number()?, number()?);
    let name = words.next().filter(|name| !name.is_empty())?;
    Some((start, start.checked_add(size)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn find(map: &[u8], addresses: &[u64]) -> Vec<(u64, String)> {
        let found = names_of(map, addresses, Instant::now() + Duration::from_secs(5)).unwrap_or_default();
        found.into_iter().map(|(address, name)| (address, name.to_string())).collect()
    }

    #[test]
    fn the_last_line_about_a_place_holds() {
        let map = b"1000 10 old\n2000 20 other with spaces\nnonsense\n0x1000 10 new\n3000 zz bad\n4000 4\n";
        let asked = [0xfff, 0x1000, 0x100f, 0x1010, 0x201f, 0x4001];
        let told = [(0x1000, "new"), (0x100f, "new"), (0x201f, "other with spaces")].map(|(at, name)| (at, name.to_owned()));
        assert_eq!(find(map, &asked), told);
        assert_eq!(find(b"ffffffffffffffff 2 beyond\n", &[u64::MAX]), []);
        // The innermost of two.
        assert_eq!(find(b"1000 100 outer\n1010 10 inner\n1000 100 outer\n", &[0x1018]), [(0x1018, "inner".to_owned())]);
    }

    #[test]
    fn a_hostile_map_takes_neither_memory_nor_time() {
        // A line without an end, and what follows it.
        let long = [b"1000 10 ".to_vec(), vec![b'x'; 1 << 20], b"\n2000 10 after\n".to_vec()].concat();
        let found = find(&long, &[0x1000, 0x2000]);
        assert_eq!(found.len(), 2);
        assert!(found[0].1.len() <= MOST_LINE as usize);
        assert_eq!(found[1].1, "after");
        // More lines than there is time for.
        let endless = io::repeat(b'\n');
        let began = Instant::now();
        assert!(names_of(endless, &[1], began + Duration::from_millis(20)).is_ok());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
