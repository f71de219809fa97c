//! What one notification says. Pure.
//!
//! Invariant: nothing from outside gets into a text with characters that steer: control and
//! bidirectional characters are escaped here, markup where the text is sent, since only the
//! server's capabilities say whether it reads any.

use std::path::{Path, PathBuf};

use crate::engine::event::{Code, ConflictCopy, Marked, Recovery, Trouble};
use crate::engine::recall::Answer;
use crate::engine::status::HeldStatus;
use crate::names::{ObjectId, RepoPath, escape};

/// How loud a notification is, as the desktop's specification numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Shown for a while.
    Normal = 1,
    /// Stays until somebody looks at it.
    Critical = 2,
}

/// What a click does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Opens a directory, or the directory that these are in.
    Show(PathBuf),
    /// Lets pass this.
    Approve(HeldStatus),
    /// Takes back what came in with this commit.
    Undo(ObjectId),
    /// Asks for a commit message.
    Describe {
        /// The commit.
        commit: ObjectId,
        /// What it is about.
        summary: String,
    },
}

/// A button: its key on the bus, its label, what it does. The key `default` is the whole bubble.
pub(super) type Button = (&'static str, &'static str, Act);

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// One line, never markup.
    pub title: String,
    /// The rest.
    pub body: String,
    /// How loud it is.
    pub urgency: Urgency,
    /// What can be clicked.
    pub buttons: Vec<Button>,
}

impl Card {
    /// Returns what a click on it lets pass.
    pub(super) fn approves(&self) -> Option<&HeldStatus> {
        self.buttons.iter().find_map(|(_, _, act)| match act {
            Act::Approve(held) => Some(held),
            Act::Show(_) | Act::Undo(_) | Act::Describe { .. } => None,
        })
    }

    /// Says that a click lets pass what the folder's other cards are about, too.
    pub(super) fn approves_all(&mut self) {
        for (_, label, act) in &mut self.buttons {
            if matches!(act, Act::Approve(_)) {
                *label = "Approve all";
            }
        }
    }
}

/// How far what was committed here has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage<'a> {
    /// It is committed.
    Committed,
    /// The hub has it.
    Pushed,
    /// These hosts have it, as far as they said so.
    Arrived(&'a [String]),
}

/// Says how far a commit has come; `more` commits before it share the card.
pub(super) fn steps(
    name: &str,
    root: &Path,
    commit: ObjectId,
    summary: &str,
    more: usize,
    stage: Stage<'_>,
) -> Card {
    let name = clean(name);
    let summary = clean(summary);
    let title = match stage {
        Stage::Committed => format!("{name}: committed"),
        Stage::Pushed => format!("{name}: pushed"),
        Stage::Arrived(hosts) => {
            let has = if hosts.len() == 1 { "has" } else { "have" };
            format!("{name}: {} {has} it", clean(&hosts.join(", ")))
        }
    };
    let body = match more {
        0 => summary.clone(),
        1 => format!("{summary}, and one commit before"),
        more => format!("{summary}, and {more} commits before"),
    };
    Card {
        title,
        body,
        urgency: Urgency::Normal,
        buttons: vec![
            ("default", "Open folder", Act::Show(root.to_owned())),
            (
                "describe",
                "Describe\u{2026}",
                Act::Describe { commit, summary },
            ),
        ],
    }
}

/// Says what came in; `undo` is the commit to take it back by.
pub(super) fn received(
    name: &str,
    root: &Path,
    host: Option<&str>,
    (paths, count): (&[RepoPath], usize),
    undo: Option<ObjectId>,
) -> Card {
    let files = if count == 1 { "file" } else { "files" };
    let from = clean(host.unwrap_or("the hub"));
    let place = common_directory(root, paths);
    let mut buttons = vec![
        ("default", "Open folder", Act::Show(root.to_owned())),
        ("show", "Show", Act::Show(place)),
    ];
    // Before it is done it says where it will be done.
    buttons.extend(undo.map(|commit| ("undo", "Undo on all computers", Act::Undo(commit))));
    Card {
        title: format!("{}: {count} {files} from {from}", clean(name)),
        body: list(paths, count),
        urgency: Urgency::Normal,
        buttons,
    }
}

/// Says what came of an undo that a click asked for.
pub(super) fn undone(name: &str, root: &Path, answer: &Result<Answer, Trouble>) -> Card {
    let name = clean(name);
    let (title, body) = match answer {
        Ok(answer) => {
            let mut body = format!("{}.", clean(&answer.what));
            if let Some(first) = body.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            match answer.kept.len() {
                0 => {}
                1 => body.push_str("\n1 file was saved in that very moment: both are merged."),
                many => {
                    let more =
                        format!("\n{many} files were saved in that very moment: both are merged.");
                    body.push_str(&more);
                }
            }
            body.push_str("\n`autosync redo` brings it back.");
            (format!("{name}: undone on all computers"), body)
        }
        Err(trouble) => {
            let body = sentences(&trouble.message, &trouble.hint);
            (format!("{name}: not undone"), body)
        }
    };
    Card {
        title,
        body,
        urgency: Urgency::Normal,
        buttons: vec![("default", "Open folder", Act::Show(root.to_owned()))],
    }
}

