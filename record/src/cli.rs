//! The command line.

use crate::budget::Budget;
use clap::{Args, Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  ebrec record                                  everything on by default, for 60 s
  ebrec record --duration 10s -o spike.ebrec    a shorter window, a name
  ebrec record -- make -j8                      one command and its descendants, until it ends
  ebrec record --pid 4711 --probes tcp          one process, one probe
  ebrec check                                   can this host record?

Exit status: 0 recorded, 1 ended early or nothing recorded, 2 error; with -- COMMAND, which ran,
its own (128 and the signal that killed it, 127 not found, 126 not executable).";

/// Record what this host does, for a bounded window, into one capture file.
#[derive(Debug, Parser)]
#[command(name = "ebrec record", version, about, after_help = EXAMPLES, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Sub>,
    #[command(flatten)]
    pub record: Record,
}

#[derive(Debug, clap::Subcommand)]
pub enum Sub {
    /// Say whether this host can record, hook by hook
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Prefer this mechanism where a hook has it (for tests)
    #[arg(long, hide = true)]
    pub mechanism: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One .ebrec file
    File,
    /// A directory of Parquet files
    Dir,
}

#[derive(Debug, Args)]
pub struct Record {
    /// How long to record (500ms, 10s, 5m, 1h) [default: 60s, or until COMMAND ends]
    #[arg(short, long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// The capture to write [default: ebrec-HOST-TIME.ebrec]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite FILE
    #[arg(long)]
    pub force: bool,
    /// What to record: names separated by commas, `default`, `all`; +NAME adds to the default ones (see --list-probes)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "default")]
    pub probes: Vec<String>,
    /// Of all system calls only these, names separated by commas (switches the probe syscall on)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub syscalls: Vec<String>,
    /// List the probes and their tables
    #[arg(long)]
    pub list_probes: bool,
    /// Only this process and its descendants (repeatable)
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only threads of this name (repeatable)
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only this cgroup and those below, path under the cgroup v2 mount (repeatable, up to 4)
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,
    /// Profiler samples of each CPU per second (1 to 10000)
    #[arg(long, value_name = "HZ", default_value = "99", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sample_hz: u32,
    /// Record where tasks block and for how long (table off_cpu_sample of the probe profile)
    #[arg(long)]
    pub off_cpu_stacks: bool,
    /// Record the recorder too
    #[arg(long)]
    pub include_self: bool,
    /// End when the capture has this size
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2G")]
    pub max_size: u64,
    /// Memory that recording may take in all: rings (a third or more), the kernel's maps, and its own
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = Budget::DEFAULT)]
    pub memory: u64,
    /// CPU time that recording may take, percent of one CPU: beyond, it gives up the costliest probes
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_cpu: Option<u32>,
    /// A note to keep in the capture (repeatable)
    #[arg(short = 'M', long = "note", value_name = "KEY=VALUE", value_parser = note)]
    pub notes: Vec<(String, String)>,
    /// One file, or a directory of Parquet files
    #[arg(long, value_enum, default_value = "file")]
    pub format: Format,
    /// Let the kernel count runs and time of each BPF program (slows each of them down a little)
    #[arg(long)]
    pub bpf_stats: bool,
    /// Stay out of the real-time class: on an overloaded host, start late and lose events
    #[arg(long)]
    pub no_realtime: bool,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Prefer this mechanism where a hook has it (for tests)
    #[arg(long, hide = true)]
    pub mechanism: Option<String>,
    /// Record this command and its descendants; it starts when all hooks are attached
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("use a number with ms, s, m or h, as in 10s".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "use a number with ms, s, m or h, as in 10s".to_owned())? * scale;
    match Duration::try_from_secs_f64(seconds) {
        Ok(d) if d.is_zero() => Err("a window of no length records nothing".to_owned()),
        Ok(d) if d > Duration::from_secs(7 * 24 * 3600) => Err("a window is at most 7 days long".to_owned()),
        Ok(d) => Ok(d),
        Err(_) => Err("not a length of time".to_owned()),
    }
}

/// `64M`, `2G`, `500K`; a bare number is bytes.
fn size(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let trimmed = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, shift) = match trimmed.chars().last() {
        Some('K') => (&trimmed[..trimmed.len() - 1], 10),
        Some('M') => (&trimmed[..trimmed.len() - 1], 20),
        Some('G') => (&trimmed[..trimmed.len() - 1], 30),
        Some('T') => (&trimmed[..trimmed.len() - 1], 40),
        _ => (trimmed, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|&n| n > 0);
    bytes.ok_or_else(|| "use a size such as 64M or 2G".to_owned())
}

fn note(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["0", "0s", "", "s", "1d", "-1s", "9h9", "1e400s", "10000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for bad in ["", "M", "0", "-1", "1X", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
