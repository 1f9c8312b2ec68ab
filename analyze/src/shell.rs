//! The interactive shell: SQL and reports over a capture, with history and completion.
//!
//! A statement ends with a semicolon and may take several lines; what begins with a backslash is a command of the shell or a report, and ends
//! with the line. Ctrl-C forgets the line, or ends the query that runs; Ctrl-D leaves.

use crate::describe;
use crate::ending;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::memory;
use crate::notes;
use crate::output::text::escape;
use crate::output::{Format, Settings};
use crate::query::params;
use crate::run::{self, Outcome};
use crate::statements::{self, Statement};
use crate::suggest::closest;
use clap::ValueEnum;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Commands of the shell, their arguments, and what they do.
const COMMANDS: [(&str, &str, &str); 7] = [
    ("d", "[TABLE]", "lists the tables, or a table's columns"),
    ("reports", "", "lists the reports; each is also a table: SELECT … FROM tcplife"),
    ("output", "FORMAT", "table, csv, json, jsonl or markdown"),
    ("rows", "N", "the largest number of rows shown; 0 is all"),
    ("timing", "", "says how long each statement took, or no longer"),
    ("?", "", "this help"),
    ("q", "", "leaves; so do exit, quit and Ctrl-D"),
];

/// Words that SQL completes beside names.
const KEYWORDS: &str = "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING WITH AS JOIN LEFT INNER FULL ON USING AND OR NOT IN IS NULL LIKE ILIKE BETWEEN CASE WHEN \
    THEN ELSE END DISTINCT UNION ALL DESC ASC EXPLAIN ANALYZE OVER PARTITION INTERVAL CAST TIMESTAMP EXISTS OFFSET FILTER VALUES";

/// Lines that are kept from session to session.
const HISTORY: usize = 2000;

/// What the line editor knows.
#[derive(Helper, Highlighter, Hinter)]
struct Names {
    /// Tables and reports, with their columns as far as they are known.
    tables: BTreeMap<String, Vec<String>>,
    reports: Vec<String>,
    functions: Vec<String>,
}

/// Whether `line` can run as it is.
fn is_complete(line: &str) -> bool {
    let line = line.trim();
    let last = statements::split(line).pop();
    line.is_empty() || line.starts_with('\\') || is_word(line).is_some() || last.is_none_or(|statement| statement.ended)
}

/// Whether a name can be completed: a capture may hold tables and columns of any name, which the line editor would send to the terminal.
fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A command that needs no backslash.
fn is_word(line: &str) -> Option<&'static str> {
    let line = line.trim().trim_end_matches(';');
    [("exit", "q"), ("quit", "q"), ("help", "?")].into_iter().find(|(word, _)| line.eq_ignore_ascii_case(word)).map(|(_, command)| command)
}

impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Names {
    async fn of(engine: &Engine) -> Result<Names> {
        let mut tables = BTreeMap::new();
        for name in engine.tables().names().into_iter().filter(|name| engine.tables().is_captured(name)) {
            let schema = engine.tables().schema(name).await?;
            let columns = schema.fields().iter().map(|field| field.name().clone()).filter(|name| is_plain(name));
            tables.insert(name.to_owned(), columns.collect());
        }
        tables.retain(|name, _| is_plain(name));
        let mut reports = Vec::new();
        for query in engine.reports().iter().filter(|query| query.needs.iter().all(|table| engine.tables().is_captured(table))) {
            reports.push(query.name.to_owned());
            let columns = query.prepare(&params::defaults(query)?)?.columns;
            tables.insert(query.name.to_owned(), columns.iter().map(|column| column.name.to_owned()).collect());
        }
        Ok(Names { tables, reports, functions: engine.functions() })
    }

    /// What may stand at `at` of `line`, and where the word that it completes begins.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        let fits =
            |name: &str| name.len() >= word.len() && name.is_char_boundary(word.len()) && name[..word.len()].eq_ignore_ascii_case(word);
        let mut found: Vec<String> = Vec::new();
        if before.starts_with('\\') {
            let names = COMMANDS.iter().map(|(name, ..)| *name).chain(self.reports.iter().map(String::as_str));
            if start == 1 {
                found.extend(names.filter(|name| fits(name)).map(str::to_owned));
            } else {
                found.extend(self.tables.keys().filter(|name| fits(name)).cloned());
            }
        } else {
            // Columns of the tables that the statement names; without any, there is no telling which are meant.
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let of_tables = self.tables.iter().filter(|(table, _)| words.contains(&table.as_str())).flat_map(|(_, columns)| columns);
            found.extend(of_tables.filter(|name| fits(name)).cloned());
            found.extend(self.tables.keys().filter(|name| fits(name)).cloned());
            if !word.is_empty() {
                found.extend(self.functions.iter().filter(|name| fits(name)).map(|name| format!("{name}(")));
                found.extend(KEYWORDS.split_whitespace().filter(|name| fits(name)).map(str::to_owned));
            }
        }
        found.sort();
        found.dedup();
        (start, found)
    }
}

