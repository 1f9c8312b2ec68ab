//! The command line: global options, fixed commands, and a command per report.

use crate::compare::command as compare;
use crate::engine::DEFAULT_MEMORY;
use crate::output::Format;
use crate::query::{Queries, params};
use crate::replay;
use crate::triage;
use crate::window::{Instant, size};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  ebrec analyze incident.ebrec                              what is in it, what was lost, what stands out
  ebrec analyze incident.ebrec tcptop 5                     the live tool's answer, after the fact
  ebrec analyze incident.ebrec runqlat -P --from +10s --to +20s
  ebrec analyze incident.ebrec sql \"SELECT comm, count(*) FROM process_exec GROUP BY comm ORDER BY 2 DESC\"
  ebrec analyze incident.ebrec tcplife --output csv -o connections.csv

Exit code: 0 ok, 1 a report found nothing, 2 error (with --strict, also: records are missing).";

const SQL_EXAMPLES: &str = "The dialect is DataFusion's (PostgreSQL's, largely); only queries are allowed, and they see only the capture.

Examples:
  ebrec analyze FILE sql \"SELECT next_comm, max(next_waited_ns) FROM sched_switch GROUP BY 1 ORDER BY 2 DESC LIMIT 10\"
  ebrec analyze FILE sql                                    a shell with history and completion
  ebrec analyze FILE sql \"SELECT comm, count(*) FROM tcplife WHERE tx_bytes > 1e6 GROUP BY comm\"
  ebrec analyze FILE sql -f questions.sql --output csv
  echo 'SELECT count(*) FROM tcp_connect WHERE errno <> 0' | ebrec analyze FILE sql -
  ebrec analyze FILE sql \"EXPLAIN ANALYZE SELECT count(*) FROM sched_switch WHERE next_waited_ns > 1000000\"";

/// The whole command line.
pub fn command(queries: &Queries) -> Command {
    let program = if std::env::var_os("EBREC_FRONT").is_some() { "ebrec analyze" } else { "ebrec-analyze" };
    let mut command = Command::new("ebrec-analyze")
        .bin_name(program)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Answers questions about a capture: summary, SQL, and the reports of the BCC tools")
        .after_help(EXAMPLES)
        .subcommand_precedence_over_arg(true)
        .disable_help_subcommand(false)
        .subcommand_help_heading("Commands and reports")
        .arg(
            Arg::new("captures")
                .value_name("FILE")
                .help("Captures; several are one dataset, told apart by the columns host and capture")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .action(ArgAction::Append)
                .num_args(1..),
        )
        .arg(
            Arg::new("threshold")
                .long("threshold")
                .value_name("CHECK.NAME=N")
                .help("What stands out, from here on: cpu.p99_ms=5; docs/TRIAGE.md lists the thresholds")
                .value_parser(triage::threshold)
                .action(ArgAction::Append),
        )
        .args(globals())
        .subcommand(
            Command::new("sql")
                .about("Runs SQL over the capture's tables and reports; without a statement, a shell")
                .after_help(SQL_EXAMPLES)
                .arg(Arg::new("statement").value_name("SQL").help("Statements; - reads them from stdin; none: a shell"))
                .arg(
                    Arg::new("file")
                        .short('f')
                        .long("file")
                        .value_name("FILE")
                        .help("Reads the statements from a file")
                        .conflicts_with("statement")
                        .value_parser(value_parser!(PathBuf)),
                ),
        )
        .subcommand(Command::new("tables").about("Lists the tables: rows, losses, what a row is"))
        .subcommand(
            Command::new("describe")
                .about("Lists a table's columns")
                .arg(Arg::new("table").value_name("TABLE").help("The table").required(true)),
        )
        .subcommand(Command::new("reports").about("Lists the reports by group"));
    command = command.subcommand(replay::command(queries));
    command = command.subcommand(compare::command()).subcommand(compare::baseline_command());
    for query in queries.iter() {
        command = command.subcommand(params::command(query));
    }
    // The capture stands between the program and the command, which clap's own usage line leaves out.
    command.mut_subcommands(|sub| {
        // These go before the captures, and the front command knows them.
        let front = program.split_whitespace().next().unwrap_or(program);
        match sub.get_name() {
            "compare" => {
                return sub.override_usage(format!("{front} compare [OPTIONS] BASE… -- NEW…\n       {front} compare [OPTIONS] A B"));
            }
            "baseline" => {
                return sub.override_usage(format!("{front} baseline create|add FILE CAPTURE…\n       {front} baseline show FILE"));
            }
            _ => {}
        }
        let file = if sub.get_name() == "reports" { "" } else { " FILE" };
        let positionals = sub.get_positionals().map(|arg| format!(" [{}]", arg.get_id().as_str().to_uppercase())).collect();
        let arguments = if sub.get_name() == "replay" { " REPORT".to_owned() } else { positionals };
        let usage = format!("{program}{file} {} [OPTIONS]{arguments}", sub.get_name());
        sub.override_usage(usage)
    })
}

