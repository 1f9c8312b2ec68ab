//! Where results go: files that destroy nothing and are never torn, stdout, and readers that go away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{builder, directory, ebrec, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn small(place: &Path) -> PathBuf {
    builder().write(&place.join("small.ebrec"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// stderr and exit code.
fn refused(args: &[&str]) -> (String, i32) {
    let output = ebrec(args);
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap_or(-1))
}

/// Names in a directory, sorted.
fn names(place: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_command_writes_over_what_it_reads_whatever_the_name() {
    let place = directory("overwrite");
    let capture = small(&place);
    let (capture_, before) = (text(&capture), fs::read(&capture).unwrap());
    let other = builder().write(&place.join("other.ebrec"));
    std::os::unix::fs::symlink("small.ebrec", place.join("link")).unwrap();
    fs::hard_link(&capture, place.join("hard")).unwrap();
    let statements = place.join("q.sql");
    fs::write(&statements, "SELECT 1").unwrap();
    let baseline = place.join("b.baseline");
    stdout(&["baseline", "create", text(&baseline), capture_]);
    let kept = fs::read(&baseline).unwrap();
    let there = names(&place);
    for out in [capture_, text(&place.join("link")), text(&place.join("hard")), &format!("{}/../overwrite/./small.ebrec", text(&place))] {
        for args in [
            &[capture_, "tcplife", "--output", "csv"][..],
            &[capture_, "sql", "SELECT 1"],
            &[capture_, "--output", "json"],
            &[capture_, "tables"],
            &[capture_, "profile", "--output", "flamegraph"],
            &[capture_, "tcptop", "--show-sql"],
            &[capture_, "replay", "runqlat"],
            &["compare", capture_, text(&other), "--only", "runqlat"],
            &["compare", text(&baseline), "--only", "runqlat", "--", capture_],
        ] {
            // Options end where captures of the second side begin.
            let at = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
            let args = [&args[..at], &["--force", "-o", out], &args[at..]].concat();
            let (err, code) = refused(&args);
            assert!(code == 2 && err.contains("being read"), "{args:?}: {code} {err}");
        }
        let (err, code) = refused(&["baseline", "create", "--force", out, capture_]);
        assert!(code == 2 && err.contains("being read"), "{err}");
    }
    for (out, args) in [
        (text(&statements), &[capture_, "sql", "-f", text(&statements)][..]),
        (text(&baseline), &["compare", text(&baseline), "--only", "runqlat"]),
    ] {
        let after: &[&str] = if args[0] == "compare" { &["--", capture_] } else { &[] };
        let (err, code) = refused(&[args, &["--force", "-o", out], after].concat());
        assert!(code == 2 && err.contains("being read"), "{err}");
    }
    assert!(fs::read(&capture).unwrap() == before && fs::read(&baseline).unwrap() == kept);
    assert_eq!(fs::read_to_string(&statements).unwrap(), "SELECT 1");
    assert_eq!(names(&place), there, "nothing is left behind");
}

#[test]
fn nothing_is_written_into_a_capture_that_is_a_directory() {
    let place = directory("overwrite-directory");
    let packed = small(&place);
    let capture = place.join("rec.ebrec.partial");
    let unzip = Command::new("python3").args(["-m", "zipfile", "-e", text(&packed), text(&capture)]).status().unwrap();
    assert!(unzip.success());
    let manifest = capture.join("manifest.json");
    let before = fs::read(&manifest).unwrap();
    for out in [manifest.clone(), capture.join("new.csv"), capture.join("sched_switch/new.csv"), place.join("rec.ebrec")] {
        let (err, code) = refused(&[text(&capture), "--force", "-o", text(&out), "sql", "SELECT 1"]);
        assert!(code == 2 && err.contains("being read"), "{}: {code} {err}", out.display());
    }
    assert_eq!(fs::read(&manifest).unwrap(), before);
}

#[test]
fn a_file_is_replaced_only_if_wanted_and_only_by_a_complete_one() {
    let place = directory("replace");
    let capture = small(&place);
    let out = place.join("out.csv");
    let query = |more: &[&str], sql: &str| ebrec(&[&[text(&capture), "--output", "csv", "-o", text(&out)], more, &["sql", sql]].concat());
    assert!(query(&[], "SELECT 7 AS n").status.success());
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), mode(&out)), ("n\n7\n", 0o600));
    let again = query(&[], "SELECT 8 AS n");
    let err = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(2) && err.contains("exists") && err.contains("--force"), "{err}");
    // What fails half way leaves the old file.
    for sql in ["SELECT nonsense", "SELECT 8 AS n; SELECT nonsense FROM process_exec"] {
        assert_eq!(query(&["--force"], sql).status.code(), Some(2));
        assert_eq!(fs::read_to_string(&out).unwrap(), "n\n7\n", "{sql}");
    }
    fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("out.csv", place.join("link.csv")).unwrap();
    let link = place.join("link.csv");
    stdout(&[text(&capture), "--output", "csv", "--force", "-o", text(&link), "sql", "SELECT 8 AS n; SELECT 9 AS n"]);
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), mode(&out)), ("n\n8\n\nn\n9\n", 0o640), "the link is followed, the mode kept");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&place), ["link.csv", "out.csv", "small.ebrec"]);
}

