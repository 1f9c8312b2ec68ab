//! Debian's libbpf-tools for files, disks, the page cache and names beside the recorder: what they print against the capture.
//!
//! The capture's own rows were compared with the workloads' truth (see `files.rs`, `block.rs`, `page_cache.rs`, `dns.rs`). Where a
//! tool differs from them, the difference has its rule here.

use crate::capture::{Capture, Findings, list, sum};
use crate::truth;
use ebrec_format::text::unescape;
use ebrec_tests::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Compares a tool's lines with the capture; says what was equal.
type Compare = fn(&str, &Capture, &Path, &mut Findings) -> Result<String>;

/// The tools, and the kernels on which the ones of Debian 12 (0.26.0) are known not to run; what each says then is in the report.
/// 5.10's block tracepoints have one argument as later ones have, where biosnoop and biolatency go by the version; the functions that
/// cachestat (account_page_dirtied) and biosnoop (blk_account_io_start) look for are gone or can't be traced later.
const TOOLS: [(&str, Compare, &[&str]); 9] = [
    ("opensnoop", opensnoop, &[]),
    ("filelife", filelife, &[]),
    ("ext4slower", ext4slower, &[]),
    ("filetop", filetop, &[]),
    ("biolatency", biolatency, &["5.10"]),
    ("biosnoop", runs_nowhere, &["5.10", "6.1", "6.12", "6.18", "newest"]),
    ("cachestat", cachestat, &["6.1", "6.12", "6.18", "newest"]),
    ("gethostlatency", gethostlatency, &[]),
    ("oomkill", oomkill, &[]),
];
/// Those that run and are wrong, where, and why.
const WRONG: [(&str, &[&str], &str); 1] = [(
    "filelife",
    &["6.12", "6.18", "newest"],
    "sees no file: it reads the arguments of vfs_unlink as they were before idmapped mounts (6.3)",
)];

/// Compares the outputs in `peers` with the recording in `dir`. Returns per tool what was equal, for the report.
pub fn compare(kernel: &str, peers: &Path, dir: &Path, capture: &Capture, found: &mut Findings) -> Result<BTreeMap<&'static str, String>> {
    let mut agreed = BTreeMap::new();
    for (tool, compare, not_on) in TOOLS {
        let read = |end: &str| -> Result<String> {
            let path = peers.join(format!("{tool}.{end}"));
            Ok(String::from_utf8_lossy(&std::fs::read(&path).context(path.display())?).into_owned())
        };
        let (printed, said) = (read("out")?, read("err")?);
        if printed.trim().is_empty() {
            let why = said.lines().find(|line| line.contains("failed")).unwrap_or("it says nothing").trim_start_matches("libbpf: ");
            found.check(tool, not_on.contains(&kernel), || format!("it does not run: {said}"));
            agreed.insert(tool, format!("does not run: {why}"));
        } else {
            let mut own = Findings::default();
            let mut told = compare(&printed, capture, dir, &mut own).context(tool)?;
            // A slow VM may give it no time to read what the kernel has for it; then it says so.
            if said.to_lowercase().contains("lost ") {
                own.differences.clear();
                told = format!("lost events of its own: {told}");
            }
            if let Some((.., why)) = WRONG.iter().find(|(name, kernels, _)| *name == tool && kernels.contains(&kernel)) {
                found.check(tool, !own.differences.is_empty(), || "it is right now: compare it here too".to_owned());
                told = (*why).to_owned();
                own = Findings::default();
            }
            found.compared.extend(own.compared);
            found.differences.extend(own.differences);
            agreed.insert(tool, told);
        }
    }
    Ok(agreed)
}

/// A tool that nobody has seen running, so nobody knows what it prints.
fn runs_nowhere(_: &str, _: &Capture, _: &Path, found: &mut Findings) -> Result<String> {
    found.check("biosnoop", false, || "it runs: compare it".to_owned());
    Ok(String::new())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A path as opensnoop can print it: 254 bytes, and nothing behind a newline, which begins another line.
fn as_printed(path: &str) -> String {
    let bytes = unescape(path);
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(254)]).into_owned();
    words(text.split('\n').next().unwrap_or_default()).join(" ")
}

