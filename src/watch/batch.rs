//! One batch of changes: every path once, with what is worth knowing about it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::filter::{Transient, transient};
use super::source::What;
use crate::engine::event::{Change, ChangeKind};
use crate::engine::timer::Moment;
use crate::names::RepoPath;

/// More changes than this in one batch are told as "look at everything".
const MANY: usize = 10_000;

/// How long a file whose name only looks transient is kept back.
const YOUNG: Duration = Duration::from_secs(60);

/// What the batch knows about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It does not count.
    Nothing,
    /// It was made, and not yet closed.
    Made,
    /// As the engine will hear it.
    Kind(ChangeKind),
}

/// The changes of one batch, and the young files that later batches will report.
#[derive(Debug, Default)]
pub(super) struct Batch {
    seen: BTreeMap<RepoPath, Seen>,
    young: BTreeMap<RepoPath, (Moment, ChangeKind)>,
}

/// What a batch came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These changes, maybe none.
    Changes(Vec<Change>),
    /// More than anybody wants to hear.
    TooMany,
}

impl Batch {
    /// Takes an event of a file. `counts` is asked once for every path of a batch.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        what: What,
        now: Moment,
        counts: impl FnOnce() -> Counts,
    ) {
        if let Some(seen) = self.seen.get_mut(path) {
            *seen = then(*seen, what);
            return;
        }
        let Ok(path) = RepoPath::new(path) else {
            return;
        };
        let seen = match counts() {
            Counts::No => Seen::Nothing,
            Counts::Yes => then(Seen::Kind(ChangeKind::Attributes), what),
            Counts::UnlessTransient => match transient(path.file_name()) {
                None => then(Seen::Kind(ChangeKind::Attributes), what),
                Some(Transient::Always) => Seen::Nothing,
                Some(Transient::WhileYoung) => {
                    // Kept out of `seen`, so that its next event comes here again.
                    return self.maybe_young(path, what, now);
                }
            },
        };
        self.seen.insert(path, seen);
    }

    /// Takes an event of a directory.
    pub(super) fn subtree(&mut self, path: RepoPath) {
        self.seen.insert(path, Seen::Kind(ChangeKind::Subtree));
    }

    /// Takes what a look at a file found, whatever an event said about it.
    pub(super) fn found(&mut self, path: RepoPath, kind: ChangeKind) {
        self.seen.insert(path, Seen::Kind(kind));
    }

    /// Returns when the next young file is old enough to be reported.
    pub(super) fn next_grown(&self) -> Option<Moment> {
        self.young.values().map(|(born, _)| *born + YOUNG).min()
    }

    /// Returns the changes and is empty again. `is_complete` is asked about files that were made
    /// and not closed: links and symbolic links never are.
    pub(super) fn finish(
        &mut self,
        now: Moment,
        is_complete: impl Fn(&RepoPath) -> bool,
    ) -> Outcome {
        let seen = &mut self.seen;
        self.young.retain(|path, (born, kind)| {
            let grown = now.since(*born) >= YOUNG;
            if grown {
                seen.entry(path.clone()).or_insert(Seen::Kind(*kind));
            }
            !grown
        });
        let seen = std::mem::take(&mut self.seen);
        let mut changes = Vec::new();
        for (path, seen) in seen {
            let kind = match seen {
                Seen::Nothing => continue,
                Seen::Kind(kind) => kind,
                Seen::Made if is_complete(&path) => ChangeKind::Closed,
                Seen::Made => ChangeKind::Written,
            };
            changes.push(Change { path, kind });
        }
        if changes.len() > MANY {
            return Outcome::TooMany;
        }
        Outcome::Changes(changes)
    }

    /// Forgets the changes of this batch.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
    }

    /// Takes an event of a file that has a name between transient and real. Only a file that was
    /// seen to be made under it can be a transient one.
    fn maybe_young(&mut self, path: RepoPath, what: What, now: Moment) {
        let kind = kind_of(what);
        match what {
            What::Created => {
                self.young.insert(path, (now, ChangeKind::Written));
            }
            What::Removed => {
                if self.young.remove(&path).is_none() {
                    self.seen.insert(path, Seen::Kind(kind));
                }
            }
            What::Arrived => {
                self.young.remove(&path);
                self.seen.insert(path, Seen::Kind(kind));
            }
            What::Written | What::Closed | What::Attributes | What::Suspect | What::Ended => {
                if let Some((_, last)) = self.young.get_mut(&path) {
                    if what != What::Attributes {
                        *last = kind;
                    }
                } else {
                    self.seen.insert(path, Seen::Kind(kind));
                }
            }
        }
    }
}

/// Whether a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It does, whatever its name.
    Yes,
    /// It does, unless its name is one that programs use for a moment.
    UnlessTransient,
    /// It does not.
    No,
}

fn kind_of(what: What) -> ChangeKind {
    match what {
        What::Created | What::Written => ChangeKind::Written,
        What::Closed | What::Arrived => ChangeKind::Closed,
        What::Removed => ChangeKind::Removed,
        What::Attributes => ChangeKind::Attributes,
        What::Suspect | What::Ended => ChangeKind::Subtree,
    }
}

