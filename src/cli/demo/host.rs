//! One of the two hosts: its home, its environment, its agent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::control::{Client, Until};
use crate::engine::status::{FolderStatus, Status};
use crate::paths::{Env, Paths};
use crate::process::{self, Finished, Patience, Running};

/// How long an agent may take to answer, and anything to arrive, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long an agent may take to leave.
const LEAVE: Duration = Duration::from_secs(6);

/// How often is looked whether something is there: the error of every latency that is told.
const LOOK: Duration = Duration::from_millis(1);

/// Variables of the user that a host of the demo keeps. Everything else is its own.
const KEPT: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "AUTOSYNC_GIT"];

/// A host. Its agent ends when it is dropped.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: &'static str,
    /// The folder on it.
    pub(super) folder: PathBuf,
    env: Env,
    vars: Vec<(OsString, OsString)>,
    home: PathBuf,
    client: Client,
    agent: Option<Running>,
}

impl Host {
    /// Makes the home of a host below `place`.
    pub(super) fn new(place: &Path, name: &'static str, user: &Env) -> anyhow::Result<Self> {
        let home = place.join(name);
        let runtime = home.join("run");
        fs::create_dir_all(&runtime)?;
        fs::write(
            home.join(".gitconfig"),
            format!("[user]\n\tname = Demo\n\temail = demo@{name}.invalid\n"),
        )?;
        let mut vars: Vec<(OsString, OsString)> = KEPT
            .iter()
            .filter_map(|key| Some(((*key).into(), user.get(key)?.to_owned())))
            .collect();
        vars.extend([
            ("HOME".into(), home.clone().into()),
            ("XDG_CONFIG_HOME".into(), home.join(".config").into()),
            ("XDG_DATA_HOME".into(), home.join(".local/share").into()),
            ("XDG_STATE_HOME".into(), home.join(".local/state").into()),
            ("XDG_CACHE_HOME".into(), home.join(".cache").into()),
            ("XDG_RUNTIME_DIR".into(), runtime.into()),
            ("GIT_CONFIG_GLOBAL".into(), home.join(".gitconfig").into()),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
            ("AUTOSYNC_HOST".into(), name.into()),
        ]);
        let env: Env = vars.iter().cloned().collect();
        let client = Client::new(Paths::new(&env)?.control_socket(name));
        Ok(Self {
            name,
            folder: home.join("Sync"),
            env,
            vars,
            home,
            client,
            agent: None,
        })
    }

    /// Returns this program, about to start on this host.
    fn program(&self) -> anyhow::Result<Command> {
        let mut command = process::command(std::env::current_exe()?);
        command
            .env_clear()
            .envs(self.vars.iter().cloned())
            .current_dir(&self.home);
        Ok(command)
    }

    /// Runs this program on this host to its end, which must be a good one.
    pub(super) fn run(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let mut command = self.program()?;
        let done = process::run(command.args(args), b"", Patience::Total(PATIENCE))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            bail!("`autosync {}` failed: {}", args.join(" "), said.trim());
        }
        Ok(done)
    }

    /// Starts the agent and returns once it answers.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.join("agent.log"))?;
        let mut command = self.program()?;
        command
            .arg("run")
            .arg(&self.folder)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut agent = Running::start(&mut command)?;
        let deadline = process::deadline(PATIENCE);
        while self.client.status().await.is_err() {
            if let Some(status) = agent.try_wait()? {
                bail!(
                    "the agent of the {} ended at once ({status}): {}",
                    self.name,
                    self.last_words()
                );
            }
            if crate::clock::until(deadline).is_zero() {
                bail!("the agent of the {} does not answer", self.name);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.agent = Some(agent);
        Ok(())
    }

    /// Returns the last line that the agent wrote.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.home.join("agent.log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }

    /// Returns the process id of the agent, 0 if it does not run.
    pub(super) fn pid(&self) -> i32 {
        self.agent.as_ref().map_or(0, Running::pid)
    }

    /// Returns the way to the agent.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Kills the agent as a power cut would.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut agent) = self.agent.take() else {
            bail!("the agent of the {} does not run", self.name);
        };
        if let Some(pid) = Pid::from_raw(agent.pid()) {
            kill_process(pid, Signal::KILL)?;
        }
        agent.wait()?;
        Ok(())
    }

    /// Stops the agent as a user does. Errors if it does not leave in time or not well.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut agent) = self.agent.take() else {
            return Ok(());
        };
        self.client.stop().await?;
        let deadline = process::deadline(LEAVE);
        let status: ExitStatus = loop {
            if let Some(status) = agent.try_wait()? {
                break status;
            }
            if crate::clock::until(deadline).is_zero() {
                bail!("the agent of the {} did not stop in time", self.name);
            }
            tokio::time::sleep(LOOK).await;
        };
        if !status.success() {
            bail!("the agent of the {} ended with {status}", self.name);
        }
        Ok(())
    }

    /// Returns the folder's status once everything has settled on this host.
    pub(super) async fn settled(&self) -> anyhow::Result<FolderStatus> {
        self.only(self.client.barrier(None, PATIENCE).await?)
    }

    /// Returns the folder's status once the hub has everything of this host.
    pub(super) async fn synced(&self) -> anyhow::Result<FolderStatus> {
        let synced = self.client.wait(Until::Synced, PATIENCE).await;
        self.only(synced.with_context(|| format!("the {} is not in sync", self.name))?)
    }

    fn only(&self, status: Status) -> anyhow::Result<FolderStatus> {
        let folder = status.folders.into_iter().next();
        folder.with_context(|| format!("the agent of the {} has no folder", self.name))
    }

    /// Returns the hub that the agent made on this host.
    pub(super) fn hub(&self) -> anyhow::Result<PathBuf> {
        let hubs = Paths::new(&self.env)?.hubs();
        let hub = hubs.join("Sync.git");
        if !hub.is_dir() {
            bail!("the {} made no hub", self.name);
        }
        Ok(hub)
    }

    /// Removes what the agent may have left outside of the temporary place.
    pub(super) fn sweep(&self) {
        let runtime = Paths::new(&self.env).map(|paths| paths.runtime(self.name));
        if let Ok(runtime) = runtime
            && !runtime.starts_with(&self.home)
            && let Err(error) = fs::remove_dir_all(&runtime)
        {
            tracing::debug!(%error, "the runtime directory was gone");
        }
    }

    /// Waits until `seen` holds. Errors, naming `what`, if it does not in time.
    pub(super) async fn sees(
        &self,
        what: &str,
        mut seen: impl FnMut(&Path) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = process::deadline(PATIENCE);
        while !seen(&self.folder) {
            if crate::clock::until(deadline).is_zero() {
                bail!("the {} never saw {what}", self.name);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Ends the agent before what it left is removed.
        drop(self.agent.take());
        self.sweep();
    }
}
