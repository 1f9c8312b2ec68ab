//! Text from a capture on a terminal: names and arguments are chosen by whoever was recorded, not by us.

use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// `text` with everything that could move a cursor, change a colour or reorder what is read replaced by its code.
///
/// The capture doubles backslashes, so `\x1b` in what is printed is never part of the original text.
pub fn escape(text: &str) -> String {
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

/// Control characters, and those that change the order or the visibility of others.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Columns that `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` in at least `width` columns.
pub fn pad(text: &str, width: usize, right: bool) -> String {
    let missing = " ".repeat(width.saturating_sub(self::width(text)));
    if right { missing + text } else { text.to_owned() + &missing }
}

/// `text` in at most `limit` columns, its end replaced by `…`.
pub fn shorten(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        if width(&out) + width(c.encode_utf8(&mut buffer)) + 1 > limit {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// `12,345,678`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_capture_reaches_the_terminal_as_a_command() {
        assert_eq!(escape("a\u{1b}[31mb\r\n\u{202e}x\u{9b}"), "a\\x1b[31mb\\r\\n\\u{202e}x\\x9b");
        assert_eq!(escape("grün \\\\ ok"), "grün \\\\ ok");
    }

    #[test]
    fn text_is_cut_by_what_is_seen() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(width(&shorten("漢字漢字", 5)), 5);
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
    }
}
