//! The `xmpp` transport: the hosts of one person tell each other of pushes over an account that the
//! person has already.
//!
//! The work is done by one task on a thread of its own. This half gives it orders and reads the board
//! on which it writes.
//!
//! Invariants:
//! 1. Nothing here waits for the network, and dropping the transport ends the thread at once,
//!    wherever it is.
//! 2. The password is in no log, error, status or argument.
//! 3. Nothing is kept on the server, and no message that is for a person is ever taken.
//!
//! Absent: contents, and any word on where to fetch from. See [`wire`](super::wire).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::board::Board;
pub use self::pace::Pace;
use self::stream::Link;
use super::{Folder, Herald, Sink, State, Transport};
use crate::config::XmppSettings;
use crate::engine::action::Tell;
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::notice::Notice;
use crate::engine::status::TransportStatus;

mod board;
mod certificate;
mod connect;
mod failure;
mod folders;
mod legacy;
mod login;
mod name;
mod pace;
mod password;
mod seek;
mod session;
mod siblings;
mod stanza;
mod stream;
mod texts;

/// What the task is to do.
#[derive(Debug)]
enum Order {
    /// Know this folder.
    Watch(Box<Folder>),
    /// Know it no longer.
    Unwatch(String),
    /// Tell the others, under this number.
    Announce(Notice, u64),
    /// Tell our own others that it is in the tree here.
    Confirm(Notice),
    /// Tell people, about the folder of this key.
    Tell(String, Tell),
    /// Try again now, or test what seems to be there.
    Retry,
}

/// The account as a transport.
pub struct XmppTransport {
    board: Arc<Board>,
    orders: mpsc::UnboundedSender<Order>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    tells: bool,
}

impl XmppTransport {
    /// Creates the transport, which begins to log in at once. `host` is what the others call us.
    pub fn new(sink: Sink, herald: Herald, settings: XmppSettings, host: String) -> Self {
        Self::paced(sink, herald, settings, host, Pace::default())
    }

    /// The same at another pace.
    pub fn paced(
        sink: Sink,
        herald: Herald,
        settings: XmppSettings,
        host: String,
        pace: Pace,
    ) -> Self {
        let board = Arc::new(Board::new(sink, herald));
        let (orders, received) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let tells = !settings.also_notify.is_empty();
        let on_thread = Arc::clone(&board);
        let thread = std::thread::Builder::new()
            .name("xmpp".into())
            .spawn(move || run(settings, host, pace, &on_thread, received, stopped));
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                hold(&board, &error);
                None
            }
        };
        Self {
            board,
            orders,
            stop: Some(stop),
            thread,
            tells,
        }
    }

    fn order(&self, order: Order) {
        // Without a thread the board says why.
        drop(self.orders.send(order));
    }
}

impl Transport for XmppTransport {
    fn name(&self) -> &'static str {
        board::NAME
    }

    fn watch(&mut self, folder: &Folder) {
        self.order(Order::Watch(Box::new(folder.clone())));
    }

    fn unwatch(&mut self, key: &str) {
        self.order(Order::Unwatch(key.to_owned()));
    }

    fn announce(&self, notice: &Notice) {
        let number = self.board.number();
        self.order(Order::Announce(notice.clone(), number));
    }

    fn confirm(&self, notice: &Notice) {
        self.order(Order::Confirm(notice.clone()));
    }

    fn tell(&self, key: &str, tell: &Tell) {
        if self.tells {
            self.order(Order::Tell(key.to_owned(), tell.clone()));
        }
    }

    /// Waits until the server has what was announced.
    fn flush(&self, within: Duration) -> bool {
        self.board.wait(within)
    }

    fn retry(&self) {
        self.order(Order::Retry);
    }

    fn status(&self) -> TransportStatus {
        self.board.status()
    }
}

impl Drop for XmppTransport {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the XMPP connection ended by a fault");
        }
    }
}

/// The thread.
fn run(
    settings: XmppSettings,
    host: String,
    pace: Pace,
    board: &Arc<Board>,
    orders: mpsc::UnboundedReceiver<Order>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return hold(board, &error),
    };
    runtime.block_on(async {
        let link = Link::new(settings, host, Arc::clone(board), orders, pace);
        tokio::select! {
            () = link.run() => {}
            // Sent or dropped is the same.
            _ = stopped => {}
        }
    });
    // A look-up of a name that hangs is not waited for.
    runtime.shutdown_background();
}

fn hold(board: &Board, error: &std::io::Error) {
    let message = format!("XMPP cannot be used: {error}");
    let hint = "Restart the agent when the computer has room again.";
    let trouble = Trouble::new(Code::Internal, Recovery::Hold, message, hint);
    board.tell(&trouble);
    board.set(State::Held(trouble));
}

#[cfg(test)]
mod tests;
