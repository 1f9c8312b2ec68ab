//! Runs `ebrec-workload` and reads its truth.

use crate::{Context, Error, Program, Result, fail, program, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};

/// Runs a workload to its end and returns its truth.
pub fn workload(args: &[&str]) -> Result<Value> {
    let ran = run(Program::Workload, args)?.succeeded().context(format!("workload {}", args.join(" ")))?;
    serde_json::from_str(&ran.stdout).context(format!("truth of {}", args.join(" ")))
}

/// A workload that is driven by lines (`tcp-hold`). Killed if it is dropped before [`Held::finish`].
#[derive(Debug)]
pub struct Held {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Held {
    /// Starts it and waits until it says `ready`.
    pub fn start(args: &[&str]) -> Result<Self> {
        let mut command = Command::new(program(Program::Workload)?);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start the workload")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut held = Self { child, stderr: BufReader::new(stderr) };
        held.expect("ready")?;
        Ok(held)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and waits until it is carried out.
    pub fn tell(&mut self, order: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no stdin")?;
        writeln!(stdin, "{order}").context(format!("tell the workload to {order}"))?;
        self.expect(&format!("done {order}"))
    }

    /// Lets it end, and returns its truth.
    pub fn finish(mut self) -> Result<Value> {
        self.tell("quit")?;
        let mut truth = String::new();
        let stdout = self.child.stdout.as_mut().context("no stdout")?;
        stdout.read_to_string(&mut truth).context("read the truth")?;
        let status = self.child.wait().context("wait for the workload")?;
        if !status.success() {
            return fail(format!("the workload ended with {status}"));
        }
        serde_json::from_str(&truth).context("truth")
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.stderr.read_line(&mut line).context("read the workload's stderr")? == 0 {
                return Err(Error::new(format!("the workload ended instead of saying '{wanted}': {}", said.trim())));
            }
            if line.trim_end() == wanted {
                return Ok(());
            }
            said.push_str(&line);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
