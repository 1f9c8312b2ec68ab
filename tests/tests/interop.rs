//! Other programs read a capture: DuckDB, pandas and Polars get the same answers from the unzipped Parquet files as
//! `ebrec analyze sql` from the capture. (`make readers` asks Spark, too.)
//!
//! Needs Python with duckdb, pandas, polars and pyarrow: in $EBREC_TEST_VENV, else in target/venv, which is made if it is missing.

use ebrec_tests::{Capture, Context, Result, list, recorded, require_bpf, run, target_dir, text, workload};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads every table of a directory with DuckDB, pandas and Polars; prints per table and column what each of them found.
const SCRIPT: &str = r#"
import sys, json, pathlib, duckdb, pandas, polars
root, queries = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
tables = {}
for directory in sorted(p for p in root.iterdir() if p.is_dir()):
    db.execute(f"CREATE VIEW {directory.name} AS SELECT * FROM read_parquet('{directory}/*.parquet')")
    frame = pandas.concat([pandas.read_parquet(f, dtype_backend="pyarrow") for f in sorted(directory.glob("*.parquet"))])
    columns = {}
    for name, kind in db.execute(f"SELECT column_name, column_type FROM (DESCRIBE {directory.name})").fetchall():
        column = frame[name]
        # Some are words of SQL, such as offset.
        name = '"' + name + '"'
        found = {"type": kind, "duckdb": {}, "pandas": {}}
        if kind.startswith("TIMESTAMP"):
            low, high, count = db.execute(f"SELECT epoch_ns(min({name})::TIMESTAMP_NS), epoch_ns(max({name})::TIMESTAMP_NS), count({name}) FROM {directory.name}").fetchone()
            found["duckdb"] = {"min": low, "max": high, "count": count}
            values = column.dropna()
            found["pandas"] = {"count": len(values)}
            if len(values):
                found["pandas"] |= {"min": values.min().value, "max": values.max().value}
            else:
                found["pandas"] |= {"min": None, "max": None}
        elif kind in ("INTEGER", "BIGINT"):
            low, high, total, count = db.execute(f"SELECT min({name}), max({name}), sum({name}::HUGEINT), count({name}) FROM {directory.name}").fetchone()
            found["duckdb"] = {"min": low, "max": high, "sum": str(total), "count": count}
            values = [int(v) for v in column.dropna()]
            found["pandas"] = {"min": min(values, default=None), "max": max(values, default=None), "sum": str(sum(values)) if values else "None", "count": len(values)}
        elif kind == "VARCHAR":
            distinct, length, count = db.execute(f"SELECT count(DISTINCT {name}), coalesce(sum(length({name})), 0)::BIGINT, count({name}) FROM {directory.name}").fetchone()
            found["duckdb"] = {"distinct": distinct, "length": length, "count": count}
            values = list(column.dropna())
            found["pandas"] = {"distinct": len(set(values)), "length": sum(map(len, values)), "count": len(values)}
        elif kind == "BOOLEAN":
            true, count = db.execute(f"SELECT count(*) FILTER (WHERE {name}), count({name}) FROM {directory.name}").fetchone()
            found["duckdb"] = {"true": true, "count": count}
            values = list(column.dropna())
            found["pandas"] = {"true": sum(map(bool, values)), "count": len(values)}
        elif kind.endswith("[]"):
            items, count = db.execute(f"SELECT coalesce(sum(len({name})), 0)::BIGINT, count({name}) FROM {directory.name}").fetchone()
            found["duckdb"] = {"items": items, "count": count}
            values = [v for v in column if v is not pandas.NA and v is not None]
            found["pandas"] = {"items": sum(map(len, values)), "count": len(values)}
        columns[column.name] = found
    polar = polars.read_parquet(f"{directory}/*.parquet")
    counts = {column: polar.height - nulls for column, nulls in polar.null_count().row(0, named=True).items()}
    for column, found in columns.items():
        found["polars"] = {"count": counts[column]}
        if found["type"].startswith("TIMESTAMP"):
            instants = polar[column].dt.timestamp("ns")
            found["polars"] |= {"min": instants.min(), "max": instants.max()}
    tables[directory.name] = {"rows": len(frame), "polars": polar.height, "columns": columns}
answers = [db.execute(query).fetchall() for query in queries]
print(json.dumps({"tables": tables, "answers": answers}))
"#;

