//! Containers, pods and units by their names: `--container`, `--pod` and `--unit`.
//!
//! The path of a cgroup has ids in it, and the names of units (table `cgroup`). What containers and pods are called stands in files of the
//! host's runtimes, as far as the recorder could see them (table `container`).

use super::Engine;
use super::catalog::Reading;
use super::cgroup::{inside, rows};
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::text::escape;
use crate::query::macros;
use std::collections::{BTreeSet, HashMap};

/// What is asked for by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `--container`: its name, its id, or how that begins.
    Container,
    /// `--pod`: its name, NAMESPACE/NAME, its UID, or how that begins.
    Pod,
    /// `--unit`: its name, of a service also without `.service`.
    Unit,
}

impl Owner {
    /// The option's name, the column of `cgroup`, and what it is called.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Owner::Container => ("--container", "container_id", "container"),
            Owner::Pod => ("--pod", "pod_uid", "pod"),
            Owner::Unit => ("--unit", "unit", "unit"),
        }
    }

    fn is(self, asked: &str, name: &str) -> bool {
        match self {
            Owner::Container | Owner::Pod => name.starts_with(asked),
            Owner::Unit => name == asked || name.strip_suffix(".service") == Some(asked),
        }
    }
}

/// By pid, what its process was in: `container web of pod prod/shop-1`, `unit nginx.service`. Nothing of a pid of two processes in two places.
#[derive(Debug, Default)]
pub struct Owners(HashMap<i64, Option<String>>);

impl Owners {
    /// Reads them.
    pub async fn read(engine: &Engine) -> Result<Owners> {
        let tables: Vec<&str> = macros::OWNERS_NEED.into_iter().chain(macros::OWNERS_USE).collect();
        let reading = Reading { optional: &tables, whole: &tables, ..Reading::default() };
        let sql = format!("SELECT pid, container, pod, unit FROM ({}) AS o", macros::OWNERS);
        let mut owners = Owners::default();
        for batch in super::collect(engine.read(&sql, reading, Vec::new()).await?.frame).await? {
            let cells = Cells::new(&batch)?;
            for row in 0..cells.rows() {
                let of = |column| cells.get(column, row).is_some().then(|| escape(&cells.raw(column, row)));
                let label = match (of("container"), of("pod"), of("unit")) {
                    (Some(container), Some(pod), _) => Some(format!("container {container} of pod {pod}")),
                    (Some(container), None, _) => Some(format!("container {container}")),
                    (None, Some(pod), _) => Some(format!("pod {pod}")),
                    // Sessions and slices say less than the process's name.
                    (None, None, unit) => unit.filter(|unit| unit.ends_with(".service")).map(|unit| format!("unit {unit}")),
                };
                let Some(pid) = cells.int("pid", row) else { continue };
                let differs = owners.0.get(&pid).is_some_and(|known| *known != label);
                owners.0.insert(pid, label.filter(|_| !differs));
            }
        }
        Ok(owners)
    }

    /// What to say behind a pid.
    pub fn of(&self, pid: i64) -> Option<&str> {
        self.0.get(&pid)?.as_deref()
    }
}

/// A row of `container`. A pod has no id, a container of no pod only id and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Named {
    id: Option<String>,
    name: Option<String>,
    pod: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
}

impl Named {
    /// The pod in full: NAMESPACE/NAME.
    fn full_pod(&self) -> Option<String> {
        let pod = self.pod.as_ref()?;
        Some(self.namespace.as_ref().map_or_else(|| pod.clone(), |namespace| format!("{namespace}/{pod}")))
    }

    /// Whether this is what is asked for.
    fn is(&self, owner: Owner, asked: &str) -> bool {
        match owner {
            Owner::Container => self.id.is_some() && self.name.as_deref() == Some(asked),
            Owner::Pod => self.pod.as_deref() == Some(asked) || self.full_pod().as_deref() == Some(asked),
            Owner::Unit => false,
        }
    }
}

/// What has this name, and what it is called in full. Several containers may: one that was made anew has its predecessor's name.
/// Those of several pods, and pods of several namespaces, are not the same.
fn by_name(owner: Owner, asked: &str, all: &[Named]) -> Result<Option<(String, Vec<Named>)>> {
    let found: Vec<Named> = all.iter().filter(|named| named.is(owner, asked)).cloned().collect();
    let pods: BTreeSet<Option<String>> = found.iter().map(Named::full_pod).collect();
    let (option, _, what) = owner.words();
    let several = || pods.iter().flatten().take(5).cloned().collect::<Vec<_>>().join(", ");
    match (owner, pods.len()) {
        (_, 0) => Ok(None),
        (Owner::Container, 1) => Ok(Some((called(what, asked, found.iter().filter_map(|named| named.id.as_deref())), found))),
        (_, 1) => Ok(pods.into_iter().next().flatten().map(|pod| (format!("{what} {pod}"), found))),
        (Owner::Container, _) => {
            Err(Error::new(option, format!("{asked} is a container of several pods: {}", several()))
                .hint("give --pod, or the container's id"))
        }
        _ => Err(Error::new(option, format!("there are several pods {asked}: {}", several())).hint("give NAMESPACE/NAME")),
    }
}

/// `container web (3f1b0c5d7e9a)`; ids as short as Docker shows them.
fn called<'a>(what: &str, name: &str, ids: impl Iterator<Item = &'a str>) -> String {
    let short: BTreeSet<&str> = ids.map(|id| id.get(..12).unwrap_or(id)).collect();
    format!("{what} {name} ({})", short.into_iter().collect::<Vec<_>>().join(", "))
}

