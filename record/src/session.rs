//! One recording from beginning to end.

use crate::build::Outlets;
use crate::cli::{Format, Record};
use crate::drain::{self, Counters, boot_ns, clock_ns};
use crate::host::{self, Sampler};
use crate::kernel::Kernel;
use crate::load::{self, Attached, Settings};
use crate::losses::Losses;
use crate::report;
use crate::signals::{Command, Signals};
use crate::store::{Gauge, Layout, Store, Work, partial_path};
use crate::usage::{Usage, filters_of, probes_of, syscalls_of};
use anyhow::{Context as _, Result, bail};
use ebrec_format::events::session::{CaptureRow, Clock, Loss, ProbeRow};
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::manifest::{Cost, FORMAT_VERSION, HookState, Manifest, ProbeState};
use ebrec_format::table::{Row, batch_of};
use ebrec_format::wire::{NULL32, NULL64};
use ebrec_format::{events, manifest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How a recording ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the capture is whole and holds something.
    pub good: bool,
}

/// What the main loop needs while recording.
struct Running {
    work: SyncSender<Work>,
    gauge: Arc<Gauge>,
    counters: Arc<Counters>,
    losses: Losses,
    sampler: Sampler,
    manifest: Manifest,
    malformed: u64,
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
    let mut command = if args.command.is_empty() { None } else { Some(Command::prepare(&args.command)?) };
    let kernel = Kernel::read()?;
    let settings = settings(args, &probes, calls, cgroups, command.as_ref());

    let _stats = if args.bpf_stats { enable_stats()? } else { None };
    let mut attached = load::load(&kernel, &settings).map_err(crate::usage::explain_privilege)?;
    drop(kernel);
    let active = |probe: &str| attached.hooks.iter().any(|hook| hook.probe == probe && hook.choice.is_ok());
    if !probes.iter().any(|probe| active(probe)) {
        let reasons: Vec<String> =
            attached.hooks.iter().filter_map(|h| Some(format!("{}.{}: {}", h.probe, h.hook, h.choice.as_ref().err()?))).collect();
        bail!(Usage::new("no hook could be attached", format!("run: ebrec check\n  {}", reasons.join("\n  "))));
    }

    crate::privilege::drop_unneeded();
    if let Some(explanation) = crate::namespaces::explanation(&attached.seeds).filter(|_| !args.quiet) {
        eprintln!("ebrec-record: {explanation}");
    }
    let boot_to_utc_ns = host::boot_to_utc_ns();
    let started = boot_ns();
    let gauge = Arc::new(Gauge::default());
    let layout = if args.format == Format::Dir { Layout::Dir } else { Layout::File };
    let present = |table: &str| {
        let Some(probe) = events::probe_of(table) else { return true };
        let mut hooks = attached.hooks.iter().filter(|hook| hook.probe == probe.name && hook.feeds(table)).peekable();
        // A table that only hooks feed which nobody asked for is not captured; it isn't empty.
        probes.contains(probe.name) && (hooks.peek().is_none() || hooks.any(|hook| !hook.is_off()))
    };
    if args.force {
        remove(&output)?;
    }
    let mut store = Store::create(&output, layout, present, gauge.clone())?;
    let counters = Arc::new(Counters::default());
    let (work, work_queue) = sync_channel::<Work>(4);
    let mut running = Running {
        work: work.clone(),
        gauge: gauge.clone(),
        counters: counters.clone(),
        losses: Losses::new(&attached.drops)?,
        sampler: Sampler::default(),
        manifest: first_manifest(args, &settings, &attached, &probes, filters, boot_to_utc_ns, started),
        malformed: 0,
    };
    running.manifest.settings.extend(crate::namespaces::settings(&attached.seeds));
    running.manifest.recorder.setup_cpu_ns = host::own_cost().0;
    running.manifest.recorder.start_ns = began.elapsed().as_nanos() as u64;

