//! What the recorder says while and after it records. All of it is talk, on stderr.

use crate::cli::Record;
use crate::drain::Counters;
use crate::hooks::Hook;
use crate::store::Gauge;
use crate::talk::{self, say};
use crate::usage::Usage;
use ebrec_format::events;
use ebrec_format::manifest::Manifest;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Recording has begun: all hooks are attached.
pub fn recording<'a>(args: &Record, output: &Path, active: usize, missing: usize, hooks: impl Iterator<Item = &'a Hook>) {
    if args.quiet {
        return;
    }
    for hook in hooks {
        if let Err(reason) = &hook.choice
            && !hook.is_off()
        {
            say!("ebrec-record: {}.{} is not recorded: {reason}", hook.probe, hook.hook);
        }
    }
    let until = match (args.duration, args.command.first()) {
        (Some(d), _) => format!("for {}", seconds(d)),
        (None, Some(command)) => format!("until {} ends", command.to_string_lossy()),
        (None, None) => "for 60 s".to_owned(),
    };
    let missing = if missing == 0 { String::new() } else { format!(", {missing} missing") };
    say!("ebrec-record: recording {until} to {} ({active} hooks{missing}); Ctrl-C ends it early", output.display());
}

fn seconds(d: Duration) -> String {
    if d.subsec_millis() == 0 { format!("{} s", d.as_secs()) } else { format!("{:.1} s", d.as_secs_f64()) }
}

/// The progress line: only on a terminal.
#[derive(Debug)]
pub struct Progress {
    on: bool,
    limit: Option<Duration>,
    events: u64,
    at: Duration,
}

impl Progress {
    /// Shows progress if stderr is a terminal.
    pub fn new(args: &Record, limit: Option<Duration>) -> Progress {
        Progress { on: !args.quiet && std::io::stderr().is_terminal(), limit, events: 0, at: Duration::ZERO }
    }

    /// Rewrites the line.
    pub fn show(&mut self, elapsed: Duration, counters: &Counters, gauge: &Gauge) {
        if !self.on {
            return;
        }
        let events = counters.events.load(Ordering::Relaxed);
        let rate = (events - self.events) as f64 / (elapsed - self.at).as_secs_f64().max(0.001);
        (self.events, self.at) = (events, elapsed);
        let of = self.limit.map_or(String::new(), |limit| format!("/{}", limit.as_secs()));
        let line = format!(
            "{}{of} s  {}/s  {}  {} lost",
            elapsed.as_secs(),
            thousands(rate as u64),
            size(gauge.bytes.load(Ordering::Relaxed)),
            thousands(counters.lost.load(Ordering::Relaxed))
        );
        // Without automatic margins (DECAWM) while it is written: what a narrow terminal has no room for would become a second line.
        talk::raw(format!("\r\x1b[K\x1b[?7l{line}\x1b[?7h"));
    }

    /// Leaves the line.
    pub fn end(&self) {
        if self.on {
            talk::raw("\r\x1b[K".to_owned());
        }
    }
}

/// What was recorded, per probe and table.
pub fn summary(args: &Record, output: &Path, size_bytes: u64, manifest: &Manifest, stop_ns: u64, counters: &Counters) {
    let lost: u64 = manifest.tables.values().map(|t| t.lost).sum();
    if lost > 0 {
        let events = counters.events.load(Ordering::Relaxed);
        say!(
            "ebrec-record: {} of {} events were lost; every answer they touch will say so. More --memory, or fewer --probes, helps",
            thousands(lost),
            thousands(events + lost)
        );
    }
    if args.quiet {
        return;
    }
    say!("{:<12} {:<18} {:>13} {:>12} {:>10} {:>7}", "probe", "table", "rows", "lost", "bytes", "B/row");
    let mut mechanisms: BTreeMap<&str, usize> = BTreeMap::new();
    let mut missing = Vec::new();
    for probe in events::PROBES {
        let Some(state) = manifest.probes.get(probe.name).filter(|state| state.requested) else { continue };
        for hook in state.hooks.iter().filter(|hook| !hook.is_off()) {
            match &hook.mechanism {
                Some(mechanism) => *mechanisms.entry(mechanism).or_default() += 1,
                None => missing.push(format!("{}.{}", probe.name, hook.hook)),
            }
        }
        for (i, table) in probe.tables.iter().enumerate() {
            let table = table();
            let t = manifest.tables.get(table.name).cloned().unwrap_or_default();
            let per_row = if t.rows == 0 { String::new() } else { format!("{:.1}", t.bytes as f64 / t.rows as f64) };
            let name = if i == 0 { probe.name } else { "" };
            let line = format!(
                "{name:<12} {:<18} {:>13} {:>12} {:>10} {per_row:>7}",
                table.name,
                thousands(t.rows),
                thousands(t.lost),
                size(t.bytes)
            );
            say!("{}", line.trim_end());
        }
    }
    let words = mechanisms.iter().map(|(mechanism, count)| format!("{count} {mechanism}"));
    say!("{}", wrapped("hooks:", words));
    if !missing.is_empty() {
        say!("{}", wrapped("missing:", missing.into_iter()));
    }
    let cost = &manifest.recorder;
    let window = (manifest.ended_ns - manifest.started_ns) as f64 / 1e9;
    say!(
        "ebrec-record: {} holds {window:.1} s in {}; recorder: {:.2} s CPU, {} at most (own {}, rings {}, kernel maps {}); usable {:.2} s after the end ({})",
        output.display(),
        size(size_bytes),
        manifest.recorder.cpu_ns as f64 / 1e9,
        size(cost.heap_bytes + cost.ring_bytes + cost.map_bytes),
        size(cost.heap_bytes),
        size(cost.ring_bytes),
        size(cost.map_bytes),
        stop_ns as f64 / 1e9,
        manifest.ended_by,
    );
    say!("ebrec-record: scheduling: {}", manifest.recorder.scheduling);
    say!("ebrec-record: look at it with: ebrec analyze {}", output.display());
}

/// Words after a head, separated by commas, in lines of at most 80 columns.
fn wrapped(head: &str, words: impl Iterator<Item = String>) -> String {
    let (mut out, mut column) = (head.to_owned(), head.len());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let word = if words.peek().is_some() { format!("{word},") } else { word };
        if column + 1 + word.len() > 80 {
            out.push_str("\n ");
            column = 1;
        }
        out.push(' ');
        out.push_str(&word);
        column += 1 + word.len();
    }
    out
}

/// The forced way out.
pub fn forced(partial: &Path) {
    say!("ebrec-record: stopped at once; what was recorded is in {}", partial.display());
    say!("ebrec-record: look at it with: ebrec analyze {}", partial.display());
}

/// Writing failed: what stays, and what to do.
pub fn failed(error: &anyhow::Error, partial: &Path) -> anyhow::Error {
    let remedy = format!("what was sealed before is in {0}; look at it with: ebrec analyze {0}", partial.display());
    anyhow::Error::new(Usage::new(format!("recording ended early: {error:#}"), remedy)).context(Ended)
}

/// Marks an error after which something was recorded nevertheless: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("ended early")]
pub struct Ended;

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in a unit that is easy to read.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        10_485_760..10_737_418_240 => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
