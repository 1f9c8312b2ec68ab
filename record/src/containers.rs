//! Names of containers: what the runtimes keep of theirs in files, from which a container's id leads to its name, its image and its pod.
//! No runtime is asked: its API may be slow or gone on a host in trouble, and asking it is an event of its own.

use crate::tongs::{self, Fetcher};
use ebrec_format::events::host::Container;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More are not told of (the table says so).
const MOST: usize = 10_000;
/// So often a description is read that isn't whole: it is written beside and renamed, or in place and whole a moment later.
const TRIES: u32 = 10;
/// A description is read up to here; Docker's and OCI's are some tens of kilobytes.
const MOST_BYTES: usize = 1 << 20;
/// The list of all containers of containers/storage (podman, CRI-O).
const MOST_LIST_BYTES: usize = 8 << 20;
/// They: of containers that stay, and of those that a restart of the host ends.
const STORAGE: [&str; 2] =
    ["var/lib/containers/storage/overlay-containers/containers.json", "run/containers/storage/overlay-containers/volatile-containers.json"];
/// A name that is longer is cut: those who choose it are others.
const MOST_NAME: usize = 255;
/// How long a look is waited for: the directories are on the host's disks, or on a file system that stands still. What a longer one
/// finds is told a second later.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is known of the host's containers.
#[derive(Debug)]
pub struct Containers {
    fetcher: Fetcher,
    /// Held as long as a look takes, which may be for ever.
    told: Arc<Mutex<Told>>,
    /// What looks have found, and nobody has taken yet.
    found: Arc<Mutex<Vec<Container>>>,
}

/// What has been told, by what names it: an id, or a pod's directory.
#[derive(Debug, Default)]
struct Told {
    names: HashSet<String>,
    /// How often a description was read that wasn't whole.
    tries: HashMap<String, u32>,
    /// Size and time of change of the lists of containers/storage when they were read.
    lists: [Option<(u64, i64, i64)>; STORAGE.len()],
}

impl Default for Containers {
    fn default() -> Containers {
        Containers { fetcher: Fetcher::new("ebrec-contain"), told: Arc::default(), found: Arc::default() }
    }
}

impl Containers {
    /// Those that weren't there, or had no description yet, when this was asked last.
    pub fn fresh(&mut self) -> Vec<Container> {
        self.look(Path::new("/"), PATIENCE);
        std::mem::take(&mut *lock(&self.found))
    }

    /// Looks, and waits as long as that.
    fn look(&mut self, root: &'static Path, patience: Duration) {
        let (told, found) = (self.told.clone(), self.found.clone());
        self.fetcher.fetch(patience, move || {
            let fresh = lock(&told).fresh(root);
            lock(&found).extend(fresh);
        });
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are only added to: what a panic left is as good as any.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// `root` is the host's.
    fn fresh(&mut self, root: &Path) -> Vec<Container> {
        let mut found = Vec::new();
        let docker = root.join("var/lib/docker/containers");
        for id in self.new_names(&docker) {
            found.extend(self.described(&id, &docker.join(&id).join("config.v2.json"), docker_container));
        }
        // A directory for each namespace of containerd's: k8s.io, default, moby (whose containers are Docker's).
        let tasks = root.join("run/containerd/io.containerd.runtime.v2.task");
        for namespace in names(&tasks).filter(|namespace| namespace != "moby") {
            let tasks = tasks.join(namespace);
            for id in self.new_names(&tasks) {
                found.extend(self.described(&id, &tasks.join(&id).join("config.json"), containerd_container));
            }
        }
        for (list, seen) in STORAGE.iter().zip(&mut self.lists) {
            found.extend(of_storage(&root.join(list), seen));
        }
        let pods = root.join("var/log/pods");
        found.extend(self.new_names(&pods).iter().filter_map(|name| pod(name)));
        found.retain(|container| {
            let name = container.container_id.clone().or_else(|| {
                let part = |part: &Option<String>| part.clone().unwrap_or_default();
                Some([part(&container.namespace), part(&container.pod), part(&container.pod_uid)].join("_"))
            });
            self.names.len() < MOST && name.is_some_and(|name| self.names.insert(name))
        });
        found
    }

    /// What is in a directory and hasn't been told of.
    fn new_names(&self, directory: &Path) -> Vec<String> {
        names(directory).filter(|name| !self.names.contains(name) && self.tries.get(name).is_none_or(|tries| *tries < TRIES)).collect()
    }

    /// A container as its file describes it.
    fn described(&mut self, id: &str, path: &Path, read: fn(&str, &Value) -> Container) -> Option<Container> {
        let described = tongs::system_file(path).ok().and_then(|file| parsed(file, MOST_BYTES)).map(|value| read(id, &value));
        if described.is_none() {
            *self.tries.entry(id.to_owned()).or_default() += 1;
        }
        described
    }
}

/// What containers/storage lists, if it has changed.
fn of_storage(list: &Path, seen: &mut Option<(u64, i64, i64)>) -> Vec<Container> {
    let Ok(file) = tongs::system_file(list) else { return Vec::new() };
    let Ok(metadata) = file.metadata() else { return Vec::new() };
    let now = Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    if *seen == now {
        return Vec::new();
    }
    let Some(Value::Array(all)) = parsed(file, MOST_LIST_BYTES) else { return Vec::new() };
    *seen = now;
    all.iter().filter_map(storage_container).collect()
}

/// What is in a directory, up to a number.
fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    tongs::directories(directory).into_iter().take(MOST).filter_map(|name| name.into_string().ok())
}

