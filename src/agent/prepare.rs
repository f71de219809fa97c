//! Making a folder ready: its directory, its repository, its hub.
//!
//! Nothing that exists is changed but git's configuration of the folder, and that only where it
//! has no remote yet. Every mistake that a person can make here is one sentence.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::repository::open_repository;
use crate::config::{ConflictRule, FolderSettings, GuardSettings, Settings, hub_is_path};
use crate::engine::event::Code;
use crate::error::{Complaint, Exit};
use crate::git::refs::{self, Head};
use crate::git::ssh::given_command;
use crate::git::{self, Git, GitError, public_url};
use crate::lock::{Lock, LockError};
use crate::names::escape;
use crate::paths::Paths;
use crate::repo::network::create_hub;
use crate::repo::{self, Policy};

/// `max_file` where the hub is a path or reached by ssh, in bytes.
const LARGE: u64 = 1 << 30;
/// `max_file` where the hub is a forge, in bytes.
const FORGE: u64 = 50 << 20;

/// What may be made.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The directory and the repository, if they are missing.
    pub make: bool,
    /// A hub on this computer, if the folder has none.
    pub make_hub: bool,
    /// This hub, in place of the one that the folder has.
    pub hub: Option<String>,
    /// A hub that we make is for everybody in its group.
    pub shared: bool,
    /// `hub` has to be there already.
    pub existing_hub: bool,
    /// Use `hub` only now, and leave git's configuration as it is.
    pub only_now: bool,
    /// Nobody else may care for the folder now.
    pub alone: bool,
    /// Nothing is made in the place of a folder that was cared for before: its disk may be away.
    pub keep_lost: bool,
}

/// A folder that is ready, and what was made for it.
#[derive(Debug)]
pub struct Ready {
    /// Its settings for the repository.
    pub settings: repo::Settings,
    /// The directory was not there.
    pub made_directory: bool,
    /// The repository was not there.
    pub made_repository: bool,
    /// The hub was made.
    pub made_hub: Option<PathBuf>,
    /// The repository that a new one lies in.
    pub inside: Option<PathBuf>,
}

/// Makes a folder ready, as far as the wish allows.
pub fn prepare(
    folder: &FolderSettings,
    config: &Settings,
    paths: &Paths,
    wish: &Wish,
) -> Result<Ready, Complaint> {
    check_readable(&folder.path)?;
    if wish.keep_lost {
        refuse_lost(folder, paths)?;
    }
    git::check_version().map_err(git_complaint)?;
    if let Some(hub) = wish.hub.as_deref().map(local_name)
        && (wish.existing_hub || wish.make && hub_path(&hub).is_some_and(|path| !is_absent(&path)))
    {
        check_hub(&hub)?;
    }
    let made_directory = make_directory(&folder.path, wish.make)?;
    let root = folder.path.canonicalize();
    let root = root.map_err(|error| unreadable(&folder.path, &error))?;
    let asked_hub = wish
        .hub
        .clone()
        .or_else(|| folder.hub.clone())
        .map(|hub| local_name(&hub));
    let (repository, made_repository) =
        open_repository(&root, folder, asked_hub.as_deref(), wish.make)?;
    if wish.alone && !made_repository {
        check_alone(&repository, &root)?;
    }
    let branch = match &folder.branch {
        Some(branch) => branch.clone(),
        None => match refs::head(&repository).map_err(git_complaint)? {
            Head::Branch(name) => name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned(),
            Head::Detached(_) => {
                return Err(Complaint::new(
                    Exit::Failed,
                    format!("HEAD of `{}` is detached", show(&root)),
                    format!(
                        "Go to a branch with `git -C {} switch BRANCH`.",
                        show(&root)
                    ),
                )
                .of(Code::Detached));
            }
        },
    };
    let mut made_hub = None;
    let mut hub = match asked_hub {
        Some(asked) => Some(resolve_remote(&repository, asked)?),
        None => configured_hub(&repository, &branch)?,
    };
    if hub.is_none() && wish.make_hub {
        let path = free_hub(paths, &root)?;
        hub = path.to_str().map(str::to_owned);
    }
    if let Some(address) = &hub {
        if let Some(path) = hub_path(address)
            && wish.make_hub
            && is_absent(&path)
        {
            create_hub(&path, &branch, wish.shared).map_err(|error| {
                let trouble = error.trouble();
                let message = format!(
                    "the hub `{}` cannot be made: {}",
                    show(&path),
                    trouble.message
                );
                Complaint::new(Exit::Failed, message, trouble.hint)
            })?;
            made_hub = Some(path);
        }
        if !wish.only_now {
            remember_hub(&repository, address)?;
        }
    }
    if !wish.only_now {
        remember(&folder.path, paths);
    }
    let forge = hub.as_deref().is_some_and(|hub| hub.starts_with("http"));
    let above = root.ancestors().skip(1);
    let inside = above
        .filter(|_| made_repository)
        .find(|dir| dir.join(".git").exists());
    Ok(Ready {
        inside: inside.map(Path::to_owned),
        settings: repo::Settings {
            git_dir: folder.git_dir.clone(),
            max_file: folder.max_file.unwrap_or(if forge { FORGE } else { LARGE }),
            hub,
            branch,
            host: config.host.clone(),
            exclude: folder.exclude.clone(),
            only: folder.only.clone(),
            conflict: policy(folder.conflict),
            mass_delete_files: config.guards.mass_delete.files,
            mass_delete_percent: u32::from(config.guards.mass_delete.percent),
            guards: guards(&config.guards),
            root,
        },
        made_directory,
        made_repository,
        made_hub,
    })
}

