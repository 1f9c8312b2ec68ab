//! Replay: a report's intervals one after the other, as the live tool drew them then.
//!
//! The report runs once, over the whole capture, with its interval; the rows of each interval are a frame. A report without intervals
//! (execsnoop, opensnoop, …) is cut into frames by the instants of its rows, and a screen shows the latest rows up to then. On a terminal the
//! frames follow the capture's clock, and keys pause, step and seek; elsewhere, and with `--noclear`, they are printed one below the other.

use crate::ending;
use crate::engine::{self, Engine, Planned};
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::report::Report;
use crate::output::text::{shorten, width as text_width};
use crate::output::{Destination, Settings};
use crate::query::params::{self, Values};
use crate::query::{Queries, Query};
use crate::run::Outcome;
use crate::window::time_of_day;
use clap::{Arg, ArgAction, ArgMatches, Command};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use datafusion::common::ScalarValue;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Frames that PageUp and PageDown pass.
const PAGE: usize = 10;
/// More frames than this are refused: a window of a year by the second.
const MOST_FRAMES: usize = 1 << 25;
const KEYS: &str = "space pause, left/right step, PgUp/PgDn seek, Home/End, +/- speed, q quit";
/// The same for a narrower line: the longest that fits is shown, because a key that nobody sees isn't there.
const SHORT_KEYS: [&str; 3] = [KEYS, "space pause, ←/→ step, PgUp/PgDn seek, +/- speed, q quit", "space ←→ PgUp/Dn +/- q"];

/// How fast a replay goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    /// So many times as fast as it happened.
    Times(f64),
    /// Without a pause.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
            Ok(times) if (0.001..=1e6).contains(&times) => Ok(Speed::Times(times)),
            _ => Err("expected 1x, 10x, 0.5x or max".to_owned()),
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Speed::Times(times) => write!(f, "{times}x"),
            Speed::Max => f.write_str("max"),
        }
    }
}

/// `replay`, with a subcommand per report that can be replayed.
pub fn command(queries: &Queries) -> Command {
    let mut command = Command::new("replay")
        .about("Redraws a report as the live tool did then")
        .after_help(format!("Keys: {KEYS}."))
        .subcommand_required(true)
        .subcommand_value_name("REPORT")
        .subcommand_help_heading("Reports")
        .disable_help_subcommand(true)
        .arg(
            Arg::new("speed")
                .long("speed")
                .value_name("SPEED")
                .help("1x, 10x, 0.5x, … or max [default: 1x on a terminal, else max]")
                .value_parser(clap::value_parser!(Speed))
                .global(true),
        );
    for query in queries.iter().filter(|query| can_be_replayed(query)) {
        let mut sub = params::command(query);
        if !query.params.iter().any(|param| param.name == "noclear") {
            let free = !query.params.iter().any(|param| param.short == Some('C'));
            let mut arg = Arg::new("noclear").long("noclear").help("Prints one below the other, without keys").action(ArgAction::SetTrue);
            if free {
                arg = arg.short('C');
            }
            sub = sub.arg(arg);
        }
        command = command.subcommand(sub);
    }
    command
}

fn has_intervals(query: &Query) -> bool {
    query.params.iter().any(|param| param.name == "interval")
}

fn can_be_replayed(query: &Query) -> bool {
    has_intervals(query) || query.columns.iter().any(|column| column.name == "ts")
}

/// What is seen from `at` on.
#[derive(Debug)]
struct Frame {
    /// The end of its interval, ns since 1970.
    at: i64,
    text: String,
}

/// All frames of a report.
#[derive(Debug)]
struct Frames {
    name: &'static str,
    start: i64,
    /// The end of the window.
    end: i64,
    frames: Vec<Frame>,
    /// Whether a frame adds to those before.
    adds: bool,
}

/// Replays the report that `matches` names.
pub async fn replay(engine: &Engine, queries: &Queries, matches: &ArgMatches, settings: &Settings) -> Result<Outcome> {
    let Some((name, sub)) = matches.subcommand() else { return Err(Error::text("replay which report?")) };
    let query = queries.get(name).ok_or_else(|| Error::text(format!("there is no report {name}")))?;
    let [_] = engine.captures() else { return Err(Error::text("replay is about one capture").hint("give one FILE")) };
    let mut values = params::values(query, sub)?;
    if let Some(interval) = values.get_mut("interval").filter(|interval| interval.is_null()) {
        *interval = ScalarValue::Float64(Some(1.0));
    }
    let (frames, outcome) = frames(engine, query, &values).await?;
    let screen = settings.on_terminal() && std::io::stdin().is_terminal() && !sub.get_flag("noclear");
    let speed = sub.get_one::<Speed>("speed").copied().unwrap_or(if settings.on_terminal() { Speed::Times(1.0) } else { Speed::Max });
    if screen {
        Screen::new(&frames, speed)?.play()?;
    } else {
        print(&frames, speed, settings)?;
    }
    Ok(outcome)
}

