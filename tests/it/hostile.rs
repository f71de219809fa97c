//! What somebody may put on the hub to do harm: names, links, bombs, and things that want to be run.
//!
//! `AUTOSYNC_TEST_LINK_TRIALS` says how often a directory is exchanged for a link while it is written
//! to (10000 takes minutes), `AUTOSYNC_TEST_ZEROS` how many MiB the blob of zeros has.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::host::Pair;

mod bombs;
mod folding;
mod links;
mod modes;
mod names;
mod payloads;

/// Returns the number in a variable of the environment, or what CI does.
fn size_of(variable: &str, in_ci: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.map_or(in_ci, |text| text.parse().unwrap())
}

/// Runs git in the hub with this input, as somebody who may write there.
pub(crate) fn in_hub(pair: &Pair, args: &[&str], input: &[u8]) -> String {
    let mut command: Command = pair.laptop.sandbox.command("git");
    command.args(args).current_dir(&pair.hub);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{args:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Makes a commit with this tree on top of the branch of the hub.
pub(crate) fn commit(pair: &Pair, tree: &str) {
    let new = in_hub(
        pair,
        &["commit-tree", "-p", "main", "-m", "hostile", tree],
        b"",
    );
    in_hub(pair, &["update-ref", "refs/heads/main", &new], b"");
}

fn pair() -> Pair {
    let config = "[settle]\nquiet = \"0s\"\n[push]\nquiet = \"0s\"\n";
    let pair = Pair::configured(config);
    pair.laptop.write("a", "1\n");
    pair.server.sees("it", |root| root.join("a").exists());
    pair.equal();
    pair
}
