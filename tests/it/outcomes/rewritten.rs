//! History that the user rewrote after it was published.

use std::path::Path;

use autosync::names::ObjectId;
use autosync::repo::rewritten::rewritten;

use super::lab::Lab;
use super::table::tree;

fn move_branch(lab: &Lab, to: ObjectId) {
    let args = ["-m", "a test", "refs/heads/main", &to.to_string()];
    lab.place.git.call("update-ref", args, b"").unwrap();
}

fn check(lab: &Lab) {
    let is_rewritten = |hub, tip| rewritten(&lab.place, hub, tip).unwrap();
    let base = lab.commit("server", &tree("p=b"), &[]);
    move_branch(lab, base);
    let published = lab.commit("laptop", &tree("p=h"), &[base]);
    move_branch(lab, published);

    // Others went on, and so did we.
    let theirs = lab.commit("server", &tree("p=h q=f"), &[published]);
    let ours = lab.commit("laptop", &tree("p=h r=g"), &[published]);
    move_branch(lab, ours);
    assert!(!is_rewritten(theirs, ours));
    assert!(!is_rewritten(published, ours));
    assert!(!is_rewritten(ours, published));

    // What was never published may be rewritten as one likes.
    let again = lab.commit("laptop", &tree("p=h r=n"), &[published]);
    move_branch(lab, again);
    assert!(!is_rewritten(theirs, again));

    // The published commit is amended, and there are more commits on top.
    let amended = lab.commit("laptop", &tree("p=k"), &[base]);
    move_branch(lab, amended);
    assert!(is_rewritten(theirs, amended));
    let more = lab.commit("laptop", &tree("p=k s=f"), &[amended]);
    move_branch(lab, more);
    assert!(is_rewritten(theirs, more));

    // Once merged, it is settled.
    let merged = lab.commit("laptop", &tree("p=k q=f s=f"), &[theirs, more]);
    move_branch(lab, merged);
    let theirs = lab.commit("server", &tree("p=k q=g s=f"), &[merged]);
    let ours = lab.commit("laptop", &tree("p=k q=f s=g"), &[merged]);
    move_branch(lab, ours);
    assert!(!is_rewritten(theirs, ours));
}

#[test]
fn an_amended_published_commit_is_seen_until_it_is_merged() {
    check(&Lab::new());
    check(&Lab::with(Path::new("git"), "sha256"));
}

#[test]
fn a_branch_without_a_reflog_was_not_rewritten() {
    for format in ["sha1", "sha256"] {
        let lab = Lab::with(Path::new("git"), format);
        let base = lab.commit("server", &tree("p=b"), &[]);
        let hub = lab.commit("server", &tree("p=h"), &[base]);
        let tip = lab.commit("laptop", &tree("p=l"), &[base]);
        assert!(!rewritten(&lab.place, hub, tip).unwrap());
    }
}
