//! What the watches of hubs have in common: a thread that takes orders, and what is known of the
//! hub of each folder.
//!
//! Invariant: a notice is for a tip that is another than the one before, and only while the hub was
//! within reach in between. What moved while it was away is for the fetch that follows.

use std::io;
use std::thread::JoinHandle;

use super::mail::{Mailbox, Post};
use super::{Board, Folder, State};
use crate::engine::notice::Notice;
use crate::names::ObjectId;

/// What the thread is told.
pub(super) enum Order {
    /// Watch the hub of this folder, in place of what was given for its key before.
    Watch(Box<Folder>),
    /// Watch it no longer.
    Unwatch(String),
    /// Try again now whatever waits.
    Retry,
}

/// The thread and the way to it; it ends when this is dropped.
pub(super) struct Watch {
    post: Post<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts a thread that runs `run` until its mailbox says that it is to end.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(&Mailbox<Order>) + Send + 'static,
    ) -> io::Result<Self> {
        let (post, mailbox) = super::mail::open()?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&mailbox))?;
        Ok(Self {
            post,
            thread: Some(thread),
        })
    }

    /// Gives the thread an order.
    pub(super) fn order(&self, order: Order) {
        self.post.send(order);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.post.stop();
        if let Some(thread) = self.thread.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "the watch of a hub had ended early");
            }
        }
    }
}

/// What is known of the hub of one folder.
pub(super) struct Known {
    /// The folder.
    pub(super) folder: Folder,
    last: Option<ObjectId>,
    /// Whether `last` is what it had at the last look, and nothing was missed since.
    reached: bool,
}

impl Known {
    /// Knows nothing yet.
    pub(super) fn new(folder: Folder) -> Self {
        Self {
            folder,
            last: None,
            reached: false,
        }
    }

    /// Takes the tip that its branch has now.
    pub(super) fn tip(&mut self, board: &Board, tip: Option<ObjectId>) {
        let moved = self.reached && self.last != tip;
        self.last = tip;
        self.reached = true;
        let key = &self.folder.key;
        board.set(key, State::Online);
        if moved {
            let notice = Notice {
                folder: self.folder.id.clone(),
                branch: self.folder.branch.clone(),
                commit: tip,
                host: String::new(),
                sequence: 0,
            };
            board.notice(key, notice);
        }
    }

    /// Takes that it is not within reach.
    pub(super) fn away(&mut self, board: &Board, state: State) {
        self.reached = false;
        board.set(&self.folder.key, state);
    }
}
