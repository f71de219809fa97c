//! The form of a notice outside the program: one schema, as XML and as a line.
//!
//! Both forms have the same five fields with the same limits, checked by [`Fields::check`]
//! whatever they came from. What does not pass is dropped whole; what we do not know is ignored.
//!
//! Invariants:
//! 1. A parsed notice holds only what its field may hold: hexadecimal ids, a branch that git would
//!    accept, a plain host name. No control character gets through.
//! 2. Nothing longer than [`LIMIT`] is looked at.
//!
//! Absent: addresses. A notice never says where to fetch from.

use crate::engine::notice::Notice;
use crate::names::ObjectId;

/// The longest notice in either form, in bytes.
pub const LIMIT: usize = 4096;
/// The namespace of the XML form.
pub const NAMESPACE: &str = "urn:autosync:push:0";
/// The first word of the line form.
const LINE: &str = "autosync-push-0";
const FOLDER_LENGTH: std::ops::RangeInclusive<usize> = 8..=64;
const HOST_LIMIT: usize = 64;
const BRANCH_LIMIT: usize = 250;

/// Why something is no notice. What was wrong is said, never what it contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANotice {
    /// It is longer than [`LIMIT`].
    #[error("it is too long")]
    TooLong,
    /// It does not have the form at all.
    #[error("it does not have the form of a notice")]
    Form,
    /// This field is missing or holds what it may not.
    #[error("its field `{0}` is missing or wrong")]
    Field(&'static str),
}

/// The fields of a notice as they came, unchecked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The folder's identity: 8 to 64 hexadecimal digits.
    pub repo: Option<&'a str>,
    /// The full name of the branch, `refs/heads/...`.
    pub reference: Option<&'a str>,
    /// Its new tip, 40 or 64 hexadecimal digits; may be missing.
    pub commit: Option<&'a str>,
    /// The host that pushed.
    pub host: Option<&'a str>,
    /// The number of the notice; may be missing.
    pub seq: Option<&'a str>,
}

impl Fields<'_> {
    /// Returns the notice if every field is as it must be.
    pub fn check(&self) -> Result<Notice, NotANotice> {
        let folder = self
            .repo
            .filter(|id| FOLDER_LENGTH.contains(&id.len()) && id.bytes().all(is_hex))
            .ok_or(NotANotice::Field("repo"))?;
        let branch = self
            .reference
            .and_then(|name| name.strip_prefix("refs/heads/"))
            .filter(|name| is_branch(name))
            .ok_or(NotANotice::Field("ref"))?;
        let commit = match self.commit {
            Some(text) if matches!(text.len(), 40 | 64) && text.bytes().all(is_hex) => {
                Some(ObjectId::from_hex(text).map_err(|_| NotANotice::Field("commit"))?)
            }
            Some(_) => return Err(NotANotice::Field("commit")),
            None => None,
        };
        let host = self
            .host
            .filter(|host| is_host(host))
            .ok_or(NotANotice::Field("host"))?;
        let sequence = match self.seq {
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map_err(|_| NotANotice::Field("seq"))?
            }
            Some(_) => return Err(NotANotice::Field("seq")),
            None => 0,
        };
        Ok(Notice {
            folder: folder.to_owned(),
            branch: branch.to_owned(),
            commit,
            host: host.to_owned(),
            sequence,
        })
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Returns whether this is a plain name of a host, as notices carry it.
pub fn is_host(host: &str) -> bool {
    (1..=HOST_LIMIT).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// Returns whether git takes this for the name of a branch (git-check-ref-format(1)).
pub fn is_branch(name: &str) -> bool {
    let bad_part = |part: &str| {
        let is_lock = part.strip_suffix(".lock").is_some();
        part.is_empty() || part.starts_with('.') || is_lock
    };
    let bad_char = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.len() <= BRANCH_LIMIT
        && !name.starts_with('-')
        && name != "@"
        && name != "HEAD"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.contains(bad_char)
        && !name.split('/').any(bad_part)
}

/// Returns the notice as an XML element, for a parser that knows no entities but the five.
pub fn to_xml(notice: &Notice) -> String {
    let mut out = format!("<push xmlns='{NAMESPACE}'");
    let mut field = |name: &str, value: &str| {
        out.push(' ');
        out.push_str(name);
        out.push_str("='");
        for c in value.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '\'' => out.push_str("&apos;"),
                '"' => out.push_str("&quot;"),
                c => out.push(c),
            }
        }
        out.push('\'');
    };
    field("repo", &notice.folder);
    field("ref", &format!("refs/heads/{}", notice.branch));
    if let Some(commit) = notice.commit {
        field("commit", &commit.to_string());
    }
    field("host", &notice.host);
    field("seq", &notice.sequence.to_string());
    out.push_str("/>");
    out
}