/// Runs the report and cuts its rows into frames.
async fn frames(engine: &Engine, query: &Query, values: &Values) -> Result<(Frames, Outcome)> {
    let prepared = query.prepare(values)?;
    let Planned { frame, tables } = engine.report(query, values).await?;
    let batches = engine::collect(frame).await?;
    let (start, end) = engine.window();
    let seconds = match values.get("interval") {
        Some(ScalarValue::Float64(Some(seconds))) => *seconds,
        _ => 1.0,
    };
    let count = match values.get("count") {
        Some(ScalarValue::Int64(Some(count))) => usize::try_from(*count).unwrap_or_default(),
        _ => usize::MAX,
    };
    let all = ((end - start) as f64 / 1e9 / seconds).ceil().max(1.0);
    if all > MOST_FRAMES as f64 {
        return Err(Error::text(format!("{all:.0} intervals are too many to replay")).hint("give a longer interval, or --from and --to"));
    }
    let number = (all as usize).min(count);
    let adds = !has_intervals(query);
    let time = if adds { "ts" } else { "interval_end" };
    let mut rows = 0;
    // Which rows of which batch belong to a frame: they follow one another.
    let mut parts: Vec<Vec<(usize, std::ops::Range<usize>)>> = vec![Vec::new(); number];
    let cells = batches.iter().map(Cells::new).collect::<Result<Vec<_>>>()?;
    for (nth, batch) in cells.iter().enumerate() {
        rows += batch.rows();
        for row in 0..batch.rows() {
            let Some(at) = batch.int(time, row) else { continue };
            // The end of an interval belongs to it: half an interval before is within.
            let offset = (at - start) as f64 / 1e9 / seconds - if adds { 0.0 } else { 0.5 };
            let Some(parts) = parts.get_mut(offset.max(0.0) as usize) else { continue };
            match parts.last_mut() {
                Some((last, range)) if *last == nth && range.end == row => range.end = row + 1,
                _ => parts.push((nth, row..row + 1)),
            }
        }
    }
    let mut frames = Vec::with_capacity(number);
    let report = || {
        let (destination, text) = Destination::memory();
        (Report::new(&prepared, values, start, None, destination), text)
    };
    let (mut drawn, mut text) = report();
    for (nth, parts) in parts.into_iter().enumerate() {
        // Frames that add up are one report, with one heading.
        if !adds {
            (drawn, text) = report();
        }
        for (batch, range) in parts {
            drawn.write(&cells[batch], range)?;
        }
        drawn.flush()?;
        frames.push(Frame { at: start + ((nth + 1) as f64 * seconds * 1e9) as i64, text: text.take() });
    }
    Ok((Frames { name: query.name, start, end, frames, adds }, Outcome::new(rows, tables)))
}

/// Prints the frames one below the other.
fn print(frames: &Frames, speed: Speed, settings: &Settings) -> Result<()> {
    let mut out = settings.open()?;
    let began = Instant::now();
    let mut first = true;
    for frame in &frames.frames {
        if let Speed::Times(times) = speed {
            let due = Duration::from_nanos((frame.at - frames.start).unsigned_abs()).div_f64(times);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        if frames.adds {
            out.write_all(frame.text.as_bytes())?;
        } else {
            let gap = if first { "" } else { "\n" };
            writeln!(out, "{gap}--- {} ---", time_of_day(frame.at))?;
            let nothing = if frame.text.is_empty() { "(nothing)\n" } else { "" };
            write!(out, "{}{nothing}", frame.text)?;
        }
        first = false;
        if speed != Speed::Max {
            out.flush()?;
        }
    }
    out.finish()
}

/// The terminal while a replay is drawn on it; dropped, it is as before.
struct Screen<'a> {
    frames: &'a Frames,
    speed: Speed,
    /// The frame that is shown.
    at: usize,
    paused: bool,
}

/// What a key asks for.
enum Next {
    Draw,
    Leave,
    Nothing,
}

