//! `autosync announce`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::scene::Scene;
use crate::agent::transports;
use crate::clock;
use crate::config::{Settings, TransportKind};
use crate::engine::event::{Event, Trouble};
use crate::engine::notice::Notice;
use crate::engine::timer::Moment;
use crate::error::{Complaint, Exit};
use crate::git::hub::{self, Kind};
use crate::git::{self, Git, LOCAL, bare_command};
use crate::names::{ObjectId, escape};
use crate::paths::private_dir;
use crate::transport::fanout::channel::FILE;
use crate::transport::{Folder, Herald, Sink, Transport, wire};

/// What is the matter, and what to do.
type Reasons = Vec<(String, String)>;

/// How often it is looked whether a transport has given up.
const GLANCE: Duration = Duration::from_millis(50);
/// The longest file with a channel that is looked at, in bytes.
const LONGEST: usize = 256;
/// So much of a host's name is told.
const HOST: usize = 59;

/// Tell the other computers of a push that no agent made
///
/// Sends one notice over the transports of the configuration that carry notices, `[xmpp]` and `[fanout]`,
/// and ends: with 0 if at least one took it. It is meant for a `post-receive` hook of the hub, so that
/// a plain `git push` rings, too.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["folder", "id"])))]
pub struct AnnounceArgs {
    /// The folder, or the bare repository of the hub itself
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The folder's identity instead: `autosync.id` in its git configuration
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The branch that moved
    #[arg(long, value_name = "BRANCH")]
    pub branch: String,
    /// Its new commit, all digits of it
    #[arg(long, value_name = "COMMIT")]
    pub commit: String,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub timeout: u64,
}

pub(super) fn run(args: &AnnounceArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let settings = scene.settings()?;
    let usage = |message: &str, hint: &str| Complaint::new(Exit::Usage, message, hint);
    let branch = args.branch.strip_prefix("refs/heads/");
    let branch = branch.unwrap_or(&args.branch).to_owned();
    if !wire::is_branch(&branch) {
        return Err(usage("`--branch` is no name of a branch", "").into());
    }
    let commit = ObjectId::from_hex(&args.commit).ok();
    let Some(commit) = commit.filter(|commit| !commit.is_zero()) else {
        let hint = "Give all digits; a branch that was deleted is not announced.";
        return Err(usage("`--commit` is no commit", hint).into());
    };
    // SparkleShare's file is in the commit; nobody needs a work tree.
    let place = tempfile::tempdir()?;
    let known = match (&args.folder, &args.id) {
        (Some(path), _) => of_repository(path, commit, place.path())?,
        (None, id) => (id.clone().unwrap_or_default(), Kind::Other),
    };
    let folder = folder(args, &settings, known, branch.clone(), place.path());
    let host: String = settings.host.chars().take(HOST).collect();
    let notice = Notice {
        folder: folder.id.clone(),
        branch,
        commit: Some(commit),
        // An agent on this very host is to hear of it, and does not hear itself.
        host: format!("{host}.hub"),
        sequence: clock::wall_seconds().try_into().unwrap_or(0),
    };
    if wire::from_line(&wire::to_line(&notice)).is_err() {
        let hint = "It is the first commit of the folder's history.";
        return Err(usage("`--id` is no identity of a folder", hint).into());
    }
    let runtime = scene.paths.runtime(&settings.host);
    private_dir(&runtime).map_err(Complaint::from)?;
    let until = clock::now() + Duration::from_secs(args.timeout);
    ring(&settings, &runtime, &folder, &notice, until)?;
    Ok(Exit::Done)
}

/// Returns the identity of a repository and how it is reached, and lays the file with its channel
/// into `place`.
fn of_repository(path: &Path, commit: ObjectId, place: &Path) -> anyhow::Result<(String, Kind)> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let absolute = std::path::absolute(path)?;
    let Some(dir) = hub::locate(&absolute) else {
        let message = format!("there is no repository at `{shown}`");
        return Err(Complaint::new(Exit::NoRepository, message, "").into());
    };
    let trouble = |error: git::GitError| Complaint::from(&error.trouble());
    let id = match Git::bare(&dir).config("autosync.id").map_err(trouble)? {
        Some(id) => id,
        None => root(&dir, commit).map_err(trouble)?.ok_or_else(|| {
            let message = format!("`{shown}` has no commit {commit}");
            Complaint::new(Exit::Failed, message, "")
        })?,
    };
    let mut show = bare_command();
    show.arg("--git-dir").arg(&dir);
    show.args(["cat-file", "blob", &format!("{commit}:{FILE}")]);
    let shown = git::run_any(&mut show, b"", LOCAL, "cat-file").map_err(trouble)?;
    if shown.status.success() && shown.stdout.len() <= LONGEST {
        std::fs::write(place.join(FILE), shown.stdout)?;
    }
    Ok((id, Kind::Path(absolute)))
}

