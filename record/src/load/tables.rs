//! The maps of the object: their sizes, and what they hold before anything runs.

use super::{Settings, handle};
use crate::kernel::Kernel;
use crate::maps;
use crate::namespaces::Seed;
use crate::scheduling::{Class, spawn};
use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, Object, OpenObject};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the kernel may take to put a ring buffer in its place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Leaves out the maps that aren't needed, and gives the others their sizes.
pub(super) fn choose_maps(open: &mut OpenObject, kernel: &Kernel, settings: &Settings, unneeded: &BTreeSet<String>) -> Result<()> {
    let mut shapes = Vec::new();
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if !kernel.has_map_type(map.map_type().into()) || unneeded.contains(&name) {
            map.set_autocreate(false).context("cannot leave out a map")?;
            continue;
        }
        let is_hash = matches!(map.map_type(), MapType::Hash | MapType::LruHash);
        shapes.push(maps::Shape { name, is_hash, key: map.key_size(), value: map.value_size(), entries: map.max_entries() });
    }
    let facts = maps::Facts {
        follows: !settings.pids.is_empty(),
        slots_in_tasks: kernel.keeps_slots_in_tasks(),
        tasks: maps::tasks(),
        cpus: crate::host::possible_cpus(),
    };
    // The sixteenth is for what is no hash table.
    maps::fit(&mut shapes, &facts, settings.map_bytes - settings.map_bytes / 16);
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(shape) = shapes.iter().find(|shape| shape.name == name && shape.is_hash && shape.entries != map.max_entries()) {
            map.set_max_entries(shape.entries).with_context(|| format!("cannot set the size of map {name}"))?;
        }
    }
    Ok(())
}

/// The ring buffers in the making: tens of megabytes, for which the programs don't wait.
pub(super) struct Rings {
    maker: Option<JoinHandle<Result<Vec<MapHandle>>>>,
    made: Vec<MapHandle>,
}

impl Rings {
    /// Begins to make them.
    pub(super) fn start(settings: &Settings) -> Result<Rings> {
        let (count, bytes) = (settings.rings, settings.ring_bytes);
        let make = move || {
            let opts = libbpf_sys::bpf_map_create_opts { sz: size_of::<libbpf_sys::bpf_map_create_opts>() as u64, ..Default::default() };
            let ring = |_| MapHandle::create(MapType::RingBuf, Some("ebrec_ring"), 0, 0, bytes, &opts);
            let rings = (0..count).map(ring).collect::<libbpf_rs::Result<Vec<MapHandle>>>();
            rings.with_context(|| format!("cannot create a ring buffer of {bytes} bytes; try a smaller --memory"))
        };
        let maker = spawn(Class::RealTime, "ebrec-rings", make).context("cannot start a thread")?;
        Ok(Rings { maker: Some(maker), made: Vec::new() })
    }

    /// Waits until they are made.
    pub(super) fn made(&mut self) -> Result<&[MapHandle]> {
        if let Some(maker) = self.maker.take() {
            self.made = maker.join().map_err(|_| anyhow::anyhow!("a thread of the recorder failed"))??;
        }
        Ok(&self.made)
    }

    /// They, made.
    pub(super) fn take(self) -> Vec<MapHandle> {
        self.made
    }
}

/// Hands the ring buffers to the programs.
///
/// The kernel puts each in its place and then waits until all CPUs have passed by (`maybe_wait_bpf_programs` of kernel/bpf/syscall.c), on
/// a busy host for a second. That is for those who take away what programs use; here nobody needs it, so threads wait for it that nobody
/// waits for.
pub(super) fn hand_over(object: &Object, rings: &[MapHandle]) -> Result<()> {
    let outer = Arc::new(handle(object, "rings")?);
    let keys = || (0..rings.len()).map(|shard| u32::try_from(shard).unwrap_or(u32::MAX).to_ne_bytes());
    let (failed, failures) = channel();
    for (key, ring) in keys().zip(rings) {
        let ring = MapHandle::try_from(ring).context("cannot use a ring buffer")?;
        let (outer, failed) = (outer.clone(), failed.clone());
        let place = move || {
            if let Err(error) = outer.update(&key, &ring.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY) {
                let _ = failed.send(error);
            }
        };
        spawn(Class::RealTime, "ebrec-rings", place).context("cannot start a thread")?;
    }
    drop(failed);
    let began = Instant::now();
    for key in keys() {
        while outer.lookup(&key, MapFlags::ANY).context("cannot see the ring buffers")?.is_none() {
            match failures.recv_timeout(Duration::from_micros(100)) {
                Ok(error) => return Err(error).context("cannot hand a ring buffer to the programs"),
                Err(_) if began.elapsed() > PATIENCE => bail!("the kernel takes no ring buffer"),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

pub(super) fn fill_filters(object: &Object, settings: &Settings) -> Result<()> {
    let seeds = handle(object, "seed_pids")?;
    for pid in &settings.pids {
        seeds.update(&pid.to_ne_bytes(), &[0; 4], MapFlags::ANY).context("cannot set the filter by process")?;
    }
    let comms = handle(object, "wanted_comms")?;
    for comm in &settings.comms {
        let mut key = [0u8; 16];
        let len = comm.len().min(15);
        key[..len].copy_from_slice(&comm.as_bytes()[..len]);
        comms.update(&key, &[1], MapFlags::ANY).context("cannot set the filter by name")?;
    }
    Ok(())
}

/// The processes that the filters name, as the kernel has them: found by what runs before anything is attached.
pub(super) fn found_seeds(object: &Object, settings: &Settings) -> Result<Vec<Seed>> {
    let seeds = handle(object, "seed_pids")?;
    let of_kernel = |pid: &u32| -> Result<Seed> {
        let found = seeds.lookup(&pid.to_ne_bytes(), MapFlags::ANY).context("cannot read the filter by process")?;
        let found = found.and_then(|bytes| bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)));
        Ok((*pid, found.unwrap_or(0)))
    };
    settings.pids.iter().map(of_kernel).collect()
}