/// Says that both sides changed a file.
pub(super) fn conflict(name: &str, root: &Path, copy: &ConflictCopy) -> Card {
    let place = common_directory(root, &[copy.path.clone(), copy.copy.clone()]);
    Card {
        title: format!("{}: both sides changed {}", clean(name), copy.path),
        body: format!(
            "The version of {} is beside it: {}",
            clean(&copy.host),
            copy.copy
        ),
        urgency: Urgency::Normal,
        buttons: vec![
            ("default", "Show both", Act::Show(place.clone())),
            ("show", "Show both", Act::Show(place)),
        ],
    }
}

/// Says that a file came with conflict markers.
pub(super) fn marked(name: &str, root: &Path, marked: &Marked) -> Card {
    let place = common_directory(root, std::slice::from_ref(&marked.path));
    Card {
        title: format!("{}: conflict markers in {}", clean(name), marked.path),
        body: format!("{}. {}", marked.message(), marked.hint()),
        urgency: Urgency::Normal,
        buttons: vec![
            ("default", "Show", Act::Show(place.clone())),
            ("show", "Show", Act::Show(place)),
        ],
    }
}

/// Says that there are more conflicts than have a card.
pub(super) fn more_conflicts(name: &str, root: &Path, count: usize) -> Card {
    let copies = if count == 1 { "conflict" } else { "conflicts" };
    Card {
        title: format!("{}: {count} more {copies}", clean(name)),
        body: "`autosync conflicts` lists them.".to_owned(),
        urgency: Urgency::Normal,
        buttons: vec![("default", "Open folder", Act::Show(root.to_owned()))],
    }
}

/// Says what a guard holds back.
pub(super) fn held(name: &str, root: &Path, held: &HeldStatus) -> Card {
    let mut buttons = vec![("default", "Open folder", Act::Show(root.to_owned()))];
    if Code::is_approvable(&held.code) {
        buttons.push(("approve", "Approve", Act::Approve(held.clone())));
    }
    buttons.push(("show", "Show", Act::Show(root.to_owned())));
    Card {
        title: format!("{}: waits for you", clean(name)),
        body: sentences(&held.message, &held.hint),
        urgency: Urgency::Critical,
        buttons,
    }
}

/// Says what stops a folder.
pub(super) fn trouble(name: &str, root: &Path, trouble: &Trouble) -> Card {
    let mut buttons = vec![("default", "Open folder", Act::Show(root.to_owned()))];
    if trouble.recovery == Recovery::Hold && Code::APPROVABLE.contains(&trouble.code) {
        buttons.push(("approve", "Approve", Act::Approve(trouble.into())));
    }
    Card {
        title: format!("{}: syncing has stopped", clean(name)),
        body: sentences(&trouble.message, &trouble.hint),
        urgency: match trouble.recovery {
            Recovery::Retry | Recovery::Pause => Urgency::Normal,
            Recovery::Hold => Urgency::Critical,
        },
        buttons,
    }
}

/// Says what stops the whole agent, or one of its transports.
pub(super) fn problem(message: &str, hint: &str) -> Card {
    Card {
        title: format!("autosync: {}", clean(message)),
        body: clean(hint),
        urgency: Urgency::Critical,
        buttons: Vec::new(),
    }
}

/// Returns a text without characters that steer.
fn clean(text: &str) -> String {
    escape(text.as_bytes())
}

/// Returns what happened and what to do about it, as text.
fn sentences(message: &str, hint: &str) -> String {
    let (message, hint) = (clean(message), clean(hint));
    if hint.is_empty() {
        message
    } else {
        format!("{message}.\n{hint}")
    }
}

/// Returns the first paths by their names, and how many more there are.
fn list(paths: &[RepoPath], count: usize) -> String {
    // Three are named, but "and 1 more" is no shorter than its name.
    let named = if count <= 3 { count } else { 2 };
    let names: Vec<String> = paths.iter().take(named).map(ToString::to_string).collect();
    match count.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Returns the nearest directory that all paths are in.
fn common_directory(root: &Path, paths: &[RepoPath]) -> PathBuf {
    let mut common = paths.first().and_then(RepoPath::parent);
    for path in paths {
        while let Some(dir) = &common {
            if path.is_within(dir) {
                break;
            }
            common = dir.parent();
        }
    }
    common.map_or_else(|| root.to_owned(), |dir| dir.under(root))
}

/// Returns text that a server which reads markup shows as it is.
pub(super) fn without_markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            other => out.push(other),
        }
    }
    out
}
