//! Command-line arguments of the workload: numbers by position and by name. Small on purpose: no clap in the VMs.

use ebrec_tests::{Context, Result, fail};
use std::collections::BTreeMap;

/// The arguments after the subcommand.
#[derive(Debug)]
pub struct Args {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Args {
    /// Parses `raw`, which may hold at most `max_words` positional arguments, the `options` (each with a value) and
    /// the `switches` (without one).
    pub fn parse(raw: Vec<String>, max_words: usize, options: &[&str], switches: &[&str]) -> Result<Self> {
        let mut parsed = Self { words: Vec::new(), options: BTreeMap::new() };
        let mut raw = raw.into_iter();
        while let Some(word) = raw.next() {
            let Some(name) = word.strip_prefix("--") else {
                parsed.words.push(word);
                continue;
            };
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let value = if switches.contains(&name) {
                String::new()
            } else if options.contains(&name) {
                inline.or_else(|| raw.next()).context(format!("--{name} needs a value"))?
            } else {
                return fail(format!("unknown option --{name}; known here: {}", [options, switches].concat().join(", ")));
            };
            parsed.options.insert(name.to_owned(), value);
        }
        if parsed.words.len() > max_words {
            return fail(format!("unexpected argument '{}'", parsed.words[max_words]));
        }
        Ok(parsed)
    }

    /// The positional argument at `index`.
    pub fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    /// The number at position `index`, else `default`.
    pub fn number_at(&self, index: usize, default: u64) -> Result<u64> {
        self.word(index).map_or(Ok(default), |text| number("the count", text))
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The number of an option, if given.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        self.option(name).map(|text| number(&format!("--{name}"), text)).transpose()
    }

    /// The number of an option, else `default`.
    pub fn number_or(&self, name: &str, default: u64) -> Result<u64> {
        Ok(self.number(name)?.unwrap_or(default))
    }

    /// Whether a switch was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }
}

fn number(what: &str, text: &str) -> Result<u64> {
    text.parse().context(format!("{what} must be a whole number, not '{text}'"))
}
