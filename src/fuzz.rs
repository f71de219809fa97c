//! What must hold for every input that others can send or leave behind: a function per kind of
//! input, which panics where it does not.
//!
//! Each takes any bytes. What is refused must be refused without a panic; what is accepted must
//! come back as it was when it is written and read again, must not be dangerous, and no secret in
//! an input may stand in an error. `tests/fuzz` searches for inputs that break this, and
//! `tests/it/fuzz.rs` plays those that were found again.
//!
//! Absent: any build but the tests' (feature `faults`).

use std::path::Path;

use crate::config::Settings;
use crate::engine::notice::Notice;
use crate::git::{hub, objects, refusal, ssh, tree};
use crate::names::{self, RepoPath, without_secrets};
use crate::paths::Env;
use crate::repo::fuzz as repo;
use crate::transport::fanout::line;
use crate::transport::wire;

/// What no error may say.
pub const SECRET: &str = "S3CRET-xyz";

/// What must hold for an input of a kind.
pub type Holds = fn(&[u8]);

/// Every kind of input, with what must hold for it.
pub const TARGETS: &[(&str, Holds)] = &[
    ("address", address),
    ("bases", repo::bases),
    ("config", config),
    ("control", crate::control::fuzz),
    ("copies", repo::copies),
    ("displaced", repo::displaced),
    ("fanout", fanout),
    ("journal", repo::journal),
    ("names", path),
    ("notice_line", notice_line),
    ("notice_xml", notice_xml),
    ("objects", object),
    ("refusal", refused),
];

/// Plays one input of a kind.
pub fn play(target: &str, input: &[u8]) {
    for (name, holds) in TARGETS {
        if *name == target {
            return holds(input);
        }
    }
    panic!("there is no target `{target}`");
}

/// Returns whether a text for people could steer a terminal.
fn steers(text: &str) -> bool {
    text.contains(char::is_control)
}

fn check_notice(notice: &Notice) {
    assert!(wire::is_branch(&notice.branch), "{notice:?}");
    assert!(wire::is_host(&notice.host), "{notice:?}");
    assert!(!steers(&notice.branch), "{notice:?}");
    assert!(!notice.branch.starts_with('-'), "{notice:?}");
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    assert!(notice.folder.bytes().all(plain), "{notice:?}");
    let line = wire::to_line(notice);
    assert_eq!(wire::from_line(&line).as_ref(), Ok(notice), "{line}");
    let xml = wire::to_xml(notice);
    assert_eq!(wire::from_xml(&xml).as_ref(), Ok(notice), "{xml}");
}

fn notice_xml(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        match wire::from_xml(text) {
            Ok(notice) => check_notice(&notice),
            Err(error) => assert!(!steers(&error.to_string())),
        }
    }
}

fn notice_line(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        match wire::from_line(text) {
            Ok(notice) => check_notice(&notice),
            Err(error) => assert!(!steers(&error.to_string())),
        }
    }
}

/// The line protocol of SparkleShare, from both ends.
fn fanout(input: &[u8]) {
    let mut whole = Vec::new();
    let mut lines = line::Lines::default();
    let fits = lines.feed(input, |line| whole.push(line.to_vec()));
    let mut pieces = Vec::new();
    let mut lines = line::Lines::default();
    for piece in input.chunks(7) {
        if lines
            .feed(piece, |line| pieces.push(line.to_vec()))
            .is_err()
        {
            assert!(fits.is_err(), "too long in pieces only");
            break;
        }
    }
    if fits.is_ok() {
        assert_eq!(whole, pieces);
    }
    for line in &whole {
        match line::asked(line) {
            line::Asked::Announce(channel, message) => {
                assert!(line::is_channel(channel) && !steers(message));
            }
            line::Asked::Subscribe(channel) | line::Asked::Unsubscribe(channel) => {
                assert!(line::is_channel(channel));
            }
            line::Asked::Hello(_) | line::Asked::Ping | line::Asked::Nothing => {}
        }
        if let line::Told::Message(channel, message) = line::told(line) {
            assert!(line::is_channel(channel) && !steers(message));
        }
    }
}

fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let env: Env = [("HOME", "/home/me"), ("WORK", "/srv/base")]
        .into_iter()
        .collect();
    let file = Path::new("/nowhere/autosync.toml");
    let Err(error) = Settings::parse(text, file, &env) else {
        return;
    };
    let said = format!("{error} {error:?}");
    // Whoever writes their password as the name of a folder reads it again.
    let is_password = |line: &str| {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        !line.contains(SECRET) || key == Some("password")
    };
    if text.lines().all(is_password) {
        assert!(!said.contains(SECRET), "{said}");
    }
}

