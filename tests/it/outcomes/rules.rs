//! The rules of a merge, one by one.

use std::collections::BTreeMap;
use std::fs;

use autosync::git::objects::Kind;
use autosync::git::tree::{Edits, Entry, FILE, SYMLINK};
use autosync::git::{LOCAL, run};
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::copies::{conflicts, conflicts_since};
use autosync::repo::merge::{MergeOutcome, Prefer, merge, merge_with_base};
use autosync::repo::{Place, Policy, Settings};

use super::lab::{Lab, created, plain_git};
use super::table::{Node, Tree, node, tree};

fn file(content: &str) -> Node {
    Node::File(content.as_bytes().to_vec(), false)
}

fn with(mut to: Tree, path: &str, content: &str) -> Tree {
    to.insert(path.to_owned(), file(content));
    to
}

/// Merges trees written as in the table and compares with what must come out.
fn comes_out(lab: &Lab, [base, h, l, expect]: [&Tree; 4]) {
    let made = lab.merge(base, h, l, Prefer::Hub);
    assert_eq!(lab.list(made.commit()), *expect);
}

#[test]
fn attributes_are_read_from_the_hubs_side_only() {
    let rules = |text| with(tree("p=b"), ".gitattributes", text);
    let lab = Lab::new();
    let (b, h, l) = (tree("p=b"), tree("p=h"), tree("p=k"));
    let attributed = |to: &Tree, text: &str| with(to.clone(), ".gitattributes", text);
    let stands = |made: &super::lab::Merge| lab.list(made.commit())["p"].clone();

    let base = rules("* text\n");
    let hubs = attributed(&h, "p autosync-conflict=local\n");
    let ours = attributed(&l, "* text\n");
    let made = lab.merge(&base, &hubs, &ours, Prefer::Hub);
    assert_eq!(stands(&made), node("k"));
    assert_eq!(made.copies(), 0);

    let made = lab.merge(
        &b,
        &h,
        &attributed(&l, "p autosync-conflict=local\n"),
        Prefer::Hub,
    );
    assert_eq!(stands(&made), node("h"));
    assert_eq!(made.copies(), 1);
}

