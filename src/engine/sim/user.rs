//! What users do to the trees of the model.

use super::host::{Host, Shared};
use super::plan::{DIRS, NAMES, Op};
use super::tree::{Content, Kind, Path};
use crate::engine::event::{Change, ChangeKind, Event, Request, RescanWhy};

impl Host {
    /// Does what a user does at this host. Returns what the agent is told of it, beside what its
    /// watcher sees.
    pub(super) fn user(&mut self, shared: &mut Shared, op: Op) -> Option<Event> {
        match op {
            Op::Write { file, line } => {
                let path = self.file(shared, file);
                self.write(shared, path, line);
            }
            Op::WriteOpen { file, line } => {
                let path = self.file(shared, file);
                if self.tree.in_the_way(&shared.names, path).is_empty() {
                    self.open.insert(path);
                    self.write(shared, path, line);
                }
            }
            Op::Close => self.close_all(shared),
            Op::Chmod { file } => {
                let path = self.file(shared, file);
                self.chmod(shared, path);
            }
            Op::Symlink { file } => {
                let path = self.file(shared, file);
                self.link(shared, path);
            }
            Op::Swap { file } => {
                let path = self.file(shared, file);
                self.swap(shared, path);
            }
            Op::Delete { file } => {
                let path = self.file(shared, file);
                self.delete(shared, path);
            }
            Op::DeleteBelow { dir } => {
                let dir = shared.names.path(DIRS[dir % DIRS.len()]);
                self.delete_below(shared, dir);
            }
            Op::DeleteAll => {
                for (path, _) in self.tree.clone().iter() {
                    self.delete(shared, path);
                }
            }
            Op::Rename { file, to } => {
                let (path, to) = (self.file(shared, file), self.file(shared, to));
                self.rename(shared, path, to);
            }
            Op::RenameDir { dir, to } => self.rename_dir(shared, dir, to),
            Op::Commit => return self.commit_by_hand(shared).then_some(Event::GitMoved),
            Op::Rebase => {
                self.rebase = !self.rebase;
                return Some(Event::GitMoved);
            }
            Op::Approve => return Some(self.approve(shared)),
            Op::Sync => return Some(Event::Asked(Request::Sync)),
            Op::Pause => {
                self.paused = !self.paused && self.engine.is_some();
                let pause = Request::Pause(None);
                return Some(Event::Asked(if self.paused {
                    pause
                } else {
                    Request::Resume
                }));
            }
            Op::Link => self.link = !self.link,
            Op::Full => self.full = !self.full,
            Op::Overflow => {
                self.watched.clear();
                return Some(Event::Rescan(RescanWhy::Overflow));
            }
            Op::Kill { .. } | Op::Suspend | Op::Bell | Op::Prank => {}
        }
        None
    }

    /// Lets pass what the guards hold: the user is told what would go, and says yes.
    fn approve(&mut self, shared: &mut Shared) -> Event {
        if self.engine.is_some() {
            self.may_approve = [true; 2];
            let head = shared.history.tree(self.head);
            for path in &self.held_deletes {
                shared.ledger.supersede_all(head.get(*path));
            }
        }
        Event::Asked(Request::Approve)
    }

    /// Whether a guard asks for an approval here.
    pub(super) fn is_asked(&self) -> bool {
        !self.held_deletes.is_empty() || self.bases.values().any(|base| base.removal_waits)
    }

    /// The file that a number means here: one of the usual names, or of the copies.
    fn file(&self, shared: &mut Shared, file: usize) -> Path {
        if let Some(name) = NAMES.get(file) {
            return shared.names.path(name);
        }
        let copies: Vec<Path> = self
            .tree
            .iter()
            .map(|(path, _)| path)
            .filter(|path| shared.names.text(*path).contains('('))
            .collect();
        match copies.get((file - NAMES.len()) % copies.len().max(1)) {
            Some(copy) => *copy,
            None => shared.names.path(NAMES[file % NAMES.len()]),
        }
    }

    fn write(&mut self, shared: &mut Shared, path: Path, line: usize) {
        if !self.tree.in_the_way(&shared.names, path).is_empty() {
            return;
        }
        let old = self.tree.get(path);
        let is_new = old.is_none_or(|old| old.kind == Kind::Link);
        let mut new = old.unwrap_or(Content {
            lines: [0; 3],
            kind: Kind::Plain,
        });
        for at in 0..3 {
            if is_new || line >= 3 || at == line {
                shared.ledger.supersede(new.lines[at]);
                new.lines[at] = shared.ledger.token();
            }
        }
        if is_new {
            new.kind = Kind::Plain;
        }
        self.tree.put(path, Some(new));
        let open = self.open.contains(&path);
        let kind = if open {
            ChangeKind::Written
        } else {
            ChangeKind::Closed
        };
        self.saw(shared, path, kind);
    }