impl Completer for Names {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(line, at);
        Ok((start, found.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}

/// Where lines are kept; `None`: nowhere.
fn history_file() -> Option<PathBuf> {
    let home =
        |name: &str, below: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| PathBuf::from(value).join(below));
    let directory = home("XDG_STATE_HOME", "").or_else(|| home("HOME", ".local/state")).or_else(|| home("LOCALAPPDATA", ""))?.join("ebrec");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("sql_history"))
}

/// Reads and runs statements until the user leaves.
pub async fn run(engine: &Engine, settings: &Settings) -> Result<()> {
    let failed = |error: ReadlineError| Error::new("the terminal", error);
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(false)
        .max_history_size(HISTORY)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(failed)?
        .build();
    let mut editor: Editor<Names, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Names::of(engine).await?));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let mut session = Session { engine, settings: settings.clone(), timing: false };
    let tables = engine.tables().names().len();
    let names: Vec<String> = engine.captures().iter().map(|capture| escape(&capture.path.display().to_string())).collect();
    show(&format!("{} with {tables} tables. Statements end with ; and \\? is help.", names.join(", ")))?;
    // Ctrl-C ends a statement, and too much memory this session: the next begins with the next prompt.
    ending::interrupt_is_handled(true);
    memory::restart_instead(std::io::stdin().is_terminal());
    loop {
        match editor.readline("ebrec> ") {
            Ok(line) => {
                if line.trim().is_empty() {
                    continue;
                }
                editor.add_history_entry(line.as_str()).map_err(failed)?;
                if let Some(file) = &history {
                    // Lost history is no reason to stop.
                    let _ = editor.append_history(file);
                }
                if session.line(&line).await? {
                    return Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

struct Session<'a> {
    engine: &'a Engine,
    settings: Settings,
    timing: bool,
}

impl Session<'_> {
    /// Runs a line; true if it was the last.
    async fn line(&mut self, line: &str) -> Result<bool> {
        let command = is_word(line).or_else(|| line.trim().strip_prefix('\\'));
        let result = match command {
            Some("q") => return Ok(true),
            Some(command) => self.command(command.trim()).await,
            None => self.statements(line).await,
        };
        match result {
            Ok(()) => Ok(false),
            // The terminal is gone.
            Err(error) if error.is_broken_pipe() => Err(error),
            Err(error) => {
                error.say("");
                Ok(false)
            }
        }
    }

    async fn statements(&self, text: &str) -> Result<()> {
        for Statement { text, .. } in statements::split(text) {
            let began = Instant::now();
            let Some(outcome) = until_interrupt(run::sql(self.engine, text, &self.settings)).await? else { return Ok(()) };
            self.conclude(&outcome, began).await?;
        }
        Ok(())
    }

    async fn conclude(&self, outcome: &Outcome, began: Instant) -> Result<()> {
        let took = began.elapsed();
        show(&format!("({} row{})", outcome.rows, if outcome.rows == 1 { "" } else { "s" }))?;
        if self.timing {
            show(&format!("Time: {:.3} s", took.as_secs_f64()))?;
        }
        for note in notes::about(self.engine, &outcome.tables).await?.into_iter().filter(|note| note.incomplete) {
            self.settings.note(&format!("note: {}", note.text));
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or("?");
        let argument = words.next();
        match name {
            "?" | "help" => help()?,
            "d" => match argument {
                Some(table) => run::batch(&describe::columns(self.engine, table.trim_end_matches(';')).await?, &self.settings)?,
                None => run::batch(&describe::tables(self.engine).await?, &self.settings)?,
            },
            "reports" => run::batch(&describe::reports(self.engine.reports())?, &self.settings)?,
            "timing" => {
                self.timing = !self.timing;
                show(if self.timing { "timing is on" } else { "timing is off" })?;
            }
            "output" => {
                let format = argument.and_then(|word| Format::from_str(word, true).ok()).filter(|format| *format != Format::Parquet);
                self.settings.format = format.ok_or_else(|| Error::text("\\output takes table, csv, json, jsonl or markdown"))?;
            }
            "rows" => {
                let rows = argument.and_then(|word| word.parse().ok());
                self.settings.rows = Some(rows.ok_or_else(|| Error::text("\\rows takes a number; 0 is all"))?);
            }
            report => self.report(report, line).await?,
        }
        Ok(())
    }

    /// A report, as on the command line.
    async fn report(&self, name: &str, line: &str) -> Result<()> {
        let Some(query) = self.engine.reports().get(name) else {
            let names = COMMANDS.iter().map(|(name, ..)| *name).chain(self.engine.reports().iter().map(|query| query.name));
            let error = Error::text(format!("there is no command \\{name}"));
            return Err(match closest(name, names) {
                Some(other) => error.hint(format!("did you mean \\{other}?")),
                None => error.hint("\\? lists the commands, \\reports the reports"),
            });
        };
        let matches = match params::command(query).no_binary_name(false).try_get_matches_from(line.trim_end_matches(';').split_whitespace())
        {
            Ok(matches) => matches,
            // Its help, or what is wrong, with its usage.
            Err(error) => return Ok(error.print()?),
        };
        let values = params::values(query, &matches)?;
        let began = Instant::now();
        let Some(outcome) = until_interrupt(run::report(self.engine, query, &values, &self.settings)).await? else { return Ok(()) };
        self.conclude(&outcome, began).await
    }
}

/// Shows a line.
fn show(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn help() -> Result<()> {
    show("SELECT …;             runs a statement, which may take several lines")?;
    show("\\REPORT [OPTIONS]     runs a report: \\tcptop 5; \\REPORT --help describes it")?;
    for (name, arguments, doc) in COMMANDS {
        show(&format!("{:21} {doc}", format!("\\{name} {arguments}").trim_end()))?;
    }
    Ok(())
}

/// What `work` gives, unless Ctrl-C comes first.
async fn until_interrupt<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    #[cfg(unix)]
    {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};
        let interrupted = Arc::new(AtomicBool::new(false));
        let id = signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted.clone())?;
        let wait = async {
            while !interrupted.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let result = tokio::select! {
            result = work => result.map(Some),
            () = wait => show("cancelled").map(|()| None),
        };
        signal_hook::low_level::unregister(id);
        result
    }
    #[cfg(not(unix))]
    {
        work.await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let columns = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Names {
            tables: [("tcp_send", columns(&["ts", "bytes"])), ("tcp_recv", columns(&["ts", "bytes"])), ("tcptop", columns(&["rx_bytes"]))]
                .map(|(name, columns)| (name.to_owned(), columns))
                .into(),
            reports: vec!["tcptop".to_owned()],
            functions: vec!["sum".to_owned()],
        }
    }

    fn complete(line: &str) -> Vec<String> {
        names().candidates(line, line.len()).1
    }

    #[test]
    fn names_are_completed_where_they_can_stand() {
        assert_eq!(complete("SELECT * FROM tcp_"), ["tcp_recv", "tcp_send"]);
        assert_eq!(complete("select su"), ["sum("]);
        assert_eq!(complete("SELECT ts FROM tcp_send ORDER BY by"), ["BY", "bytes"]);
        assert_eq!(complete("SELECT by"), ["BY"]);
        assert_eq!(complete("\\tc"), ["tcptop"]);
        assert_eq!(complete("\\d tcp_s"), ["tcp_send"]);
        assert_eq!(complete("SELECT 'ü' sel"), ["SELECT"]);
        assert_eq!(complete("SELECT ü"), [""; 0]);
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon_and_a_command_with_its_line() {
        for line in ["SELECT 1;", "\\d", "exit", "help", "", "-- nothing", "QUIT;", "SELECT 1; SELECT 2;"] {
            assert!(is_complete(line), "{line}");
        }
        for line in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "tables"] {
            assert!(!is_complete(line), "{line}");
        }
    }
}
