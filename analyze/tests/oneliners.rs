//! Each line of docs/ONELINERS.md runs on the sample, and finds something unless the sample has no row of a table that it names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{directory, sample, stdout};
use std::process::Command;

const PAGE: &str = include_str!("../../docs/ONELINERS.md");
const PROMPT: &str = "ebrec analyze FILE ";

/// The command lines of the page.
fn lines() -> Vec<&'static str> {
    let blocks = PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).collect()
}

/// A line's arguments, as a shell splits them: what is in double quotes is one.
fn arguments(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for (nth, part) in line.split('"').enumerate() {
        // A shell would replace these within the quotes.
        assert!(!part.contains(['$', '`', '\\', '!']), "{line}");
        if nth % 2 == 1 {
            arguments.push(part.to_owned());
        } else {
            arguments.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    arguments
}

#[test]
fn every_line_of_the_page_runs_and_finds_something() {
    let directory = directory("oneliners");
    let capture = sample(&directory.join("FILE"));
    let rows = stdout(&[capture.to_str().unwrap(), "--output", "csv", "--rows", "0", "tables"]);
    // A table that nobody has filled yet is absent, or has no row.
    let filled: Vec<&str> = rows
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split(',');
            let (name, _, rows) = (cells.next()?, cells.next()?, cells.next()?);
            (rows != "0").then_some(name)
        })
        .collect();
    let all: Vec<&str> = ebrec_format::events::tables().map(|table| table.name).collect();
    let lines = lines();
    assert!(lines.len() >= 40, "only {} lines", lines.len());
    for line in lines {
        let rest = line.strip_prefix(PROMPT).unwrap_or_else(|| panic!("{line}: begins with {PROMPT}"));
        let arguments = [vec!["FILE".to_owned()], arguments(rest)].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).current_dir(&directory).args(&arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let words: Vec<&str> = rest.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let named = |name: &&&str| words.contains(*name);
        let empty = all.iter().filter(|name| !filled.contains(name)).any(|name| named(&name));
        // Of a process that the sample doesn't have.
        let other = rest.contains("-p 1234");
        if empty || other {
            assert!(matches!(output.status.code(), Some(0 | 1)), "{line}: {err}");
            continue;
        }
        assert!(output.status.success(), "{line}: {err}");
        let file =
            arguments.iter().position(|argument| argument == "-o").map(|at| std::fs::read_to_string(directory.join(&arguments[at + 1])));
        match file {
            Some(written) => assert!(written.unwrap().contains("<svg"), "{line}"),
            // Of a table the heading, the line below it, and a row.
            None if words.contains(&"sql") => assert!(out.lines().count() >= 3, "{line}:\n{out}"),
            None => assert!(out.lines().count() >= 1, "{line}:\n{out}"),
        }
    }
}
