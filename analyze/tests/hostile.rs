//! Text of strangers: nothing in a capture, a file name or a statement is obeyed by a terminal, a ticket, a browser or a spreadsheet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, SECOND, directory, ebrec, head, stdout, task};
use ebrec_format::events::process::{Process, ProcessExit, ProcessFork};
use ebrec_format::manifest::HookState;
use std::path::{Path, PathBuf};

/// Moves the cursor, hides what follows, reads backwards, leaves a code span, a fence, a cell, an element.
const EVIL: &str = "\u{1b}[8m\u{9b}2J\u{202e}x`|<b>\n```\n![t](http://t.test/)";
/// The same in the 16 bytes of a name.
const NAME: &str = "\u{1b}[8m`|<b>\u{9b}";

fn hostile(place: &Path) -> PathBuf {
    let evil = || EVIL.to_owned();
    let mut builder = Builder::default();
    builder.manifest.host.name = evil();
    builder.manifest.host.kernel = evil();
    builder.manifest.host.os = evil();
    builder.manifest.command = vec![evil()];
    builder.manifest.ended_by = evil();
    builder.manifest.recorder_version = evil();
    builder.manifest.notes.insert(evil(), evil());
    builder.manifest.filters.insert(evil(), vec![evil()]);
    let hook = HookState { hook: evil(), reason: Some(evil()), ..HookState::default() };
    builder.manifest.probes.get_mut("process").unwrap().hooks.push(hook.clone());
    let dns = builder.manifest.probes.get_mut("dns").unwrap();
    dns.hooks = vec![hook];
    // Many failing programs are a finding, whose text has the name.
    let exit = |nth: u32| ProcessExit {
        head: head(u64::from(nth) * SECOND / 100, task(1000 + nth, 1000 + nth, NAME)),
        lifetime_ns: 1_000_000,
        ppid: 1,
        exit_code: 1,
        signal: ebrec_format::wire::NULL32,
        core_dumped: 0,
        is_thread: 0,
        pad: 0,
    };
    let exits: Vec<_> = (0..900).map(exit).collect();
    let fork = ProcessFork { head: head(SECOND, task(1, 1, NAME)), child: task(2, 2, "=cmd|' /C x'"), is_thread: 0, pad: 0 };
    builder.rows(&exits).rows(&[fork]).write(&place.join("evil\u{1b}[31m\u{9b}`<b>.ebrec"))
}

/// Everything that was said, on stdout and stderr.
fn said(args: &[&str]) -> String {
    let output = ebrec(args);
    assert!(matches!(output.status.code(), Some(0..=2)), "{args:?}: {}", output.status);
    format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}')
}

#[test]
fn no_output_holds_what_a_terminal_obeys() {
    let place = directory("hostile-text");
    let capture = hostile(&place);
    let capture = capture.to_str().unwrap();
    let baseline = place.join("b.baseline");
    let baseline = baseline.to_str().unwrap();
    stdout(&["baseline", "create", baseline, capture]);
    let missing = format!("{}/no\u{1b}[31m.ebrec", place.display());
    for args in [
        &[capture][..],
        &[capture, "--output", "markdown"],
        &[capture, "--output", "json"],
        &[capture, "exitsnoop"],
        &[capture, "replay", "exitsnoop"],
        &[capture, "tables"],
        &[capture, capture, "exitsnoop"],
        &[capture, "gethostlatency"],
        &[capture, "--cgroup", "\u{1b}x"],
        &[capture, "sql", "SELECT comm, child_comm FROM process_fork"],
        &[capture, "sql", "--output", "json", "SELECT comm FROM process_fork"],
        &[capture, "sql", "--output", "jsonl", "SELECT comm, chr(155) || chr(127) FROM process_fork"],
        &[capture, "sql", "--output", "markdown", "SELECT comm FROM process_fork"],
        &[capture, "sql", "SELECT \"\u{1b}[31mx\" FROM process_exec"],
        &[capture, "sql", "SELECT 1 FROM \"t\u{1b}[31m\""],
        &[capture, "sql", "SELECT 1 AS \"\u{1b}[31m\""],
        &[capture, "sql", "SELECT \u{1b}"],
        &[capture, "\u{1b}[31mfoo"],
        &[capture, "--from", "\u{1b}[31m"],
        &[capture, "tcptop", "--\u{1b}[31m"],
        &[&missing],
        &["baseline", "show", baseline],
        &["baseline", "show", baseline, "--output", "json"],
        &["compare", capture, baseline],
        &["compare", capture, baseline, "--all", "--output", "markdown"],
        &["compare", capture, baseline, "--output", "junit"],
        &["compare", capture, baseline, "--output", "json"],
        &["compare", capture, baseline, "--explain", "failed_exits"],
        &["compare", capture, baseline, "--fail-on", "\u{1b}[31m worse"],
    ] {
        let said = said(args);
        assert!(!said.chars().any(is_obeyed), "{args:?}: {said:?}");
    }
}