/// Returns the root that first parents lead to; `None` if there is no such commit.
fn root(dir: &Path, commit: ObjectId) -> Result<Option<String>, git::GitError> {
    let mut command = bare_command();
    command.arg("--git-dir").arg(dir);
    command.args(["rev-list", "--first-parent", "--max-parents=0"]);
    let done = git::run_any(command.arg(commit.to_string()), b"", LOCAL, "rev-list")?;
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    Ok((done.status.success() && !text.is_empty()).then_some(text))
}

/// Returns the folder as the transports are to know it.
fn folder(
    args: &AnnounceArgs,
    settings: &Settings,
    (id, hub): (String, Kind),
    branch: String,
    root: &Path,
) -> Folder {
    let path = args
        .folder
        .as_ref()
        .and_then(|it| std::path::absolute(it).ok());
    let configured = settings
        .folders
        .iter()
        .find(|folder| path.as_ref() == Some(&folder.path));
    let last = path.as_deref().and_then(Path::file_name);
    let name = last.map_or_else(|| id.clone(), |name| escape(name.as_encoded_bytes()));
    Folder {
        key: "announce".to_owned(),
        name: configured.map_or(name, |folder| folder.name.clone()),
        peers: configured.map_or_else(Vec::new, |folder| folder.peers.clone()),
        url: path.map_or_else(String::new, |path| path.display().to_string()),
        root: root.to_owned(),
        id,
        branch,
        hub,
        ssh_command: None,
    }
}

/// Sends a notice over every transport that carries one. Errors if nobody took it until then.
fn ring(
    settings: &Settings,
    runtime: &Path,
    folder: &Folder,
    notice: &Notice,
    until: Moment,
) -> Result<(), Complaint> {
    let (told, online) = channel();
    let sink: Sink = Arc::new(move |_, event| {
        if let Event::Transport { name, online: true } = event
            && told.send(name).is_err()
        {
            tracing::debug!(name, "online too late");
        }
    });
    let herald: Herald = Arc::new(|_: &'static str, _: Option<Trouble>| {});
    let kinds = settings.notice.transports.iter();
    let mut waiting: BTreeMap<&'static str, Box<dyn Transport>> = kinds
        .filter(|kind| matches!(kind, TransportKind::Xmpp | TransportKind::Fanout))
        .filter_map(|kind| transports::make(*kind, settings, runtime, &sink, &herald))
        .map(|transport| (transport.name(), transport))
        .collect();
    if waiting.is_empty() {
        let hint = "Give `[fanout] server` or `[xmpp] jid` in the configuration.";
        let message = "no transport of the configuration carries notices";
        return Err(Complaint::new(Exit::Usage, message, hint));
    }
    for transport in waiting.values_mut() {
        transport.watch(folder);
    }
    let (rung, mut why) = wait_and_announce(&mut waiting, &online, notice, until);
    let mut taken = false;
    for transport in &rung {
        if transport.flush(clock::until(until)) {
            taken = true;
        } else {
            let message = format!("{} did not take it in time", transport.name());
            why.push((message, String::new()));
        }
    }
    for name in waiting.keys() {
        why.push((format!("{name} was not online in time"), String::new()));
    }
    if taken {
        for (message, hint) in why {
            tracing::warn!(hint, "{message}");
        }
        return Ok(());
    }
    let (messages, hints): (Vec<String>, Vec<String>) = why.into_iter().unzip();
    let message = format!("nobody took the notice: {}", messages.join("; "));
    let hint = hints.into_iter().find(|hint| !hint.is_empty());
    Err(Complaint::new(
        Exit::Failed,
        message,
        hint.unwrap_or_default(),
    ))
}

/// Takes out of `waiting` what is online, with the notice announced, and what has given up, with
/// why.
fn wait_and_announce(
    waiting: &mut BTreeMap<&'static str, Box<dyn Transport>>,
    online: &Receiver<&'static str>,
    notice: &Notice,
    until: Moment,
) -> (Vec<Box<dyn Transport>>, Reasons) {
    let (mut rung, mut why) = (Vec::new(), Vec::new());
    while !waiting.is_empty() && clock::now() < until {
        if let Ok(name) = online.recv_timeout(GLANCE.min(clock::until(until)))
            && let Some(transport) = waiting.remove(name)
        {
            transport.announce(notice);
            rung.push(transport);
        }
        waiting.retain(|_, transport| {
            let status = transport.status();
            let over = matches!(status.state.as_str(), "retry" | "held");
            if over {
                why.push((status.message, status.hint));
            }
            !over
        });
    }
    (rung, why)
}
