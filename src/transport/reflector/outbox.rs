//! What one client is to be told, and when. Pure.
//!
//! Invariants:
//! 1. Of each channel only the newest message waits, so what waits is bounded by what the client may
//!    subscribe to.
//! 2. A client of ours gets everything at once; a `SparkleShare` host one line, then nothing for a
//!    while. Only the answer to its ping does not wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use crate::engine::timer::Moment;
use crate::transport::fanout::seal::Seal;

/// So much is put together for one send, in bytes.
const BATCH: usize = 4096;

/// A message on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The channel.
    pub(super) channel: Arc<str>,
    /// What is said.
    pub(super) text: Arc<str>,
}

/// How a client is spoken to.
#[derive(Debug)]
pub(super) enum Style {
    /// As a `SparkleShare` host needs it.
    Slow,
    /// As one of ours; sealed if there is a key.
    Ours(Option<Seal>),
}

/// What one client is to be told.
#[derive(Debug)]
pub(super) struct Outbox {
    style: Style,
    gap: Duration,
    swallowed: Duration,
    /// Answers that go before everything else.
    answers: Vec<String>,
    pong: bool,
    waiting: VecDeque<Message>,
    /// What is being sent, whole lines, and how much of it is gone.
    bytes: Vec<u8>,
    gone: usize,
    /// No message before this moment.
    not_before: Moment,
    /// The latest message, for who may have lost it.
    latest: Option<(Message, Moment)>,
    /// Since when the client takes nothing.
    stuck: Option<Moment>,
    /// The connection is of no use any more.
    pub(super) broken: bool,
}

impl Outbox {
    /// Creates the outbox of a client that has just come, with the line that greets it.
    pub(super) fn new(limits: &Limits, greeting: &str) -> Self {
        Self {
            style: Style::Slow,
            gap: limits.gap,
            swallowed: limits.swallowed,
            answers: vec![greeting.to_owned()],
            pong: false,
            waiting: VecDeque::new(),
            bytes: Vec::new(),
            gone: 0,
            not_before: Moment::default(),
            latest: None,
            stuck: None,
            broken: false,
        }
    }

    /// Speaks to one of ours from now on, after `answer`, a whole line.
    pub(super) fn speak(&mut self, style: Style, answer: String) {
        self.style = style;
        self.answers.push(answer);
        self.not_before = Moment::default();
    }

