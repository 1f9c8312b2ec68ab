//! Bytes as text, reversibly.
//!
//! Names, paths and arguments on Linux are bytes. A capture stores text, because every reader of Parquet expects it.
//! So a byte that is not part of valid UTF-8 becomes `\xHH`, and a backslash becomes `\\`; everything else stays.

use std::borrow::Cow;

/// `bytes` as text: `\` doubled, bytes outside UTF-8 as `\xHH`. [`unescape`] gives the bytes back.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !bytes.contains(&b'\\')
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for piece in chunk.valid().split_inclusive('\\') {
            match piece.strip_suffix('\\') {
                Some(before) => {
                    out.push_str(before);
                    out.push_str("\\\\");
                }
                None => out.push_str(piece),
            }
        }
        for byte in chunk.invalid() {
            // Others choose how many there are; formatting each took most of the recorder's time.
            let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
            out.extend(['\\', 'x', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
    Cow::Owned(out)
}

/// The bytes that [`escape`] was given. An escape that it never writes stays as it stands.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'\\' {
            if bytes.get(i + 1) == Some(&b'\\') {
                out.push(b'\\');
                i += 2;
                continue;
            }
            let hex = bytes.get(i + 2..i + 4).and_then(|h| std::str::from_utf8(h).ok());
            if bytes.get(i + 1) == Some(&b'x')
                && let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok())
            {
                out.push(byte);
                i += 4;
                continue;
            }
        }
        out.push(bytes[i]);
        i += 1;
    }
    out
}

/// What somebody typed as a capture has it: a name as `ls`, `ps` and `systemctl` show it is escaped, and one that was copied from a
/// capture already is.
pub fn stored(typed: &str) -> Cow<'_, str> {
    if escape(&unescape(typed)) == typed { Cow::Borrowed(typed) } else { escape(typed.as_bytes()) }
}

/// A NUL-padded C string as text.
pub fn c_str(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    escape(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"plain", b"a\\b", b"\\x41", b"\xff\xfe", "h\u{e9}".as_bytes(), b"\\\\\\", &all] {
            assert_eq!(unescape(&escape(bytes)), bytes, "{bytes:?}");
        }
    }

    #[test]
    fn names_are_found_as_they_are_shown_and_as_they_are_stored() {
        for name in ["plain", "C:\\win\\a.exe", "system-serial\\x2dgetty.slice", "\\"] {
            let kept = escape(name.as_bytes());
            assert_eq!(stored(name), kept, "typed {name}");
            assert_eq!(stored(&kept), kept, "copied {kept}");
        }
        assert_eq!(stored("a\\xff"), "a\\xff", "a byte that is no text can only be given as it is stored");
    }

    #[test]
    fn escaping_shows_what_was_not_text() {
        assert_eq!(escape(b"a\xffb\\c"), "a\\xffb\\\\c");
        assert_eq!(c_str(b"sh\0\0\0"), "sh");
    }
}
