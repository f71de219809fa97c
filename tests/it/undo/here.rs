//! Only here: this disk goes back, the others keep what they have.

use super::{alone, listed};
use crate::pair::Pair;

const OLD: &str = "one\n2\n3\n4\n5\n6\nseven\n";
const NEW: &str = "ONE\n2\n3\n4\n5\n6\nseven\n";

/// A pair that has the new version, where the laptop went back to the old one alone.
fn gone_back() -> Pair {
    let pair = Pair::new(&[("notes", OLD), ("gone", "1\n"), ("other", "1\n")]);
    let here = &pair.laptop;
    here.write("notes", NEW);
    here.write("new", "n\n");
    here.remove("gone");
    pair.converge("new");
    let said = alone(here, &["undo", "--only-here", "--dry-run"]).ok();
    assert!(said.contains("on this computer only"), "{said}");
    let _said = alone(here, &["undo", "--only-here", "-y"]).ok();
    assert_eq!(here.read("notes"), OLD);
    assert_eq!(here.read("gone"), "1\n");
    assert!(!here.at("new").exists());
    pair
}

#[test]
fn others_keep_what_they_have_and_a_redo_ends_it() {
    let pair = gone_back();
    let (here, there) = (&pair.laptop, &pair.server);
    let tip = there.git(&["rev-parse", "HEAD"]);
    pair.converge("only here");
    assert_eq!(there.git(&["rev-parse", "HEAD"]), tip, "nobody is told");
    assert_eq!(here.git(&["rev-parse", "HEAD"]), tip);
    assert_eq!(
        (here.read("notes"), there.read("notes")),
        (OLD.into(), NEW.into())
    );
    // A file that only this disk has is new to git; nothing else is to be seen.
    assert_eq!(here.git(&["status", "--porcelain"]), "?? gone");
    assert_eq!(listed(here)[0]["only_here"], true);
    let ran = here.once();
    assert!(
        ran.out.contains("brought back on this computer only"),
        "{ran:?}"
    );
    let _said = alone(here, &["redo", "-y"]).ok();
    pair.converge("ended");
    pair.assert_settled("ended");
    assert_eq!(here.read("notes"), NEW);
    assert_eq!(
        there.git(&["rev-parse", "HEAD"]),
        tip,
        "no commit was needed"
    );
    let said = alone(here, &["redo", "-y"]).fails(1);
    assert!(said.contains("there is no undo to take back"), "{said}");
}

#[test]
fn what_comes_in_meanwhile_does_not_end_it_and_a_redo_then_takes_the_newest() {
    let pair = gone_back();
    let (here, there) = (&pair.laptop, &pair.server);
    there.write("notes", NEW.replace("seven", "SEVEN"));
    there.write("other", "2\n");
    let _ran = there.once().ok();
    let _ran = here.once().ok();
    assert_eq!(here.read("notes"), OLD, "only here goes on");
    assert_eq!(here.read("other"), "2\n");
    let _said = alone(here, &["redo", "-y"]).ok();
    assert_eq!(here.read("notes"), NEW.replace("seven", "SEVEN"));
    pair.converge("ended");
    pair.assert_settled("ended");
}

#[test]
fn an_edit_of_it_is_merged_with_what_the_others_have() {
    let pair = gone_back();
    let (here, there) = (&pair.laptop, &pair.server);
    here.write("notes", OLD.replace("seven", "TOKEN-seven"));
    pair.converge("edited");
    let both = NEW.replace("seven", "TOKEN-seven");
    assert_eq!(
        (here.read("notes"), there.read("notes")),
        (both.clone(), both)
    );
    // The other paths stay only here.
    assert_eq!(here.read("gone"), "1\n");
    let _said = alone(here, &["redo", "-y"]).ok();
    pair.converge("ended");
    pair.assert_settled("ended");
}

#[test]
fn one_after_the_other_goes_further_back_here() {
    let pair = Pair::new(&[("a", "1\n"), ("b", "1\n")]);
    let here = &pair.laptop;
    for (name, text) in [("a", "2\n"), ("b", "2\n"), ("a", "3\n")] {
        here.write(name, text);
        let _ran = here.once().ok();
    }
    for (a, b) in [("2\n", "2\n"), ("2\n", "1\n"), ("1\n", "1\n")] {
        let _said = alone(here, &["undo", "--only-here", "-y"]).ok();
        assert_eq!((here.read("a"), here.read("b")), (a.into(), b.into()));
    }
    let said = alone(here, &["restore", "a", "--at", "HEAD", "--only-here", "-y"]).ok();
    assert!(said.contains("`autosync undo` ends that"), "{said}");
    assert_eq!(here.read("a"), "3\n");
    for _ in 0..2 {
        let _said = alone(here, &["redo", "-y"]);
    }
    pair.converge("forward");
    pair.assert_settled("forward");
    assert_eq!(
        (here.read("a"), here.read("b")),
        ("3\n".into(), "2\n".into())
    );
}

#[test]
fn what_says_how_it_ends_is_right() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    pair.converge("new");
    let commit = here.git(&["rev-parse", "HEAD"]);
    let back = ["restore", "a", "--at", "HEAD~1", "--only-here", "-y"];
    for (how, end) in [
        (&back[..], "undo"),
        (&["undo", "--only-here", "-y"], "redo"),
    ] {
        let said = alone(here, how).ok();
        assert_eq!(here.read("a"), "1\n");
        let wanted = format!("Done, on this computer only. `autosync {end}` ends that.\n");
        assert!(said.ends_with(&wanted), "{said}");
        let _said = alone(here, &[end, "-y"]).ok();
        assert_eq!(here.read("a"), "2\n", "{how:?}");
        pair.converge("ended");
        pair.assert_settled("ended");
        assert_eq!(here.git(&["rev-parse", "HEAD"]), commit, "{how:?}");
    }
}

#[test]
fn an_undo_of_a_commit_is_of_what_made_it() {
    let pair = Pair::new(&[("a", "1\n")]);
    let here = &pair.laptop;
    here.write("a", "2\n");
    pair.converge("new");
    let commit = here.git(&["rev-parse", "HEAD"]);
    let _said = alone(here, &["undo", &commit, "--only-here", "-y"]).ok();
    assert_eq!(here.read("a"), "1\n");
    // The branch stood there before and after that, too.
    let said = alone(here, &["undo", &commit, "-y"]).fails(1);
    assert!(said.contains("is undone already"), "{said}");
    assert_eq!(here.read("a"), "1\n");
    let _said = alone(here, &["redo", "-y"]).ok();
    assert_eq!(here.read("a"), "2\n");
    let _said = alone(here, &["undo", &commit, "-y"]).ok();
    pair.converge("undone");
    pair.assert_settled("undone");
    assert_eq!(pair.server.read("a"), "1\n");
}
