//! Compiles `bpf/*.bpf.c` as one unit into the object that the recorder embeds. Needs clang; the headers are libbpf's own.

#![allow(clippy::disallowed_methods, reason = "reads the sources that it compiles")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), String> {
    let manifest = PathBuf::from(env("CARGO_MANIFEST_DIR")?);
    let bpf = manifest.join("../bpf");
    let out = PathBuf::from(env("OUT_DIR")?);
    let libbpf = env("DEP_BPF_INCLUDE")?;
    let arch = match env("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => return Err(format!("no system call numbers for {other}: add them in bpf/syscalls.h")),
    };
    println!("cargo:rerun-if-changed={}", bpf.display());
    println!("cargo:rerun-if-env-changed=CLANG");

    let mut names: Vec<String> = std::fs::read_dir(&bpf)
        .map_err(|error| format!("{}: {error}", bpf.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".bpf.c"))
        .collect();
    // The core comes last: it knows what the probes declared.
    names.sort_by_key(|name| (name == "core.bpf.c", name.clone()));
    // One unit: one set of maps and knobs, and the kernel's BTF is parsed once.
    let unit = out.join("ebrec.bpf.c");
    let mut text: String = names.iter().map(|name| format!("#include \"{name}\"\n")).collect();
    text.push_str("char LICENSE[] SEC(\"license\") = \"GPL\";\n");
    std::fs::write(&unit, text).map_err(|error| error.to_string())?;

    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    compile(&clang, arch, &bpf, &libbpf, &unit, &out.join("ebrec.bpf.o"))
}

fn compile(clang: &str, arch: &str, bpf: &Path, libbpf: &str, unit: &Path, object: &Path) -> Result<(), String> {
    let status = Command::new(clang)
        // v3: 32-bit registers and jumps, which the oldest kernel we load on (5.8) has.
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-std=gnu11", "-Wall", "-Wextra", "-Werror"])
        // BPF_PROG declares every argument of a hook, used or not.
        .arg("-Wno-unused-parameter")
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(bpf)
        .arg("-isystem")
        .arg(libbpf)
        // Paths in the object's line information are relative: the same sources give the same object anywhere.
        .arg(format!("-fdebug-prefix-map={}=bpf", bpf.display()))
        .arg("-c")
        .arg(unit)
        .arg("-o")
        .arg(object)
        .status()
        .map_err(|error| format!("{clang}: {error}; install clang (make deps) or name it in CLANG"))?;
    if status.success() { Ok(()) } else { Err(format!("{clang} could not compile bpf/")) }
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}
