//! The captures of samples/: every one stays readable, tells its story, and its reports are those of golden/samples/.
//!
//! `EBREC_BLESS=1 cargo test -p ebrec-analyze` writes the golden files anew; a human reads the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{ebrec, stdout};
use ebrec_analyze::query::Queries;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is asked of each.
const SAMPLES: &[(&str, &[&str])] = &[
    ("quiet", &["runqlat", "tcptop -S -r 3 5", "tcplife", "cachestat 5", "softirqs"]),
    ("cpu-contention", &["runqlat -P --comm app", "runqslower 20000", "cpudist --comm gzip", "exitsnoop"]),
    ("connection-leak", &["tcpconnect -c", "tcplife", "tcptop -S -r 3"]),
    ("slow-disk", &["biolatency -D", "bitesize", "fsdist", "fsslower -m 50", "biosnoop -d nullb0"]),
    ("slow-dns", &["gethostlatency", "dnssnoop"]),
    ("retransmissions", &["tcpretrans -c", "tcpstates", "tcprtt"]),
    ("exec-storm", &["execsnoop -x", "exitsnoop -x"]),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name).with_extension("ebrec")
}

fn findings(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(&stdout(&[path(name).to_str().unwrap(), "--output", "json", "--quiet"])).unwrap();
    all["captures"][0]["triage"]["findings"].as_array().unwrap().clone()
}

fn of_check<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

#[test]
fn every_sample_is_listed_small_and_described() {
    let directory = path("x").parent().unwrap().to_owned();
    let readme = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ebrec") {
            found.push(path.file_stem().unwrap().to_string_lossy().into_owned());
            assert!(path.metadata().unwrap().len() < 1 << 20, "{}: more than 1 MiB", path.display());
        }
    }
    found.sort();
    let mut listed: Vec<&str> = SAMPLES.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
    assert!(listed.iter().all(|name| readme.contains(&format!("`{name}.ebrec`"))));
}

/// A sample of a real host would hold its users' arguments and paths. Only the VM of samples/make has this name.
#[test]
fn samples_come_from_the_vm() {
    for (name, _) in SAMPLES {
        let hosts: Value =
            serde_json::from_str(&stdout(&[path(name).to_str().unwrap(), "sql", "SELECT host FROM capture", "--output", "json"])).unwrap();
        assert_eq!(hosts, serde_json::json!([{ "host": "sample" }]), "{name}");
    }
}

#[test]
fn reports_of_the_samples() {
    for (name, lines) in SAMPLES {
        let mut text = String::new();
        for line in std::iter::once(&"").chain(*lines) {
            let file = format!("{name}.ebrec");
            let args: Vec<&str> = std::iter::once(file.as_str()).chain(line.split_whitespace()).chain(["--quiet"]).collect();
            let output =
                Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).current_dir(path(name).parent().unwrap()).args(&args).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{name} {line}: {}", String::from_utf8_lossy(&output.stderr));
            text.push_str(&format!("$ ebrec analyze {file} {line}\n{}\n", String::from_utf8_lossy(&output.stdout)));
        }
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/samples").join(name).with_extension("txt");
        if std::env::var_os("EBREC_BLESS").is_some() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(text == expected, "{} differs; EBREC_BLESS=1 writes it anew. Now it is:\n{text}", golden.display());
    }
}

#[test]
fn every_report_reads_every_sample() {
    let queries = Queries::builtin().unwrap();
    let read = |name: &str| {
        let capture = path(name);
        for query in queries.iter() {
            let output = ebrec(&[capture.to_str().unwrap(), query.name, "--quiet", "--output", "csv"]);
            let err = String::from_utf8_lossy(&output.stderr);
            // Tables that were not captured are the only reason for no answer.
            let answered = matches!(output.status.code(), Some(0 | 1)) || err.contains("not captured");
            assert!(answered, "{name} {}: {err}", query.name);
        }
    };
    // Three hundred processes: one after the other they take two minutes.
    std::thread::scope(|scope| {
        for (name, _) in SAMPLES {
            scope.spawn(|| read(name));
        }
    });
}