    fn chmod(&mut self, shared: &Shared, path: Path) {
        if let Some(mut content) = self.tree.get(path) {
            content.kind = match content.kind {
                Kind::Plain => Kind::Executable,
                Kind::Executable => Kind::Plain,
                Kind::Link => return,
            };
            self.tree.put(path, Some(content));
            self.saw(shared, path, ChangeKind::Attributes);
        }
    }

    fn link(&mut self, shared: &mut Shared, path: Path) {
        if !self.tree.in_the_way(&shared.names, path).is_empty() {
            return;
        }
        let lines = [shared.ledger.token(), 0, 0];
        let kind = Kind::Link;
        let old = self.tree.put(path, Some(Content { lines, kind }));
        shared.ledger.supersede_all(old);
        self.open.remove(&path);
        self.saw(shared, path, ChangeKind::Closed);
    }

    fn swap(&mut self, shared: &mut Shared, path: Path) {
        if self.tree.get(path).is_some() {
            self.delete(shared, path);
            let name = format!("{}/x", shared.names.text(path));
            let below = shared.names.path(&name);
            self.write(shared, below, 3);
        } else {
            self.delete_below(shared, path);
            self.write(shared, path, 3);
        }
    }

    fn delete(&mut self, shared: &mut Shared, path: Path) {
        if let Some(old) = self.tree.put(path, None) {
            shared.ledger.supersede_all(Some(old));
            self.open.remove(&path);
            self.saw(shared, path, ChangeKind::Removed);
        }
    }

    fn delete_below(&mut self, shared: &mut Shared, dir: Path) {
        let mut any = false;
        for (path, _) in self.tree.clone().iter() {
            if shared.names.is_below(path, dir) {
                self.delete(shared, path);
                any = true;
            }
        }
        if any {
            self.saw(shared, dir, ChangeKind::Removed);
        }
    }

    fn rename(&mut self, shared: &mut Shared, from: Path, to: Path) {
        let is_open = self.open.contains(&from) || self.open.contains(&to);
        let Some(content) = self.tree.get(from).filter(|_| from != to && !is_open) else {
            return;
        };
        self.tree.put(from, None);
        if self.tree.in_the_way(&shared.names, to).is_empty() {
            let replaced = self.tree.put(to, Some(content));
            shared.ledger.supersede_all(replaced);
            self.saw(shared, from, ChangeKind::Removed);
            self.saw(shared, to, ChangeKind::Closed);
        } else {
            self.tree.put(from, Some(content));
        }
    }

    fn rename_dir(&mut self, shared: &mut Shared, from: usize, to: usize) {
        let (from, to) = (DIRS[from % DIRS.len()], DIRS[to % DIRS.len()]);
        let (dir, new) = (shared.names.path(from), shared.names.path(to));
        // What is there already, or below one another, is nothing that can be renamed.
        let taken = self.tree.get(new).is_some() || self.tree.any_below(&shared.names, new);
        let nested = shared.names.is_below(dir, new) || shared.names.is_below(new, dir);
        let blocked = !self.tree.in_the_way(&shared.names, new).is_empty();
        let open = self
            .open
            .iter()
            .any(|path| shared.names.is_below(*path, dir));
        if dir == new || taken || nested || blocked || open {
            return;
        }
        let mut any = false;
        for (path, content) in self.tree.clone().iter() {
            if shared.names.is_below(path, dir) {
                let moved = shared.names.moved(path, dir, to);
                self.tree.put(path, None);
                self.tree.put(moved, Some(content));
                any = true;
            }
        }
        if any {
            self.saw(shared, dir, ChangeKind::Removed);
            self.saw(shared, new, ChangeKind::Subtree);
        }
    }

    pub(super) fn close_all(&mut self, shared: &Shared) {
        for path in std::mem::take(&mut self.open) {
            self.saw(shared, path, ChangeKind::Closed);
        }
    }

    /// The user commits everything with their own git.
    fn commit_by_hand(&mut self, shared: &mut Shared) -> bool {
        let free = self.journal.is_none() && self.pending.is_none() && !self.rebase;
        let same = shared.history.tree(self.head) == self.tree;
        if !free || !self.bases.is_empty() || same {
            return false;
        }
        let parents: Vec<_> = self.head.into_iter().collect();
        let (tree, author) = (self.tree.clone(), self.author(shared));
        self.head = Some(shared.history.commit(&parents, tree, author, false));
        self.held_deletes.clear();
        true
    }

    pub(super) fn saw(&mut self, shared: &Shared, path: Path, kind: ChangeKind) {
        let path = shared.names.repo_path(path);
        self.watched.push(Change { path, kind });
    }
}