    let encoder = thread("ebrec-encode", move || {
        let result = store.run(&work_queue);
        (store, result)
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let (passes, pass_queue) = sync_channel(2);
    let (give_back, returned) = std::sync::mpsc::channel();
    let rings = std::mem::take(&mut attached.rings);
    let drainer = {
        let (stop, counters, ring_bytes) = (stop.clone(), counters.clone(), settings.ring_bytes);
        thread("ebrec-drain", move || drain::drain(&rings, ring_bytes, &stop, &counters, &passes, &returned))?
    };
    let (ready, resolved) = std::sync::mpsc::channel();
    let (stacks, namer) = if probes.contains("profile") {
        let (intake, thread) = crate::stacks::start(work.clone(), counters.clone(), boot_to_utc_ns)?;
        (Some(intake), Some(thread))
    } else {
        (None, None)
    };
    let outlets = Outlets { work, stacks, returned: give_back };
    let builder = {
        let (first, counters, ready) = (std::mem::take(&mut attached.snapshot), counters.clone(), ready);
        thread("ebrec-build", move || crate::build::build(first, &ready, &pass_queue, outlets, counters, boot_to_utc_ns))?
    };

    running.write_state(&attached)?;
    // If the thread is gone, its end says why.
    let _ = resolved.recv();
    let hooks = attached.hooks.iter().filter(|hook| hook.probe != "core");
    let hooks = hooks.filter(|hook| !hook.is_off());
    let missing = hooks.clone().filter(|hook| hook.choice.is_err()).count();
    report::recording(args, &output, hooks.count() - missing, missing, attached.hooks.iter());
    if let Some(command) = &mut command {
        command.start();
    }

    let (ended_by, forced) = running.watch(args, &signals, command.as_ref(), &attached)?;
    let stopping = Instant::now();
    let ended = boot_ns();
    attached.detach();
    stop.store(true, Ordering::Release);
    let force = forced || signals.wait(Duration::ZERO).is_some_and(|signal| signal != libc::SIGCHLD);
    join(drainer)??;
    join(builder)?;
    // Naming frames takes memory of its own; what the pipeline has freed shall not stand beside it.
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
    if let Some(namer) = namer {
        join(namer)?;
    }
    running.finish_state(&attached, &ended_by, ended, started)?;
    let Running { work, mut manifest, losses, .. } = running;
    drop(work);
    let (mut store, written) = join(encoder)?;
    for (table, lost) in losses.by_table() {
        manifest.tables.entry(table).or_default().lost = lost;
    }
    let (cpu_ns, max_rss_bytes) = host::own_cost();
    manifest.recorder.cpu_ns = cpu_ns;
    manifest.recorder.max_rss_bytes = max_rss_bytes;
    manifest.recorder.stop_ns = stopping.elapsed().as_nanos() as u64;
    if let Err(error) = written {
        return Err(report::failed(&error, store.partial()));
    }
    if force || (signals.wait(Duration::ZERO).is_some_and(|signal| signal != libc::SIGCHLD)) {
        let partial = store.abandon(&manifest)?;
        report::forced(&partial);
        return Ok(Outcome { good: false });
    }
    let partial = store.partial().to_owned();
    let size = store.finish(&mut manifest).map_err(|error| report::failed(&error, &partial))?;
    let stop_ns = stopping.elapsed().as_nanos() as u64;
    report::summary(args, &output, size, &manifest, stop_ns, &counters);
    let good = manifest.tables.iter().any(|(name, t)| t.rows > 0 && events::probe_of(name).is_some());
    Ok(Outcome { good })
}

fn join<T>(handle: std::thread::JoinHandle<T>) -> Result<T> {
    handle.join().map_err(|_| anyhow::anyhow!("a thread of the recorder failed; what was sealed before stays in the .partial directory"))
}

fn thread<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(f).context("cannot start a thread")
}

fn output_path(args: &Record) -> Result<PathBuf> {
    if let Some(path) = &args.output {
        return Ok(path.clone());
    }
    let host = host::facts().name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    let now = chrono::Local::now().format("%Y%m%d-%H%M%S");
    Ok(PathBuf::from(format!("ebrec-{host}-{now}.ebrec")))
}

fn refuse_existing(output: &Path, force: bool) -> Result<()> {
    if let Some(parent) = output.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        bail!(Usage::new(format!("{}: no such directory", parent.display()), "create it, or give another -o"));
    }
    for path in [output.to_owned(), partial_path(output)] {
        if path.symlink_metadata().is_ok() && !force {
            bail!(Usage::new(format!("{} exists", path.display()), "give another -o, or --force to overwrite it"));
        }
    }
    Ok(())
}

