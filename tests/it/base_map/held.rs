//! Paths that are held because a filter fails on the way in: whatever is looked at, and however
//! often, what came in is never taken back.

use crate::pair::{Host, Pair};

use super::{NEW, OLD, assert_quiet};

/// Sets what turns blobs into files and back.
fn filter(host: &Host, smudge: &str, clean: &str) {
    for (key, value) in [("smudge", smudge), ("clean", clean), ("required", "true")] {
        host.git(&["config", &format!("filter.box.{key}"), value]);
    }
}

/// A pair with a filter that works on both, and a file that goes through it.
fn filtered() -> Pair {
    let pair = Pair::new(&[("other", "1\n")]);
    for host in [&pair.laptop, &pair.server] {
        filter(host, "tr a-z A-Z", "tr A-Z a-z");
    }
    pair.server.write(".gitattributes", "*.box filter=box\n");
    pair.server.write("file.box", OLD.to_uppercase());
    pair.converge("the filter");
    pair.converge("the filter");
    pair.assert_settled("the filter");
    assert_eq!(pair.laptop.read("file.box"), OLD.to_uppercase());
    pair
}

fn at_hub(pair: &Pair, path: &str) -> String {
    let name = format!("main:{path}");
    pair.laptop.sandbox.git(&pair.hub, ["show", &name]) + "\n"
}

#[test]
fn held_what_a_filter_cannot_write_stays_as_it_came_in() {
    let news = NEW.replace("ONE", "eins");
    for clean in ["tr A-Z a-z", "false"] {
        let pair = filtered();
        let (here, there) = (&pair.laptop, &pair.server);
        filter(here, "false", clean);
        there.write("file.box", news.to_uppercase());
        there.write("new.box", "TOKEN-NEW\n");
        let _ran = there.once().ok();
        let ran = here.once();
        assert_eq!(ran.code, Some(3), "{clean}: {ran:?}");
        assert!(ran.out.contains("filter"), "{clean}: {ran:?}");
        let tip = here.git(&["rev-parse", "HEAD"]);
        assert_eq!(tip, there.git(&["rev-parse", "HEAD"]), "HEAD goes on");
        assert_eq!(here.read("file.box"), OLD.to_uppercase());
        assert!(!here.at("new.box").exists());
        for round in 0..3 {
            assert_quiet(here, &tip, &format!("{clean}, round {round}"));
        }

        // Other work goes on in both directions, and takes nothing back.
        here.write("other", "TOKEN-mine\n");
        there.write("third", "TOKEN-third\n");
        for host in [here, there, here] {
            assert_eq!(
                host.once().code,
                Some(if host.root == here.root { 3 } else { 0 })
            );
        }
        assert_eq!(here.read("third"), "TOKEN-third\n");
        assert_eq!(there.read("other"), "TOKEN-mine\n");
        assert_eq!(there.read("file.box"), news.to_uppercase());
        assert_eq!(at_hub(&pair, "file.box"), news, "{clean}");
        assert_eq!(at_hub(&pair, "new.box"), "token-new\n", "{clean}");

        // More of it comes in while it is held.
        there.write("file.box", news.replace("two", "zwei").to_uppercase());
        let _ran = there.once().ok();
        assert_eq!(here.once().code, Some(3));
        let tip = here.git(&["rev-parse", "HEAD"]);
        assert_quiet(here, &tip, clean);
        assert_eq!(here.read("file.box"), OLD.to_uppercase());

        // An edit of the version that stands is one of that version.
        let edits = clean != "false";
        if edits {
            here.write("file.box", OLD.replace("five", "token-five").to_uppercase());
            assert_eq!(here.once().code, Some(3));
            let _ran = there.once().ok();
            // Files with a filter are kept whole: both versions are on the other host.
            let theirs = news.replace("two", "zwei");
            let mine = OLD.replace("five", "token-five");
            assert_eq!(at_hub(&pair, "file.box"), theirs);
            let tree = there.tree();
            assert_eq!(tree["file.box"], theirs.to_uppercase());
            let copy = tree
                .iter()
                .find(|(name, _)| name.starts_with("file (conflict "));
            assert_eq!(*copy.unwrap().1, mine.to_uppercase(), "{tree:#?}");
            assert_eq!(
                here.read("file.box"),
                mine.to_uppercase(),
                "it cannot be written still"
            );
            let tip = here.git(&["rev-parse", "HEAD"]);
            assert_quiet(here, &tip, "edited");
        }

        // The filter is mended: what waits is written.
        filter(here, "tr a-z A-Z", "tr A-Z a-z");
        pair.converge("mended");
        pair.assert_settled("mended");
        assert_eq!(here.read("new.box"), "TOKEN-NEW\n");
        assert!(here.read("file.box").starts_with("EINS\nZWEI\n"));
        pair.assert_known(&["token-new", "TOKEN-mine"], clean);
        let log = there.git(&["log", "--format=%H", "--reverse", "--first-parent", "main"]);
        let mut came = false;
        for commit in log.lines() {
            let text = there.try_git(&["show", &format!("{commit}:file.box")]).out;
            came |= text.starts_with("eins\n");
            assert!(
                !came || text.starts_with("eins\n"),
                "{clean}: {commit}: {text}"
            );
        }
        assert!(came);
    }
}
