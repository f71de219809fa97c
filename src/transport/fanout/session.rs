//! One connection of the client, from the first try to its end.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::line::Lines;
use super::seal::{self, Key};
use super::talk::{Heard, Talk};
use super::{Worker, channel};
use crate::clock::{self, SuspendDetector};
use crate::engine::event::{Code, Recovery, Trouble};
use crate::engine::timer::Moment;
use crate::transport::State;

/// How often it is looked whether the machine was suspended meanwhile.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// So much may wait until the server takes it, in bytes.
const OUT_LIMIT: usize = 256 * 1024;

/// How a connection ended.
pub(super) enum End {
    /// The transport is to end.
    Stop,
    /// There is no folder any more.
    Alone,
    /// It broke, or there was none.
    Failed(Trouble),
    /// The server and we do not agree.
    Held(Trouble),
}

/// A connection.
struct Line {
    stream: TcpStream,
    talk: Talk,
    lines: Lines,
    out: Vec<u8>,
    subscribed: BTreeSet<String>,
    /// Until when the server has to have said or taken something.
    due: Option<Moment>,
    /// When it is asked again whether it lives.
    ping: Moment,
}

impl Worker {
    /// Connects and talks until the connection ends.
    pub(super) async fn converse(&mut self, key: Option<Key>) -> End {
        let limit = clock::now() + self.pace.login;
        let connect = TcpStream::connect((self.settings.host.clone(), self.settings.port));
        let connect = tokio::time::timeout(self.pace.login, connect);
        tokio::pin!(connect);
        let stream = loop {
            tokio::select! {
                stream = &mut connect => match stream {
                    Ok(Ok(stream)) => break stream,
                    Ok(Err(error)) => return self.failed(&error),
                    Err(_) => return self.failed(&io::ErrorKind::TimedOut.into()),
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return End::Stop,
                }
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            return self.failed(&error);
        }
        let nonce = match seal::nonce() {
            Ok(nonce) => nonce,
            Err(error) => return self.failed(&error),
        };
        let (talk, first) = Talk::new(key, nonce);
        let mut line = Line {
            stream,
            talk,
            lines: Lines::default(),
            out: first.into_bytes(),
            subscribed: BTreeSet::new(),
            due: Some(limit),
            ping: limit,
        };
        self.look();
        match self.drive(&mut line).await {
            Ok(end) => end,
            Err(error) => self.failed(&error),
        }
    }

    async fn drive(&mut self, line: &mut Line) -> io::Result<End> {
        let mut suspends = SuspendDetector::new();
        let mut buffer = [0; 4096];
        loop {
            if self.rooms.is_empty() {
                return Ok(End::Alone);
            }
            if line.talk.is_ready() {
                self.catch_up(line);
            }
            if line.out.len() > OUT_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let next = line.due.map_or(line.ping, |due| due.min(line.ping));
            let sleep = clock::until(next).min(LOOK);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(super::Order::Retry) => self.ask(line),
                    Some(order) => self.obey(order),
                    None => return Ok(End::Stop),
                },
                ready = line.stream.readable() => {
                    ready?;
                    match line.stream.try_read(&mut buffer) {
                        Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                        Ok(count) => {
                            if let Some(end) = self.take(line, &buffer[..count])? {
                                return Ok(end);
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                ready = line.stream.writable(), if !line.out.is_empty() => {
                    ready?;
                    match line.stream.try_write(&line.out) {
                        Ok(count) => drop(line.out.drain(..count)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                () = tokio::time::sleep(sleep) => {
                    let now = clock::now();
                    if line.due.is_some_and(|due| due <= now) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    if line.talk.is_ready() && (line.ping <= now || suspends.slept().is_some()) {
                        self.look();
                        self.ask(line);
                    }
                }
            }
        }
    }

    /// Asks the server whether it lives, unless it has been asked.
    fn ask(&self, line: &mut Line) {
        if line.talk.is_ready() && line.due.is_none() {
            let ping = line.talk.say("ping");
            line.out.extend_from_slice(ping.as_bytes());
            line.due = Some(clock::now() + self.pace.answer);
        }
        line.ping = clock::now() + self.pace.ping;
    }

    /// Subscribes to what is not subscribed, and says what was not said.
    fn catch_up(&mut self, line: &mut Line) {
        let channels = self.rooms.values().flat_map(|room| &room.channels);
        let wanted: BTreeSet<String> = channels.map(|channel| channel.name.clone()).collect();
        let mut words = Vec::new();
        for gone in line.subscribed.difference(&wanted) {
            words.push(format!("unsubscribe {gone}"));
        }
        for new in wanted.difference(&line.subscribed) {
            words.push(format!("subscribe {new}"));
        }
        line.subscribed = wanted;
        let mut said = BTreeSet::new();
        for room in self.rooms.values_mut() {
            if !room.channels.is_empty() {
                self.board.set(&room.folder.key, State::Online);
            }
            let Some(owed) = room.owed.as_mut().filter(|owed| !owed.said) else {
                continue;
            };
            owed.left.clear();
            for channel in &room.channels {
                if let Some(message) = channel::message(&owed.notice, channel) {
                    owed.left.insert(channel.name.clone());
                    // Two folders may be the same to the hub.
                    if said.insert(channel.name.clone()) {
                        words.push(format!("announce {} {message}", channel.name));
                    }
                }
            }
            owed.said = !owed.left.is_empty();
            if owed.said
                && let Some(noticed) = super::lock(&self.seen).folders.get_mut(&room.folder.key)
            {
                noticed.sent = Some(clock::now());
            }
        }
        for word in words {
            let word = line.talk.say(&word);
            line.out.extend_from_slice(word.as_bytes());
        }
    }

    /// Takes what the server said. Returns how the connection ends if it does.
    fn take(&mut self, line: &mut Line, bytes: &[u8]) -> io::Result<Option<End>> {
        let Line { talk, lines, .. } = line;
        let (mut heard_pong, mut ready, mut end) = (false, false, None);
        let fed = lines.feed(bytes, |text| match talk.hear(text) {
            Heard::Nothing => {}
            Heard::Ready => ready = true,
            Heard::Pong => heard_pong = true,
            Heard::Message(channel, message) => self.message(channel, message),
            Heard::Busy => end = Some(self.failed(&io::Error::other("it has no room"))),
            Heard::Refused(message, hint) => {
                let trouble = Trouble::new(Code::Auth, Recovery::Hold, message, hint);
                end = Some(End::Held(trouble));
            }
        });
        fed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if ready {
            line.due = None;
            line.ping = clock::now() + self.pace.ping;
            self.agreed();
        }
        if heard_pong {
            line.due = None;
        }
        Ok(end)
    }
}
