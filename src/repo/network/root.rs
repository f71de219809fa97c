//! The root of the hub's history, for a shallow clone that does not have it.
//!
//! A hub on a path is read where it is. A server that runs commands is asked to look for it. From a
//! server that does not, the commits are fetched without any content, into a repository of ours
//! that goes again.
//!
//! Invariant: the folder's own repository, its history and its objects stay as they are.

use std::fs;
use std::path::Path;

use super::{Kind, Remote, Terms, connect, run, silence};
use crate::git::ssh::{Client, quoted};
use crate::git::{self, GitError, LOCAL, bare_command, failed, hub, refusal};
use crate::names::ObjectId;
use crate::process;
use crate::repo::{Place, RepoError};

/// Where the commits of the hub are while its root is looked for.
const HELPER: &str = "root.git";

/// The first git that can be told to fetch nothing that it misses.
const NO_LAZY_FETCH: (u32, u32) = (2, 45);

/// Asks a server; `$dir` and `$tip` come before it. git's own order of where a repository is.
const SCRIPT: &str = r#"
cd
case $dir in
'~/'*) dir=$HOME/${dir#'~/'} ;;
esac
for at in "$dir/.git" "$dir" "$dir.git/.git" "$dir.git"; do
    [ -e "$at/HEAD" ] || continue
    [ ! -e "$at/shallow" ] || { echo 'autosync-root -'; exit 0; }
    root=$(git --git-dir="$at" rev-list --first-parent --max-parents=0 "$tip") || exit 1
    echo "autosync-root $root"
    exit 0
done
exit 1
"#;

/// What a server says.
enum Answer {
    Root(ObjectId),
    CutShort,
}

/// Returns the root that first parents lead to from `tip`, which the hub has; `None` if its own
/// history is cut short, or the git program is too old to ask such a hub.
pub fn root(
    place: &Place,
    remote: &Remote,
    tip: ObjectId,
    terms: &Terms<'_>,
) -> Result<Option<ObjectId>, RepoError> {
    match &remote.kind {
        Kind::Path(path) => match hub::locate(path) {
            Some(dir) => read(&dir, &tip.to_string()),
            None => Ok(None),
        },
        Kind::Ssh(..) => match ask(remote, tip, terms) {
            Some(Answer::Root(root)) => Ok(Some(root)),
            Some(Answer::CutShort) => Ok(None),
            None => by_commits(place, remote, tip, terms),
        },
        Kind::Https | Kind::Other => by_commits(place, remote, tip, terms),
    }
}

/// Reads the root in a repository that is here.
fn read(dir: &Path, tip: &str) -> Result<Option<ObjectId>, RepoError> {
    if dir.join("shallow").exists() {
        return Ok(None);
    }
    let mut command = bare_command();
    command.arg("--git-dir").arg(dir);
    command.args(["rev-list", "--first-parent", "--max-parents=0", tip]);
    let done = git::run_any(&mut command, b"", LOCAL, "rev-list")?;
    if !done.status.success() {
        // Cut short, and its commits came without saying where.
        tracing::debug!(error = %failed("rev-list", &done), "the hub does not show its root");
        return Ok(None);
    }
    Ok(Some(
        ObjectId::from_hex(done.stdout.trim_ascii()).map_err(GitError::from)?,
    ))
}

/// Lets the server look for it; `None` if it does not do that for us.
fn ask(remote: &Remote, tip: ObjectId, terms: &Terms<'_>) -> Option<Answer> {
    let Kind::Ssh(server, path) = &remote.kind else {
        return None;
    };
    let client = Client::new(remote.ssh_command.as_deref(), server, terms.runtime);
    if !client.is_openssh() {
        return None;
    }
    let script = format!("dir={}\ntip={tip}\n{SCRIPT}", quoted(path));
    let done = process::run(&mut client.command("sh -s"), script.as_bytes(), LOCAL).ok()?;
    // A login may say other things.
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let root = text
        .lines()
        .find_map(|line| line.strip_prefix("autosync-root "))?;
    if root == "-" {
        return Some(Answer::CutShort);
    }
    ObjectId::from_hex(root).ok().map(Answer::Root)
}

/// Fetches the commits alone and looks in them. A server that cannot leave the rest out sends that
/// too.
fn by_commits(
    place: &Place,
    remote: &Remote,
    tip: ObjectId,
    terms: &Terms<'_>,
) -> Result<Option<ObjectId>, RepoError> {
    let web = !matches!(remote.kind, Kind::Path(_) | Kind::Ssh(..));
    if web && git::check_version()? < NO_LAZY_FETCH {
        return Ok(None);
    }
    let helper = place.store.join(HELPER);
    drop_helper(&helper)?;
    let mut command = bare_command();
    command.args(["init", "-q", "--bare", "--template="]);
    command.arg(format!("--object-format={}", place.git.object_format()?));
    command.arg("--").arg(&helper);
    git::run(&mut command, b"", LOCAL, "init")?;

    let mut command = bare_command();
    command.arg("--git-dir").arg(&helper);
    // A check of what comes would look at trees.
    command.args(["-c", "transfer.fsckObjects=false"]);
    connect(&mut command, remote, terms);
    if web {
        // Whatever misses a tree must not fetch it: that fetch would miss it as well.
        command.env("GIT_NO_LAZY_FETCH", "1");
        command.args([
            "fetch",
            "--progress",
            "--no-tags",
            "--no-recurse-submodules",
        ]);
        command.args(["--no-auto-maintenance", "--no-write-fetch-head"]);
    } else {
        command.arg("fetch-pack");
    }
    command.args(["--update-shallow", "--filter=tree:0", &remote.url]);
    command.arg(place.branch_ref());
    let (done, words) = run(&mut command, silence(), "fetch", terms)?;
    let found = if done.status.success() {
        read(&helper, &tip.to_string())
    } else if done.status.code().is_none() {
        Err(failed("fetch", &done).into())
    } else {
        Err(RepoError::Blocked(refusal::trouble(&remote.public, &words)))
    };
    drop_helper(&helper)?;
    found
}

fn drop_helper(helper: &Path) -> Result<(), RepoError> {
    match fs::remove_dir_all(helper) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RepoError::io(helper, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
