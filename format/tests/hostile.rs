//! Captures that somebody made to do harm: refused with a reason, or read within bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ebrec_format::capture::{Capture, LOOSE, OpenError, PACK, State};
use ebrec_format::manifest::{FORMAT_VERSION, MANIFEST, Manifest};
use ebrec_format::pack::PackWriter;
use ebrec_format::{events, segment};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("ebrec-hostile-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens within half a minute, on a machine that does other things as well, or the test fails.
fn open(path: &Path) -> Result<Capture, OpenError> {
    let (send, receive) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || drop(send.send(Box::new(Capture::open(&path)))));
    *receive.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("it hangs"))
}

fn refused(path: &Path, words: &str) {
    match open(path) {
        Err(error) => assert!(error.to_string().contains(words), "'{words}' is not in: {error}"),
        Ok(capture) => panic!("expected '{words}', got a capture with {:?}", capture.tables().collect::<Vec<_>>()),
    }
}

fn manifest() -> Vec<u8> {
    let first_page = Manifest { format_version: FORMAT_VERSION, started_ns: 10, ended_ns: 20, complete: true, ..Manifest::default() };
    serde_json::to_vec(&first_page).unwrap()
}

fn parquet(table: &str) -> Vec<u8> {
    segment::encode(events::table(table).unwrap(), &[]).unwrap()
}

/// An entry of a ZIP file, with whatever lies.
struct Lie {
    name: Vec<u8>,
    bytes: Vec<u8>,
    method: u16,
    /// In the directory, instead of the truth.
    size: Option<u32>,
    uncompressed: Option<u32>,
    offset: Option<u32>,
    crc: Option<u32>,
}

fn entry(name: &str, bytes: &[u8]) -> Lie {
    Lie { name: name.as_bytes().to_vec(), bytes: bytes.to_vec(), method: 0, size: None, uncompressed: None, offset: None, crc: None }
}

fn page() -> Lie {
    entry(MANIFEST, &manifest())
}

/// A ZIP file. `count` is how many entries its end says it has.
fn zip(entries: &[Lie], count: Option<u16>) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    let put = |out: &mut Vec<u8>, fields: &[&[u8]]| fields.iter().for_each(|field| out.extend_from_slice(field));
    for e in entries {
        let at = out.len() as u32;
        let (crc, len) = (crc32(&e.bytes), e.bytes.len() as u32);
        let name = (e.name.len() as u16).to_le_bytes();
        put(&mut out, &[b"PK\x03\x04", &20_u16.to_le_bytes(), &[0; 2], &e.method.to_le_bytes(), &[0; 4]]);
        put(&mut out, &[&crc.to_le_bytes(), &len.to_le_bytes(), &len.to_le_bytes(), &name, &[0; 2], &e.name, &e.bytes]);
        let size = e.size.unwrap_or(len);
        put(&mut central, &[b"PK\x01\x02", &20_u16.to_le_bytes(), &20_u16.to_le_bytes(), &[0; 2], &e.method.to_le_bytes(), &[0; 4]]);
        put(&mut central, &[&e.crc.unwrap_or(crc).to_le_bytes(), &size.to_le_bytes(), &e.uncompressed.unwrap_or(size).to_le_bytes()]);
        put(&mut central, &[&name, &[0; 12], &e.offset.unwrap_or(at).to_le_bytes(), &e.name]);
    }
    let (at, size) = (out.len() as u32, central.len() as u32);
    let count = count.unwrap_or(entries.len() as u16).to_le_bytes();
    out.extend_from_slice(&central);
    put(&mut out, &[b"PK\x05\x06", &[0; 4], &count, &count, &size.to_le_bytes(), &at.to_le_bytes(), &[0; 2]]);
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())))
        ^ !0
}