/// How often each occurs.
fn counted<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// PID COMM FD ERR PATH. Each call of openat, but none of openat2 and creat, nor of open, for which Debian built it without; the
/// workload uses these for regular files only.
fn opensnoop(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let pid = &truth(dir, "files")?["pid"];
    let of_it = pid.to_string();
    let live = counted(printed.lines().map(words).filter_map(|row| match row.as_slice() {
        [of, _, fd, errno, path @ ..] if **of == of_it => Some((fd.parse().ok()?, errno.parse().ok()?, path.join(" "))),
        _ => None,
    }));
    let rows = capture.rows("file_open", "pid", pid)?;
    let mut captured: BTreeMap<(i64, i64, String), usize> = counted(rows.iter().map(|row| {
        let path = row["path"].as_str().map(as_printed).unwrap_or_default();
        (row["fd"].as_i64().unwrap_or(-1), row["errno"].as_i64().unwrap_or(0), path)
    }));
    let total = rows.len();
    let mut lacking = Vec::new();
    for (open, times) in live {
        let known = captured.get(&open).copied().unwrap_or(0);
        lacking.extend(std::iter::repeat_n(open.clone(), times.saturating_sub(known)));
        captured.insert(open, known.saturating_sub(times));
    }
    found.check("opensnoop", lacking.is_empty(), || format!("not captured: {lacking:?}"));
    let unseen: usize = captured.values().sum();
    let others = capture.rows("file_io", "pid", pid)?;
    let others = others
        .iter()
        .filter(|row| row["op"] == "open" && ["open", "openat2", "creat"].contains(&row["call"].as_str().unwrap_or_default()))
        .count();
    found.equal("opensnoop", format!("opens that it does not show ({captured:?})"), unseen, others);
    Ok(format!("{} of {total} opens, by descriptor, error and path; it does not show open, openat2, creat ({unseen})", total - unseen))
}