/// Questions that are put to both, in SQL that both understand; the columns are in the order of their names.
const QUESTIONS: &[&str] = &[
    "SELECT comm AS a, count(*) AS b, sum(tx_bytes) AS c, sum(rx_bytes) AS d, max(duration_ns) AS e FROM tcp_close GROUP BY 1 ORDER BY 1",
    "SELECT ip_version AS a, direction AS b, count(*) AS c, count(DISTINCT conn_id) AS d FROM tcp_connection GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT c.comm AS a, count(*) AS b, sum(s.bytes) AS c, max(s.bytes) AS d FROM tcp_connection c JOIN tcp_send s USING (conn_id)
     GROUP BY 1 ORDER BY 1",
    "SELECT old_state AS a, new_state AS b, count(*) AS c, sum(in_old_state_ns) AS d FROM tcp_state GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT prev_state AS a, count(*) AS b, sum(prev_ran_ns) AS c, max(next_waited_ns) AS d FROM sched_switch GROUP BY 1 ORDER BY 1",
    "SELECT next_comm AS a, count(*) AS b, sum(next_waited_ns) AS c FROM sched_switch WHERE next_comm LIKE 'wl-%' GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS a, sum(CAST(is_thread AS INT)) AS b, count(DISTINCT child_process_id) AS c FROM process_fork",
    "SELECT args[1] AS a, count(*) AS b, min(ret) AS c, max(ret) AS d FROM process_exec GROUP BY 1 ORDER BY 1 NULLS LAST",
    "SELECT exit_code AS a, signal AS b, core_dumped AS c, count(*) AS d FROM process_exit GROUP BY 1, 2, 3
     ORDER BY 1 NULLS LAST, 2 NULLS LAST, 3",
];

/// Runs statements over a directory with DuckDB and compares their rows with those that the analyzer gave. Reads a list of name, SQL and rows
/// from standard input.
const COMPARE: &str = r#"
import datetime, decimal, json, math, pathlib, re, sys, duckdb
root = pathlib.Path(sys.argv[1])
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
for directory in sorted(p for p in root.iterdir() if p.is_dir()):
    db.execute(f"CREATE VIEW {directory.name} AS SELECT * FROM read_parquet('{directory}/*.parquet')")

def plain(value):
    """A value as both can tell it: instants as microseconds, numbers to nine digits."""
    if isinstance(value, str) and (m := re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z", value)):
        seconds = datetime.datetime.fromisoformat(m[1] + "+00:00").timestamp()
        return float(int(seconds) * 1_000_000 + int(((m[2] or "") + "000000")[:6]))
    if isinstance(value, (float, decimal.Decimal)):
        value = float(value)
        return None if math.isnan(value) else float(f"{value:.9g}") if abs(value) < 1e15 else value
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) > 1e15 else float(f"{value:.9g}")
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value

def same(a, b):
    """Instants (beyond 1e15) may be rounded to the microsecond in two ways."""
    big = lambda x: isinstance(x, float) and abs(x) > 1e15
    return a.keys() == b.keys() and all(a[k] == b[k] or big(a[k]) and big(b[k]) and abs(a[k] - b[k]) <= 1 for k in a)

wrong = []
for name, sql, rows in json.load(sys.stdin):
    sql = sql.strip().rstrip(";")
    try:
        columns = db.execute(f"DESCRIBE {sql}").fetchall()
        shown = [f'epoch_us(CAST("{c[0]}" AS TIMESTAMPTZ))' if c[1].startswith("TIMESTAMP") else f'"{c[0]}"' for c in columns]
        fetched = db.execute(f"SELECT {', '.join(shown)} FROM ({sql})").fetchall()
    except duckdb.Error as error:
        wrong.append(f"{name}: {error}")
        continue
    theirs = [dict(zip([c[0] for c in columns], map(plain, row))) for row in fetched]
    ours = [{k: plain(v) for k, v in row.items()} for row in rows]
    differ = [pair for pair in zip(ours, theirs) if not same(*pair)]
    if len(ours) != len(theirs) or differ:
        wrong.append(f"{name}: {len(ours)} rows, in DuckDB {len(theirs)}; {differ[:1]}")
print("\n".join(wrong))
"#;