/// Identities of the processes of a container, a pod or a unit, and what it is called in full.
pub async fn processes_of(engine: &Engine, owner: Owner, asked: &str) -> Result<(String, Vec<i64>)> {
    let (option, column, what) = owner.words();
    let all = if owner == Owner::Unit { Vec::new() } else { names(engine).await? };
    if let Some((called, named)) = by_name(owner, asked, &all)? {
        let ids: BTreeSet<&str> = named.iter().filter_map(|named| named.id.as_deref()).collect();
        let uids: BTreeSet<&str> = named.iter().filter(|_| owner == Owner::Pod).filter_map(|named| named.uid.as_deref()).collect();
        let mut cgroups = BTreeSet::new();
        for (column, wanted) in [("container_id", ids), ("pod_uid", uids)] {
            let of = rows(engine, &cgroups_by(column)).await?.into_iter();
            cgroups.extend(of.filter(|(_, _, name)| wanted.contains(name.as_str())).map(|(_, cgroup, _)| cgroup));
        }
        return in_cgroups(engine, option, called, cgroups).await;
    }
    let (mut ids, mut found, mut others) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (_, id, name) in rows(engine, &cgroups_by(column)).await? {
        if owner.is(asked, &name) {
            ids.insert(id);
            found.insert(name);
        } else {
            others.insert(name);
        }
    }
    let list = |names: BTreeSet<String>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(name), None) => in_cgroups(engine, option, format!("{what} {name}"), ids).await,
        (Some(one), Some(two)) => {
            let all = [one, two].into_iter().chain(found).collect();
            Err(Error::new(option, format!("{asked} is the beginning of several: {}", list(all))))
        }
        _ => {
            let error = Error::new(option, format!("the capture knows of no {what} {asked}"));
            let mut known: BTreeSet<String> = all.iter().filter_map(|named| name_of(owner, named)).collect();
            let has_name = |id: &String| all.iter().any(|named| named.id.as_ref() == Some(id) || named.uid.as_ref() == Some(id));
            known.extend(others.into_iter().filter(|id| !has_name(id)));
            Err(if known.is_empty() {
                error.hint(format!("it knows of none at all; the table cgroup has what there was (SELECT path, {column} FROM cgroup)"))
            } else {
                error.hint(format!("there are: {}", list(known)))
            })
        }
    }
}

fn name_of(owner: Owner, named: &Named) -> Option<String> {
    match owner {
        Owner::Container => named.id.as_ref().and(named.name.clone()),
        Owner::Pod => named.full_pod(),
        Owner::Unit => None,
    }
}

/// Cgroups and what a column says of them.
fn cgroups_by(column: &str) -> String {
    format!("SELECT CAST(NULL AS BIGINT) AS process_id, cgroup_id, {column} AS cgroup FROM cgroup WHERE {column} IS NOT NULL")
}

async fn in_cgroups(engine: &Engine, option: &str, called: String, ids: BTreeSet<i64>) -> Result<(String, Vec<i64>)> {
    let inside = inside(engine, ids, &|_| false, false).await?.0;
    if inside.is_empty() {
        return Err(Error::new(option, format!("no process was seen in {called}")));
    }
    Ok((called, inside.into_iter().collect()))
}

async fn names(engine: &Engine) -> Result<Vec<Named>> {
    const TABLES: [&str; 1] = ["container"];
    let reading = Reading { optional: &TABLES, whole: &TABLES, ..Reading::default() };
    let sql = "SELECT container_id, name, pod, namespace, pod_uid FROM container";
    let mut all = Vec::new();
    for batch in super::collect(engine.read(sql, reading, Vec::new()).await?.frame).await? {
        let cells = Cells::new(&batch)?;
        for row in 0..cells.rows() {
            let of = |column| cells.get(column, row).is_some().then(|| cells.raw(column, row));
            all.push(Named { id: of("container_id"), name: of("name"), pod: of("pod"), namespace: of("namespace"), uid: of("pod_uid") });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: &str, name: &str, pod: &str, namespace: &str) -> Named {
        let of = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Named { id: of(id), name: of(name), pod: of(pod), namespace: of(namespace), uid: None }
    }

    #[test]
    fn names_stand_for_what_has_them() {
        let all = [
            named("aaaaaaaaaaaaaaaa", "web", "", ""),
            named("bbbbbbbbbbbbbbbb", "web", "", ""),
            named("cccccccccccccccc", "app", "shop-1", "prod"),
            named("dddddddddddddddd", "app", "shop-2", "prod"),
            named("", "", "shop-1", "prod"),
            named("", "", "cron", "prod"),
            named("", "", "cron", "test"),
        ];
        let found = |owner, asked: &str| match by_name(owner, asked, &all) {
            Ok(Some((called, named))) => format!("{called}: {}", named.len()),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found(Owner::Container, "web"), "container web (aaaaaaaaaaaa, bbbbbbbbbbbb): 2");
        assert!(found(Owner::Container, "app").contains("a container of several pods: prod/shop-1, prod/shop-2"));
        assert_eq!(found(Owner::Container, "shop-1"), "none");
        assert_eq!(found(Owner::Pod, "shop-1"), "pod prod/shop-1: 2");
        assert_eq!(found(Owner::Pod, "prod/shop-2"), "pod prod/shop-2: 1");
        assert!(found(Owner::Pod, "cron").contains("there are several pods cron: prod/cron, test/cron"));
        assert_eq!(found(Owner::Pod, "test/cron"), "pod test/cron: 1");
        assert_eq!(found(Owner::Unit, "web"), "none");
    }
}
