//! Parser of a query file's header.

use super::declaration::{Alias, Column, Condition, Param, ParamType, Query, Render, Show, StackColumns, Title};
use super::{histogram, macros};
use crate::engine::filter::Acting;
use crate::error::{Error, Result};
use crate::suggest::closest;

/// The grammar, as queries/README.md prints it.
pub const GRAMMAR: &str = include_str!("grammar.md");

/// What a line of a header may begin with, followed by a colon and a space. Other lines are prose, unless they look like one of these.
const DIRECTIVES: [&str; 19] = [
    "group",
    "needs",
    "uses",
    "whole",
    "acting",
    "conflicts",
    "param",
    "column",
    "title",
    "blocks",
    "interval",
    "histogram",
    "by",
    "buckets",
    "line",
    "stacks",
    "finding",
    "evidence",
    "alias",
];

/// The longest help line.
pub const MAX_HELP: usize = 70;
/// Parameters that every query may use without declaring them.
pub const RESERVED: [&str; 4] = ["pid", "comm", "window_start", "window_end"];

/// The kinds that the renderer knows, and how many arguments they take.
pub const KINDS: &[(&str, usize)] = &[
    ("text", 1),
    ("int", 0),
    ("comm", 0),
    ("comm10", 0),
    ("comm12", 0),
    ("comm14", 0),
    ("args", 0),
    ("quoted_args", 0),
    ("file_name", 0),
    ("time", 0),
    ("elapsed", 0),
    ("since_first", 0),
    ("us", 0),
    ("since_first6", 0),
    ("us1", 0),
    ("us3", 0),
    ("ms2", 0),
    ("ms3", 0),
    ("seconds2", 0),
    ("kb", 0),
    ("kb2", 0),
    ("mb", 0),
    ("float1", 0),
    ("float2", 0),
    ("percent2", 0),
    ("hex", 0),
    ("addr_port", 1),
    ("errno", 0),
    ("open_flags", 0),
    ("exit", 2),
];

/// Parses a query file.
pub fn parse(name: &'static str, text: &'static str) -> Result<Query> {
    let comment = |line: &'static str| line.strip_prefix("--").map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
    let header: Vec<&'static str> = text.lines().map_while(comment).collect();
    let length: usize = text.split_inclusive('\n').take(header.len()).map(str::len).sum();
    let mut query = Query {
        name,
        help: header.first().copied().unwrap_or_default().trim(),
        prose: String::new(),
        group: "",
        needs: Vec::new(),
        uses: Vec::new(),
        needs_if: Vec::new(),
        whole: Vec::new(),
        acting: Acting::Both,
        acting_if: None,
        params: Vec::new(),
        conflicts: Vec::new(),
        columns: Vec::new(),
        titles: Vec::new(),
        render: Render::Rows,
        blocks: Vec::new(),
        histogram: None,
        buckets: None,
        finding: None,
        evidence: Vec::new(),
        alias: None,
        fixed: Vec::new(),
        examples: Vec::new(),
        sql: macros::expand(text[length..].trim().trim_end_matches(';')),
    };
    for (number, line) in header.iter().enumerate().skip(1) {
        declaration(&mut query, line)
            .map_err(|why| Error::new(format!("{name}.sql, line {}", number + 1), why).hint("queries/README.md describes the header"))?;
    }
    query.prose = query.prose.trim().to_owned();
    complete(&query).map_err(|why| Error::new(format!("{name}.sql"), why).hint("queries/README.md describes the header"))?;
    Ok(query)
}