/// Removes what `--force` allows to: a capture of this name, never another directory.
fn remove(output: &Path) -> Result<()> {
    for path in [output.to_owned(), partial_path(output)] {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !metadata.is_dir() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else if path.join(manifest::MANIFEST).is_file() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else {
            bail!(Usage::new(format!("{} is a directory and not a capture", path.display()), "give another -o"));
        }
    }
    Ok(())
}

fn settings(
    args: &Record,
    probes: &BTreeSet<String>,
    calls: Option<Vec<u32>>,
    cgroups: Vec<(u64, u32)>,
    command: Option<&Command>,
) -> Settings {
    let rings = host::possible_cpus().next_power_of_two().min(64);
    // Rings must be a power of two pages; the budget is for all of them.
    let each = (args.memory / u64::from(rings)).max(4096);
    let each = if each.is_power_of_two() { each } else { each.next_power_of_two() / 2 };
    let mut pids = args.pid.clone();
    pids.extend(command.and_then(|c| u32::try_from(c.pid).ok()));
    Settings {
        probes: probes.clone(),
        rings,
        ring_bytes: u32::try_from(each).unwrap_or(1 << 30).clamp(4096, 1 << 30),
        pids,
        comms: args.comm.clone(),
        cgroups,
        include_self: args.include_self,
        syscalls: calls,
        sample_hz: args.sample_hz,
        not_asked: if args.off_cpu_stacks { Vec::new() } else { vec![("profile", "off_cpu", "--off-cpu-stacks")] },
        prefer: args.mechanism.clone(),
    }
}

/// Asks the kernel to count runs and run time of BPF programs as long as the result lives.
fn enable_stats() -> Result<Option<std::os::fd::OwnedFd>> {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointers; the call returns a descriptor or a negative error.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd)).context("cannot let the kernel count BPF runs (--bpf-stats)");
    }
    // SAFETY: the descriptor was just returned to us and nobody else owns it.
    Ok(Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }))
}

/// How the recorder was called, as the user typed it.
fn command_line() -> Vec<String> {
    let mut args: Vec<String> = std::env::args_os().map(|arg| ebrec_format::text::escape(arg.as_encoded_bytes()).into_owned()).collect();
    if let Some(program) = args.first_mut() {
        if std::env::var_os("EBREC_FRONT").is_some() {
            "ebrec record".clone_into(program);
        } else if let Some((_, name)) = program.rsplit_once('/') {
            *program = name.to_owned();
        }
    }
    args
}

