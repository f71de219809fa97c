//! What came out: both trees compared, every token looked for, every repository checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::git::Git;
use crate::names::escape;

/// What begins every token.
const MARK: &str = "token-";
/// The digits after it.
const DIGITS: usize = 12;

/// Every token that was ever written.
///
/// A token stands for a version of a file: it is in no other.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tokens: BTreeSet<String>,
}

impl Ledger {
    /// Returns a new token, which is to be written at once.
    pub(super) fn token(&mut self) -> String {
        loop {
            let number = fastrand::u64(..) >> 16;
            let token = format!("{MARK}{number:0DIGITS$x}");
            if self.tokens.insert(token.clone()) {
                return token;
            }
        }
    }
}

/// How it came out.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Files on each host.
    pub(super) files: usize,
    /// Symbolic links on each host.
    pub(super) links: usize,
    /// Commits in the history.
    pub(super) commits: usize,
    /// Tokens written.
    pub(super) tokens: usize,
    /// Tokens in the tree.
    pub(super) in_tree: usize,
    /// Tokens that are in the history alone.
    pub(super) in_history: usize,
    /// What is wrong, a sentence each.
    pub(super) failures: Vec<String>,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
enum Stands {
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
    Other,
}

type Tree = BTreeMap<PathBuf, Stands>;

impl Verdict {
    /// Returns the verdict of a script that did not come to its end.
    pub(super) fn of_failure(sentence: String) -> Self {
        Self {
            failures: vec![sentence],
            ..Self::default()
        }
    }

    /// Judges two folders, named, and their hub. Nobody may be working in them.
    pub(super) fn of(
        folders: [(&str, &Path); 2],
        hub: &Path,
        ledger: &Ledger,
    ) -> anyhow::Result<Self> {
        let mut this = Self {
            tokens: ledger.tokens.len(),
            ..Self::default()
        };
        let [(one, first), (two, second)] = folders;
        let (a, b) = (read_tree(first)?, read_tree(second)?);
        this.compare((one, &a), (two, &b));
        let stands = |tree: &Tree, wanted: fn(&Stands) -> bool| {
            tree.values().filter(|stands| wanted(stands)).count()
        };
        this.files = stands(&a, |stands| matches!(stands, Stands::File { .. }));
        this.links = stands(&a, |stands| matches!(stands, Stands::Link(_)));

        let mut heads = BTreeSet::new();
        for (name, root) in folders {
            let git = Git::discover(root, None)?;
            heads.insert(git.call("rev-parse", ["HEAD"], b"")?);
            this.check(name, &git);
            this.account(name, &git, if name == one { &a } else { &b }, ledger)?;
        }
        let hub = Git::bare(hub);
        heads.insert(hub.call("rev-parse", ["HEAD"], b"")?);
        if heads.len() > 1 {
            let failure = "The two computers and the hub are not at the same commit.";
            this.failures.push(failure.into());
        }
        this.check("hub", &hub);
        let commits = hub.call("rev-list", ["--count", "HEAD"], b"")?;
        this.commits = String::from_utf8_lossy(commits.trim_ascii()).parse()?;
        Ok(this)
    }

    fn compare(&mut self, (one, a): (&str, &Tree), (two, b): (&str, &Tree)) {
        let paths: BTreeSet<&PathBuf> = a.keys().chain(b.keys()).collect();
        for path in paths {
            let name = escape(path.as_os_str().as_bytes());
            match (a.get(path), b.get(path)) {
                (Some(x), Some(y)) if x == y => {}
                (Some(_), Some(_)) => self.failures.push(format!(
                    "`{name}` is not the same on the {one} and on the {two}."
                )),
                (Some(_), None) => self
                    .failures
                    .push(format!("`{name}` is on the {one} and not on the {two}.")),
                (None, _) => self
                    .failures
                    .push(format!("`{name}` is on the {two} and not on the {one}.")),
            }
        }
        for (path, stands) in a {
            let Stands::File { content, .. } = stands else {
                continue;
            };
            let mut lines = content.split(|byte| *byte == b'\n');
            if lines.any(|line| line.starts_with(b"<<<<<<< ")) {
                let name = escape(path.as_os_str().as_bytes());
                let failure = format!("`{name}` has conflict markers in it.");
                self.failures.push(failure);
            }
        }
    }

