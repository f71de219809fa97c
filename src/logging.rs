//! The log, on standard error.
//!
//! Below a service manager the journal keeps the time and the level, so neither is written into
//! the text; the level goes before the line in the form that the journal takes away (sd-daemon(3)).
//!
//! Absent: files, rotation, secrets.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::config::{LogFormat, LogLevel, LogSettings, Word};
use crate::paths::Env;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable makes no sense.
    #[error("the variable AUTOSYNC_LOG is no filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already in this process.
    #[error("the log was started twice")]
    Twice,
}

/// Starts the log of this process.
///
/// How much is logged is said by the variable `AUTOSYNC_LOG` (`debug`, or a filter such as
/// `autosync::watch=trace,warn`), else by `verbose` (1: debug, 2: trace), else by `settings`.
pub fn start(settings: LogSettings, verbose: u8, env: &Env) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(directives(settings.level, verbose, env))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if settings.format == LogFormat::Json {
        log.json().with_timer(Wall).try_init()
    } else if is_journal(env) {
        log.with_ansi(false)
            .event_format(Journal::default())
            .try_init()
    } else {
        let colours = io::stderr().is_terminal() && env.get("NO_COLOR").is_none();
        log.with_ansi(colours)
            .event_format(line().with_timer(Wall))
            .try_init()
    };
    started.map_err(|_| LoggingError::Twice)
}

/// Returns the filter in the words of the filter's own language.
fn directives(level: LogLevel, verbose: u8, env: &Env) -> String {
    let asked = match verbose {
        0 => level.word(),
        1 => LogLevel::Debug.word(),
        _ => LogLevel::Trace.word(),
    };
    let word = match env.text("AUTOSYNC_LOG") {
        Some(word) if LogLevel::of(word).is_some() => word,
        Some(filter) => return filter.to_owned(),
        None => asked,
    };
    // What libraries say below a warning is theirs.
    match LogLevel::of(word) {
        Some(LogLevel::Error) => "error".into(),
        _ => format!("warn,autosync={word}"),
    }
}

fn line() -> Format<Compact> {
    tracing_subscriber::fmt::format()
        .with_target(false)
        .compact()
}

/// Returns whether standard error is a stream to the journal: the variable names its device and
/// inode, and is inherited by children whose standard error is something else.
fn is_journal(env: &Env) -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    let here = format!("{}:{}", stat.st_dev, stat.st_ino);
    env.text("JOURNAL_STREAM") == Some(&here)
}

/// Wall time with the local offset.
struct Wall;

impl FormatTime for Wall {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&clock::wall())
    }
}

/// Lines for the journal: `<PRIORITY>` and the text.
struct Journal(Format<Compact, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(line().without_time().with_level(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// Returns the level as syslog(3) numbers it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn env(value: &str) -> Env {
        [("AUTOSYNC_LOG", value)].into_iter().collect()
    }

    #[test]
    fn the_variable_goes_before_the_flag_and_the_flag_before_the_file() {
        let of = |verbose, value| directives(LogLevel::Info, verbose, &env(value));
        assert_eq!(of(0, ""), "warn,autosync=info");
        assert_eq!(of(1, ""), "warn,autosync=debug");
        assert_eq!(of(2, ""), "warn,autosync=trace");
        assert_eq!(of(2, "error"), "error");
        assert_eq!(of(0, "autosync::lock=trace"), "autosync::lock=trace");
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let kept = &mut self.0.lock().map_err(|_| io::ErrorKind::Other)?;
            kept.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(Journal::default())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(folder = "Sync", "the hub does not answer");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<4>the hub does not answer folder=\"Sync\"\n");
    }

    #[test]
    fn only_the_very_stream_that_the_variable_names_is_the_journal() {
        let env: Env = [("JOURNAL_STREAM", "0:0")].into_iter().collect();
        assert!(!is_journal(&env));
        assert!(!is_journal(&Env::default()));

        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        let here = format!("{}:{}", stat.st_dev, stat.st_ino);
        let env: Env = [("JOURNAL_STREAM", here)].into_iter().collect();
        assert!(is_journal(&env));
    }
}