fn declaration(query: &mut Query, line: &'static str) -> Result<(), String> {
    let (key, rest) = line.split_once(": ").unwrap_or((line, ""));
    match key {
        "group" => query.group = rest.trim(),
        "needs" => match rest.split_once(" if ") {
            Some((tables, flag)) => query.needs_if.extend(names(tables).into_iter().map(|table| (table, flag.trim()))),
            None => query.needs = names(rest),
        },
        "uses" => query.uses = names(rest),
        "whole" => query.whole = names(rest),
        "acting" => {
            let (task, flag) = rest.split_once(" if ").map_or((rest, None), |(task, flag)| (task, Some(flag.trim())));
            let task = match task.trim() {
                "prev" => Acting::Prev,
                "next" => Acting::Next,
                other => return Err(format!("{other:?}: prev or next")),
            };
            match flag {
                Some(flag) => query.acting_if = Some((flag, task)),
                None => query.acting = task,
            }
        }
        "conflicts" => query.conflicts.push(names(rest)),
        "param" => query.params.push(param(rest)?),
        "column" => query.columns.push(column(rest)?),
        "title" => query.titles.push(title(rest)?),
        "blocks" => query.blocks = names(rest),
        "interval" => query.params.extend(histogram::interval(rest.trim())),
        "histogram" => histogram::declare(query, rest)?,
        "by" => histogram::group(query, rest)?,
        "buckets" => {
            let (columns, flag) = rest.split_once(" if ").ok_or("expected buckets: COLUMN, … if FLAG")?;
            query.buckets = Some((flag.trim(), names(columns)));
        }
        "line" => match &mut query.render {
            Render::Lines(lines) => lines.push(title(rest)?),
            render => *render = Render::Lines(vec![title(rest)?]),
        },
        "stacks" => query.render = Render::Stacks(stacks(rest)?),
        "finding" => query.finding = Some(rest.trim()),
        "evidence" => query.evidence.push(rest.trim()),
        "alias" => query.alias = Some(alias(rest)?),
        "example" => {
            let (command, doc) = rest.rsplit_once(" : ").ok_or("an example is COMMAND : SENTENCE")?;
            query.examples.push((command.trim(), doc.trim()));
        }
        // Lines of a paragraph are joined: whoever prints it knows the width.
        _ if line.trim().is_empty() => query.prose.push_str("\n\n"),
        _ if is_directive(line) => return Err(no_directive(key, DIRECTIVES.into_iter().chain(["example"]))),
        _ => {
            let gap = if query.prose.is_empty() || query.prose.ends_with('\n') { "" } else { " " };
            query.prose.push_str(gap);
            query.prose.push_str(line.trim());
        }
    }
    Ok(())
}

/// Whether a line has the form of a directive: a word in small letters, a colon, a space.
pub fn is_directive(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// Why a line that has the form of a directive is none: a misspelt one would be prose, and what it declares missing.
pub fn no_directive<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match closest(key, known) {
        Some(other) => format!("there is no directive {key}; did you mean {other}?"),
        None => {
            format!("there is no directive {key}; a sentence of the description begins with a capital or has no colon after its first word")
        }
    }
}

pub(super) fn names(text: &'static str) -> Vec<&'static str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// `alias: REPORT PARAM=VALUE`.
fn alias(text: &'static str) -> Result<Alias, String> {
    let words = text.trim().split_once(' ').and_then(|(report, rest)| Some((report, rest.split_once('=')?)));
    let (report, (param, value)) = words.ok_or("an alias is REPORT PARAM=VALUE")?;
    Ok(Alias { report, param, value })
}

fn param(text: &'static str) -> Result<Param, String> {
    let (left, doc) = text.split_once(" : ").ok_or("a parameter ends with \" : Sentence.\"")?;
    let mut words = left.split_whitespace();
    let (Some(name), Some(kind)) = (words.next(), words.next()) else {
        return Err("a parameter needs a name and a type".to_owned());
    };
    let kind = match kind {
        "flag" => ParamType::Flag,
        "int" => ParamType::Int,
        "number" => ParamType::Number,
        "errno" => ParamType::Errno,
        "seconds" => ParamType::Seconds,
        "text" => ParamType::Text,
        "ints" => ParamType::Ints,
        other => match other.strip_prefix("choice(").and_then(|rest| rest.strip_suffix(')')) {
            Some(words) => ParamType::Choice(words.split('|').collect()),
            None => return Err(format!("there is no parameter type {other}")),
        },
    };
    let mut param = Param { name, kind, default: None, short: None, long: None, positional: false, doc: doc.trim() };
    while let Some(word) = words.next() {
        if word == "=" {
            param.default = Some(words.next().ok_or("= without a default")?);
        } else if word == "pos" {
            param.positional = true;
        } else if let Some(long) = word.strip_prefix("--") {
            param.long = Some(long);
        } else if let Some(short) = word.strip_prefix('-').filter(|rest| rest.chars().count() == 1) {
            param.short = short.chars().next();
        } else {
            return Err(format!("what is {word:?}?"));
        }
    }
    Ok(param)
}

fn column(text: &'static str) -> Result<Column, String> {
    let (left, doc) = text.split_once(" : ").ok_or("a column ends with \" : Sentence.\"")?;
    let (name, rest) = left.trim().split_once(' ').ok_or("a column needs a name and a kind")?;
    let (heading, rest) = match rest.strip_prefix("AS \"") {
        Some(rest) => rest.split_once("\" ").ok_or("the heading has no end")?,
        None => (name, rest),
    };
    let (kind, rest) = rest.trim().split_at(rest.trim().find([' ', '(', '<', '>']).unwrap_or(rest.trim().len()));
    let (arguments, rest) = match rest.strip_prefix('(') {
        // What follows a text may begin with a space, so that is kept.
        Some(rest) => rest.split_once(')').map(|(inside, rest)| (inside.split(", ").collect(), rest)).ok_or("a bracket is not closed")?,
        None => (Vec::new(), rest),
    };
    let (width, condition) = rest.split_once(' ').unwrap_or((rest, ""));
    let right = width.starts_with('>');
    let width = if width.is_empty() { 0 } else { width[1..].parse().map_err(|_| format!("{width}: not a width"))? };
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, count)) if arguments.len() == *count || kind == "text" => {}
        Some((_, count)) => return Err(format!("column kind {kind} takes {count} arguments")),
        None => return Err(format!("there is no column kind {kind:?}")),
    }
    let show = match condition.trim() {
        "" => Show::Always,
        "hidden" => Show::Hidden,
        other => Show::If(conditions(other)?),
    };
    Ok(Column { name, heading, kind, arguments, width, right, show, doc: doc.trim() })
}

