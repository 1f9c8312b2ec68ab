//! From arguments to an exit code.

use crate::cli::{self, Globals};
use crate::compare;
use crate::describe;
use crate::ending;
use crate::engine::Engine;
use crate::engine::cgroup;
use crate::engine::filter::Filter;
use crate::engine::owner::{self, Owner};
use crate::error::{Error, Result};
use crate::front;
use crate::memory;
use crate::notes::{self, Note};
use crate::output::file::Inputs;
use crate::output::{Settings, escape, say};
use crate::query::{Queries, params};
use crate::replay;
use crate::run::{self, Outcome};
use crate::shell;
use crate::suggest::closest;
use crate::summary;
use crate::triage::Threshold;
use crate::window;
use clap::ArgMatches;
use ebrec_format::text::stored;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything went well.
pub const OK: u8 = 0;
/// A report found nothing.
pub const NOTHING: u8 = 1;
/// Something failed.
pub const FAILED: u8 = 2;

/// Stacks of the thread that plans and of those that compute, in bytes. Only what is used of them takes memory. An expression of
/// [`LONGEST_CHAIN`](crate::engine::LONGEST_CHAIN) operators is a tree of that depth, which the planner and its destructors go down by recursion.
pub const STACK: [usize; 2] = [512 << 20, 128 << 20];

/// Runs the program. `args` begins with its name.
pub fn main(args: Vec<OsString>) -> u8 {
    // The libraries that decode a capture may meet bytes that their authors thought impossible. That is an error like any other.
    std::panic::set_hook(Box::new(|panic| {
        if ebrec_format::capture::is_guarded() {
            return;
        }
        // The readers of Parquet panic at some bytes of a page that no writer writes. Where it happened tells it from a fault of ours.
        let of_decoding = |place: &std::panic::Location<'_>| ["/parquet-", "/arrow-"].iter().any(|name| place.file().contains(name));
        let what = if panic.location().is_some_and(of_decoding) { "a table can't be decoded" } else { "internal error" };
        say(&format!("ebrec-analyze: {what}: {}", panic.to_string().replace("panicked at", "at")));
        say("ebrec-analyze: the capture is damaged, or this is a bug worth reporting; nothing was changed");
    }));
    // Without them the program still answers; it only ends less tidily.
    let _ = memory::watch(FAILED);
    let _ = ending::watch_signals();
    let args = Arc::new(args);
    // Where the address space is limited, a small stack has to do.
    let started = STACK.into_iter().chain([64 << 20, 8 << 20]).find_map(|size| {
        let args = args.clone();
        std::thread::Builder::new().name("ebrec-main".to_owned()).stack_size(size).spawn(move || run_to_code(&args)).ok()
    });
    let code = match started {
        Some(thread) => thread.join().unwrap_or(FAILED),
        None => std::panic::catch_unwind(|| run_to_code(&args)).unwrap_or(FAILED),
    };
    ending::finish();
    code
}

fn run_to_code(args: &[OsString]) -> u8 {
    match try_main(args) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => OK,
        Err(error) => {
            error.say("ebrec-analyze: ");
            FAILED
        }
    }
}

