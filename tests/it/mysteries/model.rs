//! The model: what a synchronizer of one file may show to those who use it.
//!
//! After J. Hughes, B. Pierce, T. Arts, U. Norell, "Mysteries of Dropbox: Property-Based Testing
//! of a Distributed Synchronization Service" (ICST 2016), from the paper's idea. What a service
//! does between two calls cannot be seen, so it is conjectured: a client sends its value up, or
//! takes the global one down, at any time. A history is right if some sequence of such events
//! explains everything that was seen.

use std::collections::BTreeSet;

/// What the file holds; `None` if there is none.
pub(super) type Value = Option<u32>;

/// One call, by the number of its client, and what it observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Reads.
    Read(usize, Value),
    /// Writes a value that nobody wrote before; saw what it replaced.
    Write(usize, u32, Value),
    /// Deletes what is there; saw what it was.
    Delete(usize, Value),
    /// Waits until all is quiet; saw, on each client, the file and what stands in conflict files.
    Stabilize(Vec<(Value, BTreeSet<u32>)>),
}

/// One way in which things may stand where nobody looks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    global: Value,
    clients: Vec<Client>,
    conflicts: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    value: Value,
    /// Whether the global value has not changed since it was last taken down or sent up here.
    fresh: bool,
    /// Whether nothing was written here since then.
    clean: bool,
}

impl State {
    fn new(clients: usize) -> Self {
        let client = Client {
            value: None,
            fresh: true,
            clean: true,
        };
        Self {
            global: None,
            clients: vec![client; clients],
            conflicts: BTreeSet::new(),
        }
    }

    /// The client sends what was written up. From one that is not up to date it is a conflict,
    /// unless one side is a deletion, over which the other stands.
    fn up(&self, at: usize) -> Option<Self> {
        if self.clients[at].clean {
            return None;
        }
        let mut next = self.clone();
        let value = next.clients[at].value;
        let takes = self.clients[at].fresh || self.global.is_none();
        next.clients[at].clean = true;
        if takes {
            if value != next.global {
                next.global = value;
                for (other, client) in next.clients.iter_mut().enumerate() {
                    client.fresh = other == at;
                }
            }
        } else if value != self.global {
            next.conflicts.extend(value);
        }
        Some(next)
    }

    /// The client takes the global value down.
    fn down(&self, at: usize) -> Option<Self> {
        let client = &self.clients[at];
        if client.fresh || !client.clean {
            return None;
        }
        let mut next = self.clone();
        next.clients[at].value = self.global;
        next.clients[at].fresh = true;
        Some(next)
    }

    /// What is known after a call, if it could see what it saw.
    fn after(&self, call: &Call) -> Option<Self> {
        let (at, new, seen) = match call {
            Call::Read(at, seen) => {
                return (self.clients[*at].value == *seen).then(|| self.clone());
            }
            Call::Stabilize(seen) => {
                let done = self
                    .clients
                    .iter()
                    .all(|client| client.fresh && client.clean);
                let same = seen
                    .iter()
                    .all(|(value, copies)| *value == self.global && *copies == self.conflicts);
                return (done && same).then(|| self.clone());
            }
            Call::Write(at, new, seen) => (*at, Some(*new), seen),
            Call::Delete(at, seen) => (*at, None, seen),
        };
        if self.clients[at].value != *seen {
            return None;
        }
        let mut next = self.clone();
        next.clients[at].value = new;
        next.clients[at].clean = false;
        Some(next)
    }
}

/// Returns every state that events may lead to from these.
fn reachable(states: BTreeSet<State>) -> BTreeSet<State> {
    let mut left: Vec<State> = states.iter().cloned().collect();
    let mut found = states;
    while let Some(state) = left.pop() {
        for at in 0..state.clients.len() {
            for next in [state.up(at), state.down(at)].into_iter().flatten() {
                if found.insert(next.clone()) {
                    left.push(next);
                }
            }
        }
    }
    found
}

