//! The commands `compare` and `baseline`: from arguments to an exit code.

use super::baseline::{self, Baseline};
use super::flame::{self, Folded};
use super::judge::{self, Rules, Verdict};
use super::measure::{Measurement, measure};
use super::metric::{self, Metric, Source};
use super::output::{Report, number};
use super::policy::{self, Condition, Outcome};
use super::{explain, reference};
use crate::app::{self, FAILED, NOTHING, OK};
use crate::cli::Globals;
use crate::error::{Error, Result};
use crate::output::file::{self, Inputs};
use crate::output::text::{escape, pad};
use crate::output::{Format, Settings};
use crate::query::Queries;
use crate::window;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Conclusions are wrong so often, in percent, unless `--confidence` says otherwise.
const CONFIDENCE: &str = "95";
/// The smallest change that matters, in percent, unless `--min-effect` says otherwise.
const LEAST: &str = "10";

const EXAMPLES: &str = "Examples:
  ebrec compare healthy.ebrec incident.ebrec                what changed between two captures
  ebrec compare base-*.ebrec -- new-*.ebrec                 several a side: the noise between runs is measured
  ebrec compare --explain runqlat nightly.baseline -- new-*.ebrec
  ebrec compare base-*.ebrec --fail-on 'runqlat.p99 > +20%' --fail-on 'failed_opens worse' -- new-*.ebrec
  ebrec compare a.ebrec --output flamegraph -o cpu.svg -- b.ebrec

Exit code: 0 no regression, 1 regression (a metric got worse; with --fail-on or --policy: one of their conditions is met), 2 error.";

fn percent(text: &str) -> Result<f64, String> {
    let value = text.trim_end_matches('%').parse::<f64>().ok().filter(|value| value.is_finite() && (0.0..1e6).contains(value));
    value.map(|value| value / 100.0).ok_or_else(|| "expected a percentage, such as 10%".to_owned())
}

fn confidence(text: &str) -> Result<f64, String> {
    percent(text)
        .ok()
        .filter(|value| (0.5..0.99999).contains(value))
        .ok_or_else(|| "expected a percentage from 50 to below 100, such as 95%".to_owned())
}

fn captures(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .value_name(name.to_uppercase().leak() as &'static str)
        .help(help)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::AnyPath)
}

fn directory() -> Arg {
    Arg::new("metrics")
        .long("metrics")
        .value_name("DIR")
        .help("Adds the metrics of a directory of .sql files")
        .value_parser(value_parser!(PathBuf))
}

/// `compare`.
pub fn command() -> Command {
    Command::new("compare")
        .about("Tells whether captures are worse than others, with confidence intervals")
        .after_help(EXAMPLES)
        .arg(captures("base", "What to compare with: captures or baselines").num_args(1..).required_unless_present("list"))
        .arg(captures("new", "What to compare, after --; without --, the second of two").num_args(1..).last(true))
        .arg(
            Arg::new("fail-on")
                .long("fail-on")
                .value_name("CONDITION")
                .help("What is a regression, instead of any metric that got worse; may be given several times")
                .long_help(format!(
                    "What is a regression, instead of any metric that got worse; may be given several times:\n{}",
                    policy::GRAMMAR
                ))
                .value_parser(value_parser!(Condition))
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("policy")
                .long("policy")
                .value_name("FILE")
                .help("Conditions as for --fail-on, one in each line; # begins a comment")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("min-effect")
                .long("min-effect")
                .value_name("PERCENT")
                .help("The smallest change that matters")
                .default_value(LEAST)
                .value_parser(percent),
        )
        .arg(
            Arg::new("confidence")
                .long("confidence")
                .value_name("PERCENT")
                .help("Of the intervals; the rest is how often chance may be taken for a change")
                .default_value(CONFIDENCE)
                .value_parser(confidence),
        )
        .arg(
            Arg::new("explain")
                .long("explain")
                .value_name("METRIC")
                .help("Shows one metric in full: both distributions, and who contributes; METRIC{comm=app} one group")
                .conflicts_with_all(["fail-on", "policy"]),
        )
        .arg(Arg::new("only").long("only").value_name("METRIC").help("Only these metrics, separated by commas").value_delimiter(','))
        .arg(Arg::new("all").long("all").help("Shows all rows, not only what changed").action(ArgAction::SetTrue))
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("N")
                .help("Of the random numbers of the bootstrap")
                .default_value("1")
                .value_parser(value_parser!(u64)),
        )
        .arg(Arg::new("list").long("list").help("Lists the metrics").action(ArgAction::SetTrue))
        .arg(directory())
}

