//! Words of the tables about files.

use super::columns::Interned;
use super::words::word_kinds;
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::wire::NULL32;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use std::sync::Arc;

word_kinds! {
    /// Flags of open(2), by name.
    OpenFlags: |flags| Some(open_flags(flags));
    /// Permissions of a file, octal.
    FileMode: |mode| Some(format!("{mode:04o}"));
}

static WORD: KindInfo = KindInfo { name: "Word", arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary };

/// What a call did with a file, and which call it was: columns `op, call`.
#[derive(Debug, Default)]
pub struct FileOp {
    op: Interned<u32>,
    call: Interned<u32>,
}

impl Kind for FileOp {
    type Value = u32;
    type Builder = FileOp;
    const PARTS: Parts = &[
        ("op", "What was done: read, write, open, sync or truncate.", &WORD),
        ("call", "The system call that did it: read, pwrite64, sendfile, fdatasync, …; io_uring is none, but may do the same.", &WORD),
    ];
}

impl WireKind for FileOp {
    const C: (&'static str, &'static str) = ("__u32", "");
}

impl Build<u32> for FileOp {
    #[inline]
    fn append(&mut self, value: &u32, _: &mut Context<'_>) {
        let word = |words: &[&str], place: u32| words.get((place as usize).wrapping_sub(1)).map(|&word| word.to_owned());
        self.op.push(value >> 16, || word(&FILE_OPS, value >> 16));
        self.call.push(value & 0xffff, || word(&FILE_CALLS, value & 0xffff));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.op.take()));
        out.push(Arc::new(self.call.take()));
    }
}

/// `enum file_op` of bpf/file.bpf.c, from 1.
const FILE_OPS: [&str; 5] = ["read", "write", "open", "sync", "truncate"];

/// `enum file_call` of bpf/file.bpf.c, from 1.
const FILE_CALLS: [&str; 23] = [
    "read",
    "write",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "sendfile",
    "copy_file_range",
    "splice",
    "open",
    "creat",
    "openat",
    "openat2",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "truncate",
    "ftruncate",
    "io_uring",
];

/// Four flags of open(2) differ by architecture (arch/arm64/include/uapi/asm/fcntl.h): directory, nofollow, direct, largefile.
#[cfg(target_arch = "aarch64")]
const O_OWN: [u32; 4] = [0o040_000, 0o100_000, 0o200_000, 0o400_000];
#[cfg(not(target_arch = "aarch64"))]
const O_OWN: [u32; 4] = [0o200_000, 0o400_000, 0o040_000, 0o100_000];

/// Flags of open(2) (include/uapi/asm-generic/fcntl.h), those first that contain others.
const OPEN_FLAGS: [(u32, &str); 17] = [
    (0o20_000_000 | O_OWN[0], "O_TMPFILE"),
    (0o4_010_000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1_000, "O_TRUNC"),
    (0o2_000, "O_APPEND"),
    (0o4_000, "O_NONBLOCK"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (O_OWN[0], "O_DIRECTORY"),
    (O_OWN[1], "O_NOFOLLOW"),
    (O_OWN[2], "O_DIRECT"),
    (O_OWN[3], "O_LARGEFILE"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
];

/// `O_WRONLY|O_CREAT|O_TRUNC`; what has no name as an octal number at the end.
fn open_flags(flags: u32) -> String {
    // 3 is for ioctl only (open(2), "File access mode").
    let mut text = ["O_RDONLY", "O_WRONLY", "O_RDWR", "3"][(flags & 3) as usize].to_owned();
    let mut rest = flags & !3;
    for (flag, name) in OPEN_FLAGS {
        if rest & flag == flag {
            text.push('|');
            text.push_str(name);
            rest &= !flag;
        }
    }
    if rest != 0 {
        text.push_str(&format!("|0{rest:o}"));
    }
    text
}

/// The number that [`OpenFlags`] made these words of. `None`: some are no flags.
pub fn open_flag_bits(text: &str) -> Option<u32> {
    text.split('|').try_fold(0, |bits, word| {
        let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "3"].iter().position(|name| *name == word);
        let flag = OPEN_FLAGS.iter().find(|(_, name)| *name == word).map(|(flag, _)| *flag);
        let octal = || word.strip_prefix('0').and_then(|digits| u32::from_str_radix(digits, 8).ok());
        Some(bits | access.map(|place| place as u32).or(flag).or_else(octal)?)
    })
}

#[cfg(test)]
mod tests {
    use super::{open_flag_bits, open_flags};

    #[test]
    fn flags_have_the_names_of_open() {
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(open_flags(0o1_101), "O_WRONLY|O_CREAT|O_TRUNC");
        assert_eq!(open_flags(0o4_012_002), "O_RDWR|O_SYNC|O_APPEND");
        assert_eq!(open_flags(0o10_000), "O_RDONLY|O_DSYNC");
        assert_eq!(open_flags(0o40_000_000), "O_RDONLY|040000000");
        for flags in [0, 3, 0o1_101, 0o4_012_002, 0o10_000, 0o40_000_000, 0o22_200_002, u32::MAX] {
            assert_eq!(open_flag_bits(&open_flags(flags)), Some(flags), "{flags:o}");
        }
        assert_eq!(open_flag_bits("O_RDONLY|O_NEW"), None);
    }
}
