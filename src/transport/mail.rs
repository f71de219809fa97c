//! How a transport's thread that waits in `poll` is given something to do.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::Timespec;

use crate::clock;
use crate::engine::timer::Moment;

/// The sending end.
pub(super) struct Post<T> {
    wake: OwnedFd,
    shared: Arc<Shared<T>>,
}

/// The thread's end.
pub(super) struct Mailbox<T> {
    bell: OwnedFd,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    orders: Mutex<Vec<T>>,
    stop: AtomicBool,
}

/// Creates both ends.
pub(super) fn open<T>() -> io::Result<(Post<T>, Mailbox<T>)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (bell, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let shared = Arc::new(Shared {
        orders: Mutex::new(Vec::new()),
        stop: AtomicBool::new(false),
    });
    let post = Post {
        wake,
        shared: Arc::clone(&shared),
    };
    Ok((post, Mailbox { bell, shared }))
}

impl<T> Post<T> {
    /// Gives the thread an order.
    pub(super) fn send(&self, order: T) {
        let orders = &self.shared.orders;
        orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(order);
        self.ring();
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        if let Err(error) = rustix::io::write(&self.wake, b"x") {
            // Only a full pipe refuses, and then the thread wakes anyway.
            tracing::trace!(%error, "the thread was already woken");
        }
    }
}

impl<T> Mailbox<T> {
    /// Returns what is ready to be read when there is something to take.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Takes all orders; `None` if the thread is to end.
    pub(super) fn take(&self) -> Option<Vec<T>> {
        let mut rubbish = [0; 64];
        while matches!(rustix::io::read(&self.bell, &mut rubbish), Ok(count) if count > 0) {}
        if self.shared.stop.load(Ordering::Acquire) {
            return None;
        }
        let orders = &self.shared.orders;
        Some(std::mem::take(
            &mut *orders.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// Returns how long `poll` may wait if something is due at `at`; `None` for as long as it takes.
pub(super) fn timeout(at: Option<Moment>) -> Option<Timespec> {
    let left = clock::until(at?);
    Some(Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    })
}
