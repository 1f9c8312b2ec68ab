//! The store by itself: every row that was sealed can be read at every step, in both layouts.

use super::*;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use ebrec_format::capture::{Capture, State};
use ebrec_format::events::session::Clock;
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::table::batch_of;

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("ebrec-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn output(&self) -> PathBuf {
        self.0.join("c.ebrec")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const START: i64 = 1_700_000_000_000_000_000;

fn rows(from: u64, len: u64) -> RecordBatch {
    let row = |n: u64| Clock { ts: n, boot_ns: n, mono_ns: n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, real_ns: 1 };
    batch_of(&(from..from + len).map(row).collect::<Vec<_>>(), &mut Context { boot_to_utc_ns: START, resolver: &mut NoResolver })
}

fn table(name: &str) -> usize {
    events::tables().position(|table| table.name == name).unwrap()
}

fn store(dir: &Dir, layout: Layout, max_size: u64) -> (Store, Arc<Gauge>) {
    let gauge = Arc::new(Gauge::default());
    let output = dir.output();
    let place = Place { output: &output, layout, force: false, max_size, stages: Stages::of(96 << 20) };
    (Store::create(&place, |_| true, gauge.clone()).unwrap(), gauge)
}

fn first_page() -> Manifest {
    Manifest { format_version: 1, started_ns: START, ended_ns: START + 1_000_000_000, boot_to_utc_ns: START, ..Manifest::default() }
}

/// The numbers in a capture's clocks, in the order in which they are there.
fn numbers(path: &Path) -> Vec<i64> {
    let capture = Capture::open(path).unwrap();
    let mut numbers = Vec::new();
    for segment in capture.segments("clock") {
        for batch in segment::decode(segment.read_all().unwrap()).unwrap() {
            numbers.extend(batch.column_by_name("boot_ns").unwrap().as_primitive::<Int64Type>().values());
        }
    }
    numbers
}

fn wait_for(store: &Store, number: i64) {
    let began = Instant::now();
    while !Capture::open(&store.partial).is_ok_and(|capture| !capture.segments("clock").is_empty())
        || !numbers(&store.partial).contains(&number)
    {
        assert!(began.elapsed() < Duration::from_secs(10), "{number} is not there");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn small_segments_are_merged_and_no_row_is_ever_missing() {
    for layout in [Layout::File, Layout::Dir] {
        let dir = Dir::new("merged");
        let (mut store, _) = store(&dir, layout, 1 << 30);
        let clock = table("clock");
        store.write_manifest(&first_page()).unwrap();
        let mut most = 0;
        for flush in 0..150 {
            store.write(clock, &rows(flush * 1500, 1500)).unwrap();
            store.seal(clock).unwrap();
            most = most.max(store.tables[clock].loose.len());
            if flush % 30 == 29 {
                wait_for(&store, (flush as i64 + 1) * 1500 - 1);
                let mut all = numbers(&store.partial);
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..(flush as i64 + 1) * 1500), "{layout:?}: {} rows after {flush} flushes", all.len());
            }
        }
        // Three of each level, and what has just been made of four.
        assert!((3..=12).contains(&most), "{most} loose segments");
        assert!(store.tables[clock].packed >= 1);
        let mut manifest = first_page();
        manifest.complete = true;
        let size = store.finish(&mut manifest).unwrap();
        assert!(!partial_path(&dir.output()).exists());
        let capture = Capture::open(&dir.output()).unwrap();
        assert_eq!((capture.state, capture.manifest.tables["clock"].rows), (State::Complete, 225_000));
        assert!(numbers(&dir.output()).into_iter().eq(0..225_000), "{layout:?}");
        if layout == Layout::File {
            assert_eq!(size, dir.output().metadata().unwrap().len());
        }
    }
}

#[test]
fn rows_that_replace_others_are_there_before_those_are_gone() {
    let dir = Dir::new("replace");
    let (mut store, _) = store(&dir, Layout::File, 1 << 30);
    let clock = table("clock");
    store.write_manifest(&first_page()).unwrap();
    store.replace(clock, &rows(5, 1)).unwrap();
    wait_for(&store, 5);
    for number in 6..12 {
        store.replace(clock, &rows(number, 1)).unwrap();
        // One of both, never none, never two.
        let found = numbers(&store.partial);
        assert!(found == [number as i64 - 1] || found == [number as i64], "{found:?}");
        wait_for(&store, number as i64);
    }
    store.write(clock, &rows(77, 3)).unwrap();
    store.replace(clock, &rows(99, 1)).unwrap();
    let mut manifest = first_page();
    store.finish(&mut manifest).unwrap();
    assert_eq!(numbers(&dir.output()), [99]);
    assert_eq!(manifest.tables["clock"].rows, 1);
}

#[test]
fn a_capture_never_exceeds_its_size_and_says_what_had_no_room() {
    let dir = Dir::new("size");
    let limit = 1_200_000;
    let (mut store, gauge) = store(&dir, Layout::File, limit);
    // A table of a probe: what the recorder itself says always has room.
    let wakeup = table("sched_wakeup");
    let builder = events::tables().nth(wakeup).unwrap().builder;
    let mut random = 1_u64;
    let mut batch = |store: &mut Store| {
        let mut sink = builder();
        for _ in 0..4000 {
            let record: Vec<u8> = (0..512)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 40) as u8
                })
                .collect();
            assert!(sink.append_record(&record, &mut Context { boot_to_utc_ns: START, resolver: &mut NoResolver }));
        }
        let rows = sink.finish(&mut Context { boot_to_utc_ns: START, resolver: &mut NoResolver });
        store.write(wakeup, &rows).unwrap();
    };
    let mut written = 0;
    while !gauge.full.load(Ordering::Acquire) {
        batch(&mut store);
        written += 4000;
    }
    assert!(store.sealed > limit / 3, "it is full with {} bytes", store.sealed);
    // A pipeline that is full of rows when it hears that it shall stop.
    for _ in 0..40 {
        batch(&mut store);
        written += 4000;
    }
    let mut manifest = first_page();
    let size = store.finish(&mut manifest).unwrap();
    assert!(size <= limit, "{size}");
    let state = &manifest.tables["sched_wakeup"];
    assert_eq!(state.rows + state.lost, written);
    assert!(state.lost > 0);
    let capture = Capture::open(&dir.output()).unwrap();
    let loss: usize = capture.segments("loss").iter().flat_map(|segment| segment.rows(10)).map(|batch: RecordBatch| batch.num_rows()).sum();
    assert_eq!(loss, 1);
}