#[test]
fn the_tests_own_zip_files_are_read() {
    let place = Place::new("plain");
    let bytes = zip(&[entry("loss/000001-000001.parquet", &parquet("loss")), page()], None);
    let capture = open(&place.file("c.ebrec", &bytes)).unwrap();
    assert_eq!((capture.tables().collect::<Vec<_>>(), capture.state), (vec!["loss"], State::Complete));
    // As zip -0 -r makes it of an unpacked one: with the folders, and what else is there.
    let bytes = zip(&[entry("loss/", b""), entry("loss/000001-000001.parquet", &parquet("loss")), entry("README.txt", b"x"), page()], None);
    let capture = open(&place.file("d.ebrec", &bytes)).unwrap();
    assert!(capture.remarks.is_empty(), "{:?}", capture.remarks);
}

#[test]
fn archives_that_lie_are_refused() {
    let place = Place::new("zip");
    let name = "loss/000001-000001.parquet";
    let file = || entry(name, &parquet("loss"));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("twice", zip(&[file(), file(), page()], None), "is in it twice"),
        (
            "overlap",
            zip(&[file(), Lie { offset: Some(0), ..entry("loss/000002-000002.parquet", &parquet("loss")) }, page()], None),
            "overlap",
        ),
        ("manifests", zip(&[page(), page()], None), "is in it twice"),
        ("size", zip(&[page(), Lie { size: Some(0x7fff_0000), ..file() }], None), "copied completely"),
        ("offset", zip(&[page(), Lie { offset: Some(0x7fff_0000), ..file() }], None), "copied completely"),
        ("method", zip(&[page(), Lie { method: 8, ..file() }], None), "is compressed"),
        ("bomb", zip(&[page(), Lie { uncompressed: Some(u32::MAX - 1), ..file() }], None), "is compressed"),
        ("checksum", zip(&[Lie { crc: Some(7), ..page() }], None), "checksum"),
        ("name", zip(&[page(), entry(&"x".repeat(60_000), b"")], None), "name has 60000 bytes"),
        ("none", zip(&[], None), "manifest.json"),
        ("empty", zip(&[entry(MANIFEST, b"{}")], None), "manifest.json"),
        ("list", zip(&[entry(MANIFEST, b"[]")], None), "manifest.json"),
        ("null", zip(&[entry(MANIFEST, b"null")], None), "manifest.json"),
        ("deep", zip(&[entry(MANIFEST, format!("{{\"notes\":{}", "[".repeat(500_000)).as_bytes())], None), "manifest.json"),
    ];
    for (what, bytes, words) in cases {
        refused(&place.file(&format!("{what}.ebrec"), &bytes), words);
    }
    // What is told of a name can't do anything to a terminal.
    let forged = zip(&[page(), entry("\u{1b}[2J", b"a"), entry("\u{1b}[2J", b"b")], None);
    let error = open(&place.file("escape.ebrec", &forged)).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && error.contains("twice"), "{error}");
    // More than there are, or fewer.
    for count in [0, 1, 9, u16::MAX - 1] {
        let path = place.file("count.ebrec", &zip(&[file(), page()], Some(count)));
        if let Ok(capture) = open(&path) {
            assert!(capture.tables().count() <= 1);
        }
    }
}

/// The same archive with 64-bit fields, as one beyond 4 GiB has them.
fn with_64_bits(whole: &[u8]) -> Vec<u8> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(whole[at..at + 2].try_into().unwrap()));
    let end = whole.len() - 22;
    let count = u16_at(end + 10);
    let central = u32::from_le_bytes(whole[end + 16..end + 20].try_into().unwrap()) as usize;
    let mut bytes = whole[..central].to_vec();
    let mut at = central;
    for _ in 0..count {
        let name = u16_at(at + 28);
        let mut header = whole[at..at + 46 + name].to_vec();
        header[30] = 12;
        let begins: [u8; 4] = header[42..46].try_into().unwrap();
        header[42..46].fill(0xff);
        bytes.extend([header.as_slice(), &[1, 0, 8, 0], &begins, &[0; 4]].concat());
        at += 46 + name;
    }
    let end_64 = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06".iter().chain(&44_u64.to_le_bytes()).chain(&[45, 3, 45, 0]).chain(&[0; 8]));
    for field in [count as u64, count as u64, end_64 - central as u64, central as u64] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07".iter().chain(&[0; 4]).chain(&end_64.to_le_bytes()).chain(&[1, 0, 0, 0]));
    bytes.extend(b"PK\x05\x06".iter().chain(&[0; 4]).chain(&[0xff; 12]).chain(&[0; 2]));
    bytes
}

