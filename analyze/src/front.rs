//! The commands of `ebrec`, as its help lists them: once for the front command, and once for the hint after a misspelt one.

/// Name, arguments, and what it does.
pub const COMMANDS: [(&str, &str, &str); 6] = [
    ("record", "[OPTIONS] [-- COMMAND]", "Records what this host does into a capture (needs root)"),
    ("check", "[OPTIONS]", "Says what could be recorded on this host"),
    ("analyze", "FILE [COMMAND]", "Answers questions about a capture: summary, SQL, the reports of the BCC tools"),
    ("replay", "FILE REPORT", "Redraws a report as the live tool did then"),
    ("compare", "BASE… -- NEW…", "Tells whether captures are worse than others"),
    ("baseline", "create|add|show FILE", "Keeps the metrics of captures in a small file, to compare with"),
];