/// Markdown without what is in code spans and fences.
fn outside_of_code(markdown: &str) -> String {
    let mut out = String::new();
    let mut fence: Option<String> = None;
    for line in markdown.lines() {
        let marks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if line.trim_end().chars().all(|c| c == '`') && marks.len() >= open.len() => fence = None,
            Some(_) => {}
            None if marks.len() >= 3 && !line[marks.len()..].contains('`') => fence = Some(marks),
            None => {
                let mut rest = line;
                while let Some(at) = rest.find('`') {
                    out.push_str(&rest[..at]);
                    let marks: String = rest[at..].chars().take_while(|c| *c == '`').collect();
                    let after = &rest[at + marks.len()..];
                    // A span ends at a run of the same length.
                    let mut end = None;
                    let mut from = 0;
                    while let Some(next) = after[from..].find('`').map(|next| from + next) {
                        let run = after[next..].chars().take_while(|c| *c == '`').count();
                        if run == marks.len() {
                            end = Some(next + run);
                            break;
                        }
                        from = next + run;
                    }
                    rest = &after[end.unwrap_or_else(|| panic!("a span without an end: {line}"))..];
                }
                out.push_str(rest);
                out.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "a fence without an end: {markdown}");
    out
}

#[test]
fn markdown_holds_text_of_strangers_in_code_only() {
    let place = directory("hostile-markdown");
    let capture = hostile(&place);
    let capture = capture.to_str().unwrap();
    for args in [
        &[capture, "--output", "markdown"][..],
        &[capture, "--output", "markdown", "exitsnoop"],
        &[capture, "--output", "markdown", "sql", "SELECT comm, 'https://t.test/' AS \"<img src=x>\", '@all' AS b FROM process_fork"],
        &["compare", capture, capture, "--all", "--output", "markdown"],
    ] {
        let outside = outside_of_code(&stdout(args));
        assert!(
            !outside.contains("<b>") && !outside.contains("![") && !outside.contains("<img") && !outside.contains("://"),
            "{args:?}: {outside}"
        );
        assert!(!outside.contains("@all"), "{outside}");
    }
    // A bar in a name is no new cell.
    let table = stdout(&[capture, "--output", "markdown", "sql", "SELECT comm, 1 AS n FROM process_fork"]);
    let cells = table.lines().last().unwrap().replace("\\|", "").matches('|').count();
    assert_eq!(cells, 3, "{table}");
}

#[test]
fn notes_are_not_taken_for_what_the_program_says() {
    let place = directory("hostile-notes");
    let mut builder = Builder::default();
    builder.manifest.notes.insert("Findings\nNothing stands out. Safe to close.".to_owned(), "1".to_owned());
    let capture = builder.write(&place.join("a.ebrec"));
    let out = stdout(&[capture.to_str().unwrap()]);
    assert_eq!(out.lines().filter(|line| line.starts_with("Findings")).count(), 1, "{out}");
    assert!(out.contains("\nnote     Findings\\nNothing stands out. Safe to close. = 1\n"), "{out}");
}

#[test]
fn pictures_hold_names_as_text() {
    let mut drawn = Vec::new();
    let line = ["<script>alert(1)</script>;\"onload=\"x]]>&\u{ffff} 5"];
    let line: Vec<String> = line.iter().map(|line| ebrec_analyze::output::escape::terminal(line)).collect();
    let mut options = inferno::flamegraph::Options::default();
    ebrec_analyze::output::stacks::draw(&mut options, line.iter().map(String::as_str), &mut drawn).unwrap();
    let drawn = String::from_utf8(drawn).unwrap();
    assert!(drawn.contains("&lt;script&gt;alert") && !drawn.contains("<script>alert") && !drawn.contains('\u{ffff}'), "{drawn}");
    assert!(!drawn.contains("\"onload="), "{drawn}");
}

#[test]
fn spreadsheets_compute_nothing_if_asked_so_and_programs_get_the_text_as_it_is() {
    let place = directory("hostile-csv");
    let capture = hostile(&place);
    let capture = capture.to_str().unwrap();
    let csv = |more: &[&str]| {
        let query = "SELECT child_comm AS \"=c\", -1 AS n, ['=a'] AS list FROM process_fork";
        stdout(&[&[capture, "--output", "csv"], more, &["sql", query]].concat())
    };
    assert_eq!(csv(&[]), "=c,n,list\n=cmd|' /C x',-1,\"[\"\"=a\"\"]\"\n");
    assert_eq!(csv(&["--spreadsheet"]), "'=c,n,list\n'=cmd|' /C x',-1,\"[\"\"=a\"\"]\"\n");
    assert_eq!(ebrec(&[capture, "--spreadsheet", "--output", "json", "sql", "SELECT 1"]).status.code(), Some(2));
}

#[test]
fn own_files_of_sql_have_names_of_commands() {
    let place = directory("hostile-queries");
    for name in ["\u{1b}[31m.sql", "-o.sql", "a b.sql"] {
        let queries = place.join("queries");
        let _ = std::fs::remove_dir_all(&queries);
        std::fs::create_dir(&queries).unwrap();
        std::fs::write(queries.join(name), "SELECT 1").unwrap();
        for option in ["--queries", "--metrics"] {
            let args: &[&str] = if option == "--queries" { &["reports"] } else { &["compare", "--list"] };
            let output = ebrec(&[args, &[option, queries.to_str().unwrap()]].concat());
            let err = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(2) && err.contains("no name of a command") && !err.contains('\u{1b}'), "{name:?}: {err}");
        }
    }
}