fn parsed(file: std::fs::File, most: usize) -> Option<Value> {
    let (bytes, more) = tongs::bytes_of(file, most).ok()?;
    if more { None } else { serde_json::from_slice(&bytes).ok() }
}

/// A text that isn't empty, and not longer than a name is.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(text.chars().take(MOST_NAME).collect())
}

/// What the container is called that keeps a pod's namespaces: it has no name of its own, and dockershim called it so.
const INFRA: &str = "POD";

/// `config.v2.json` of Docker (daemon/container of moby): cri-dockerd labels what is Kubernetes's.
fn docker_container(id: &str, config: &Value) -> Container {
    let labels = &config["Config"]["Labels"];
    let own = text(&config["Name"]).map(|name| name.trim_start_matches('/').to_owned());
    Container {
        container_id: Some(id.to_owned()),
        runtime: Some("docker".to_owned()),
        name: text(&labels["io.kubernetes.container.name"]).or(own),
        image: text(&config["Config"]["Image"]),
        pod: text(&labels["io.kubernetes.pod.name"]),
        namespace: text(&labels["io.kubernetes.pod.namespace"]),
        pod_uid: text(&labels["io.kubernetes.pod.uid"]),
    }
}

/// `config.json` of an OCI bundle, annotated by containerd's CRI plugin (internal/cri/annotations) or by nerdctl.
fn containerd_container(id: &str, spec: &Value) -> Container {
    let of = |key: &str| text(&spec["annotations"][key]);
    // The container that keeps a pod's namespaces has no name of its own.
    let is_sandbox = spec["annotations"]["io.kubernetes.cri.container-type"] == "sandbox";
    Container {
        container_id: Some(id.to_owned()),
        runtime: Some("containerd".to_owned()),
        name: of("io.kubernetes.cri.container-name").or_else(|| of("nerdctl/name")).or_else(|| is_sandbox.then(|| INFRA.to_owned())),
        image: of("io.kubernetes.cri.image-name"),
        pod: of("io.kubernetes.cri.sandbox-name"),
        namespace: of("io.kubernetes.cri.sandbox-namespace"),
        pod_uid: of("io.kubernetes.cri.sandbox-uid"),
    }
}

