//! docs/TOUR.md tells the truth: each of its questions is asked of a capture of its load and has an answer.
//!
//! `EBREC_BLESS=1` writes the answers, and the recorder's words, into the page.

use ebrec_tests::{Capture, Context, Result, analyze, fail, recording, require_bpf};
use std::path::Path;
use std::process::Command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TOUR.md");

/// A command of the page, between the prompt and what it prints.
fn questions(page: &str) -> impl Iterator<Item = &str> {
    page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// The page with the text block behind each question replaced by its answer.
fn with_answers(page: &str, answers: &[String]) -> Result<String> {
    let mut parts = page.split("```sql\n");
    let mut out = parts.next().context("an empty page")?.to_owned();
    for (part, answer) in parts.zip(answers) {
        let (question, rest) = part.split_once("```\n").context("a question without an end")?;
        let (between, rest) = rest.split_once("```text\n").context("a question without an answer")?;
        let (_, rest) = rest.split_once("```\n").context("an answer without an end")?;
        out.push_str(&format!("```sql\n{question}```\n{between}```text\n{answer}```\n{rest}"));
    }
    Ok(out)
}

fn load() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/tour-load");
    // Not in a tmpfs: there are no disks under one.
    // Without what cargo tells the loader, whose search would be among the answers.
    let ran = Command::new("python3").arg(&script).arg("/var/tmp").env_remove("LD_LIBRARY_PATH").output().context("tour-load")?;
    if ran.status.success() { Ok(()) } else { fail(format!("tour-load: {}", String::from_utf8_lossy(&ran.stderr))) }
}

fn answer(capture: &Capture, question: &str) -> Result<String> {
    let said =
        analyze(capture.path(), &["sql", question.trim().trim_end_matches(';'), "--output", "table"])?.succeeded().context(question)?;
    Ok(said.stdout)
}

#[test]
fn every_question_of_the_tour_has_an_answer() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let page = std::fs::read_to_string(PAGE).context(PAGE)?;
    let asked: Vec<&str> = questions(&page).collect();
    assert!(asked.len() >= 10, "only {} questions", asked.len());
    let ((), capture, _) = recording(&["--probes", "default,syscall"], load)?;
    let mut answers = Vec::new();
    for question in &asked {
        let text = answer(&capture, question)?;
        // A heading, its line, and at least one row.
        assert!(text.lines().count() >= 3, "no answer to:\n{question}\n{text}");
        answers.push(text);
    }
    if std::env::var("EBREC_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(PAGE, with_answers(&page, &answers)?).context(PAGE)?;
    }
    Ok(())
}
