//! The configuration: as written in a file, and as meant.
//!
//! `written` reads the form, this module says what it means: defaults filled in, paths
//! made absolute, the host named. What comes out is a plain value, [`Settings`].
//!
//! Invariants:
//! 1. Nothing is guessed: a key that does not exist or a value of the wrong form is refused in one
//!    sentence that names file, line, key and, if there is one, the nearest right key.
//! 2. No folder lies in another, and no hub in a folder.
//! 3. `autosync-example.toml` is the list of all keys with their defaults; a test holds it equal to
//!    this code in both directions.
//!
//! Absent: secrets, and any look into a folder.

mod amount;
mod desktop;
mod fanout;
mod guards;
mod place;
mod roots;
mod words;
mod written;
mod xmpp;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use amount::{NotAnAmount, duration, show_duration, show_size, size};
pub use desktop::{Describe, DesktopSettings, Notify};
pub use fanout::FanoutSettings;
pub use place::is_path as hub_is_path;
pub use words::{ConflictRule, LogFormat, LogLevel, TransportKind, Way, Word};
pub use xmpp::{Password, Secret, Tls, XmppSettings};

use crate::engine::guard::MassDelete;
use crate::names::escape;
use crate::paths::{Env, Paths};
use roots::{Roots, tail, tell_apart};
use written::{At, Written, WrittenFolder};

/// The file with every key, its default and one line of words.
pub const EXAMPLE: &str = include_str!("../autosync-example.toml");

/// The configuration as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This host's name.
    pub host: String,
    /// The folders in our care.
    pub folders: Vec<FolderSettings>,
    /// When a change is committed.
    pub settle: SettleSettings,
    /// When a commit is pushed.
    pub push: PushSettings,
    /// How news is heard.
    pub notice: NoticeSettings,
    /// The account for notices; `None` without one.
    pub xmpp: Option<XmppSettings>,
    /// The server for notices; `None` without one.
    pub fanout: Option<FanoutSettings>,
    /// What the desktop shows.
    pub desktop: DesktopSettings,
    /// What is held until a person approves.
    pub guards: GuardSettings,
    /// The control API.
    pub control: ControlSettings,
    /// The log.
    pub log: LogSettings,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSettings {
    /// Its name: as configured, or the last component of its path, with more of the path where two
    /// would be equal.
    pub name: String,
    /// Its root, absolute.
    pub path: PathBuf,
    /// Its hub, an absolute path or a URL; `None` is the remote that the repository has.
    pub hub: Option<String>,
    /// The branch that is kept identical; `None` is the one that is checked out.
    pub branch: Option<String>,
    /// Where its repository is, absolute; `None` is where git finds it.
    pub git_dir: Option<PathBuf>,
    /// The part of the repository that is ours, patterns of .gitignore; empty is all of it.
    pub only: Vec<String>,
    /// What is not ours on this host, patterns of .gitignore.
    pub exclude: Vec<String>,
    /// Whether commits leave.
    pub push: Way,
    /// Whether commits come in.
    pub receive: Way,
    /// What becomes of a file that both sides changed.
    pub conflict: ConflictRule,
    /// The largest file that is committed, in bytes; `None` depends on the hub.
    pub max_file: Option<u64>,
    /// How often the hub is asked; `None` depends on the transports.
    pub poll: Option<Duration>,
    /// People who share it: their hosts may tell us of its pushes, bare XMPP addresses.
    pub peers: Vec<String>,
}

/// When a change is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleSettings {
    /// The quiet time after a lone change.
    pub quiet: Duration,
    /// The longest quiet time, in a burst.
    pub quiet_max: Duration,
    /// A change never waits longer.
    pub max_wait: Duration,
    /// A file that a program has open for writing never waits longer.
    pub max_wait_open: Duration,
}

