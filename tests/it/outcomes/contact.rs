//! First contact of a folder with a hub.

use autosync::engine::action::Job;
use autosync::engine::event::{Code, Event, Merged, Recovery};
use autosync::git::refs;
use autosync::names::ObjectId;
use autosync::repo::contact::{Contact, DISCARDED, ID_KEY, first_contact, identify};
use autosync::repo::copies::conflicts;
use autosync::repo::folder::Folder;

use super::lab::{Lab, created};
use super::table::{Node, Tree, tree};

fn contact(lab: &Lab, hub: ObjectId, local: Option<ObjectId>) -> Contact {
    first_contact(&lab.place, hub, local).unwrap()
}

fn id(lab: &Lab) -> Option<String> {
    lab.place.git.config(ID_KEY).unwrap()
}

/// A hub with two commits; returns its root and its tip.
fn hub(lab: &Lab, before: &Tree, now: &Tree) -> (ObjectId, ObjectId) {
    let root = lab.commit("server", before, &[]);
    (root, lab.commit("server", now, &[root]))
}

fn adopted(contact: Contact) -> (ObjectId, usize) {
    let Contact::Adopted { commit, copies } = contact else {
        panic!("{contact:?}");
    };
    (commit, copies.len())
}

fn by_a_person(lab: &Lab, tree: &Tree, parents: &[ObjectId]) -> ObjectId {
    let made = lab.commit("laptop", tree, parents);
    let made = lab.place.objects.commit(made).unwrap().tree;
    lab.commit_tree(made, parents, "by hand\n")
}