/// An entry of a list of containers/storage; podman and CRI-O keep what they know in `metadata`, JSON in a text
/// (`RuntimeContainerMetadata` of both). CRI-O says what the pod is in the name that it gives it: k8s_NAME_NAMESPACE_UID_ATTEMPT.
fn storage_container(entry: &Value) -> Option<Container> {
    let metadata: Value = entry["metadata"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let of = |key: &str| text(&metadata[key]);
    let pod_name = of("pod-name");
    let mut pod = pod_name.as_deref().and_then(|name| name.strip_prefix("k8s_")).into_iter().flat_map(|name| name.split('_'));
    let mut part = || pod.next().map(str::to_owned);
    let (pod, namespace, pod_uid) = (part(), part(), part());
    let is_infra = metadata["pod"] == true;
    Some(Container {
        container_id: Some(text(&entry["id"])?),
        runtime: Some(if pod_name.is_some() { "cri-o" } else { "podman" }.to_owned()),
        name: if is_infra {
            Some(INFRA.to_owned())
        } else {
            of("metadata-name").or_else(|| of("name")).or_else(|| text(&entry["names"][0]))
        },
        image: of("image-name"),
        pod,
        namespace,
        pod_uid,
    })
}

/// A directory of the kubelet's logs: NAMESPACE_NAME_UID.
fn pod(directory: &str) -> Option<Container> {
    let mut parts = directory.split('_').map(str::to_owned);
    let (namespace, pod, pod_uid) = (parts.next()?, parts.next()?, parts.next()?);
    let kubelet = Some("kubelet".to_owned());
    Some(Container {
        container_id: None,
        runtime: kubelet,
        name: None,
        image: None,
        pod: Some(pod),
        namespace: Some(namespace),
        pod_uid: Some(pod_uid),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const ID: &str = "3f1b0c5d7e9a2b4c6d8e0f1a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c";
    const UID: &str = "0d1e2f3a-4b5c-6d7e-8f9a-0b1c2d3e4f5a";

    /// A host's files.
    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl Root {
        fn new(name: &str) -> Root {
            let root = std::env::temp_dir().join(format!("ebrec-containers-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            Root(root)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text.replace("ID", ID).replace("UUU", UID)).unwrap();
        }
    }

    fn told(container: &Container) -> [&str; 6] {
        let of = |text: &'_ Option<String>| text.as_deref().unwrap_or("-").to_owned().leak() as &str;
        [
            of(&container.runtime),
            of(&container.name),
            of(&container.image),
            of(&container.pod),
            of(&container.namespace),
            of(&container.pod_uid),
        ]
    }

    /// Files as each runtime writes them (shortened).
    #[test]
    fn every_runtime_is_read() {
        let docker = |labels: &str| format!(r#"{{"ID":"ID","Name":"/web","Config":{{"Image":"nginx:1.27","Labels":{{{labels}}}}}}}"#);
        let kubernetes = r#""io.kubernetes.container.name":"app","io.kubernetes.pod.name":"shop-1","io.kubernetes.pod.namespace":"prod","io.kubernetes.pod.uid":"UUU""#;
        let cri = r#""io.kubernetes.cri.container-type":"TYPE","io.kubernetes.cri.sandbox-name":"shop-1","io.kubernetes.cri.sandbox-namespace":"prod","io.kubernetes.cri.sandbox-uid":"UUU""#;
        let sandbox = format!(r#"{{"annotations":{{{}}}}}"#, cri.replace("TYPE", "sandbox"));
        let app = format!(
            r#"{{"annotations":{{{},"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"docker.io/library/nginx:1.27"}}}}"#,
            cri.replace("TYPE", "container")
        );
        let stored = |metadata: &str| format!(r#"[{{"id":"ID","names":["n"],"metadata":{}}}]"#, Value::from(metadata));
        let podman = stored(r#"{"image-name":"localhost/tiny:1","image-id":"3c72","name":"web1","created-at":1795791027}"#);
        let crio = |pod: bool| {
            stored(&format!(
                r#"{{"pod-name":"k8s_shop-1_prod_{UID}_0","pod-id":"ab","image-name":"nginx","name":"k8s_app_shop-1_prod_{UID}_0","metadata-name":"app","pod":{pod}}}"#
            ))
        };
        let bundle = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json";
        let cases: [(&str, String, [&str; 6]); 9] = [
            ("var/lib/docker/containers/ID/config.v2.json", docker(""), ["docker", "web", "nginx:1.27", "-", "-", "-"]),
            ("var/lib/docker/containers/ID/config.v2.json", docker(kubernetes), ["docker", "app", "nginx:1.27", "shop-1", "prod", UID]),
            (bundle, sandbox, ["containerd", "POD", "-", "shop-1", "prod", UID]),
            (bundle, app, ["containerd", "app", "docker.io/library/nginx:1.27", "shop-1", "prod", UID]),
            (
                "run/containerd/io.containerd.runtime.v2.task/default/ID/config.json",
                r#"{"annotations":{"nerdctl/name":"web"}}"#.to_owned(),
                ["containerd", "web", "-", "-", "-", "-"],
            ),
            (STORAGE[0], podman, ["podman", "web1", "localhost/tiny:1", "-", "-", "-"]),
            (STORAGE[1], crio(false), ["cri-o", "app", "nginx", "shop-1", "prod", UID]),
            (STORAGE[1], crio(true), ["cri-o", "POD", "nginx", "shop-1", "prod", UID]),
            ("var/log/pods/prod_shop-1_UUU/app/0.log", String::new(), ["kubelet", "-", "-", "shop-1", "prod", UID]),
        ];
        for (path, text, expected) in cases {
            let root = Root::new("every");
            root.put(&path.replace("ID", ID).replace("UUU", UID), &text);
            let mut known = Told::default();
            let found = known.fresh(&root.0);
            assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [expected], "{path}");
            assert_eq!(found[0].container_id.as_deref(), (expected[0] != "kubelet").then_some(ID));
            assert_eq!(known.fresh(&root.0).len(), 0, "{path}: told twice");
        }
    }

    /// Others write some of these texts: an image's labels, a pod's annotations.
    #[test]
    fn odd_files_are_left_out() {
        let root = Root::new("odd");
        let long = "x".repeat(5000);
        root.put("var/lib/docker/containers/a/config.v2.json", "{\"Name\":");
        root.put("var/lib/docker/containers/b/config.v2.json", &format!("{{\"Name\":\"/{long}\",\"Config\":7}}"));
        root.put("var/lib/docker/containers/c/config.v2.json", &" ".repeat(MOST_BYTES + 1));
        root.put("var/lib/docker/containers/d/config.v2.json", &"[".repeat(100_000));
        root.put(STORAGE[0], r#"[7, {"id": 5}, {"id": "e", "metadata": "no JSON"}]"#);
        root.put("var/log/pods/nothing/x", "");
        let mut known = Told::default();
        let found = known.fresh(&root.0);
        let names: Vec<(&str, Option<usize>)> =
            found.iter().map(|one| (one.container_id.as_deref().unwrap(), one.name.as_ref().map(String::len))).collect();
        assert_eq!(names, [("b", Some(MOST_NAME - 1)), ("e", None)]);
        // What is written a moment later is read then, and what never becomes whole is given up.
        for _ in 0..2 * TRIES {
            assert_eq!(known.fresh(&root.0).len(), 0);
        }
        assert_eq!(known.tries.values().copied().max(), Some(TRIES));
        let mut known = Told::default();
        assert_eq!(known.fresh(&root.0).len(), 2);
        root.put("var/lib/docker/containers/a/config.v2.json", "{\"Name\":\"/a\"}");
        assert_eq!(known.fresh(&root.0).len(), 1);
    }

    /// On a busy host, or with thousands of containers, a look takes longer than it is waited for.
    #[test]
    fn what_a_long_look_finds_is_told_later() {
        let root = Root::new("long");
        root.put("var/log/pods/prod_shop-1_UUU/x", "");
        // Somebody else looks meanwhile.
        let mut containers = Containers::default();
        let told = containers.told.clone();
        let held = lock(&told);
        let place: &'static Path = Box::leak(root.0.clone().into_boxed_path());
        containers.look(place, Duration::from_millis(1));
        assert_eq!(lock(&containers.found).len(), 0);
        drop(held);
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while lock(&containers.found).is_empty() {
            assert!(std::time::Instant::now() < end, "it is lost");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