/// When a commit is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushSettings {
    /// The quiet time after a lone commit.
    pub quiet: Duration,
    /// The longest quiet time, in a burst.
    pub quiet_max: Duration,
    /// A commit never waits longer.
    pub max_wait: Duration,
}

/// How news is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeSettings {
    /// The transports, each once. [`TransportKind::Poll`] is always among them.
    pub transports: Vec<TransportKind>,
}

/// What is held until a person approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardSettings {
    /// How much may vanish at once.
    pub mass_delete: MassDelete,
    /// A whole directory at the top with more files than this is much, too.
    pub mass_delete_top: usize,
    /// After which time much that vanished elsewhere vanishes here without a person's word, if ever.
    pub unattended: Option<Duration>,
    /// Whether new files that look like secrets are held.
    pub secrets: bool,
    /// Whether new files that are build output or caches are held.
    pub junk: bool,
    /// So many new files may come at once.
    pub new_files: usize,
    /// So many bytes of new files may come at once.
    pub new_bytes: u64,
}

/// The control API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControlSettings {
    /// The socket, absolute; `None` is in the runtime directory.
    pub socket: Option<PathBuf>,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// How much is logged.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

impl Default for SettleSettings {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(150),
            quiet_max: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            max_wait_open: Duration::from_secs(60),
        }
    }
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            quiet_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(10),
        }
    }
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            transports: vec![TransportKind::Hub, TransportKind::Poll],
        }
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            mass_delete: MassDelete::default(),
            mass_delete_top: 10,
            unattended: None,
            secrets: true,
            junk: true,
            new_files: 50_000,
            new_bytes: 5 << 30,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("`{}` line {line} is not TOML: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// There is no such key.
    #[error(
        "`{}` line {line}: there is no key `{key}`{}",
        file.display(),
        nearest.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
    )]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key as written, with its table.
        key: String,
        /// The key that is most like it.
        nearest: Option<String>,
    },
    /// A value is wrong.
    #[error("`{}` line {line}: `{key}` {message}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// The rest of the sentence.
        message: String,
    },
    /// Two folders that were named on the command line nest or are equal.
    #[error("cannot care for {0}")]
    Overlap(String),
    /// A variable of the environment is wrong.
    #[error("the variable {name} {message}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// The rest of the sentence.
        message: String,
    },
}

impl ConfigError {
    /// Returns one sentence that says what to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Run `autosync config path` to see where it is looked for.",
            Self::Syntax { .. } | Self::UnknownKey { .. } | Self::Value { .. } => {
                "Run `autosync config example` to see every key."
            }
            Self::Overlap(_) => "Name one of them, or folders beside each other.",
            Self::Variable { .. } => "Set it to something else or unset it.",
        }
    }
}

impl Settings {
    /// Returns the defaults: no folders, and this host's name from the environment or the system.
    pub fn defaults(env: &Env) -> Result<Self, ConfigError> {
        Self::meant(Written::default(), Path::new(""), env)
    }

