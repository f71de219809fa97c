//! Commits of the model: a history as a graph, merges by path and line.

use super::tree::{Content, Hash, Kind, Names, Path, Token, Tree};
use crate::names::ObjectId;

/// What the model does wrong on purpose, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Nothing.
    None,
    /// In a conflict the version with the later date stands and the other is gone.
    LastWriterWins,
    /// Apply does not look at what it replaces.
    BlindApply,
    /// A path that was kept is committed on HEAD as if it were based on it.
    NoBases,
    /// The removals of a mass delete that came in are done without anybody's approval.
    NoMassGuard,
    /// The hub takes whatever is pushed.
    ForcedPush,
}

/// A commit, by its number: an ancestor has the smaller one.
pub(super) type Number = u32;

#[derive(Debug)]
pub(super) struct Commit {
    pub(super) parents: Vec<Number>,
    pub(super) tree: Tree,
    pub(super) author: Author,
    pub(super) approved: bool,
    id: ObjectId,
    /// A bit for each commit that is in it.
    contains: Vec<u64>,
}

/// Which host made a commit, and what its clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Author {
    pub(super) host: usize,
    pub(super) date: i64,
}

/// Every commit that anybody made.
#[derive(Debug, Default)]
pub(super) struct History {
    commits: Vec<Commit>,
}

impl History {
    pub(super) fn commit(
        &mut self,
        parents: &[Number],
        tree: Tree,
        author: Author,
        approved: bool,
    ) -> Number {
        let number = u32::try_from(self.commits.len()).unwrap();
        let mut contains = vec![0; self.commits.len() / 64 + 1];
        let mut hash = Hash(tree.hash());
        for parent in parents {
            let parent = self.get(*parent);
            for (word, more) in contains.iter_mut().zip(&parent.contains) {
                *word |= more;
            }
            for byte in &parent.id.as_bytes()[4..12] {
                hash.take(u64::from(*byte));
            }
        }
        contains[self.commits.len() / 64] |= 1 << (self.commits.len() % 64);
        hash.take(author.host as u64);
        hash.take(u64::from(approved));
        let mut raw = [0; 20];
        // Its short form, too, tells one from the other.
        raw[..3].copy_from_slice(&(number + 1).to_be_bytes()[1..]);
        raw[4..12].copy_from_slice(&hash.0.to_be_bytes());
        self.commits.push(Commit {
            parents: parents.to_vec(),
            tree,
            author,
            approved,
            id: ObjectId::from_bytes(&raw).unwrap(),
            contains,
        });
        number
    }

    pub(super) fn get(&self, number: Number) -> &Commit {
        &self.commits[number as usize]
    }

    pub(super) fn id(&self, number: Number) -> ObjectId {
        self.get(number).id
    }

    pub(super) fn number(&self, id: ObjectId) -> Number {
        let raw = id.as_bytes();
        let number = u32::from_be_bytes([0, raw[0], raw[1], raw[2]]) - 1;
        assert_eq!(self.id(number), id, "a commit that nobody made");
        number
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn tree(&self, commit: Option<Number>) -> Tree {
        match commit {
            Some(commit) => self.get(commit).tree.clone(),
            None => Tree::default(),
        }
    }

    /// Returns whether `commit` is `other` or came after it.
    pub(super) fn contains(&self, commit: Number, other: Number) -> bool {
        let words = &self.get(commit).contains;
        let (word, bit) = ((other / 64) as usize, other % 64);
        word < words.len() && words[word] >> bit & 1 == 1
    }

    /// Returns the commits that `commit` has and `other` has not.
    pub(super) fn between(&self, other: Option<Number>, commit: Number) -> Vec<Number> {
        (0..=commit)
            .filter(|it| self.contains(commit, *it))
            .filter(|it| other.is_none_or(|other| !self.contains(other, *it)))
            .collect()
    }

    /// Returns the newest commit that both have.
    fn base(&self, one: Number, other: Number) -> Option<Number> {
        let (one, other) = (&self.get(one).contains, &self.get(other).contains);
        for at in (0..one.len().min(other.len())).rev() {
            let both = one[at] & other[at];
            if both != 0 {
                let word = u32::try_from(at).unwrap();
                return Some(word * 64 + 63 - both.leading_zeros());
            }
        }
        None
    }

    /// Merges two commits; `keeps` keeps the name where both changed the same thing.
    pub(super) fn merge(
        &mut self,
        names: &mut Names,
        (keeps, other): (Number, Number),
        author: Author,
        mutant: Mutant,
    ) -> Number {
        let base = self.tree(self.base(keeps, other));
        let (ours, theirs) = (self.get(keeps), self.get(other));
        let later = theirs.author.date > ours.author.date;
        let mut merge = Merge {
            names,
            base: &base,
            host: theirs.author.host,
            other_wins: (mutant == Mutant::LastWriterWins).then_some(later),
            merged: Tree::default(),
            copies: Vec::new(),
        };
        merge.paths(&ours.tree, &theirs.tree);
        merge.part(&ours.tree);
        merge.put_copies();
        let tree = merge.merged;
        self.commit(&[keeps, other], tree, author, false)
    }

    /// Returns a line per commit, to read beside the trace of a failure.
    pub(super) fn lines(&self, names: &Names) -> Vec<String> {
        let line = |(number, commit): (usize, &Commit)| {
            let approved = if commit.approved { " approved" } else { "" };
            let (parents, host) = (&commit.parents, commit.author.host);
            let tree = commit.tree.show(names);
            format!("{number} {parents:?} by {host}{approved}: {tree}")
        };
        self.commits.iter().enumerate().map(line).collect()
    }
}

/// Two sides that are put together.
struct Merge<'a> {
    names: &'a mut Names,
    base: &'a Tree,
    /// Whose version a copy is.
    host: usize,
    /// With this given, conflicts make no copy.
    other_wins: Option<bool>,
    merged: Tree,
    copies: Vec<(Path, Content)>,
}