/// Options that every command takes.
fn globals() -> Vec<Arg> {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).global(true).help_heading("Options of every command")
    };
    let flag = |name, help| option(name, "", help).action(ArgAction::SetTrue);
    vec![
        option("from", "TIME", "Only from here on: +10s, +500ms, 12:03:04, 2026-01-31T12:03:04Z (UTC)")
            .value_parser(value_parser!(Instant)),
        option("to", "TIME", "Only before this").value_parser(value_parser!(Instant)),
        option("pid", "PID", "Only events of this process").short('p').value_parser(value_parser!(i32).range(0..)),
        option("tid", "TID", "Only events of this thread").value_parser(value_parser!(i32).range(0..)),
        option("cgroup", "PATH", "Only events of processes in this cgroup (v2 path or id) and those below it"),
        option("container", "NAME", "Only events of processes of this container (its name, its id, or how that begins)"),
        option("pod", "NAME", "Only events of processes of this Kubernetes pod ([NAMESPACE/]NAME, its UID, or how that begins)"),
        option("unit", "NAME", "Only events of processes of this unit of systemd"),
        option("comm", "NAME", "Only events of tasks with this name"),
        option("output", "FORMAT", "How to write the result")
            .value_parser(clap::builder::EnumValueParser::<Format>::new())
            .default_value("table"),
        option("out", "FILE", "Writes the result to a new file, which only you may read; - is stdout")
            .short('o')
            .value_parser(value_parser!(PathBuf)),
        flag("force", "Replaces the file if it exists (never one that is read)"),
        flag("spreadsheet", "With --output csv: marks text that a spreadsheet would take for a formula"),
        option("rows", "N", "The largest number of rows; 0 is all [default: 100 on a terminal, else all]")
            .value_parser(value_parser!(i64).range(0..)),
        flag("show-sql", "Prints a report's SQL instead, for other engines to run over the unzipped files"),
        flag("quiet", "Says nothing but results and errors"),
        flag("strict", "Fails (exit code 2) if records are missing that the answer needs"),
        option("queries", "DIR", "Adds the reports of a directory of .sql files").value_parser(value_parser!(PathBuf)),
        option("memory", "SIZE", "Memory for queries before they spill to disk; the program takes 512M more at most [default: 512M]")
            .value_parser(size),
    ]
}

/// `REPORT FILE` as `FILE REPORT`, which is how the arguments are parsed: fingers know both.
pub fn captures_first(args: &[OsString], queries: &Queries) -> Vec<OsString> {
    let mut args = args.to_vec();
    let name = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let fixed = ["sql", "tables", "describe", "replay"];
    if !fixed.contains(&name) && queries.get(name).is_none() || Path::new(name).exists() {
        return args;
    }
    // What an option takes is no capture to read.
    let takes_file = |arg: &OsString| ["-o", "--out", "-f", "--file", "--queries"].iter().any(|option| arg == option);
    let is_capture = |arg: &OsString| {
        let text = arg.to_string_lossy();
        let text = text.trim_end_matches('/');
        text.ends_with(".ebrec") || text.ends_with(".ebrec.partial")
    };
    let found = (2..args.len()).take_while(|&nth| args[nth] != "--").find(|&nth| is_capture(&args[nth]) && !takes_file(&args[nth - 1]));
    if let Some(nth) = found {
        let capture = args.remove(nth);
        args.insert(1, capture);
    }
    args
}

/// The directory of `--queries`, which must be known before the commands are.
pub fn queries_directory(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--queries" {
            return args.next().map(PathBuf::from);
        }
        if let Some(directory) = arg.to_str().and_then(|arg| arg.strip_prefix("--queries=")) {
            return Some(PathBuf::from(directory));
        }
        if arg == "--" {
            break;
        }
    }
    None
}

/// The global options, parsed.
#[derive(Debug, Clone)]
pub struct Globals {
    /// `--from`.
    pub from: Option<Instant>,
    /// `--to`.
    pub to: Option<Instant>,
    /// `-p`.
    pub pid: Option<i32>,
    /// `--tid`.
    pub tid: Option<i32>,
    /// `--cgroup`.
    pub cgroup: Option<String>,
    /// `--container`.
    pub container: Option<String>,
    /// `--pod`.
    pub pod: Option<String>,
    /// `--unit`.
    pub unit: Option<String>,
    /// `--comm`.
    pub comm: Option<String>,
    /// `--output`.
    pub format: Format,
    /// `-o`.
    pub out: Option<PathBuf>,
    /// `--force`.
    pub force: bool,
    /// `--spreadsheet`.
    pub spreadsheet: bool,
    /// `--queries`.
    pub queries: Option<PathBuf>,
    /// `--rows`.
    pub rows: Option<usize>,
    /// `--quiet`.
    pub quiet: bool,
    /// `--show-sql`.
    pub show_sql: bool,
    /// `--strict`.
    pub strict: bool,
    /// `--memory`.
    pub memory: usize,
}

impl Globals {
    /// From the matches of a command.
    pub fn of(matches: &ArgMatches) -> Globals {
        Globals {
            from: one(matches, "from"),
            to: one(matches, "to"),
            pid: one(matches, "pid"),
            tid: one(matches, "tid"),
            cgroup: one(matches, "cgroup"),
            container: one(matches, "container"),
            pod: one(matches, "pod"),
            unit: one(matches, "unit"),
            comm: one(matches, "comm"),
            format: one(matches, "output").unwrap_or(Format::Table),
            out: one(matches, "out"),
            force: one(matches, "force").unwrap_or(false),
            spreadsheet: one(matches, "spreadsheet").unwrap_or(false),
            queries: one(matches, "queries"),
            rows: one::<i64>(matches, "rows").and_then(|rows| usize::try_from(rows).ok()),
            quiet: one(matches, "quiet").unwrap_or(false),
            show_sql: one(matches, "show-sql").unwrap_or(false),
            strict: one(matches, "strict").unwrap_or(false),
            memory: one(matches, "memory").unwrap_or(DEFAULT_MEMORY),
        }
    }
}

fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.try_get_one::<T>(name).ok().flatten().cloned()
}
