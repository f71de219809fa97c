//! Where a command runs: the environment, the places, the configuration, the way to the agent.

use std::future::Future;
use std::path::{Path, PathBuf};

use crate::config::{self, LogLevel, LogSettings, Settings};
use crate::control::Client;
use crate::error::{Complaint, Exit};
use crate::lock;
use crate::logging;
use crate::paths::{Env, Paths};

/// Where a command runs.
#[derive(Debug)]
pub struct Scene {
    /// The environment.
    pub env: Env,
    /// The places of this user.
    pub paths: Paths,
    /// The configuration file asked for on the command line.
    asked: Option<PathBuf>,
    /// How much more is logged.
    verbose: u8,
}

impl Scene {
    /// Returns the scene of this environment. Errors if there is no home.
    pub fn new(env: Env, asked: Option<PathBuf>, verbose: u8) -> Result<Self, Complaint> {
        let paths = Paths::new(&env)?;
        Ok(Self {
            env,
            paths,
            asked,
            verbose,
        })
    }

    /// Returns the same scene once more, to read the configuration again later.
    pub(super) fn again(&self) -> Self {
        Self {
            env: self.env.clone(),
            paths: self.paths.clone(),
            asked: self.asked.clone(),
            verbose: self.verbose,
        }
    }

    /// Returns the configuration file, `None` if there is none.
    pub fn config_file(&self) -> Option<PathBuf> {
        config::find(self.asked.as_deref(), &self.env, &self.paths)
    }

    /// Returns the configuration, or the defaults if there is none.
    pub fn settings(&self) -> Result<Settings, Complaint> {
        Ok(match self.config_file() {
            Some(file) => Settings::load(&file, &self.env)?,
            None => Settings::defaults(&self.env)?,
        })
    }

    /// Returns what the command is to care for: the folders of the configuration, or with `dirs`
    /// those alone, with all defaults. The host's name and everything that is no folder's is the
    /// configuration's in both cases.
    pub fn settings_for(&self, dirs: &[PathBuf]) -> Result<Settings, Complaint> {
        let settings = self.settings()?;
        if dirs.is_empty() {
            return Ok(settings);
        }
        Ok(settings.with_dirs(dirs)?)
    }

    /// Starts the log as the settings say: for the agent.
    pub fn start_log(&self, settings: LogSettings) -> Result<(), Complaint> {
        logging::start(settings, self.verbose, &self.env)
            .map_err(|error| Complaint::new(Exit::Usage, error.to_string(), ""))
    }

    /// Starts the log for a command that a person waits for: warnings, unless more is asked for.
    pub fn start_quiet_log(&self) -> Result<(), Complaint> {
        self.start_log(LogSettings {
            level: LogLevel::Warn,
            ..LogSettings::default()
        })
    }

    /// Returns the name of this host, even if the configuration is broken.
    pub fn host(&self) -> String {
        config::host(self.config_file().as_deref(), &self.env)
    }

    /// Returns the way to this host's agent, whether it runs or not.
    ///
    /// The agent notes its socket in its lock file, so that it is found from a shell without a
    /// session and with a socket of the user's choice.
    pub fn client(&self) -> Client {
        let host = self.host();
        let noted = lock::trace(&self.paths.agent_lock(&host)).map(|trace| trace.note);
        Client::new(match noted {
            Some(socket) if !socket.is_empty() => socket.into(),
            Some(_) | None => self.paths.control_socket(&host),
        })
    }

    /// Asks the agent something, in a small runtime of its own.
    pub(super) fn ask<T, E>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, anyhow::Error>
    where
        E: Into<Complaint>,
    {
        self.start_quiet_log()?;
        self.put(question)
    }

    /// Asks the agent something once the log was started.
    pub(super) fn put<T, E>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, anyhow::Error>
    where
        E: Into<Complaint>,
    {
        let client = self.client();
        wait_for(question(&client))?.map_err(|error| error.into().into())
    }
}

/// Runs one future to its end in a runtime of its own.
fn wait_for<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// Returns how the agent is told which folder is meant: a name as it is, a path made absolute.
///
/// A path is what begins with `/` or `.`; everything else is a name.
pub(super) fn folder_word(folder: &str) -> String {
    let like_a_path = folder.starts_with(['/', '.']);
    if !like_a_path {
        return folder.to_owned();
    }
    Path::new(folder)
        .canonicalize()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| folder.to_owned())
}