fn first_manifest(
    args: &Record,
    settings: &Settings,
    attached: &Attached,
    probes: &BTreeSet<String>,
    filters: std::collections::BTreeMap<String, Vec<String>>,
    boot_to_utc_ns: i64,
    started: u64,
) -> Manifest {
    let mut states: std::collections::BTreeMap<String, ProbeState> = events::PROBES
        .iter()
        .map(|probe| (probe.name.to_owned(), ProbeState { requested: probes.contains(probe.name), hooks: Vec::new() }))
        .collect();
    for hook in attached.hooks.iter().filter(|hook| hook.probe != "core") {
        let (mechanism, reason) = match &hook.choice {
            Ok((mechanism, _)) => (Some(mechanism.clone()), None),
            Err(reason) => (None, Some(reason.clone())),
        };
        states.entry(hook.probe.clone()).or_default().hooks.push(HookState {
            hook: hook.hook.clone(),
            tables: hook.feeds.clone(),
            mechanism,
            reason,
            ..HookState::default()
        });
    }
    let ring_bytes = u64::from(settings.rings) * u64::from(settings.ring_bytes);
    Manifest {
        format_version: FORMAT_VERSION,
        recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host::facts(),
        command: command_line(),
        started_ns: started as i64 + boot_to_utc_ns,
        ended_ns: started as i64 + boot_to_utc_ns,
        boot_to_utc_ns,
        filters,
        settings: [
            ("max_size", args.max_size),
            ("memory", args.memory),
            ("rings", settings.rings.into()),
            ("ring_bytes", settings.ring_bytes.into()),
            ("sample_hz", args.sample_hz.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .into(),
        probes: states,
        notes: args.notes.iter().cloned().collect(),
        recorder: Cost { ring_bytes, ..Cost::default() },
        ..Manifest::default()
    }
}

impl Running {
    fn send<R: Row>(&mut self, rows: &[R]) -> Result<()> {
        if rows.is_empty() { Ok(()) } else { self.send_as(rows, Work::Batch) }
    }

    fn send_as<R: Row>(&mut self, rows: &[R], as_work: fn(usize, arrow::record_batch::RecordBatch) -> Work) -> Result<()> {
        let mut context = Context { boot_to_utc_ns: self.manifest.boot_to_utc_ns, resolver: &mut NoResolver };
        let table = events::tables().position(|table| table.name == R::table().name).context("an undeclared table")?;
        let _ = self.work.send(as_work(table, batch_of(rows, &mut context)));
        Ok(())
    }

    /// What is known from the start: the tables of state, and a manifest.
    fn write_state(&mut self, attached: &Attached) -> Result<()> {
        self.send(&host::disks())?;
        self.send(&host::mounts())?;
        self.send(&host::netdevs())?;
        self.send(&self.probe_rows())?;
        self.send(&[self.capture_row(NULL64, None)])?;
        self.second(attached)?;
        let _ = self.work.send(Work::Manifest(Box::new(self.manifest.clone())));
        Ok(())
    }

    fn probe_rows(&self) -> Vec<ProbeRow> {
        let mut rows = Vec::new();
        for (name, state) in &self.manifest.probes {
            if !state.requested {
                let reason = Some("not asked for".to_owned());
                rows.push(ProbeRow {
                    probe: Some(name.clone()),
                    hook: None,
                    mechanism: None,
                    status: Some("off".to_owned()),
                    reason,
                    runs: NULL64,
                    run_time_ns: NULL64,
                });
            }
            for hook in &state.hooks {
                let status = match &hook.mechanism {
                    Some(_) => "active",
                    None if hook.is_off() => "off",
                    None => "failed",
                };
                rows.push(ProbeRow {
                    probe: Some(name.clone()),
                    hook: Some(hook.hook.clone()),
                    mechanism: hook.mechanism.clone(),
                    status: Some(status.to_owned()),
                    reason: hook.reason.clone(),
                    runs: hook.runs.unwrap_or(NULL64),
                    run_time_ns: hook.run_time_ns.unwrap_or(NULL64),
                });
            }
        }
        rows
    }

    fn capture_row(&self, ended: u64, ended_by: Option<&str>) -> CaptureRow {
        let m = &self.manifest;
        CaptureRow {
            ts: (m.started_ns - m.boot_to_utc_ns) as u64,
            end_ts: ended,
            host: Some(m.host.name.clone()),
            kernel: Some(m.host.kernel.clone()),
            arch: Some(m.host.arch.clone()),
            cpus: m.host.cpus,
            format_version: m.format_version,
            recorder: Some(m.recorder_version.clone()),
            command: Some(m.command.join(" ")),
            ended_by: ended_by.map(str::to_owned),
        }
    }

    /// What is done every second.
    fn second(&mut self, attached: &Attached) -> Result<()> {
        let now = boot_ns();
        let sample = self.sampler.sample(now);
        self.send(&[sample])?;
        let clock = Clock { ts: now, boot_ns: now, mono_ns: clock_ns(libc::CLOCK_MONOTONIC), real_ns: clock_ns(libc::CLOCK_REALTIME) };
        self.send(&[clock])?;
        self.take_losses(attached, now)
    }

    fn take_losses(&mut self, attached: &Attached, now: u64) -> Result<()> {
        let mut rows: Vec<Loss> = Vec::new();
        // Before `sample`, which begins the next interval.
        self.losses.skipped(&mut rows, now, &attached.skipped());
        self.losses.sample(&mut rows, now);
        let malformed = self.counters.malformed.load(Ordering::Relaxed);
        if malformed > self.malformed {
            rows.push(Loss {
                ts: now,
                end_ts: now,
                cpu: NULL32,
                table_name: None,
                reason: Some("malformed".to_owned()),
                lost: malformed - self.malformed,
            });
            self.malformed = malformed;
        }
        let stacks_lost = self.counters.stacks_lost.swap(0, Ordering::Relaxed);
        self.losses.add(&mut rows, now, "stack", "too many stacks", stacks_lost);
        self.send(&rows)
    }

    /// Waits for the end; says what it was, and whether it was forced.
    fn watch(&mut self, args: &Record, signals: &Signals, command: Option<&Command>, attached: &Attached) -> Result<(String, bool)> {
        let limit = args.duration.or(if command.is_some() { None } else { Some(Duration::from_secs(60)) });
        let began = Instant::now();
        let mut progress = report::Progress::new(args, limit);
        let mut next = Duration::from_secs(1);
        let ended_by = loop {
            let elapsed = began.elapsed();
            if limit.is_some_and(|limit| elapsed >= limit) {
                break "duration".to_owned();
            }
            if self.gauge.failed.load(Ordering::Acquire) {
                break "write error".to_owned();
            }
            if self.gauge.bytes.load(Ordering::Relaxed) >= args.max_size {
                break "max-size".to_owned();
            }
            if elapsed >= next {
                self.second(attached)?;
                self.send_records(&crate::build::in_order(&attached.records_of_second()))?;
                self.manifest.ended_ns = boot_ns() as i64 + self.manifest.boot_to_utc_ns;
                let _ = self.work.send(Work::Manifest(Box::new(self.manifest.clone())));
                progress.show(elapsed, &self.counters, &self.gauge, self.losses.total());
                next = elapsed + Duration::from_secs(1);
            }
            let until = limit.map_or(next, |limit| limit.min(next)).saturating_sub(elapsed);
            match signals.wait(until.min(Duration::from_millis(200)).max(Duration::from_millis(1))) {
                Some(libc::SIGCHLD) => {
                    if let Some(how) = command.and_then(Command::ended) {
                        break how;
                    }
                }
                Some(libc::SIGINT) => break "SIGINT".to_owned(),
                Some(libc::SIGTERM) => break "SIGTERM".to_owned(),
                Some(_) => break "SIGHUP".to_owned(),
                None => {}
            }
        };
        progress.end();
        Ok((ended_by, false))
    }

    /// What is known only at the end: open connections, run counts, the last losses.
    fn finish_state(&mut self, attached: &Attached, ended_by: &str, ended: u64, started: u64) -> Result<()> {
        let records = crate::build::in_order(&attached.final_records());
        self.send_records(&records)?;
        let stats = attached.run_stats();
        for (name, stats) in stats.iter().filter(|(_, stats)| stats.runs > 0) {
            let Some(program) = crate::hooks::Program::parse(name, "") else { continue };
            let hooks = self.manifest.probes.get_mut(&program.probe).map(|p| &mut p.hooks);
            if let Some(hook) = hooks.and_then(|hooks| hooks.iter_mut().find(|hook| hook.hook == program.hook)) {
                hook.runs = Some(hook.runs.unwrap_or(0) + stats.runs);
                hook.run_time_ns = Some(hook.run_time_ns.unwrap_or(0) + stats.time_ns);
            }
        }
        self.send(&attached.libraries)?;
        self.take_losses(attached, ended.max(started + 1))?;
        self.manifest.ended_ns = ended as i64 + self.manifest.boot_to_utc_ns;
        self.manifest.ended_by = ended_by.to_owned();
        self.manifest.complete = true;
        // What was written at the start didn't know the end.
        self.send_as(&self.probe_rows(), Work::Replace)?;
        self.send_as(&[self.capture_row(ended, Some(ended_by))], Work::Replace)
    }

    fn send_records(&mut self, records: &[u8]) -> Result<()> {
        let mut sinks: Vec<_> = events::tables().map(|table| (table.builder)()).collect();
        let mut context = Context { boot_to_utc_ns: self.manifest.boot_to_utc_ns, resolver: &mut NoResolver };
        let mut at = 0;
        while let Some(head) = records.get(at..at + 16) {
            let size = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let table = usize::from(u16::from_ne_bytes([head[14], head[15]]));
            if let (Some(record), Some(sink)) = (records.get(at..at + size), sinks.get_mut(table)) {
                sink.append_record(record, &mut context);
            }
            at += size.next_multiple_of(8).max(8);
        }
        for (table, sink) in sinks.iter_mut().enumerate().filter(|(_, sink)| sink.rows() > 0) {
            let _ = self.work.send(Work::Batch(table, sink.finish(&mut context)));
        }
        Ok(())
    }
}
