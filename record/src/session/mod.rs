//! One recording from beginning to end.
//!
//! The main thread is the supervisor ([`watch`]): it starts everything, keeps the clock, receives the signals, and detaches. Behind it
//! stands the pipeline: drain, build, encode, disk. They hand on what they have through channels that are bounded in bytes
//! ([`crate::flow`]); a disk that stands still holds up the pipeline, and then the rings overflow, which is counted; the supervisor goes on.

mod setup;
mod state;
mod watch;

use crate::budget::Budget;
use crate::build::Outlets;
use crate::cli::{Format, Record};
use crate::drain::{self, Counters};
use crate::flow::flow;
use crate::host;
use crate::kernel::Kernel;
use crate::load;
use crate::losses::Losses;
use crate::procs::Procs;
use crate::report;
use crate::scheduling::{self, Class};
use crate::signals::{Command, Signals, Status};
use crate::store::{Gauge, Layout, Place, Store, Work, partial_path};
use crate::talk::{self, say};
use crate::usage::{Usage, filters_of, probes_of, syscalls_of};
use anyhow::{Context as _, Result, bail};
use ebrec_format::events;
use ebrec_format::manifest::Manifest;
use ebrec_format::table::Row;
use setup::{enable_stats, first_manifest, output_path, refuse_existing, settings};
use state::{End, State};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use watch::{Supervisor, Unfinished};

/// How long the start waits at most until the processes that are there are named: who hears that recording has begun may end some.
const START_PATIENCE: Duration = Duration::from_millis(300);

/// How a recording ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the capture is whole and holds something.
    pub good: bool,
    /// The exit status that COMMAND had, as a shell would show it.
    pub status: Option<u8>,
}

/// What the threads leave when they have ended.
struct Pipeline {
    store: Store,
    /// Whether everything was drained and written.
    written: Result<()>,
    kept: Result<(Manifest, Losses)>,
}

