//! What a commit of ours says: the subject in words, a line per path, trailers.

use crate::engine::action::Trigger;
use crate::git::tree::Difference;
use crate::names::RepoPath;

/// A body lists at most this many paths.
const LINES: usize = 1000;

/// Returns what a set of changes is about: `notes/todo.txt`, `3 files in notes/`, `12 files`.
pub fn summary(differences: &[Difference]) -> String {
    match differences {
        [] => "nothing".to_owned(),
        [one] => one.path.to_string(),
        [first, rest @ ..] => {
            let mut common = first.path.parent();
            for other in rest {
                while let Some(dir) = &common {
                    if other.path.is_within(dir) {
                        break;
                    }
                    common = dir.parent();
                }
            }
            let count = differences.len();
            match common {
                Some(dir) => format!("{count} files in {dir}/"),
                None => format!("{count} files"),
            }
        }
    }
}

/// Returns the whole message of a commit.
pub fn message(
    host: &str,
    summary: &str,
    differences: &[Difference],
    trigger: Trigger,
    more_trailers: &[(&str, String)],
) -> String {
    let mut text = format!("{host}: {summary}\n\n");
    for difference in differences.iter().take(LINES) {
        text.push_str(action(difference));
        text.push(' ');
        text.push_str(&difference.path.to_string());
        text.push('\n');
    }
    if differences.len() > LINES {
        text.push_str(&format_more(differences.len() - LINES));
    }
    if !differences.is_empty() {
        text.push('\n');
    }
    text.push_str(&trailers(host, trigger, more_trailers));
    text
}

/// Returns the trailers of a commit of ours.
pub fn trailers(host: &str, trigger: Trigger, more: &[(&str, String)]) -> String {
    let mut text = format!(
        "Autosync-Host: {host}\nAutosync-Trigger: {}\n",
        trigger.word()
    );
    for (key, value) in more {
        text.push_str(key);
        text.push_str(": ");
        text.push_str(&value.replace('\n', " "));
        text.push('\n');
    }
    text
}

fn format_more(more: usize) -> String {
    format!("and {more} more\n")
}

/// Returns the word for what happened to a path.
fn action(difference: &Difference) -> &'static str {
    match (difference.old, difference.new) {
        (None, _) => "add",
        (Some(_), None) => "delete",
        (Some(old), Some(new)) if old.id == new.id => "mode",
        (Some(old), Some(new)) if old.is_file() != new.is_file() => "replace",
        (Some(_), Some(_)) => "change",
    }
}

/// Returns the first `limit` paths of some differences.
pub fn first_paths(differences: &[Difference], limit: usize) -> Vec<RepoPath> {
    differences
        .iter()
        .take(limit)
        .map(|difference| difference.path.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::tree::{Entry, FILE};
    use crate::names::ObjectId;

    fn added(path: &str) -> Difference {
        let id = ObjectId::from_hex("1".repeat(40)).unwrap();
        let new = Some(Entry { mode: FILE, id });
        Difference {
            path: RepoPath::new(path).unwrap(),
            old: None,
            new,
        }
    }

    #[test]
    fn a_summary_names_the_nearest_common_directory() {
        assert_eq!(summary(&[added("notes/todo.txt")]), "notes/todo.txt");
        assert_eq!(
            summary(&[added("n/a"), added("n/b/c"), added("n/d")]),
            "3 files in n/"
        );
        assert_eq!(summary(&[added("n/a"), added("nb/c")]), "2 files");
    }

    #[test]
    fn a_message_ends_in_its_trailers() {
        let paths = [added("a\nb")];
        let text = message(
            "laptop",
            "a",
            &paths,
            Trigger::Edit,
            &[("X", "y".to_owned())],
        );
        assert_eq!(
            text,
            "laptop: a\n\nadd a\\nb\n\nAutosync-Host: laptop\nAutosync-Trigger: edit\nX: y\n"
        );
    }
}
