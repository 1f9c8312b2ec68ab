//! `ebrec compare` and `ebrec baseline`, on captures whose difference is known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, LENGTH, START, directory, ebrec, head, sample, stdout, switch, task};
use ebrec_analyze::compare::random::Random;
use ebrec_analyze::compare::{metric, reference};
use ebrec_format::events::{process, session};
use ebrec_format::wire::NULL64;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Switches to `app` about every 2 ms, after waits that are log-normal around `median` ns, in bursts.
fn waits(seed: u64, median: f64) -> Builder {
    let mut random = Random::new(seed);
    let (app, idle) = (task(200, 200, "app"), task(0, 0, "swapper/0"));
    let mut switches = Vec::new();
    let mut ts = 0;
    let mut burst = 0.0;
    while ts < LENGTH {
        // Neighbours are alike: an autoregressive level beside the noise of each wait.
        burst = 0.9 * burst + 0.1 * random.normal();
        let waited = median * (0.5 * random.normal() + burst).exp();
        switches.push(switch(ts, idle, app, waited as u64));
        switches.push(switch(ts + 500_000, app, idle, NULL64));
        ts += 1_000_000 + random.below(2_000_000) as u64;
    }
    Builder::default().rows(&switches).rows::<session::Loss>(&[])
}

fn write(directory: &Path, name: &str, builder: Builder) -> String {
    builder.write(&directory.join(format!("{name}.ebrec"))).to_str().unwrap().to_owned()
}

/// Exit code and JSON.
fn compared(args: &[&str]) -> (Option<i32>, Value) {
    let output = ebrec(&[&["compare", "--output", "json"], args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("NaN"), "{text}");
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), json)
}

fn row<'a>(json: &'a Value, metric: &str, group: &str, statistic: &str) -> &'a Value {
    let is = |row: &&Value| {
        let found = row["group"].as_object().unwrap();
        let same = if group.is_empty() { found.is_empty() } else { found.len() == 1 && found.values().all(|value| value == group) };
        row["metric"] == metric && row["statistic"] == statistic && same
    };
    json["rows"].as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("no row {metric} {group} {statistic}"))
}

