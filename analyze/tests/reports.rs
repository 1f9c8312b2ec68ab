//! What the reports print for the sample capture, beside the headings of the live tools.
//!
//! `EBREC_BLESS=1 cargo test -p ebrec-analyze` writes golden/reports.txt anew; a human reads the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, SECOND, directory, head, sample, stdout, task};
use ebrec_format::events::process::ProcessExec;
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::segment;
use ebrec_format::table::Row;
use std::path::Path;
use zerocopy::IntoBytes;

const LINES: &[&str] = &[
    "",
    "execsnoop",
    "execsnoop -xTtU",
    "exitsnoop",
    "exitsnoop -tx",
    "exitsnoop -T --pid 200",
    "runqlat",
    "runqlat -T 5",
    "runqlat -P 5 1",
    "runqlat -L -m",
    "runqlat -p 200 --from +2s --to +4s",
    "tcplife",
    "tcplife -wT",
    "tcplife -4 -D 80",
    "tcpconnect",
    "tcpconnect -tUs",
    "tcpconnect -c",
    "tcpconnect -cs -P 81",
    "tcpaccept -Tt",
    "tcpretrans",
    "tcpretrans -c",
    "tcpstates",
    "tcpstates -wT",
    "tcptracer -tU",
    "tcptop",
    "tcptop 5",
    "tcptop -S -r 1 -s sent 1 10",
    "runqslower",
    "runqslower -P 9999",
    "cpudist -m --from +9s",
    "cpudist -O",
    "cpudist -P --preempted",
    "tcpconnlat",
    "tcpconnlat -Lt 0.1",
    "tcprtt",
    "tcprtt -b -T -i 5",
    "tcprtt -P 80 --by comm",
    "syscount",
    "syscount -L -i 5",
    "syscount -P -L -m",
    "syscount -x",
    "syscount -e enoent -T 3",
    "sigsnoop",
    "sigsnoop -n -k",
    "sigsnoop -x --output csv",
    "killsnoop",
    "killsnoop -s 10 -n",
    "oomkill",
    "oomkill --output csv",
    "hardirqs",
    "hardirqs -C -T 5",
    "hardirqs -d",
    "hardirqs -d -N 5 1",
    "softirqs -C",
    "softirqs -N",
    "softirqs -d --output csv",
    "profile",
    "profile -f -a -d",
    "profile -U --output folded",
    "profile -K -d -L 7,400",
    "offcputime",
    "offcputime -u -m 1000 -d",
    "offcputime -k --output csv",
    "offcputime --state 2 -M 2000 -f",
    "wakeuptime",
    "wakeuptime -u -m 6000",
    "opensnoop",
    "opensnoop -TUeF",
    "opensnoop -x -n cur",
    "filelife",
    "filelife -F --comm sh",
    "filelife --from +5s",
    "fsslower",
    "fsslower -t xfs -F",
    "ext4slower -m 0",
    "nfsslower -F",
    "fsdist",
    "fsdist -t ext4 --by fs -m 5 1",
    "ext4dist -p 200",
    "filetop",
    "filetop -F --requested -s reads -r 1 5",
    "cachestat -T 5",
    "cachestat -P",
    "majfaults",
    "biolatency -T",
    "biolatency -Q -D -F",
    "biolatency -d dm-0",
    "biosnoop",
    "biosnoop -Q -d 8:1 -p 300",
    "biosnoop -d dm-0",
    "biosnoop -a --from +7s",
    "biotop",
    "biotop -s time -r 1 5",
    "bitesize",
    "bitesize -c cu --by op",
    "gethostlatency",
    "gethostlatency -xe",
    "dnssnoop",
    "dnssnoop -e -m 10",
    "dnssnoop -x -n no.",
];

