//! What docs/PROMISES.md names exists.

use ebrec_tests::{Context, Result};
use std::path::Path;

#[test]
fn every_promise_names_a_test_that_exists() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let text = std::fs::read_to_string(root.join("docs/PROMISES.md")).context("docs/PROMISES.md")?;
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id") && !line.starts_with("| ---"));
    let mut named = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let tests: Vec<&str> = cells.get(3).context(row)?.split('`').filter(|word| word.contains("::") || word.contains('/')).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            named += 1;
            let Some((file, function)) = test.split_once("::") else {
                assert!(root.join(test).is_file(), "{test}");
                continue;
            };
            let places = ["tests/tests", "analyze/tests", "record/src", "format/src"].map(|place| root.join(place).join(file));
            let found = places.iter().filter_map(|place| std::fs::read_to_string(place).ok());
            assert!(found.into_iter().any(|code| code.contains(&format!("fn {function}("))), "{test}");
        }
        // What is measured has a figure, or says that it hasn't.
        assert_eq!(cells[1] == "–", cells.get(4).is_none_or(|figure| figure.is_empty()), "{row}");
    }
    assert!(named > 20, "{named}");
    Ok(())
}