#[test]
fn a_zip64_end_that_lies_is_refused() {
    let place = Place::new("zip64");
    let path = place.0.join("c.ebrec");
    let mut pack = PackWriter::new(std::fs::File::create(&path).unwrap());
    pack.append("loss/000001-000001.parquet", &parquet("loss")).unwrap();
    pack.append(MANIFEST, &manifest()).unwrap();
    drop(pack.finish().unwrap());
    assert_eq!(open(&path).unwrap().tables().count(), 1);
    let whole = with_64_bits(&std::fs::read(&path).unwrap());
    assert_eq!(open(&place.file("whole.ebrec", &whole)).unwrap().tables().count(), 1);
    let find = |signature: &[u8; 4]| whole.windows(4).rposition(|window| window == signature).unwrap();
    // In the end: counts, size and place of the directory; in the locator: place of the end; in an entry: where it begins.
    let (end, locator, central) = (find(b"PK\x06\x06"), find(b"PK\x06\x07"), find(b"PK\x01\x02"));
    let name = usize::from(u16::from_le_bytes([whole[central + 28], whole[central + 29]]));
    for at in [end + 4, end + 24, end + 32, end + 40, end + 48, locator + 8, central + 46 + name + 4] {
        for lie in [0, 1, 1 << 32, u64::MAX / 2, u64::MAX - 7, u64::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            // What still opens has no more than there is.
            if let Ok(capture) = open(&place.file("lie.ebrec", &bytes)) {
                assert!(capture.segments("loss").iter().all(|segment| segment.len <= whole.len() as u64), "{lie} at {at}");
            }
        }
    }
}

#[test]
fn names_that_lead_elsewhere_lead_nowhere() {
    let place = Place::new("names");
    let names = [
        "../loss/000001-000001.parquet",
        "/loss/000001-000001.parquet",
        "..\\loss/000001-000001.parquet",
        "\u{1b}]0;x\u{7}/000001-000001.parquet",
    ];
    let entries: Vec<Lie> = names.iter().map(|name| entry(name, &parquet("loss"))).chain([page()]).collect();
    let capture = open(&place.file("c.ebrec", &zip(&entries, None))).unwrap();
    assert_eq!(capture.tables().count(), 0);
    assert_eq!(capture.remarks, ["4 Parquet files in it have no name of a segment; they are left out"]);
}

