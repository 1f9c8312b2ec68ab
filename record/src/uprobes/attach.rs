//! Putting a probe into a function of a file: by perf, or by the kernel's newer interface.

use crate::tongs;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The kernel's interface for probes in functions of files (`perf_event_open`).
#[derive(Debug, Clone, Copy)]
pub struct Pmu {
    kind: u32,
    return_bit: u32,
}

impl Pmu {
    const DIR: &str = "/sys/bus/event_source/devices/uprobe";

    /// It, if the kernel has it.
    pub fn find() -> Option<Pmu> {
        let kind = tongs::system_text(format!("{}/type", Pmu::DIR)).ok()?.trim().parse().ok()?;
        let format = tongs::system_text(format!("{}/format/retprobe", Pmu::DIR)).ok()?;
        Some(Pmu { kind, return_bit: format.trim().strip_prefix("config:")?.parse().ok()? })
    }

    /// A probe that is hit whenever the function at `offset` of a file is entered, or returns; in all processes, or in one alone.
    /// It counts. Ends when the result is dropped.
    pub fn open(self, file: &File, offset: u64, returns: bool, pid: Option<i32>) -> std::io::Result<OwnedFd> {
        const CLOEXEC: libc::c_ulong = 8; // PERF_FLAG_FD_CLOEXEC
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        let config = if returns { 1u64.checked_shl(self.return_bit).unwrap_or(0) } else { 0 };
        // struct perf_event_attr in its first extended form (PERF_ATTR_SIZE_VER1, 72 bytes): type and size share the first word;
        // the eighth is the path, the ninth the offset in the file.
        let attr: [u64; 9] = [u64::from(self.kind) | 72 << 32, config, 0, 0, 0, 0, 0, path.as_ptr() as u64, offset];
        // SAFETY: `attr` has the size that it says, the path in it ends with NUL, and both live across the call.
        let fd = unsafe {
            let cpu = if pid.is_some() { -1 } else { 0 };
            libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), pid.unwrap_or(-1), cpu, -1, CLOEXEC)
        };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just returned to us and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Lets a BPF program run whenever the function is entered, or returns.
    pub(super) fn attach(self, file: &File, offset: u64, returns: bool, program: &OwnedFd) -> std::io::Result<OwnedFd> {
        const SET_BPF: libc::c_ulong = 0x4004_2408; // PERF_EVENT_IOC_SET_BPF
        const ENABLE: libc::c_ulong = 0x2400; // PERF_EVENT_IOC_ENABLE
        let fd = self.open(file, offset, returns, None)?;
        for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
            // SAFETY: neither request takes a pointer.
            if unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(fd)
    }
}

/// The kernel's newer interface: one link for many functions of a file, given by their offset and the number that each hands to the
/// program; in all processes, or in one alone.
pub fn attach_multi(file: &File, functions: &[(u64, u64)], returns: bool, pid: Option<u32>, program: &OwnedFd) -> std::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    let offsets: Vec<libc::c_ulong> = functions.iter().map(|(offset, _)| *offset as libc::c_ulong).collect();
    let cookies: Vec<u64> = functions.iter().map(|(_, cookie)| *cookie).collect();
    let mut opts = libbpf_sys::bpf_link_create_opts { sz: size_of::<libbpf_sys::bpf_link_create_opts>() as u64, ..Default::default() };
    opts.__bindgen_anon_1.uprobe_multi = libbpf_sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_3 {
        path: path.as_ptr().cast(),
        offsets: offsets.as_ptr(),
        ref_ctr_offsets: std::ptr::null(),
        cookies: cookies.as_ptr(),
        cnt: functions.len() as u32,
        flags: if returns { libbpf_sys::BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid: pid.unwrap_or(0),
        ..Default::default()
    };
    // SAFETY: all pointers are to arrays of the stated length, and a text that ends with NUL, which live across the call.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_UPROBE_MULTI, &opts) };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
