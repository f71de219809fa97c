//! The only room in which `unsafe` is allowed: three calls that no safe library offers.
#![expect(unsafe_code, reason = "each block states why it is sound")]

use std::sync::Once;

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

/// Sends this process a signal, as a person with `kill` would.
#[cfg(feature = "faults")]
pub(crate) fn signal_self(signal: i32) {
    // SAFETY: `kill` with our own pid takes two integers by value.
    unsafe {
        libc::kill(libc::getpid(), signal);
    }
}
