//! Whose the capture is: under sudo, who called it. They want to read, copy and remove it without sudo.
//!
//! Only files that the recorder has open are given away, never what has a name now: in a directory of others, somebody could have put
//! a link there that leads to a file of root's.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;

/// User and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Who called sudo; nobody if it wasn't called, or by root.
fn invoking_user() -> Option<Owner> {
    static OWNER: OnceLock<Option<Owner>> = OnceLock::new();
    *OWNER.get_or_init(|| {
        // SAFETY: no preconditions.
        let root = unsafe { libc::geteuid() } == 0;
        let variable = |name| std::env::var(name).ok();
        owner_of(root, variable("SUDO_UID").as_deref(), variable("SUDO_GID").as_deref())
    })
}

fn owner_of(root: bool, uid: Option<&str>, gid: Option<&str>) -> Option<Owner> {
    let number = |text: Option<&str>| text?.parse::<u32>().ok();
    // The largest number means "as it is" to chown.
    let owner = Owner { uid: number(uid).filter(|uid| ![0, u32::MAX].contains(uid))?, gid: number(gid).filter(|gid| *gid != u32::MAX)? };
    root.then_some(owner)
}

/// Gives an open file or directory of the capture to who called sudo. Where that isn't possible it stays root's.
pub fn give(file: &impl AsFd) {
    if let Some(owner) = invoking_user() {
        // SAFETY: the descriptor is open.
        unsafe { libc::fchown(file.as_fd().as_raw_fd(), owner.uid, owner.gid) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_gives_and_not_to_itself() {
        let owner = Some(Owner { uid: 1000, gid: 100 });
        assert_eq!(owner_of(true, Some("1000"), Some("100")), owner);
        assert_eq!(owner_of(false, Some("1000"), Some("100")), None);
        for (uid, gid) in
            [(None, None), (Some("1000"), None), (Some("0"), Some("0")), (Some("x"), Some("1")), (Some("4294967295"), Some("1"))]
        {
            assert_eq!(owner_of(true, uid, gid), None, "{uid:?} {gid:?}");
        }
    }
}
