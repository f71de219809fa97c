//! A way to a server that can be counted, cut, and made to swallow everything without a word.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use autosync::clock;

/// Nothing takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way; it is closed when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    frozen: bool,
    over: bool,
    accepted: usize,
    /// How often something was passed on.
    pieces: usize,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// Opens a way to a port of this machine.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner::default());
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut state = shared.state.lock().unwrap();
                if state.over {
                    return;
                }
                state.accepted += 1;
                shared.moved.notify_all();
                // Nobody there: as a port without a listener, a moment later.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.pass(from, to));
                }
                state.streams.extend([client, server]);
            }
        });
        Self { port: own, inner }
    }

    /// How many connections were made.
    pub(crate) fn accepted(&self) -> usize {
        self.inner.state.lock().unwrap().accepted
    }

    /// Waits until something has been passed on so often since the beginning.
    pub(crate) fn wait_pieces(&self, count: usize) {
        let state = self.inner.state.lock().unwrap();
        let few = |state: &mut State| state.pieces < count;
        let waited = self.inner.moved.wait_timeout_while(state, PATIENCE, few);
        assert!(!waited.unwrap().1.timed_out(), "nothing is said");
    }

    /// Waits until so many connections were made.
    pub(crate) fn wait_accepted(&self, count: usize) {
        let state = self.inner.state.lock().unwrap();
        let few = |state: &mut State| state.accepted < count;
        let waited = self.inner.moved.wait_timeout_while(state, PATIENCE, few);
        assert!(!waited.unwrap().1.timed_out(), "nobody comes");
    }

    /// Ends every connection that there is.
    pub(crate) fn cut(&self) {
        for stream in self.inner.state.lock().unwrap().streams.drain(..) {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// From now on nothing arrives, and nothing says so.
    pub(crate) fn freeze(&self) {
        self.inner.state.lock().unwrap().frozen = true;
    }

    /// What was held arrives, and everything after it.
    pub(crate) fn thaw(&self) {
        self.inner.state.lock().unwrap().frozen = false;
        self.inner.moved.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock().unwrap();
        state.over = true;
        for stream in state.streams.drain(..) {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(state);
        self.inner.moved.notify_all();
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Inner {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let state = self.state.lock().unwrap();
            let shut = |state: &mut State| state.frozen && !state.over;
            let mut state = self.moved.wait_while(state, shut).unwrap();
            state.pieces += 1;
            let over = state.over || count == 0;
            drop(state);
            self.moved.notify_all();
            if over || to.write_all(&buffer[..count]).is_err() {
                drop(to.shutdown(Shutdown::Write));
                drop(from.shutdown(Shutdown::Read));
                return;
            }
        }
    }
}

/// Waits until something is so, with nothing to listen to.
#[track_caller]
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !so() {
        assert!(clock::now() < deadline, "not so in time: {what}");
        std::thread::yield_now();
    }
}
