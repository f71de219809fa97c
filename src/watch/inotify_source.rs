//! The source on Linux: inotify with a mask of its own.
//!
//! One thread does nothing but read the kernel's queue into the inbox, so that the queue stays
//! short while the resolver walks. Opening and reading a file is not in the mask: every reader
//! on the machine would fill the queue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use inotify::{Event, EventMask, Inotify, WatchMask, Watches};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::source::{Inbox, Marker, Place, RawEvent, Refusal, Shape, Source, Token, What};

/// Big enough that a burst takes few reads; only the pages that a burst needs are ever touched.
const BUFFER: usize = 65_536;

/// Directories by inotify.
pub(super) struct InotifySource {
    watches: Watches,
    queue: OwnedFd,
    reader: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
}

/// How the reader is told something while it waits for the kernel.
struct Bell {
    wake: OwnedFd,
    markers: Mutex<Vec<Marker>>,
    stop: AtomicBool,
}

impl InotifySource {
    /// Creates the source and its reader thread.
    ///
    /// Errors as `inotify_init1` does: `EMFILE` if the user has too many instances.
    pub(super) fn start(inbox: Arc<Inbox>) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let queue = inotify.as_fd().try_clone_to_owned()?;
        let bell = Arc::new(Bell {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            markers: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let reader = std::thread::Builder::new()
            .name("watch-read".into())
            .spawn({
                let bell = Arc::clone(&bell);
                move || read_on(inotify, &bell, &inbox)
            })?;
        Ok(Self {
            watches,
            queue,
            reader: Some(reader),
            bell,
        })
    }

    fn ring(&self) {
        if let Err(error) = rustix::io::write(&self.bell.wake, &1_u64.to_ne_bytes()) {
            // Only a counter at its limit refuses, and then it rings anyway.
            tracing::debug!(%error, "the watch reader was already told");
        }
    }
}

impl Drop for InotifySource {
    fn drop(&mut self) {
        self.bell.stop.store(true, Ordering::Release);
        self.ring();
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the watch reader had ended early");
        }
    }
}

impl Source for InotifySource {
    fn watch(&mut self, dir: &Path) -> Result<Token, Refusal> {
        match self.watches.add(dir, mask()) {
            Ok(watch) => Ok(Token(watch.get_watch_descriptor_id())),
            Err(error) => Err(match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::NOMEM) => Refusal::NoMore,
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Refusal::Gone,
                _ => Refusal::Other(error),
            }),
        }
    }

    fn unwatch(&mut self, token: Token) {
        if let Err(error) = rustix::fs::inotify::remove_watch(&self.queue, token.0) {
            // The directory is gone, and its watch with it.
            tracing::trace!(%error, "a watch had ended already");
        }
    }

    fn confuses_names(&self) -> bool {
        false
    }

    fn flush(&mut self, marker: Marker) {
        self.bell
            .markers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(marker);
        self.ring();
    }
}

fn mask() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::ATTRIB
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
        | WatchMask::DONT_FOLLOW
        | WatchMask::EXCL_UNLINK
}

/// Reads until told to stop.
fn read_on(mut inotify: Inotify, bell: &Bell, inbox: &Inbox) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut ready = [
            PollFd::new(&inotify, PollFlags::IN),
            PollFd::new(&bell.wake, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "cannot wait for file events");
                inbox.overflow();
                return;
            }
        }
        let rung = !ready[1].revents().is_empty();
        let mut markers = Vec::new();
        if rung {
            if let Err(error) = rustix::io::read(&bell.wake, &mut [0; 8]) {
                tracing::trace!(%error, "the bell was silent");
            }
            if bell.stop.load(Ordering::Acquire) {
                return;
            }
            markers.append(&mut bell.markers.lock().unwrap_or_else(PoisonError::into_inner));
        }
        // What was in the queue when the markers were taken is older than they are; what comes
        // meanwhile must not keep them waiting.
        let mut owed = rustix::io::ioctl_fionread(&inotify).unwrap_or(0);
        while owed > 0 {
            let read = read_once(&mut inotify, &mut buffer, inbox);
            if read == 0 {
                break;
            }
            owed = owed.saturating_sub(read);
        }
        inbox.mark(markers);
    }
}

/// Reads one buffer into the inbox and returns how many bytes of the kernel's queue that were.
fn read_once(inotify: &mut Inotify, buffer: &mut [u8], inbox: &Inbox) -> u64 {
    let read = match inotify.read_events(buffer) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return 1,
        Err(error) => {
            tracing::error!(%error, "cannot read file events");
            inbox.overflow();
            return 0;
        }
    };
    let mut size = 0;
    let mut events = Vec::new();
    let mut overflow = false;
    for event in read {
        size += size_in_queue(&event);
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            overflow = true;
        } else if let Some(raw) = raw_event(&event) {
            events.push(raw);
        }
    }
    inbox.push(&mut events);
    if overflow {
        inbox.overflow();
    }
    size
}

/// Returns how many bytes the kernel's form of an event has: a head of 16 bytes and the name
/// with its NUL, filled up to a multiple of the head (inotify(7)).
fn size_in_queue(event: &Event<&std::ffi::OsStr>) -> u64 {
    let name = event
        .name
        .map_or(0, |name| (name.len() + 1).next_multiple_of(16));
    16 + name as u64
}

fn raw_event(event: &Event<&std::ffi::OsStr>) -> Option<RawEvent> {
    let has = |bits: EventMask| event.mask.intersects(bits);
    let what = if has(EventMask::IGNORED) {
        What::Ended
    } else if has(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT) {
        What::Suspect
    } else if has(EventMask::CREATE) {
        What::Created
    } else if has(EventMask::MOVED_TO) {
        What::Arrived
    } else if has(EventMask::DELETE | EventMask::MOVED_FROM) {
        What::Removed
    } else if has(EventMask::CLOSE_WRITE) {
        What::Closed
    } else if has(EventMask::MODIFY) {
        What::Written
    } else if has(EventMask::ATTRIB) {
        What::Attributes
    } else {
        return None;
    };
    Some(RawEvent {
        place: Place::Watch(Token(event.wd.get_watch_descriptor_id())),
        name: event
            .name
            .map_or_else(Box::default, |name| name.as_encoded_bytes().into()),
        what,
        shape: if has(EventMask::ISDIR) {
            Shape::Directory
        } else {
            Shape::Other
        },
    })
}