#[test]
fn neither_the_work_tree_nor_the_users_configuration_takes_part() {
    let lab = Lab::new();
    let canary = lab.outside().join("canary");
    let driver = format!("touch {} && false", canary.display());
    let git = &lab.place.git;
    for (key, value) in [
        ("merge.mine.driver", driver.as_str()),
        ("merge.renames", "false"),
        ("merge.conflictStyle", "diff3"),
        ("merge.renormalize", "true"),
        ("core.attributesFile", "/nonexistent"),
    ] {
        git.set_config(key, value).unwrap();
    }
    fs::create_dir_all(git.dir().join("info")).unwrap();
    fs::write(git.dir().join("info/attributes"), "* merge=mine\n").unwrap();
    fs::write(lab.place.root().join(".gitattributes"), "* -merge\n").unwrap();
    let base = with(tree("p=b"), ".gitattributes", "* merge=mine\n");
    let h = with(tree("p=h"), ".gitattributes", "* merge=mine\n");
    let l = with(tree("q=l"), ".gitattributes", "* merge=mine\n");
    let made = lab.merge(&base, &h, &l, Prefer::Hub);
    assert_eq!(lab.list(made.commit())["q"], node("hl"));
    assert!(!canary.exists());
    let names: Vec<_> = fs::read_dir(lab.place.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(!git.dir().join("index").exists());
}

#[test]
fn each_policy_does_what_it_says_by_attribute() {
    let lab = Lab::new();
    for (policy, l, expect) in [
        ("merge", "p=l", "p=hl"),
        ("copy", "p=l", "p=h p{copy}=l"),
        ("copy", "p=b+x", "p=h+x"),
        ("copy", "-", "p=h"),
        ("hub", "p=l", "p=h"),
        ("hub", "p=@t", "p=h"),
        ("hub", "p/x=x", "p=h"),
        ("local", "p=l", "p=l"),
        ("local", "p=@t", "p=@t"),
        ("local", "p/x=x", "p/x=x"),
        ("local", "-", "p=h"),
        ("copy", "q=l", "q=h q{copy}=l"),
        ("local", "q=l", "q=l"),
    ] {
        let text = format!("p autosync-conflict={policy}\n/q autosync-conflict={policy}\n");
        let attributed = |words| with(tree(words), ".gitattributes", &text);
        let sides = [
            &attributed("p=b"),
            &attributed("p=h"),
            &attributed(l),
            &attributed(expect),
        ];
        comes_out(&lab, sides);
    }
}

#[test]
fn a_policy_below_a_directory_counts_for_that_directory() {
    let lab = Lab::new();
    let attributed = |words| {
        let text = "*.x autosync-conflict=hub\n\"b y\" autosync-conflict=local\n";
        with(tree(words), "d/.gitattributes", text)
    };
    comes_out(
        &lab,
        [
            &attributed("a.x=b d/a.x=b d/e/a.x=b"),
            &attributed("a.x=h d/a.x=h d/e/a.x=h"),
            &attributed("a.x=k d/a.x=k d/e/a.x=k"),
            &attributed("a.x=h a{copy}.x=k d/a.x=h d/e/a.x=h"),
        ],
    );
}

#[test]
fn each_policy_does_what_it_says_as_default_and_yields_to_attributes() {
    let mut lab = Lab::new();
    for (policy, l, expect) in [
        (Policy::Copy, "p=l", "p=h p{copy}=l"),
        (Policy::Hub, "p=l", "p=h"),
        (Policy::Local, "p=l", "p=l"),
        (Policy::Union, "p=l", "p=hl"),
        (Policy::Merge, "p=l", "p=hl"),
    ] {
        lab.place.settings.conflict = policy;
        comes_out(&lab, [&tree("p=b"), &tree("p=h"), &tree(l), &tree(expect)]);
        let text = "* autosync-conflict=merge\n";
        let attributed = |words| with(tree(words), ".gitattributes", text);
        let sides = [
            &attributed("p=b"),
            &attributed("p=h"),
            &attributed("p=l"),
            &attributed("p=hl"),
        ];
        comes_out(&lab, sides);
    }
}

#[test]
fn a_union_takes_the_lines_of_both() {
    let mut lab = Lab::new();
    lab.place.settings.conflict = Policy::Union;
    let made = lab.merge(&tree("p=b"), &tree("p=h"), &tree("p=k"), Prefer::Hub);
    assert_eq!(made.copies(), 0);
    let Node::File(bytes, _) = &lab.list(made.commit())["p"] else {
        panic!()
    };
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains("edited by the hub\n") && text.contains("edited by the other\n"));
    assert_eq!(text.lines().count(), 9);
}

#[test]
fn a_large_text_is_not_merged_by_lines() {
    let lab = Lab::new();
    let line = "a line of text that is repeated very often\n";
    let middle = line.repeat(5 * 1024 * 1024 / line.len() + 1);
    let text = |first: &str, last: &str| file(&format!("{first}\n{middle}{last}\n"));
    let one = |node| Tree::from([("p".to_owned(), node)]);
    let (b, h, l) = (text("a", "z"), text("b", "z"), text("a", "y"));
    let made = lab.merge(&one(b), &one(h.clone()), &one(l.clone()), Prefer::Hub);
    let found = lab.list(made.commit());
    assert_eq!(found["p"], h);
    assert_eq!(found["p{copy}"], l);
}

#[test]
fn history_that_the_user_rewrote_wins_without_a_copy() {
    let lab = Lab::new();
    for [base, h, l, expect] in [
        ["p=b", "p=h", "p=k", "p=k"],
        ["p=b", "p=h", "p=l", "p=hl"],
        ["p=b", "p=h", "-", "-"],
        ["p=b", "-", "p=l", "p=l"],
        ["p=b", "p=h", "p=@t", "p=@t"],
        ["p=b", "p=h", "p/x=x", "p/x=x"],
        ["p=b", "p/x=x", "p=l", "p=l"],
        ["-", "p=f", "p=g", "p=g"],
        ["p=&1", "p=&2", "p=&3", "p=&3"],
        // What the hub moved to where our file stands goes back to its old name with our edit.
        ["d/z=b p=f", "p/x=b", "d/z=l p=g", "d/z=l p=g"],
    ] {
        let made = lab.merge(&tree(base), &tree(h), &tree(l), Prefer::LocalSilently);
        assert_eq!(lab.list(made.commit()), tree(expect), "{h} / {l}");
        assert_eq!(made.copies(), 0);
    }
}