fn guards(guards: &GuardSettings) -> repo::Guards {
    repo::Guards {
        mass_delete_top: guards.mass_delete_top,
        secrets: guards.secrets,
        junk: guards.junk,
        new_files: guards.new_files,
        new_bytes: guards.new_bytes,
        unattended: guards.unattended,
    }
}

fn policy(rule: ConflictRule) -> Policy {
    match rule {
        ConflictRule::Merge => Policy::Merge,
        ConflictRule::Copy => Policy::Copy,
        ConflictRule::Hub => Policy::Hub,
        ConflictRule::Local => Policy::Local,
        ConflictRule::Union => Policy::Union,
    }
}

pub(super) fn show(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is used as `map_err(git_complaint)`"
)]
pub(super) fn git_complaint(error: GitError) -> Complaint {
    let trouble = error.trouble();
    let exit = match error {
        GitError::NoRepository(_) => Exit::NoRepository,
        GitError::Spawn(_)
        | GitError::TooOld(_)
        | GitError::Failed { .. }
        | GitError::Stalled(_)
        | GitError::Unparsable { .. }
        | GitError::Object(_)
        | GitError::Library(_)
        | GitError::Io { .. }
        | GitError::TooLarge(_)
        | GitError::Name(_)
        | GitError::Id(_) => Exit::Failed,
    };
    Complaint::new(exit, trouble.message, trouble.hint).of(trouble.code)
}

/// Says that a folder cannot be looked at.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Complaint {
    let trouble = git::io_trouble(&format!("`{}`: {error}", show(path)), error);
    Complaint::from(&trouble)
}

/// Errors if a folder is there and cannot be listed: it would look empty, and its repository gone.
fn check_readable(path: &Path) -> Result<(), Complaint> {
    let first = fs::read_dir(path).and_then(|mut entries| entries.next().transpose());
    match first {
        Ok(_) => Ok(()),
        // What is not there, or no directory, is said in its own words.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Returns whether a folder was cared for before.
pub fn is_known(path: &Path, paths: &Paths) -> bool {
    let known = fs::read(known_folders(paths)).unwrap_or_default();
    known
        .split(|byte| *byte == 0)
        .any(|known| known == path.as_os_str().as_encoded_bytes())
}

/// Errors if a folder was cared for before and its repository is not there now.
fn refuse_lost(folder: &FolderSettings, paths: &Paths) -> Result<(), Complaint> {
    let path = &folder.path;
    let repository = folder.git_dir.clone().unwrap_or_else(|| path.join(".git"));
    // An empty directory is where its disk would be.
    if !is_absent(&repository) || !is_known(path, paths) {
        return Ok(());
    }
    // The place where a disk is to be is empty without it.
    let code = if is_absent(path) {
        Code::RootMissing
    } else {
        Code::NoRepository
    };
    Err(Complaint::new(
        Exit::NoRepository,
        format!("the repository of `{}` is not there", show(path)),
        format!(
            "If its disk is not mounted, mount it; if its `.git` was moved, put it back; to begin \
             anew, run `autosync init {}`.",
            show(path)
        ),
    )
    .of(code))
}

/// Notes that a folder is cared for. Without the note it may be made anew, so failing is no matter.
///
/// Only ever added to, in one write that ends what another may have left unfinished: neither two
/// starts at once nor a kill lose what is noted.
fn remember(path: &Path, paths: &Paths) {
    let file = known_folders(paths);
    if is_known(path, paths) {
        return;
    }
    let entry = [b"\0", path.as_os_str().as_encoded_bytes(), b"\0"].concat();
    let added = fs::create_dir_all(&paths.state)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&file))
        .and_then(|mut list| list.write_all(&entry).and_then(|()| list.sync_all()));
    if let Err(error) = added {
        tracing::debug!(%error, "the folder could not be noted");
    }
}

/// Returns the list of the folders that were cared for, each ended by a NUL.
fn known_folders(paths: &Paths) -> PathBuf {
    paths.state.join("folders")
}