#[test]
fn a_size_without_room_for_a_row_is_refused() {
    let dir = Dir::new("tiny");
    let output = dir.output();
    let place = Place { output: &output, layout: Layout::File, force: false, max_size: 10_000, stages: Stages::of(96 << 20) };
    let error = Store::create(&place, |_| true, Arc::default()).err().unwrap();
    assert!(error.to_string().contains("--max-size 10000"), "{error}");
    assert!(!partial_path(&output).exists());
}

#[test]
fn what_is_given_up_stays_readable() {
    for layout in [Layout::File, Layout::Dir] {
        let dir = Dir::new("aborted");
        let (mut store, gauge) = store(&dir, layout, 1 << 30);
        let clock = table("clock");
        store.write_manifest(&first_page()).unwrap();
        store.write(clock, &rows(0, 1000)).unwrap();
        store.seal(clock).unwrap();
        wait_for(&store, 999);
        gauge.abort.store(true, Ordering::Release);
        assert!(store.finish(&mut first_page()).is_err());
        assert!(!dir.output().exists());
        assert!(numbers(&partial_path(&dir.output())).into_iter().eq(0..1000));
    }
}

#[test]
fn the_old_capture_is_there_until_the_new_one_is() {
    for (old, new) in [(Layout::File, Layout::File), (Layout::Dir, Layout::File), (Layout::File, Layout::Dir), (Layout::Dir, Layout::Dir)] {
        let dir = Dir::new("force");
        let clock = table("clock");
        let make = |layout, number, finish: bool| {
            let (output, gauge) = (dir.output(), Arc::default());
            let mut store = Store::create(
                &Place { output: &output, layout, force: true, max_size: 1 << 30, stages: Stages::of(96 << 20) },
                |_| true,
                gauge,
            )
            .unwrap();
            store.write(clock, &rows(number, 1)).unwrap();
            store.write_manifest(&first_page()).unwrap();
            if finish {
                store.finish(&mut first_page()).unwrap();
            } else {
                store.abandon(&first_page()).unwrap();
            }
        };
        make(old, 1, true);
        // Killed twice: neither the capture nor what the killed ones had is gone.
        make(new, 2, false);
        make(new, 3, false);
        assert_eq!(numbers(&dir.output()), [1]);
        assert_eq!(numbers(&dir.0.join("c.ebrec.partial")), [3]);
        assert_eq!(numbers(&dir.0.join("c.ebrec.partial.old")), [2]);
        make(new, 4, true);
        assert_eq!(numbers(&dir.output()), [4]);
        // Removed is what this recording put aside, and nothing else.
        let mut left: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["c.ebrec", "c.ebrec.partial.old"], "{old:?} {new:?}");
    }
}