#[test]
fn what_contains_the_other_needs_no_merge() {
    let lab = Lab::new();
    let first = lab.commit("server", &tree("p=b"), &[]);
    let second = lab.commit("server", &tree("p=h"), &[first]);
    let other = lab.commit("laptop", &tree("p=f"), &[]);
    let outcome = |hub, local| merge(&lab.place, hub, local, Prefer::Hub).unwrap();
    assert_eq!(outcome(first, second), MergeOutcome::UpToDate);
    assert_eq!(outcome(second, second), MergeOutcome::UpToDate);
    assert_eq!(outcome(second, first), MergeOutcome::FastForward);
    assert_eq!(outcome(second, other), MergeOutcome::Unrelated);
}

#[test]
fn a_merge_with_a_given_base_does_not_ask_the_history() {
    let lab = Lab::new();
    let base = lab.commit("server", &tree("p=b"), &[]);
    let hub = lab.commit("server", &tree("p=h"), &[]);
    let local = lab.commit("laptop", &tree("p=l"), &[]);
    let created = |base| {
        let made = merge_with_base(&lab.place, base, hub, local, Prefer::Hub);
        created(&made.unwrap()).0
    };
    let with_base = created(Some(base));
    assert_eq!(lab.list(with_base), tree("p=hl"));
    let parents = lab.place.objects.commit(with_base).unwrap().parents;
    assert_eq!(parents, [hub, local]);
    assert_eq!(lab.list(created(None)), tree("p=h p{copy}=l"));
}

#[test]
fn merges_that_crossed_are_merged_from_all_their_bases() {
    let lab = Lab::new();
    let base = lab.commit("server", &tree("p=b"), &[]);
    let one = lab.commit("server", &tree("p=h"), &[base]);
    let two = lab.commit("laptop", &tree("p=l"), &[base]);
    let both = tree("p=hl");
    let hub = lab.commit("server", &both, &[one, two]);
    let mut changed = tree("p=hl q=f");
    let local = lab.commit("laptop", &changed, &[two, one]);
    let hub = lab.commit("server", &tree("p=hl r=g"), &[hub]);
    let (commit, copies) = created(&merge(&lab.place, hub, local, Prefer::Hub).unwrap());
    assert!(copies.is_empty());
    changed.insert("r".to_owned(), node("g"));
    assert_eq!(lab.list(commit), changed);
}

#[test]
fn after_merges_that_crossed_neither_side_is_taken_for_unchanged() {
    let lab = Lab::new();
    let base = lab.commit("server", &tree("p=b"), &[]);
    let one = lab.commit("laptop", &tree("p=h q=f"), &[base]);
    let two = lab.commit("laptop", &tree("p=k q=g"), &[base]);
    for (h, l) in [(one, two), (two, one)] {
        let [kept, other] = if h == one { ["h", "k"] } else { ["k", "h"] };
        let [f, g] = if h == one { ["f", "g"] } else { ["g", "f"] };
        let side = |host, p, q, parents: &[ObjectId]| {
            lab.commit(host, &tree(&format!("p={p} q={q}")), parents)
        };
        let hub = side("server", kept, f, &[h, l]);
        let local = side("laptop", other, g, &[l, h]);
        let made = merge(&lab.place, hub, local, Prefer::Hub).unwrap();
        let expect = tree(&format!("p={kept} p{{copy}}={other} q={f} q{{copy}}={g}"));
        assert_eq!(lab.list(created(&made).0), expect);
    }
}

