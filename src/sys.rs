//! The only room in which `unsafe` is allowed: the few calls that no safe library offers.
#![expect(unsafe_code, reason = "each block states why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Once;

/// Asks the kernel to begin writing a file to the disk, without waiting for it
/// (`sync_file_range(2)`); a later fsync then waits less. Does nothing where there is no such call.
pub(crate) fn start_writeback(file: &std::fs::File) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open, and nothing else is passed but numbers.
        let result =
            unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        if result != 0 {
            tracing::trace!("the kernel does not begin to write early");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _unused: &std::fs::File = file;
}

/// Gives memory that a large job has used back to the system (`malloc_trim(3)`); without it an agent
/// that once brought ten thousand files stays as large as it was then. Does nothing where the
/// allocator is another.
pub(crate) fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the call takes a number and may be made at any time, by any thread.
        let given = unsafe { libc::malloc_trim(0) };
        tracing::trace!(given, "memory was given back");
    }
}

/// Makes libgit2 fsync every object and reference it writes, for the whole process.
///
/// Its default is off, and a power cut then leaves empty objects behind a pushed commit.
pub(crate) fn fsync_objects() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the option takes one int by value; libgit2 is initialised before it is set, and
        // no other thread sets options.
        let result = unsafe {
            libgit2_sys::init();
            libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_ENABLE_FSYNC_GITDIR.cast_signed(), 1)
        };
        if result != 0 {
            tracing::warn!(result, "libgit2 refused to fsync its objects");
        }
    });
}

/// Sends this thread a signal that stops or ends the whole process.
///
/// To the thread, not to the process: a stop would be taken by any thread, and this one might run
/// on for a while before it hears of it.
#[cfg(feature = "faults")]
pub(crate) fn signal_self(signal: i32) {
    // SAFETY: `raise` takes an integer by value.
    unsafe {
        libc::raise(signal);
    }
}

/// Takes a read lease on an open file and gives it back.
///
/// Errors with `EAGAIN` if somebody has the file open for writing, with something else where
/// leases are not to be had: a file of somebody else, a network disk.
#[cfg(target_os = "linux")]
pub(crate) fn read_lease(fd: BorrowedFd<'_>) -> io::Result<()> {
    /// asm-generic/fcntl.h; missing in `libc`.
    const F_SETSIG: libc::c_int = 10;
    let call = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: these commands take one int by value, and the descriptor is open as long as it
        // is borrowed.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // An opener that comes in between makes the kernel send a signal to the holder. Its default,
    // SIGIO, would end the process; this one is ignored by default.
    call(F_SETSIG, libc::SIGURG)?;
    call(libc::F_SETLEASE, libc::F_RDLCK)?;
    call(libc::F_SETLEASE, libc::F_UNLCK)
}

/// There are no leases on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_lease(_fd: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
