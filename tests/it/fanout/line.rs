//! Somebody who speaks the protocol by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use autosync::clock;
use autosync::engine::timer::Moment;

use crate::support::host::PATIENCE;

/// A connection, and what came over it.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
    /// Each piece as it came out of the socket.
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Line {
    /// Connects; the greeting is the next line.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// Takes a connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            rest: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Connects as a `SparkleShare` host does, and takes the greeting.
    pub(crate) fn sparkleshare(address: SocketAddr, channels: &[&str]) -> Self {
        let mut line = Self::open(address);
        assert_eq!(line.next(), "debug!connected...");
        for channel in channels {
            line.say(&format!("subscribe {channel}"));
        }
        line.pong();
        line
    }

    /// Connects as a client of ours does, without a key.
    pub(crate) fn ours(address: SocketAddr, channels: &[&str]) -> Self {
        let mut line = Self::open(address);
        assert_eq!(line.next(), "debug!connected...");
        line.say("hello autosync/1");
        assert_eq!(line.next(), "hello!autosync/1");
        for channel in channels {
            line.say(&format!("subscribe {channel}"));
        }
        line
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.raw(format!("{line}\n").as_bytes());
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Waits for the next line.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        self.at().0
    }

    /// Waits for the next line; `None` if the server has ended the connection.
    #[track_caller]
    pub(crate) fn maybe(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let mut buffer = vec![0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => {
                    self.pieces.push(buffer[..count].to_vec());
                    self.rest.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Waits for the next line and says when it came.
    #[track_caller]
    pub(crate) fn at(&mut self) -> (String, Moment) {
        let line = self.maybe().expect("the server ended the connection");
        (line, clock::now())
    }

    /// Returns what came before the answer to a ping of now: everything before was dealt with.
    #[track_caller]
    pub(crate) fn before_pong(&mut self) -> Vec<String> {
        self.say("ping");
        let mut before = Vec::new();
        loop {
            let line = self.next();
            if line.bytes().all(|byte| byte.is_ascii_digit()) {
                return before;
            }
            before.push(line);
        }
    }

    /// Asserts that nothing came before the answer to a ping of now.
    #[track_caller]
    pub(crate) fn pong(&mut self) {
        assert_eq!(self.before_pong(), [""; 0]);
    }

    /// Asserts that the next line is the answer to a ping of before.
    #[track_caller]
    pub(crate) fn pong_follows(&mut self) {
        let line = self.next();
        assert!(line.parse::<i64>().is_ok(), "{line}");
    }

    /// Asserts that the server has ended the connection, whatever it said before.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.maybe()).collect()
    }
}