/// Names: the rules of git's own checks, said again in the plainest way.
fn path(input: &[u8]) {
    let Ok(path) = RepoPath::new(input) else {
        return;
    };
    assert_eq!(path.as_bytes(), input);
    assert!(!input.contains(&0) && !input.starts_with(b"/") && !input.ends_with(b"/"));
    let mut git = false;
    for name in path.components() {
        assert!(!matches!(name, b"" | b"." | b".."));
        let plain = name.to_ascii_lowercase();
        let plain = plain.split(|byte| *byte == b':').next().unwrap_or_default();
        let tail = |byte: &u8| matches!(byte, b'.' | b' ');
        let end = plain.iter().rposition(|byte| !tail(byte));
        let plain = &plain[..end.map_or(0, |end| end + 1)];
        git |= matches!(plain, b".git" | b"git~1");
    }
    for mode in [0o100_644, 0o120_000, 0o160_000] {
        let danger = names::danger(&path, mode);
        assert!(!git || danger.is_some(), "{path}");
    }
    let dir = path.parent();
    assert!(
        dir.as_ref()
            .is_none_or(|dir| path.is_within(dir) && !dir.is_within(&path))
    );
    let again = match dir {
        Some(dir) => dir.join(path.file_name()),
        None => RepoPath::new(path.file_name()),
    };
    assert_eq!(again.as_ref(), Ok(&path));
    assert!(!steers(&path.to_string()), "{path}");
    let _fits = names::representable(&path);
}

/// Addresses of hubs: nothing in them becomes an option, a command or a leak.
fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Some((server, path)) = ssh::Server::of_url(text) {
        let user = server.user.as_deref().unwrap_or("me");
        for word in [user, server.host.as_str(), path.as_str()] {
            assert!(
                !word.is_empty() && !word.starts_with('-'),
                "{server:?} {path}"
            );
            assert!(!steers(word), "{server:?} {path}");
        }
    }
    let _kind = hub::Kind::of(text, Path::new("/home/me"));
    assert!(!steers(&without_secrets(text)));
    for scheme in ["https", "ssh", "http"] {
        let with_secret = format!("{scheme}://me:{SECRET}@{text}");
        let shown = without_secrets(&with_secret);
        assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown}");
    }
    // The shell's own rule: between single quotes nothing means anything.
    let mut rest = ssh::quoted(text);
    let mut word = String::new();
    while let Some(after) = rest.strip_prefix('\'') {
        let Some((plain, after)) = after.split_once('\'') else {
            panic!("a quote stays open in {rest}");
        };
        word.push_str(plain);
        let escaped = after.strip_prefix(r"\'");
        word.push_str(if escaped.is_some() { "'" } else { "" });
        rest = escaped.unwrap_or(after).to_owned();
    }
    assert_eq!((word.as_str(), rest.as_str()), (text, ""));
}

/// What git, ssh and hubs say.
fn refused(input: &[u8]) {
    let words = String::from_utf8_lossy(input);
    let words = format!("{words} https://me:{SECRET}@example.org/x.git: {words}");
    let trouble = refusal::trouble("hub", &words);
    let said = format!("{} {}", trouble.message, trouble.hint);
    assert!(!steers(&said), "{said}");
    let leaks = String::from_utf8_lossy(input).contains(SECRET);
    assert!(leaks || !said.contains(SECRET), "{said}");
}

/// Trees and commits that others made.
fn object(input: &[u8]) {
    for width in [20, 32] {
        if let Ok(lines) = tree::parse(input, width) {
            let again = tree::parse(&tree::serialise(lines.clone()), width);
            let Ok(mut again) = again else {
                panic!("a tree cannot be read again");
            };
            let mut lines = lines;
            let key = |line: &tree::Line| (line.name.clone(), line.entry.mode, line.entry.id);
            lines.sort_by_key(key);
            again.sort_by_key(key);
            assert_eq!(lines, again);
        }
    }
    if let Some(commit) = objects::parse_commit(input) {
        let date = crate::clock::wall_in_zone(commit.seconds, commit.offset);
        assert!(!steers(&date), "{date}");
        for key in ["Autosync-Host", "Autosync-Conflict", "Autosync-Approved"] {
            for value in commit.trailers(key) {
                repo::trailer(&value);
            }
        }
        repo::copy(&commit.author, &commit.message, &date);
    }
}
