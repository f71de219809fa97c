//! Where the program keeps things, and what the environment says about it.
//!
//! Everything is derived from `HOME` and the `XDG_*` variables, so that two hosts can live on one
//! machine: they are told apart by `HOME`, `XDG_*` and the host's name alone.
//!
//! Invariants:
//! 1. The environment is read once, into an [`Env`]; nobody below asks the process again.
//! 2. A directory from [`private_dir`] is a real directory of our own user with mode 0700.
//! 3. The path of a runtime directory is short enough for a socket in it: the kernel gives a
//!    socket's name 108 bytes.
//!
//! Absent: any file. Whoever owns a file creates it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path of a runtime directory, in bytes. A socket's name in it may then have 40 more,
/// and ssh, which first creates its socket under a longer name, 17 on top of that.
const RUNTIME_MAX: usize = 48;

/// The variables of an environment, as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// Returns the environment of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns a variable, `None` if it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value.as_os_str())
    }

    /// Returns a variable as text, `None` if it is unset, empty or no UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str()
    }

    /// Returns the home directory, `None` if `HOME` is unset or not absolute.
    pub fn home(&self) -> Option<&Path> {
        self.get("HOME")
            .map(Path::new)
            .filter(|home| home.is_absolute())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        Self(
            vars.into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// The directories of this user, each ending in `autosync`. None of them need exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The home directory.
    pub home: PathBuf,
    /// Configuration: `$XDG_CONFIG_HOME/autosync`.
    pub config: PathBuf,
    /// What the program made for the user, hubs above all: `$XDG_DATA_HOME/autosync`.
    pub data: PathBuf,
    /// What survives a restart and may be lost: `$XDG_STATE_HOME/autosync`.
    pub state: PathBuf,
    /// `$XDG_RUNTIME_DIR/autosync`, if the session has one.
    session: Option<PathBuf>,
}

/// What can go wrong with the places of the program.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// There is no home directory to start from.
    #[error("the variable HOME is not set to an absolute path")]
    NoHome,
    /// A directory cannot be made or looked at.
    #[error("cannot make the directory `{}`: {source}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory that must be ours alone belongs to somebody else, or is none.
    #[error("`{}` is not a directory of our own", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
    },
}

impl PathsError {
    /// Returns one sentence that says what to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoHome => "Set HOME and try again.",
            Self::Make { .. } => "Look at who owns the directory above it, and at the free space.",
            Self::Foreign { .. } => "Look at who made it; remove it if it is not needed.",
        }
    }
}

impl Paths {
    /// Returns the places that this environment names.
    ///
    /// A relative `XDG_*` value is ignored, as the XDG base directory specification asks.
    ///
    /// Errors if `HOME` is unset or relative.
    pub fn new(env: &Env) -> Result<Self, PathsError> {
        let home = env.home().ok_or(PathsError::NoHome)?.to_owned();
        let absolute = |name: &str| {
            let base = Path::new(env.get(name)?);
            base.is_absolute().then(|| base.join("autosync"))
        };
        let or_below_home =
            |name: &str, below: &str| absolute(name).unwrap_or_else(|| home.join(below));
        Ok(Self {
            config: or_below_home("XDG_CONFIG_HOME", ".config/autosync"),
            data: or_below_home("XDG_DATA_HOME", ".local/share/autosync"),
            state: or_below_home("XDG_STATE_HOME", ".local/state/autosync"),
            session: absolute("XDG_RUNTIME_DIR"),
            home,
        })
    }

    /// Returns where the configuration is looked for when nobody names a file.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Returns where the hubs that we make are kept.
    pub fn hubs(&self) -> PathBuf {
        self.data.join("hubs")
    }

    /// Returns the lock file of the agent of `host`. It lies in the state directory, because a
    /// command from cron has no session and must find the same agent.
    pub fn agent_lock(&self, host: &str) -> PathBuf {
        self.state.join(format!("agent-{host}.lock"))
    }

    /// Returns the directory for the sockets of the agent of `host`, at most 48 bytes long.
    ///
    /// It is named by the host and by everything that tells hosts on one machine apart, because
    /// a session's directory can be shared by several homes. Without a session, or when its path
    /// is too long, it is a directory of our own below `/tmp`. Make it with [`private_dir`].
    pub fn runtime(&self, host: &str) -> PathBuf {
        let mut print = Fnv::default();
        for part in [&self.home, &self.config, &self.data, &self.state] {
            print.eat(part.as_os_str().as_bytes());
        }
        print.eat(host.as_bytes());
        let print = print.text();
        if let Some(session) = &self.session {
            let dir = session.join(&print);
            if dir.as_os_str().len() <= RUNTIME_MAX {
                return dir;
            }
        }
        let user = rustix::process::geteuid().as_raw();
        Path::new("/tmp").join(format!("autosync-{user}-{print}"))
    }

