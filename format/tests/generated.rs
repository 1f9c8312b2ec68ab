//! The committed files that are printed from the declarations are what the declarations print.

use std::path::Path;

fn check(file: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("EBREC_BLESS").is_some() {
        let written = std::fs::write(&path, now);
        assert!(written.is_ok(), "{file} cannot be written: {written:?}");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "{file} is stale; refresh it with: EBREC_BLESS=1 cargo test -p ebrec-format");
}

#[test]
fn the_c_header_is_fresh() {
    check("bpf/events.h", &ebrec_format::header::c_header());
}

#[test]
fn the_table_reference_is_fresh() {
    check("format/TABLES.md", &ebrec_format::reference::tables_md());
}
