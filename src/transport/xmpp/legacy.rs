//! The conversation of dvcs-autosync's hosts: chat messages with a word and the address of a hub.
//!
//! An old host takes every chat whose first word is `pushed`, whatever follows, from a connection
//! that it saw in presence; to anything else it answers, to everybody. So it is told nothing but
//! `pushed ADDRESS`, and whatever it says is never answered.
//!
//! Absent: trust. The address only chooses which of our own folders asks its own hub.

use crate::git::public_url;

/// How the name of an old host's connection begins; its host follows.
pub(super) const RESOURCE: &str = "AutosyncJabberBot on ";
/// The word of a push.
const PUSHED: &str = "pushed";

/// Returns what is said to an old host after a push.
pub(super) fn say(url: &str) -> String {
    format!("{PUSHED} {}", public_url(url))
}

/// Returns the address in what an old host says after a push; `None` if it says something else.
pub(super) fn pushed(body: &str) -> Option<&str> {
    let body = body.trim();
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    if !word.eq_ignore_ascii_case(PUSHED) {
        return None;
    }
    let rest = rest.trim();
    // The last of them wrote what Python writes for bytes.
    let bytes = |quote: char| {
        let inner = rest.strip_prefix('b')?.strip_prefix(quote)?;
        let inner = inner.split(quote).next()?;
        Some(inner.strip_suffix("\\n").unwrap_or(inner))
    };
    if let Some(inner) = bytes('\'').or_else(|| bytes('"')) {
        return Some(inner);
    }
    Some(rest.split_whitespace().next().unwrap_or_default())
}

/// Returns whether a connection of this name is an old host's.
pub(super) fn is_old(resource: &str) -> bool {
    let start = resource.get(..RESOURCE.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(RESOURCE))
}

/// Returns the host in the name of an old host's connection, empty if it is no plain name.
pub(super) fn host(resource: &str) -> &str {
    let rest = resource.get(RESOURCE.len()..).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if is_old(resource) && rest.len() <= 64 && rest.chars().all(plain) {
        rest
    } else {
        ""
    }
}

/// Returns an address in a form that is equal for the ways to write the same one: without scheme,
/// user, usual port, `.git` and outer slashes, the host in small letters.
pub(super) fn normal(url: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let is_local = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("file"));
    let (place, path) = match scheme {
        Some(_) if is_local => ("", rest),
        Some(_) => rest.split_once('/').unwrap_or((rest, "")),
        None => match rest.split_once(':') {
            // A colon behind a slash belongs to a path.
            Some((place, path)) if !place.contains('/') => (place, path),
            Some(_) | None => ("", rest),
        },
    };
    let place = place.rsplit('@').next().unwrap_or_default();
    let usual = match scheme {
        Some("https") => ":443",
        Some("http") => ":80",
        Some("git") => ":9418",
        Some(_) | None => ":22",
    };
    let place = place.strip_suffix(usual).unwrap_or(place);
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("~/").unwrap_or(path);
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    format!(
        "{}/{}",
        place.to_ascii_lowercase(),
        path.trim_end_matches('/')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_begins_with_pushed_is_a_push() {
        for (body, url) in [
            ("pushed server:autosync.git\n", "server:autosync.git"),
            ("PUSHED server:a.git", "server:a.git"),
            ("Pushed  server:a.git  oid=12 src=x", "server:a.git"),
            ("pushed b'server:a.git\\n'", "server:a.git"),
            ("pushed b\"it's.git\\n\"", "it's.git"),
            ("pushed", ""),
        ] {
            assert_eq!(pushed(body), Some(url), "{body}");
        }
        for body in [
            "",
            "login AutosyncJabberBot on alpha",
            "ping",
            "pushedserver:a",
            "I pushed it",
            "Unknown command: \"pushed\"",
        ] {
            assert_eq!(pushed(body), None, "{body}");
        }
    }

    #[test]
    fn an_old_host_is_known_by_its_connection() {
        assert!(is_old("AutosyncJabberBot on alpha"));
        assert!(is_old("autosyncjabberbot ON alpha"));
        assert!(!is_old("AutosyncJabberBot"));
        assert!(!is_old("autosync.alpha.12ab"));
        assert_eq!(host("AutosyncJabberBot on alpha"), "alpha");
        assert_eq!(host("AutosyncJabberBot on a b<c"), "");
    }

    #[test]
    fn the_ways_to_write_an_address_are_one() {
        let same = [
            "server:autosync.git",
            "me@server:autosync",
            "ssh://server/autosync.git/",
            "ssh://me@SERVER:22/~/autosync.git",
            "ssh://me:secret@server/autosync",
        ];
        for url in same {
            assert_eq!(normal(url), "server/autosync", "{url}");
        }
        assert_eq!(
            normal("https://x.org:443/a/b.git"),
            normal("https://x.org/a/b")
        );
        assert_eq!(normal("/srv/git/a.git"), normal("file:///srv/git/a"));
        assert_ne!(normal("server:a.git"), normal("other:a.git"));
        assert_ne!(normal("ssh://server:2222/a"), normal("ssh://server/a"));
    }

    #[test]
    fn an_old_host_is_told_no_secret() {
        assert_eq!(say("server:a.git"), "pushed server:a.git");
        assert!(!say("https://me:hunter2@x.org/a.git").contains("hunter2"));
    }
}
