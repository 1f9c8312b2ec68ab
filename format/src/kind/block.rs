//! Block devices, and what is asked of them.

use super::columns::Interned;
use super::info::TEXT;
use super::words::word_kinds;
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::text;
use crate::wire::NULL32;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Name of a block device below /dev, NUL-padded (`gendisk.disk_name`). Null: a queue without a disk.
#[derive(Debug, Default)]
pub struct DiskName(Interned<[u8; 32]>);

impl Kind for DiskName {
    type Value = [u8; 32];
    type Builder = DiskName;
    const PARTS: Parts = &[("", "", &TEXT)];
}

impl WireKind for DiskName {
    const C: (&'static str, &'static str) = ("char", "[32]");
}

impl Build<[u8; 32]> for DiskName {
    fn append(&mut self, name: &[u8; 32], _: &mut Context<'_>) {
        self.0.push(*name, || (name[0] != 0).then(|| text::c_str(name).into_owned()));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.0.take()));
    }
}

word_kinds! {
    /// Number of a block device, `major:minor` as lsblk prints it. Null: a queue without a disk.
    BlockDevice: |dev| (dev != 0).then(|| format!("{}:{}", dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1)));
    /// What is asked of a block device, by the names of `enum req_op` (include/linux/blk_types.h).
    BlockOp: |op| Some(BLOCK_OPS.iter().find(|(number, _)| *number == op).map_or_else(|| format!("op_{op}"), |(_, name)| (*name).to_owned()));
    /// Flags of a request (`enum req_flag_bits`), joined by `|`: sync, meta, prio, fua, preflush, readahead, background, nowait, polled,
    /// swap, atomic.
    BlockFlags: |flags| Some(block_flags(flags));
    /// What a row is about: a `request`, which is what a driver gets and iostat counts, or a `bio`, where a device takes these itself.
    BlockLayer: |layer| Some(if layer == 0 { "request" } else { "bio" }.to_owned());
}

/// `MINORBITS` of include/linux/kdev_t.h.
const MINOR_BITS: u32 = 20;

/// `enum req_op` as of Linux 6.0, and the three operations that were there before.
const BLOCK_OPS: [(u32, &str); 17] = [
    (0, "read"),
    (1, "write"),
    (2, "flush"),
    (3, "discard"),
    (5, "secure_erase"),
    (7, "zone_append"),
    (9, "write_zeroes"),
    (11, "zone_open"),
    (13, "zone_close"),
    (15, "zone_finish"),
    (17, "zone_reset"),
    (19, "zone_reset_all"),
    (21, "write_same"),
    (32, "scsi_in"),
    (33, "scsi_out"),
    (34, "drv_in"),
    (35, "drv_out"),
];

/// By the bits of `enum block_flags` in bpf/core_fixes.h.
const BLOCK_FLAGS: [&str; 11] =
    ["sync", "meta", "prio", "fua", "preflush", "readahead", "background", "nowait", "polled", "swap", "atomic"];

fn block_flags(flags: u32) -> String {
    let set = BLOCK_FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::NoResolver;
    use arrow::array::AsArray;

    fn texts<V, B: Build<V> + Default>(values: &[V]) -> Vec<Option<String>> {
        let mut builder = B::default();
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        values.iter().for_each(|value| builder.append(value, &mut context));
        let mut out = Vec::new();
        builder.finish(&mut context, &mut out);
        let array = arrow::compute::cast(&out[0], &DataType::Utf8);
        array.iter().flat_map(AsArray::as_string::<i32>).map(|text| text.map(str::to_owned)).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn numbers_become_words() {
        assert_eq!(texts::<_, BlockDevice>(&[7 << 20 | 3, 259 << 20 | 70_000]), some(&["7:3", "259:70000"]));
        assert_eq!(texts::<_, BlockDevice>(&[0, NULL32]), [None, None]);
        assert_eq!(texts::<_, BlockOp>(&[0, 9, 35, 40]), some(&["read", "write_zeroes", "drv_out", "op_40"]));
        assert_eq!(texts::<_, BlockFlags>(&[0, 1, 0b1_1001]), some(&["", "sync", "sync|fua|preflush"]));
        let mut name = [0; 32];
        name[..4].copy_from_slice(b"sda1");
        assert_eq!(texts::<_, DiskName>(&[name, [0; 32]]), [Some("sda1".to_owned()), None]);
    }
}
