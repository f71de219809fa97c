//! Paths as people write them: `~`, `$VAR`, and relative to the file they stand in.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::paths::Env;

/// Returns the absolute path that a text means; a relative one starts at `base`.
///
/// A leading `~` is the home directory; `$NAME` and `${NAME}` are variables, `$$` is a dollar sign.
/// Errors with the rest of a sentence, the beginning of which names the key.
pub(super) fn path(text: &str, base: &Path, env: &Env) -> Result<PathBuf, String> {
    let expanded = expand(text, env)?;
    Ok(tidy(&base.join(Path::new(&expanded))))
}

/// Returns what the `hub` key means: a path made absolute as by [`path`], or a URL or
/// `host:path` as it is.
pub(super) fn hub(text: &str, base: &Path, env: &Env) -> Result<String, String> {
    if is_path(text) {
        path(text, base, env)?
            .into_os_string()
            .into_string()
            .map_err(|_| "must be UTF-8".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Returns whether a hub is a directory of this machine, by git's rule: no scheme, and no colon
/// before the first slash.
pub fn is_path(hub: &str) -> bool {
    let first = hub.split('/').next().unwrap_or_default();
    !hub.contains("://") && !first.contains(':')
}

fn expand(text: &str, env: &Env) -> Result<OsString, String> {
    let home = || {
        env.home()
            .ok_or_else(|| "uses ~, and HOME is not set".to_owned())
    };
    let mut out = Vec::new();
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('~') {
        if !after.is_empty() && !after.starts_with('/') {
            return Err("uses ~ for another user; write the whole path".into());
        }
        out.extend_from_slice(home()?.as_os_str().as_bytes());
        rest = after;
    }
    while let Some(at) = rest.find('$') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push(b'$');
            rest = after;
            continue;
        }
        let (name, after) = if let Some(braced) = after.strip_prefix('{') {
            let closed = braced.split_once('}');
            closed.ok_or("has ${ without a closing brace")?
        } else {
            let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = after.find(|c| !of_name(c)).unwrap_or(after.len());
            after.split_at(end)
        };
        if name.is_empty() {
            return Err("has a $ without a name; write $$ for a dollar sign".into());
        }
        let value = env
            .get(name)
            .ok_or_else(|| format!("uses ${name}, which is not set"))?;
        out.extend_from_slice(value.as_bytes());
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(OsString::from_vec(out))
}

/// Returns the path without `.`; `..` stays, because what it means depends on links.
fn tidy(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// Returns the path with every link in the part of it that exists followed.
pub(super) fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(found), Ok(below)) = (above.canonicalize(), path.strip_prefix(above)) {
            // `join("")` would add a slash.
            return if below.as_os_str().is_empty() {
                found
            } else {
                found.join(below)
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("HOME", "/home/me"), ("WORK", "/srv/base"), ("EMPTY", "")]
            .into_iter()
            .collect()
    }

    #[test]
    fn home_and_variables_expand_and_relative_paths_start_at_the_file() {
        for (text, meant) in [
            ("~", "/home/me"),
            ("~/Sync", "/home/me/Sync"),
            ("$WORK/a", "/srv/base/a"),
            ("${WORK}s/./a/", "/srv/bases/a"),
            ("a/$$b", "/etc/a/$b"),
            ("../x", "/etc/../x"),
            ("/a~b", "/a~b"),
        ] {
            let path = path(text, Path::new("/etc"), &env());
            assert_eq!(path.as_deref(), Ok(Path::new(meant)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_said() {
        for (text, why) in [
            ("~you/x", "uses ~ for another user; write the whole path"),
            ("$NOPE/x", "uses $NOPE, which is not set"),
            ("${EMPTY}", "uses $EMPTY, which is not set"),
            ("${WORK", "has ${ without a closing brace"),
            ("a$", "has a $ without a name; write $$ for a dollar sign"),
        ] {
            assert_eq!(
                path(text, Path::new("/"), &env()),
                Err(why.into()),
                "{text}"
            );
        }
        let nobody = Env::default();
        assert!(path("~", Path::new("/"), &nobody).is_err());
    }

    #[test]
    fn a_hub_is_a_path_or_stays_as_it_is() {
        let hub = |text| hub(text, Path::new("/etc"), &env()).unwrap();
        assert_eq!(hub("~/hub.git"), "/home/me/hub.git");
        assert_eq!(hub("../hub.git"), "/etc/../hub.git");
        assert_eq!(hub("me@server:hub.git"), "me@server:hub.git");
        assert_eq!(hub("server:~/hub.git"), "server:~/hub.git");
        assert_eq!(hub("ssh://server/$x"), "ssh://server/$x");
        assert_eq!(hub("./a:b"), "/etc/a:b");
    }
}