#[test]
fn swaps_of_both_sides_are_followed() {
    let lab = Lab::new();
    let words = "a=b c=c d=d e=e";
    let made = lab.merge(
        &tree(words),
        &tree("a=c c=b d=d e=e i=h"),
        &tree("a=l c=c d=e e=d"),
        Prefer::Hub,
    );
    assert_eq!(lab.list(made.commit()), tree("a=c c=l d=e e=d i=h"));
}

#[test]
fn a_filtered_file_is_not_mixed_from_two_ciphertexts() {
    let lab = Lab::new();
    let attributed = |words, more: &str| {
        let text = format!("p filter=secret{more}\n");
        with(tree(words), ".gitattributes", &text)
    };
    let check = |more, expect| {
        let [b, h, l, expect] = ["p=b", "p=h", "p=l", expect].map(|words| attributed(words, more));
        comes_out(&lab, [&b, &h, &l, &expect]);
    };
    check("", "p=h p{copy}=l");
    check(" autosync-conflict=merge", "p=hl");
}

fn raw(lab: &Lab, paths: &[(&[u8], &str)]) -> Edits {
    paths
        .iter()
        .map(|(path, content)| {
            (
                RepoPath::new(path).unwrap(),
                Some(lab.entry(&node(content))),
            )
        })
        .collect()
}

fn merge_raw(
    lab: &Lab,
    [base, h, l]: [&[(&[u8], &str)]; 3],
) -> (ObjectId, BTreeMap<Vec<u8>, Node>) {
    let base = lab.commit_edits("server", &raw(lab, base), &[]);
    let hub = lab.commit_edits("server", &raw(lab, h), &[base]);
    let local = lab.commit_edits("laptop", &raw(lab, l), &[base]);
    let made = merge(&lab.place, hub, local, Prefer::Hub).unwrap();
    let commit = created(&made).0;
    (commit, lab.list_raw(commit))
}

#[test]
fn names_are_bytes() {
    let lab = Lab::new();
    let odd: &[u8] = b"d\xff\n*?[\\\"/\xe4 \x01.txt";
    let (commit, found) = merge_raw(&lab, [&[(odd, "y0")], &[(odd, "y1")], &[(odd, "y2")]]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[odd], node("y1"));
    let copy = found.keys().find(|name| *name != odd).unwrap();
    assert!(copy.starts_with(b"d\xff\n*?[\\\"/\xe4 \x01 (conflict laptop 2026-11-20 "));
    let listed = conflicts(&lab.place, commit).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].path.as_bytes(), odd);
    assert_eq!(listed[0].copy.as_bytes(), copy.as_slice());
}

#[test]
fn a_copy_of_a_long_name_still_fits_the_disk() {
    let lab = Lab::new();
    let name = format!("{}.txt", "\u{e4}".repeat(125));
    let long = name.as_bytes();
    let (_, found) = merge_raw(&lab, [&[(long, "b")], &[(long, "h")], &[(long, "k")]]);
    let copy = found.keys().find(|name| *name != long).unwrap();
    assert!(copy.len() <= 255);
    let copy = std::str::from_utf8(copy).unwrap();
    assert!(copy.ends_with(").txt") && copy.contains(" (conflict laptop 2026-11-20 "));
}

/// Returns the only copy that a conflict at `p` makes.
fn copy_of(lab: &Lab, h: &Tree, l: &Tree) -> Option<String> {
    let made = lab.merge(&tree("p=b"), h, l, Prefer::Hub);
    let (_, copies) = created(&made.outcome);
    assert!(copies.len() <= 1);
    copies.first().map(|copy| copy.copy.to_string())
}

#[test]
fn a_copy_takes_a_name_that_is_free_in_both_trees_and_on_the_disk() {
    let lab = Lab::new();
    let first = copy_of(&lab, &tree("p=h"), &tree("p=k")).unwrap();
    assert!(first.ends_with(')'), "{first}");
    let second = first.replace(')', " 2)");

    let taken = with(tree("p=h"), &first, "something else\n");
    assert_eq!(copy_of(&lab, &taken, &tree("p=k")), Some(second.clone()));
    let taken = with(tree("p=k"), &first, "something else\n");
    assert_eq!(copy_of(&lab, &tree("p=h"), &taken), Some(second.clone()));

    fs::write(lab.place.root().join(&first), "untracked").unwrap();
    assert_eq!(copy_of(&lab, &tree("p=h"), &tree("p=k")), Some(second));
    let untouched = fs::read(lab.place.root().join(&first)).unwrap();
    assert_eq!(untouched, b"untracked");
}

