use super::*;
use crate::watch::tree::ROOT;

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn the_nearest_rules_decide_and_exclude_comes_first() {
    let mut tree = Tree::new();
    let (a, _) = tree.child_or_new(ROOT, b"a");
    let (b, _) = tree.child_or_new(a, b"b");
    tree.set_rules(ROOT, Rules::parse(b"*.log\n/top\n"));
    tree.set_rules(b, Rules::parse(b"!keep.log\n/here\n"));
    let mut filter = Filter::new(&texts(&["/a/b/secret"]), &[]);
    filter.info = Rules::parse(b"*.bak\n!x.log\n");
    filter.global = Rules::parse(b"*.glob\n!y.bak\n");
    let counts = |dir, path: &str| filter.counts(&tree, dir, path.as_bytes());
    assert!(!counts(ROOT, "x.log"));
    assert!(!counts(b, "a/b/x.log"));
    assert!(counts(b, "a/b/keep.log"));
    assert!(!counts(a, "a/keep.log"));
    assert!(!counts(ROOT, "top") && counts(a, "a/top"));
    assert!(!counts(b, "a/b/here") && counts(a, "a/here"));
    assert!(!counts(b, "a/b/secret") && counts(a, "a/secret"));
    assert!(!counts(a, "a/y.bak") && !counts(a, "a/z.glob"));
    assert!(counts(ROOT, "plain"));
}

#[test]
fn a_directory_that_is_ignored_stays_open_for_tracked_files_alone() {
    let mut tree = Tree::new();
    let (target, _) = tree.child_or_new(ROOT, b"target");
    tree.set_rules(ROOT, Rules::parse(b"target/\n"));
    let mut filter = Filter::new(&[], &[]);
    assert_eq!(filter.way(&tree, ROOT, b"target"), Way::Closed);
    filter.tracked = [path("target/keep"), path("targets")].into();
    assert_eq!(filter.way(&tree, ROOT, b"target"), Way::TrackedOnly);
    tree.set_tracked_only(target, true);
    assert!(filter.counts(&tree, target, b"target/keep"));
    assert!(!filter.counts(&tree, target, b"target/other"));
    assert_eq!(filter.way(&tree, target, b"target/sub"), Way::Closed);
    assert!(filter.counts(&tree, ROOT, b"target"), "a file of that name");
}

#[test]
fn only_opens_the_way_to_what_it_wants() {
    let tree = Tree::new();
    let filter = Filter::new(&[], &texts(&["/.bashrc", ".config/nvim/", "!*.bak"]));
    let way = |dir: &str| filter.way(&tree, ROOT, dir.as_bytes());
    assert!(filter.counts(&tree, ROOT, b".bashrc"));
    assert!(!filter.counts(&tree, ROOT, b".zshrc"));
    assert!(!filter.counts(&tree, ROOT, b"sub/.bashrc"));
    assert_eq!(way(".config"), Way::Open);
    assert_eq!(way(".config/nvim"), Way::Open);
    assert_eq!(way(".config/nvim/lua"), Way::Open);
    assert_eq!(way(".config/htop"), Way::Closed);
    assert_eq!(way("Documents"), Way::Closed);
    assert!(filter.counts(&tree, ROOT, b".config/nvim/lua/a.lua"));
    assert!(!filter.counts(&tree, ROOT, b".config/nvim/a.bak"));
    assert!(!filter.counts(&tree, ROOT, b".config/user-dirs"));

    let anywhere = Filter::new(&[], &texts(&["*.txt", "a/*/c"]));
    assert_eq!(anywhere.way(&tree, ROOT, b"x/y"), Way::Open);
    assert!(anywhere.counts(&tree, ROOT, b"x/y/z.txt"));
    let middle = Filter::new(&[], &texts(&["a/*/c"]));
    assert_eq!(middle.way(&tree, ROOT, b"a/b"), Way::Open);
    assert_eq!(middle.way(&tree, ROOT, b"b"), Way::Closed);
}

#[test]
fn what_is_not_understood_hides_nothing() {
    let tree = Tree::new();
    let mut filter = Filter::new(&texts(&["a{b", "["]), &[]);
    filter.info = Rules::parse(b"\xff\xfe*\n");
    for name in ["a{b", "anything"] {
        assert!(filter.counts(&tree, ROOT, name.as_bytes()), "{name}");
    }
}

#[test]
fn rules_are_read_as_git_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".gitignore");
    std::fs::write(&file, b"\xef\xbb\xbf# words\r\n*.o\r\n\r\n").unwrap();
    let rules = Rules::read(&file).unwrap();
    assert_eq!(rules.opinion(b"a.o", false), Some(true));
    assert_eq!(rules.opinion(b"a.c", false), None);
    assert!(Rules::same(Some(&rules), Rules::read(&file).as_ref()));
    std::fs::write(&file, "*.x\n").unwrap();
    assert!(!Rules::same(Some(&rules), Rules::read(&file).as_ref()));

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(Rules::read(&link).is_none());
    assert!(Rules::read_outside(&link).is_some());
    assert!(Rules::read(dir.path()).is_none());
    assert!(Rules::read(&dir.path().join("none")).is_none());
    std::fs::write(&file, "# nothing\n").unwrap();
    assert!(Rules::read(&file).is_none());
}

#[test]
fn the_names_that_programs_use_for_a_moment() {
    use Transient::{Always, WhileYoung};
    let always = [
        ".f.swp",
        ".f.txt.swx",
        ".f.swpx",
        "4913",
        "notes~",
        ".#notes",
        "#notes#",
        ".~lock.a.odt#",
        "lu4213abc.tmp",
        "a.part",
        "a.crdownload",
        "db-wal",
        "db-shm",
        "db-journal",
    ];
    for name in always {
        assert_eq!(transient(name.as_bytes()), Some(Always), "{name}");
    }
    for name in ["sedA1b2C3", "sedatives", ".foo.config", ".a.txt.x9Yz01"] {
        assert_eq!(transient(name.as_bytes()), Some(WhileYoung), "{name}");
    }
    let real = [
        "~",
        "#",
        ".#",
        "-wal",
        ".tmp",
        "f.swp",
        "sed",
        "sedition",
        ".bashrc",
        "a.partial",
        "4914",
        ".sw",
        ".config",
    ];
    for name in real {
        assert_eq!(transient(name.as_bytes()), None, "{name}");
    }
}