/// `baseline`.
pub fn baseline_command() -> Command {
    let file = || captures("file", "The baseline").required(true);
    let some = || captures("captures", "Captures").num_args(1..).required(true);
    Command::new("baseline")
        .about("Keeps the metrics of captures in a small file, to compare with")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("create")
                .about("Makes a baseline of captures")
                .arg(file())
                .arg(some())
                .arg(Arg::new("name").long("name").value_name("NAME").help("What it is the baseline of [default: the file's name]"))
                .arg(directory()),
        )
        .subcommand(Command::new("add").about("Adds captures to a baseline").arg(file()).arg(some()).arg(directory()))
        .subcommand(Command::new("show").about("Shows what a baseline is made of").arg(file()).arg(directory()))
}

fn paths(matches: &ArgMatches, name: &str) -> Vec<PathBuf> {
    matches.try_get_many::<PathBuf>(name).ok().flatten().unwrap_or_default().cloned().collect()
}

/// The declared metrics, or those that are asked for.
fn sources(matches: &ArgMatches) -> Result<Vec<Source>> {
    let mut sources = metric::sources(matches.get_one::<PathBuf>("metrics").map(PathBuf::as_path))?;
    let only: Vec<&String> = matches.try_get_many::<String>("only").ok().flatten().unwrap_or_default().collect();
    if let Some(name) = only.iter().find(|name| all(&sources).iter().all(|metric| metric.name != ***name)) {
        return Err(metric::unknown(name, "--only", all(&sources)));
    }
    if !only.is_empty() {
        // A source is measured as a whole: its other metrics are only not looked at.
        sources.retain(|source| source.metrics.iter().any(|metric| only.contains(&&metric.name)));
        for source in &mut sources {
            source.metrics.retain(|metric| only.contains(&&metric.name));
        }
    }
    Ok(sources)
}

fn all(sources: &[Source]) -> Vec<&Metric> {
    sources.iter().flat_map(|source| &source.metrics).collect()
}

