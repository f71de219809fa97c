//! The questions for something back and for the log, as they travel.

use serde::{Deserialize, Serialize};

use crate::engine::recall::{At, Recall, Wanted};
use crate::names::{RepoPath, escape};

/// What is wanted back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// The state before an operation.
    Undo,
    /// The state before the last undo.
    Redo,
    /// An older version of a path.
    Restore,
}

/// A question for something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallQuestion {
    /// The folder's name or path; the only one if not given.
    #[serde(default)]
    pub folder: Option<String>,
    /// What is wanted.
    pub what: Verb,
    /// For `undo`: the number of an operation or the commit that it made.
    #[serde(default)]
    pub operation: Option<String>,
    /// For `restore`: the path inside the folder; the whole folder if not given.
    #[serde(default)]
    pub path: Option<String>,
    /// The same in hexadecimal, for a path that is no UTF-8.
    #[serde(default)]
    pub path_hex: Option<String>,
    /// For `restore`: of when.
    #[serde(default)]
    pub at: Option<At>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// Only this disk goes back.
    #[serde(default)]
    pub only_here: bool,
    /// Very many files may be deleted.
    #[serde(default)]
    pub approve: bool,
}

/// A question for the log of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuestion {
    /// The folder's name or path; the only one if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Only what touched this path inside the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same in hexadecimal, for a path that is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Only so many; 20 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
}

impl LogQuestion {
    /// So many operations are listed if nobody says how many.
    pub const NUMBER: usize = 20;

    /// Creates the question for this.
    pub fn new(folder: Option<String>, path: Option<&RepoPath>, number: usize) -> Self {
        let (path, path_hex) = path.map_or((None, None), written);
        Self {
            folder,
            path,
            path_hex,
            number: Some(number),
        }
    }

    /// Returns the query of the route.
    pub fn query(&self) -> String {
        let number = self.number.map(|number| number.to_string());
        let parts = [
            ("folder", &self.folder),
            ("path", &self.path),
            ("path_hex", &self.path_hex),
            ("number", &number),
        ];
        let given = parts.iter().filter_map(|(key, value)| {
            let value = value.as_ref()?;
            Some(format!("{key}={}", quoted(value)))
        });
        given.collect::<Vec<String>>().join("&")
    }

    /// Returns the path that it is about. Errors in one sentence if that makes no sense.
    pub fn path(&self) -> Result<Option<RepoPath>, String> {
        path(self.path.clone(), self.path_hex.as_deref())
    }
}

impl RecallQuestion {
    /// Creates the question for this.
    pub fn new(folder: Option<String>, recall: &Recall) -> Self {
        let mut question = Self {
            folder,
            what: Verb::Redo,
            operation: None,
            path: None,
            path_hex: None,
            at: None,
            dry_run: recall.dry_run,
            only_here: recall.only_here,
            approve: recall.approved,
        };
        match &recall.wanted {
            Wanted::Redo => {}
            Wanted::Undo(operation) => {
                question.what = Verb::Undo;
                question.operation.clone_from(operation);
            }
            Wanted::Restore { path, at } => {
                question.what = Verb::Restore;
                question.at.clone_from(at);
                if let Some(path) = path {
                    (question.path, question.path_hex) = written(path);
                }
            }
        }
        question
    }

    /// Returns the folder and what is wanted. Errors in one sentence if that makes no sense.
    pub fn read(self) -> Result<(Option<String>, Recall), String> {
        let path = path(self.path, self.path_hex.as_deref())?;
        let wanted = match self.what {
            Verb::Undo => Wanted::Undo(self.operation),
            Verb::Redo => Wanted::Redo,
            Verb::Restore => Wanted::Restore { path, at: self.at },
        };
        let recall = Recall {
            wanted,
            dry_run: self.dry_run,
            only_here: self.only_here,
            approved: self.approve,
        };
        Ok((self.folder, recall))
    }
}

/// Returns a text as a query may have it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&to_hex(&[byte]));
        }
    }
    out
}

/// Returns a path as text or in hexadecimal.
fn written(path: &RepoPath) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(to_hex(path.as_bytes()))),
    }
}

/// Reads what [`written`] wrote.
fn path(text: Option<String>, hex: Option<&str>) -> Result<Option<RepoPath>, String> {
    let raw = match (text, hex) {
        (None, None) => None,
        (Some(path), None) => Some(path.into_bytes()),
        (None, Some(hex)) => Some(
            from_hex(hex)
                .ok_or_else(|| format!("`{}` is no hexadecimal", escape(hex.as_bytes())))?,
        ),
        (Some(_), Some(_)) => return Err("`path` and `path_hex` exclude each other".to_owned()),
    };
    let path = raw.map(RepoPath::new).transpose();
    path.map_err(|error| error.to_string())
}

fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let path = |raw: &[u8]| Some(RepoPath::new(raw).unwrap());
        let at = |text: &str| Some(At::Commit(text.to_owned()));
        for wanted in [
            Wanted::Undo(None),
            Wanted::Undo(Some("17".to_owned())),
            Wanted::Redo,
            Wanted::Restore {
                path: None,
                at: Some(At::Seconds(-5)),
            },
            Wanted::Restore {
                path: path(b"a\xff/b"),
                at: None,
            },
            Wanted::Restore {
                path: path("\u{e4}/b".as_bytes()),
                at: at("HEAD~2"),
            },
        ] {
            for flag in [true, false] {
                let recall = Recall {
                    wanted: wanted.clone(),
                    dry_run: flag,
                    only_here: !flag,
                    approved: flag,
                };
                let question = RecallQuestion::new(Some("Sync".to_owned()), &recall);
                let text = serde_json::to_string(&question).unwrap();
                let back: RecallQuestion = serde_json::from_str(&text).unwrap();
                assert_eq!(back.read(), Ok((Some("Sync".to_owned()), recall)));
            }
        }
        assert_eq!(from_hex("0"), None);
        assert_eq!(quoted("/a b&c=\u{e4}%"), "/a%20b%26c%3d%c3%a4%25");
        assert_eq!(from_hex("zz"), None);
    }
}
