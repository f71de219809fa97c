//! One client of the reflector, from its greeting to its end.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::limit::Bucket;
use super::outbox::{Message, Outbox, Style};
use super::room::Room;
use crate::clock;
use crate::engine::timer::Moment;
use crate::transport::fanout::line::{Asked, GREETING, LINE_LIMIT, Lines, VERSION, asked};
use crate::transport::fanout::seal::{self, Seal, Side};

/// The socket's own buffer for what a client has not taken yet, in bytes.
const SOCKET_BUFFER: usize = 32 * 1024;
/// So many lines without a good seal are forgiven.
const FORGIVEN: u32 = 16;

/// A client as the others reach it.
#[derive(Debug)]
pub(super) struct Client {
    /// Nobody else has it.
    pub(super) number: u64,
    stream: TcpStream,
    outbox: Mutex<Outbox>,
    wake: Notify,
}

impl Client {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it something: at once if that can be, else its task does it later.
    pub(super) fn tell(&self, message: Message, now: Moment) {
        let mut outbox = self.outbox();
        outbox.put(message);
        self.send(&mut outbox, now);
        if outbox.broken || outbox.stuck().is_some() || outbox.later().is_some() {
            self.wake.notify_one();
        }
    }

    /// Sends what may be sent now and is taken.
    fn send(&self, outbox: &mut Outbox, now: Moment) {
        loop {
            let bytes = outbox.due(now, clock::wall_seconds);
            if bytes.is_empty() {
                return;
            }
            match self.stream.try_write(bytes) {
                Ok(count) => outbox.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbox.blocked(now);
                    return;
                }
                Err(error) => {
                    tracing::trace!(%error, "a client takes nothing any more");
                    outbox.broken = true;
                    return;
                }
            }
        }
    }
}

/// A client as its own task knows it.
struct Visit {
    client: Arc<Client>,
    room: Arc<Room>,
    lines: Lines,
    bucket: Bucket,
    channels: BTreeSet<Arc<str>>,
    came: Moment,
    heard: Moment,
    /// Whether it said that it is one of ours.
    greeted: bool,
    /// Whether it may ask for anything.
    trusted: bool,
    unsealed: u32,
}

/// Serves a client until it goes or has to go; an error says why.
pub(super) async fn attend(stream: TcpStream, room: Arc<Room>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BUFFER)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BUFFER)?;
    let limits = room.settings.limits;
    let now = clock::now();
    let client = Arc::new(Client {
        number: room.number(),
        stream,
        outbox: Mutex::new(Outbox::new(&limits, GREETING)),
        wake: Notify::new(),
    });
    let mut visit = Visit {
        lines: Lines::default(),
        bucket: Bucket::new(limits.burst, limits.line_every),
        channels: BTreeSet::new(),
        came: now,
        heard: now,
        greeted: false,
        trusted: room.settings.key.is_none() || room.settings.legacy,
        unsealed: 0,
        client,
        room,
    };
    let end = visit.run().await;
    for channel in &visit.channels {
        visit.room.unsubscribe(&visit.client, channel);
    }
    end
}

impl Visit {
    async fn run(&mut self) -> io::Result<()> {
        let client = Arc::clone(&self.client);
        loop {
            let now = clock::now();
            let (stuck, mut next) = self.look(now)?;
            let may_read = self.bucket.next(now);
            if may_read > now {
                next = next.min(may_read);
            }
            tokio::select! {
                ready = client.stream.readable(), if may_read <= now => {
                    ready?;
                    if !self.read()? {
                        return Ok(());
                    }
                }
                ready = client.stream.writable(), if stuck => ready?,
                () = client.wake.notified() => {}
                () = tokio::time::sleep(clock::until(next)) => {}
            }
        }
    }