/// PID AGE FILE. It knows a file by the address of its dentry, so it sees the one that was renamed in between (once in each directory), which
/// the report leaves out; and now and then what got an address that was known: a link, or a directory that unlink refuses, whose result
/// it doesn't look at. Of a name it has 31 bytes.
fn filelife(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let truth = truth(dir, "files")?;
    let of_it = truth["pid"].to_string();
    let mut live: Vec<(String, f64)> = Vec::new();
    for row in printed.lines().map(words) {
        if let [_, of, _, age, name @ ..] = row.as_slice()
            && *of == of_it
        {
            live.push((name.join(" "), age.parse().context(format!("{row:?}"))?));
        }
    }
    let rows = capture.rows("filelife", "pid", &truth["pid"])?;
    let mut lives: Vec<(String, f64)> = rows
        .iter()
        .map(|row| {
            let name = unescape(row["path"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default());
            let name = String::from_utf8_lossy(&name[..name.len().min(31)]).into_owned();
            (words(name.split('\n').next().unwrap_or_default()).join(" "), row["age_ns"].as_f64().unwrap_or(-1.0) / 1e9)
        })
        .collect();
    let renamed = live.iter().filter(|(name, _)| name == "after").count();
    // One that link() made was not created as it sees it, unless its dentry lies where another one's did.
    live.retain(|(name, _)| !["after", "second-name", "link", "loop", "sub", "data-too"].contains(&name.as_str()));
    found.equal("filelife", "renamed files", renamed, list(&truth["dirs"]).len());
    // It prints what each CPU has for it, one CPU after the other.
    for all in [&mut live, &mut lives] {
        all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    }
    let names = |all: &[(String, f64)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    found.equal("filelife", "files", names(&live), names(&lives));
    let near = live.iter().zip(&lives).filter(|((_, a), (_, b))| (a - b).abs() <= 0.02 + b / 10.0).count();
    found.check("filelife", near * 5 >= lives.len() * 4, || format!("ages differ: {live:?}, captured {lives:?}"));
    Ok(format!(
        "{} of {} files, {near} of them with the same age within 20 ms and a tenth; renamed ones ({renamed}) only it knows",
        live.len(),
        lives.len()
    ))
}

/// A row of ext4slower, or what it should be: operation, bytes, KB in the file, µs.
#[derive(Debug, Clone)]
struct Access {
    op: &'static str,
    bytes: i64,
    offset_kb: i64,
    us: f64,
}

/// TIME COMM PID T BYTES OFF_KB LAT(ms) FILENAME: calls of ext4's functions, so those of each system call on a file there that
/// was not refused before, and no others. Its time is within the call's. An append's place is the old position.
fn ext4slower(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let pid = &truth(dir, "files")?["pid"];
    let of_it = pid.to_string();
    let mut live: Vec<Access> = printed.lines().map(words).filter_map(|row| access_of(&row, &of_it)).collect();
    let rows: Vec<Value> = capture.rows("file_io", "pid", pid)?.into_iter().filter(|row| row["fs"] == "ext4").collect();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unseen: BTreeMap<String, usize> = BTreeMap::new();
    // The longest first: each finds the longest line that isn't longer, so the shorter ones keep theirs. Appends last, because
    // any place will do.
    let is_append = |row: &Value| row["offset"].is_null() || row["path"].as_str().is_some_and(|path| path.ends_with("/log"));
    let mut by_length: Vec<&Value> = rows.iter().filter(|row| row["errno"] == 0).collect();
    by_length.sort_by_key(|row| (is_append(row), -row["latency_ns"].as_i64().unwrap_or(0)));
    for row in by_length {
        let Some(access) = expected_of(row) else { continue };
        let fits = |line: &Access| {
            let same = line.bytes == access.bytes && (line.offset_kb == access.offset_kb || is_append(row));
            line.op == access.op && (same || ["O", "F"].contains(&line.op)) && line.us <= access.us
        };
        let best = (0..live.len()).filter(|&place| fits(&live[place])).max_by(|a, b| live[*a].us.total_cmp(&live[*b].us));
        match best {
            Some(place) => {
                live.swap_remove(place);
                *shown.entry(access.op).or_default() += 1;
            }
            None => *unseen.entry(row["call"].as_str().unwrap_or("?").to_owned()).or_default() += 1,
        }
    }
    // Since 6.5, what goes from the page cache into a pipe passes by the function that it traces.
    let by_pipe = ["sendfile", "splice", "copy_file_range"];
    found.check("ext4slower", unseen.keys().all(|call| by_pipe.contains(&call.as_str())), || format!("not shown: {unseen:?}"));
    // What else it shows: calls that failed, what io_uring tried at first without waiting, or what the kernel's recorder has no hook for.
    let no_uring = capture.rows("probe", "hook", &"uring".into())?.iter().all(|hook| hook["mechanism"].is_null());
    live.retain(|line| line.bytes >= 0 || line.op == "F" || line.op == "O");
    found.check("ext4slower", live.is_empty() || no_uring, || format!("not captured: {live:?}"));
    let count = |op: &str| shown.get(op).copied().unwrap_or(0);
    Ok(format!(
        "{} opens, {} reads, {} writes, {} syncs, bytes and place equal, none longer than the call; it does not show {} reads by sendfile, \
         splice and copy_file_range",
        count("O"),
        count("R"),
        count("W"),
        count("F"),
        unseen.values().sum::<usize>()
    ))
}

fn access_of(row: &[&str], pid: &str) -> Option<Access> {
    let [_, _, of, op, bytes, offset_kb, ms, ..] = row else { return None };
    let op = ["R", "W", "O", "F"].into_iter().find(|known| known == op)?;
    // Of a sync it prints a range, LL_MAX for all of the file.
    let bytes = bytes.parse().ok().or((op == "F").then_some(0))?;
    (*of == pid).then_some(Access { op, bytes, offset_kb: offset_kb.parse().ok()?, us: ms.parse::<f64>().ok()? * 1000.0 })
}

/// The line that a captured call should have; `None` if the file system isn't asked.
fn expected_of(row: &Value) -> Option<Access> {
    let op = match (row["op"].as_str()?, row["call"].as_str()?) {
        ("open", _) => "O",
        ("read", _) if row["requested_bytes"] != 0 => "R",
        // A write of nothing is a call all the same.
        ("write", _) => "W",
        ("sync", "fsync" | "fdatasync" | "io_uring") => "F",
        _ => return None,
    };
    let number = |column: &str| row[column].as_i64().unwrap_or(0);
    // It rounds to 10 µs.
    Some(Access { op, bytes: number("bytes"), offset_kb: number("offset") / 1024, us: number("latency_ns") as f64 / 1000.0 + 5.1 })
}

/// TID COMM READS WRITES R_Kb W_Kb T FILE, once: per file of a thread the calls of read, pread64, write and pwrite64, failed ones
/// as well if they get as far as the file, and the bytes that were asked for. It knows a file by its inode, and by the name with
/// which it saw it first.
fn filetop(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let pid = &truth(dir, "files")?["pid"];
    let of_it = pid.to_string();
    let live = counted(printed.lines().map(words).filter_map(|row| match row.as_slice() {
        [tid, _, reads, writes, read_kb, write_kb, "R", ..] if **tid == of_it => {
            let number = |word: &str| word.parse::<u64>().ok();
            Some([number(reads)?, number(writes)?, number(read_kb)?, number(write_kb)?])
        }
        _ => None,
    }));
    let mut files: BTreeMap<(String, String), [u64; 4]> = BTreeMap::new();
    for row in capture.rows("file_io", "tid", pid)? {
        let at = match row["call"].as_str() {
            // pread64 refuses a place before the beginning by itself.
            _ if row["errno"] == 22 => continue,
            Some("read" | "pread64") => 0,
            Some("write" | "pwrite64") => 1,
            _ => continue,
        };
        let file = files.entry((row["dev"].to_string(), row["inode"].to_string())).or_default();
        file[at] += 1;
        file[at + 2] += row["requested_bytes"].as_u64().unwrap_or(0);
    }
    let captured = counted(files.values().map(|&[reads, writes, read, write]| [reads, writes, read / 1024, write / 1024]));
    found.equal("filetop", "reads, writes, KB of each file", &live, &captured);
    let calls: u64 = files.values().map(|file| file[0] + file[1]).sum();
    Ok(format!("{} files with {calls} calls, calls and KB asked for equal; it does not count the calls with vectors", files.len()))
}

/// The histogram that follows the line `disk = NAME`, all of them if there are several: lower edge in µs to count.
fn histogram(printed: &str, disk: &str) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    let mut inside = false;
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("disk = ") {
            inside = name.trim() == disk;
        }
        if inside
            && let [low, "->", _, ":", count, ..] = words(line)[..]
            && let (Ok(low), Ok(count)) = (low.parse(), count.parse::<usize>())
        {
            *counts.entry(low).or_default() += count;
        }
    }
    counts
}