/// How the filters of the command line are named.
fn filters(globals: &Globals) -> BTreeMap<String, String> {
    let named = [
        ("-p", globals.pid.map(|pid| pid.to_string())),
        ("--tid", globals.tid.map(|tid| tid.to_string())),
        ("--comm", globals.comm.clone()),
        ("--cgroup", globals.cgroup.clone()),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn narrows(globals: &Globals) -> bool {
    globals.from.is_some() || globals.to.is_some() || !filters(globals).is_empty()
}

/// The measurements of captures and baselines.
async fn measurements(paths: &[PathBuf], sources: &[Source], globals: &Globals, queries: &Queries) -> Result<Vec<Measurement>> {
    let mut all = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.to_string_lossy().starts_with("--") {
            return Err(Error::text(format!("{} stands after --, where captures are", path.display())).hint("options go before --"));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if seen.contains(&real) {
            return Err(Error::text(format!("{} is given twice on a side", path.display()))
                .hint("the same capture twice tells nothing of how much runs differ"));
        }
        seen.push(real);
        if baseline::is_baseline(path) {
            if narrows(globals) {
                let why = format!("{} is a baseline: it can't be narrowed to a window or to processes any more", path.display());
                return Err(Error::text(why).hint("make a baseline with these options"));
            }
            all.extend(baseline::read(path)?.captures);
            continue;
        }
        let engine = app::open(std::slice::from_ref(path), globals, queries).await?;
        all.push(measure(&engine, sources, &filters(globals)).await?);
    }
    Ok(all)
}

/// The files that `compare` reads.
pub fn inputs(matches: &ArgMatches) -> Vec<PathBuf> {
    ["base", "new", "policy"].into_iter().flat_map(|name| paths(matches, name)).collect()
}

/// Runs `compare`.
pub async fn run(matches: &ArgMatches, globals: &Globals, settings: &Settings, queries: &Queries) -> Result<u8> {
    let sources = sources(matches)?;
    if matches.get_flag("list") {
        let mut out = settings.open()?;
        let metrics = all(&sources);
        let width = metrics.iter().map(|metric| metric.name.len()).max().unwrap_or(0);
        for metric in metrics {
            writeln!(out, "{}  {}  {}", pad(&metric.name, width, false), pad(reference::polarity(metric), 7, false), metric.doc)?;
        }
        out.finish()?;
        return Ok(OK);
    }
    let (mut base, mut new) = (paths(matches, "base"), paths(matches, "new"));
    if new.is_empty() {
        new = match base.len() {
            2 => base.split_off(1),
            _ => return Err(Error::text("which captures are new?").hint("ebrec compare BASE… -- NEW…, or two captures")),
        };
    }
    if settings.format == Format::Flamegraph {
        return flamegraph([&base, &new], globals, settings, queries).await;
    }
    if !matches!(settings.format, Format::Table | Format::Json | Format::Markdown | Format::Junit) {
        return Err(Error::text("a comparison can't be written like this").hint("--output table, json, markdown, junit or flamegraph"));
    }
    let explained = matches.get_one::<String>("explain");
    if explained.is_some() && settings.format != Format::Table {
        return Err(Error::text("--explain draws text only").hint("leave --output out; --output json without --explain has the numbers"));
    }
    let mut conditions: Vec<Condition> = matches.get_many::<Condition>("fail-on").unwrap_or_default().cloned().collect();
    for path in paths(matches, "policy") {
        conditions.extend(policy::read(&path)?);
    }
    for condition in &conditions {
        condition.check(&all(&sources))?;
    }
    let base = measurements(&base, &sources, globals, queries).await?;
    let new = measurements(&new, &sources, globals, queries).await?;
    let alpha = 1.0 - matches.get_one::<f64>("confidence").copied().unwrap_or(0.95);
    let rules = Rules {
        alpha,
        least: matches.get_one::<f64>("min-effect").copied().unwrap_or(0.1),
        seed: matches.get_one::<u64>("seed").copied().unwrap_or(1),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let comparison = judge::compare(&sources, [&base, &new], rules);
    if let Some(wanted) = explained {
        let text = explain::explain(wanted, &sources, &comparison, [&base, &new])?;
        let mut out = settings.open()?;
        out.write_all(text.as_bytes())?;
        out.finish()?;
        return Ok(OK);
    }
    let conditions: Vec<(Condition, Outcome)> = conditions
        .into_iter()
        .map(|condition| {
            let outcome = condition.judge(&comparison, alpha);
            (condition, outcome)
        })
        .collect();
    let report = Report {
        comparison: &comparison,
        sides: [&base, &new],
        confidence: 1.0 - alpha,
        least: rules.least,
        conditions: &conditions,
        all: matches.get_flag("all"),
    };
    let mut out = settings.open()?;
    match settings.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report.json()).map_err(|error| Error::from(std::io::Error::from(error)))?;
            writeln!(out)?;
        }
        Format::Markdown => out.write_all(report.markdown().as_bytes())?,
        Format::Junit => out.write_all(report.junit().as_bytes())?,
        _ => {
            let coloured = settings.on_terminal() && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            out.write_all(report.table(coloured, settings.limit()).as_bytes())?;
        }
    }
    out.finish()?;
    if globals.strict && base.iter().chain(&new).any(|run| !run.notes.is_empty()) {
        return Err(Error::text("records are missing that the answer needs, and --strict was given"));
    }
    if comparison.rows.iter().all(|row| row.verdict == Verdict::TooFew) {
        return Err(
            Error::text("nothing could be compared").hint("record longer, with the same probes on both sides, or while something happens")
        );
    }
    if let Some((condition, _)) = conditions.iter().find(|(_, outcome)| matches!(outcome, Outcome::Unknown(_))) {
        return Err(Error::new(format!("--fail-on {:?}", condition.text), "what it is about was not measured")
            .hint("record it on both sides, or leave the condition out"));
    }
    let failed = match conditions.is_empty() {
        true => comparison.rows.iter().any(|row| row.verdict == Verdict::Worse),
        false => conditions.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_))),
    };
    Ok(if failed { NOTHING } else { OK })
}

