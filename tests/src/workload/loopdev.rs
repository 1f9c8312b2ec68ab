//! A loop device of the workload's own, and aligned memory for direct I/O.

use crate::sys;
use ebrec_tests::{Context, Result, TempDir, fail};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// ioctls and flags of include/uapi/linux/loop.h.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// lo_device, lo_inode, lo_rdevice, lo_offset, lo_sizelimit
    places: [u64; 5],
    /// lo_number, lo_encrypt_type, lo_encrypt_key_size
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device over a sparse file. The kernel detaches it when its last user is gone, however that ends.
pub struct LoopDevice {
    /// Keeps it attached.
    _open: File,
    path: PathBuf,
    file: File,
    _dir: TempDir,
}

impl LoopDevice {
    /// Makes one of `bytes`; with `direct`, it goes past the page cache of the file system that its file is on.
    pub fn new(bytes: u64, direct: bool) -> Result<Self> {
        let dir = TempDir::new("loop")?;
        let image = dir.path().join("image");
        let file = File::options().read(true).write(true).create_new(true).open(&image).context("create the image")?;
        file.set_len(bytes).context("size the image")?;
        let control = sys::open_rw(Path::new("/dev/loop-control"))?;
        // Others may take the one that was free a moment ago.
        for _ in 0..100 {
            // SAFETY: takes no argument.
            let number = sys::check("LOOP_CTL_GET_FREE", unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = sys::open_rw(&path)?;
            let config = LoopConfig {
                fd: file.as_raw_fd() as u32,
                block_size: 0,
                places: [0; 5],
                numbers: [0; 3],
                flags: LO_FLAGS_AUTOCLEAR | if direct { LO_FLAGS_DIRECT_IO } else { 0 },
                names: [0; 160],
                init: [0; 2],
                reserved: [0; 8],
            };
            // SAFETY: `config` has the layout of struct loop_config and lives across the call.
            if unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) } == 0 {
                return Ok(Self { _open: open, path, file, _dir: dir });
            }
            if sys::errno() != libc::EBUSY {
                return Err(ebrec_tests::Error::os("LOOP_CONFIGURE"));
            }
        }
        fail("no loop device stays free")
    }

    /// /dev/loopN.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file behind it.
    pub fn image(&self) -> &File {
        &self.file
    }
}

/// Name below /dev and major:minor of a block device.
pub fn disk_of(device: &Path) -> Result<(String, String)> {
    let device = device.canonicalize().context(device.display())?;
    let name = device.file_name().and_then(|name| name.to_str()).context("the device has no name")?.to_owned();
    let dev = std::fs::read_to_string(format!("/sys/class/block/{name}/dev")).context(format!("/sys/class/block/{name}/dev"))?;
    Ok((name, dev.trim().to_owned()))
}

/// A setting of a disk's queue (`/sys/block/DISK/queue/NAME`).
pub fn queue_setting(disk: &str, name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/sys/block/{disk}/queue/{name}")).ok().map(|text| text.trim().to_owned())
}

/// Memory that starts at a page, as direct I/O wants it.
pub struct Aligned {
    at: *mut u8,
    layout: std::alloc::Layout,
}

impl Aligned {
    /// `bytes` of some pattern.
    pub fn new(bytes: usize) -> Result<Self> {
        let layout = std::alloc::Layout::from_size_align(bytes.max(4096), 4096).context("layout")?;
        // SAFETY: the layout's size is not zero.
        let at = unsafe { std::alloc::alloc(layout) };
        if at.is_null() {
            return fail("no memory");
        }
        // SAFETY: `at` is valid for the layout's size.
        unsafe { std::ptr::write_bytes(at, 0x5a, layout.size()) };
        Ok(Self { at, layout })
    }

    fn slice(&mut self, bytes: usize) -> &mut [u8] {
        // SAFETY: allocated and initialised for the layout's size, of which this takes no more; borrowed from self.
        unsafe { std::slice::from_raw_parts_mut(self.at, bytes.min(self.layout.size())) }
    }

    /// Writes `bytes` at `offset`; all of them or it fails.
    pub fn write_at(&mut self, file: &File, bytes: usize, offset: u64) -> Result<()> {
        std::os::unix::fs::FileExt::write_all_at(file, self.slice(bytes), offset).context(format!("write {bytes} at {offset}"))
    }

    /// Reads `bytes` at `offset`; returns the errno if that fails.
    pub fn read_at(&mut self, file: &File, bytes: usize, offset: u64) -> Result<i32> {
        match std::os::unix::fs::FileExt::read_at(file, self.slice(bytes), offset) {
            Ok(read) if read == bytes => Ok(0),
            Ok(read) => fail(format!("read {read} of {bytes} at {offset}")),
            Err(why) => why.raw_os_error().context("an error without a number"),
        }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.at, self.layout) };
    }
}
