//! The books on what users wrote, and the causal rule.
//!
//! A token leaves a tree only through somebody who had it before their eyes, through a clean merge
//! (then the merge has it), or into a conflict copy; and what was once committed stays in the
//! history.

use super::World;
use super::history::Number;
use super::host::{Host, Shared};
use super::tree::{Content, Path, Token};
use crate::engine::Engine;

/// Every token that a user wrote, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By token: whether it was overwritten or deleted by somebody who had it before their eyes.
    superseded: Vec<bool>,
    /// What an apply took out of a tree although it is not in what the apply brings, and nobody
    /// superseded it: it must be in the tree of another host now.
    suspects: Vec<(Token, Path, Number)>,
}

impl Ledger {
    /// Returns a token that nobody has.
    pub(super) fn token(&mut self) -> Token {
        if self.superseded.is_empty() {
            // No line was ever written there.
            self.superseded.push(true);
        }
        self.superseded.push(false);
        Token::try_from(self.superseded.len() - 1).unwrap()
    }

    pub(super) fn supersede(&mut self, token: Token) {
        if token != 0 {
            self.superseded[token as usize] = true;
        }
    }

    pub(super) fn supersede_all(&mut self, content: Option<Content>) {
        for token in content.into_iter().flat_map(|content| content.lines) {
            self.supersede(token);
        }
    }

    fn is_superseded(&self, token: Token) -> bool {
        token == 0 || self.superseded[token as usize]
    }
}

impl Shared {
    /// Takes that an apply of this commit takes something out of a tree.
    pub(super) fn displaced(&mut self, path: Path, old: Option<Content>, target: Number) {
        for token in old.into_iter().flat_map(|old| old.lines) {
            let is_alive = self.history.get(target).tree.has_token(token);
            if !is_alive && !self.ledger.is_superseded(token) {
                self.ledger.suspects.push((token, path, target));
            }
        }
    }
}

impl World {
    /// What was taken out of the tree of this host is in that of another, who moved it to a name
    /// that is not committed yet, or in what an apply is just bringing there; else it is lost.
    pub(super) fn judge_suspects(&mut self, at: usize) {
        for (token, path, target) in std::mem::take(&mut self.shared.ledger.suspects) {
            let shared = &self.shared;
            let has = |other: &Host| {
                let coming = other.applying().map(|it| &shared.history.get(it).tree);
                other.tree.has_token(token) || coming.is_some_and(|tree| tree.has_token(token))
            };
            let mut others = self.hosts.iter().enumerate();
            if !others.any(|(host, other)| host != at && has(other)) {
                let path = self.shared.names.text(path);
                let what = format!("{at}: the apply of {target} took {token} out of {path}");
                self.shared.violations.push(what);
            }
        }
    }

    /// Returns what is wrong with the world after it has been mended and left alone.
    pub(super) fn judge(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.shared.violations);
        let shared = &self.shared;
        let agreed = shared.history.tree(shared.hub);
        for (at, host) in self.hosts.iter().enumerate() {
            if host.head != shared.hub {
                let (head, hub) = (host.head, shared.hub);
                wrong.push(format!("{at} is at {head:?}, the hub at {hub:?}"));
            }
            if host.tree != agreed {
                let (tree, hub) = (host.tree.show(&shared.names), agreed.show(&shared.names));
                wrong.push(format!("{at} has {tree}, the hub {hub}"));
            }
            let synced = host.engine.as_ref().is_some_and(Engine::is_synced);
            if !synced && shared.hub.is_some() {
                wrong.push(format!("{at} does not think that it is synced"));
            }
            wrong.extend(leftover(at, host));
        }
        for (token, superseded) in shared.ledger.superseded.iter().enumerate() {
            let token = Token::try_from(token).unwrap();
            if !superseded && !agreed.has_token(token) {
                wrong.push(format!("{token} is lost"));
            }
        }
        wrong.extend(self.forgotten());
        wrong
    }

    /// Returns what was committed once and is not in the hub's history any more.
    fn forgotten(&self) -> Vec<String> {
        let shared = &self.shared;
        let history = &shared.history;
        let Some(hub) = shared.hub else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        for commit in &shared.snapshots {
            if history.contains(hub, *commit) {
                continue;
            }
            // It was dropped, or has another message now: then what was in it is elsewhere.
            for (path, content) in history.get(*commit).tree.iter() {
                let kept = (0..=hub).filter(|it| history.contains(hub, *it)).any(|it| {
                    history
                        .get(it)
                        .tree
                        .iter()
                        .any(|(_, is)| is.same_content(content))
                });
                if !kept {
                    let path = shared.names.text(path);
                    wrong.push(format!(
                        "{content:?} at {path} of {commit} left the history"
                    ));
                }
            }
        }
        wrong
    }
}

/// Returns what must not be left over on a host once all is done.
fn leftover(at: usize, host: &Host) -> Option<String> {
    let left = [
        (host.journal.is_some(), "a journal"),
        (host.pending.is_some(), "a pending commit"),
        (!host.bases.is_empty(), "paths that differ on purpose"),
        (!host.held_deletes.is_empty(), "a mass delete"),
    ];
    let left: Vec<&str> = left.iter().filter(|it| it.0).map(|it| it.1).collect();
    (!left.is_empty()).then(|| format!("{at} has left {}", left.join(", ")))
}
