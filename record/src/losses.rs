//! Counts of records that the BPF programs could not deliver, as intervals.

use anyhow::{Context, Result};
use ebrec_format::events;
use ebrec_format::events::session::Loss;
use ebrec_format::wire::NULL32;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// `enum drop_reason` of bpf/ebrec.h, in its order.
const REASONS: [&str; 5] = ["ring full", "map full", "not followed", "no state", "not looked at"];

/// Knows what was counted so far.
#[derive(Debug)]
pub struct Losses {
    drops: MapHandle,
    tables: Vec<&'static str>,
    /// Per CPU, what each counter said last.
    before: Vec<Vec<u64>>,
    since: u64,
    by_table: BTreeMap<String, u64>,
    /// What isn't of one table.
    of_several: u64,
    /// What the kernel had skipped the last time, by table.
    skipped: BTreeMap<&'static str, u64>,
}

impl Losses {
    /// Begins with the counters as they stand.
    pub fn new(drops: &MapHandle) -> Result<Losses> {
        let drops = MapHandle::try_from(drops).context("cannot read the counters of losses")?;
        let _ = drops.as_fd();
        let tables = events::tables().map(|table| table.name).collect();
        Ok(Losses {
            drops,
            tables,
            before: Vec::new(),
            since: crate::drain::boot_ns(),
            by_table: BTreeMap::new(),
            of_several: 0,
            skipped: BTreeMap::new(),
        })
    }

    /// Adds a row per CPU, table and reason for what was lost since the last time.
    pub fn sample(&mut self, rows: &mut Vec<Loss>, now: u64) {
        let Ok(Some(cpus)) = self.drops.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY) else { return };
        // Behind those of the tables, what concerns several.
        self.before.resize(cpus.len(), vec![0; (self.tables.len() + 1) * REASONS.len()]);
        for (cpu, bytes) in cpus.iter().enumerate() {
            for (i, chunk) in bytes.chunks_exact(8).enumerate() {
                let count = chunk.try_into().map(u64::from_ne_bytes).unwrap_or(0);
                let Some(before) = self.before[cpu].get_mut(i) else { break };
                let lost = count.saturating_sub(*before);
                if lost == 0 {
                    continue;
                }
                *before = count;
                let table = self.tables.get(i / REASONS.len()).copied();
                match table {
                    Some(table) => *self.by_table.entry(table.to_owned()).or_default() += lost,
                    None => self.of_several += lost,
                }
                rows.push(Loss {
                    ts: self.since,
                    end_ts: now,
                    cpu: cpu as u32,
                    table_name: table.map(str::to_owned),
                    reason: Some(REASONS[i % REASONS.len()].to_owned()),
                    lost,
                });
            }
        }
        self.since = now;
    }

    /// A row for losses that the recorder counted itself.
    pub fn add(&mut self, rows: &mut Vec<Loss>, now: u64, table: &str, reason: &str, lost: u64) {
        self.add_of(rows, now, Some(table), reason, lost);
    }

    /// The same, of a table that may not be known.
    pub fn add_of(&mut self, rows: &mut Vec<Loss>, now: u64, table: Option<&str>, reason: &str, lost: u64) {
        if lost > 0 {
            match table {
                Some(table) => *self.by_table.entry(table.to_owned()).or_default() += lost,
                None => self.of_several += lost,
            }
            let (table_name, reason) = (table.map(str::to_owned), Some(reason.to_owned()));
            rows.push(Loss { ts: now, end_ts: now, cpu: NULL32, table_name, reason, lost });
        }
    }

    /// Rows for what the kernel did not run our programs for; `all` is what it counted from the beginning, by table.
    pub fn skipped(&mut self, rows: &mut Vec<Loss>, now: u64, all: &BTreeMap<&'static str, u64>) {
        for (table, count) in all {
            // What other programs took is read a moment later, so it may be less than before.
            let before = self.skipped.get(table).copied().unwrap_or_default();
            self.skipped.insert(table, before.max(*count));
            let from = rows.len();
            self.add(rows, now, table, "program not run", count.saturating_sub(before));
            rows[from..].iter_mut().for_each(|row| row.ts = self.since);
        }
    }

    /// Lost so far, all together.
    pub fn total(&self) -> u64 {
        self.by_table.values().sum::<u64>() + self.of_several
    }

    /// Lost so far by table.
    pub fn by_table(&self) -> BTreeMap<String, u64> {
        self.by_table.clone()
    }
}
