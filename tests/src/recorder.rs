//! A recorder under control of a test.

use crate::{Context, Program, Ran, Result, fail, program};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the line on stderr begins that says that all hooks are attached.
const RECORDING: &str = "ebrec-record: recording";
/// How long attaching, and ending, may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `ebrec-record`. Killed if it is dropped.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    stdout: Arc<Mutex<String>>,
    started_in: Duration,
}

/// A recording that has ended.
#[derive(Debug)]
pub struct Recording {
    /// Exit status and output.
    pub ran: Ran,
    /// From the start of the program to its line that it records.
    pub started_in: Duration,
    /// From the signal (or from the call of [`Recorder::wait`]) to the end of the program.
    pub stopped_in: Duration,
}

impl Recording {
    /// Fails, with what it said, unless it exited with 0.
    pub fn succeeded(self) -> Result<Self> {
        Ok(Self { ran: self.ran.succeeded()?, ..self })
    }
}

impl Recorder {
    /// Starts `ebrec-record ARGS…` and waits until it says that it records.
    pub fn start(args: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(program(Program::Record)?).args(args))
    }

    /// The same for a prepared command (environment, user, limits).
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let clock = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context(format!("start {}", command.get_program().display()))?;
        let (begun, has_begun) = mpsc::channel();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().context("no stdout")?, Arc::clone(&stdout), |_| {}),
            collect(child.stderr.take().context("no stderr")?, Arc::clone(&stderr), move |line| {
                if line.starts_with(RECORDING) {
                    let _ = begun.send(clock.elapsed());
                }
            }),
        ];
        let mut recorder = Self { child, stderr, readers, stdout, started_in: Duration::ZERO };
        // An error means that stderr was closed (it ended) or that it took too long.
        match has_begun.recv_timeout(PATIENCE) {
            Ok(started_in) => recorder.started_in = started_in,
            Err(why) => return fail(format!("the recorder did not say '{RECORDING}…' ({why}): {}", recorder.stderr().trim())),
        }
        Ok(recorder)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: signals our own child, which is not reaped before `wait`.
        if unsafe { libc::kill(self.child.id() as i32, signal) } == 0 { Ok(()) } else { Err(crate::Error::os("signal the recorder")) }
    }

    /// Ends the recording as Ctrl-C does.
    pub fn stop(self) -> Result<Recording> {
        self.signal(libc::SIGINT)?;
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Recording> {
        let clock = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().context("wait for the recorder")? {
                break status;
            }
            if clock.elapsed() > PATIENCE {
                return fail(format!("the recorder did not end in {PATIENCE:?}: {}", self.stderr().trim()));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let stopped_in = clock.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().ok().context("a reader panicked")?;
        }
        let stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ran = Ran { status, stdout, stderr: self.stderr() };
        Ok(Recording { ran, started_in: self.started_in, stopped_in })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gathers a stream line by line on a thread of its own, so that the recorder never waits for the test.
fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>, seen: impl Fn(&str) + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            seen(&text);
            line.clear();
        }
    })
}