#[test]
fn a_million_entries_are_not_read() {
    let place = Place::new("many");
    // Each as small as can be; the names have to differ.
    let entries: Vec<Lie> = (0..300_000).map(|i| entry(&format!("{i}"), b"")).collect();
    refused(&place.file("c.ebrec", &zip(&entries, Some(u16::MAX))), "");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_and_never_waited_for() {
    use std::os::unix::fs::symlink;
    let fifo = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let place = Place::new("fifo");
    fifo(&place.0.join("c.ebrec"));
    refused(&place.0.join("c.ebrec"), "FIFO");
    refused(Path::new("/dev/zero"), "device");
    for name in [MANIFEST, PACK, "loss/000001-000001.parquet", "loose/loss.000001-000001.parquet"] {
        for (kind, words) in [("fifo", "FIFO"), ("zero", "symbolic link"), ("link", "symbolic link"), ("dir", "directory")] {
            let dir = Place::new("inside");
            dir.file(MANIFEST, &manifest());
            dir.file("loss/000009-000009.parquet", &parquet("loss"));
            std::fs::create_dir_all(dir.0.join(LOOSE)).unwrap();
            let path = dir.0.join(name);
            let _ = std::fs::remove_file(&path);
            match kind {
                "fifo" => fifo(&path),
                "zero" => symlink("/dev/zero", &path).unwrap(),
                // A good one, but not ours to read.
                "link" => symlink(place.file("other.parquet", &parquet("loss")), &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            refused(&dir.0, words);
        }
    }
    // A folder that is a link is none.
    let dir = Place::new("folder");
    dir.file(MANIFEST, &manifest());
    place.file("elsewhere/000001-000001.parquet", &parquet("loss"));
    symlink(place.0.join("elsewhere"), dir.0.join("loss")).unwrap();
    assert_eq!(open(&dir.0).unwrap().tables().count(), 0);
}

#[test]
fn a_manifest_has_a_largest_size() {
    let place = Place::new("size");
    let file = std::fs::File::create(place.0.join(MANIFEST)).unwrap();
    file.set_len(1 << 40).unwrap();
    refused(&place.0, "more than");
}

#[test]
fn a_directory_without_a_manifest_says_what_its_segments_say() {
    let place = Place::new("rebuilt");
    std::fs::create_dir_all(place.0.join(LOOSE)).unwrap();
    refused(&place.0, "killed before it had sealed anything");
    // As a power loss leaves a manifest that was not synced: empty, or of zeros.
    for torn in [&b""[..], &[0; 300]] {
        place.file(MANIFEST, torn);
        refused(&place.0, "killed before it had sealed anything");
    }
    place.file("loose/loss.000001-000001.parquet", &parquet("loss"));
    refused(&place.0, "neither a manifest nor a row");
}

#[test]
fn torn_segments_are_left_out_with_a_remark() {
    let place = Place::new("torn");
    place.file(MANIFEST, &manifest());
    place.file("loose/loss.000001-000001.parquet", &parquet("loss"));
    for (number, torn) in [&b""[..], b"PAR1", &[0; 4000], &parquet("loss")[..200]].into_iter().enumerate() {
        place.file(&format!("loose/loss.{0:06}-{0:06}.parquet", number + 2), torn);
    }
    place.file("loose/loss.000009-000009.tmp", b"being written");
    let capture = open(&place.0).unwrap();
    assert_eq!((capture.segments("loss").len(), capture.remarks.len(), capture.state), (1, 4, State::Partial), "{:?}", capture.remarks);
}

/// More files than a process may have open.
#[test]
fn thousands_of_segments_are_read() {
    let place = Place::new("thousands");
    place.file(MANIFEST, &manifest());
    let bytes = parquet("loss");
    for number in 1..=1500 {
        place.file(&format!("loss/{number:06}-{number:06}.parquet"), &bytes);
    }
    let capture = open(&place.0).unwrap();
    assert_eq!(capture.segments("loss").len(), 1500);
    assert!(capture.segments("loss").iter().all(|segment| segment.read_all().unwrap() == bytes));
}

mod parquet_files {
    //! Parquet whose footer lies.

    use super::{Place, manifest, open};
    use ebrec_format::capture::Segment;
    use ebrec_format::events::session::Clock;
    use ebrec_format::footer::checked;
    use ebrec_format::kind::{Context, NoResolver};
    use ebrec_format::manifest::MANIFEST;
    use ebrec_format::segment;
    use ebrec_format::table::{Row, batch_of};
    use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};
    use std::sync::Arc;

    fn clocks() -> Vec<u8> {
        let row = |n: u64| Clock { ts: n, boot_ns: n, mono_ns: n, real_ns: n };
        let batch = batch_of(&(0..1000).map(row).collect::<Vec<_>>(), &mut Context { boot_to_utc_ns: 0, resolver: &mut NoResolver });
        segment::encode(Clock::table(), &[batch]).unwrap()
    }

    fn footer(bytes: &[u8]) -> ParquetMetaData {
        ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(bytes.to_vec())).unwrap()
    }

    /// The file with another footer.
    fn with_footer(bytes: &[u8], metadata: &ParquetMetaData) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let mut end = Vec::new();
        ParquetMetaDataWriter::new(&mut end, metadata).finish().unwrap();
        out.extend(end);
        out
    }

    fn group(metadata: &ParquetMetaData, change: impl Fn(RowGroupMetaData) -> RowGroupMetaData) -> ParquetMetaData {
        let groups = metadata.row_groups().iter().cloned().map(change).collect();
        metadata.clone().into_builder().set_row_groups(groups).set_column_index(None).set_offset_index(None).build()
    }

    fn column(metadata: &ParquetMetaData, change: impl Fn(ColumnChunkMetaData) -> ColumnChunkMetaData) -> ParquetMetaData {
        group(metadata, |group| {
            let columns = group.columns().iter().cloned().map(&change).collect();
            group.into_builder().set_column_metadata(columns).build().unwrap()
        })
    }

    fn segment_of(place: &Place, bytes: &[u8]) -> Segment {
        place.file(MANIFEST, &manifest());
        place.file("clock/000001-000001.parquet", bytes);
        open(&place.0).unwrap().segments("clock")[0].clone()
    }

    fn rows(segment: &Segment) -> usize {
        segment.rows(1 << 20).iter().map(arrow::array::RecordBatch::num_rows).sum()
    }

    #[test]
    fn footers_that_contradict_themselves_are_refused() {
        let place = Place::new("footer");
        let whole = clocks();
        let truth = footer(&whole);
        assert_eq!(rows(&segment_of(&place, &whole)), 1000);
        let same = with_footer(&whole, &group(&truth, |group| group));
        assert_eq!(rows(&segment_of(&place, &same)), 1000, "the test's own footers are read");
        let lies: Vec<(&str, ParquetMetaData)> = vec![
            ("many rows", group(&truth, |group| group.into_builder().set_num_rows(i64::MAX).build().unwrap())),
            ("negative rows", group(&truth, |group| group.into_builder().set_num_rows(-1).build().unwrap())),
            ("few rows", group(&truth, |group| group.into_builder().set_num_rows(7).build().unwrap())),
            ("no group", truth.clone().into_builder().set_row_groups(Vec::new()).build()),
            ("values", column(&truth, |column| column.into_builder().set_num_values(1 << 40).build().unwrap())),
            ("size", column(&truth, |column| column.into_builder().set_total_compressed_size(i64::MAX / 16).build().unwrap())),
            ("negative size", column(&truth, |column| column.into_builder().set_total_compressed_size(-5).build().unwrap())),
            ("four gibibytes", column(&truth, |column| column.into_builder().set_total_uncompressed_size(4 << 30).build().unwrap())),
            ("offset", column(&truth, |column| column.into_builder().set_data_page_offset(i64::MAX - 3).build().unwrap())),
            ("negative offset", column(&truth, |column| column.into_builder().set_data_page_offset(-1).build().unwrap())),
            ("dictionary", column(&truth, |column| column.into_builder().set_dictionary_page_offset(Some(1 << 50)).build().unwrap())),
            ("another file", column(&truth, |column| column.into_builder().set_file_path("/etc/passwd".to_owned()).build().unwrap())),
        ];
        for (what, lie) in lies {
            assert!(checked(&Arc::new(lie.clone()), whole.len() as u64).is_err(), "{what}");
            // A file with it is a segment of which nothing can be read.
            assert_eq!(rows(&segment_of(&place, &with_footer(&whole, &lie))), 0, "{what}");
        }
    }

    #[test]
    fn a_spoiled_arrow_schema_is_not_even_read() {
        let place = Place::new("schema");
        let whole = clocks();
        let key = b"ARROW:schema";
        let at = whole.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        let mut spoiled = 0;
        for place_of in (at..whole.len() - 60).step_by(5) {
            if !whole[place_of].is_ascii_alphanumeric() {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[place_of] = b'A';
            let found = rows(&segment_of(&place, &bytes));
            assert!(found == 1000 || found == 0, "byte {place_of}: {found} rows");
            spoiled += usize::from(found == 1000);
        }
        assert!(spoiled > 100, "{spoiled} copies were read, whatever their Arrow schema says");
    }

    /// A page of a few bytes that says it has two gibibytes: it must not be believed before it is unpacked.
    #[test]
    fn flipped_bytes_take_neither_long_nor_much() {
        let place = Place::new("flipped");
        let whole = clocks();
        let began = std::time::Instant::now();
        for at in (4..whole.len()).step_by(whole.len() / 300 + 1) {
            for value in [0xff, 0x7f, 0] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                place.file(MANIFEST, &manifest());
                place.file("clock/000001-000001.parquet", &bytes);
                if let Some(segment) = open(&place.0).unwrap().segments("clock").first() {
                    assert!(rows(segment) <= 1000, "byte {at}");
                }
            }
        }
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    }
}