    /// Returns what a file says.
    pub fn load(file: &Path, env: &Env) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(&text, file, env)
    }

    /// Returns what a text says that stands in `file`; relative paths start beside it.
    pub fn parse(text: &str, file: &Path, env: &Env) -> Result<Self, ConfigError> {
        Self::meant(written::read(text, file)?, file, env)
    }

    /// Returns the same with these folders and their defaults in place of the configured ones.
    ///
    /// Errors if two of them nest or are equal.
    pub fn with_dirs(self, dirs: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut roots = Roots::default();
        let mut folders = Vec::new();
        for dir in dirs {
            let path = std::path::absolute(dir).map_err(|source| ConfigError::Read {
                file: dir.clone(),
                source,
            })?;
            roots.add(&path).map_err(ConfigError::Overlap)?;
            folders.push(FolderSettings::new(path));
        }
        let named = vec![false; folders.len()];
        tell_apart(&mut folders, &named);
        Ok(Self { folders, ..self })
    }

    fn meant(written: Written, file: &Path, env: &Env) -> Result<Self, ConfigError> {
        let base = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let scene = Scene {
            file,
            base: base.parent().unwrap_or(Path::new("/")),
            env,
        };
        let host = match &written.host {
            Some(host) => {
                check_host(&host.value).map_err(|why| scene.bad(host.line, "host", why))?;
                Some(host.value.clone())
            }
            None => None,
        };
        let host = host_of_env(env)?.or(host).unwrap_or_else(system_host);

        let (settle, push) = (SettleSettings::default(), PushSettings::default());
        let (guards, log) = (GuardSettings::default(), LogSettings::default());
        let (settle_quiet, settle_quiet_max) = scene.window(
            "settle",
            (written.settle_quiet, settle.quiet),
            (written.settle_quiet_max, settle.quiet_max),
        )?;
        let (push_quiet, push_quiet_max) = scene.window(
            "push",
            (written.push_quiet, push.quiet),
            (written.push_quiet_max, push.quiet_max),
        )?;
        let xmpp = written.xmpp.meant(&scene)?;
        let fanout = written.fanout.meant(&scene)?;
        let transports = scene.transports(written.transports, xmpp.is_some(), fanout.is_some())?;
        Ok(Self {
            folders: scene.folders(written.folders)?,
            settle: SettleSettings {
                quiet: settle_quiet,
                quiet_max: settle_quiet_max,
                max_wait: value_or(written.settle_max_wait, settle.max_wait),
                max_wait_open: value_or(written.settle_max_wait_open, settle.max_wait_open),
            },
            push: PushSettings {
                quiet: push_quiet,
                quiet_max: push_quiet_max,
                max_wait: value_or(written.push_max_wait, push.max_wait),
            },
            notice: NoticeSettings { transports },
            desktop: written.desktop.meant(&scene)?,
            xmpp,
            fanout,
            guards: written.guards.meant(guards),
            control: ControlSettings {
                socket: scene.path(written.socket, "control.socket")?,
            },
            log: LogSettings {
                level: value_or(written.log_level, log.level),
                format: value_or(written.log_format, log.format),
            },
            host,
        })
    }
}

impl FolderSettings {
    /// Returns the defaults for the folder at an absolute path.
    pub fn new(path: PathBuf) -> Self {
        Self {
            name: tail(&path, 1),
            path,
            hub: None,
            branch: None,
            git_dir: None,
            only: Vec::new(),
            exclude: Vec::new(),
            push: Way::Auto,
            receive: Way::Auto,
            conflict: ConflictRule::Merge,
            max_file: None,
            poll: None,
            peers: Vec::new(),
        }
    }
}

/// Returns every key there is, as `settle.quiet` or `folder.path`.
pub fn keys() -> Vec<String> {
    written::keys()
}

/// Returns the file that holds the configuration, `None` if there is none.
///
/// That is the one asked for, else `$AUTOSYNC_CONFIG`, whether they exist or not; else
/// `config.toml` in the configuration directory if it exists.
pub fn find(asked: Option<&Path>, env: &Env, paths: &Paths) -> Option<PathBuf> {
    if let Some(file) = asked {
        return Some(file.to_owned());
    }
    if let Some(file) = env.get("AUTOSYNC_CONFIG") {
        return Some(file.into());
    }
    let file = paths.config_file();
    // A link to nowhere is a mistake that the reader should complain about.
    fs::symlink_metadata(&file).is_ok().then_some(file)
}

/// Returns this host's name as far as it can be told, even if the configuration is broken: who
/// wants to stop a running agent must not have to mend its file first.
pub fn host(file: Option<&Path>, env: &Env) -> String {
    let named = || {
        let host = written::peek_host(&fs::read_to_string(file?).ok()?)?;
        check_host(&host).ok().map(|()| host)
    };
    host_of_env(env)
        .ok()
        .flatten()
        .or_else(named)
        .unwrap_or_else(system_host)
}

