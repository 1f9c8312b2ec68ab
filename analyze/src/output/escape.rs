//! Text of a capture, and of the user, on its way to something that would obey it: a terminal, Markdown, XML, a spreadsheet.
//!
//! Names, arguments and paths are chosen by whoever was recorded. This is the one place that makes them harmless. What programs read (JSON, CSV, Parquet)
//! holds them as they are: JSON with escapes that mean the same, CSV raw unless `--spreadsheet` is given.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Control characters, those that change the order or the visibility of others, and those that no XML may hold.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// `text` on one line, with everything that could move a cursor, change a colour or reorder what is read replaced by its code.
///
/// The capture doubles backslashes, so `\x1b` in what is printed is never part of the original text.
pub fn terminal(text: &str) -> String {
    if !text.chars().any(is_dangerous) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !is_dangerous(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    out
}

/// The same of a text of several lines.
pub fn lines(text: &str) -> String {
    text.split('\n').map(terminal).collect::<Vec<_>>().join("\n")
}

/// `text` as a code span of Markdown, in which nothing means anything: no HTML, no image, no link, no mention.
pub fn code(text: &str) -> String {
    let text = terminal(text);
    let marks = "`".repeat(longest_run(&text, '`') + 1);
    // A space is taken off at both ends if both have one.
    let space = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) || text.is_empty() { " " } else { "" };
    format!("{marks}{space}{text}{space}{marks}")
}

/// `text` as a cell of a Markdown table: a code span unless it is plain.
pub fn cell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " .,-/:+%".contains(c);
    let escaped = terminal(text);
    // Bare addresses become links.
    let is_plain =
        !escaped.is_empty() && escaped.chars().all(plain) && !escaped.contains("//") && !escaped.to_ascii_lowercase().contains("www.");
    // The table is cut at every bar that has no backslash, in code spans, too.
    if escaped.is_empty() || is_plain { escaped } else { code(&escaped).replace('|', "\\|") }
}

/// `text` of several lines, which holds no terminal code, as a block of Markdown that nothing in it can end.
pub fn fenced(text: &str) -> String {
    let marks = "`".repeat((longest_run(text, '`') + 1).max(3));
    format!("{marks}\n{}{}{marks}\n", text, if text.is_empty() || text.ends_with('\n') { "" } else { "\n" })
}

fn longest_run(text: &str, of: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == of { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// `text` as text or attribute of XML, SVG and HTML.
pub fn xml(text: &str) -> String {
    let text = terminal(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// `text` as a cell that a spreadsheet takes for text, never for a formula.
pub fn spreadsheet(text: &str) -> Cow<'_, str> {
    const BEGINNINGS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    if text.trim_start_matches(' ').starts_with(BEGINNINGS) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

/// What becomes of the bytes that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Nothing.
    Raw,
    /// Lines for a terminal.
    Terminal,
    /// JSON, in which the same text can be written without a character that a terminal obeys.
    Json,
}

/// A writer that makes text harmless on its way.
#[derive(Debug)]
pub struct Escaped<W> {
    inner: W,
    through: Through,
    /// The beginning of a character whose rest hasn't come.
    begun: Vec<u8>,
}

impl<W: Write> Escaped<W> {
    /// Around `inner`.
    pub fn new(inner: W, through: Through) -> Escaped<W> {
        Escaped { inner, through, begun: Vec::new() }
    }

    /// Around nothing any more.
    pub fn into_inner(self) -> W {
        self.inner
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if self.through == Through::Terminal {
            return self.inner.write_all(lines(text).as_bytes());
        }
        // A line break between values is layout; within a text the writer of JSON has escaped it.
        let hidden = |c: char| is_dangerous(c) && !c.is_ascii_whitespace();
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| hidden(*c)) {
            self.inner.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.inner, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.inner.write_all(rest.as_bytes())
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let harmless = || self.through == Through::Json && self.begun.is_empty() && bytes.is_ascii() && !bytes.contains(&0x7f);
        if self.through == Through::Raw || harmless() {
            return self.inner.write(bytes);
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut at = 0;
        while at < all.len() {
            match std::str::from_utf8(&all[at..]) {
                Ok(text) => {
                    let end = at + text.len();
                    self.text(text)?;
                    at = end;
                }
                Err(error) => {
                    let valid = at + error.valid_up_to();
                    let text = String::from_utf8_lossy(&all[at..valid]).into_owned();
                    self.text(&text)?;
                    let Some(bad) = error.error_len() else {
                        self.begun = all.split_off(valid);
                        break;
                    };
                    self.text("\u{fffd}")?;
                    at = valid + bad;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_capture_reaches_the_terminal_as_a_command() {
        assert_eq!(terminal("a\u{1b}[31mb\r\n\u{202e}x\u{9b}"), "a\\x1b[31mb\\r\\n\\u{202e}x\\x9b");
        assert_eq!(terminal("grün \\\\ ok"), "grün \\\\ ok");
        assert_eq!(terminal("\u{61c}\u{ad}\u{e0041}"), "\\u{61c}\\xad\\u{e0041}");
        assert_eq!(lines("a\u{1b}\nb"), "a\\x1b\nb");
    }

    #[test]
    fn nothing_ends_a_code_span_a_cell_or_a_fence() {
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(cell("<img src=x>|"), "`<img src=x>\\|`");
        assert_eq!(cell("2023-11-14T22:13:28Z"), "2023-11-14T22:13:28Z");
        assert_eq!(cell("https://a"), "`https://a`");
        assert_eq!(cell("WWW.a.b"), "`WWW.a.b`");
        assert_eq!(cell("@all"), "`@all`");
        assert_eq!(fenced("a\n```\nb"), "````\na\n```\nb\n````\n");
    }

    #[test]
    fn xml_holds_text_only() {
        assert_eq!(xml("<a href=\"x\" b='y'>&\u{0}\u{ffff}"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\\x00\\u{ffff}");
    }

    #[test]
    fn a_spreadsheet_computes_nothing() {
        for text in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", " =1"] {
            assert_eq!(spreadsheet(text), format!("'{text}"));
        }
        assert_eq!(spreadsheet("a=b"), "a=b");
    }

    #[test]
    fn json_is_the_same_with_escapes_wherever_the_writer_cuts_it() -> io::Result<()> {
        let text = "{\"a\":\"\u{9b}2J\u{202e}x\u{7f}ü\u{e0041}\"}\n";
        let mut expected: Option<String> = None;
        for cut in 1..text.len() {
            let mut escaped = Escaped::new(Vec::new(), Through::Json);
            for part in text.as_bytes().chunks(cut) {
                escaped.write_all(part)?;
            }
            let out = String::from_utf8(escaped.into_inner()).map_err(io::Error::other)?;
            assert_eq!(serde_json::from_str::<serde_json::Value>(&out)?, serde_json::from_str::<serde_json::Value>(text)?);
            assert_eq!(*expected.get_or_insert(out.clone()), out);
        }
        assert_eq!(expected.as_deref(), Some("{\"a\":\"\\u009b2J\\u202ex\\u007fü\\udb40\\udc41\"}\n"));
        Ok(())
    }
}