/// Reads the XML form: one `push` element of our namespace. Unknown attributes and everything
/// inside the element are ignored.
pub fn from_xml(text: &str) -> Result<Notice, NotANotice> {
    if text.len() > LIMIT {
        return Err(NotANotice::TooLong);
    }
    let mut rest = text.trim().strip_prefix("<push").ok_or(NotANotice::Form)?;
    let mut attributes: Vec<(&str, String)> = Vec::new();
    loop {
        let trimmed = rest.trim_start();
        if let Some(after) = trimmed.strip_prefix("/>") {
            if !after.is_empty() {
                return Err(NotANotice::Form);
            }
            break;
        }
        if let Some(after) = trimmed.strip_prefix('>') {
            if !after.ends_with("</push>") {
                return Err(NotANotice::Form);
            }
            break;
        }
        // White space must stand before an attribute.
        if trimmed.len() == rest.len() {
            return Err(NotANotice::Form);
        }
        let (name, after) = trimmed.split_once('=').ok_or(NotANotice::Form)?;
        let name = name.trim_end();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(NotANotice::Form);
        }
        let after = after.trim_start();
        let quote = after
            .chars()
            .next()
            .filter(|c| matches!(c, '\'' | '"'))
            .ok_or(NotANotice::Form)?;
        let (value, after) = after[1..].split_once(quote).ok_or(NotANotice::Form)?;
        if attributes.iter().any(|(known, _)| *known == name) {
            return Err(NotANotice::Form);
        }
        attributes.push((name, plain_text(value)?));
        rest = after;
    }
    let get = |name: &str| {
        attributes
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    };
    if get("xmlns") != Some(NAMESPACE) {
        return Err(NotANotice::Form);
    }
    let fields = Fields {
        repo: get("repo"),
        reference: get("ref"),
        commit: get("commit"),
        host: get("host"),
        seq: get("seq"),
    };
    fields.check()
}

/// Replaces the five entities that XML always has; any other is refused.
fn plain_text(value: &str) -> Result<String, NotANotice> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 1..].split_once(';').ok_or(NotANotice::Form)?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "apos" => '\'',
            "quot" => '"',
            _ => return Err(NotANotice::Form),
        });
        rest = after;
    }
    out.push_str(rest);
    if out.contains('<') && value.contains('<') {
        return Err(NotANotice::Form);
    }
    Ok(out)
}

/// Returns the notice as one line, without its end.
pub fn to_line(notice: &Notice) -> String {
    let commit = notice
        .commit
        .map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!(
        "{LINE} {} refs/heads/{} {commit} {} {}",
        notice.folder, notice.branch, notice.host, notice.sequence
    )
}

/// Reads the line form; more words at its end are ignored.
pub fn from_line(line: &str) -> Result<Notice, NotANotice> {
    if line.len() > LIMIT {
        return Err(NotANotice::TooLong);
    }
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut words = line.split(' ');
    if words.next() != Some(LINE) {
        return Err(NotANotice::Form);
    }
    let fields = Fields {
        repo: words.next(),
        reference: words.next(),
        commit: words.next().filter(|word| *word != "-"),
        host: words.next(),
        seq: words.next(),
    };
    fields.check()
}

#[cfg(test)]
mod tests;
