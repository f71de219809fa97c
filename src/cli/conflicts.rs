//! `autosync conflicts`

use clap::Args;

use super::out::{Out, say};
use super::scene::Scene;
use super::status::ago;
use crate::clock;
use crate::control::FolderConflicts;
use crate::error::Exit;
use crate::names::escape;

/// List the conflict copies, files with conflict markers, and what had to make room
///
/// Where two computers changed the same thing and the changes could not be merged, one version
/// keeps its name and the other stands beside it as a conflict copy. Take from the copy what you
/// need and delete it; that settles the conflict on all computers.
///
/// A file that came with conflict markers in it, because somebody without autosync committed them, is
/// listed with the commits that have it as it was before. Take the markers out and save it. If they
/// belong there, any other change to the file that autosync commits settles it as well.
///
/// A file that git ignores here and that stood where another computer's file came in was moved
/// aside, on this computer only: it is listed with where it is now, until it is moved or deleted.
#[derive(Debug, Args)]
pub(super) struct ConflictsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ConflictsArgs, scene: &Scene) -> anyhow::Result<Exit> {
    let folders = scene.ask(async |client| client.conflicts().await)?;
    if args.json {
        say(serde_json::to_string_pretty(&folders)?)?;
        return Ok(Exit::Done);
    }
    let mut out = Out::new();
    for line in lines(&folders, clock::wall_seconds()) {
        out.line(line)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn lines(folders: &[FolderConflicts], now: i64) -> Vec<String> {
    let clean = |text: &str| escape(text.as_bytes());
    let mut lines = Vec::new();
    let something = |folder: &&FolderConflicts| {
        !(folder.conflicts.is_empty() && folder.marked.is_empty() && folder.aside.is_empty())
    };
    for folder in folders.iter().filter(something) {
        lines.push(format!(
            "{} ({})",
            clean(&folder.folder),
            clean(&folder.path)
        ));
        for conflict in &folder.conflicts {
            lines.push(format!("  {}", clean(&conflict.path)));
            lines.push(format!("    {}", clean(&conflict.copy)));
            let from = match clean(&conflict.host) {
                host if host.is_empty() => "another host".into(),
                host => host,
            };
            let when = ago(&conflict.since, now);
            lines.push(format!("    the version of {from}, {when}"));
        }
        for file in &folder.marked {
            let path = clean(&file.path);
            lines.push(format!("  {path}"));
            let by = match clean(&file.author) {
                author if author.is_empty() => "somebody".into(),
                author => author,
            };
            let when = ago(&file.since, now);
            lines.push(format!("    conflict markers in it, by {by}, {when}"));
            for commit in &file.before {
                let commit = clean(commit.get(..7).unwrap_or(commit));
                lines.push(format!("    before: git show {commit}:{path}"));
            }
        }
        for aside in &folder.aside {
            lines.push(format!("  {}", clean(&aside.path)));
            lines.push(format!("    {}", clean(&aside.now)));
            lines.push("    ignored here; it had to make room for a file that came in".into());
        }
    }
    if lines.is_empty() {
        lines.push("There are no conflicts.".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::{AsideStatus, ConflictStatus, MarkedStatus};

    #[test]
    fn each_copy_stands_below_its_path_and_cannot_steer_the_terminal() {
        let conflict = ConflictStatus {
            path: "notes.txt".into(),
            copy: "notes \u{1b}[2J.txt".into(),
            host: "server".into(),
            since: "2026-11-20T10:00:00+01:00".into(),
        };
        let folder = |name: &str, conflicts| FolderConflicts {
            folder: name.into(),
            path: format!("/home/me/{name}"),
            conflicts,
            marked: Vec::new(),
            aside: Vec::new(),
        };
        let folders = [folder("Docs", Vec::new()), folder("Sync", vec![conflict])];
        // 10:30 of the same zone.
        assert_eq!(
            lines(&folders, 1_795_167_000),
            [
                "Sync (/home/me/Sync)",
                "  notes.txt",
                "    notes \\u{1b}[2J.txt",
                "    the version of server, 30m ago",
            ]
        );
        assert_eq!(lines(&folders[..1], 0), ["There are no conflicts."]);
        let mut folders = folders;
        folders[0].marked.push(MarkedStatus {
            path: "a b.txt".into(),
            commit: "1".repeat(40),
            before: vec!["2".repeat(40), "3".repeat(40)],
            author: "Me \u{1b}[2J".into(),
            since: "2026-11-20T10:00:00+01:00".into(),
        });
        assert_eq!(
            lines(&folders[..1], 1_795_167_000),
            [
                "Docs (/home/me/Docs)",
                "  a b.txt",
                "    conflict markers in it, by Me \\u{1b}[2J, 30m ago",
                "    before: git show 2222222:a b.txt",
                "    before: git show 3333333:a b.txt",
            ]
        );
        folders[0].marked.clear();
        folders[0].aside.push(AsideStatus {
            path: ".env".into(),
            now: "/home/me/Docs/.git/autosync/aside/1/.env".into(),
        });
        assert_eq!(
            lines(&folders[..1], 0),
            [
                "Docs (/home/me/Docs)",
                "  .env",
                "    /home/me/Docs/.git/autosync/aside/1/.env",
                "    ignored here; it had to make room for a file that came in",
            ]
        );
    }
}
