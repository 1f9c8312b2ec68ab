//! What the end-to-end tests share: the real binaries, a recorder under control, SQL over a capture, the workloads.
//!
//! A test of the recorder looks like this:
//!
//! ```no_run
//! # use ebrec_tests::{Result, int, recorded, require_bpf, workload};
//! # fn main() -> Result<()> {
//! let Some(_bpf) = require_bpf()? else { return Ok(()) };
//! let (truth, capture) = recorded(&["--probes", "process"], || workload(&["exec"]))?;
//! let execs = capture.number("SELECT count(*) FROM process_exec WHERE ret = 0")?;
//! assert!(execs >= int(&truth["totals"]["execs_ok"])?);
//! # Ok(())
//! # }
//! ```
//!
//! Uses std, libc and serde_json only, because the workload is built with it.

mod analyze;
mod bins;
mod capture;
mod error;
mod privilege;
mod recorder;
mod tempdir;
mod truth;
mod workloads;

pub use analyze::{analyze, sql};
pub use bins::{Program, Ran, program, run, target_dir};
pub use capture::{Capture, recorded, recording};
pub use error::{Context, Error, Result, fail};
pub use privilege::{BpfLock, require_bpf};
pub use recorder::{Recorder, Recording};
pub use tempdir::TempDir;
pub use truth::{DNS_ANSWER, DNS_QUESTION, int, list, text};
pub use workloads::{Held, workload};