#[test]
fn what_fails_leaves_no_file() {
    let place = directory("no-file");
    let capture = small(&place);
    let out = |name: &str| place.join(name).to_str().unwrap().to_owned();
    let capture_ = text(&capture);
    for (args, code) in [
        (vec!["profile", "--comm", "nobody", "--output", "flamegraph", "-o"], 1),
        (vec!["sql", "SELECT nonsense FROM process_exec", "--output", "csv", "-o"], 2),
        (vec!["sql", "SELECT 1/(cpu-cpu) FROM sched_switch", "--output", "parquet", "-o"], 2),
        (vec!["sql", "SELECT 1", "--output", "folded", "-o"], 2),
        (vec!["tcplife", "--output", "junit", "-o"], 2),
        (vec!["--output", "csv", "-o"], 2),
    ] {
        let file = out("x");
        let (err, found) = refused(&[&[capture_], &args[..], &[&file]].concat());
        assert_eq!(found, code, "{args:?}: {err}");
        assert_eq!(names(&place), ["small.ebrec"], "{args:?}: {err}");
    }
    for missing in [out("no/such/x.csv"), format!("{capture_}/x.csv"), place.to_str().unwrap().to_owned()] {
        assert_eq!(refused(&[capture_, "-o", &missing, "sql", "SELECT 1"]).1, 2, "{missing}");
    }
    std::os::unix::fs::symlink("nowhere", place.join("dangling")).unwrap();
    assert_eq!(refused(&[capture_, "--force", "-o", &out("dangling"), "sql", "SELECT 1"]).1, 2);
    assert_eq!(names(&place), ["dangling", "small.ebrec"]);
}

#[test]
fn a_dash_is_stdout_and_a_device_is_written_to() {
    let place = directory("dash");
    let capture = small(&place);
    let csv = |out: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze"))
            .args([text(&capture), "--output", "csv", "-o", out, "sql", "SELECT 42 AS n"])
            .current_dir(&place)
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    assert_eq!(csv("-"), ("n\n42\n".to_owned(), Some(0)));
    assert_eq!(csv("/dev/stdout"), ("n\n42\n".to_owned(), Some(0)));
    assert_eq!(csv("/dev/null"), (String::new(), Some(0)));
    assert_eq!(csv("/dev/full").1, Some(2), "that a result can't be written is an error");
    assert_eq!(names(&place), ["small.ebrec"]);
}

/// Exit code and stderr of a program whose stdout and stderr are these.
fn ends(args: &[&str], stdout: Stdio, stderr: Stdio) -> (Option<i32>, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).args(args).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    let place = directory("gone");
    let capture = small(&place);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/cpu-contention.ebrec");
    let closed = || {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        Stdio::from(write)
    };
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let capture = text(&capture);
    for args in [
        &[capture][..],
        &[capture, "--output", "json"],
        &[capture, "--output", "markdown"],
        &[capture, "sql", "SELECT * FROM sched_switch"],
        &[capture, "--output", "json", "sql", "SELECT * FROM sched_switch"],
        &[capture, "--output", "parquet", "sql", "SELECT * FROM sched_switch"],
        &[capture, "--help"],
        &["compare", "--list"],
        &["reports"],
        &[capture, "tcptop", "--show-sql"],
        &[sample, "profile", "--output", "folded"],
        &[sample, "profile", "--output", "flamegraph"],
    ] {
        assert_eq!(ends(args, closed(), Stdio::piped()), (Some(0), String::new()), "{args:?}");
        let (code, err) = ends(args, full(), Stdio::piped());
        assert!(code == Some(2) && err.contains("No space left"), "{args:?}: {code:?} {err}");
    }
    // Nobody can be told that stderr is closed or full, and the result doesn't depend on it.
    for stderr in [closed, full] {
        assert_eq!(ends(&[capture, "--rows", "1", "tcplife", "--strict"], Stdio::null(), stderr()).0, Some(0));
        assert_eq!(ends(&["no-such-file.ebrec"], Stdio::null(), stderr()).0, Some(2));
        assert_eq!(ends(&[capture, "tcptop", "--nonsense"], Stdio::null(), stderr()).0, Some(2));
        let front = Command::new(env!("CARGO_BIN_EXE_ebrec")).stdout(closed()).stderr(stderr()).status().unwrap();
        assert_eq!(front.code(), Some(2));
    }
    let help = |stdout: Stdio| Command::new(env!("CARGO_BIN_EXE_ebrec")).arg("--help").stdout(stdout).status().unwrap().code();
    assert_eq!([help(closed()), help(full())], [Some(0), Some(2)]);
}

#[test]
fn every_report_writes_parquet() {
    let place = directory("all-parquet");
    let capture = text(&common::sample(&place.join("small.ebrec"))).to_owned();
    let reports = stdout(&["reports", "--output", "csv"]);
    let reports: Vec<&str> = reports.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    assert!(reports.len() > 40, "{reports:?}");
    for report in reports {
        let out = place.join(format!("{report}.parquet"));
        let code = ebrec(&[&capture, report, "--output", "parquet", "-o", text(&out)]).status.code();
        assert!(matches!(code, Some(0 | 1)), "{report}: {code:?}");
        let file = parquet::file::serialized_reader::SerializedFileReader::new(fs::File::open(&out).unwrap()).unwrap();
        let rows = parquet::file::reader::FileReader::metadata(&file).file_metadata().num_rows();
        assert_eq!(rows > 0, code == Some(0), "{report}: {rows} rows");
    }
}
