//! A hub that is a directory of this machine: where its repository is, what its branch names,
//! and how a new one is made.
//!
//! Looking costs two or three file reads and no process. Nothing of the hub is executed and none
//! of its configuration is read: git itself still decides whether it trusts the directory.
//!
//! Invariants:
//! 1. [`Look::Unclear`] is said wherever plain files do not tell (reftable, links to other
//!    repositories, symbolic branches); the program then decides.
//! 2. A hub that [`create`] made is durable when it returns, and is never half there.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ssh::{self, Server};
use super::{Git, GitError, LOCAL, bare_command, run};
use crate::config::hub_is_path;
use crate::names::ObjectId;
use crate::process::Patience;

/// How long a repack may work without a word.
const SILENT_WORK: Patience = Patience::Total(Duration::from_secs(4 * 3600));

/// How a hub is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory of this machine.
    Path(PathBuf),
    /// ssh: the server, and the path on it.
    Ssh(Server, String),
    /// A web server.
    Https,
    /// Some other way that git knows.
    Other,
}

impl Kind {
    /// Returns how git would reach this address; a relative path starts at `base`.
    pub fn of(url: &str, base: &Path) -> Self {
        if let Some(path) = ssh::file_url(url) {
            Self::Path(path.into())
        } else if hub_is_path(url) {
            Self::Path(base.join(url))
        } else if let Some((server, path)) = Server::of_url(url) {
            Self::Ssh(server, path)
        } else if url.starts_with("https://") || url.starts_with("http://") {
            Self::Https
        } else {
            Self::Other
        }
    }
}

/// What a look at a hub's branch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The branch names this commit; `None` if there is no such branch.
    Tip(Option<ObjectId>),
    /// Only the git program can tell.
    Unclear,
    /// There is no repository.
    Missing,
}

/// Returns the git directory that git would use for this path of a hub, `None` if there is none.
///
/// The order is git's own: `PATH/.git`, `PATH`, `PATH.git/.git`, `PATH.git`.
pub fn locate(path: &Path) -> Option<PathBuf> {
    let mut longer = path.as_os_str().to_owned();
    longer.push(".git");
    let longer = PathBuf::from(longer);
    [
        path.join(".git"),
        path.to_owned(),
        longer.join(".git"),
        longer,
    ]
    .into_iter()
    .find(|dir| {
        dir.is_file() && dir.ends_with(".git")
            || (dir.join("HEAD").symlink_metadata().is_ok()
                && dir.join("objects").is_dir()
                && dir.join("refs").is_dir())
    })
}

/// Reads what a branch of the repository at `path` names.
///
/// Errors if a file that is there cannot be read.
pub fn look(path: &Path, branch: &str) -> Result<Look, GitError> {
    match locate(path) {
        Some(dir) => look_in(&dir, branch),
        None => Ok(Look::Missing),
    }
}

/// Reads what a branch names in this git directory, as [`locate`] found it.
pub fn look_in(dir: &Path, branch: &str) -> Result<Look, GitError> {
    if dir.is_file() || dir.join("reftable").exists() || dir.join("commondir").exists() {
        return Ok(Look::Unclear);
    }
    let loose = dir.join("refs/heads").join(branch);
    match fs::read(&loose) {
        Ok(text) => {
            return Ok(ObjectId::from_hex(&text).map_or(Look::Unclear, |id| Look::Tip(Some(id))));
        }
        Err(error) if is_absence(&error) => {}
        Err(error) => return Err(GitError::io(&loose, error)),
    }
    // git writes a branch into packed-refs before it removes the file, so reading in this order
    // never misses one.
    let packed = dir.join("packed-refs");
    match fs::read(&packed) {
        Ok(text) => Ok(Look::Tip(packed_tip(&text, branch))),
        Err(error) if is_absence(&error) => {
            if dir.join("objects").is_dir() {
                Ok(Look::Tip(None))
            } else {
                Ok(Look::Missing)
            }
        }
        Err(error) => Err(GitError::io(&packed, error)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

fn packed_tip(text: &[u8], branch: &str) -> Option<ObjectId> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let at = line.iter().position(|b| *b == b' ')?;
        let name = line[at + 1..].strip_prefix(b"refs/heads/")?;
        if name.trim_ascii_end() == branch.as_bytes() {
            ObjectId::from_hex(&line[..at]).ok()
        } else {
            None
        }
    })
}