    /// Sends what may be sent. Returns whether the client takes nothing now, and when to look
    /// again. An error says why it has to go.
    fn look(&self, now: Moment) -> io::Result<(bool, Moment)> {
        let limits = &self.room.settings.limits;
        let mut outbox = self.client.outbox();
        self.client.send(&mut outbox, now);
        if outbox.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut next = self.heard + limits.idle;
        if next <= now {
            return Err(io::Error::other("it said nothing for long"));
        }
        if !self.trusted {
            let login = self.came + limits.login;
            if login <= now {
                return Err(io::Error::other("it did not show a key"));
            }
            next = next.min(login);
        }
        let stuck = outbox.stuck();
        if let Some(since) = stuck {
            let cut = since + limits.stuck;
            if cut <= now {
                // What it did not take is not kept for it by the system either.
                let none = Some(std::time::Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&self.client.stream, none)?;
                return Err(io::Error::other("it does not read"));
            }
            next = next.min(cut);
        }
        next = outbox.later().map_or(next, |later| next.min(later));
        Ok((stuck.is_some(), next))
    }

    /// Reads what is there, a little at a time. Returns whether the client is still there.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; LINE_LIMIT];
        let count = match self.client.stream.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let now = clock::now();
        let mut lines = std::mem::take(&mut self.lines);
        let mut outcome = Ok(());
        let fed = lines.feed(&buffer[..count], |line| {
            if outcome.is_ok() {
                outcome = self.hear(line, now);
            }
        });
        self.lines = lines;
        fed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        outcome.map(|()| true)
    }

    fn hear(&mut self, line: &[u8], now: Moment) -> io::Result<()> {
        self.bucket.take(now);
        self.heard = now;
        let Some(inner) = self.client.outbox().open(line) else {
            self.unsealed += 1;
            if self.unsealed > FORGIVEN {
                return Err(io::Error::other("its lines have no good seal"));
            }
            return Ok(());
        };
        let sealed = inner.len() != line.len();
        self.trusted |= sealed;
        match asked(inner) {
            Asked::Hello(nonce) if !self.greeted => self.greet(nonce)?,
            Asked::Subscribe(name) if self.trusted => self.subscribe(name, now),
            Asked::Unsubscribe(name) if self.trusted => {
                if self.channels.remove(name) {
                    self.room.unsubscribe(&self.client, name);
                    self.client.outbox().forget(name);
                }
            }
            Asked::Announce(name, text) if self.trusted => self.room.announce(name, text),
            Asked::Ping if self.trusted => self.client.outbox().ping(now),
            Asked::Hello(_)
            | Asked::Subscribe(_)
            | Asked::Unsubscribe(_)
            | Asked::Announce(..)
            | Asked::Ping
            | Asked::Nothing => {}
        }
        Ok(())
    }

    /// Answers one of ours. With a key nothing but sealed lines goes either way from here.
    fn greet(&mut self, nonce: Option<&str>) -> io::Result<()> {
        self.greeted = true;
        let (style, answer) = match (&self.room.settings.key, nonce) {
            (None, _) => (Style::Ours(None), String::new()),
            (Some(key), Some(theirs)) => {
                let ours = seal::nonce()?;
                let seal = Seal::new(key, theirs, &ours, Side::Server);
                let answer = format!(" {ours} {}", seal.proof());
                self.trusted = false;
                (Style::Ours(Some(seal)), answer)
            }
            (Some(_), None) => {
                self.trusted = false;
                (Style::Ours(None), " key".to_owned())
            }
        };
        let answer = format!("hello!{VERSION}{answer}\n");
        self.client.outbox().speak(style, answer);
        Ok(())
    }

    fn subscribe(&mut self, name: &str, now: Moment) {
        if self.channels.contains(name) {
            return;
        }
        if self.channels.len() >= self.room.settings.limits.subscriptions {
            tracing::debug!("a client has as many channels as it may");
            return;
        }
        let (name, latest) = self.room.subscribe(&self.client, name);
        self.channels.insert(name);
        let ours = self.client.outbox().is_ours();
        if let Some(latest) = latest.filter(|_| ours) {
            self.client.tell(latest, now);
        }
    }
}
