//! Every table of a capture, declared once. A probe's tables stand in the module of its name.

use crate::table::Table;

/// Names the modules; from it come the list of tables and the list of probes.
macro_rules! modules {
    ($(probe $probe:ident: $on:literal, $doc:literal, $cost:literal;)+ $(recorder $own:ident;)+) => {
        $(pub mod $probe;)+
        $(pub mod $own;)+

        const MODULES: &[&[fn() -> &'static Table]] = &[$($probe::TABLES,)+ $($own::TABLES,)+];

        /// The probes, in the order in which they are reported.
        pub const PROBES: &[Probe] = &[$(Probe {
            name: stringify!($probe), doc: $doc, cost: $cost, default: $on, tables: $probe::TABLES,
        }),+];
    };
}

modules! {
    probe process: true, "processes and threads: fork, exec with arguments (failed ones too), exit with code or signal", "1 to 2 µs per fork, exec and exit";
    probe sched: true, "context switches with run-queue wait and time on CPU, wake-ups with their waker", "0.4 µs per context switch with its wake-up";
    probe tcp: true, "TCP connections: connect, accept, close with bytes, every state change, send and receive calls, retransmits, resets, round-trip times", "0.3 to 0.5 µs per send and receive call, 1 µs per change of a connection";
    probe signal: true, "signals: who sent which to whom, why, and what became of it", "1 µs per signal";
    probe oom: true, "kills by the out-of-memory killer, with the victim's memory", "nothing unless memory runs out";
    probe irq: true, "time in hardware and soft interrupts per CPU, summed up in the kernel every 100 ms", "0.3 µs per interrupt";
    probe fault: true, "major page faults: which task had to wait for which page", "1 µs per fault that waits for a disk";
    probe block: true, "block I/O: every request with queue and device time, disk, operation, flags, error and the task that made it", "1.5 µs per request";
    probe open: true, "files that are opened, or fail to be: path, flags, mode, descriptor or error, latency; files that are removed", "0.5 to 1 µs per open and unlink; with it every system call of the host is looked at, some 50 ns";
    probe file: true, "reads, writes, syncs and truncates of regular files: which file, where, how much, how long", "0.4 µs per read, write or sync of a file, up to 0.2 µs per read or write of a pipe or socket; with it every system call of the host is looked at, some 50 ns";
    probe dns: true, "names looked up: resolver calls of every C library in use, DNS messages on port 53 whoever sent them", "a few µs per lookup and per question, some ns per packet";
    probe syscall: false, "system calls with result and latency: every one, or those that --syscalls names", "0.25 µs per call";
    probe page_cache: true, "page cache: pages that reads looked up and missed, readahead, pages dirtied, by process and 100 ms", "0.2 to 0.4 µs per read of a file, page added or dirtied";
    probe profile: true, "CPU samples (99 Hz) with kernel and user stacks; with --off-cpu-stacks also where tasks block, and how long", "15 µs per sample, 2 µs per time that a task blocks with --off-cpu-stacks";
    recorder paths;
    recorder host;
    recorder session;
}

/// A probe: the unit that `--probes` switches. Its BPF programs are in `bpf/<name>.bpf.c`.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// What it records, in a sentence.
    pub doc: &'static str,
    /// What it is expected to cost the host, in words; docs/BENCH.md has what it measured.
    pub cost: &'static str,
    /// Whether it is on unless `--probes` says otherwise.
    pub default: bool,
    /// Its tables.
    pub tables: &'static [fn() -> &'static Table],
}

/// All tables. A kernel record names its table by the place in this list.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    MODULES.iter().flat_map(|module| module.iter().map(|table| table()))
}

/// The table of that name.
pub fn table(name: &str) -> Option<&'static Table> {
    tables().find(|table| table.name == name)
}

/// The probe that writes a table, `None` for the recorder's own.
pub fn probe_of(table: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.tables.iter().any(|t| t().name == table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Context, NoResolver};
    use arrow::array::{Array, AsArray};
    use std::collections::HashSet;

    #[test]
    fn every_table_builds_an_empty_batch_of_its_schema() {
        for table in tables() {
            let mut sink = (table.builder)();
            let batch = sink.finish(&mut Context { boot_to_utc_ns: 0, resolver: &mut NoResolver });
            assert_eq!(batch.num_columns(), table.schema().fields().len(), "{}", table.name);
            for (field, column) in table.schema().fields().iter().zip(batch.columns()) {
                let data_type = column.as_any_dictionary_opt().map_or(column.data_type(), |coded| coded.values().data_type());
                assert_eq!(data_type, field.data_type(), "{}.{}", table.name, field.name());
            }
        }
    }

    #[test]
    fn names_are_unique_snake_case_and_documented() {
        let snake = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let mut seen = HashSet::new();
        for table in tables() {
            assert!(snake(table.name) && seen.insert(table.name), "{}", table.name);
            assert!(table.doc.trim().ends_with('.'), "{}: {}", table.name, table.doc);
            let mut columns = HashSet::new();
            for column in (table.columns)() {
                assert!(snake(&column.name) && columns.insert(column.name.clone()), "{}.{}", table.name, column.name);
                assert!(column.doc.trim().ends_with('.'), "{}.{}: {}", table.name, column.name, column.doc);
                if column.kind.unit == Some("ns") && column.kind.name == "Duration" {
                    assert!(column.name.ends_with("_ns"), "{}.{} must name its unit", table.name, column.name);
                }
            }
        }
    }

    #[test]
    fn a_short_record_is_refused() {
        for table in tables() {
            let mut sink = (table.builder)();
            assert!(!sink.append_record(&[0; 8], &mut Context { boot_to_utc_ns: 0, resolver: &mut NoResolver }), "{}", table.name);
            assert_eq!(sink.rows(), 0);
        }
    }
}
