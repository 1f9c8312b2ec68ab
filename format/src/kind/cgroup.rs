//! What a cgroup's path says: the unit of systemd, the container, the pod.

use super::columns::Interned;
use super::{Build, Context, Encoding, Kind, KindInfo, Parts};
use crate::text;
use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// What the path of a cgroup says about what runs in it. Every runtime and both of its cgroup drivers have a form of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupNames {
    /// The unit of systemd that it is of: the innermost service, scope, socket, mount or swap; `\x2d` as systemd writes it.
    pub unit: Option<String>,
    /// What made the container: docker, containerd, cri-o, podman, lxc, nspawn. None: there is no container, or the path doesn't tell.
    pub runtime: Option<&'static str>,
    /// The container's id, or of lxc and nspawn its name.
    pub container_id: Option<String>,
    /// UID of the pod, with hyphens.
    pub pod_uid: Option<String>,
    /// The pod's class of service: guaranteed, burstable or besteffort.
    pub qos: Option<&'static str>,
}

/// Scopes of systemd's cgroup driver: what goes before the container's id.
const SCOPES: [(&str, &str); 5] =
    [("docker-", "docker"), ("cri-containerd-", "containerd"), ("nerdctl-", "containerd"), ("crio-", "cri-o"), ("libpod-", "podman")];
/// Parents of the cgroupfs driver's.
const PARENTS: [(&str, &str); 4] = [("docker", "docker"), ("libpod_parent", "podman"), ("default", "containerd"), ("k8s.io", "containerd")];

