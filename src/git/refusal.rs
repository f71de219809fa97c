//! What git, ssh and a hub say when it does not work, made into one sentence and something to do.
//!
//! The texts are those of git (with `LC_MESSAGES=C`), OpenSSH and the common forges. What is not
//! recognised is passed on as it was said, without credentials.

use super::said;
use crate::engine::event::{Code, Recovery, Trouble};

/// Sorts the words of a command that could not talk to the hub, or that the hub broke off, into a
/// trouble. `hub` is its address for people.
pub fn trouble(hub: &str, words: &str) -> Trouble {
    let has = |text: &str| words.contains(text);
    let any = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("has changed and you have requested") {
        return Trouble::new(
            Code::HostKey,
            Recovery::Hold,
            format!("the host key of the hub {hub} has changed"),
            "If that is expected, remove the old key with `ssh-keygen -R HOST` and connect once by hand.",
        );
    }
    if any(&["Host key verification failed", "host key is known for"]) {
        return Trouble::new(
            Code::HostKey,
            Recovery::Hold,
            format!("the host key of the hub {hub} is not known here"),
            "Connect once by hand with ssh and compare the key; it is never accepted unseen.",
        );
    }
    if has("transport '") && has("' not allowed") || has("is not a valid ") || has("strange ") {
        return Trouble::new(
            Code::HubMissing,
            Recovery::Hold,
            format!("the address {hub} is none that a hub may have"),
            "Give a path, `ssh://HOST/PATH`, `HOST:PATH` or an https address.",
        );
    }
    if has("dubious ownership") {
        return Trouble::new(
            Code::Ownership,
            Recovery::Hold,
            format!("the hub {hub} belongs to another user, so git refuses it"),
            "Run `git config --global --add safe.directory HUB`, or change the owner of the hub.",
        );
    }
    if any(NO_SPACE) {
        return no_space(hub, words);
    }
    if has("Read-only file system") {
        return Trouble::new(
            Code::ReadOnly,
            Recovery::Retry,
            format!("the hub {hub} is on a read-only file system"),
            "Make it writable; pushing goes on by itself.",
        );
    }
    if any(FAILED_CHECKS) {
        return Trouble::new(
            Code::Damaged,
            Recovery::Hold,
            format!(
                "git's checks refused what the hub {hub} holds: {}",
                said(words.as_bytes())
            ),
            "Run `git fsck` in the hub; somebody may have pushed a damaged or hostile commit.",
        );
    }
    if any(NO_LOGIN) {
        return Trouble::new(
            Code::Auth,
            Recovery::Hold,
            format!("the hub {hub} refused our login"),
            "Try `git ls-remote` on it by hand: the key must be loaded, or need no passphrase, and be allowed there.",
        );
    }
    if any(NO_RIGHTS) {
        return Trouble::new(
            Code::Auth,
            Recovery::Hold,
            format!("this user may not read or write the hub {hub}"),
            "Give this user access to all files of the hub, or make it anew with `git init --bare --shared`.",
        );
    }
    if any(UNREACHABLE) {
        return Trouble::new(
            Code::HubUnreachable,
            Recovery::Retry,
            format!("the hub {hub} does not answer: {}", last_line(words)),
            "Nothing to do if you are offline: commits go on, and are pushed when it answers.",
        );
    }
    if any(NO_REPOSITORY) {
        return Trouble::new(
            Code::HubMissing,
            Recovery::Hold,
            format!("there is no repository at {hub}"),
            "Check the address, or make it there with `git init --bare`.",
        );
    }
    if any(&[
        "remote end hung up",
        "early EOF",
        "the remote end",
        "unexpected disconnect",
    ]) {
        return Trouble::new(
            Code::HubUnreachable,
            Recovery::Retry,
            format!("the connection to the hub {hub} broke"),
            "",
        );
    }
    if any(&[
        "is corrupt",
        "loose object",
        "unable to read tree",
        "missing blob",
    ]) {
        return Trouble::new(
            Code::Damaged,
            Recovery::Hold,
            format!("an object is damaged: {}", said(words.as_bytes())),
            "Run `git fsck` in the folder and in the hub.",
        );
    }
    Trouble::new(
        Code::Git,
        Recovery::Retry,
        format!(
            "talking to the hub {hub} failed: {}",
            said(words.as_bytes())
        ),
        "Try `git ls-remote` on it by hand.",
    )
}

const NO_SPACE: &[&str] = &["No space left on device", "Disk quota exceeded"];
const FAILED_CHECKS: &[&str] = &["fsck error", "error: object ", "bad tree", "invalid 'tag'"];
const NO_LOGIN: &[&str] = &[
    "Permission denied (",
    "Permission denied, please try again",
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "Invalid username or",
    "Too many authentication failures",
    "returned error: 401",
    "returned error: 403",
    "Access denied",
];
const NO_RIGHTS: &[&str] = &[
    "Permission denied",
    "insufficient permission",
    "unable to create temporary object directory",
];
const UNREACHABLE: &[&str] = &[
    "Could not resolve host",
    "Could not resolve proxy",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Connection closed",
    "Connection to ",
    "Operation timed out",
    "No route to host",
    "Network is unreachable",
    "Network is down",
    "Failed to connect",
    "Couldn't connect",
    "kex_exchange_identification",
    "Timeout, server",
    "banner exchange",
    "Broken pipe",
    "timed out",
    "returned error: 5",
];
const NO_REPOSITORY: &[&str] = &[
    "does not appear to be a git repository",
    "not a git repository",
    "Repository not found",
    "repository not found",
    "' not found",
    "does not exist",
    "returned error: 404",
    "project you were looking for could not be found",
    "invalid gitfile format",
];

/// Whose disk is full shows in who says it: the hub's words come behind `remote:`, or as the
/// reason why it did not unpack.
fn no_space(hub: &str, words: &str) -> Trouble {
    let says = |line: &str| NO_SPACE.iter().any(|text| line.contains(text));
    let theirs = words
        .lines()
        .any(|line| says(line) && (line.starts_with("remote:") || line.contains("remote unpack")));
    let of_push = words.contains("unpack failed") || words.contains("failed to push");
    if theirs || of_push {
        return Trouble::new(
            Code::DiskFull,
            Recovery::Retry,
            format!("there is no space left on the disk of the hub {hub}"),
            "Free some space there; pushing goes on by itself.",
        );
    }
    Trouble::new(
        Code::DiskFull,
        Recovery::Hold,
        "there is no space left on the disk for what the hub has",
        "Free some space; syncing goes on by itself.",
    )
}

fn last_line(words: &str) -> String {
    let line = words
        .lines()
        .find(|line| UNREACHABLE.iter().any(|text| line.contains(text)))
        .unwrap_or(words);
    let line = line.strip_prefix("fatal: ").unwrap_or(line);
    // The address is in the sentence already.
    let line = match line.strip_prefix("unable to access ") {
        Some(rest) => rest.split_once("': ").map_or(rest, |(_, why)| why),
        None => line,
    };
    said(line.trim_end_matches(['.', '\r', '\n']).as_bytes())
}

#[cfg(test)]
mod tests;