impl<'a> Screen<'a> {
    fn new(frames: &'a Frames, speed: Speed) -> Result<Screen<'a>> {
        // From here on, also if a signal ends the program.
        ending::restore_terminal_with(Some(restore));
        terminal::enable_raw_mode()?;
        execute!(std::io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(Screen { frames, speed, at: 0, paused: false })
    }

    /// Until the user leaves.
    fn play(mut self) -> Result<()> {
        let mut due = Instant::now() + self.pause();
        self.draw()?;
        loop {
            let wait =
                if self.paused || self.is_last() { Duration::from_secs(3600) } else { due.saturating_duration_since(Instant::now()) };
            if event::poll(wait)? {
                match self.handle(&event::read()?) {
                    Next::Leave => return Ok(()),
                    Next::Nothing => continue,
                    Next::Draw => {}
                }
            } else if !self.paused && !self.is_last() {
                self.at += 1;
            }
            due = Instant::now() + self.pause();
            self.draw()?;
        }
    }

    fn is_last(&self) -> bool {
        self.at + 1 >= self.frames.frames.len()
    }

    /// How long the frame is shown.
    fn pause(&self) -> Duration {
        let Speed::Times(times) = self.speed else { return Duration::ZERO };
        let end = |at: usize| self.frames.frames.get(at).map_or(self.frames.start, |frame| frame.at);
        let length = end((self.at + 1).min(self.frames.frames.len() - 1)) - end(self.at);
        Duration::from_nanos(length.unsigned_abs()).div_f64(times)
    }

    fn handle(&mut self, event: &Event) -> Next {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
            return if matches!(event, Event::Resize(..)) { Next::Draw } else { Next::Nothing };
        };
        let last = self.frames.frames.len().saturating_sub(1);
        match code {
            KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => return Next::Leave,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Leave,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Right | KeyCode::Char('n' | 'l') => (self.at, self.paused) = ((self.at + 1).min(last), true),
            KeyCode::Left | KeyCode::Char('b' | 'h') => (self.at, self.paused) = (self.at.saturating_sub(1), true),
            KeyCode::PageDown => self.at = (self.at + PAGE).min(last),
            KeyCode::PageUp => self.at = self.at.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.at = 0,
            KeyCode::End | KeyCode::Char('G') => self.at = last,
            KeyCode::Char('+') => {
                self.speed = if let Speed::Times(times) = self.speed { Speed::Times((times * 2.0).min(1e6)) } else { Speed::Max }
            }
            KeyCode::Char('-') => {
                self.speed = if let Speed::Times(times) = self.speed { Speed::Times((times / 2.0).max(0.001)) } else { Speed::Times(16.0) }
            }
            _ => return Next::Nothing,
        }
        Next::Draw
    }

    fn draw(&self) -> Result<()> {
        let (width, height) = terminal::size()?;
        let (width, height) = (usize::from(width), usize::from(height));
        let mut out = std::io::stdout().lock();
        queue!(out, MoveTo(0, 0))?;
        let mut lines = self.lines(height.saturating_sub(1));
        if lines.is_empty() {
            lines.push("(nothing)");
        }
        for line in lines {
            queue!(out, Clear(ClearType::CurrentLine))?;
            write!(out, "{}\r\n", shorten(line, width))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), MoveTo(0, u16::try_from(height.saturating_sub(1)).unwrap_or(u16::MAX)))?;
        let width = width.saturating_sub(1);
        write!(out, "{}", shorten(&self.status(width), width))?;
        Ok(out.flush()?)
    }

    fn status(&self, width: usize) -> String {
        let frames = &self.frames.frames;
        let now = frames.get(self.at).map_or(self.frames.start, |frame| frame.at);
        let last = frames.last().map_or(now, |frame| frame.at);
        // The last interval may reach beyond the window.
        let elapsed = |at: i64| (at.min(self.frames.end) - self.frames.start) as f64 / 1e9;
        let state = if self.paused {
            "paused"
        } else if self.is_last() {
            "end"
        } else {
            ""
        };
        let status = format!(
            "{} {} (+{:.1} of {:.1} s, {}) {state}{}",
            self.frames.name,
            time_of_day(now),
            elapsed(now),
            elapsed(last),
            self.speed,
            if state.is_empty() { "" } else { "; " }
        );
        let fits = |keys: &&&str| text_width(&status) + text_width(keys) <= width;
        let keys = SHORT_KEYS.iter().find(fits).unwrap_or(&SHORT_KEYS[SHORT_KEYS.len() - 1]);
        status + keys
    }

    /// What fits into `height` lines.
    fn lines(&self, height: usize) -> Vec<&'a str> {
        let frames: &'a [Frame] = &self.frames.frames;
        let Some(frame) = frames.get(self.at) else { return Vec::new() };
        if !self.frames.adds {
            return frame.text.lines().take(height).collect();
        }
        // The heading, which stands above the first rows there are, and the latest rows.
        let mut latest: Vec<&str> = Vec::new();
        for frame in frames[..=self.at].iter().rev() {
            latest.extend(frame.text.lines().rev());
            if latest.len() > height {
                break;
            }
        }
        latest.truncate(height);
        latest.reverse();
        let heading = frames[..=self.at].iter().find_map(|frame| frame.text.lines().next());
        if let (Some(heading), Some(first)) = (heading, latest.first_mut()) {
            *first = heading;
        }
        latest
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        ending::restore_terminal_with(None);
        restore();
    }
}

/// Gives the terminal back. Nothing more can be done about one that is gone.
fn restore() {
    let _ = execute!(std::io::stdout(), Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        assert_eq!("10x".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for text in ["", "x", "0x", "-1x", "fast", "NaNx", "infx"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