/// Histograms of requests per disk, from issue to completion. A loop device is unknown to it, because it had no size when the tool
/// started. It counts what is left of a request that was done in part, and is issued again, once more: `block-errors` has one, on
/// some kernels.
fn biolatency(printed: &str, capture: &Capture, _: &Path, found: &mut Findings) -> Result<String> {
    let mut told = Vec::new();
    for (name, disks, in_part) in [("nullb0", "disk = 'nullb0'", 0), ("Unknown", "disk LIKE 'loop%'", 1)] {
        let live = histogram(printed, name);
        let rows = capture.sql(&format!("SELECT latency_ns FROM block_io WHERE {disks} AND layer = 'request'"))?;
        let captured = counted(rows.iter().map(|row| match row["latency_ns"].as_u64().unwrap_or(0) / 1000 {
            0 | 1 => 0,
            us => 1 << us.ilog2(),
        }));
        let total = |of: &BTreeMap<u64, usize>| of.values().sum::<usize>();
        let (is, expected) = (total(&live), total(&captured));
        found.check("biolatency", expected > 0 && (expected..=expected + in_part).contains(&is), || {
            format!("{name}: {is} requests, captured {expected}: {live:?}, {captured:?}")
        });
        // Both take the time at the same events, one after the other, so that a value near an edge may be beyond it. A VM that
        // stands still between the two moves a few of them further.
        let few = 2 + expected / 10;
        for edge in (1..=20).map(|bits| 1 << bits) {
            let above = |of: &BTreeMap<u64, usize>, from: u64| of.range(from..).map(|(_, count)| count).sum::<usize>();
            let near = above(&captured, edge) <= above(&live, edge / 2) + few && above(&live, edge) <= above(&captured, edge / 2) + few;
            found.check("biolatency", near, || format!("{name}, from {edge} µs: {live:?}, captured {captured:?}"));
        }
        told.push(format!("{expected} of {is} requests of {}", if name == "Unknown" { "loop devices" } else { name }));
    }
    Ok(format!("{}, latencies in the same or a neighbouring power of two", told.join(", ")))
}