#[test]
fn a_copy_that_git_would_ignore_is_named_otherwise() {
    let lab = Lab::new();
    fs::write(lab.place.root().join(".gitignore"), "*)\n").unwrap();
    let copy = copy_of(&lab, &tree("p=h"), &tree("p=k")).unwrap();
    assert!(copy.ends_with(").conflict"), "{copy}");
}

#[test]
fn the_question_what_is_ignored_takes_names_literally() {
    let lab = Lab::new();
    fs::write(lab.place.root().join(".gitignore"), "\\:!x\n*.o\n").unwrap();
    let paths = [":!x", ":(top)y", ":y.o", "y*", "y.o"].map(|p| RepoPath::new(p).unwrap());
    let asked: Vec<&RepoPath> = paths.iter().collect();
    let ignored = autosync::repo::filter::ignored(&lab.place, &asked).unwrap();
    let wanted = [&paths[0], &paths[2], &paths[4]];
    assert_eq!(ignored.iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn the_same_version_is_not_copied_twice() {
    let lab = Lab::new();
    let mut h = tree("p=h");
    let name = "p (conflict tablet 2020-02-02 1234567)";
    h.insert(name.to_owned(), node("k"));
    assert_eq!(copy_of(&lab, &h, &tree("p=k")), None);
    // Another version under such a name is no reason to drop ours.
    h.insert(name.to_owned(), node("g"));
    assert!(copy_of(&lab, &h, &tree("p=k")).is_some());
}

#[test]
fn a_copy_that_was_there_before_both_sides_began_is_no_copy_of_what_loses_now() {
    let lab = Lab::new();
    let name = "p (conflict tablet 2020-02-02 1234567)";
    let side = |text: &str| {
        let mut side = tree(text);
        side.insert(name.to_owned(), node("k"));
        side
    };
    // The user brought the copy's version back, and may be about to remove the copy.
    let made = lab.merge(&side("p=b"), &side("p=h"), &side("p=k"), Prefer::Hub);
    let found = lab.list(made.commit());
    assert_eq!(found["p"], node("h"));
    assert_eq!(found["p{copy}"], node("k"));
    assert_eq!(found[name], node("k"));
}

#[test]
fn an_edit_of_what_moved_onto_a_name_that_was_taken_stays_though_a_directory_came_in_its_place() {
    let lab = Lab::new();
    let old = "one\ntwo\nthree\nfour\nfive\n";
    let edited = "one\ntwo\nthree\nfour\nfive\nEDIT\n";
    let base = with(tree("s=s"), "d/f", old);
    // One side moves the file and makes a directory of its name, the other edits the file and has
    // one of its own where it was moved to.
    let moved = with(with(tree("s=s"), "d/g", old), "d/f/new", "new\n");
    let kept = with(with(tree("s=s"), "d/f", edited), "d/g", "other\n");
    for (hub, local) in [(&moved, &kept), (&kept, &moved)] {
        let made = lab.merge(&base, hub, local, Prefer::Hub);
        let found = lab.list(made.commit());
        for content in [edited, "new\n", "other\n"] {
            let stands = found.values().any(|it| *it == file(content));
            assert!(stands, "{content:?} is in no file of {found:#?}");
        }
    }
}

#[test]
fn a_copy_of_a_copy_does_not_nest_its_name() {
    let lab = Lab::new();
    let name = "p (conflict tablet 2020-02-02 1234567).txt";
    let one = |content| with(tree("-"), name, content);
    let made = lab.merge(&one("1\n"), &one("2\n"), &one("3\n"), Prefer::Hub);
    let found = lab.list(made.commit());
    assert_eq!(found["p{copy}.txt"], file("3\n"));
    assert_eq!(found[name], file("2\n"));
}

#[test]
fn a_copy_names_the_commit_that_lost_not_the_newest() {
    let lab = Lab::new();
    let base = lab.commit("server", &tree("p=b"), &[]);
    let hub = lab.commit("server", &tree("p=h"), &[base]);
    let edits = raw(&lab, &[(b"p", "k")]);
    let old = autosync::git::tree::build(&lab.place.objects, None, &edits).unwrap();
    let who = autosync::git::objects::Identity {
        name: "A. Person/<x>".to_owned(),
        email: "person@home".to_owned(),
    };
    // Late on the 31st in its own zone, already the 1st in UTC; made by a person, not the agent.
    let when = (1_767_225_600 + 3_600, -300);
    let write = lab
        .place
        .objects
        .write_commit(old.unwrap(), &[base], &who, when, "by hand\n");
    let local = lab.commit("laptop", &tree("p=k q=f"), &[write.unwrap()]);
    let (commit, copies) = created(&merge(&lab.place, hub, local, Prefer::Hub).unwrap());
    assert_eq!(copies[0].host, "A. Person-x");
    assert_eq!(copies[0].since, "2025-12-31T20:00:00-05:00");
    assert!(
        copies[0]
            .copy
            .to_string()
            .starts_with("p (conflict A. Person-x 2025-12-31 ")
    );
    assert_eq!(conflicts(&lab.place, commit).unwrap(), copies);
}

#[test]
fn conflicts_are_listed_while_their_copies_stand() {
    let lab = Lab::new();
    let sides = [
        tree("a=b c/d.txt=b"),
        tree("a=h c/d.txt=h"),
        tree("a=k c/d.txt=k"),
    ];
    let made = lab.merge(&sides[0], &sides[1], &sides[2], Prefer::Hub);
    let commit = made.commit();
    let (_, copies) = created(&made.outcome);
    assert_eq!(copies.len(), 2);
    assert_eq!(conflicts(&lab.place, commit).unwrap(), copies);
    let mut later = lab.list_raw(commit);
    later.remove(copies[0].copy.as_bytes());
    later.insert(
        b"unrelated (conflict laptop 2026-11-20 1234567)".to_vec(),
        node("f"),
    );
    let later = later
        .into_iter()
        .map(|(path, node)| (String::from_utf8(path).unwrap(), node))
        .collect();
    let tip = lab.commit("laptop", &later, &[commit]);
    assert_eq!(conflicts(&lab.place, tip).unwrap(), copies[1..]);
    let since = |older| conflicts_since(&lab.place, tip, Some(older)).unwrap();
    assert_eq!(since(commit), []);
    let parents = lab.place.objects.commit(commit).unwrap().parents;
    assert_eq!(since(parents[1]), copies[1..]);
}

#[test]
fn the_message_says_what_came_to_the_hub_and_what_was_kept_twice() {
    let lab = Lab::new();
    let made = lab.merge(
        &tree("p=b q=f"),
        &tree("p=h q=f"),
        &tree("p=k q=g"),
        Prefer::Hub,
    );
    let message = lab.place.objects.commit(made.commit()).unwrap().message;
    let message = String::from_utf8(message).unwrap();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "laptop: merge 2 files, 1 conflict copy");
    assert!(lines[2].starts_with("add p (conflict laptop"), "{message}");
    assert_eq!(lines[3], "change q");
    assert!(message.contains("\n\nAutosync-Host: laptop\nAutosync-Trigger: merge\n"));
    assert!(message.contains("\nAutosync-Conflict: p -> p (conflict laptop 2026-11-20 "));
}

#[test]
fn a_shallow_clone_merges() {
    let lab = Lab::new();
    let mut tip = lab.commit("server", &tree("p=b o=1"), &[]);
    for count in 2..6 {
        tip = lab.commit("server", &tree(&format!("p=b o={count}")), &[tip]);
    }
    let git = &lab.place.git;
    git.call("update-ref", ["refs/heads/main", &tip.to_string()], b"")
        .unwrap();
    let url = format!("file://{}", git.dir().display());
    let root = lab.outside().join("shallow");
    let mut clone = plain_git(lab.outside());
    clone.args(["clone", "-q", "--depth", "1", &url]).arg(&root);
    run(&mut clone, b"", LOCAL, "clone").unwrap();
    let settings = Settings {
        root,
        ..lab.place.settings.clone()
    };
    let shallow = Lab::around(Place::open(settings).unwrap());
    let hub = shallow.commit("server", &tree("p=h o=5"), &[tip]);
    let local = shallow.commit("laptop", &tree("p=l o=5"), &[tip]);
    let (commit, _) = created(&merge(&shallow.place, hub, local, Prefer::Hub).unwrap());
    assert_eq!(shallow.list(commit), tree("p=hl o=5"));
}

#[test]
fn a_linked_work_tree_merges_with_the_objects_of_its_repository() {
    let lab = Lab::new();
    let base = lab.commit("server", &tree("p=b"), &[]);
    let git = &lab.place.git;
    let root = lab.outside().join("linked");
    let path = root.to_str().unwrap();
    let args = ["add", "-q", "--detach", path, &base.to_string()];
    git.call("worktree", args, b"").unwrap();
    let settings = Settings {
        root,
        ..lab.place.settings.clone()
    };
    let linked = Lab::around(Place::open(settings).unwrap());
    assert_ne!(linked.place.git.dir(), git.dir());
    let made = linked.merge(&tree("p=b"), &tree("p=h"), &tree("p=l"), Prefer::Hub);
    assert_eq!(lab.list(made.commit()), tree("p=hl"));
}

#[test]
fn attributes_at_hostile_places_stay_in_their_directory() {
    let lab = Lab::new();
    let blob = |content: &str| {
        let id = lab.place.objects.write(Kind::Blob, content.as_bytes());
        Entry {
            mode: FILE,
            id: id.unwrap(),
        }
    };
    let link = Entry {
        mode: SYMLINK,
        ..blob("../../../../../canary")
    };
    let trees = ["b", "h", "l"].map(|content| {
        let mut edits = Edits::new();
        let mut put = |path: &str, entry| edits.insert(RepoPath::new(path).unwrap(), Some(entry));
        put(".GIT/.gitattributes", blob("* -merge\n"));
        put(".GIT/x", lab.entry(&node(content)));
        put("link/.gitattributes", link);
        put("link/x", lab.entry(&node(content)));
        edits
    });
    let base = lab.commit_edits("server", &trees[0], &[]);
    let hub = lab.commit_edits("server", &trees[1], &[base]);
    let local = lab.commit_edits("laptop", &trees[2], &[base]);
    let (commit, _) = created(&merge(&lab.place, hub, local, Prefer::Hub).unwrap());
    assert_eq!(lab.list(commit)["link/x"], node("hl"));
    assert!(!lab.place.store.join("merge.tree/.GIT").exists());
    assert!(!lab.place.store.join("merge.tree/link").exists());
}

#[test]
fn a_submodule_that_both_moved_is_reported_in_the_history() {
    let lab = Lab::new();
    let made = lab.merge(&tree("p=&1"), &tree("p=&2"), &tree("p=&3"), Prefer::Hub);
    assert_eq!(lab.list(made.commit()), tree("p=&2"));
    let commit = lab.place.objects.commit(made.commit()).unwrap();
    assert_eq!(commit.trailers("Autosync-Submodule"), ["p"]);
}

#[test]
fn commits_are_by_whom_gits_configuration_names_last() {
    let lab = Lab::new();
    let git = &lab.place.git;
    git.call("config", ["--add", "user.name", "Another"], b"")
        .unwrap();
    let who = lab.place.identity().unwrap();
    assert_eq!(
        (who.name.as_str(), who.email.as_str()),
        ("Another", "person@home")
    );
    git.call("config", ["--unset-all", "user.email"], b"")
        .unwrap();
    // The answer is kept for a while; a place that is opened anew asks again.
    let place = Place::open(lab.place.settings.clone()).unwrap();
    let email = place.identity().unwrap().email;
    assert!(email != "person@home" && email.contains('@'), "{email}");
}
