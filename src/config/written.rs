//! The configuration as written: every value read for its form, with the line it stands on.
//!
//! Invariants: the keys that exist are the keys that are asked for in here, and there is no other
//! list of them; every complaint names the file, the line and the key.
//!
//! Absent: defaults, the environment, the disk. That is for the settings as meant.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::amount;
use super::desktop::WrittenDesktop;
use super::fanout::WrittenFanout;
use super::guards::WrittenGuards;
use super::words::{ConflictRule, LogFormat, LogLevel, TransportKind, Way, Word, nearest};
use super::xmpp::WrittenXmpp;

/// A value and its line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) host: Option<At<String>>,
    pub(super) folders: Vec<WrittenFolder>,
    pub(super) settle_quiet: Option<At<Duration>>,
    pub(super) settle_quiet_max: Option<At<Duration>>,
    pub(super) settle_max_wait: Option<At<Duration>>,
    pub(super) settle_max_wait_open: Option<At<Duration>>,
    pub(super) push_quiet: Option<At<Duration>>,
    pub(super) push_quiet_max: Option<At<Duration>>,
    pub(super) push_max_wait: Option<At<Duration>>,
    pub(super) transports: Option<At<Vec<TransportKind>>>,
    pub(super) xmpp: WrittenXmpp,
    pub(super) fanout: WrittenFanout,
    pub(super) desktop: WrittenDesktop,
    pub(super) guards: WrittenGuards,
    pub(super) socket: Option<At<String>>,
    pub(super) log_level: Option<At<LogLevel>>,
    pub(super) log_format: Option<At<LogFormat>>,
}

/// One `[[folder]]`.
#[derive(Debug)]
pub(super) struct WrittenFolder {
    /// The line of its first key, for complaints about the whole.
    pub(super) line: usize,
    pub(super) path: Option<At<String>>,
    pub(super) name: Option<At<String>>,
    pub(super) hub: Option<At<String>>,
    pub(super) branch: Option<At<String>>,
    pub(super) git_dir: Option<At<String>>,
    pub(super) only: Option<At<Vec<String>>>,
    pub(super) exclude: Option<At<Vec<String>>>,
    pub(super) push: Option<At<Way>>,
    pub(super) receive: Option<At<Way>>,
    pub(super) conflict: Option<At<ConflictRule>>,
    pub(super) max_file: Option<At<u64>>,
    pub(super) poll: Option<At<Duration>>,
    pub(super) peers: Option<At<Vec<String>>>,
}

/// Reads a text; `file` is for messages.
pub(super) fn read(text: &str, file: &Path) -> Result<Written, ConfigError> {
    let doc = Doc::new(text, file);
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        line: doc.line(error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    })?;
    read_table(&doc, Some(table.get_ref()))
}

/// Returns every key there is, as `settle.quiet` or `folder.path`, in the order of the reader.
pub(super) fn keys() -> Vec<String> {
    let doc = Doc::new("", Path::new(""));
    // Without a table nothing can be wrong with it, and every key has been asked for.
    let folder = read_folder(&doc, None, 0);
    let whole = read_table(&doc, None);
    debug_assert!(folder.is_ok() && whole.is_ok());
    doc.asked.into_inner()
}

/// Returns the host that a text names, even if other things are wrong with it.
pub(super) fn peek_host(text: &str) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let host = table.get_ref().get("host")?.get_ref().as_str()?;
    Some(host.to_owned())
}

fn read_table(doc: &Doc<'_>, table: Option<&DeTable<'_>>) -> Result<Written, ConfigError> {
    let mut top = Section::new(doc, "", table);
    let host = top.take("host", text)?;
    let mut folders = Vec::new();
    if let Some(found) = top.value("folder") {
        let DeValue::Array(items) = found.get_ref() else {
            return Err(doc.bad(
                found,
                "folder",
                "must stand in double brackets, as [[folder]]",
            ));
        };
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                return Err(doc.bad(
                    item,
                    "folder",
                    "must stand in double brackets, as [[folder]]",
                ));
            };
            folders.push(read_folder(doc, Some(table), doc.line(item.span().start))?);
        }
    }

    let mut settle = top.section("settle")?;
    let settle_quiet = settle.take("quiet", time)?;
    let settle_quiet_max = settle.take("quiet_max", time)?;
    let settle_max_wait = settle.take("max_wait", time)?;
    let settle_max_wait_open = settle.take("max_wait_open", time)?;
    settle.finish()?;

    let mut push = top.section("push")?;
    let push_quiet = push.take("quiet", time)?;
    let push_quiet_max = push.take("quiet_max", time)?;
    let push_max_wait = push.take("max_wait", time)?;
    push.finish()?;

    let mut notice = top.section("notice")?;
    let transports = notice.take("transports", |value| {
        let items = texts(value)?;
        items.iter().map(|item| word_of(item)).collect()
    })?;
    notice.finish()?;

    let xmpp = WrittenXmpp::read(top.section("xmpp")?)?;
    let fanout = WrittenFanout::read(top.section("fanout")?)?;
    let desktop = WrittenDesktop::read(top.section("desktop")?)?;

    let guards = WrittenGuards::read(top.section("guards")?)?;

    let mut control = top.section("control")?;
    let socket = control.take("socket", text)?;
    control.finish()?;

    let mut log = top.section("log")?;
    let log_level = log.take("level", word)?;
    let log_format = log.take("format", word)?;
    log.finish()?;

    top.finish()?;
    Ok(Written {
        host,
        folders,
        settle_quiet,
        settle_quiet_max,
        settle_max_wait,
        settle_max_wait_open,
        push_quiet,
        push_quiet_max,
        push_max_wait,
        transports,
        xmpp,
        fanout,
        desktop,
        guards,
        socket,
        log_level,
        log_format,
    })
}

