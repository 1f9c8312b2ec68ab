//! Nobody is the worse for being recorded: neither under a seccomp filter, nor after a recorder that was killed.

use ebrec_tests::{Capture, Result, fail, recorded, require_bpf, text, workload};
use std::time::{Duration, Instant};

const DNS: &[&str] = &["--probes", "dns"];

/// Whether lookups are recorded here at all; if not, the reason.
fn lookups_are_off(capture: &Capture) -> Result<Option<String>> {
    let row = capture.row("SELECT mechanism, reason FROM probe WHERE probe = 'dns' AND hook = 'lookup'")?;
    if row["mechanism"].is_null() { Ok(Some(text(&row["reason"])?.to_owned())) } else { Ok(None) }
}

#[test]
fn a_process_under_a_seccomp_filter_outlives_its_recorded_lookups() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let workload_path = ebrec_tests::program(ebrec_tests::Program::Workload)?;
    let workload_path = workload_path.display();
    // As systemd's SystemCallFilter has it, and docker's profile. A script that fails makes the workload fail.
    let script = format!(
        "set -e; for how in kill errno; do for i in 1 2 3; do {workload_path} seccomp $how getent ahosts ok.$how$i.ebrec.test. >&2; done; done"
    );
    let (_, capture) = recorded(DNS, || workload(&["dns", "--run", &script]))?;
    if let Some(reason) = lookups_are_off(&capture)? {
        assert!(reason.contains("seccomp"), "{reason}");
        let questions = capture.number("SELECT count(DISTINCT name) FROM dns_query WHERE comm = 'getent' AND rcode = 'NOERROR'")?;
        assert_eq!(questions, 6);
        return Ok(());
    }
    let lookups = "SELECT count(*) FROM dns_lookup WHERE comm = 'getent' AND ret = 0 AND latency_ns IS NOT NULL";
    assert_eq!(capture.number(lookups)?, 6);
    Ok(())
}

/// The first bytes of the C library's getaddrinfo, as this process has them in its memory.
fn function() -> [u8; 4] {
    let address = libc::getaddrinfo as *const () as *const [u8; 4];
    // SAFETY: the code of a function is mapped, readable and longer than this; the kernel changes it, therefore volatile.
    unsafe { address.read_volatile() }
}

#[test]
fn no_probe_stays_in_a_library_whatever_ends_the_recorder() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let whole = function();
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGABRT] {
        let capture = Capture::place("killed")?;
        let recorder = capture.start(DNS)?;
        let probed = function();
        recorder.signal(signal)?;
        let recording = recorder.wait()?;
        let since = Instant::now();
        // The kernel takes them out when the last descriptor is gone, a moment after the process.
        while function() != whole {
            if since.elapsed() > Duration::from_secs(3) {
                return fail(format!("after signal {signal} there is still a probe: {:?}", function()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Where lookups are recorded, there was one to be taken out.
        let off = recording.ran.stderr.contains("dns.lookup is not recorded");
        assert!(probed != whole || off, "no probe was in the library: {}", recording.ran.stderr);
    }
    Ok(())
}