    /// Lets git look for damage.
    fn check(&mut self, name: &str, git: &Git) {
        let args = ["--full", "--no-dangling", "--no-progress"];
        if let Err(error) = git.call("fsck", args, b"") {
            let failure = format!("`git fsck` finds a fault on the {name}: {error}.");
            self.failures.push(failure);
        }
    }

    /// Looks for every token, in the tree and in the history of the branch.
    fn account(
        &mut self,
        name: &str,
        git: &Git,
        tree: &Tree,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        let mut in_tree = BTreeSet::new();
        for stands in tree.values() {
            if let Stands::File { content, .. } = stands {
                collect(content, &mut in_tree);
            }
        }
        let objects = git.call("rev-list", ["--objects", "--no-object-names", "HEAD"], b"")?;
        let mut in_history = BTreeSet::new();
        collect(
            &git.call("cat-file", ["--batch"], &objects)?,
            &mut in_history,
        );
        let tokens = &ledger.tokens;
        self.in_tree = tokens.intersection(&in_tree).count();
        self.in_history = tokens
            .intersection(&in_history)
            .filter(|token| !in_tree.contains(*token))
            .count();
        for token in tokens {
            if !in_tree.contains(token) && !in_history.contains(token) {
                let failure = format!(
                    "What was written with the mark {token} is not on the {name}, neither in the \
                     folder nor in its history."
                );
                self.failures.push(failure);
            }
        }
        Ok(())
    }
}

/// Adds every token in `text` to `found`.
fn collect(text: &[u8], found: &mut BTreeSet<String>) {
    let mark = MARK.as_bytes();
    let starts = text.windows(mark.len() + DIGITS);
    let is_token = |window: &&[u8]| {
        let digits = window.strip_prefix(mark);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    for token in starts.filter(is_token) {
        if let Ok(token) = std::str::from_utf8(token) {
            found.insert(token.to_owned());
        }
    }
}

fn read_tree(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if dir == root && path.file_name().is_some_and(|name| name == ".git") {
                continue;
            }
            let meta = fs::symlink_metadata(&path)?;
            let stands = if meta.is_dir() {
                left.push(path);
                continue;
            } else if meta.is_symlink() {
                Stands::Link(fs::read_link(&path)?)
            } else if meta.is_file() {
                Stands::File {
                    content: fs::read(&path)?,
                    executable: meta.permissions().mode() & 0o100 != 0,
                }
            } else {
                Stands::Other
            };
            let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
            tree.insert(name, stands);
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_a_text_is_found_and_nothing_else() {
        let mut ledger = Ledger::default();
        let (a, b) = (ledger.token(), ledger.token());
        let text = format!("x{a}{b} token-12 {a}\ntoken-");
        let mut found = BTreeSet::new();
        collect(text.as_bytes(), &mut found);
        assert_eq!(found, ledger.tokens);
        assert_eq!(ledger.tokens, BTreeSet::from([a, b]));
    }

    #[test]
    fn trees_that_differ_in_a_mode_a_link_or_a_byte_are_not_the_same() {
        let file = |content: &[u8], executable| Stands::File {
            content: content.to_vec(),
            executable,
        };
        let tree = |stands| Tree::from([(PathBuf::from("a"), stands)]);
        let base = tree(file(b"x", false));
        for other in [
            tree(file(b"x", true)),
            tree(file(b"y", false)),
            tree(Stands::Link("x".into())),
            Tree::new(),
        ] {
            for (one, two) in [(&base, &other), (&other, &base)] {
                let mut verdict = Verdict::default();
                verdict.compare(("laptop", one), ("server", two));
                assert_eq!(verdict.failures.len(), 1, "{one:?} {two:?}");
            }
        }
        let mut verdict = Verdict::default();
        verdict.compare(("laptop", &base), ("server", &base));
        assert_eq!(verdict.failures, [""; 0]);
    }

    #[test]
    fn conflict_markers_are_a_failure() {
        let content = b"a\n<<<<<<< ours\nb\n".to_vec();
        let tree = |content: &[u8]| {
            let stands = Stands::File {
                content: content.to_vec(),
                executable: false,
            };
            Tree::from([(PathBuf::from("a"), stands)])
        };
        let judged = |tree: &Tree| {
            let mut verdict = Verdict::default();
            verdict.compare(("laptop", tree), ("server", tree));
            verdict.failures.len()
        };
        assert_eq!(judged(&tree(&content)), 1);
        assert_eq!(judged(&tree(b"a <<<<<<< b\n")), 0);
    }
}
