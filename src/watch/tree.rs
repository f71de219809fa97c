//! The tree of directories that are watched, as the watcher knows it.
//!
//! A directory is a node with its name, its parent and its children; a home has tens of
//! thousands of them, so no node holds a path. Node ids are reused and live no longer than the
//! work on one batch.

use std::collections::HashMap;

use super::filter::Rules;
use super::source::Token;

/// A directory in the [`Tree`].
pub(super) type NodeId = u32;

/// The folder's root.
pub(super) const ROOT: NodeId = 0;

/// Marks of a node.
const TRACKED_ONLY: u8 = 1;
const BOUNDARY: u8 = 2;
const UNWATCHED: u8 = 4;
const REMOTE: u8 = 8;

#[derive(Debug, Default)]
struct Node {
    parent: NodeId,
    token: Option<i32>,
    mode: u16,
    marks: u8,
    name: Box<[u8]>,
    /// Sorted by name.
    children: Vec<NodeId>,
    rules: Option<Box<Rules>>,
}

/// All directories that are known.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    by_token: HashMap<i32, NodeId>,
    unwatched: usize,
    remote: usize,
}

impl Tree {
    /// Creates a tree of the root alone.
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            by_token: HashMap::new(),
            unwatched: 0,
            remote: 0,
        }
    }

    /// Returns how many directories are known.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Returns how many of them the source does not watch.
    pub(super) fn unwatched(&self) -> usize {
        self.unwatched
    }

    /// Returns how many of them are on a file system that other machines change.
    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    /// Returns the path of a node relative to the root, empty for the root.
    pub(super) fn path(&self, id: NodeId) -> Vec<u8> {
        let mut chain = Vec::new();
        let mut at = id;
        while at != ROOT {
            chain.push(at);
            at = self.node(at).parent;
        }
        let mut path = Vec::new();
        for id in chain.into_iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&self.node(id).name);
        }
        path
    }

    /// Returns the node at a path relative to the root.
    pub(super) fn find(&self, path: &[u8]) -> Option<NodeId> {
        if path.is_empty() {
            return Some(ROOT);
        }
        path.split(|byte| *byte == b'/')
            .try_fold(ROOT, |dir, name| self.child(dir, name))
    }

    /// Returns the directory of that name in `dir`.
    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let at = self.position(dir, name).ok()?;
        Some(self.node(dir).children[at])
    }

    /// Returns the directory of that name in `dir`, made if it was not known, and whether it
    /// was known.
    pub(super) fn child_or_new(&mut self, dir: NodeId, name: &[u8]) -> (NodeId, bool) {
        match self.position(dir, name) {
            Ok(at) => (self.node(dir).children[at], true),
            Err(at) => {
                let node = Node {
                    parent: dir,
                    name: name.into(),
                    ..Node::default()
                };
                let id = if let Some(id) = self.free.pop() {
                    *self.node_mut(id) = node;
                    id
                } else {
                    self.nodes.push(node);
                    NodeId::try_from(self.nodes.len() - 1).unwrap_or(NodeId::MAX)
                };
                self.node_mut(dir).children.insert(at, id);
                (id, false)
            }
        }
    }

    /// Returns the directories in `dir`.
    pub(super) fn children(&self, dir: NodeId) -> &[NodeId] {
        &self.node(dir).children
    }

    /// Forgets everything below `dir`, and returns the tokens that are of no use any more.
    pub(super) fn clear(&mut self, dir: NodeId) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut rest = std::mem::take(&mut self.node_mut(dir).children);
        while let Some(id) = rest.pop() {
            self.clear_counted(id);
            let mut node = std::mem::take(self.node_mut(id));
            tokens.extend(self.unmap(id, node.token));
            rest.append(&mut node.children);
            self.free.push(id);
        }
        tokens
    }

    /// Forgets a directory other than the root and everything below it, and returns the tokens
    /// that are of no use any more.
    pub(super) fn remove(&mut self, id: NodeId) -> Vec<Token> {
        let mut tokens = self.clear(id);
        tokens.extend(self.set_token(id, None));
        let parent = self.node(id).parent;
        if id != ROOT {
            if let Ok(at) = self.position(parent, &self.node(id).name) {
                self.node_mut(parent).children.remove(at);
            }
            self.clear_counted(id);
            *self.node_mut(id) = Node::default();
            self.free.push(id);
        }
        tokens
    }

    /// Says under which token a directory is watched, and returns the token it had if that was
    /// another one and is of no use any more.
    pub(super) fn set_token(&mut self, id: NodeId, token: Option<Token>) -> Option<Token> {
        let token = token.map(|token| token.0);
        let before = self.node(id).token;
        if before == token {
            return None;
        }
        let old = self.unmap(id, before);
        self.node_mut(id).token = token;
        if let Some(token) = token.filter(|token| *token != Token::BY_PATH.0)
            && let Some(other) = self.by_token.insert(token, id)
        {
            // The same directory under another name: it was moved, and its event will come.
            self.node_mut(other).token = None;
        }
        old
    }

    /// Returns the directory with that token.
    pub(super) fn by_token(&self, token: Token) -> Option<NodeId> {
        self.by_token.get(&token.0).copied()
    }

    /// Returns whether the source watches the directory.
    pub(super) fn is_watched(&self, id: NodeId) -> bool {
        self.node(id).token.is_some()
    }

    /// Returns the mode bits of the directory when it was last walked.
    pub(super) fn mode(&self, id: NodeId) -> u16 {
        self.node(id).mode
    }

    /// Says what mode bits the directory has.
    pub(super) fn set_mode(&mut self, id: NodeId, mode: u16) {
        self.node_mut(id).mode = mode;
    }

    /// Returns whether only tracked files in the directory count.
    pub(super) fn is_tracked_only(&self, id: NodeId) -> bool {
        self.node(id).marks & TRACKED_ONLY != 0
    }

    /// Says whether only tracked files in the directory count.
    pub(super) fn set_tracked_only(&mut self, id: NodeId, yes: bool) {
        self.set_mark(id, TRACKED_ONLY, yes);
    }

    /// Returns whether the directory is a repository of its own.
    pub(super) fn is_boundary(&self, id: NodeId) -> bool {
        self.node(id).marks & BOUNDARY != 0
    }

    /// Says whether the directory is a repository of its own.
    pub(super) fn set_boundary(&mut self, id: NodeId, yes: bool) {
        self.set_mark(id, BOUNDARY, yes);
    }

    /// Says whether the kernel gave no watch for the directory.
    pub(super) fn set_unwatched(&mut self, id: NodeId, yes: bool) {
        self.set_mark(id, UNWATCHED, yes);
    }

    /// Returns whether the kernel gave no watch for the directory.
    pub(super) fn is_unwatched(&self, id: NodeId) -> bool {
        self.node(id).marks & UNWATCHED != 0
    }

    /// Says whether the directory is on a file system that other machines change.
    pub(super) fn set_remote(&mut self, id: NodeId, yes: bool) {
        self.set_mark(id, REMOTE, yes);
    }

    /// Returns whether the directory is to be looked at from time to time, because events do not
    /// tell all that happens in it.
    pub(super) fn is_polled(&self, id: NodeId) -> bool {
        self.node(id).marks & (UNWATCHED | REMOTE) != 0
    }

    /// Returns how the names of two directories are ordered.
    pub(super) fn by_name(&self, one: NodeId, other: NodeId) -> std::cmp::Ordering {
        self.node(one).name.cmp(&self.node(other).name)
    }

    /// Returns the rules that stand in the directory itself.
    pub(super) fn rules(&self, id: NodeId) -> Option<&Rules> {
        self.node(id).rules.as_deref()
    }

    /// Says which rules stand in the directory itself.
    pub(super) fn set_rules(&mut self, id: NodeId, rules: Option<Rules>) {
        self.node_mut(id).rules = rules.map(Box::new);
    }

    /// Returns the rules that are about `path`, an entry of `dir`, the nearest first, each with
    /// the path as seen from where the rules stand.
    pub(super) fn rules_upwards<'a>(
        &'a self,
        dir: NodeId,
        path: &'a [u8],
    ) -> impl Iterator<Item = (&'a Rules, &'a [u8])> {
        let name = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        std::iter::successors(Some((dir, name)), |(id, start)| {
            let node = self.node(*id);
            (*id != ROOT).then(|| (node.parent, start.saturating_sub(node.name.len() + 1)))
        })
        .filter_map(|(id, start)| Some((self.rules(id)?, &path[start..])))
    }

    fn unmap(&mut self, id: NodeId, token: Option<i32>) -> Option<Token> {
        let token = token?;
        if self.by_token.get(&token) == Some(&id) {
            self.by_token.remove(&token);
            return Some(Token(token));
        }
        None
    }

    fn clear_counted(&mut self, id: NodeId) {
        self.set_mark(id, UNWATCHED, false);
        self.set_mark(id, REMOTE, false);
    }

    fn set_mark(&mut self, id: NodeId, mark: u8, yes: bool) {
        let node = self.node_mut(id);
        let before = node.marks;
        node.marks = if yes { before | mark } else { before & !mark };
        let now = node.marks;
        for (counted, count) in [(UNWATCHED, &mut self.unwatched), (REMOTE, &mut self.remote)] {
            match (before & counted != 0, now & counted != 0) {
                (false, true) => *count += 1,
                (true, false) => *count -= 1,
                (true, true) | (false, false) => {}
            }
        }
    }

    fn position(&self, dir: NodeId, name: &[u8]) -> Result<usize, usize> {
        self.node(dir)
            .children
            .binary_search_by(|child| (*self.node(*child).name).cmp(name))
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_directory_keeps_its_watch_and_the_old_name_drops_none() {
        let mut tree = Tree::new();
        let (old, known) = tree.child_or_new(ROOT, b"old");
        assert!(!known);
        assert_eq!(tree.set_token(old, Some(Token(7))), None);
        let (new, _) = tree.child_or_new(ROOT, b"new");
        assert_eq!(tree.set_token(new, Some(Token(7))), None);
        assert!(!tree.is_watched(old));
        assert_eq!(tree.remove(old), []);
        assert_eq!(tree.by_token(Token(7)), Some(new));
        assert_eq!(tree.set_token(new, Some(Token(8))), Some(Token(7)));
        assert_eq!(tree.remove(new), [Token(8)]);
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn paths_and_nodes_find_each_other_and_ids_are_reused() {
        let mut tree = Tree::new();
        let (a, _) = tree.child_or_new(ROOT, b"a");
        let (b, _) = tree.child_or_new(a, b"b");
        let (c, _) = tree.child_or_new(b, b"c");
        tree.set_unwatched(c, true);
        tree.set_remote(c, true);
        assert_eq!(tree.path(c), b"a/b/c");
        assert_eq!(tree.find(b"a/b/c"), Some(c));
        assert_eq!(tree.find(b""), Some(ROOT));
        assert_eq!(tree.find(b"a/c"), None);
        assert_eq!((tree.len(), tree.unwatched(), tree.remote()), (4, 1, 1));
        assert!(tree.is_polled(c) && !tree.is_polled(b));
        tree.remove(a);
        assert_eq!((tree.len(), tree.unwatched(), tree.remote()), (1, 0, 0));
        assert_eq!(tree.find(b"a"), None);
        let (again, _) = tree.child_or_new(ROOT, b"z");
        assert!([a, b, c].contains(&again));
        assert_eq!(tree.path(again), b"z");
    }
}