/// Looks for events that explain a history. Returns the number of the first call that none do.
pub(super) fn explain(clients: usize, history: &[Call]) -> Result<(), usize> {
    let mut states = BTreeSet::from([State::new(clients)]);
    for (number, call) in history.iter().enumerate() {
        let possible = reachable(states);
        states = possible
            .iter()
            .filter_map(|state| state.after(call))
            .collect();
        if states.is_empty() {
            return Err(number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: Value, copies: &[u32]) -> Call {
        Call::Stabilize(vec![(value, copies.iter().copied().collect()); 3])
    }

    #[track_caller]
    fn right(history: &[Call]) {
        assert_eq!(explain(3, history), Ok(()));
    }

    #[track_caller]
    fn wrong(history: &[Call]) {
        assert_eq!(explain(3, history), Err(history.len() - 1));
    }

    use Call::{Delete, Read, Write};

    #[test]
    fn what_a_right_synchronizer_may_show_is_explained() {
        right(&[Write(0, 1, None), all(Some(1), &[]), Read(2, Some(1))]);
        // The other client saw it, or did not yet.
        right(&[
            Write(0, 1, None),
            Read(1, None),
            Read(1, Some(1)),
            all(Some(1), &[]),
        ]);
        right(&[Write(0, 1, None), Write(1, 2, Some(1)), all(Some(2), &[])]);
        // Both wrote without knowing of each other, and either was first.
        right(&[Write(0, 1, None), Write(1, 2, None), all(Some(2), &[1])]);
        right(&[Write(0, 1, None), Write(1, 2, None), all(Some(1), &[2])]);
        // An edit beats a delete, whoever is first.
        let both = [
            Write(0, 1, None),
            all(Some(1), &[]),
            Delete(0, Some(1)),
            Write(1, 2, Some(1)),
        ];
        right(&[&both[..], &[all(Some(2), &[])]].concat());
        right(&[
            Write(0, 1, None),
            all(Some(1), &[]),
            Delete(0, Some(1)),
            all(None, &[]),
        ]);
        // Three at once.
        let three = [Write(0, 1, None), Write(1, 2, None), Write(2, 3, None)];
        right(&[&three[..], &[all(Some(2), &[1, 3])]].concat());
        // One's own earlier value may or may not have been sent up before the next.
        let again = [Write(0, 1, None), Write(1, 2, None), Write(1, 3, Some(2))];
        right(&[&again[..], &[all(Some(1), &[3])]].concat());
        right(&[&again[..], &[all(Some(1), &[2, 3])]].concat());
    }

    #[test]
    fn a_deleted_file_that_comes_back_is_not_explained() {
        let deleted = [Write(0, 1, None), all(Some(1), &[]), Delete(1, Some(1))];
        wrong(&[&deleted[..], &[all(Some(1), &[])]].concat());
        wrong(&[&deleted[..], &[all(None, &[]), Read(2, Some(1))]].concat());
        wrong(&[&deleted[..], &[Read(1, None), Read(1, Some(1))]].concat());
    }

    #[test]
    fn a_new_file_that_goes_with_the_old_one_is_not_explained() {
        // Deleted and made again quickly: the delete was sent up late and took the new file.
        let again = [
            Write(0, 1, None),
            all(Some(1), &[]),
            Delete(0, Some(1)),
            Write(0, 2, None),
        ];
        wrong(&[&again[..], &[all(None, &[])]].concat());
        right(&[&again[..], &[all(Some(2), &[])]].concat());
    }

    #[test]
    fn an_overwritten_value_without_a_conflict_file_is_not_explained() {
        wrong(&[Write(0, 1, None), Write(1, 2, None), all(Some(2), &[])]);
        let base = [Write(0, 1, None), all(Some(1), &[])];
        let both = [&base[..], &[Write(1, 2, Some(1)), Write(2, 3, Some(1))]].concat();
        wrong(&[&both[..], &[all(Some(3), &[])]].concat());
        wrong(&[&both[..], &[all(Some(2), &[])]].concat());
        right(&[&both[..], &[all(Some(2), &[3])]].concat());
        // An edit that a delete took away.
        let lost = [&base[..], &[Write(1, 2, Some(1)), Delete(2, Some(1))]].concat();
        wrong(&[&lost[..], &[all(None, &[])]].concat());
    }

    #[test]
    fn clients_that_stay_different_are_not_explained() {
        let none = BTreeSet::new;
        let seen = vec![(Some(2), none()), (Some(1), none()), (Some(2), none())];
        wrong(&[
            Write(0, 1, None),
            Write(0, 2, Some(1)),
            Call::Stabilize(seen),
        ]);
        let copy = || BTreeSet::from([1]);
        let seen = vec![(Some(2), copy()), (Some(2), none()), (Some(2), copy())];
        wrong(&[Write(0, 1, None), Write(1, 2, None), Call::Stabilize(seen)]);
    }

    #[test]
    fn what_nobody_wrote_or_nobody_disputed_is_not_explained() {
        wrong(&[Write(0, 1, None), all(Some(7), &[])]);
        wrong(&[Write(0, 1, None), all(Some(1), &[1])]);
        wrong(&[Write(0, 1, None), Write(1, 2, Some(1)), all(Some(2), &[1])]);
        wrong(&[Write(0, 1, None), all(Some(1), &[]), Write(0, 2, None)]);
    }
}
