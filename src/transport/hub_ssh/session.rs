//! One held session: its child process, what it says and the beat.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::clock;
use crate::engine::timer::Moment;
use crate::git::ssh::Client;
use crate::names::ObjectId;
use crate::process::Running;
use crate::transport::hub::Pace;

/// What the server runs.
const SCRIPT: &str = include_str!("watch.sh");
/// How many half beats the server waits for one.
const SERVER_PATIENCE: u32 = 6;
/// How long a server may take to log us in and start a shell.
const LOGIN: Duration = Duration::from_secs(45);
/// The longest line that a server may send, and the most of its errors that is kept, in bytes.
const LIMIT: usize = 16 * 1024;
/// ssh's exit code for its own failures; any other is that of the command.
const SSH_FAILED: i32 = 255;

/// What came of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The branch of this order, counted from 1, names this commit.
    Tip(usize, Option<ObjectId>),
    /// There is no repository for this order.
    Missing(usize),
    /// The server does not run our script.
    Refused,
    /// Nothing was heard for too long.
    Stalled,
    /// The connection failed or ended; with what ssh said.
    Ended(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the script's first word.
    Login,
    /// Waiting for it to be ready.
    Ordered,
    /// Beating.
    Ready,
}

/// A session and its child, which is killed when this is dropped.
pub(super) struct Session {
    running: Running,
    ended: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    line: Vec<u8>,
    errors: Vec<u8>,
    phase: Phase,
    started: Moment,
    pace: Pace,
    /// When the next beat is due; while one is unanswered, when patience ends.
    due: Moment,
    unanswered: bool,
}

impl Session {
    /// Starts ssh and sends the script.
    pub(super) fn start(client: &Client, pace: Pace) -> io::Result<Self> {
        let mut command = client.command("sh -s");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let child = running.child();
        let (mut stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        for fd in [
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ]
        .into_iter()
        .flatten()
        {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        if let Some(pipe) = &mut stdin
            && let Err(error) = pipe.write_all(script(pace).as_bytes())
        {
            // Its exit will say why.
            tracing::debug!(%error, "ssh did not take the script");
        }
        let ended = match Pid::from_raw(running.pid()) {
            Some(pid) => Some(pidfd_open(pid, PidfdFlags::empty())?),
            None => None,
        };
        let started = clock::now();
        Ok(Self {
            running,
            ended,
            stdin,
            stdout,
            stderr,
            line: Vec::new(),
            errors: Vec::new(),
            phase: Phase::Login,
            started,
            pace,
            due: started + LOGIN,
            unanswered: true,
        })
    }

    /// Returns for how long the session has lived.
    pub(super) fn age(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// Returns when [`step`](Self::step) has something to do even if nothing is heard.
    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// Adds what tells that there is something to hear.
    pub(super) fn join<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let pipes = [
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
            self.ended.as_ref().map(AsFd::as_fd),
        ];
        for fd in pipes.into_iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
    }

    /// Takes what was said, beats if that is due, and returns what came of it. `orders` are the
    /// branches and paths to watch, for the moment when the script asks for them.
    pub(super) fn step<'a, I>(&mut self, orders: impl Fn() -> I) -> Vec<Heard>
    where
        I: Iterator<Item = (&'a str, &'a str)>,
    {
        let mut heard = Vec::new();
        let over = self.has_ended();
        let mut errors = std::mem::take(&mut self.errors);
        drain(&mut self.stderr, &mut |piece| {
            let room = LIMIT.saturating_sub(errors.len()).min(piece.len());
            errors.extend_from_slice(&piece[..room]);
        });
        self.errors = errors;
        let mut said = Vec::new();
        drain(&mut self.stdout, &mut |piece| said.extend_from_slice(piece));
        for byte in said {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, &orders, &mut heard);
            } else if self.line.len() < LIMIT {
                self.line.push(byte);
            }
        }
        if over || self.stdout.is_none() {
            heard.push(self.end());
        } else if self.due <= clock::now() {
            if self.unanswered {
                heard.push(Heard::Stalled);
            } else {
                self.beat();
            }
        }
        heard
    }

    fn has_ended(&mut self) -> bool {
        match self.running.child().try_wait() {
            Ok(status) => status.is_some(),
            Err(error) => {
                tracing::debug!(%error, "ssh cannot be waited for");
                true
            }
        }
    }

    fn take_line<'a, I>(&mut self, line: &[u8], orders: impl Fn() -> I, heard: &mut Vec<Heard>)
    where
        I: Iterator<Item = (&'a str, &'a str)>,
    {
        let text = String::from_utf8_lossy(line);
        let mut words = text.trim_end().split(' ');
        match (self.phase, words.next().unwrap_or_default()) {
            (Phase::Login, "autosync-hub-1") => {
                let lines: Vec<String> = orders()
                    .enumerate()
                    .map(|(at, (branch, path))| format!("w {} {branch} {path}\n", at + 1))
                    .collect();
                self.say(&(lines.concat() + "go\n"));
                self.phase = Phase::Ordered;
            }
            (Phase::Ordered, "ready") => {
                self.phase = Phase::Ready;
                self.unanswered = false;
                self.due = clock::now() + self.pace.beat;
            }
            (Phase::Ready, "p") => {
                self.unanswered = false;
                self.due = clock::now() + self.pace.beat;
            }
            (Phase::Ordered | Phase::Ready, word @ ("t" | "m")) => {
                let Some(number) = words.next().and_then(|n| n.parse().ok()) else {
                    return;
                };
                heard.push(if word == "m" {
                    Heard::Missing(number)
                } else {
                    let id = words.next().unwrap_or_default();
                    Heard::Tip(number, ObjectId::from_hex(id).ok())
                });
            }
            // The greeting of some start-up file.
            _ => tracing::trace!("an unexpected line from the server"),
        }
    }

    fn beat(&mut self) {
        self.say("p\n");
        self.unanswered = true;
        self.due = clock::now() + self.pace.answer;
    }

    fn say(&mut self, text: &str) {
        if let Some(stdin) = &mut self.stdin
            && let Err(error) = stdin.write_all(text.as_bytes())
        {
            tracing::debug!(%error, "ssh no longer listens");
            self.stdin = None;
        }
    }

    /// Says what the end of the child means.
    fn end(&mut self) -> Heard {
        self.running.kill();
        let code = match self.running.wait() {
            Ok(status) => status.code(),
            Err(_) => None,
        };
        let words = String::from_utf8_lossy(&self.errors).into_owned();
        match code {
            Some(code) if code != SSH_FAILED && self.phase == Phase::Login => {
                tracing::info!(code, words, "the server does not run our commands");
                Heard::Refused
            }
            Some(_) | None => Heard::Ended(words),
        }
    }
}

/// Returns the script with the server's patience in it.
fn script(pace: Pace) -> String {
    let quiet = (pace.beat * 2).as_secs().max(1);
    SCRIPT
        .replace("@LIMIT@", &SERVER_PATIENCE.to_string())
        .replace("@STEP@", &(pace.beat / 2).as_secs_f64().to_string())
        .replace("@QUIET@", &quiet.to_string())
}

/// Reads what a pipe has now. A pipe at its end becomes `None`.
fn drain<R: Read>(pipe: &mut Option<R>, take: &mut dyn FnMut(&[u8])) {
    let Some(reader) = pipe.as_mut() else {
        return;
    };
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => {
                *pipe = None;
                return;
            }
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                *pipe = None;
                return;
            }
        }
    }
}
