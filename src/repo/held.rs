//! What guards hold back of what came in, in groups, with what a person may do about each.
//!
//! Absent: what is held of what was saved here, which the jobs of a folder find anew each time.

use crate::engine::event::{Code, Held};
use crate::names::RepoPath;

use super::bases::{Bases, Why};

/// A group lists at most this many paths.
const MOST: usize = 20;

/// Returns what guards hold back, as the base map says.
pub(super) fn held(bases: &Bases) -> Vec<Held> {
    let paths = |wanted: &dyn Fn(&Why) -> bool| -> Vec<RepoPath> {
        bases
            .iter()
            .filter(|(_, base)| wanted(&base.why))
            .map(|(path, _)| path.clone())
            .collect()
    };
    let group = |code, paths: Vec<RepoPath>, message: String, hint: &str| {
        (!paths.is_empty()).then(|| Held {
            code,
            more: paths.len().saturating_sub(MOST),
            paths: paths.into_iter().take(MOST).collect(),
            message,
            hint: hint.to_owned(),
        })
    };
    let waiting = paths(&|why| *why == Why::RemovalWaits);
    let filtered = paths(&|why| *why == Why::Held(Code::Filter));
    let named = paths(&|why| *why == Why::NotRepresentable);
    let twins = paths(&|why| *why == Why::Twin);
    let large = paths(&|why| *why == Why::Held(Code::TooBig));
    let is_rules = |path: &RepoPath| matches!(path.file_name(), b".gitattributes" | b".gitignore");
    let (rules, large): (Vec<_>, Vec<_>) = large.into_iter().partition(is_rules);
    let endless = format!(
        "{} files of rules that came in are larger than 1 MiB",
        rules.len()
    );
    let (many, filters, names) = (waiting.len(), filtered.len(), named.len());
    let doubles = twins.len();
    let too_big = format!(
        "{} files that came in are larger than `max_file`",
        large.len()
    );
    [
        group(
            Code::MassDelete,
            waiting,
            format!("{many} files were deleted elsewhere"),
            "Run `autosync approve` to delete them here too; else, in the folder, \
             `autosync restore .` brings them back on all your computers.",
        ),
        group(
            Code::Filter,
            filtered,
            format!("the filter of {filters} files failed"),
            "Install the program that `.gitattributes` names for them, such as git-lfs.",
        ),
        group(
            Code::NotRepresentable,
            named,
            format!("{names} names or links cannot exist on this computer"),
            "Rename them, or point the links elsewhere, on a computer that has them.",
        ),
        group(
            Code::NotRepresentable,
            twins,
            format!("{doubles} names are the same as others to this computer's disk"),
            "Rename them, or the others, on a computer that has both.",
        ),
        group(
            Code::TooBig,
            large,
            too_big,
            "Raise `max_file` in the configuration to have them here, too.",
        ),
        group(
            Code::TooBig,
            rules,
            endless,
            "Such files are read again and again, by git too: make them smaller where they are.",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