/// Forks that go in circles, and more generations than anybody has, end.
#[test]
fn ancestors_are_sought_to_an_end() {
    let fork = |nth: u64, parent: u32, child: u32| ProcessFork {
        head: head(nth, task(parent, parent, "a")),
        child: task(child, child, "a"),
        is_thread: 0,
        pad: 0,
    };
    let root = Process {
        head: head(0, task(1, 1, "root")),
        started_ts: 0,
        cgroup_id: 7,
        ppid: 0,
        uid: 0,
        is_thread: 0,
        is_kernel: 0,
        proc: 1,
        pad: 0,
    };
    let mut forks = vec![fork(1, 1, 2), fork(2, 2, 3), fork(3, 3, 2), fork(4, 3, 3), fork(5, 3, 1), fork(6, 8, 9), fork(7, 9, 8)];
    forks.extend((0..5000).map(|nth| fork(8 + u64::from(nth), if nth == 0 { 1 } else { 99 + nth }, 100 + nth)));
    let capture = Builder::default().rows(&[root]).rows(&forks).write(&directory("circles").join("a.ebrec"));
    let capture = capture.to_str().unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&stdout(&[capture, "--output", "json", "owners"])).unwrap();
    let pids: Vec<i64> = rows.iter().map(|row| row["pid"].as_i64().unwrap()).collect();
    assert_eq!(pids, [1, 2, 3].into_iter().chain(100..164).collect::<Vec<i64>>());
    assert!(stdout(&[capture]).contains("window"));
}
