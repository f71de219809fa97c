//! `autosync ignore`

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::out::say;
use super::scene::Scene;
use super::spot::Spot;
use crate::error::{Complaint, Exit};
use crate::names::RepoPath;
use crate::repo;

/// Keep a path out of the folder's history
///
/// Writes it into the folder's `.gitignore`, which is synced: none of your computers commits a file
/// of that name any more. With `--here` into `.git/info/exclude`, which is for this computer alone.
/// The file itself stays where it is. What the history has already is not ignored by that; take it
/// out with `git rm --cached` first.
#[derive(Debug, Args)]
pub(super) struct IgnoreArgs {
    /// The files and directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// On this computer only
    #[arg(long)]
    here: bool,
}

pub(super) fn run(args: &IgnoreArgs, scene: &Scene) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let spots = args.paths.iter().map(|path| Spot::find(path, scene));
    for spot in spots.collect::<anyhow::Result<Vec<Spot>>>()? {
        let shown = spot.shown();
        let Some(path) = &spot.path else {
            let message = format!("`{shown}` is the whole folder");
            let hint = "Run `autosync pause`, or take the folder out of the configuration.";
            return Err(Complaint::new(Exit::Failed, message, hint).into());
        };
        if !spot.is_directory && is_tracked(&spot, path)? {
            let message = format!("the history has `{shown}` already, so ignoring changes nothing");
            let hint = format!(
                "Run `git -C {} rm --cached {path}` first; the file stays.",
                spot.root.display()
            );
            return Err(Complaint::new(Exit::Failed, message, hint).into());
        }
        let line = pattern(path, spot.is_directory).ok_or_else(|| {
            let message = format!("`{shown}` has a line break in its name");
            Complaint::new(
                Exit::Failed,
                message,
                "Ignore it with a pattern of your own.",
            )
        })?;
        let file = if args.here {
            exclude_file(&spot)?
        } else {
            spot.root.join(".gitignore")
        };
        let name = if args.here {
            "`.git/info/exclude`"
        } else {
            "`.gitignore`"
        };
        if append(&file, &line).map_err(|error| {
            let message = format!("{name} cannot be written: {error}");
            Complaint::new(Exit::Failed, message, "")
        })? {
            say(format!("Ignored `{shown}` by a line in {name}."))?;
        } else {
            say(format!("`{shown}` stands in {name} already."))?;
        }
        spot.look_again(scene)?;
    }
    Ok(Exit::Done)
}

/// Returns whether git tracks a file.
fn is_tracked(spot: &Spot, path: &RepoPath) -> anyhow::Result<bool> {
    let listed = spot.git.call(
        "ls-files",
        [
            OsStr::new("-z"),
            OsStr::new("--"),
            OsStr::from_bytes(path.as_bytes()),
        ],
        b"",
    );
    let listed =
        listed.map_err(|error| Complaint::from(&repo::RepoError::from(error).trouble()))?;
    Ok(!listed.is_empty())
}

/// Returns where the rules are that are for this computer alone.
fn exclude_file(spot: &Spot) -> anyhow::Result<PathBuf> {
    let dir = spot.git.common_dir().join("info");
    fs::create_dir_all(&dir)?;
    Ok(dir.join("exclude"))
}

/// Returns the line of a .gitignore that means just this path; `None` if no line can.
fn pattern(path: &RepoPath, is_directory: bool) -> Option<Vec<u8>> {
    let bytes = path.as_bytes();
    if bytes.contains(&b'\n') || bytes.contains(&b'\r') {
        return None;
    }
    let mut line = vec![b'/'];
    for byte in bytes {
        if b"*?[\\".contains(byte) {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    if is_directory {
        line.push(b'/');
    } else if line.ends_with(b" ") {
        // A blank at the end counts only so (gitignore(5)).
        line.insert(line.len() - 1, b'\\');
    }
    Some(line)
}

/// Appends a line to a file unless it is there. Returns whether it had to.
fn append(file: &Path, line: &[u8]) -> io::Result<bool> {
    let before = match fs::read(file) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if before.split(|b| *b == b'\n').any(|old| old == line) {
        return Ok(false);
    }
    let mut text = Vec::new();
    if before.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(line);
    text.push(b'\n');
    let mut file = File::options().create(true).append(true).open(file)?;
    file.write_all(&text)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_just_the_path_whatever_is_in_its_name() {
        for (path, is_directory, line) in [
            (".env", false, "/.env"),
            ("a/b c", false, "/a/b c"),
            ("target", true, "/target/"),
            ("#x", false, "/#x"),
            ("!x", false, "/!x"),
            ("a*[1]?\\", false, "/a\\*\\[1]\\?\\\\"),
            ("end ", false, "/end\\ "),
        ] {
            let path = RepoPath::new(path).unwrap();
            let written = pattern(&path, is_directory).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), line);
        }
        assert_eq!(pattern(&RepoPath::new("a\nb").unwrap(), false), None);
    }

    #[test]
    fn a_line_is_written_once_and_after_the_end_of_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".gitignore");
        assert!(append(&file, b"/a").unwrap());
        assert!(!append(&file, b"/a").unwrap());
        fs::write(&file, "x").unwrap();
        assert!(append(&file, b"/a").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "x\n/a\n");
    }
}
