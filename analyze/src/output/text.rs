//! Text that people read: its width, its parts, its numbers.

pub use super::escape::terminal as escape;
use unicode_width::UnicodeWidthStr;

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
    fn text_is_cut_by_what_is_seen() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(width(&shorten("漢字漢字", 5)), 5);
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
    }
}
