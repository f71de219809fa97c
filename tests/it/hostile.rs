//! What somebody may put on the hub to do harm: names, links, bombs, and things that want to be run.
//!
//! `AUTOSYNC_TEST_LINK_TRIALS` says how often a directory is exchanged for a link while it is written
//! to (10000 takes minutes), `AUTOSYNC_TEST_ZEROS` how many MiB the blob of zeros has.

mod bombs;
mod links;
mod names;
mod payloads;

/// Returns the number in a variable of the environment, or what CI does.
fn size_of(variable: &str, in_ci: usize) -> usize {
    let asked = std::env::var(variable).ok();
    asked.map_or(in_ci, |text| text.parse().unwrap())
}