fn failure(args: &[&str]) -> String {
    let output = ebrec(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(!error.contains("panicked") && !error.contains("internal error"), "{error}");
    error
}

#[test]
fn every_metric_is_measured() {
    let directory = directory("compare-all");
    let path = sample(&directory.join("small.ebrec"));
    let copy = directory.join("copy.ebrec");
    std::fs::copy(&path, &copy).unwrap();
    let (code, json) = compared(&[path.to_str().unwrap(), copy.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert_eq!(json["missing"].as_array().unwrap().len(), 0, "{}", json["missing"]);
    for source in metric::sources(None).unwrap() {
        for metric in &source.metrics {
            assert!(!metric.doc.is_empty() && metric.doc.ends_with('.'), "{}", metric.name);
            assert!(json["rows"].as_array().unwrap().iter().any(|row| row["metric"] == metric.name.as_str()), "{}", metric.name);
        }
    }
    for row in json["rows"].as_array().unwrap() {
        assert!(row["verdict"] != "worse" && row["verdict"] != "better" && row["verdict"] != "changed", "{row}");
        assert_eq!(
            (&row["base"], &row["base_events"]),
            (if row["statistic"] == "shape" { &row["base"] } else { &row["new"] }, &row["new_events"]),
            "{row}"
        );
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let expected = reference::reference(&metric::sources(None).unwrap());
    if std::env::var_os("EBREC_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/METRICS.md is stale; refresh it: EBREC_BLESS=1 cargo test -p ebrec-analyze");
}

#[test]
fn a_change_is_found_and_its_size_told() {
    let directory = directory("compare-change");
    let base = write(&directory, "base", waits(1, 100_000.0));
    let same = write(&directory, "same", waits(2, 100_000.0));
    let slow = write(&directory, "slow", waits(3, 300_000.0));
    let (code, json) = compared(&[&base, &same]);
    assert_eq!(code, Some(0), "{json:#}");
    assert!(json["rows"].as_array().unwrap().iter().all(|row| !["worse", "better", "changed"].contains(&row["verdict"].as_str().unwrap())));
    let (code, json) = compared(&[&base, &slow]);
    assert_eq!(code, Some(1));
    let p50 = row(&json, "runqlat", "app", "p50");
    assert_eq!(p50["verdict"], "worse");
    let number = |field: &str| p50[field].as_f64().unwrap();
    assert!((1.5..2.7).contains(&number("change")) && number("low") < 2.0 && number("high") > 2.0, "{p50}");
    assert!((80_000.0..125_000.0).contains(&number("base")), "{p50}");
    assert_eq!(row(&json, "runqlat", "app", "shape")["verdict"], "changed");
    assert_eq!(row(&json, "runqlat", "", "p50")["verdict"], "worse");
    // The other way round it is better, and no regression.
    let (code, json) = compared(&[&slow, &base]);
    assert_eq!((code, &row(&json, "runqlat", "app", "p50")["verdict"]), (Some(0), &Value::from("better")));
    // The one that changed comes first.
    let text = String::from_utf8(ebrec(&["compare", &base, &slow]).stdout).unwrap();
    let first = text.lines().find(|line| line.starts_with("worse")).unwrap();
    assert!(first.contains("runqlat"), "{text}");
    assert!(text.contains("One capture a side"), "{text}");
}

#[test]
fn several_captures_measure_the_noise() {
    let directory = directory("compare-runs");
    let several = |name: &str, first: u64, median: f64| -> Vec<String> {
        (0..4).map(|nth| write(&directory, &format!("{name}{nth}"), waits(first + nth, median))).collect()
    };
    let (base, new) = (several("base", 10, 100_000.0), several("new", 20, 140_000.0));
    let args: Vec<&str> = base.iter().map(String::as_str).chain(["--"]).chain(new.iter().map(String::as_str)).collect();
    let (code, json) = compared(&args);
    // 40 % is too little for one capture a side, which may differ by as much in another run; not for four that differ less.
    let p50 = row(&json, "runqlat", "app", "p50");
    assert_eq!((code, &p50["verdict"]), (Some(1), &Value::from("worse")), "{p50}");
    assert!(json["conclusion"].as_str().unwrap().contains("too few metrics"), "{}", json["conclusion"]);
    let (code, json) = compared(&[&base[0], &new[0]]);
    assert_eq!((code, &row(&json, "runqlat", "app", "p50")["verdict"]), (Some(0), &Value::from("unclear")));
    assert!(row(&json, "runqlat", "app", "p50")["detectable"].as_f64().unwrap() > 0.5);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let directory = directory("compare-same");
    let (base, new) = (write(&directory, "base", waits(1, 100_000.0)), write(&directory, "new", waits(2, 130_000.0)));
    for format in ["table", "json"] {
        let args = ["compare", "--all", "--output", format, &base, &new];
        let first = ebrec(&args).stdout;
        assert!(!first.is_empty());
        assert!(ebrec(&args).stdout == first, "{format}");
        // One CPU, so one thread.
        let one = Command::new("taskset").args(["-c", "0", env!("CARGO_BIN_EXE_ebrec-analyze")]).args(args).output().unwrap();
        assert!(one.status.code() == Some(0) && one.stdout == first, "{format}: {}", String::from_utf8_lossy(&one.stderr));
    }
}

#[test]
fn what_can_not_be_compared_is_named() {
    let directory = directory("compare-missing");
    let base = write(&directory, "base", waits(1, 100_000.0));
    let without = write(&directory, "without", waits(2, 100_000.0).without("block"));
    let (code, json) = compared(&[&base, &without]);
    assert_eq!(code, Some(0));
    let missing = json["missing"].as_array().unwrap();
    let of_disk = missing.iter().find(|missing| missing["metrics"].as_array().unwrap().contains(&"disk_latency".into())).unwrap();
    assert!(of_disk["why"].as_str().unwrap().contains("without: block_io: not captured, because the probe block was off"), "{of_disk}");
    assert!(json["rows"].as_array().unwrap().iter().all(|row| row["metric"] != "disk_latency"));
    // Empty captures: nothing to compare, and that is an error.
    let empty = write(&directory, "empty", Builder::default());
    let empty2 = write(&directory, "empty2", Builder::default());
    let error = failure(&["compare", &empty, &empty2]);
    assert!(error.contains("nothing could be compared") && error.contains("record longer"), "{error}");
    let (code, json) = compared(&[&base, &empty]);
    assert_eq!((code, &row(&json, "runqlat", "", "p50")["verdict"]), (Some(0), &Value::from("too_few")));
    // A window of no length.
    let mut nothing = Builder::default();
    nothing.manifest.ended_ns = START;
    let nothing = write(&directory, "nothing", nothing);
    assert!(failure(&["compare", &base, &nothing]).contains("the window is empty"));
}

#[test]
fn other_hosts_kernels_and_windows_are_named() {
    let directory = directory("compare-hosts");
    let base = write(&directory, "base", waits(1, 100_000.0));
    let mut other = waits(2, 100_000.0);
    other.manifest.host.name = "other".to_owned();
    other.manifest.host.kernel = "6.12.0".to_owned();
    other.manifest.host.cpus = 64;
    other.manifest.recorder_version = "0.2.0".to_owned();
    other.manifest.ended_ns = START + LENGTH as i64 / 4;
    other.manifest.filters.insert("comm".to_owned(), vec!["app".to_owned()]);
    let other = write(&directory, "other", other);
    let (_, json) = compared(&[&base, &other]);
    let notes: Vec<&str> = json["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let notes = notes.join("\n");
    for expected in [
        "the host differs: base testhost, new other",
        "the kernel differs: base 6.1.0, new 6.12.0",
        "the number of CPUs differs: base 2, new 64",
        "the recorder's version differs: base 0.1.0, new 0.2.0",
        "the filter differs: base none, new comm app",
        "the windows are 2.50 s to 10.00 s long",
    ] {
        assert!(notes.contains(expected), "{expected}\n{notes}");
    }
    // A newer format is refused as everywhere.
    let mut newer = waits(2, 100_000.0);
    newer.manifest.format_version += 1;
    let newer = write(&directory, "newer", newer);
    assert!(failure(&["compare", &base, &newer]).contains("install the newest ebrec"));
}

#[test]
fn lost_events_widen_the_interval_and_are_named() {
    let directory = directory("compare-lost");
    let base = write(&directory, "base", waits(1, 100_000.0));
    let loss = |lost| session::Loss {
        ts: 5,
        end_ts: 10,
        cpu: 0,
        table_name: Some("sched_switch".to_owned()),
        reason: Some("ring full".to_owned()),
        lost,
    };
    let lossy = write(&directory, "lossy", waits(2, 100_000.0).rows(&[loss(10_000)]));
    let whole = write(&directory, "whole", waits(2, 100_000.0));
    let width = |json: &Value| {
        let row = row(json, "runqlat", "app", "p50");
        row["high"].as_f64().unwrap() - row["low"].as_f64().unwrap()
    };
    let (_, with) = compared(&[&base, &lossy]);
    let (_, without) = compared(&[&base, &whole]);
    assert!(width(&with) > 1.5 * width(&without), "{} {}", width(&with), width(&without));
    let notes = with["notes"].to_string();
    assert!(
        notes.contains("runqlat: 0.0 % of the events were lost in the base, 50.")
            && notes.contains("10,000 sched_switch records were lost"),
        "{notes}"
    );
    assert!(failure(&["compare", "--strict", &base, &lossy]).contains("records are missing"));
}

#[test]
fn three_events_are_too_few_for_anything() {
    let directory = directory("compare-few");
    let few = |name: &str, n: u64| {
        let fork = |nth: u64| process::ProcessFork {
            head: head(nth * LENGTH / n, task(100, 100, "sh")),
            child: task(101 + nth as u32, 101 + nth as u32, "sh"),
            is_thread: 0,
            ..zerocopy::FromZeros::new_zeroed()
        };
        write(&directory, name, waits(1, 1e5).rows(&(0..n).map(fork).collect::<Vec<_>>()))
    };
    let (three, none) = (few("three", 3), few("none", 0));
    for pair in [[&three, &none], [&none, &three], [&three, &few("four", 4)]] {
        let (code, json) = compared(&[pair[0], pair[1]]);
        assert_eq!((code, &row(&json, "forks", "", "rate")["verdict"]), (Some(0), &Value::from("too_few")));
    }
    // But what never happened before and now often does is told, without dividing by nothing.
    let (_, json) = compared(&[&none, &few("many", 500)]);
    let forks = row(&json, "forks", "", "rate");
    assert_eq!((&forks["base"], &forks["verdict"]), (&Value::from(0.0), &Value::from("changed")), "{forks}");
}

#[test]
fn conditions_decide_the_exit_code() {
    let directory = directory("compare-policy");
    let (base, slow) = (write(&directory, "base", waits(1, 100_000.0)), write(&directory, "slow", waits(3, 300_000.0)));
    let code = |conditions: &[&str]| {
        let options: Vec<&str> = conditions.iter().flat_map(|condition| ["--fail-on", condition]).collect();
        ebrec(&[&["compare"], &options[..], &[&base, "--", &slow]].concat()).status.code()
    };
    assert_eq!(code(&["runqlat.p50 > +100%"]), Some(1));
    assert_eq!(code(&["runqlat.p50 > +900%"]), Some(0));
    assert_eq!(code(&["runqlat.p50 > +900%", "runqlat{comm=app}.p50 > 200us"]), Some(1));
    assert_eq!(code(&["runqlat{comm=app}.p50 > 2ms"]), Some(0));
    assert_eq!(code(&["runqlat{comm=*} worse"]), Some(1));
    assert_eq!(code(&["context_switches.rate < -50%"]), Some(0));
    assert_eq!(code(&["worse"]), Some(1));
    let policy = directory.join("policy");
    std::fs::write(&policy, "# waits\nrunqlat.p50 > +100%   # twice\n\n").unwrap();
    let output = ebrec(&["compare", "--policy", policy.to_str().unwrap(), &base, "--", &slow]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("failed: runqlat.p50 > +100%: runqlat.p50 "));
    std::fs::write(&policy, "runqlat.p50 >> +100%\n").unwrap();
    assert!(failure(&["compare", "--policy", policy.to_str().unwrap(), &base, &slow]).contains("policy, line 1"));
    assert!(failure(&["compare", "--fail-on", "runqlot.p50 > +1%", &base, &slow]).contains("did you mean runqlat?"));
    assert!(failure(&["compare", "--fail-on", "runqlat.rate > +1%", &base, &slow]).contains("has no statistic rate"));
    assert!(failure(&["compare", "--fail-on", "runqlat ~ 5", &base, &slow]).contains("METRIC[{COLUMN=VALUE"));
    // A condition about what was not recorded is no pass.
    let without = write(&directory, "without", waits(2, 100_000.0).without("block"));
    assert!(failure(&["compare", "--fail-on", "disk_latency.p99 > +1%", &base, &without]).contains("was not measured"));
}

#[test]
fn programs_get_the_same_answer() {
    let directory = directory("compare-formats");
    let (base, slow) = (write(&directory, "base", waits(1, 100_000.0)), write(&directory, "slow", waits(3, 300_000.0)));
    let text = |format: &str| String::from_utf8(ebrec(&["compare", "--output", format, &base, &slow]).stdout).unwrap();
    let markdown = text("markdown");
    assert!(markdown.contains("| worse | `runqlat` | `comm=app` |"), "{markdown}");
    let junit = text("junit");
    assert!(
        junit.starts_with("<?xml")
            && junit.contains("<failure message=\"")
            && junit.contains("classname=\"runqlat\" name=\"comm=app p50\"")
    );
    let count = |what: &str| junit.matches(what).count();
    let alone = junit.lines().filter(|line| line.starts_with("    <testcase ") && line.ends_with("/>")).count();
    assert_eq!(count("<testcase "), count("</testcase>") + alone, "each case is closed");
    assert!(
        junit.contains(&format!("failures=\"{}\"", count("<failure "))) && junit.contains(&format!("tests=\"{}\"", count("<testcase ")))
    );
    let explained = String::from_utf8(ebrec(&["compare", "--explain", "runqlat", &base, &slow]).stdout).unwrap();
    assert!(explained.contains("BY COMM") && explained.contains("##") && explained.contains("p99.9"), "{explained}");
    let group = String::from_utf8(ebrec(&["compare", "--explain", "runqlat{comm=app}", &base, &slow]).stdout).unwrap();
    assert!(group.starts_with("runqlat, comm=app"), "{group}");
    assert!(failure(&["compare", "--explain", "runqlt", &base, &slow]).contains("did you mean runqlat?"));
    assert!(failure(&["compare", "--explain", "runqlat{comm=nobody}", &base, &slow]).contains("no group comm=nobody"));
    assert!(failure(&["compare", "--output", "parquet", &base, &slow]).contains("can't be written like this"));
    assert!(failure(&[&base, "tables", "--output", "junit"]).contains("only a comparison"));
}

#[test]
fn profiles_differ_in_a_flame_graph() {
    let directory = directory("compare-flame");
    let path = sample(&directory.join("small.ebrec"));
    let copy = directory.join("copy.ebrec");
    std::fs::copy(&path, &copy).unwrap();
    let (path, copy) = (path.to_str().unwrap(), copy.to_str().unwrap());
    let svg = stdout(&["compare", "--output", "flamegraph", path, copy]);
    assert!(svg.contains("<svg") && svg.contains("vfs_read"), "{svg}");
    let empty = write(&directory, "empty", waits(1, 1e5));
    assert!(failure(&["compare", "--output", "flamegraph", path, &empty]).contains("a side has no CPU samples"));
}

#[test]
fn a_baseline_stands_for_its_captures() {
    let directory = directory("compare-baseline");
    let captures: Vec<String> = (0..3).map(|nth| write(&directory, &format!("base{nth}"), waits(30 + nth, 100_000.0))).collect();
    let new = write(&directory, "new", waits(40, 300_000.0));
    let file = directory.join("nightly.baseline");
    let file = file.to_str().unwrap();
    stdout(&["baseline", "create", file, &captures[0], &captures[1]]);
    assert!(failure(&["baseline", "create", file, &captures[0]]).contains("the file exists"));
    stdout(&["baseline", "add", file, &captures[2]]);
    assert!(failure(&["baseline", "add", file, &captures[2]]).contains("base2 is in the baseline already"));
    let shown = stdout(&["baseline", "show", file]);
    assert!(
        shown.starts_with("nightly: 3 captures\n  base0: 2023-11-14 22:13:20.000 UTC, 10.00 s, host testhost, kernel 6.1.0, 2 CPUs;"),
        "{shown}"
    );
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions()) & 0o777, 0o600);
    let sizes = |paths: &[&str]| paths.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum::<u64>();
    assert!(sizes(&[file]) < sizes(&[&captures[0]]), "{} {}", sizes(&[file]), sizes(&[&captures[0]]));
    let of_captures = ebrec(&["compare", "--all", &captures[0], &captures[1], &captures[2], "--", &new]);
    let of_baseline = ebrec(&["compare", "--all", file, "--", &new]);
    assert_eq!(String::from_utf8(of_captures.stdout).unwrap(), String::from_utf8(of_baseline.stdout).unwrap());
    assert_eq!((of_captures.status.code(), of_baseline.status.code()), (Some(1), Some(1)));
    // What it can't do.
    assert!(failure(&["compare", "--from", "+1s", file, "--", &new]).contains("can't be narrowed"));
    assert!(failure(&["compare", "--output", "flamegraph", file, "--", &new]).contains("has no stacks"));
    // Another definition of a metric is another metric.
    let own = directory.join("own");
    std::fs::create_dir(&own).unwrap();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries/metrics/runqlat.sql")).unwrap();
    std::fs::write(own.join("runqlat.sql"), text.replace("next_pid <> 0", "next_pid > 1")).unwrap();
    let output = ebrec(&["compare", "--metrics", own.to_str().unwrap(), file, "--", &new]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("another definition of it; make the baseline anew"));
}

#[test]
fn a_damaged_baseline_is_refused() {
    let directory = directory("compare-damaged");
    let capture = write(&directory, "base", waits(30, 100_000.0));
    let file = directory.join("x.baseline");
    stdout(&["baseline", "create", file.to_str().unwrap(), &capture]);
    let good = std::fs::read(&file).unwrap();
    let json = zstd::decode_all(&good[17..]).unwrap();
    let text = String::from_utf8(json).unwrap();
    let packed = |text: &str| [b"ebrec-baseline 1\n".as_slice(), &zstd::encode_all(text.as_bytes(), 1).unwrap()].concat();
    let bad: [(&str, Vec<u8>); 6] = [
        ("cut", good[..good.len() / 2].to_vec()),
        ("no JSON", packed("{")),
        ("empty", packed("{\"name\":\"x\",\"captures\":[]}")),
        ("an impossible share", packed(&text.replace("\"lost\":0.0", "\"lost\":7.0"))),
        ("buckets out of order", packed(&text.replacen("\"sketch\":[[", "\"sketch\":[[60000,1],[", 1))),
        ("another version", [b"ebrec-baseline 2\n".as_slice(), &good[17..]].concat()),
    ];
    for (what, bytes) in bad {
        assert!(bytes != good, "{what}");
        std::fs::write(&file, bytes).unwrap();
        let error = failure(&["compare", file.to_str().unwrap(), &capture]);
        assert!(error.contains("x.baseline: ") && error.contains("make it anew"), "{what}: {error}");
    }
    std::fs::write(&file, b"something else").unwrap();
    assert!(failure(&["baseline", "show", file.to_str().unwrap()]).contains("not a baseline"));
}

#[test]
fn users_add_metrics() {
    let directory = directory("compare-own");
    let (base, new) = (write(&directory, "base", waits(1, 100_000.0)), write(&directory, "new", waits(2, 100_000.0)));
    let own = directory.join("own");
    std::fs::create_dir(&own).unwrap();
    let put = |text: &str| std::fs::write(own.join("mine.sql"), text).unwrap();
    let good = "-- Long waits\n--\n-- group: own\n-- needs: sched_switch\n-- metric: long_waits = share(long) lower : Waits of over 200 us.\n\
        SELECT ts, CASE WHEN next_waited_ns > 200000 THEN 1 ELSE 0 END AS long FROM sched_switch WHERE next_pid <> 0\n";
    put(good);
    let (_, json) = compared(&["--metrics", own.to_str().unwrap(), "--only", "long_waits", &base, &new]);
    let share = row(&json, "long_waits", "", "share")["base"].as_f64().unwrap();
    assert!((0.02..0.3).contains(&share), "{share}");
    for (text, expected) in [
        (good.replace("AS long", "AS lang"), "metrics/mine.sql: the statement gives no column long"),
        (good.replace("FROM sched_switch", "FROM sched_swatch"), "did you mean sched_switch?"),
        (good.replace("THEN 1 ELSE 0", "THEN 0.5 ELSE 0.1"), "values are whole numbers"),
        (good.replace("long_waits =", "runqlat ="), "there are two metrics runqlat"),
        (good.replace("SELECT ts", "DROP TABLE x; SELECT ts"), "metrics/mine.sql: "),
        (good.replace("share(long)", "shore(long)"), "mine.sql, line 5: expected NAME ="),
    ] {
        put(&text);
        let error = failure(&["compare", "--metrics", own.to_str().unwrap(), &base, &new]);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn wrong_arguments_say_what_to_do() {
    let directory = directory("compare-arguments");
    let base = write(&directory, "base", waits(1, 100_000.0));
    let absent: PathBuf = directory.join("absent.ebrec");
    assert!(failure(&["compare", &base]).contains("which captures are new?"));
    assert!(failure(&["compare", &base, &base, "--", &base]).contains("is given twice on a side"));
    assert!(failure(&["compare", &base, absent.to_str().unwrap()]).contains("absent.ebrec"));
    assert!(failure(&["compare", &base, "--", &base, "--all"]).contains("options go before --"));
    assert!(failure(&["compare", "--confidence", "100", &base, &base]).contains("below 100"));
    assert!(failure(&["compare", "--only", "runqlot", &base, &base]).contains("did you mean runqlat?"));
    assert!(failure(&[&base, "compare", &base]).contains("after its name"));
    assert!(failure(&["compare", "--metrics", "/nowhere", &base, &base]).contains("docs/METRICS.md"));
    let listed = stdout(&["compare", "--list"]);
    assert!(listed.lines().any(|line| line.starts_with("runqlat ")), "{listed}");
}
