//! What a person is told in a chat: each push and each problem, in words.

use std::collections::BTreeMap;

use crate::engine::action::Tell;
use crate::engine::event::Committed;
use crate::names::ObjectId;

/// So many commits are remembered until they are pushed.
const KEPT: usize = 200;

/// The commits of each folder that were not pushed yet, with what they are about.
#[derive(Debug, Default)]
pub(super) struct Texts {
    made: BTreeMap<String, Vec<(ObjectId, String)>>,
}

impl Texts {
    /// Returns the text for what the user is told about a folder; `None` if a person far away need
    /// not know it. `folder` is empty for what is about the transport itself.
    pub(super) fn text(&mut self, host: &str, folder: &str, tell: &Tell) -> Option<String> {
        let about = |message: &str, hint: &str| {
            let place = if folder.is_empty() {
                String::new()
            } else {
                format!("{folder}: ")
            };
            let hint = if hint.is_empty() {
                String::new()
            } else {
                format!(". {hint}")
            };
            Some(format!("{host}: {place}{message}{hint}"))
        };
        match tell {
            Tell::Committed(made) => {
                self.remember(folder, made);
                None
            }
            Tell::Pushed(commit) => {
                let what = match self.pushed(folder, *commit).as_slice() {
                    [] => "a merge".to_owned(),
                    [one] => one.clone(),
                    more @ [.., last] => format!("{} commits, the last: {last}", more.len()),
                };
                Some(format!("{host} pushed {what} ({folder})"))
            }
            Tell::Conflict(copies) => {
                let first = copies.first()?;
                let more = match copies.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                about(&format!("both sides changed {}{more}", first.path), "")
            }
            Tell::Marked(marked) => {
                let first = marked.first()?;
                let more = match marked.len() - 1 {
                    0 => String::new(),
                    more => format!(", and {more} more files"),
                };
                about(&format!("{}{more}", first.message()), "")
            }
            Tell::Held(held) => about(&held.message, &held.hint),
            Tell::Problem(trouble) => about(&trouble.message, &trouble.hint),
            Tell::Arrived { .. } | Tell::Received { .. } | Tell::Over(_) | Tell::Solved => None,
        }
    }

    /// Forgets a folder.
    pub(super) fn forget(&mut self, folder: &str) {
        self.made.remove(folder);
    }

    fn remember(&mut self, folder: &str, made: &Committed) {
        let list = self.made.entry(folder.to_owned()).or_default();
        list.push((made.id, made.summary.clone()));
        if list.len() > KEPT {
            list.remove(0);
        }
    }

    /// Takes what is pushed with a commit out of the list.
    fn pushed(&mut self, folder: &str, commit: ObjectId) -> Vec<String> {
        let Some(list) = self.made.get_mut(folder) else {
            return Vec::new();
        };
        // A merge that is pushed has all that was made before.
        let until = list.iter().position(|(id, _)| *id == commit);
        let until = until.map_or(list.len(), |at| at + 1);
        list.drain(..until).map(|(_, summary)| summary).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Code, Recovery, Trouble};

    fn id(nth: u8) -> ObjectId {
        ObjectId::from_hex(format!("{nth:040x}")).unwrap()
    }

    fn committed(nth: u8, summary: &str) -> Tell {
        Tell::Committed(Committed {
            id: id(nth),
            summary: summary.into(),
            paths: Vec::new(),
            count: 1,
        })
    }

    #[test]
    fn a_push_says_what_it_is_about() {
        let mut texts = Texts::default();
        let mut tell = |tell: Tell| texts.text("laptop", "Sync", &tell);
        assert_eq!(tell(committed(1, "3 files in notes/")), None);
        let text = tell(Tell::Pushed(id(1))).unwrap();
        assert_eq!(text, "laptop pushed 3 files in notes/ (Sync)");
        tell(committed(2, "a.txt"));
        tell(committed(3, "b.txt"));
        tell(committed(4, "c.txt"));
        let text = tell(Tell::Pushed(id(3))).unwrap();
        assert_eq!(text, "laptop pushed 2 commits, the last: b.txt (Sync)");
        let text = tell(Tell::Pushed(id(9))).unwrap();
        assert_eq!(text, "laptop pushed c.txt (Sync)");
        let text = tell(Tell::Pushed(id(10))).unwrap();
        assert_eq!(text, "laptop pushed a merge (Sync)");
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let trouble = Trouble::new(
            Code::Auth,
            Recovery::Hold,
            "the hub is locked",
            "Unlock it.",
        );
        let tell = Tell::Problem(trouble);
        let mut texts = Texts::default();
        let text = texts.text("laptop", "Sync", &tell).unwrap();
        assert_eq!(text, "laptop: Sync: the hub is locked. Unlock it.");
        let text = texts.text("laptop", "", &tell).unwrap();
        assert_eq!(text, "laptop: the hub is locked. Unlock it.");
        assert_eq!(texts.text("laptop", "Sync", &Tell::Solved), None);
    }
}