/// Creates a bare repository for a hub, with everything fsynced, pushes checked and no
/// background gc. `shared` is git's `init --shared`: the group may push too.
///
/// It appears at `path` whole or not at all. A repository that is there already is left as it is.
pub fn create(path: &Path, branch: &str, shared: bool) -> Result<(), GitError> {
    if locate(path).is_some() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    make_durable_dirs(parent)?;
    let aside = tempfile::Builder::new()
        .prefix(&format!(".{}.", String::from_utf8_lossy(name.as_bytes())))
        .tempdir_in(parent)
        .map_err(|error| GitError::io(parent, error))?;
    let fresh = aside.path().join("hub");
    let mut command = bare_command();
    command
        .args(["init", "--quiet", "--bare", "--template="])
        .arg(format!("--initial-branch={branch}"));
    if shared {
        command.arg("--shared");
    }
    run(command.arg("--").arg(&fresh), b"", LOCAL, "init")?;
    let config = fresh.join("config");
    let settings = b"[core]\n\tfsync = all\n\tfsyncMethod = fsync\n\
        [receive]\n\tfsckObjects = true\n\tdenyNonFastForwards = true\n\tautogc = false\n\
        [gc]\n\tauto = 0\n[autosync]\n\tmade = true\n";
    let mut text = fs::read(&config).map_err(|error| GitError::io(&config, error))?;
    text.extend_from_slice(settings);
    fs::write(&config, text).map_err(|error| GitError::io(&config, error))?;
    // git's own initialisation fsyncs nothing.
    fs::File::open(&fresh)
        .and_then(|dir| rustix::fs::syncfs(&dir).map_err(io::Error::from))
        .map_err(|error| GitError::io(&fresh, error))?;
    fs::rename(&fresh, path).map_err(|error| GitError::io(path, error))?;
    sync_dir(parent)
}

/// Repacks a hub that [`create`] made, if that is worth it and nobody else is at it. A hub of
/// somebody else's making is left to its own rules.
///
/// Returns whether it was repacked.
pub fn maintain(path: &Path) -> Result<bool, GitError> {
    let Some(dir) = locate(path) else {
        return Ok(false);
    };
    let objects = dir.join("objects");
    if !is_worth_a_repack(&objects) {
        return Ok(false);
    }
    let hub = Git::bare(&dir);
    if hub.config("autosync.made")?.as_deref() != Some("true") {
        return Ok(false);
    }
    let lock = fs::File::open(&objects).map_err(|error| GitError::io(&objects, error))?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let mut command = hub.command("repack");
    command.args(["-d", "-l", "-q", "--geometric=2"]);
    run(&mut command, b"", SILENT_WORK, "repack")?;
    Ok(true)
}

/// Whether there are about 1,500 loose objects, or more than 20 packs.
fn is_worth_a_repack(objects: &Path) -> bool {
    let count = |dir: &str, of: &str| {
        fs::read_dir(objects.join(dir)).map_or(0, |entries| {
            entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_name().as_bytes().ends_with(of.as_bytes()))
                .count()
        })
    };
    // Ids are evenly spread, so one of 256 directories tells.
    count("17", "") > 6 || count("pack", ".pack") > 20
}

/// Makes it durable where a branch of a hub on a path is now. git waits for what it writes into a
/// reference, but not for the rename that makes it one: after a power cut a push that was confirmed
/// could be gone, and its hub look rewritten.
pub fn keep_branch(path: &Path, name: &str) -> Result<(), GitError> {
    let Some(dir) = locate(path) else {
        return Ok(());
    };
    let loose = dir.join(name);
    let places = [loose.parent().unwrap_or(&dir), &dir.join("reftable")];
    for place in places.into_iter().filter(|place| place.is_dir()) {
        match sync_dir(place) {
            // Not every disk can wait for a directory, nor may everybody ask it to.
            Err(GitError::Io { source, .. }) if source.raw_os_error() != Some(libc::EIO) => {
                tracing::debug!(%source, "the hub's branch may not be durable");
            }
            other => other?,
        }
    }
    Ok(())
}