fn read_folder(
    doc: &Doc<'_>,
    table: Option<&DeTable<'_>>,
    line: usize,
) -> Result<WrittenFolder, ConfigError> {
    let mut folder = Section::new(doc, "folder", table);
    let written = WrittenFolder {
        line,
        path: folder.take("path", text)?,
        name: folder.take("name", text)?,
        hub: folder.take("hub", text)?,
        branch: folder.take("branch", text)?,
        git_dir: folder.take("git_dir", text)?,
        only: folder.take("only", texts)?,
        exclude: folder.take("exclude", texts)?,
        push: folder.take("push", word)?,
        receive: folder.take("receive", word)?,
        conflict: folder.take("conflict", word)?,
        max_file: folder.take("max_file", bytes)?,
        poll: folder.take("poll", time)?,
        peers: folder.take("peers", texts)?,
    };
    folder.finish()?;
    Ok(written)
}

/// The text, for lines, and the keys that were asked for.
struct Doc<'a> {
    text: &'a str,
    file: PathBuf,
    asked: RefCell<Vec<String>>,
}

impl<'a> Doc<'a> {
    fn new(text: &'a str, file: &Path) -> Self {
        Self {
            text,
            file: file.to_owned(),
            asked: RefCell::default(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    fn bad<T>(&self, at: &Spanned<T>, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            file: self.file.clone(),
            line: self.line(at.span().start),
            key: key.to_owned(),
            message: message.into(),
        }
    }
}

/// One table of the file, and which of its keys we know.
pub(super) struct Section<'a> {
    doc: &'a Doc<'a>,
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn new(doc: &'a Doc<'a>, name: &'static str, table: Option<&'a DeTable<'a>>) -> Self {
        Self {
            doc,
            name,
            table,
            known: Vec::new(),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Result<Option<At<T>>, ConfigError> {
        let full = self.full(key);
        let found = self.value(key);
        self.doc.asked.borrow_mut().push(full.clone());
        found
            .map(|found| match read(found.get_ref()) {
                Ok(value) => Ok(At {
                    value,
                    line: self.doc.line(found.span().start),
                }),
                Err(message) => Err(self.doc.bad(found, &full, message)),
            })
            .transpose()
    }

    fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        let table = match self.value(name) {
            None => None,
            Some(found) => Some(found.get_ref().as_table().ok_or_else(|| {
                let message = format!("must be a table, as [{name}]");
                self.doc.bad(found, name, message)
            })?),
        };
        Ok(Section::new(self.doc, name, table))
    }

    /// Complains about the first key that nobody asked for.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let unknown = self
            .table
            .into_iter()
            .flat_map(|table| table.keys())
            .filter(|key| !self.known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = unknown else {
            return Ok(());
        };
        let name = key.get_ref().as_ref();
        let all = keys();
        let elsewhere = || {
            let mut same = all.iter().filter(|full| last(full) == name);
            same.next().map(String::as_str)
        };
        let here = || nearest(name, self.known.iter().copied()).map(|key| self.full(key));
        let full = self.full(name);
        Err(ConfigError::UnknownKey {
            file: self.doc.file.clone(),
            line: self.doc.line(key.span().start),
            nearest: here()
                .or_else(|| elsewhere().map(str::to_owned))
                .or_else(|| nearest(&full, all.iter().map(String::as_str)).map(str::to_owned)),
            key: full,
        })
    }
}

fn last(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value.as_str() {
        Some("") => Err("must not be empty; leave the line out".into()),
        Some(text) => Ok(text.to_owned()),
        None => Err("must be a text in quotes".into()),
    }
}

pub(super) fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = || "must be a list of texts, as in [\"one\", \"two\"]".to_owned();
    let items = value.as_array().ok_or_else(wrong)?;
    let item = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
    items.iter().map(|it| item(it).ok_or_else(wrong)).collect()
}

pub(super) fn time(value: &DeValue<'_>) -> Result<Duration, String> {
    let text = amount_text(value, "\"150ms\"")?;
    amount::duration(text).map_err(|why| format!("is \"{text}\": {why}"))
}

pub(super) fn bytes(value: &DeValue<'_>) -> Result<u64, String> {
    let text = amount_text(value, "\"1GiB\"")?;
    amount::size(text).map_err(|why| format!("is \"{text}\": {why}"))
}

fn amount_text<'a>(value: &'a DeValue<'_>, example: &str) -> Result<&'a str, String> {
    // A bare 0 needs no unit.
    let zero = || value.as_integer().filter(|number| number.as_str() == "0");
    value
        .as_str()
        .or_else(|| zero().map(|_| "0"))
        .ok_or_else(|| format!("must be a text with a number and its unit, as in {example}"))
}

pub(super) fn number<T>(value: &DeValue<'_>, most: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
{
    let wrong = || match most.to_string() {
        most if most.len() > 6 => "must be a whole number from 0".to_owned(),
        most => format!("must be a whole number from 0 to {most}"),
    };
    let number = value.as_integer().ok_or_else(wrong)?;
    let digits = number.as_str().replace('_', "");
    i64::from_str_radix(&digits, number.radix())
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| *number <= most)
        .ok_or_else(wrong)
}

pub(super) fn word<W: Word>(value: &DeValue<'_>) -> Result<W, String> {
    word_of(value.as_str().unwrap_or_default())
}

fn word_of<W: Word>(text: &str) -> Result<W, String> {
    W::of(text).ok_or_else(|| {
        let words: Vec<&str> = W::ALL.iter().map(|(word, _)| *word).collect();
        let all = format!("must be one of \"{}\"", words.join("\", \""));
        match nearest(text, words) {
            Some(near) => format!("{all}; did you mean \"{near}\"?"),
            None => all,
        }
    })
}
