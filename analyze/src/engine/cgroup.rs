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

/// Where cgroup v2 is mounted as a rule: live tools take paths with it.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// What of a path is below the hierarchy's root, without a slash at its end.
fn below_root(path: &str) -> &str {
    let below = MOUNTS.iter().find_map(|mount| path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/')));
    below.unwrap_or(path).trim_end_matches('/')
}

/// Identities (`process_id`) of the processes in `cgroup` and the cgroups below: a path such as /system.slice, or an id.
pub async fn processes(engine: &Engine, cgroup: &str) -> Result<Vec<i64>> {
    let path = below_root(cgroup);
    let is_root = path.is_empty() && cgroup.starts_with('/');
    let mut ids: BTreeSet<i64> = cgroup.parse().into_iter().collect();
    let is_below = |of: &str| !path.is_empty() && of.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut exists = is_root;
    for (_, id, of) in rows(engine, CGROUPS).await? {
        if is_below(&of) || ids.contains(&id) {
            exists = true;
            ids.insert(id);
        }
    }
    let (inside, mut known) = inside(engine, ids, &is_below, is_root).await?;
    if !inside.is_empty() {
        return Ok(inside.into_iter().collect());
    }
    known.remove("");
    let some: Vec<&str> = known.iter().take(5).map(String::as_str).collect();
    let hint = if some.is_empty() {
        "the capture knows of no cgroup: it was recorded without the probe process".to_owned()
    } else {
        format!("cgroups in the capture: {} (SELECT DISTINCT cgroup FROM process, and SELECT path FROM cgroup, list all)", some.join(", "))
    };
    let what =
        if exists { format!("no process was seen in {cgroup}") } else { format!("there was no cgroup {cgroup}, as far as was recorded") };
    Err(Error::new("--cgroup", what).hint(hint))
}

/// The processes in the cgroups with these ids, or with a path that is wanted, and their descendants; and all paths of processes.
pub(super) async fn inside(
    engine: &Engine,
    mut ids: BTreeSet<i64>,
    is_wanted: &(dyn Fn(&str) -> bool + Sync),
    all: bool,
) -> Result<(BTreeSet<i64>, BTreeSet<String>)> {
    let (mut inside, mut known) = (BTreeSet::new(), BTreeSet::new());
    for (process, id, of) in rows(engine, PROCESSES).await? {
        if is_wanted(&of) || ids.contains(&id) || all {
            inside.insert(process);
            if is_wanted(&of) {
                ids.insert(id);
            }
        }
        known.insert(of);
    }
    for (process, id, _) in rows(engine, EXECS).await? {
        if ids.contains(&id) || all {
            inside.insert(process);
        }
    }
    let mut children: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (parent, child, _) in rows(engine, FORKS).await? {
        children.entry(parent).or_default().push(child);
    }
    let mut new: Vec<i64> = inside.iter().copied().collect();
    while let Some(parent) = new.pop() {
        new.extend(children.remove(&parent).unwrap_or_default().into_iter().filter(|child| inside.insert(*child)));
    }
    Ok((inside, known))
}

/// The cgroup of each process that can be known: its path, or its id where nothing told the path.
pub async fn paths(engine: &Engine) -> Result<HashMap<i64, String>> {
    let mut names = HashMap::new();
    let mut of = HashMap::new();
    for (_, id, path) in rows(engine, CGROUPS).await? {
        names.insert(id, path);
    }
    for (process, id, path) in rows(engine, PROCESSES).await? {
        if !path.is_empty() {
            names.insert(id, path.clone());
            of.insert(process, path);
        }
    }
    for (process, id, _) in rows(engine, EXECS).await? {
        if id >= 0 {
            of.entry(process).or_insert_with(|| names.get(&id).cloned().unwrap_or_else(|| format!("id {id}")));
        }
    }
    // In the order in which they were made, so that a parent is known before its child.
    for (parent, child, _) in rows(engine, &format!("{FORKS} ORDER BY ts")).await? {
        if let Some(path) = of.get(&parent).cloned() {
            of.entry(child).or_insert(path);
        }
    }
    Ok(of)
}

/// A process or nothing, an id, a path or nothing.
const CGROUPS: &str = "SELECT CAST(NULL AS BIGINT) AS process_id, cgroup_id, path AS cgroup FROM cgroup WHERE path IS NOT NULL";
const PROCESSES: &str = "SELECT process_id, cgroup_id, cgroup FROM process";
const EXECS: &str = "SELECT process_id, cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_exec";
const FORKS: &str =
    "SELECT process_id, child_process_id AS cgroup_id, CAST(NULL AS VARCHAR) AS cgroup FROM process_fork WHERE NOT is_thread";

pub(super) async fn rows(engine: &Engine, sql: &str) -> Result<Vec<(i64, i64, String)>> {
    const TABLES: [&str; 4] = ["cgroup", "process", "process_exec", "process_fork"];
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
