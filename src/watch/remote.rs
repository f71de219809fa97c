//! File systems that other machines change: nothing here is told of that.
//!
//! A change that is made on this machine is an event there as anywhere. What another machine does
//! on a network share, or whatever is behind a file system in user space, is seen only by looking.
//! Which kind a file system is, says the number in its superblock (statfs(2)).
//!
//! Absent: telling a local disk behind a driver in user space from a remote one, the number is the
//! same. Looking at it costs little.

use std::ffi::CStr;
use std::os::fd::AsFd;

/// The numbers, as in `linux/magic.h` and the sources of file systems outside of it, each with
/// what people call it.
#[cfg(target_os = "linux")]
const REMOTE: [(u32, &str); 20] = [
    (0x0000_517B, "smb"),
    (0x0000_564C, "ncp"),
    (0x0000_6969, "nfs"),
    (0x00C3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "gfs2"),
    (0x0BD0_0BD0, "lustre"),
    (0x1983_0326, "beegfs"),
    (0x2030_528D, "pvfs2"),
    (0x4750_4653, "gpfs"),
    (0x5346_414F, "afs"),
    (0x6573_5546, "fuse"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x7461_636F, "ocfs2"),
    (0x786F_4256, "vboxsf"),
    (0x7C7C_6673, "prl_fs"),
    (0xBACB_ACBC, "vmhgfs"),
    (0xFE53_4D42, "smb"),
    (0xFF53_4D42, "cifs"),
];

/// Returns what kind of file system an open directory is on, if it is one that other machines may
/// change.
#[cfg(target_os = "linux")]
pub(super) fn kind(dir: impl AsFd) -> Option<&'static str> {
    let stat = rustix::fs::fstatfs(dir).ok()?;
    // The number has 32 bits, whatever the field has here.
    let [a, b, c, d, ..] = stat.f_type.to_le_bytes();
    name(u32::from_le_bytes([a, b, c, d]))
}

/// Returns what kind of file system an open directory is on: not known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn kind(_dir: impl AsFd) -> Option<&'static str> {
    None
}

/// Has the kernel ask the server how a file is. The next plain question gets that answer: before,
/// it gets what the server said some seconds ago.
#[cfg(target_os = "linux")]
pub(super) fn ask(dir: impl AsFd, name: &CStr) {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    if let Err(error) = statx(dir, name, flags, StatxFlags::BASIC_STATS) {
        tracing::trace!(%error, "the server does not say how a file is");
    }
}

/// Has the kernel ask the server how a file is: not known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask(_dir: impl AsFd, _name: &CStr) {}

#[cfg(target_os = "linux")]
fn name(number: u32) -> Option<&'static str> {
    let found = REMOTE.iter().find(|(known, _)| *known == number);
    found.map(|(_, name)| *name)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_number_decides() {
        for (number, expected) in [
            (0x6969, Some("nfs")),
            (0xFF53_4D42, Some("cifs")),
            (0xFE53_4D42, Some("smb")),
            (0x6573_5546, Some("fuse")),
            (0x0102_1997, Some("9p")),
            // ext4, tmpfs, btrfs, xfs, overlayfs.
            (0xEF53, None),
            (0x0102_1994, None),
            (0x9123_683E, None),
            (0x5846_5342, None),
            (0x794C_7630, None),
        ] {
            assert_eq!(name(number), expected, "{number:#x}");
        }
    }

    #[test]
    fn what_is_made_here_is_told_here() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kind(std::fs::File::open(dir.path()).unwrap()), None);
        assert_eq!(kind(std::fs::File::open("/proc").unwrap()), None);
    }
}