/// Records as asked and reports.
pub fn record(args: &Record) -> Result<Outcome> {
    let began = Instant::now();
    let calls = syscalls_of(&args.syscalls)?;
    let mut probes = probes_of(&args.probes)?;
    if calls.is_some() {
        probes.insert("syscall".to_owned());
    }
    let output = output_path(args)?;
    refuse_existing(&output, args.force)?;
    let (cgroups, filters) = filters_of(args)?;
    let signals = Signals::block()?;
    talk::start();
    let mut command = if args.command.is_empty() { None } else { Some(Command::prepare(&args.command, signals.inherited())?) };
    // After COMMAND was forked, which is to be killed like any other. If it isn't permitted, the recorder is killed like any other, too.
    let _ = scheduling::be_killed_late();
    let kernel = Kernel::read()?;
    let budget = Budget::of(args.memory, host::possible_cpus());
    let settings = settings(args, &budget, &probes, calls, cgroups, command.as_ref());

    let _stats = if args.bpf_stats { enable_stats()? } else { None };
    let mut attached = load::load(&kernel, &settings).map_err(crate::usage::explain_privilege)?;
    drop(kernel);
    let loaded = attached.loaded.clone();
    let active = |probe: &str| loaded.hooks.iter().any(|hook| hook.probe == probe && hook.choice.is_ok());
    if !probes.iter().any(|probe| active(probe)) {
        let reasons: Vec<String> =
            loaded.hooks.iter().filter_map(|h| Some(format!("{}.{}: {}", h.probe, h.hook, h.choice.as_ref().err()?))).collect();
        bail!(Usage::new("no hook could be attached", format!("run: ebrec check\n  {}", reasons.join("\n  "))));
    }

    crate::privilege::drop_unneeded();
    if let Some(explanation) = crate::namespaces::explanation(&attached.seeds).filter(|_| !args.quiet) {
        say!("ebrec-record: {explanation}");
    }
    let boot_to_utc_ns = host::boot_to_utc_ns();
    let gauge = Arc::new(Gauge::default());
    let hurry = Arc::new(AtomicBool::new(false));
    let layout = if args.format == Format::Dir { Layout::Dir } else { Layout::File };
    let present = |table: &str| {
        let Some(probe) = events::probe_of(table) else { return true };
        let mut hooks = loaded.hooks.iter().filter(|hook| hook.probe == probe.name && hook.feeds(table)).peekable();
        // A table that only hooks feed which nobody asked for is not captured; it isn't empty.
        probes.contains(probe.name) && (hooks.peek().is_none() || hooks.any(|hook| !hook.is_off()))
    };
    let place = Place { output: &output, layout, force: args.force, max_size: args.max_size, stages: budget.stages };
    let mut store = Store::create(&place, present, gauge.clone())?;
    let counters = Arc::new(Counters::default());
    let (work, work_queue) = flow::<Work>(budget.stages.batches);
    let losses = Losses::new(&attached.drops)?;
    let mut manifest = first_manifest(args, &settings, &attached, &probes, filters, boot_to_utc_ns, 0);
    manifest.settings.extend(crate::namespaces::settings(&attached.seeds));
    manifest.recorder.scheduling = scheduling::describe();

    let encoder = thread(Class::Favoured, "ebrec-encode", move || {
        let result = store.run(&work_queue);
        (store, result)
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let rings = std::mem::take(&mut attached.rings);
    let (pool, passes) = drain::pool(rings.len(), budget.stages.drained);
    let drainer = {
        let (stop, counters, ring_bytes) = (stop.clone(), counters.clone(), settings.ring_bytes);
        thread(Class::RealTime, "ebrec-drain", move || drain::drain(&rings, ring_bytes, &stop, &counters, &pool))?
    };
    // From here on everything is attached, and read.
    let (started, window_began) = (attached.open()?, Instant::now());
    manifest.started_ns = started as i64 + boot_to_utc_ns;
    manifest.ended_ns = manifest.started_ns;
    manifest.recorder.setup_cpu_ns = host::own_cost().0;
    manifest.recorder.start_ns = began.elapsed().as_nanos() as u64;
    let (ready, is_ready) = channel();
    let procs = Procs::start(&mut attached.snapshot, work.clone(), counters.clone(), boot_to_utc_ns, ready.clone())?;
    let (stacks, namer) = if probes.contains("profile") {
        let (intake, thread) = crate::stacks::start(work.clone(), counters.clone(), boot_to_utc_ns, hurry.clone())?;
        (Some(intake), Some(thread))
    } else {
        (None, None)
    };
    let outlets = Outlets { work: work.clone(), stacks, most: budget.stages.columns };
    let builder = {
        let (first, counters, ready) = (std::mem::take(&mut attached.snapshot), counters.clone(), ready.clone());
        thread(Class::RealTime, "ebrec-build", move || crate::build::build(first, &ready, &passes, outlets, counters, boot_to_utc_ns))?
    };
    let (end, ends) = channel();
    let ending = Arc::new(AtomicBool::new(false));
    let keeper = {
        let ending = ending.clone();
        let (state, loaded) = (State::new(work, counters.clone(), losses, manifest, args.max_cpu), loaded.clone());
        thread(Class::RealTime, "ebrec-state", move || state.run(&loaded, &ready, &ends, &ending))?
    };
    // What loading took, several times the kernel's own BTF, isn't needed any more.
    give_back();
    // Whatever is in use by now stays in memory. If it isn't permitted, it is as with any program.
    let locked = scheduling::lock_memory();
    let hooks = loaded.hooks.iter().filter(|hook| hook.probe != "core");
    let hooks = hooks.filter(|hook| !hook.is_off());
    let missing = hooks.clone().filter(|hook| hook.choice.is_err()).count();
    let patience = Instant::now() + START_PATIENCE;
    for _ in 0..3 {
        // What takes longer, or has failed, is seen below.
        let _ = is_ready.recv_timeout(patience.saturating_duration_since(Instant::now()));
    }
    report::recording(args, &output, hooks.count() - missing, missing, loaded.hooks.iter());
    if let Some(command) = &mut command {
        command.start();
    }

    let mut supervisor = Supervisor::new(signals, gauge, hurry);
    let ended_by = supervisor.watch(args, window_began, command.as_ref(), &counters, || {
        match [
            (drainer.is_finished(), "drain"),
            (builder.is_finished(), "build"),
            (encoder.is_finished(), "encode"),
            (keeper.is_finished(), "state"),
        ]
        .iter()
        .find(|(finished, _)| *finished)
        {
            Some((_, name)) => Err(name),
            None => Ok(()),
        }
    });
    let stopping = Instant::now();
    if let Some(status @ Status::NotStarted { .. }) = &supervisor.status {
        say!("ebrec-record: {status}");
    }
    ending.store(true, Ordering::Release);
    let ended = attached.detach();
    let detach_ns = stopping.elapsed().as_nanos() as u64;
    stop.store(true, Ordering::Release);
    let procs = procs.stop();

    let partial = partial_path(&output);
    let finish = || -> Result<Pipeline, Unfinished> {
        macro_rules! join {
            ($thread:expr) => {
                supervisor.join($thread)?
            };
        }
        let drained = join!(drainer);
        join!(builder);
        // Naming frames takes memory of its own; what the pipeline has freed shall not stand beside it. What is locked isn't given back.
        scheduling::unlock_memory();
        give_back();
        if let Some(namer) = namer {
            join!(namer);
        }
        join!(procs);
        // If the thread is gone, its end says why.
        let _ = end.send(End { by: ended_by.clone(), at: ended, libraries: std::mem::take(&mut attached.libraries) });
        let kept = join!(keeper);
        let (store, written) = join!(encoder);
        Ok(Pipeline { store, written: written.and(drained), kept })
    };
    let status = |supervisor: &Supervisor| {
        supervisor.status.as_ref().map(Status::code).or_else(|| command.as_ref().and_then(Command::ended).map(|status| status.code()))
    };
    let Pipeline { mut store, written, kept } = match finish() {
        Ok(pipeline) => pipeline,
        Err(why) => return gave_up(why, &partial, status(&supervisor)),
    };
    let (mut manifest, losses) = match (written, kept) {
        (Ok(()), Ok(kept)) => kept,
        // What was sealed stays.
        (Err(error), _) | (_, Err(error)) => return Err(report::failed(&error, &partial)),
    };
    for (table, lost) in losses.by_table() {
        manifest.tables.entry(table).or_default().lost = lost;
    }
    let (cpu_ns, max_rss_bytes) = host::own_cost();
    manifest.recorder.cpu_ns = cpu_ns;
    manifest.recorder.max_rss_bytes = max_rss_bytes;
    manifest.recorder.heap_bytes = host::without_rings(max_rss_bytes, manifest.recorder.ring_bytes);
    manifest.recorder.unread = crate::tongs::unread();
    manifest.recorder.detach_ns = detach_ns;
    manifest.recorder.memory_locked = locked.is_ok();
    manifest.recorder.stop_ns = stopping.elapsed().as_nanos() as u64;
    if supervisor.forced() {
        let abandon = thread(Class::Favoured, "ebrec-finish", move || store.abandon(&manifest))?;
        return match supervisor.join(abandon) {
            Ok(abandoned) => {
                report::forced(&abandoned?);
                Ok(Outcome { good: false, status: status(&supervisor) })
            }
            Err(why) => gave_up(why, &partial, status(&supervisor)),
        };
    }
    let finish = thread(Class::Favoured, "ebrec-finish", move || store.finish(&mut manifest).map(|size| (size, manifest)))?;
    let (size, manifest) = match supervisor.join(finish) {
        Ok(finished) => finished.map_err(|error| report::failed(&error, &partial))?,
        Err(why) => return gave_up(why, &partial, status(&supervisor)),
    };
    let stop_ns = stopping.elapsed().as_nanos() as u64;
    report::summary(args, &output, size, &manifest, stop_ns, &counters);
    // That there are cgroups is no event.
    let is_event = |name: &str| events::probe_of(name).is_some() && name != events::process::Cgroup::table().name;
    let good = manifest.tables.iter().any(|(name, t)| t.rows > 0 && is_event(name));
    Ok(Outcome { good, status: status(&supervisor) })
}

/// Gives freed memory back to the kernel.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The ways out on which threads are left behind, which end with the process.
fn gave_up(why: Unfinished, partial: &Path, status: Option<u8>) -> Result<Outcome> {
    match why {
        Unfinished::Forced => {
            report::forced(partial);
            Ok(Outcome { good: false, status })
        }
        Unfinished::Stuck => Err(report::failed(&anyhow::anyhow!("the disk takes nothing any more"), partial)),
        Unfinished::Died => Err(report::failed(&anyhow::anyhow!("a thread of the recorder failed"), partial)),
    }
}

fn thread<T: Send + 'static>(class: Class, name: &str, f: impl FnOnce() -> T + Send + 'static) -> Result<std::thread::JoinHandle<T>> {
    scheduling::spawn(class, name, f).context("cannot start a thread")
}
