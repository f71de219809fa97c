//! Which server an address means, and how ssh is run for it: the user's own command and
//! configuration are kept, ours is appended.
//!
//! Invariants:
//! 1. A word from an address never becomes an option of ssh or a word of a shell.
//! 2. Host keys are left to the user's configuration: with `BatchMode` an unknown or changed key
//!    is an error, never a question and never accepted.

use std::fmt;

/// A server that is reached by ssh, as an address names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// The login name, if the address has one.
    pub user: Option<String>,
    /// The host, or an alias of the user's ssh configuration.
    pub host: String,
    /// The port, if the address has one.
    pub port: Option<u16>,
}

impl Server {
    /// Splits an address in one of git's two ssh forms, `ssh://[user@]host[:port]/path` and
    /// `[user@]host:path`, into the server and the path on it.
    ///
    /// Returns `None` for any other address, and for a server or path that would be taken for
    /// an option.
    pub fn of_url(url: &str) -> Option<(Self, String)> {
        let schemes = ["ssh://", "git+ssh://", "ssh+git://"];
        let (authority, path) = match schemes.iter().find_map(|s| url.strip_prefix(s)) {
            Some(rest) => {
                let rest = decoded(rest)?;
                let (authority, path) = rest.split_at(rest.find('/')?);
                // `ssh://host/~user/x` is relative to a home directory.
                let path = path.strip_prefix("/~").map(|p| format!("~{p}"));
                let path = path.unwrap_or_else(|| rest[authority.len()..].to_owned());
                (authority.to_owned(), path)
            }
            None if url.contains("://") => return None,
            None => {
                let bracket = url.find('[').map_or(0, |at| at + 1);
                let after = url[bracket..].find(']').map_or(0, |at| bracket + at);
                let colon = after + url[after..].find(':')?;
                if url[..colon].contains('/') {
                    return None;
                }
                (url[..colon].to_owned(), url[colon + 1..].to_owned())
            }
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => {
                let user = user.split(':').next().unwrap_or_default();
                (Some(user.to_owned()), place.to_owned())
            }
            None => (None, authority),
        };
        let (host, port) = host_and_port(&place, url.contains("://"))?;
        let server = Self { user, host, port };
        (server.is_sane() && !path.is_empty() && !path.starts_with('-')).then_some((server, path))
    }

    fn is_sane(&self) -> bool {
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        plain(&self.host) && self.user.as_deref().is_none_or(plain)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// Splits `host`, `host:port` or `[v6]:port`. In the form without a scheme a port may only stand
/// inside brackets, as git has it.
fn host_and_port(place: &str, is_url: bool) -> Option<(String, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (inner, after) = rest.split_once(']')?;
        if !is_url && inner.matches(':').count() == 1 {
            let (host, port) = inner.split_once(':')?;
            return Some((host.to_owned(), Some(port.parse().ok()?)));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        return Some((inner.to_owned(), port));
    }
    match place.split_once(':') {
        Some((host, "")) => Some((host.to_owned(), None)),
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((place.to_owned(), None)),
    }
}

/// Decodes `%41`; `None` if that is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// Returns the path that a `file://` address means, `None` for any other address.
pub fn file_url(url: &str) -> Option<String> {
    let rest = url.strip_prefix("file://")?;
    decoded(&rest[rest.find('/')?..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_address_name_a_server_and_a_path() {
        for (url, server, path) in [
            ("ssh://me@host:2222/srv/x.git", "me@host:2222", "/srv/x.git"),
            ("ssh://host/~/x", "host", "~/x"),
            ("ssh://host/a%20b", "host", "/a b"),
            ("ssh://[::1]:22/x", "::1:22", "/x"),
            ("ssh://me:pw@host/x", "me@host", "/x"),
            ("me@host:x.git", "me@host", "x.git"),
            ("host:~/x.git", "host", "~/x.git"),
            ("[host:2222]:x", "host:2222", "x"),
            ("[::1]:x", "::1", "x"),
        ] {
            let (found, rest) = Server::of_url(url).unwrap_or_else(|| panic!("{url}"));
            assert_eq!((found.to_string().as_str(), rest.as_str()), (server, path));
        }
    }

    #[test]
    fn what_is_no_server_or_would_be_an_option_is_refused() {
        for url in [
            "/srv/x.git",
            "./a:b",
            "https://host/x",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "ssh://-l@host/y",
            "host:-x",
            "ssh://host",
            "ssh://ho st/x",
            "ssh://host:port/x",
            "ext::sh -c x",
        ] {
            if let Some((server, path)) = Server::of_url(url) {
                // `ext:` reads as a host named ext; git asks nobody else then either.
                assert_eq!((server.host.as_str(), path.as_str()), ("ext", ":sh -c x"));
            }
        }
        assert_eq!(file_url("file:///srv/a%20b").as_deref(), Some("/srv/a b"));
        assert_eq!(file_url("/srv"), None);
    }
}