    /// Returns the default path of the control socket of the agent of `host`.
    pub fn control_socket(&self, host: &str) -> PathBuf {
        self.runtime(host).join("control")
    }
}

/// Creates a directory for our eyes only, with everything above it, or makes sure that it is one.
///
/// What is missing above it is made with mode 0700 too. An existing directory of ours that others
/// may look into is closed to them.
///
/// Errors if it is a link or no directory, belongs to somebody else, or cannot be made.
pub fn private_dir(path: &Path) -> Result<(), PathsError> {
    let failed = |source| PathsError::Make {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    if !is_private(path)? {
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Returns whether a directory of ours is closed to everybody else.
///
/// Errors if it is a link or no directory, belongs to somebody else, or is not there.
pub fn is_private(path: &Path) -> Result<bool, PathsError> {
    let found = fs::symlink_metadata(path).map_err(|source| PathsError::Make {
        path: path.to_owned(),
        source,
    })?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(PathsError::Foreign {
            path: path.to_owned(),
        });
    }
    let for_others = found.mode() & 0o077;
    Ok(for_others == 0)
}

/// The 64-bit FNV-1a sum: the same in every build, which the standard hasher does not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        // A closing byte that no path holds keeps "a","bc" and "ab","c" apart.
        for byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn text(&self) -> String {
        format!("{:08x}", (self.0 >> 32) ^ (self.0 & 0xffff_ffff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(vars: &[(&str, &str)]) -> Paths {
        Paths::new(&vars.iter().copied().collect()).unwrap()
    }

    #[test]
    fn xdg_variables_win_and_relative_ones_are_ignored() {
        let paths = paths(&[
            ("HOME", "/home/me"),
            ("XDG_CONFIG_HOME", "/etc/me"),
            ("XDG_DATA_HOME", "relative"),
            ("XDG_STATE_HOME", ""),
        ]);
        assert_eq!(
            paths.config_file(),
            Path::new("/etc/me/autosync/config.toml")
        );
        assert_eq!(
            paths.hubs(),
            Path::new("/home/me/.local/share/autosync/hubs")
        );
        assert_eq!(
            paths.agent_lock("laptop"),
            Path::new("/home/me/.local/state/autosync/agent-laptop.lock")
        );
    }

    #[test]
    fn without_a_home_there_is_nowhere_to_go() {
        for vars in [&[][..], &[("HOME", "")], &[("HOME", "here")]] {
            let env = vars.iter().copied().collect();
            assert!(matches!(Paths::new(&env), Err(PathsError::NoHome)));
        }
    }

    #[test]
    fn every_host_has_its_own_short_runtime_directory() {
        let session = ("XDG_RUNTIME_DIR", "/run/user/1000");
        let long = format!("/{}", "long/".repeat(40));
        let one = paths(&[("HOME", "/a"), session]);
        let all = [
            one.runtime("x"),
            one.runtime("y"),
            paths(&[("HOME", "/b"), session]).runtime("x"),
            paths(&[("HOME", "/a"), session, ("XDG_DATA_HOME", "/d")]).runtime("x"),
            paths(&[("HOME", &long), ("XDG_RUNTIME_DIR", &long)]).runtime("x"),
            paths(&[("HOME", &long)]).runtime(&"h".repeat(63)),
        ];
        assert!(all[0].starts_with("/run/user/1000/autosync"));
        for (at, dir) in all.iter().enumerate() {
            assert!(dir.as_os_str().len() <= RUNTIME_MAX, "{}", dir.display());
            assert!(!all[..at].contains(dir), "{}", dir.display());
        }
        assert_eq!(one.runtime("x"), one.runtime("x"));
    }

    #[test]
    fn a_private_directory_is_closed_to_others_and_never_a_link() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b");
        private_dir(&deep).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&deep), mode(&place.path().join("a"))), (0o700, 0o700));

        fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        private_dir(&deep).unwrap();
        assert_eq!(mode(&deep), 0o700);

        let link = place.path().join("link");
        std::os::unix::fs::symlink(&deep, &link).unwrap();
        assert!(matches!(
            private_dir(&link),
            Err(PathsError::Foreign { .. })
        ));
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(private_dir(&file).is_err());
    }
}