impl Merge<'_> {
    /// Decides path by path.
    fn paths(&mut self, keeps: &Tree, other: &Tree) {
        let base = self.base;
        self.merged = keeps.clone();
        for (path, h) in keeps.iter() {
            let (b, l) = (base.get(path), other.get(path));
            if l != Some(h) && b != l {
                let stands = self.path(path, b, Some(h), l);
                self.merged.put(path, stands);
            }
        }
        for (path, l) in other.iter() {
            if keeps.get(path).is_none() {
                let stands = self.path(path, base.get(path), None, Some(l));
                self.merged.put(path, stands);
            }
        }
    }

    fn path(
        &mut self,
        path: Path,
        b: Option<Content>,
        h: Option<Content>,
        l: Option<Content>,
    ) -> Option<Content> {
        if h == l || b == l {
            return h;
        }
        if b == h {
            return l;
        }
        let is_edit = |one: Content| b.is_none_or(|b| !b.same_content(one));
        match (h, l) {
            (Some(h), Some(l)) => Some(self.both(path, b, h, l)),
            // An edit beats a delete, a mode does not.
            (one, None) | (None, one) => one.filter(|one| is_edit(*one)),
        }
    }

    /// Both sides have something else there than the base.
    fn both(&mut self, path: Path, b: Option<Content>, h: Content, l: Content) -> Content {
        let mut stands = h;
        let mut lost = false;
        if h.same_content(l) || b.is_some_and(|b| b.same_content(l)) {
        } else if b.is_some_and(|b| b.same_content(h)) {
            stands = l;
        } else if let Some(lines) = b.and_then(|b| b.merged_lines(h, l)) {
            stands.lines = lines;
        } else {
            lost = true;
            match self.other_wins {
                Some(true) => stands = l,
                Some(false) => {}
                None => self.copies.push((path, l)),
            }
        }
        if stands.kind != Kind::Link && !lost {
            let modes = (b.map(|b| b.kind), h.kind, l.kind);
            stands.kind = match modes {
                (_, Kind::Link, mode) | (_, mode, Kind::Link) => mode,
                (Some(base), h, l) if base == h => l,
                (_, h, _) => h,
            };
        }
        stands
    }

    /// A file and a directory of the same name: the side already on the hub keeps it, the other
    /// moves.
    fn part(&mut self, keeps: &Tree) {
        while let Some((file, content)) = self.parted() {
            if keeps.get(file).is_none() {
                self.merged.put(file, None);
                if self.other_wins != Some(false) {
                    self.copies.push((file, content));
                }
                continue;
            }
            let below: Vec<(Path, Content)> = self
                .merged
                .iter()
                .filter(|it| self.names.is_below(it.0, file))
                .collect();
            let name = copy_name(self.names.text(file), self.host, below[0].1);
            for (path, content) in below {
                self.merged.put(path, None);
                let to = self.names.moved(path, file, &name);
                self.put_free(to, content);
            }
        }
    }

    /// Returns a file that is a directory as well.
    fn parted(&self) -> Option<(Path, Content)> {
        let is_dir = |it: &(Path, Content)| self.merged.any_below(self.names, it.0);
        self.merged.iter().find(is_dir)
    }

    fn put_copies(&mut self) {
        for (path, content) in std::mem::take(&mut self.copies) {
            let name = copy_name(self.names.text(path), self.host, content);
            let to = self.names.path(&name);
            self.put_free(to, content);
        }
    }

    /// Puts a copy. An older copy of the same version may have been edited since: it is not
    /// overwritten. Nor does it count if the base has it: whoever brought that version back from
    /// there may be about to remove it there.
    fn put_free(&mut self, path: Path, content: Content) {
        let mut free = path;
        for number in 2.. {
            let beside = self.merged.in_the_way(self.names, free).is_empty();
            let counts = |there| there == content && self.base.get(free) != Some(content);
            if beside && self.merged.get(free).is_none_or(counts) {
                break;
            }
            let name = format!("{} {number}", self.names.text(path));
            free = self.names.path(&name);
        }
        self.merged.put(free, Some(content));
    }
}

impl Content {
    fn is_link(self) -> bool {
        self.kind == Kind::Link
    }

    /// Whether both are the same but for the mode.
    pub(super) fn same_content(self, other: Self) -> bool {
        self.lines == other.lines && self.is_link() == other.is_link()
    }

    /// Merges by line, if all three are text and no line was changed by both.
    fn merged_lines(self, keeps: Self, other: Self) -> Option<[Token; 3]> {
        if self.is_link() || keeps.is_link() || other.is_link() {
            return None;
        }
        let mut merged = keeps.lines;
        for (at, line) in merged.iter_mut().enumerate() {
            let (b, h, l) = (self.lines[at], keeps.lines[at], other.lines[at]);
            if h == l || b == l {
                continue;
            }
            if b != h {
                return None;
            }
            *line = l;
        }
        Some(merged)
    }
}

fn copy_name(path: &str, host: usize, content: Content) -> String {
    let (dir, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(dir, name)| (dir, name));
    let stem = name.split(" (conflict").next().unwrap_or(name);
    let slash = if dir.is_empty() { "" } else { "/" };
    let [a, b, c] = content.lines;
    format!("{dir}{slash}{stem} (conflict {host} {a}-{b}-{c})")
}