/// Returns whether the directory had to be made.
fn make_directory(path: &Path, may: bool) -> Result<bool, Complaint> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(false),
        Ok(_) => Err(Complaint::new(
            Exit::Failed,
            format!("`{}` is no directory", show(path)),
            "Give the directory that is to be kept in sync.",
        )
        .of(Code::RootChanged)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may => {
            fs::create_dir_all(path).map_err(|error| {
                Complaint::new(
                    Exit::Failed,
                    format!("`{}` cannot be made: {error}", show(path)),
                    "",
                )
            })?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Complaint::new(
            Exit::NoRepository,
            format!("`{}` does not exist", show(path)),
            format!("Make it with `autosync init {}`.", show(path)),
        )
        .of(Code::RootMissing)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Errors with one sentence if there is no hub at an address, or it does not answer: before
/// anything is made for it.
fn check_hub(hub: &str) -> Result<(), Complaint> {
    if let Some(path) = hub_path(hub)
        && is_absent(&path)
    {
        return Err(Complaint::new(
            Exit::NoRepository,
            format!("there is no hub at `{}`", show(&path)),
            "Check the path; `autosync init DIR --hub PATH` makes a new one.",
        ));
    }
    let mut command = git::bare_command();
    command.env("GIT_SSH_COMMAND", ssh_for_a_check());
    command.args(["ls-remote", "--heads", "--", hub]);
    let done = git::run_any(&mut command, b"", git::LOCAL, "ls-remote").map_err(git_complaint)?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    let hidden = hub_path(hub).is_some_and(|path| {
        let head = path.join("HEAD").symlink_metadata();
        head.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    let words = if hidden {
        "Permission denied"
    } else {
        words.as_str()
    };
    let mut trouble = git::refusal::trouble(&escape(public_url(hub).as_bytes()), words);
    if trouble.code == Code::HubUnreachable {
        "Nothing was made here. Check the address and the network, and try again."
            .clone_into(&mut trouble.hint);
    }
    Err(Complaint::from(&trouble))
}

/// Errors if an agent or another command cares for a folder now.
fn check_alone(git: &Git, root: &Path) -> Result<(), Complaint> {
    let store = git.dir().join("autosync");
    if !store.is_dir() {
        return Ok(());
    }
    match Lock::acquire(&store.join("lock")) {
        Ok(_) => Ok(()),
        Err(error) => Err(not_alone(error, root)),
    }
}

/// Says who else cares for a folder.
pub(super) fn not_alone(error: LockError, root: &Path) -> Complaint {
    match error {
        LockError::Held(held) => Complaint::new(
            Exit::AlreadyRunning,
            format!("{} cares for `{}` already", held.who(), show(root)),
            "Ask it with `autosync sync`, or stop it with `autosync stop`.",
        )
        .of(Code::InUse),
        error @ LockError::Io { .. } => Complaint::from(error),
    }
}

/// Returns the user's ssh command, told to ask nobody.
fn ssh_for_a_check() -> String {
    let mut command = git::bare_command();
    command.args(["config", "-z", "--get", "core.sshCommand"]);
    // Without a setting, or without a git that could say so, it is plain ssh.
    let configured = git::run_any(&mut command, b"", git::LOCAL, "config")
        .ok()
        .filter(|done| done.status.success())
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
    let ssh = given_command(
        configured
            .as_deref()
            .map(|text| text.trim_end_matches('\0')),
    );
    format!("{ssh} -oBatchMode=yes -oConnectTimeout=10")
}

/// Returns the branch that the hub's HEAD names, if it answers.
pub(super) fn hub_branch(root: &Path, hub: &str) -> Option<String> {
    let mut command = git::bare_command();
    command
        .current_dir(root)
        .args(["ls-remote", "--symref", "--", hub, "HEAD"]);
    let done = git::run(&mut command, b"", git::LOCAL, "ls-remote").ok()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("ref: refs/heads/"))?;
    name.split('\t').next().map(str::to_owned)
}

/// Makes a path of this machine absolute; leaves every other address as it is.
fn local_name(hub: &str) -> String {
    if !hub_is_path(hub) || !(hub.contains('/') || Path::new(hub).exists()) {
        return hub.to_owned();
    }
    let path = std::path::absolute(hub).ok();
    path.as_deref()
        .and_then(Path::to_str)
        .map_or_else(|| hub.to_owned(), str::to_owned)
}

/// Returns the address of a remote that was named, or the address that was given.
fn resolve_remote(git: &Git, asked: String) -> Result<String, Complaint> {
    if asked.contains('/') || asked.contains(':') {
        return Ok(asked);
    }
    match git
        .config(&format!("remote.{asked}.url"))
        .map_err(git_complaint)?
    {
        Some(url) => Ok(url),
        None if Path::new(&asked).exists() => Ok(local_name(&asked)),
        None => Err(Complaint::new(
            Exit::Failed,
            format!(
                "there is no remote and no hub `{}`",
                escape(asked.as_bytes())
            ),
            format!(
                "Give a URL, the name of a remote of the folder, or a path: `./{}`.",
                escape(asked.as_bytes())
            ),
        )
        .of(Code::HubMissing)),
    }
}

/// Returns the address of the remote that the folder has.
fn configured_hub(git: &Git, branch: &str) -> Result<Option<String>, Complaint> {
    let config = |key: String| git.config(&key).map_err(git_complaint);
    let upstream = config(format!("branch.{branch}.remote"))?;
    for name in upstream
        .iter()
        .map(String::as_str)
        .chain(["origin", "autosync"])
    {
        if let Some(url) = config(format!("remote.{name}.url"))? {
            return Ok(Some(url));
        }
    }
    Ok(None)
}

/// Writes the hub into git's configuration as `origin`, unless a remote has it already.
fn remember_hub(git: &Git, hub: &str) -> Result<(), Complaint> {
    let remotes = git.ask("config", ["-z", "--get-regexp", r"^remote\..*\.url$"], b"");
    let remotes = remotes.map_err(git_complaint)?.stdout;
    let known = remotes.split(|b| *b == 0).any(|line| {
        line.split(|b| *b == b'\n')
            .nth(1)
            .is_some_and(|url| url == hub.as_bytes())
    });
    let has_origin = git
        .config("remote.origin.url")
        .map_err(git_complaint)?
        .is_some();
    let name = if has_origin { "autosync" } else { "origin" };
    if known
        || (has_origin
            && git
                .config("remote.autosync.url")
                .map_err(git_complaint)?
                .is_some())
    {
        return Ok(());
    }
    git.set_config(&format!("remote.{name}.url"), hub)
        .map_err(git_complaint)?;
    let refspec = format!("+refs/heads/*:refs/remotes/{name}/*");
    git.set_config(&format!("remote.{name}.fetch"), &refspec)
        .map_err(git_complaint)
}

/// Returns the directory of a hub on this machine.
fn hub_path(hub: &str) -> Option<PathBuf> {
    let path = hub.strip_prefix("file://").unwrap_or(hub);
    (hub_is_path(hub) || hub.starts_with("file://")).then(|| PathBuf::from(path))
}

fn is_absent(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Returns a path for a new hub of a folder; names never collide.
fn free_hub(paths: &Paths, root: &Path) -> Result<PathBuf, Complaint> {
    let hubs = paths.hubs();
    fs::create_dir_all(&hubs).map_err(|error| {
        Complaint::new(
            Exit::Failed,
            format!("`{}` cannot be made: {error}", show(&hubs)),
            "",
        )
    })?;
    let stem = root
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or("folder")
        .to_owned();
    let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
    for name in names {
        let path = hubs.join(format!("{name}.git"));
        // Making the directory takes the name, whoever else is looking for one now.
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Complaint::new(
                    Exit::Failed,
                    format!("`{}` cannot be made: {error}", show(&path)),
                    "",
                ));
            }
        }
    }
    Err(Complaint::new(
        Exit::Failed,
        "no name is free for a hub",
        "",
    ))
}

/// Returns the line to type on the next host for a hub, if another host can reach it like this.
pub fn next_host_line(hub: &str, root: &Path, host: &str) -> String {
    let dir = match std::env::var_os("HOME") {
        Some(home) => match root.strip_prefix(&home) {
            Ok(rest) => format!("~/{}", show(rest)),
            Err(_) => show(root),
        },
        None => show(root),
    };
    match hub_path(hub) {
        Some(path) => {
            // Without a name ssh takes that of the user who types the line.
            let named = ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok());
            let user = named.map_or_else(String::new, |user| format!("{user}@"));
            format!("autosync clone ssh://{user}{host}{} {dir}", show(&path))
        }
        None => format!("autosync clone {} {dir}", public_url(hub)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Env;

    #[test]
    fn many_starts_at_once_forget_no_folder() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::new(&Env::from_iter([("HOME", home.path())])).unwrap();
        let folders: Vec<PathBuf> = (0..64).map(|n| home.path().join(format!("f{n}"))).collect();
        for _ in 0..2 {
            std::thread::scope(|scope| {
                for folder in &folders {
                    scope.spawn(|| remember(folder, &paths));
                }
            });
        }
        for folder in &folders {
            assert!(is_known(folder, &paths), "{} is forgotten", show(folder));
        }
        // A start that was cut off in the middle of a word spoils no other.
        fs::write(known_folders(&paths), "/home/me/Sy").unwrap();
        remember(&folders[0], &paths);
        assert!(is_known(&folders[0], &paths));
    }
}
