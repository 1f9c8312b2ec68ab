//! What the recorder says, on stderr. Saying it never matters: a terminal that is gone or stopped, a full disk, a closed pipe must not
//! hold up a recording, let alone end it.
//!
//! While recording, a thread writes what others say, so that nobody waits for a terminal that is stopped (Ctrl-S) or a pager that
//! doesn't read. What it can't take is dropped. Errors of writing are ignored: there is nobody left to tell them.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Texts that may wait to be written; more are dropped.
const WAITING: usize = 1024;
/// How long the end waits for a reader.
const PATIENCE: Duration = Duration::from_secs(2);

struct Writer {
    queue: SyncSender<String>,
    waiting: &'static AtomicUsize,
}

static WRITER: OnceLock<Writer> = OnceLock::new();
static UNWRITTEN: AtomicUsize = AtomicUsize::new(0);

/// From now on, a thread writes. Without it, whoever speaks does.
pub fn start() {
    let (queue, texts) = sync_channel::<String>(WAITING);
    let thread = std::thread::Builder::new().name("ebrec-talk".to_owned()).spawn(move || {
        crate::privilege::drop_unneeded();
        while let Ok(text) = texts.recv() {
            write(&text);
            UNWRITTEN.fetch_sub(1, Ordering::AcqRel);
        }
    });
    if thread.is_ok() {
        let _ = WRITER.set(Writer { queue, waiting: &UNWRITTEN });
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// Writes a text as it is.
pub fn raw(text: String) {
    let Some(writer) = WRITER.get() else { return write(&text) };
    writer.waiting.fetch_add(1, Ordering::AcqRel);
    if writer.queue.try_send(text).is_err() {
        writer.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits until everything is written, for a limited time.
pub fn finish() {
    let began = Instant::now();
    while UNWRITTEN.load(Ordering::Acquire) > 0 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Text of which nothing can act on a terminal: control characters and those that change the direction of text are shown as escapes,
/// but for the ends of lines. File names, commands and errors may hold anything.
pub fn harmless(text: &str) -> String {
    let acts =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Writes a line on stderr.
macro_rules! say {
    ($($arg:tt)*) => { $crate::talk::raw($crate::talk::harmless(&format!("{}\n", format_args!($($arg)*)))) };
}
pub(crate) use say;

/// Writes text on stdout, which is data: that it can't be written is an error, but for a reader that has seen enough.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error).context("cannot write to stdout")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_acts_on_a_terminal() {
        assert_eq!(harmless("a\u{1b}[31m\u{9b}m\u{202e}b\n"), "a\\u{1b}[31m\\u{9b}m\\u{202e}b\n");
    }
}