#[test]
fn reports_of_the_sample() {
    let directory = directory("golden");
    sample(&directory.join("sample.ebrec"));
    let mut text = String::new();
    for line in LINES {
        let args: Vec<&str> = std::iter::once("sample.ebrec").chain(line.split_whitespace()).collect();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).current_dir(&directory).args(&args).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let out = String::from_utf8_lossy(&output.stdout);
        // The list of tables has sizes in bytes, which change with the Parquet writer.
        let shown = out.find("Busiest").filter(|_| line.is_empty()).map_or(out.as_ref(), |at| &out[at..]);
        text.push_str(&format!("$ ebrec analyze {}\n{shown}\n", args.join(" ")));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reports.txt");
    if std::env::var_os("EBREC_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    for (found, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "see golden/reports.txt");
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}

/// What the live tools of libbpf-tools 0.26 print as their first line (tcpaccept, tcpretrans: BCC 0.29), without what
/// they print before it and without spaces at its end.
const HEADINGS: &[(&str, &str)] = &[
    ("execsnoop", "PCOMM            PID    PPID   RET ARGS"),
    ("execsnoop -T", "TIME     PCOMM            PID    PPID   RET ARGS"),
    ("exitsnoop", "PCOMM            PID     PPID    TID     AGE(s)  EXIT_CODE"),
    ("exitsnoop -t", "TIME(s)  PCOMM            PID     PPID    TID     AGE(s)  EXIT_CODE"),
    ("runqlat", "     usecs               : count    distribution"),
    ("runqlat -m", "     msecs               : count    distribution"),
    ("tcplife", "PID     COMM             LADDR           LPORT RADDR           RPORT TX_KB  RX_KB  MS"),
    (
        "tcplife -wT",
        "TIME(s)  PID     COMM             LADDR                                   LPORT RADDR                                   RPORT TX_KB  RX_KB  MS",
    ),
    ("tcpconnect", "PID    COMM         IP SADDR            DADDR            DPORT"),
    ("tcpconnect -s", "PID    COMM         IP SADDR            DADDR            SPORT DPORT"),
    ("tcpconnect -c", "LADDR                     RADDR                     RPORT                CONNECTS"),
    ("tcpaccept", "PID     COMM         IP RADDR            RPORT LADDR            LPORT"),
    ("tcpretrans", "TIME     PID     IP LADDR:LPORT          T> RADDR:RPORT          STATE"),
    ("tcpretrans -c", "LADDR:LPORT               RADDR:RPORT               RETRANSMITS"),
    ("tcpstates", "SKADDR           PID     COMM       LADDR           LPORT RADDR           RPORT OLDSTATE    -> NEWSTATE    MS"),
    (
        "tcpstates -w",
        "SKADDR           PID     COMM             IP LADDR                      LPORT RADDR                      RPORT OLDSTATE    -> NEWSTATE    MS",
    ),
    ("tcptracer", "T PID    COMM         IP SADDR            DADDR            SPORT DPORT"),
    ("runqslower", "TIME     COMM             TID           LAT(us)"),
    ("runqslower -P", "TIME     COMM             TID           LAT(us) PREV COMM        PREV TID"),
    ("cpudist", "     usecs               : count    distribution"),
    ("cpudist -m", "     msecs               : count    distribution"),
    ("tcpconnlat", "PID    COMM         IP SADDR            DADDR            DPORT LAT(ms)"),
    ("tcpconnlat -tL", "TIME(s)   PID    COMM         IP SADDR            LPORT  DADDR            DPORT LAT(ms)"),
    ("tcprtt", "All Addresses = ******"),
    ("killsnoop", "TIME     PID     COMM             SIG       TPID    RESULT"),
    ("sigsnoop", "TIME     PID     COMM             SIG       TPID    RESULT"),
    ("hardirqs", "HARDIRQ                    TOTAL_usecs"),
    ("hardirqs -C", "HARDIRQ                    TOTAL_count"),
    ("hardirqs -N", "HARDIRQ                    TOTAL_nsecs"),
    ("hardirqs -d", "hardirq = eth0-rx-0"),
    ("softirqs", "SOFTIRQ          TOTAL_usecs"),
    ("tcptop -S", "PID     COMM         LADDR                 RADDR                  RX_KB  TX_KB"),
    ("opensnoop", "PID    COMM              FD ERR PATH"),
    ("opensnoop -TUe", "TIME     UID     PID    COMM              FD ERR FLAGS    PATH"),
    ("fsslower", "TIME     COMM             PID     T BYTES   OFF_KB   LAT(ms) FILENAME"),
    ("ext4slower", "TIME     COMM             PID     T BYTES   OFF_KB   LAT(ms) FILENAME"),
    ("fsdist", "operation = 'fsync'"),
    ("cachestat", "    HITS   MISSES  DIRTIES HITRATIO   BUFFERS_MB  CACHED_MB"),
    ("cachestat -T", "TIME         HITS   MISSES  DIRTIES HITRATIO   BUFFERS_MB  CACHED_MB"),
    ("biolatency", "     usecs               : count    distribution"),
    ("biolatency -D", "disk = sda"),
    ("biosnoop", "TIME(s)     COMM           PID     DISK    T    SECTOR     BYTES   LAT(ms)"),
    ("biosnoop -Q", "TIME(s)     COMM           PID     DISK    T    SECTOR     BYTES   QUE(ms) LAT(ms)"),
    ("bitesize", "Process Name = curl"),
    ("gethostlatency", "TIME     PID     COMM             LATms      HOST"),
];

/// The same of tools that print the load average and an empty line before it.
const BLOCK_HEADINGS: &[(&str, &str)] = &[
    ("filetop", "TID     COMM             READS  WRITES R_Kb    W_Kb    T FILE"),
    ("biotop", "PID     COMM             D MAJ MIN DISK       I/O  Kbytes  AVGms"),
];

#[test]
fn headings_are_those_of_the_live_tools() {
    let capture = sample(&directory("headings").join("sample.ebrec"));
    for (line, heading) in HEADINGS {
        let args: Vec<&str> = std::iter::once(capture.to_str().unwrap()).chain(line.split_whitespace()).collect();
        assert_eq!(stdout(&args).lines().next(), Some(*heading), "{line}");
    }
    // The time of a block comes before the heading.
    for (line, heading) in [
        ("syscount", "SYSCALL                   COUNT"),
        ("syscount -L", "SYSCALL                   COUNT        TIME (us)"),
        ("syscount -P -L -m", "PID    COMM               COUNT        TIME (ms)"),
    ] {
        let args: Vec<&str> = std::iter::once(capture.to_str().unwrap()).chain(line.split_whitespace()).collect();
        assert_eq!(stdout(&args).lines().nth(1), Some(heading), "{line}");
    }
    for (line, heading) in BLOCK_HEADINGS {
        let out = stdout(&[capture.to_str().unwrap(), line]);
        let lines: Vec<&str> = out.lines().take(3).collect();
        assert!(lines[0].contains(" loadavg: ") && lines[1].is_empty(), "{line}: {lines:?}");
        assert_eq!(lines[2], *heading, "{line}");
    }
}

#[test]
fn stacks_are_drawn() {
    let directory = directory("stacks");
    let other = sample(&directory.join("other.ebrec"));
    let capture = sample(&directory.join("sample.ebrec"));
    let capture = capture.to_str().unwrap();
    let svg = stdout(&[capture, "profile", "--output", "flamegraph"]);
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    // Below `all` the program, then its frames from the outermost on; a separator in a name is none.
    for title in ["all (5 samples, 100%)", "web (3 samples, 60.00%)", "parse:line (3 samples, 60.00%)", "copy_to_user (2 samples, 40.00%)"]
    {
        assert!(svg.contains(&format!("<title>{title}</title>")), "{title}");
    }
    assert_eq!(svg, stdout(&[capture, "profile", "--output", "flamegraph"]), "the same picture each time");
    let svg = stdout(&[capture, "offcputime", "-k", "--output", "flamegraph"]);
    assert!(svg.contains("<title>worker_thread (40,000 us, 100.00%)</title>"), "time in microseconds");
    // Of several captures each has a flame of its own.
    let both = stdout(&[capture, other.to_str().unwrap(), "profile", "-f", "-U"]);
    let flames: Vec<&str> = both.lines().filter(|line| line.ends_with(";web;_start;main;parse:line 3")).collect();
    assert_eq!(flames, ["sample;web;_start;main;parse:line 3", "other;web;_start;main;parse:line 3"], "{both}");
    let output = common::ebrec(&[capture, "tcplife", "--output", "folded"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains("only reports of stacks"), "{err}");
}

#[test]
fn errors_and_numbers_are_parameters() {
    let capture = sample(&directory("parameters").join("sample.ebrec"));
    let capture = capture.to_str().unwrap();
    assert_eq!(stdout(&[capture, "syscount", "-e", "ENOENT"]), stdout(&[capture, "syscount", "-e", "2"]));
    for args in [["syscount", "-e", "ENOTHING"], ["syscount", "-e", "0"], ["tcpconnlat", "--", "-1"]] {
        let output = common::ebrec(&[&[capture], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

/// Calls with arguments: the rows that `batch_of` can't make, because the arguments follow the record.
fn execs(calls: &[(&str, &[&str])]) -> Vec<u8> {
    let table = ProcessExec::table();
    let mut sink = (table.builder)();
    let mut context = Context { boot_to_utc_ns: common::START, resolver: &mut NoResolver };
    for (i, (file, args)) in calls.iter().enumerate() {
        let ts = (i as u64 + 1) * SECOND;
        let row = ProcessExec {
            head: head(ts, task(10 + i as u32, 10 + i as u32, "x")),
            cgroup_id: 1,
            ppid: 1,
            uid: 0,
            ret: 0,
            args_truncated: 0,
        };
        let mut record = row.as_bytes().to_vec();
        for text in std::iter::once(file).chain(args.iter()) {
            record.extend_from_slice(text.as_bytes());
            record.push(0);
        }
        assert!(sink.append_record(&record, &mut context));
    }
    segment::encode(table, &[sink.finish(&mut context)]).unwrap()
}

#[test]
fn arguments_are_those_that_the_caller_gave() {
    let many: Vec<String> = std::iter::once("many".to_owned()).chain((1..=30).map(|i| i.to_string())).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let calls: &[(&str, &[&str])] = &[
        ("/bin/ls", &["ls", "-l", "a b", ""]),
        // A script: the kernel puts the interpreter before its name.
        ("./run.sh", &["/bin/sh", "./run.sh", "x"]),
        ("./run.py", &["/usr/bin/env", "python3", "./run.py", "y"]),
        // No script: the program was asked to look at itself.
        ("/bin/ls", &["ls", "/bin/ls"]),
        ("/bin/many", &many),
        ("/bin/quoted", &["quoted", "say \"hi\"\tnow"]),
    ];
    let capture = Builder::default().raw("process_exec/0-0.parquet", execs(calls)).write(&directory("arguments").join("a.ebrec"));
    let capture = capture.to_str().unwrap();
    let column = |args: &[&str]| -> Vec<String> {
        let out = stdout(&[&[capture, "execsnoop"], args].concat());
        out.lines().skip(1).map(|line| line[35..].to_owned()).collect()
    };
    let shown = column(&[]);
    assert_eq!(shown[0], "/bin/ls -l a b");
    assert_eq!(&shown[1..4], ["./run.sh x", "./run.py y", "/bin/ls /bin/ls"]);
    assert!(shown[4].ends_with(" 19 20 ..."), "{}", shown[4]);
    assert_eq!(column(&["--max-args", "2"])[4], "/bin/many 1 2 ...");
    assert_eq!(column(&["-q"])[0], "\"/bin/ls\" \"-l\" \"a b\" \"\"");
    assert_eq!(column(&["-q"])[5], "\"/bin/quoted\" \"say \\\"hi\\\"\\tnow\"");
    assert_eq!(column(&["-l", "run.py"]), ["./run.py y"]);
    let json = stdout(&[capture, "--output", "json", "execsnoop"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[0]["args"], serde_json::json!(["/bin/ls", "-l", "a b", ""]));
}