/// A Python with what the script imports; `None` if there is no way to get one.
fn python() -> Result<Option<PathBuf>> {
    let venv = std::env::var_os("EBREC_TEST_VENV").map_or_else(|| target_dir().join("venv"), PathBuf::from);
    let python = venv.join("bin/python");
    let imports = |python: &Path| {
        Command::new(python).args(["-c", "import duckdb, pandas, polars, pyarrow"]).output().is_ok_and(|ran| ran.status.success())
    };
    if imports(&python) {
        return Ok(Some(python));
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output().is_ok_and(|ran| ran.status.success())
        && Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "duckdb", "pandas", "polars", "pyarrow"])
            .status()
            .is_ok_and(|s| s.success());
    if made && imports(&python) {
        return Ok(Some(python));
    }
    if std::env::var("EBREC_TEST_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
        return ebrec_tests::fail("EBREC_TEST_REQUIRE_PEERS=1, but there is no Python with duckdb, pandas, polars and pyarrow");
    }
    eprintln!("SKIPPED: no Python with duckdb, pandas, polars and pyarrow");
    Ok(None)
}

/// The analyzer's answer as rows of values, as the script prints its own.
fn rows(capture: &Capture, query: &str) -> Result<Vec<Vec<Value>>> {
    let ran = run(
        ebrec_tests::Program::Analyze,
        [capture.path().as_os_str(), "sql".as_ref(), query.as_ref(), "--output".as_ref(), "json".as_ref()],
    )?;
    let rows: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&ran.succeeded()?.stdout).context(query)?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect()).collect())
}

/// What the script asks DuckDB of a column of this type, asked in our SQL.
fn aggregates(column: &str, kind: &str) -> Result<Vec<(&'static str, String)>> {
    let column = format!("\"{column}\"");
    let mut wanted = match kind {
        kind if kind.starts_with("TIMESTAMP") => {
            vec![("min", format!("CAST(min({column}) AS BIGINT)")), ("max", format!("CAST(max({column}) AS BIGINT)"))]
        }
        "INTEGER" | "BIGINT" => vec![
            ("min", format!("min({column})")),
            ("max", format!("max({column})")),
            // Identities are too large to be summed as BIGINT.
            ("sum", format!("coalesce(CAST(sum(CAST({column} AS DECIMAL(38, 0))) AS VARCHAR), 'None')")),
        ],
        "VARCHAR" => {
            vec![("distinct", format!("count(DISTINCT {column})")), ("length", format!("coalesce(sum(character_length({column})), 0)"))]
        }
        "BOOLEAN" => vec![("true", format!("count(*) FILTER (WHERE {column})"))],
        kind if kind.ends_with("[]") => vec![("items", format!("CAST(coalesce(sum(coalesce(array_length({column}), 0)), 0) AS BIGINT)"))],
        "DOUBLE" => return Ok(Vec::new()),
        other => return ebrec_tests::fail(format!("{column}: DuckDB reads it as {other}, which this test does not know")),
    };
    wanted.push(("count", format!("count({column})")));
    Ok(wanted)
}

#[test]
fn duckdb_pandas_and_polars_read_what_the_analyzer_reads() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(python) = python()? else { return Ok(()) };
    let (_, capture) = recorded(&[], || {
        workload(&["tcp"])?;
        workload(&["exec", "--codes", "20"])?;
        workload(&["threads"])?;
        workload(&["pingpong", "20000"])
    })?;
    let dir = capture.dir().join("unzipped");
    let unzip = Command::new("unzip").arg("-q").arg(capture.path()).arg("-d").arg(&dir).status().context("run unzip")?;
    assert!(unzip.success());
    let ran =
        Command::new(&python).args(["-c", SCRIPT]).arg(&dir).arg(serde_json::json!(QUESTIONS).to_string()).output().context("python")?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: Value = serde_json::from_slice(&ran.stdout).context("what python found")?;

    let tables = found["tables"].as_object().context("tables")?;
    for (table, of_table) in tables {
        let columns = of_table["columns"].as_object().context("columns")?;
        let mut wanted = vec!["count(*) AS \"rows\"".to_owned()];
        for (column, found) in columns {
            assert_eq!(found["duckdb"], found["pandas"], "{table}.{column}");
            for (what, duckdb) in found["duckdb"].as_object().context("what DuckDB found")? {
                if let Some(polars) = found["polars"].get(what) {
                    assert_eq!(duckdb, polars, "{what} of {table}.{column}");
                }
            }
            for (what, expression) in aggregates(column, text(&found["type"])?)? {
                wanted.push(format!("{expression} AS \"{column}.{what}\""));
            }
        }
        let ours = capture.row(&format!("SELECT {} FROM {table}", wanted.join(", ")))?;
        assert_eq!((&ours["rows"], &ours["rows"]), (&of_table["rows"], &of_table["polars"]), "{table}");
        for (column, found) in columns {
            for (what, theirs) in found["duckdb"].as_object().context("what DuckDB found")? {
                assert_eq!(ours[format!("{column}.{what}")], *theirs, "{what} of {table}.{column}: {found}");
            }
        }
    }
    // Every table is there, also the empty ones.
    assert!(tables.len() >= 20, "{:?}", tables.keys());

    let answers = list(&found["answers"])?;
    assert_eq!(answers.len(), QUESTIONS.len());
    for (question, theirs) in QUESTIONS.iter().zip(answers) {
        let ours = rows(&capture, question)?;
        assert!(!ours.is_empty(), "{question}");
        assert_eq!(serde_json::json!(ours), *theirs, "{question}");
    }
    Ok(())
}

