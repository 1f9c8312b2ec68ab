//! Which processes were in which cgroup: `--cgroup`, and the groups of `ebrec compare`.
//!
//! Events say which process they are of, not which cgroup. A process is in a cgroup if it was at the start of the window (`process`), if it
//! executed a program there (`process_exec`), or if its parent was in it when it was forked. A process that was moved by writing to
//! cgroup.procs and executed nothing afterwards stays where it was seen first.

use super::Engine;
use super::catalog::Reading;
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Identities (`process_id`) of the processes in `cgroup` and the cgroups below: a path such as /system.slice, or an id.
pub async fn processes(engine: &Engine, cgroup: &str) -> Result<Vec<i64>> {
    let path = cgroup.trim_end_matches('/');
    let mut ids: BTreeSet<i64> = cgroup.parse().into_iter().collect();
    let mut inside = BTreeSet::new();
    let mut known = BTreeSet::new();
    for (process, id, of) in rows(engine, "SELECT process_id, cgroup_id, cgroup FROM process").await? {
        let below = of.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below && !path.is_empty() || ids.contains(&id) || cgroup == "/" {
            inside.insert(process);
            if below {
                ids.insert(id);
            }
        }
        known.insert(of);
    }
    for (process, id, _) in rows(engine, "SELECT process_id, cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_exec").await? {
        if ids.contains(&id) || cgroup == "/" {
            inside.insert(process);
        }
    }
    let mut children: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let forks = "SELECT process_id, child_process_id AS cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_fork WHERE NOT is_thread";
    for (parent, child, _) in rows(engine, forks).await? {
        children.entry(parent).or_default().push(child);
    }
    let mut new: Vec<i64> = inside.iter().copied().collect();
    while let Some(parent) = new.pop() {
        new.extend(children.remove(&parent).unwrap_or_default().into_iter().filter(|child| inside.insert(*child)));
    }
    if inside.is_empty() {
        known.remove("");
        let some: Vec<&str> = known.iter().take(5).map(String::as_str).collect();
        let hint = if some.is_empty() {
            "the capture knows of no cgroup: it was recorded without the probe process".to_owned()
        } else {
            format!("cgroups in the capture: {} (SELECT DISTINCT cgroup FROM process lists all)", some.join(", "))
        };
        return Err(Error::new("--cgroup", format!("no process was in {cgroup}")).hint(hint));
    }
    Ok(inside.into_iter().collect())
}

/// The cgroup of each process that can be known: its path, or its id where no process told the path at the start.
pub async fn paths(engine: &Engine) -> Result<HashMap<i64, String>> {
    let mut names = HashMap::new();
    let mut of = HashMap::new();
    for (process, id, path) in rows(engine, "SELECT process_id, cgroup_id, cgroup FROM process").await? {
        if !path.is_empty() {
            names.insert(id, path.clone());
            of.insert(process, path);
        }
    }
    for (process, id, _) in rows(engine, "SELECT process_id, cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_exec").await? {
        if id >= 0 {
            of.entry(process).or_insert_with(|| names.get(&id).cloned().unwrap_or_else(|| format!("id {id}")));
        }
    }
    let forks = "SELECT process_id, child_process_id AS cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_fork WHERE NOT is_thread ORDER BY ts";
    for (parent, child, _) in rows(engine, forks).await? {
        // In the order in which they were made, so that a parent is known before its child.
        if let Some(path) = of.get(&parent).cloned() {
            of.entry(child).or_insert(path);
        }
    }
    Ok(of)
}

async fn rows(engine: &Engine, sql: &str) -> Result<Vec<(i64, i64, String)>> {
    const TABLES: [&str; 3] = ["process", "process_exec", "process_fork"];
    let reading = Reading { optional: &TABLES, whole: &TABLES, ..Reading::default() };
    let mut rows = Vec::new();
    for batch in super::collect(engine.read(sql, reading, Vec::new()).await?.frame).await? {
        let cells = Cells::new(&batch)?;
        for row in 0..cells.rows() {
            let number = |column| cells.int(column, row).unwrap_or(-1);
            let cgroup = if cells.get("cgroup", row).is_some() { cells.raw("cgroup", row) } else { String::new() };
            rows.push((number("process_id"), number("cgroup_id"), cgroup));
        }
    }
    Ok(rows)
}