/// Returns what is known about a path after one more event.
fn then(seen: Seen, what: What) -> Seen {
    match (seen, what) {
        // A directory was there: everything below is looked at anyway.
        (Seen::Nothing | Seen::Kind(ChangeKind::Subtree), _)
        // Attributes say nothing about whether the writer is done.
        | (_, What::Attributes)
        // A file that was made and written to is still one that was made.
        | (Seen::Made, What::Written) => seen,
        (_, What::Created) => Seen::Made,
        (
            _,
            What::Written
            | What::Closed
            | What::Arrived
            | What::Removed
            | What::Suspect
            | What::Ended,
        ) => Seen::Kind(kind_of(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(events: &[(&str, What)]) -> Vec<(String, ChangeKind)> {
        let mut batch = Batch::default();
        feed(&mut batch, Moment::default(), events);
        finish(&mut batch, Moment::default())
    }

    fn feed(batch: &mut Batch, now: Moment, events: &[(&str, What)]) {
        for (path, what) in events {
            batch.file(path.as_bytes(), *what, now, || Counts::UnlessTransient);
        }
    }

    fn finish(batch: &mut Batch, now: Moment) -> Vec<(String, ChangeKind)> {
        let Outcome::Changes(changes) = batch.finish(now, |_| false) else {
            panic!("too many");
        };
        changes
            .into_iter()
            .map(|change| (change.path.to_string(), change.kind))
            .collect()
    }

    #[test]
    fn the_last_word_counts_but_attributes_take_nothing_back() {
        use ChangeKind::{Attributes, Closed, Removed, Written};
        let table: &[(&[What], ChangeKind)] = &[
            (&[What::Created], Written),
            (&[What::Created, What::Written, What::Closed], Closed),
            (&[What::Closed, What::Attributes], Closed),
            (&[What::Attributes], Attributes),
            (&[What::Attributes, What::Written], Written),
            (&[What::Closed, What::Written], Written),
            (&[What::Removed, What::Arrived], Closed),
            (&[What::Created, What::Closed, What::Removed], Removed),
            (&[What::Removed, What::Created, What::Attributes], Written),
        ];
        for (events, kind) in table {
            let events: Vec<_> = events.iter().map(|what| ("f", *what)).collect();
            assert_eq!(run(&events), [("f".to_owned(), *kind)], "{events:?}");
        }
    }

    #[test]
    fn a_link_is_complete_when_it_is_made() {
        let mut batch = Batch::default();
        feed(&mut batch, Moment::default(), &[("l", What::Created)]);
        let Outcome::Changes(changes) = batch.finish(Moment::default(), |_| true) else {
            panic!("too many");
        };
        assert_eq!(changes[0].kind, ChangeKind::Closed);
    }

    #[test]
    fn a_directory_swallows_what_happened_at_its_name() {
        let mut batch = Batch::default();
        feed(&mut batch, Moment::default(), &[("d", What::Removed)]);
        batch.subtree(RepoPath::new("d").unwrap());
        feed(&mut batch, Moment::default(), &[("d", What::Created)]);
        assert_eq!(
            finish(&mut batch, Moment::default()),
            [("d".to_owned(), ChangeKind::Subtree)]
        );
    }

    #[test]
    fn transient_names_are_silent_and_what_they_become_is_not() {
        let saved = [
            (".f.swp", What::Created),
            ("4913", What::Created),
            ("f", What::Removed),
            ("f~", What::Arrived),
            ("f", What::Created),
            ("f", What::Closed),
            ("f~", What::Removed),
            ("sedAb3xYz", What::Created),
            ("sedAb3xYz", What::Closed),
            ("sedAb3xYz", What::Removed),
            ("g", What::Arrived),
        ];
        assert_eq!(
            run(&saved),
            [
                ("f".to_owned(), ChangeKind::Closed),
                ("g".to_owned(), ChangeKind::Closed)
            ]
        );
    }

    #[test]
    fn a_name_that_only_looks_transient_is_reported_after_a_minute() {
        let mut batch = Batch::default();
        let at = Moment::from_millis;
        let made = [
            (".foo.config", What::Created),
            (".foo.config", What::Closed),
        ];
        feed(&mut batch, at(1_000), &made);
        assert_eq!(finish(&mut batch, at(60_999)), []);
        assert_eq!(batch.next_grown(), Some(at(61_000)));
        assert_eq!(
            finish(&mut batch, at(61_000)),
            [(".foo.config".to_owned(), ChangeKind::Closed)]
        );
        feed(&mut batch, at(62_000), &[(".foo.config", What::Written)]);
        assert_eq!(
            finish(&mut batch, at(62_000)),
            [(".foo.config".to_owned(), ChangeKind::Written)]
        );
        feed(&mut batch, at(63_000), &[("sedition", What::Closed)]);
        assert_eq!(
            finish(&mut batch, at(63_000)),
            [("sedition".to_owned(), ChangeKind::Closed)]
        );
    }

    #[test]
    fn too_many_changes_are_one_look_at_everything() {
        let mut batch = Batch::default();
        for n in 0..=MANY {
            batch.found(RepoPath::new(format!("{n}")).unwrap(), ChangeKind::Closed);
        }
        assert_eq!(batch.finish(Moment::default(), |_| true), Outcome::TooMany);
        assert_eq!(
            batch.finish(Moment::default(), |_| true),
            Outcome::Changes(Vec::new())
        );
    }
}