#[test]
fn a_recording_that_goes_on_is_not_put_aside() {
    let dir = Dir::new("running");
    let (_running, _) = store(&dir, Layout::File, 1 << 30);
    let output = dir.output();
    let place = Place { output: &output, layout: Layout::File, force: true, max_size: 1 << 30, stages: Stages::of(96 << 20) };
    let error = Store::create(&place, |_| true, Arc::default()).err().unwrap();
    assert!(error.to_string().contains("another recorder"), "{error}");
}

/// A large segment among loose ones, late rows, and a capture whose manifest is lost.
#[test]
fn a_capture_without_its_manifest_is_what_its_segments_say() {
    let dir = Dir::new("rebuilt");
    let (mut store, _) = store(&dir, Layout::File, 1 << 30);
    let clock = table("clock");
    for flush in [3_u64, 1, 2] {
        store.write(clock, &rows(flush * 100_000, 70_000 / flush)).unwrap();
        store.seal(clock).unwrap();
    }
    store.write(clock, &rows(500_000, 10)).unwrap();
    store.write(clock, &rows(400_000, 10)).unwrap();
    store.seal(clock).unwrap();
    wait_for(&store, 500_009);
    let capture = Capture::open(&store.partial).unwrap();
    assert_eq!(capture.manifest.started_ns, START + 100_000);
    assert_eq!(capture.manifest.ended_ns, START + 500_009);
    assert_eq!(capture.manifest.tables["clock"].rows, 70_000 + 35_000 + 23_333 + 20);
    assert_eq!(capture.state, State::Partial);
    assert!(capture.remarks.iter().any(|remark| remark.contains("no manifest")), "{:?}", capture.remarks);
    assert_eq!(numbers(&store.partial).len(), 70_000 + 35_000 + 23_333 + 20);
}

/// A reader that begins anew all the time, while segments are merged, packed, and the capture gets its name.
#[test]
fn a_read_while_recording_never_has_fewer_rows_than_the_one_before() {
    for layout in [Layout::File, Layout::Dir] {
        let dir = Dir::new("live");
        let (mut store, _) = store(&dir, layout, 1 << 30);
        let clock = table("clock");
        store.write_manifest(&first_page()).unwrap();
        let (partial, output) = (store.partial.clone(), dir.output());
        let reader = std::thread::spawn(move || {
            let (mut before, mut reads) = (0, 0);
            while !output.exists() {
                // When the recording has just ended there is nothing to open, which is an error, not an answer.
                let Ok(capture) = Capture::open(&partial) else { continue };
                let rows: usize =
                    capture.segments("clock").iter().flat_map(|s| s.rows(1 << 20)).map(|batch: RecordBatch| batch.num_rows()).sum();
                assert!(rows >= before, "{layout:?}: {rows} rows after {before}");
                (before, reads) = (rows, reads + 1);
            }
            (before, reads)
        });
        for flush in 0..120 {
            store.write(clock, &rows(flush * 1000, 1000)).unwrap();
            store.seal(clock).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        store.finish(&mut first_page()).unwrap();
        let (seen, reads) = reader.join().unwrap();
        assert!(seen > 0 && reads > 3, "{reads} reads saw {seen} rows");
    }
}
