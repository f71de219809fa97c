//! The desktop: every step as a notification, and clicks on them as requests.
//!
//! `board` decides what is to be shown, `card` how it reads, `bus` talks to the session bus on a
//! thread of its own, `describe` asks for a commit message. Whoever has something to show changes
//! the board and goes on: no call to the bus is ever waited for.
//!
//! Invariants:
//! 1. A server that hangs, or comes and goes, delays nothing; when it is back it gets what still
//!    holds.
//! 2. Without a session bus this room says so once and is silent.
//! 3. A click is a request like any other: the engine decides what becomes of it.
//!
//! Absent: sounds, images, a tray icon. The library `notify-rust` too: it waits for one
//! notification's click at a time and opens a connection for each; what it does for us is one call
//! of `zbus`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::clock;
use crate::config::{Describe, DesktopSettings, Notify};
use crate::engine::action::Tell;
use crate::engine::event::Trouble;
use crate::engine::recall::Answer;
use crate::engine::status::{FolderStatus, HeldStatus};
use crate::names::ObjectId;

mod board;
mod bus;
mod card;
mod describe;

use board::{Board, Folder};

/// What a person asks for by a click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Let pass this, which was on the screen.
    Approve(Vec<HeldStatus>),
    /// Take back what came in with this commit.
    Undo(ObjectId),
    /// This commit has this message; `None`: the one that it has stays.
    Describe {
        /// The commit.
        commit: ObjectId,
        /// One line.
        message: Option<String>,
    },
}

/// Where clicks go: the key of the folder, and what was asked for. Called from threads of this
/// room; it must not block.
pub type Sink = Arc<dyn Fn(&str, Deed) + Send + Sync>;

/// The desktop of the user. When it is dropped, everything on the screen is withdrawn; that takes a
/// second at most.
pub struct Desktop {
    shared: Option<Arc<Shared>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the agent share.
struct Shared {
    board: Mutex<Board>,
    changed: tokio::sync::Notify,
    leaving: AtomicBool,
    left: tokio::sync::Notify,
    sink: Sink,
    /// The program that asks for a message.
    describe_command: Option<Vec<String>>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Lets the pushes go that wait for an answer which cannot come.
    fn let_go(&self) {
        let asked = self.board().unanswerable();
        for (folder, commit) in asked {
            let message = None;
            (self.sink)(&folder, Deed::Describe { commit, message });
        }
    }
}

impl Desktop {
    /// Starts to show what it is told, as far as the settings want; `host` is this one's name.
    pub fn start(settings: &DesktopSettings, host: &str, sink: Sink) -> Self {
        let off = Self {
            shared: None,
            thread: None,
        };
        if settings.notify == Notify::Off {
            return off;
        }
        let shared = Arc::new(Shared {
            board: Mutex::new(Board::new(settings.notify, asks(settings), host)),
            changed: tokio::sync::Notify::new(),
            leaving: AtomicBool::new(false),
            left: tokio::sync::Notify::new(),
            sink,
            describe_command: settings.describe_command.clone(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("desktop".to_owned());
        match thread.spawn(move || bus::run(&theirs)) {
            Ok(thread) => Self {
                shared: Some(shared),
                thread: Some(thread),
            },
            Err(error) => {
                tracing::warn!(%error, "nothing is shown on the desktop");
                off
            }
        }
    }

    /// Takes a folder's name and root; must come before anything else of it.
    pub fn know(&self, key: &str, name: &str, root: &Path) {
        let folder = Folder {
            name: name.to_owned(),
            root: root.to_owned(),
        };
        self.change(|board| board.know(key, folder));
    }

    /// Takes that a folder is no longer cared for.
    pub fn forget(&self, key: &str) {
        self.change(|board| board.forget(key));
    }

    /// Takes what the user is told about a folder.
    pub fn tell(&self, key: &str, tell: &Tell) {
        self.change(|board| board.tell(clock::now(), key, tell));
    }

    /// Takes how a folder stands, when that has changed.
    pub fn stand(&self, key: &str, status: &FolderStatus) {
        self.change(|board| board.stand(clock::now(), key, status));
    }

    /// Shows anew everything that can be approved in a folder, because what was clicked on is not
    /// what stands now: this status, and these stop it.
    pub fn again(&self, key: &str, status: &FolderStatus, stopped: &[Trouble]) {
        self.change(|board| board.again(clock::now(), key, status, stopped));
    }

    /// Shows what came of an undo that a click asked for.
    pub fn undone(&self, key: &str, answer: &Result<Answer, Trouble>) {
        self.change(|board| board.undone(clock::now(), key, answer));
    }

    /// Shows a problem of the whole agent until it is [`solved`](Self::solved); the same key with
    /// other words replaces it.
    pub fn problem(&self, key: &str, message: &str, hint: &str) {
        self.change(|board| board.problem(clock::now(), key, message, hint));
    }

    /// Takes that a problem of the whole agent is over. That it never was is no mistake.
    pub fn solved(&self, key: &str) {
        self.change(|board| board.solved(key));
    }

    fn change(&self, how: impl FnOnce(&mut Board)) {
        if let Some(shared) = &self.shared {
            how(&mut shared.board());
            shared.changed.notify_one();
        }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.leaving.store(true, Ordering::Release);
            shared.changed.notify_one();
            shared.left.notify_one();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the desktop's thread panicked");
        }
    }
}

/// Returns whether lone commits wait for a message: only where they are shown at all.
pub fn asks(settings: &DesktopSettings) -> bool {
    settings.describe == Describe::Ask && settings.notify == Notify::Steps
}
