//! Merges with a version in which somebody's git left conflict markers.

use autosync::git::tree;
use autosync::names::{ObjectId, RepoPath};
use autosync::repo::merge::{Prefer, merge};

use super::lab::{Lab, created, programs};
use super::table::{Node, Tree};

const LINES: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n";

fn marked() -> String {
    LINES.replace(
        "two\n",
        "<<<<<<< HEAD\nII\n=======\n2\n>>>>>>> origin/main\n",
    )
}

fn files(all: &[(&str, &str)]) -> Tree {
    let file = |text: &str| Node::File(text.as_bytes().to_vec(), false);
    all.iter()
        .map(|(path, text)| ((*path).to_owned(), file(text)))
        .collect()
}

/// Writes a commit as a person with git does.
fn by_hand(lab: &Lab, tree: &Tree, parents: &[ObjectId]) -> ObjectId {
    let edits = tree
        .iter()
        .map(|(path, node)| (RepoPath::new(path).unwrap(), Some(lab.entry(node))))
        .collect();
    let tree = tree::build(&lab.place.objects, None, &edits).unwrap();
    lab.commit_tree(tree.unwrap(), parents, "by hand\n")
}

/// Merges in both programs and returns what stands.
fn each(check: impl Fn(&Lab)) {
    for program in programs() {
        let lab = Lab::with(&program, "sha1");
        check(&lab);
        lab.fsck();
    }
}

#[test]
fn whichever_side_has_the_markers_they_are_not_mixed_with_an_edit() {
    let mine = LINES.replace("nine", "IX");
    each(|lab| {
        let base = lab.commit("server", &files(&[("p", LINES)]), &[]);
        let plain = by_hand(lab, &files(&[("p", &marked())]), &[base]);
        let edit = lab.commit("laptop", &files(&[("p", &mine)]), &[base]);
        for (hub, local, stands, beside) in [
            (plain, edit, marked(), mine.clone()),
            (edit, plain, mine.clone(), marked()),
        ] {
            // A later version of this host would stand without a copy; not so here.
            for prefer in [Prefer::Hub, Prefer::LocalSilently] {
                let outcome = merge(&lab.place, hub, local, prefer).unwrap();
                let (commit, copies) = created(&outcome);
                assert_eq!(copies.len(), 1, "{prefer:?}");
                let found = lab.list_raw(commit);
                let copy = copies[0].copy.as_bytes();
                assert_eq!(found.len(), 2, "{found:?}");
                let file = |text: &str| Node::File(text.as_bytes().to_vec(), false);
                assert_eq!(found[&b"p"[..]], file(&stands));
                assert_eq!(found[copy], file(&beside));
            }
        }
    });
}

#[test]
fn markers_follow_no_rename_into_an_edit() {
    let mine = LINES.replace("nine", "IX");
    each(|lab| {
        let base = lab.commit("server", &files(&[("p", LINES)]), &[]);
        let plain = by_hand(lab, &files(&[("p", &marked())]), &[base]);
        let edit = lab.commit("laptop", &files(&[("q", &mine)]), &[base]);
        let moved = by_hand(lab, &files(&[("q", &marked())]), &[base]);
        let stays = lab.commit("laptop", &files(&[("p", &mine)]), &[base]);
        let other = lab.commit("laptop", &files(&[("r", &mine)]), &[base]);
        for (a, b) in [(plain, edit), (moved, stays), (moved, other)] {
            for (hub, local) in [(a, b), (b, a)] {
                let outcome = merge(&lab.place, hub, local, Prefer::Hub).unwrap();
                let found = lab.list_raw(created(&outcome).0);
                let texts: Vec<String> = found
                    .values()
                    .map(|node| match node {
                        Node::File(text, _) => String::from_utf8(text.clone()).unwrap(),
                        Node::Link(_) | Node::Submodule(_) => panic!("{found:?}"),
                    })
                    .collect();
                let only_sides = texts.iter().all(|text| *text == mine || *text == marked());
                assert!(only_sides, "{found:?}");
                assert!(texts.contains(&mine) && texts.contains(&marked()));
            }
        }
    });
}

#[test]
fn what_had_the_markers_before_or_got_them_from_a_host_of_ours_is_merged() {
    let mine = LINES.replace("nine", "IX");
    each(|lab| {
        let base = lab.commit("server", &files(&[("p", LINES)]), &[]);
        let edit = lab.commit("laptop", &files(&[("p", &mine)]), &[base]);
        let ours = lab.commit("server", &files(&[("p", &marked())]), &[base]);
        // Somebody's git goes on with what a host of ours wrote.
        let later = marked().replace("five", "V");
        let on = by_hand(lab, &files(&[("p", &later)]), &[ours]);
        // Somebody's git brought them, and a person went on with that on a host of ours.
        let plain = by_hand(lab, &files(&[("p", &marked())]), &[base]);
        let settled = lab.commit("server", &files(&[("p", &later)]), &[plain]);
        // They were there all the time.
        let there = by_hand(lab, &files(&[("p", &marked())]), &[]);
        let hand = by_hand(lab, &files(&[("p", &later)]), &[there]);
        let both = marked().replace("nine", "IX");
        let with = lab.commit("laptop", &files(&[("p", &both)]), &[there]);
        for (hub, local, text) in [
            (ours, edit, &both),
            (on, edit, &both.replace("five", "V")),
            (settled, edit, &both.replace("five", "V")),
            (hand, with, &both.replace("five", "V")),
        ] {
            let outcome = merge(&lab.place, hub, local, Prefer::Hub).unwrap();
            let found = lab.list(created(&outcome).0);
            assert_eq!(found, files(&[("p", text)]));
        }
    });
}
