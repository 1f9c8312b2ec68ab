//! Several statements in one text: where each ends.

/// A statement and whether a semicolon ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its text, without the semicolon.
    pub text: &'a str,
    /// Whether it is complete.
    pub ended: bool,
}

/// Splits at the semicolons that aren't in quotes or comments. What holds nothing but space and comments is no statement.
pub fn split(text: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut empty = true;
    let bytes = text.as_bytes();
    let skip_past = |from: usize, end: &str| text.get(from..).and_then(|rest| rest.find(end)).map_or(text.len(), |n| from + n + end.len());
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b';' => {
                if !empty {
                    statements.push(Statement { text: text[start..at].trim(), ended: true });
                }
                at += 1;
                (start, empty) = (at, true);
            }
            // A doubled quote within quotes ends one text and begins the next, with the same result.
            b'\'' | b'"' => {
                at = skip_past(at + 1, if byte == b'\'' { "'" } else { "\"" });
                empty = false;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = skip_past(at, "\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = skip_past(at + 2, "*/"),
            _ => {
                empty &= byte.is_ascii_whitespace();
                at += 1;
            }
        }
    }
    if !empty {
        statements.push(Statement { text: text[start..].trim(), ended: false });
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::split;

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_end_statements_outside_of_quotes_and_comments() {
        assert_eq!(texts("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(texts("SELECT ';' -- no; end\n, \"a;b\" /* ; */;"), ["SELECT ';' -- no; end\n, \"a;b\" /* ; */"]);
        assert_eq!(texts("SELECT 'it''s; one';SELECT 2;;"), ["SELECT 'it''s; one'", "SELECT 2"]);
        assert_eq!(texts(" \n; -- nothing\n ;"), [""; 0]);
        assert_eq!(texts("SELECT 'ü;"), ["SELECT 'ü;"]);
        assert!(split("SELECT 1;")[0].ended && !split("SELECT 1")[0].ended && !split("SELECT ';")[0].ended);
    }
}