fn host_of_env(env: &Env) -> Result<Option<String>, ConfigError> {
    let Some(host) = env.get("AUTOSYNC_HOST") else {
        return Ok(None);
    };
    let host = host.to_str().unwrap_or("\0");
    check_host(host).map_err(|message| ConfigError::Variable {
        name: "AUTOSYNC_HOST",
        message,
    })?;
    Ok(Some(host.to_owned()))
}

/// A host's name stands in file names, in commit messages and on the network.
fn check_host(host: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let starts_well = host.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && host.len() <= 63 && host.bytes().all(good) {
        return Ok(());
    }
    Err(
        "must be 1 to 63 of the letters a-z and A-Z, digits, `-`, `_` and `.`, \
         the first a letter or digit"
            .into(),
    )
}

fn system_host() -> String {
    clean_host(&rustix::system::uname().nodename().to_string_lossy())
}

/// Returns the first label of a host name with everything foreign to [`check_host`] left out.
fn clean_host(name: &str) -> String {
    let label = name.split('.').next().unwrap_or_default();
    let kept: String = label
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .take(63)
        .collect();
    let host = kept.trim_start_matches(['-', '_']);
    if host.is_empty() {
        "host".into()
    } else {
        host.into()
    }
}

fn value_or<T>(written: Option<At<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

/// Where the text stands, for messages and relative paths.
struct Scene<'a> {
    file: &'a Path,
    base: &'a Path,
    env: &'a Env,
}