/// `if NAME`, `unless NAME=VALUE`, several of them one after the other.
fn conditions(text: &'static str) -> Result<Vec<Condition>, String> {
    let mut words = text.split_whitespace();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        let negated = match word {
            "if" => false,
            "unless" => true,
            other => return Err(format!("{other:?}: a condition begins with if or unless")),
        };
        let name = words.next().ok_or("a condition needs a name")?;
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        out.push(Condition { negated, name, value });
    }
    Ok(out)
}

fn title(text: &'static str) -> Result<Title, String> {
    let at = [" if ", " unless "].iter().filter_map(|word| text.find(word)).min().unwrap_or(text.len());
    let (text, rest) = text.split_at(at);
    Ok(Title { text, conditions: conditions(rest)? })
}

fn stacks(text: &'static str) -> Result<StackColumns, String> {
    let parts = text.split_once(" value ").and_then(|(frames, rest)| Some((names(frames), rest.split_once(" task ")?)));
    let parts = parts.map(|(frames, (value, task))| (frames, value.trim(), names(task)));
    match parts.as_ref().map(|(frames, value, task)| (frames.as_slice(), *value, task.as_slice())) {
        Some(([kernel, user], value, [comm, id])) => Ok(StackColumns { kernel, user, value, comm, id }),
        _ => Err("expected stacks: KERNEL, USER value COLUMN task COMM, ID".to_owned()),
    }
}