fn make_durable_dirs(dir: &Path) -> Result<(), GitError> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().unwrap_or(Path::new("/"));
    make_durable_dirs(above)?;
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(GitError::io(dir, error)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), GitError> {
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| GitError::io(dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) -> String {
        let mut command = bare_command();
        let done = run(command.arg("-C").arg(dir).args(args), b"", LOCAL, "test").unwrap();
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn commit(dir: &Path) -> ObjectId {
        let tree = git(dir, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let who = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let id = git(
            dir,
            &[&who[..], &["commit-tree", "-m", "x", &tree]].concat(),
        );
        ObjectId::from_hex(id).unwrap()
    }

    #[test]
    fn a_new_hub_is_durable_strict_and_has_the_branch() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/hub.git");
        create(&path, "trunk", false).unwrap();
        assert_eq!(look(&path, "trunk").unwrap(), Look::Tip(None));
        for (key, value) in [
            ("core.fsync", "all"),
            ("core.bare", "true"),
            ("receive.fsckObjects", "true"),
            ("receive.denyNonFastForwards", "true"),
            ("gc.auto", "0"),
        ] {
            assert_eq!(git(&path, &["config", "--local", key]), value, "{key}");
        }
        assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/trunk");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let id = commit(&path);
        git(&path, &["update-ref", "refs/heads/trunk", &id.to_string()]);
        create(&path, "main", false).unwrap();
        assert_eq!(look(&path, "trunk").unwrap(), Look::Tip(Some(id)));
    }

    #[test]
    fn only_a_hub_of_ours_with_much_in_it_is_repacked() {
        let place = tempfile::tempdir().unwrap();
        let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
        create(&ours, "main", false).unwrap();
        assert!(!maintain(&ours).unwrap());
        git(place.path(), &["init", "-q", "--bare", "theirs"]);
        for hub in [&ours, &theirs] {
            // Objects of which many begin with 17.
            let mut count = 0;
            let mut lines = Vec::new();
            for number in 0.. {
                let text = format!("{number}");
                let id = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap();
                if id.as_bytes()[0] == 0x17 {
                    let file = place.path().join(&text);
                    fs::write(&file, &text).unwrap();
                    lines.push(format!("{}\n", file.display()));
                    count += 1;
                }
                if count > 6 {
                    break;
                }
            }
            let mut command = Git::bare(hub).command("hash-object");
            command.args(["-w", "--stdin-paths"]);
            run(&mut command, lines.concat().as_bytes(), LOCAL, "test").unwrap();
        }
        assert!(!maintain(&theirs).unwrap());
        assert!(maintain(&ours).unwrap());
        assert!(!maintain(&ours).unwrap());
        assert_eq!(git(&ours, &["count-objects"]), "0 objects, 0 kilobytes");
        assert!(!maintain(&place.path().join("none")).unwrap());
    }

    #[test]
    fn a_shared_hub_lets_the_group_write() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("hub");
        create(&path, "main", true).unwrap();
        let mode = fs::metadata(path.join("objects")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o2070, 0o2070);
    }

    #[test]
    fn a_tip_is_seen_loose_and_packed_and_below_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("hub.git");
        create(&path, "a/b", false).unwrap();
        let id = commit(&path);
        git(&path, &["update-ref", "refs/heads/a/b", &id.to_string()]);
        git(&path, &["update-ref", "refs/heads/a/bc", &id.to_string()]);
        assert_eq!(look(&path, "a/b").unwrap(), Look::Tip(Some(id)));
        git(&path, &["pack-refs", "--all"]);
        assert!(!path.join("refs/heads/a/b").exists());
        assert_eq!(look(&path, "a/b").unwrap(), Look::Tip(Some(id)));
        assert_eq!(look(&path, "a").unwrap(), Look::Tip(None));
        let without_suffix = place.path().join("hub");
        assert_eq!(look(&without_suffix, "a/b").unwrap(), Look::Tip(Some(id)));
    }

    #[test]
    fn what_files_do_not_tell_is_left_to_the_program() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(look(place.path(), "main").unwrap(), Look::Missing);
        let path = place.path().join("hub");
        create(&path, "main", false).unwrap();
        fs::write(path.join("refs/heads/main"), "ref: refs/heads/other\n").unwrap();
        assert_eq!(look(&path, "main").unwrap(), Look::Unclear);
        fs::create_dir(path.join("reftable")).unwrap();
        assert_eq!(look(&path, "main").unwrap(), Look::Unclear);
    }
}
