//! Mangled names of functions, as their source has them.
//!
//! Only what says that it is mangled: `_Z` (C++, and Rust before its own scheme) and `_R` (Rust). Any other name is one already, however much it
//! looks like the code of a type: a function of C may be called `f`, `w` or `Dn`.

use std::fmt::{self, Write};
use std::sync::Arc;

/// Of longer names the rest is left out. A mangled name refers back to its parts, so a short one may stand for one that no memory holds.
pub const LONGEST_NAME: usize = 4096;

/// A name as its source has it, or as it stands.
pub fn demangled(name: &str) -> Arc<str> {
    let readable = if name.starts_with("_Z") || name.starts_with("_R") { rust(name).or_else(|| cpp(name)) } else { None };
    match readable {
        Some(readable) => readable.into(),
        None => cut(name).into(),
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

fn rust(name: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    // Without the hash.
    let written = write!(text, "{name:#}");
    text.done(written)
}

fn cpp(name: &str) -> Option<String> {
    let name = cpp_demangle::Symbol::new(name).ok()?;
    let mut text = Bounded::default();
    let written = name.structured_demangle(&mut text, &cpp_demangle::DemangleOptions::new());
    text.done(written)
}

/// Text up to [`LONGEST_NAME`].
#[derive(Debug, Default)]
struct Bounded {
    text: String,
    is_full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = part.floor_char_boundary(LONGEST_NAME - self.text.len());
        self.text.push_str(&part[..room]);
        self.is_full = room < part.len();
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Bounded {
    fn done<E>(self, written: Result<(), E>) -> Option<String> {
        (written.is_ok() || self.is_full).then_some(self.text).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn only_mangled_names_are_changed() {
        for name in [
            "f",
            "w",
            "a",
            "Dn",
            "i",
            "v",
            "St",
            "Z",
            "R",
            "main",
            "RNvC3foo3bar",
            "ZN3foo3barE",
            "_",
            "",
            "_Zebra",
            "_Rust",
            "__libc_start",
        ] {
            assert_eq!(&*demangled(name), name);
        }
        for (name, readable) in [
            ("_Z1fv", "f()"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_ZN45_$LT$foo..Bar$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE", "<foo::Bar as core::fmt::Debug>::fmt"),
            ("_RNvC7mycrate3foo", "mycrate::foo"),
        ] {
            assert_eq!(&*demangled(name), readable);
        }
    }

    #[test]
    fn a_name_that_grows_is_cut() {
        let mut name = String::from("_Z1fSt4pairIiiE");
        // Each type is a pair of the one before: 2^36 of them.
        for part in 0..36 {
            // S_, S0_, S1_, …: the substitutions so far, in base 36.
            let before = match part {
                0 => "S_".to_owned(),
                part => format!("S{}_", char::from_digit(part - 1, 36).unwrap_or('0').to_ascii_uppercase()),
            };
            name.push_str(&format!("St4pairI{before}{before}E"));
        }
        let began = Instant::now();
        assert!(demangled(&name).len() <= LONGEST_NAME);
        assert!(demangled(&"x".repeat(1 << 20)).len() <= LONGEST_NAME);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
