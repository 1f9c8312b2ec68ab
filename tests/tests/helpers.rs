//! The helpers of the end-to-end tests, with a shell script in the recorder's place.

use ebrec_tests::{Context, Recorder, Result, TempDir};
use std::process::Command;

fn script(text: &str) -> Command {
    // A shell can't trap what was ignored when it began, as SIGINT is where the tests run in the background.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "sh", "-c", text]);
    command
}

#[test]
fn a_recorder_is_waited_for_and_stopped() -> Result<()> {
    let text =
        "trap 'echo stopped >&2; exit 3' INT; echo summary; echo 'ebrec-record: recording 2 probes' >&2; while :; do sleep 0.01; done";
    let recorder = Recorder::start_command(&mut script(text))?;
    let recording = recorder.stop()?;
    assert_eq!(recording.ran.status.code(), Some(3));
    assert_eq!(recording.ran.stdout, "summary\n");
    assert!(recording.ran.stderr.ends_with("stopped\n"), "{}", recording.ran.stderr);
    let refused = recording.succeeded().err().context("exit code 3 is no success")?;
    assert!(refused.to_string().contains("stopped"), "{refused}");
    Ok(())
}

#[test]
fn a_recorder_that_cannot_record_says_why() -> Result<()> {
    let failed = Recorder::start_command(&mut script("echo 'ebrec-record: no privilege' >&2; exit 2"));
    let why = failed.err().context("it must not count as recording")?;
    assert!(why.to_string().contains("no privilege"), "{why}");
    Ok(())
}

#[test]
fn a_temporary_directory_goes_away() -> Result<()> {
    let dir = TempDir::new("helpers")?;
    let path = dir.path().to_owned();
    std::fs::write(path.join("file"), "content").context("write")?;
    drop(dir);
    assert!(!path.exists());
    Ok(())
}