async fn flamegraph(sides: [&[PathBuf]; 2], globals: &Globals, settings: &Settings, queries: &Queries) -> Result<u8> {
    let mut folded = [Folded::new(), Folded::new()];
    for (folded, paths) in folded.iter_mut().zip(sides) {
        for path in paths {
            if baseline::is_baseline(path) {
                return Err(Error::text(format!("{} is a baseline, which has no stacks", path.display())).hint("give the captures"));
            }
            let engine = app::open(std::slice::from_ref(path), globals, queries).await?;
            flame::add(&engine, queries, folded).await?;
        }
    }
    let mut out = settings.open()?;
    flame::draw(&folded[0], &folded[1], &mut out)?;
    out.finish()?;
    Ok(OK)
}

/// Runs `baseline`.
pub async fn run_baseline(matches: &ArgMatches, globals: &Globals, queries: &Queries) -> Result<u8> {
    let Some((name, sub)) = matches.subcommand() else { return Ok(FAILED) };
    let globals = &Globals { memory: globals.memory, ..Globals::of(sub) };
    let path = sub.get_one::<PathBuf>("file").cloned().unwrap_or_default();
    let read: Vec<PathBuf> = paths(sub, "captures").into_iter().chain([path.clone()]).collect();
    let settings = &Settings::of(globals, Inputs::of(read.iter().map(PathBuf::as_path)));
    settings.check()?;
    // The baseline itself is replaced; a capture that it is made of never is.
    let captures = paths(sub, "captures");
    let captures = Inputs::of(captures.iter().map(PathBuf::as_path));
    if name == "show" {
        return show(&baseline::read(&path)?, settings);
    }
    let sources = sources(sub)?;
    let mut of = match name {
        "add" => baseline::read(&path)?,
        _ => {
            let given = sub.get_one::<String>("name").cloned();
            let name = given.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            Baseline { name, captures: Vec::new() }
        }
    };
    let replace = name == "add" || globals.force;
    if !replace && path.symlink_metadata().is_ok() {
        return Err(Error::new(path.display(), "the file exists").hint("ebrec baseline add adds to it; --force replaces it"));
    }
    file::check(&path, replace, &captures)?;
    for measurement in measurements(&paths(sub, "captures"), &sources, globals, queries).await? {
        let same = |other: &Measurement| {
            (other.started_ns, &other.host, &other.name) == (measurement.started_ns, &measurement.host, &measurement.name)
        };
        if of.captures.iter().any(same) {
            return Err(Error::text(format!("{} is in the baseline already", escape(&measurement.name))).hint("leave it out"));
        }
        of.captures.push(measurement);
    }
    let bytes = baseline::write(&path, &of, replace, &captures)?;
    settings.note(&format!("{}: {} captures, {} KiB", display(&path), of.captures.len(), number(bytes as f64 / 1024.0)));
    Ok(OK)
}

fn display(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn show(baseline: &Baseline, settings: &Settings) -> Result<u8> {
    let mut out = settings.open()?;
    if settings.format == Format::Json {
        let captures: Vec<serde_json::Value> = baseline
            .captures
            .iter()
            .map(|run| {
                serde_json::json!({ "name": run.name, "host": run.host, "kernel": run.kernel, "cpus": run.cpus, "started_ns": run.started_ns,
                    "window_ns": run.window_ns, "filters": run.filters, "notes": run.notes })
            })
            .collect();
        writeln!(out, "{}", serde_json::json!({ "name": baseline.name, "captures": captures }))?;
        out.finish()?;
        return Ok(OK);
    }
    writeln!(out, "{}: {} captures", escape(&baseline.name), baseline.captures.len())?;
    for run in &baseline.captures {
        let missing = run.sources.values().filter(|state| matches!(state, super::measure::State::Missing(_))).count();
        let filters: Vec<String> = run.filters.iter().map(|(name, value)| format!(", {} {}", escape(name), escape(value))).collect();
        writeln!(
            out,
            "  {}: {}, {} s, host {}, kernel {}, {} CPUs{}; {} sources, {missing} not captured",
            escape(&run.name),
            window::instant(run.started_ns),
            number(run.window_ns as f64 / 1e9),
            escape(&run.host),
            escape(&run.kernel),
            run.cpus,
            filters.concat(),
            run.sources.len(),
        )?;
        for note in &run.notes {
            writeln!(out, "    note: {}", escape(note))?;
        }
    }
    out.finish()?;
    Ok(OK)
}