/// What every header must have, and that its parts fit together.
fn complete(query: &Query) -> Result<(), String> {
    let sentence = |text: &str| text.ends_with('.');
    if query.help.is_empty() || query.help.chars().count() > MAX_HELP {
        return Err(format!("the first line is the help, of 1 to {MAX_HELP} characters"));
    }
    if query.alias.is_some() {
        return Ok(());
    }
    if query.group.is_empty() || query.needs.is_empty() || query.columns.is_empty() || query.sql.is_empty() {
        return Err("group, needs, columns and a SELECT are required".to_owned());
    }
    if let Some(param) = query.params.iter().find(|param| !sentence(param.doc) || RESERVED.contains(&param.name)) {
        return Err(format!("parameter {}: needs a sentence, and a name that isn't reserved", param.name));
    }
    if let Some(param) = query.params.iter().find(|param| !param.positional && param.short.is_none() && param.long.is_none()) {
        return Err(format!("parameter {}: can't be given", param.name));
    }
    if let Some(column) = query.columns.iter().find(|column| !sentence(column.doc)) {
        return Err(format!("column {}: needs a sentence", column.name));
    }
    let is_column = |name: &str| query.columns.iter().any(|column| column.name == name);
    let is_param = |name: &str| query.params.iter().any(|param| param.name == name);
    let of_columns = query.columns.iter().filter_map(|column| match &column.show {
        Show::If(conditions) => Some(conditions),
        _ => None,
    });
    let lines: &[Title] = if let Render::Lines(lines) = &query.render { lines } else { &[] };
    let texts = || query.titles.iter().chain(lines);
    for condition in of_columns.chain(texts().map(|title| &title.conditions)).flatten() {
        if !(if condition.value.is_some() { is_column(condition.name) } else { is_param(condition.name) }) {
            return Err(format!("condition on {}: there is no such thing", condition.name));
        }
    }
    let hist = query.histogram.iter().flat_map(|histogram| {
        let groups = histogram.groups.iter().flat_map(|group| group.keys.iter().chain(&group.labels));
        [histogram.value].into_iter().chain(histogram.weight).chain(groups.copied())
    });
    let arguments = query.columns.iter().filter(|column| column.kind != "text").flat_map(|column| column.arguments.iter().copied());
    let of_check = query.finding.iter().chain(&query.evidence).flat_map(|text| placeholders(text));
    let in_titles = texts().flat_map(|title| placeholders(title.text)).chain(of_check);
    let stacks = match &query.render {
        Render::Stacks(columns) => vec![columns.kernel, columns.user, columns.value, columns.comm, columns.id],
        _ => Vec::new(),
    };
    let hist = hist.chain(query.buckets.iter().flat_map(|(_, keys)| [&["unit", "low", "high", "count"], &keys[..]].concat())).chain(stacks);
    let flags = query.buckets.iter().map(|(flag, _)| *flag).chain(query.acting_if.map(|(flag, _)| flag));
    let flags = flags.chain(query.needs_if.iter().map(|(_, flag)| *flag));
    if let Some(flag) = flags.into_iter().find(|flag| !is_param(flag)) {
        return Err(format!("there is no parameter {flag}"));
    }
    if let Some(name) = query.blocks.iter().copied().chain(hist).chain(in_titles).chain(arguments).find(|name| !is_column(name)) {
        return Err(format!("there is no column {name}"));
    }
    if query.finding.is_some() && !(is_column("score") && is_column("since")) {
        return Err("a check has the columns score and since".to_owned());
    }
    match query.conflicts.iter().flatten().find(|name| !is_param(name)) {
        Some(name) => Err(format!("there is no parameter {name}")),
        None => Ok(()),
    }
}

/// The names in `{}`.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The same numbers on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit.max(1)
        }
    }

    /// Queries come from colleagues, too (`--queries`): whatever stands in one, it is taken or refused with a reason.
    #[test]
    fn no_header_panics() {
        /// What means something in a header.
        const TELLING: [&str; 12] =
            ["--", "-- param", "-- column", "histogram", ":", "=", "{}", "'", "\"", "\u{0}", "é", "99999999999999999999"];
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
        let mut texts: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|file| Some(file.ok()?.path()).filter(|path| path.extension().is_some_and(|extension| extension == "sql")))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        texts.sort();
        assert!(texts.len() > 30);
        let mut random = Random(5);
        let mut refused = 0;
        for nth in 0..1500 {
            let mut words: Vec<char> = texts[nth % texts.len()].chars().take(1500).collect();
            for _ in 0..=random.below(4) {
                let (at, other) = (random.below(words.len()), random.below(words.len()));
                match random.below(4) {
                    0 => drop(words.splice(at..at, TELLING[random.below(TELLING.len())].chars())),
                    1 => drop(words.splice(at..(at + random.below(40)).min(words.len()), None)),
                    2 => words.swap(at, other),
                    _ => {
                        let piece: Vec<char> = words.iter().skip(other).take(random.below(60)).copied().collect();
                        words.splice(at..at, piece);
                    }
                }
            }
            let text: String = words.into_iter().collect();
            refused += usize::from(parse("spoiled", text.leak()).is_err());
        }
        assert!(refused > 100, "{refused}: what is spoiled is hardly ever noticed");
    }
}