/// HITS MISSES DIRTIES …, for the time of one workload and all of the host. MISSES are pages added to the cache, less those that became
/// dirty, which it takes for pages that were made to be written. HITS are pages marked as accessed, less buffers marked as dirty,
/// less MISSES; that isn't how many pages reads found: the kernel doesn't mark a page on each read. The workload knows how many it
/// looked up, and so does the capture.
fn cachestat(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let truth = truth(dir, "page_cache")?;
    let numbers: Vec<u64> = words(printed.lines().nth(1).context("no line")?).iter().map_while(|word| word.parse().ok()).collect();
    let [hits, misses, ..] = numbers[..] else { return ebrec_tests::fail(format!("not the numbers of cachestat: {printed}")) };
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    let mark = |which: &str| truth[which]["boot_ns"].as_i64().map(|ns| ns + boot_to_utc).context(format!("no {which}"));
    let rows = capture.sql(&format!(
        "SELECT * FROM page_cache WHERE CAST(ts AS BIGINT) + interval_ns > {} AND CAST(ts AS BIGINT) < {}",
        mark("start")?,
        mark("end")?
    ))?;
    let (added, dirtied) = (sum(&rows, "added"), sum(&rows, "dirtied"));
    // A few pages before the workload's start and after its end; the recorder's intervals are 100 ms.
    let expected = added.saturating_sub(dirtied);
    // In a VM that was starved of CPU it had 744 of 859; why isn't known. More than there were, it never has.
    let right = misses <= expected + 16 + expected / 20 && misses + 16 >= expected - expected / 4;
    found.check("cachestat", expected > 0 && right, || format!("{misses} misses, captured {added} pages added and {dirtied} dirtied"));
    Ok(format!(
        "{misses} misses, where {expected} pages were added beyond those that became dirty; its {hits} hits are no count of lookups ({} in the \
         capture)",
        sum(&rows, "accesses")
    ))
}

/// TIME PID COMM LATms HOST: calls of getaddrinfo, gethostbyname and gethostbyname2, not of the functions with _r.
fn gethostlatency(printed: &str, capture: &Capture, dir: &Path, found: &mut Findings) -> Result<String> {
    let truth = truth(dir, "dns")?;
    // The second process has a library of its own, which the tool does not know.
    let pid = &list(&truth["run"]).first().context("no lookup")?["pid"];
    let of_it = pid.to_string();
    let known = BTreeSet::from(["getaddrinfo", "gethostbyname", "gethostbyname2"]);
    let rows = capture.rows("dns_lookup", "pid", pid)?;
    let mut rows: Vec<&Value> = rows.iter().filter(|row| row["function"].as_str().is_some_and(|name| known.contains(name))).collect();
    let mut live: Vec<(&str, f64)> = printed
        .lines()
        .filter_map(|line| match words(line)[..] {
            [_, of, _, ms, host] if of == of_it => Some((host, ms.parse().ok()?)),
            _ => None,
        })
        .collect();
    // It prints what each CPU has for it, one CPU after the other. No host is looked up twice.
    let host_of = |row: &Value| row["host"].as_str().unwrap_or_default().to_owned();
    live.sort_by_key(|(host, _)| *host);
    rows.sort_by_key(|row| host_of(row));
    let hosts: Vec<String> = rows.iter().map(|row| host_of(row)).collect();
    found.equal("gethostlatency", "hosts looked up", live.iter().map(|(host, _)| *host).collect::<Vec<_>>(), hosts);
    let far = live.iter().zip(&rows).filter(|((_, ms), row)| {
        let captured = row["latency_ns"].as_f64().unwrap_or(0.0) / 1e6;
        (ms - captured).abs() > 5.0 + captured / 10.0
    });
    // The same calls, seen by the one a moment before or after the other; now and then a VM stands still between the two: of nine lookups
    // two differed in one of three runs, by 7 and 34 ms.
    let far = far.count();
    found.check("gethostlatency", far * 3 <= rows.len(), || format!("{far} latencies differ: {live:?}, captured {rows:?}"));
    Ok(format!("{} of {} lookups, {} of them with the same latency within 5 ms and a tenth", live.len(), rows.len(), live.len() - far))
}

/// TIME Triggered by PID (COMM), OOM kill of PID (COMM), PAGES pages, loadavg: …: all but the time and the load.
fn oomkill(printed: &str, capture: &Capture, _: &Path, found: &mut Findings) -> Result<String> {
    let live: BTreeSet<String> = printed
        .lines()
        .filter_map(|line| line.split_once(" Triggered by PID ").map(|(_, rest)| rest.split(", loadavg").next().unwrap_or(rest).to_owned()))
        .collect();
    let captured: BTreeSet<String> = capture
        .table("oomkill")?
        .iter()
        .map(|row| {
            let word = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
            let (victim, pages) = (&row["victim_pid"], &row["pages"]);
            format!("{} (\"{}\"), OOM kill of PID {victim} (\"{}\"), {pages} pages", row["pid"], word("comm"), word("victim_comm"))
        })
        .collect();
    found.equal("oomkill", "kills", &live, &captured);
    Ok(format!("{} of {} kills, with pages", live.intersection(&captured).count(), captured.len()))
}