#[test]
fn an_empty_folder_adopts_the_hub_as_it_is() {
    let lab = Lab::new();
    let (root, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    assert_eq!(adopted(contact(&lab, tip, None)), (tip, 0));
    assert_eq!(id(&lab), Some(root.to_string()));
}

#[test]
fn equal_files_vanish() {
    let lab = Lab::new();
    let (_, tip) = hub(&lab, &tree("p=b"), &tree("p=h d/q=f"));
    let local = lab.commit("laptop", &tree("p=h d/q=f"), &[]);
    assert_eq!(adopted(contact(&lab, tip, Some(local))), (tip, 0));
    let kept = refs::read(&lab.place.git, &lab.place.objects, DISCARDED);
    assert_eq!(kept.unwrap(), Some(local));
}

#[test]
fn local_files_become_edits_on_top_of_the_hubs_history() {
    let lab = Lab::new();
    for (before, now, local, expect, copies) in [
        // New here, new there.
        ("a=f", "a=f", "b=g", "a=f b=g", 0),
        // Merely old: an earlier version, one that the hub deleted, one that became a directory.
        ("p=b", "p=h", "p=b n=n", "p=h n=n", 0),
        ("p=b q=f", "q=f", "p=b q=f n=n", "q=f n=n", 0),
        ("p=b", "p/x=x", "p=b n=n", "p/x=x n=n", 0),
        ("p/x=x", "p=b", "p/x=x n=n", "p=b n=n", 0),
        // Neither.
        ("p=b", "p=h", "p=l", "p=h p{copy}=l", 1),
        ("p=b", "p/x=x", "p=l", "p/x=x p{copy}=l", 1),
        ("p=b", "p=h", "p/y=y", "p=h p{copy}/y=y", 1),
        ("p=b", "p=h", "p=@t", "p=h p{copy}=@t", 1),
        ("p=@t", "p=@u", "p=@t n=n", "p=@u n=n", 0),
        // The old version of another path is no old version of this one.
        ("p=b q=f", "p=h q=f", "q=b", "p=h q=f q{copy}=b", 1),
        // A mode alone is no edit.
        ("p=b", "p=h", "p=h+x n=n", "p=h n=n", 0),
    ] {
        let (_, tip) = hub(&lab, &tree(before), &tree(now));
        let old = lab.commit("laptop", &tree("n=n"), &[]);
        let local = lab.commit("laptop", &tree(local), &[old]);
        lab.place
            .git
            .ask("config", ["--unset", ID_KEY], b"")
            .unwrap();
        let (commit, made) = adopted(contact(&lab, tip, Some(local)));
        assert_eq!(lab.list(commit), tree(expect), "{expect}");
        assert_eq!(made, copies, "{expect}");
        let parents = lab.place.objects.commit(commit).unwrap().parents;
        assert_eq!(parents, [tip], "the discarded root is no parent");
        let listed = conflicts(&lab.place, commit).unwrap();
        assert_eq!(listed.len(), copies);
        assert!(listed.iter().all(|copy| copy.host == "laptop"));
    }
}

#[test]
fn an_old_version_counts_on_whatever_branch_of_the_history_it_was() {
    let lab = Lab::new();
    let root = lab.commit("server", &tree("p=b"), &[]);
    let one = lab.commit("server", &tree("p=h"), &[root]);
    let two = lab.commit("tablet", &tree("p=k"), &[root]);
    let tip = lab.commit("server", &tree("p=h"), &[one, two]);
    let local = lab.commit("laptop", &tree("p=k"), &[]);
    assert_eq!(adopted(contact(&lab, tip, Some(local))), (tip, 0));
}

#[test]
fn a_thousand_old_files_give_way() {
    let lab = Lab::new();
    let many = |version: &str| -> Tree {
        (0..1000)
            .map(|count| {
                let content = format!("{count} {version}\n").into_bytes();
                (
                    format!("d{}/{count}", count % 7),
                    Node::File(content, false),
                )
            })
            .collect()
    };
    let (_, tip) = hub(&lab, &many("old"), &many("new"));
    let mut mine = many("old");
    mine.insert("own".to_owned(), Node::File(b"own\n".to_vec(), false));
    let local = lab.commit("laptop", &mine, &[]);
    let (commit, copies) = adopted(contact(&lab, tip, Some(local)));
    assert_eq!(copies, 0);
    let mut expect = many("new");
    expect.insert("own".to_owned(), Node::File(b"own\n".to_vec(), false));
    assert_eq!(lab.list(commit), expect);
}

#[test]
fn related_histories_merge_as_always() {
    let lab = Lab::new();
    let (root, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let local = by_a_person(&lab, &tree("p=l"), &[root]);
    assert_eq!(contact(&lab, tip, Some(local)), Contact::Related);
    assert_eq!(id(&lab), Some(root.to_string()));
}

#[test]
fn unrelated_histories_of_people_are_held_and_nothing_is_touched() {
    let lab = Lab::new();
    let (_, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let roots = [
        by_a_person(&lab, &tree("p=l"), &[]),
        // The agent began, a person went on.
        by_a_person(
            &lab,
            &tree("p=k"),
            &[lab.commit("laptop", &tree("p=f"), &[])],
        ),
        // A person began, the agent went on.
        lab.commit(
            "laptop",
            &tree("p=k"),
            &[by_a_person(&lab, &tree("p=f"), &[])],
        ),
    ];
    for local in roots {
        let Contact::Unrelated(trouble) = contact(&lab, tip, Some(local)) else {
            panic!()
        };
        assert_eq!(trouble.code, Code::Unrelated);
        assert_eq!(trouble.recovery, Recovery::Hold);
        assert!(!trouble.message.is_empty() && !trouble.hint.is_empty());
        assert_eq!(id(&lab), None);
        let kept = refs::read(&lab.place.git, &lab.place.objects, DISCARDED);
        assert_eq!(kept.unwrap(), None);
    }
}

#[test]
fn a_folder_that_knows_its_hub_takes_no_other() {
    let lab = Lab::new();
    let (root, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    contact(&lab, tip, None);
    let (_, other) = hub(&lab, &tree("x=x"), &tree("x=y"));
    let mine = lab.commit("laptop", &tree("p=h"), &[tip]);
    for local in [None, Some(mine), Some(other)] {
        let found = contact(&lab, other, local);
        assert!(matches!(found, Contact::Unrelated(_)), "{found:?}");
    }
    assert_eq!(id(&lab), Some(root.to_string()));
}

#[test]
fn what_gave_way_and_still_stands_gives_way_again() {
    let lab = Lab::new();
    let (_, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let local = lab.commit("laptop", &tree("p=l n=n"), &[]);
    let (mine, _) = adopted(contact(&lab, tip, Some(local)));
    // Pushed, and not applied yet: the hub has all that is here.
    assert_eq!(adopted(contact(&lab, mine, Some(local))), (mine, 0));
    // Somebody else was first, and here the work went on.
    let newer = lab.commit("tablet", &tree("p=h m=m"), &[tip]);
    let later = lab.commit("laptop", &tree("p=l n=k"), &[local]);
    let (commit, copies) = adopted(contact(&lab, newer, Some(later)));
    assert_eq!(lab.list(commit), tree("p=h p{copy}=l n=k m=m"));
    assert_eq!(copies, 1);
}

#[test]
fn the_identity_is_the_root_that_first_parents_lead_to() {
    let lab = Lab::new();
    let (root, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let (_, other) = hub(&lab, &tree("x=x"), &tree("x=y"));
    let joined = lab.commit("server", &tree("p=h x=y"), &[tip, other]);
    assert_eq!(
        identify(&lab.place, joined).unwrap(),
        Some(root.to_string())
    );
    // Once written, it stays, whatever the tip.
    assert_eq!(identify(&lab.place, other).unwrap(), Some(root.to_string()));
}

#[test]
fn what_was_adopted_merges_with_what_others_push_meanwhile() {
    let lab = Lab::new();
    let (_, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let local = lab.commit("laptop", &tree("p=k n=n"), &[]);
    let (mine, _) = adopted(contact(&lab, tip, Some(local)));
    let newer = lab.commit("tablet", &tree("p=h m=m"), &[tip]);
    let merged =
        autosync::repo::merge::merge(&lab.place, newer, mine, autosync::repo::merge::Prefer::Hub);
    let (commit, _) = created(&merged.unwrap());
    assert_eq!(lab.list(commit), tree("p=h p{copy}=k n=n m=m"));
}

#[test]
fn a_sha256_folder_makes_contact_too() {
    let lab = Lab::with(std::path::Path::new("git"), "sha256");
    let (root, tip) = hub(&lab, &tree("p=b q=f"), &tree("p=h q=g"));
    let local = lab.commit("laptop", &tree("p=b q=n"), &[]);
    let (commit, copies) = adopted(contact(&lab, tip, Some(local)));
    assert_eq!(lab.list(commit), tree("p=h q=g q{copy}=n"));
    assert_eq!(copies, 1);
    assert_eq!(id(&lab), Some(root.to_string()));
}

#[test]
fn what_a_first_contact_made_outlives_a_garbage_collection_of_the_user() {
    let lab = Lab::new();
    let (_, tip) = hub(&lab, &tree("p=b"), &tree("p=h"));
    let local = lab.commit("laptop", &tree("n=n"), &[]);
    for (name, id) in [
        ("refs/heads/main", local),
        ("refs/remotes/origin/main", tip),
    ] {
        refs::set(&lab.place.git, &lab.place.objects, name, Some(id)).unwrap();
    }
    let mut folder = Folder::open(lab.place.settings.clone()).unwrap();
    let merged = folder.run(Job::Merge { hub: tip }, &mut |_| {});
    let Event::Merged(Merged::Created { commit, .. }) = merged else {
        panic!("{merged:?}");
    };
    let git = &lab.place.git;
    git.call("gc", ["-q", "--prune=now"], b"").unwrap();
    let files = git.call("ls-tree", ["--name-only", &commit.to_string()], b"");
    let files = String::from_utf8(files.unwrap()).unwrap();
    let files: Vec<&str> = files.lines().collect();
    assert!(files.contains(&"n") && files.contains(&"p"), "{files:?}");
}