/// The samples that have something for most reports.
const SAMPLES: [&str; 2] = ["exec-storm", "slow-dns"];

#[test]
fn duckdb_gives_the_same_rows_for_the_reports() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    let dir = ebrec_tests::TempDir::new("duckdb")?;
    let mut compared = 0;
    for sample in SAMPLES {
        let capture = samples.join(sample).with_extension("ebrec");
        let unzipped = dir.path().join(sample);
        let unzip = Command::new("unzip").arg("-q").arg(&capture).arg("-d").arg(&unzipped).status().context("run unzip")?;
        assert!(unzip.success(), "{}", capture.display());
        let reports = ebrec_tests::analyze(&capture, &["reports", "--output", "json"])?.succeeded()?;
        let reports: Vec<Value> = serde_json::from_str(&reports.stdout).context("reports")?;
        let mut inputs = Vec::new();
        for report in &reports {
            let name = text(&report["report"])?;
            for args in [&[name][..], &[name, "1"]] {
                let shown = ebrec_tests::analyze(&capture, &[args, &["--show-sql"]].concat())?;
                let ran = ebrec_tests::analyze(&capture, &[args, &["--output", "json", "--quiet"]].concat())?;
                // Without intervals or any such argument, or without the tables that it needs, it is refused; 1 is no row.
                if !shown.status.success() || !matches!(ran.status.code(), Some(0 | 1)) {
                    continue;
                }
                let rows: Value =
                    if ran.stdout.trim().is_empty() { serde_json::json!([]) } else { serde_json::from_str(&ran.stdout).context(name)? };
                compared += usize::from(rows.as_array().is_some_and(|rows| !rows.is_empty()));
                inputs.push(serde_json::json!([args.join(" "), shown.stdout, rows]));
            }
        }
        let input = dir.path().join("input.json");
        std::fs::write(&input, serde_json::json!(inputs).to_string()).context("write")?;
        let input = std::fs::File::open(&input).context("open")?;
        let ran = Command::new(&python).args(["-c", COMPARE]).arg(&unzipped).stdin(input).output().context("python")?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "", "{sample}");
    }
    assert!(compared >= 20, "only {compared} answers have rows");
    Ok(())
}

/// Reads files of Parquet with DuckDB and pandas; prints the rows and the columns that each of them found.
const READ: &str = r#"
import sys, duckdb, pandas
for path in sys.argv[1:]:
    columns = [name for name, *_ in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == columns, (path, columns)
    assert len(frame) == duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall()[0][0] > 0, path
"#;

#[test]
fn others_read_the_parquet_of_reports_also_where_a_column_is_null() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/slow-disk.ebrec");
    let dir = ebrec_tests::TempDir::new("parquet")?;
    let mut files = Vec::new();
    // Without an interval the column for its end is null; with one it isn't.
    for args in [&["runqlat"][..], &["runqlat", "1"], &["fsdist"], &["bitesize"], &["biosnoop"]] {
        let file = dir.path().join(format!("{}.parquet", args.join("-")));
        let out = file.to_string_lossy().into_owned();
        ebrec_tests::analyze(&sample, &[args, &["--output", "parquet", "-o", &out]].concat())?.succeeded()?;
        files.push(file);
    }
    let ran = Command::new(&python).args(["-c", READ]).args(&files).output().context("python")?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}