/// A container's id is a SHA-256, or a UUID without hyphens, in hexadecimal.
fn is_id(name: &str) -> bool {
    matches!(name.len(), 32 | 64) && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A pod's UID: a UUID, or of a static pod a hash. Slices have `_` for `-`.
fn pod(name: &str) -> Option<String> {
    let uid = name.replace('_', "-");
    let is_uid = matches!(uid.len(), 32 | 36) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

impl CgroupNames {
    /// Reads a path of the v2 hierarchy.
    pub fn of(path: &str) -> CgroupNames {
        let mut names = CgroupNames::default();
        let mut parent = "";
        for part in path.split('/').filter(|part| !part.is_empty()) {
            names.see(parent, part);
            parent = part;
        }
        // A pod that isn't in a class of its own has the best.
        if names.pod_uid.is_some() && names.qos.is_none() {
            names.qos = Some("guaranteed");
        }
        names
    }

    fn see(&mut self, parent: &str, part: &str) {
        let (stem, kind) = part.rsplit_once('.').unwrap_or((part, ""));
        if matches!(kind, "service" | "scope" | "socket" | "mount" | "swap") {
            self.unit = Some(part.to_owned());
        }
        for class in ["burstable", "besteffort"] {
            if part == class && parent.starts_with("kubepods") || stem.ends_with(class) && kind == "slice" && stem.contains("kubepods") {
                self.qos = Some(if class == "burstable" { "burstable" } else { "besteffort" });
            }
        }
        // kubepods-burstable-pod0123….slice of systemd's driver, pod0123… below kubepods of the other.
        let uid = match kind {
            "slice" if stem.contains("kubepods") => stem.rsplit_once("-pod").and_then(|(_, uid)| pod(uid)),
            _ => part.strip_prefix("pod").and_then(pod),
        };
        if uid.is_some() {
            self.pod_uid = uid;
            return;
        }
        if kind == "scope" {
            for (prefix, runtime) in SCOPES {
                if let Some(id) = stem.strip_prefix(prefix).filter(|id| is_id(id)) {
                    self.contain(Some(runtime), id);
                }
            }
            // Names as systemd escapes them: machine-web\x2d1.scope.
            if let Some(name) = stem.strip_prefix("machine-") {
                self.contain(Some("nspawn"), &name.replace("\\x2d", "-"));
            }
            return;
        }
        if let Some(name) = part.strip_prefix("lxc.payload.") {
            self.contain(Some("lxc"), name);
        } else if let Some(id) = part.strip_prefix("libpod-").filter(|id| is_id(id)) {
            self.contain(Some("podman"), id);
        } else if let Some(id) = part.strip_prefix("crio-").filter(|id| is_id(id)) {
            self.contain(Some("cri-o"), id);
        } else if is_id(part) && (self.pod_uid.is_some() || !parent.is_empty()) {
            let made_by = PARENTS.iter().find(|(name, _)| *name == parent).map(|(_, runtime)| *runtime);
            self.contain(made_by, part);
        }
    }

    fn contain(&mut self, runtime: Option<&'static str>, id: &str) {
        self.runtime = runtime;
        self.container_id = Some(id.to_owned());
    }
}

/// Tail of a cgroup: its path and a NUL. Columns `path, unit, runtime, container_id, pod_uid, qos`.
#[derive(Debug)]
pub struct CgroupPath;

const WORD: KindInfo = KindInfo { name: "Text", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };
const PATH: KindInfo = KindInfo { name: "Path", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };

impl Kind for CgroupPath {
    type Value = [u8];
    type Builder = CgroupPathBuilder;
    const PARTS: Parts = &[
        ("path", "Its path from the root of the hierarchy.", &PATH),
        ("unit", "The unit of systemd that it is of, the innermost. Null: none.", &WORD),
        (
            "runtime",
            "What made the container: docker, containerd, cri-o, podman, lxc, nspawn. Null: no container, or the path doesn't tell.",
            &WORD,
        ),
        ("container_id", "Id of the container; of lxc and nspawn its name. Null: none.", &WORD),
        ("pod_uid", "UID of the Kubernetes pod. Null: none.", &WORD),
        ("qos", "The pod's class of service: guaranteed, burstable or besteffort. Null: no pod.", &WORD),
    ];
}

/// Builder of cgroups.
#[derive(Default)]
pub struct CgroupPathBuilder {
    path: StringBuilder,
    unit: StringBuilder,
    runtime: Interned<Option<&'static str>>,
    container_id: StringBuilder,
    pod_uid: StringBuilder,
    qos: Interned<Option<&'static str>>,
}

impl Build<[u8]> for CgroupPathBuilder {
    fn append(&mut self, tail: &[u8], _: &mut Context<'_>) {
        let path = (!tail.is_empty()).then(|| text::c_str(tail));
        let names = path.as_deref().map(CgroupNames::of).unwrap_or_default();
        self.path.append_option(path);
        self.unit.append_option(names.unit);
        self.runtime.push(names.runtime, || names.runtime.map(str::to_owned));
        self.container_id.append_option(names.container_id);
        self.pod_uid.append_option(names.pod_uid);
        self.qos.push(names.qos, || names.qos.map(str::to_owned));
    }

    fn bytes(&self) -> usize {
        self.path.values_slice().len() + self.unit.values_slice().len() + self.container_id.values_slice().len()
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.path.finish()));
        out.push(Arc::new(self.unit.finish()));
        out.push(Arc::new(self.runtime.take()));
        out.push(Arc::new(self.container_id.finish()));
        out.push(Arc::new(self.pod_uid.finish()));
        out.push(Arc::new(self.qos.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f1b0c5d7e9a2b4c6d8e0f1a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c";
    const POD: &str = "0d1e2f3a-4b5c-6d7e-8f9a-0b1c2d3e4f5a";

    /// Unit, runtime, container, pod, class of service.
    type Told = (Option<String>, Option<&'static str>, Option<String>, Option<String>, Option<&'static str>);

    fn of(path: &str) -> Told {
        let names = CgroupNames::of(&path.replace("ID", ID).replace("POD_", &POD.replace('-', "_")).replace("POD", POD));
        (names.unit, names.runtime, names.container_id, names.pod_uid, names.qos)
    }

    /// As the runtimes name them, with systemd's cgroup driver and with the other.
    #[test]
    fn every_runtime_is_recognised() {
        let id = || Some(ID.to_owned());
        let uid = || Some(POD.to_owned());
        let unit = |text: &str| Some(text.replace("ID", ID));
        let expected = [
            ("/system.slice/docker-ID.scope", (unit("docker-ID.scope"), Some("docker"), id(), None, None)),
            ("/docker/ID", (None, Some("docker"), id(), None, None)),
            ("/docker/ID/init", (None, Some("docker"), id(), None, None)),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope",
                (unit("cri-containerd-ID.scope"), Some("containerd"), id(), uid(), Some("burstable")),
            ),
            (
                "/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope",
                (unit("crio-ID.scope"), Some("cri-o"), id(), uid(), Some("guaranteed")),
            ),
            ("/kubepods/besteffort/podPOD/ID", (None, None, id(), uid(), Some("besteffort"))),
            (
                // kind: the kubelet in a container of Docker's.
                "/system.slice/docker-ID.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podPOD_.slice",
                (unit("docker-ID.scope"), Some("docker"), id(), uid(), Some("besteffort")),
            ),
            ("/machine.slice/libpod-ID.scope/container", (unit("libpod-ID.scope"), Some("podman"), id(), None, None)),
            ("/libpod_parent/libpod-ID", (None, Some("podman"), id(), None, None)),
            ("/default/ID", (None, Some("containerd"), id(), None, None)),
            ("/lxc.payload.web1/system.slice/nginx.service", (unit("nginx.service"), Some("lxc"), Some("web1".to_owned()), None, None)),
            (
                "/machine.slice/machine-web\\x2d1.scope/payload",
                (unit("machine-web\\x2d1.scope"), Some("nspawn"), Some("web-1".to_owned()), None, None),
            ),
            ("/system.slice/ssh.service", (unit("ssh.service"), None, None, None, None)),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", (unit("app-x.scope"), None, None, None, None)),
            ("/", (None, None, None, None, None)),
            ("/docker/short", (None, None, None, None, None)),
            ("/podcast/ID0", (None, None, None, None, None)),
        ];
        for (path, names) in expected {
            assert_eq!(of(path), names, "{path}");
        }
    }
}