    /// Returns whether it is one of ours.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.style, Style::Ours(_))
    }

    /// Returns the line in a sealed one; the line itself if nothing is sealed.
    pub(super) fn open<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        match &mut self.style {
            Style::Ours(Some(seal)) => seal.open(line),
            Style::Ours(None) | Style::Slow => Some(line),
        }
    }

    /// Takes a message, in place of the one of its channel that waits.
    pub(super) fn put(&mut self, message: Message) {
        let old = self
            .waiting
            .iter_mut()
            .find(|it| it.channel == message.channel);
        match old {
            Some(old) => *old = message,
            None => self.waiting.push_back(message),
        }
    }

    /// Takes that a channel is listened to no longer: what waits of it is for nobody.
    pub(super) fn forget(&mut self, channel: &str) {
        self.waiting.retain(|message| &*message.channel != channel);
    }

    /// Takes a ping.
    pub(super) fn ping(&mut self, now: Moment) {
        self.pong = true;
        if let (Style::Slow, Some((message, at))) = (&self.style, &self.latest)
            && now.since(*at) < self.swallowed
        {
            let again = message.clone();
            if self.waiting.iter().all(|it| it.channel != again.channel) {
                self.waiting.push_front(again);
            }
        }
    }

    /// Returns what is to be sent now, whole lines but for what is gone already. `clock` is the wall
    /// time in seconds, the answer to a ping.
    pub(super) fn due(&mut self, now: Moment, clock: impl FnOnce() -> i64) -> &[u8] {
        if self.gone == self.bytes.len() {
            self.bytes = Vec::new();
            self.gone = 0;
            self.fill(now, clock);
        }
        &self.bytes[self.gone..]
    }

    fn fill(&mut self, now: Moment, clock: impl FnOnce() -> i64) {
        for answer in self.answers.drain(..) {
            self.bytes.extend_from_slice(answer.as_bytes());
            self.not_before = now + self.gap;
        }
        match &mut self.style {
            Style::Slow => {
                if !self.bytes.is_empty() {
                    // One line in one send.
                } else if std::mem::take(&mut self.pong) {
                    self.bytes = format!("{}\n", clock()).into_bytes();
                    self.not_before = now + self.gap;
                } else if now >= self.not_before
                    && let Some(message) = self.waiting.pop_front()
                {
                    self.bytes = format!("{}!{}\n", message.channel, message.text).into_bytes();
                    self.not_before = now + self.gap;
                    self.latest = Some((message, now));
                }
            }
            Style::Ours(seal) => {
                let mut say = |line: String| {
                    let line = match seal {
                        Some(seal) => seal.close(&line),
                        None => line,
                    };
                    self.bytes.extend_from_slice(line.as_bytes());
                    self.bytes.push(b'\n');
                    self.bytes.len()
                };
                if std::mem::take(&mut self.pong) {
                    say(clock().to_string());
                }
                while let Some(message) = self.waiting.pop_front() {
                    if say(format!("{}!{}", message.channel, message.text)) >= BATCH {
                        break;
                    }
                }
            }
        }
    }

    /// Takes that so many bytes were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.gone += count;
        self.stuck = None;
    }

    /// Takes that the client takes nothing now.
    pub(super) fn blocked(&mut self, now: Moment) {
        self.stuck.get_or_insert(now);
    }

    /// Returns since when the client takes nothing.
    pub(super) fn stuck(&self) -> Option<Moment> {
        self.stuck
    }

    /// Returns when there is something to send that may not be sent earlier.
    pub(super) fn later(&self) -> Option<Moment> {
        (!self.waiting.is_empty() && self.stuck.is_none()).then_some(self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(&Limits::default(), "hi\n");
        assert_eq!(sent(&mut outbox, 0), "hi\n");
        outbox
    }

    fn message(channel: &str, text: &str) -> Message {
        Message {
            channel: channel.into(),
            text: text.into(),
        }
    }

    fn sent(outbox: &mut Outbox, at: u64) -> String {
        let bytes = outbox.due(Moment::from_millis(at), || 42).to_vec();
        outbox.sent(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_slow_client_gets_one_line_at_a_time_and_the_newest_of_each_channel() {
        let mut outbox = outbox();
        for (channel, text) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")] {
            outbox.put(message(channel, text));
        }
        assert_eq!(sent(&mut outbox, 1199), "", "the greeting was a line, too");
        assert_eq!(outbox.later(), Some(Moment::from_millis(1200)));
        assert_eq!(sent(&mut outbox, 1200), "a!3\n");
        assert_eq!(sent(&mut outbox, 2399), "");
        assert_eq!(sent(&mut outbox, 2400), "b!1\n");
        assert_eq!(
            (sent(&mut outbox, 9000).as_str(), outbox.later()),
            ("", None)
        );
        outbox.put(message("a", "4"));
        assert_eq!(sent(&mut outbox, 9000), "a!4\n", "at once");
    }

    #[test]
    fn a_slow_client_gets_its_pong_at_once_and_then_nothing_for_a_while() {
        let mut outbox = outbox();
        outbox.put(message("a", "1"));
        outbox.ping(Moment::from_millis(10));
        outbox.ping(Moment::from_millis(10));
        assert_eq!(sent(&mut outbox, 10), "42\n");
        assert_eq!(sent(&mut outbox, 1209), "");
        assert_eq!(sent(&mut outbox, 1210), "a!1\n");
    }

    #[test]
    fn what_a_slow_client_took_for_its_pong_is_said_again() {
        let mut outbox = outbox();
        outbox.put(message("a", "1"));
        assert_eq!(sent(&mut outbox, 5000), "a!1\n");
        outbox.ping(Moment::from_millis(5100));
        assert_eq!(sent(&mut outbox, 5100), "42\n");
        assert_eq!(sent(&mut outbox, 6300), "a!1\n");
        outbox.ping(Moment::from_millis(9000));
        assert_eq!(sent(&mut outbox, 9000), "42\n");
        assert_eq!(sent(&mut outbox, 20_000), "", "it had it");
        // What is newer goes instead.
        outbox.put(message("a", "2"));
        assert_eq!(sent(&mut outbox, 20_000), "a!2\n");
        outbox.put(message("a", "3"));
        outbox.ping(Moment::from_millis(20_001));
        assert_eq!(sent(&mut outbox, 20_001), "42\n");
        assert_eq!(sent(&mut outbox, 30_000), "a!3\n");
        assert_eq!(sent(&mut outbox, 40_000), "");
    }

    #[test]
    fn one_of_ours_gets_everything_at_once() {
        let mut outbox = outbox();
        outbox.speak(Style::Ours(None), "hello\n".into());
        outbox.put(message("a", "1"));
        outbox.put(message("b", "1"));
        outbox.put(message("a", "2"));
        outbox.ping(Moment::from_millis(1));
        assert_eq!(sent(&mut outbox, 1), "hello\n42\na!2\nb!1\n");
        assert!(outbox.is_ours());
    }

    #[test]
    fn what_is_half_sent_is_finished_first() {
        let mut outbox = outbox();
        outbox.speak(Style::Ours(None), "hello\n".into());
        let now = Moment::from_millis(1);
        assert_eq!(outbox.due(now, || 42), b"hello\n");
        outbox.sent(2);
        outbox.blocked(now);
        assert_eq!(outbox.stuck(), Some(now));
        outbox.put(message("a", "1"));
        assert_eq!(sent(&mut outbox, 2), "llo\n");
        assert_eq!(outbox.stuck(), None);
        assert_eq!(sent(&mut outbox, 2), "a!1\n");
    }
}