fn try_main(args: &[OsString]) -> Result<u8> {
    let queries = match cli::queries_directory(args) {
        Some(directory) => Queries::with_directory(&directory)?,
        None => Queries::builtin()?,
    };
    let matches = match cli::command(&queries).try_get_matches_from(cli::captures_first(args, &queries)) {
        Ok(matches) => matches,
        Err(error) => {
            if error.use_stderr() {
                let text = error.render().to_string();
                let text = escape::lines(text.trim_start_matches("error: "));
                // Nobody can be told that stderr is closed.
                let _ = write!(std::io::stderr(), "ebrec-analyze: {text}");
                return Ok(FAILED);
            }
            error.print()?;
            return Ok(OK);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_time().worker_threads(workers()).thread_stack_size(STACK[1]).build()?;
    let code = runtime.block_on(dispatch(&queries, &matches));
    // A query that was given up may be at work for a while still; nobody waits for it.
    runtime.shutdown_background();
    code
}

/// At least two, so that reading and computing overlap on the smallest machine.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2)
}

async fn dispatch(queries: &Queries, matches: &ArgMatches) -> Result<u8> {
    let (name, sub) = matches.subcommand().map_or((None, matches), |(name, sub)| (Some(name), sub));
    let globals = Globals::of(sub);
    memory::limit(globals.memory);
    let paths: Vec<PathBuf> = matches.get_many::<PathBuf>("captures").unwrap_or_default().cloned().collect();
    let settings = Settings::of(&globals, inputs(&paths, sub, &globals));
    settings.check()?;
    if name == Some("reports") {
        run::batch(&describe::reports(queries)?, &settings)?;
        return Ok(OK);
    }
    if let Some(command @ ("compare" | "baseline")) = name {
        if matches.contains_id("captures") {
            return Err(Error::text(format!("{command} takes its captures after its name")).hint("ebrec compare BASE… -- NEW…"));
        }
        return match command {
            "compare" => compare::command::run(sub, &globals, &settings, queries).await,
            _ => compare::command::run_baseline(sub, &globals, queries).await,
        };
    }
    let engine = open(&paths, &globals, queries).await?;
    let (outcome, is_report) = match name {
        None => {
            let thresholds: Vec<Threshold> = matches.get_many("threshold").unwrap_or_default().cloned().collect();
            (Outcome::new(1, summary::write(&engine, &thresholds, &settings).await?), false)
        }
        Some("sql") => match statements(sub)? {
            Some(text) => (run::script(&engine, &text, &settings).await?, false),
            None if settings.file.is_some() => {
                return Err(Error::text("a shell shows its results, and writes none to a file")
                    .hint("give the statement: sql \"SELECT …\" -o FILE"));
            }
            None => {
                shell::run(&engine, &settings).await?;
                return Ok(OK);
            }
        },
        Some("replay") => (replay::replay(&engine, queries, sub, &settings).await?, true),
        Some("tables") => {
            run::batch(&describe::tables(&engine).await?, &settings)?;
            return Ok(OK);
        }
        Some("describe") => {
            let table = sub.get_one::<String>("table").map(String::as_str).unwrap_or_default();
            run::batch(&describe::columns(&engine, table).await?, &settings)?;
            return Ok(OK);
        }
        Some(report) => {
            let query = queries.get(report).ok_or_else(|| Error::text(format!("there is no report {report}")))?;
            let values = params::values(query, sub)?;
            // A report with an option of that name means the rows of each of its blocks.
            let own_rows = query.params.iter().any(|param| param.name == "rows");
            let settings = Settings { rows: settings.rows.filter(|_| !own_rows), ..settings.clone() };
            if globals.show_sql {
                let mut out = settings.open()?;
                for one in engine.each() {
                    writeln!(out, "{};", one.portable(query, &values)?)?;
                }
                out.finish()?;
                return Ok(OK);
            }
            (run::report(&engine, query, &values, &settings).await?, true)
        }
    };
    let mut notes = notes::about(&engine, &outcome.tables).await?;
    if is_report {
        notes.extend(notes::nameless(&engine, &outcome.tables).await?);
    }
    let code = conclude(&notes, &settings, globals.strict);
    if code == OK && is_report && outcome.rows == 0 {
        nothing(&engine, name.unwrap_or_default(), &settings);
        return Ok(NOTHING);
    }
    Ok(code)
}

/// What the command reads, if it writes a file: that must be another.
fn inputs(captures: &[PathBuf], sub: &ArgMatches, globals: &Globals) -> Inputs {
    if globals.out.is_none() {
        return Inputs::default();
    }
    let statements = sub.try_get_one::<PathBuf>("file").ok().flatten();
    let of_compare = compare::command::inputs(sub);
    Inputs::of(captures.iter().chain(statements).chain(&of_compare).chain(&globals.queries).map(PathBuf::as_path))
}

/// Says the notes; with `--strict` missing records are an error.
fn conclude(notes: &[Note], settings: &Settings, strict: bool) -> u8 {
    for note in notes {
        settings.note(&format!("note: {}", note.text));
    }
    if strict && notes.iter().any(|note| note.incomplete) {
        say("ebrec-analyze: records are missing that the answer needs, and --strict was given");
        return FAILED;
    }
    OK
}

fn nothing(engine: &Engine, report: &str, settings: &Settings) {
    let filter = engine.filter();
    let (from, to) = engine.window();
    let recorded = engine.captures().iter().map(|capture| (capture.manifest.started_ns, capture.manifest.ended_ns));
    let outside = recorded.clone().all(|(start, end)| to <= start || from >= end) && (filter.from.is_some() || filter.to.is_some());
    let why = if outside {
        let (start, end) = recorded.fold((i64::MAX, i64::MIN), |all, one| (all.0.min(one.0), all.1.max(one.1)));
        format!("; the window is outside of what was recorded ({} to {})", window::instant(start), window::instant(end))
    } else if filter.is_of_tasks() {
        " for these tasks".to_owned()
    } else {
        String::new()
    };
    settings.note(&format!("ebrec-analyze: {report}: nothing found{why}"));
}

/// Opens captures as the options say.
pub async fn open(paths: &[PathBuf], globals: &Globals, queries: &Queries) -> Result<Engine> {
    if paths.is_empty() {
        return Err(Error::text("which capture?").hint("ebrec analyze FILE [COMMAND]; ebrec analyze help lists the commands"));
    }
    let captures = Engine::open(paths).map_err(|error| misspelled(error, paths, queries))?;
    let filter = Filter {
        pid: globals.pid,
        tid: globals.tid,
        comm: globals.comm.as_deref().map(|comm| stored(comm).into_owned()),
        ..Filter::default()
    };
    let mut filters = Vec::new();
    for capture in &captures {
        filters.push(window::resolve(capture, globals.from, globals.to, filter.clone())?);
    }
    let owners = [(Owner::Container, &globals.container), (Owner::Pod, &globals.pod), (Owner::Unit, &globals.unit)];
    let owners: Vec<(Owner, Cow<'_, str>)> =
        owners.into_iter().filter_map(|(owner, name)| Some((owner, stored(name.as_deref()?)))).collect();
    let cgroup = globals.cgroup.as_deref().map(stored);
    if owners.len() + usize::from(cgroup.is_some()) > 1 {
        return Err(Error::text("--cgroup, --container, --pod and --unit say the same in several ways").hint("give one of them"));
    }
    for (capture, filter) in captures.iter().zip(&mut filters) {
        let whole = || Engine::new(vec![capture.clone()], vec![Filter::default()], globals.memory, Queries::default());
        if let Some(cgroup) = &cgroup {
            filter.cgroup = Some((format!("cgroup {cgroup}"), Arc::new(cgroup::processes(&whole()?, cgroup).await?)));
        }
        if let [(owner, name)] = owners.as_slice() {
            let (called, processes) = owner::processes_of(&whole()?, *owner, name).await?;
            filter.cgroup = Some((called, Arc::new(processes)));
        }
    }
    Engine::new(captures, filters, globals.memory, queries.clone())
}

/// A misspelled command looks like one more capture that doesn't exist.
fn misspelled(error: Error, paths: &[PathBuf], queries: &Queries) -> Error {
    let word = |path: &PathBuf| path.to_str().filter(|word| !word.contains(['.', '/', '\\']) && !path.exists()).map(str::to_owned);
    // The first could be one of the front command's.
    if let Some(word) = paths.first().and_then(word) {
        let front = front::COMMANDS.iter().map(|(name, ..)| *name);
        let error = Error::text(format!("there is no command {word}, and no capture of that name"));
        return match closest(&word, front.chain(commands(queries))) {
            Some(other) if front::COMMANDS.iter().any(|(name, ..)| *name == other) => error.hint(format!("did you mean ebrec {other}?")),
            Some(other) => error.hint(format!("did you mean ebrec analyze FILE {other}?")),
            None => error.hint("ebrec record makes a capture, ebrec analyze FILE answers questions about it; ebrec --help says more"),
        };
    }
    let Some(word) = paths.last().and_then(word) else { return error };
    let error = Error::text(format!("there is no command {word}"));
    match closest(&word, commands(queries)) {
        Some(other) => error.hint(format!("did you mean {other}?")),
        None => error.hint("ebrec analyze help lists the commands"),
    }
}

fn commands(queries: &Queries) -> impl Iterator<Item = &str> {
    let fixed = ["sql", "tables", "describe", "reports", "replay", "compare", "baseline", "help"];
    fixed.into_iter().chain(queries.iter().map(|query| query.name))
}

/// The statements of `sql`: given, in a file, or on stdin; `None` if they shall be typed.
fn statements(matches: &ArgMatches) -> Result<Option<String>> {
    if let Some(path) = matches.get_one::<PathBuf>("file") {
        let text = std::fs::read_to_string(path);
        return text.map(Some).map_err(|error| Error::new(path.display(), error).hint("-f takes a file with SQL statements"));
    }
    match matches.get_one::<String>("statement") {
        Some(statement) if statement != "-" => return Ok(Some(statement.clone())),
        None if std::io::stdin().is_terminal() => return Ok(None),
        _ => {}
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| Error::new("stdin", error))?;
    Ok(Some(text))
}