/// The samples were recorded before there was `file_unlink`.
#[test]
fn what_an_older_recorder_did_not_have_is_not_empty() {
    let output = ebrec(&[path("quiet").to_str().unwrap(), "filelife"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("file_unlink: not captured, because the recorder of this capture did not have it yet"), "{err}");
}

#[test]
fn nothing_stands_out_on_the_quiet_host() {
    let found = findings("quiet");
    assert_eq!(found, [] as [Value; 0], "{found:#?}");
}

#[test]
fn the_culprit_of_the_latency_spikes_is_named() {
    let found = findings("cpu-contention");
    let cpu = of_check(&found, "cpu");
    let app = cpu.iter().find(|finding| finding["values"]["comm"] == "app").unwrap_or_else(|| panic!("{found:#?}"));
    assert_eq!(app["values"]["hog_comm"], "gzip", "{app:#?}");
    // It began when the log was rotated, six seconds after the start.
    let capture = path("cpu-contention");
    let started: Vec<Value> = serde_json::from_str(&stdout(&[
        capture.to_str().unwrap(),
        "sql",
        "SELECT CAST(ts AS BIGINT) AS ts FROM capture",
        "--output",
        "json",
    ]))
    .unwrap();
    let after = (app["since_ns"].as_i64().unwrap() - started[0]["ts"].as_i64().unwrap()) as f64 / 1e9;
    assert!((5.5..7.5).contains(&after), "{after} s after the start");
}

#[test]
fn the_leaking_process_is_named() {
    let found = findings("connection-leak");
    let leaks = of_check(&found, "leaks");
    assert!(leaks.iter().any(|finding| finding["values"]["comm"] == "wl-client"), "{found:#?}");
}

#[test]
fn each_story_is_found() {
    for (sample, check) in [("slow-disk", "disk"), ("slow-dns", "dns"), ("retransmissions", "retransmits"), ("exec-storm", "execs")] {
        let found = findings(sample);
        assert!(!of_check(&found, check).is_empty(), "{sample}: {found:#?}");
    }
}

/// Whether `shown` is `real`, where a line `…` of it stands for any lines.
fn is_excerpt(shown: &[&str], real: &[&str]) -> bool {
    match (shown, real) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=real.len()).any(|skip| is_excerpt(rest, &real[skip..])),
        ([a, rest @ ..], [b, others @ ..]) => a == b && is_excerpt(rest, others),
        _ => false,
    }
}

#[test]
fn the_readme_and_the_stories_show_what_the_samples_answer() {
    excerpts_are_real("README.md");
    excerpts_are_real("docs/STORIES.md");
    excerpts_are_real("docs/COMPARE.md");
}

/// Every `$ ebrec analyze samples/…` and `$ ebrec compare samples/…` of a document answers what stands below it.
fn excerpts_are_real(document: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join(document)).unwrap();
    let mut examples: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line.strip_prefix("    ") {
            Some(text) if text.starts_with("$ ebrec analyze samples/") || text.starts_with("$ ebrec compare ") => {
                examples.push((text.trim_start_matches("$ ebrec ").trim_start_matches("analyze "), Vec::new()));
                inside = true;
            }
            Some(text) if inside => examples.last_mut().unwrap().1.push(text),
            _ => inside = false,
        }
    }
    assert!(!examples.is_empty(), "{document}");
    for (command, shown) in examples {
        let (words, quoted) = command.split_once('"').map_or((command, None), |(words, sql)| (words, sql.strip_suffix('"')));
        let args: Vec<&str> = words.split_whitespace().chain(quoted).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).current_dir(&root).args(&args).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let real: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
        assert!(is_excerpt(&shown, &real), "{document} shows something else than {command} answers:\n{out}");
    }
}