impl Scene<'_> {
    fn bad(&self, line: usize, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    /// Returns the transports: as written, else the hub and whatever has a table of its own.
    fn transports(
        &self,
        written: Option<At<Vec<TransportKind>>>,
        xmpp: bool,
        fanout: bool,
    ) -> Result<Vec<TransportKind>, ConfigError> {
        let of_tables = [
            (TransportKind::Xmpp, xmpp, "[xmpp] jid"),
            (TransportKind::Fanout, fanout, "[fanout] server"),
        ];
        let mut transports = if let Some(At { value, line }) = written {
            for (kind, has, key) in of_tables {
                if value.contains(&kind) && !has {
                    let why = format!("names \"{}\", which needs `{key}`", kind.word());
                    return Err(self.bad(line, "notice.transports", why));
                }
            }
            value
        } else {
            let with = of_tables.iter().filter(|(_, has, _)| *has);
            let with = with.map(|(kind, ..)| *kind);
            NoticeSettings::default()
                .transports
                .into_iter()
                .chain(with)
                .collect()
        };
        transports.push(TransportKind::Poll);
        transports.sort_unstable();
        transports.dedup();
        Ok(transports)
    }

    fn path(&self, text: Option<At<String>>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        text.map(|text| {
            place::path(&text.value, self.base, self.env)
                .map_err(|why| self.bad(text.line, key, why))
        })
        .transpose()
    }

    /// Returns the quiet time and the longest one, which follows the former if it stands alone.
    fn window(
        &self,
        table: &str,
        (quiet, quiet_default): (Option<At<Duration>>, Duration),
        (max, max_default): (Option<At<Duration>>, Duration),
    ) -> Result<(Duration, Duration), ConfigError> {
        let quiet = value_or(quiet, quiet_default);
        match max {
            Some(max) if max.value < quiet => {
                let why = format!("must not be shorter than `{table}.quiet`");
                Err(self.bad(max.line, &format!("{table}.quiet_max"), why))
            }
            Some(max) => Ok((quiet, max.value)),
            // No window at all means none in a burst either.
            None if quiet.is_zero() => Ok((quiet, quiet)),
            None => Ok((quiet, max_default.max(quiet))),
        }
    }

    fn folders(&self, written: Vec<WrittenFolder>) -> Result<Vec<FolderSettings>, ConfigError> {
        let mut folders: Vec<FolderSettings> = Vec::new();
        let mut roots = Roots::default();
        let mut named: Vec<bool> = Vec::new();
        for written in written {
            let line = written.path.as_ref().map_or(written.line, |at| at.line);
            let has_name = written.name.is_some();
            let folder = self.folder(written)?;
            roots
                .add(&folder.path)
                .map_err(|why| self.bad(line, "folder.path", format!("is {why}")))?;
            if has_name && folders.iter().any(|other| other.name == folder.name) {
                let why = format!("is \"{}\" like another folder's", folder.name);
                return Err(self.bad(line, "folder.name", why));
            }
            folders.push(folder);
            named.push(has_name);
        }
        tell_apart(&mut folders, &named);
        Ok(folders)
    }

    fn folder(&self, written: WrittenFolder) -> Result<FolderSettings, ConfigError> {
        let line = written.line;
        let path = self
            .path(written.path, "folder.path")?
            .ok_or_else(|| self.bad(line, "folder.path", "is missing"))?;
        let mut folder = FolderSettings::new(path);
        if let Some(name) = written.name {
            if name.value != escape(name.value.as_bytes()) || name.value.contains('/') {
                let why = "must be one line of plain text without a slash";
                return Err(self.bad(name.line, "folder.name", why));
            }
            folder.name = name.value;
        }
        let root = place::real(&folder.path);
        if let Some(hub) = written.hub {
            let at = hub.line;
            let bad = |why: String| self.bad(at, "folder.hub", why);
            let hub = place::hub(&hub.value, self.base, self.env).map_err(bad)?;
            if place::is_path(&hub) && place::real(Path::new(&hub)).starts_with(&root) {
                return Err(bad("lies in the folder itself".into()));
            }
            folder.hub = Some(hub);
        }
        if let Some(branch) = written.branch {
            if branch.value.starts_with(['-', '/']) || branch.value.contains(char::is_whitespace) {
                return Err(self.bad(branch.line, "folder.branch", "is no name of a branch"));
            }
            folder.branch = Some(branch.value);
        }
        if let Some(git_dir) = written.git_dir {
            let at = git_dir.line;
            let dir = place::path(&git_dir.value, self.base, self.env)
                .map_err(|why| self.bad(at, "folder.git_dir", why))?;
            let real = place::real(&dir);
            if real.starts_with(&root) && real != root.join(".git") {
                let why = "lies in the folder itself and would be committed";
                return Err(self.bad(at, "folder.git_dir", why));
            }
            folder.git_dir = Some(dir);
        }
        folder.only = self.patterns(written.only, "folder.only")?;
        folder.exclude = self.patterns(written.exclude, "folder.exclude")?;
        folder.push = value_or(written.push, folder.push);
        folder.receive = value_or(written.receive, folder.receive);
        folder.conflict = value_or(written.conflict, folder.conflict);
        if let Some(max) = written.max_file {
            if max.value == 0 {
                return Err(self.bad(max.line, "folder.max_file", "must be more than 0"));
            }
            folder.max_file = Some(max.value);
        }
        if let Some(poll) = written.poll {
            if poll.value < Duration::from_secs(1) {
                return Err(self.bad(poll.line, "folder.poll", "must be at least 1s"));
            }
            folder.poll = Some(poll.value);
        }
        folder.peers = xmpp::bare_list(self, written.peers, "folder.peers")?;
        Ok(folder)
    }

    fn patterns(
        &self,
        patterns: Option<At<Vec<String>>>,
        key: &str,
    ) -> Result<Vec<String>, ConfigError> {
        let Some(At { value, line }) = patterns else {
            return Ok(Vec::new());
        };
        let mut rules = ignore::gitignore::GitignoreBuilder::new("/");
        for pattern in &value {
            if let Err(error) = rules.add_line(None, pattern) {
                let why = format!("has a pattern that is none, \"{pattern}\": {error}");
                return Err(self.bad(line, key, why));
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
