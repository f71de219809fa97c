//! Directories outside the tree that are watched for some names: the repository for what the
//! user's git does, `info/` and the place of the global file for ignore rules.
//!
//! Absent: the repository's objects and refs. A commit, a checkout or a reset moves the index or
//! locks HEAD, and that is enough to know that the user's git was here.

use std::path::PathBuf;

use super::WatchSettings;
use super::filter::Rules;
use super::source::{Place, RawEvent, Token, What};
use super::walk::Ground;

/// All outposts of a folder.
#[derive(Debug, Default)]
pub(super) struct Outposts(Vec<Outpost>);

#[derive(Debug)]
struct Outpost {
    dir: PathBuf,
    token: Option<Token>,
    duty: Duty,
}

#[derive(Debug)]
enum Duty {
    /// HEAD, the index and the user's operations.
    Git,
    /// `info/exclude`.
    Info,
    /// The user's global ignore file, which has this name.
    Global(Vec<u8>),
}

/// What an event at an outpost means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// The user's git did something.
    pub(super) git_moved: bool,
    /// A file of ignore rules may have changed.
    pub(super) rules: bool,
}

impl Outposts {
    /// Watches, or watches again, all directories that matter.
    pub(super) fn man(&mut self, ground: &mut Ground, settings: &WatchSettings) {
        let mut wanted = vec![
            (settings.git_dir.clone(), Duty::Git),
            (settings.common_dir.join("info"), Duty::Info),
        ];
        if settings.common_dir != settings.git_dir {
            wanted.push((settings.common_dir.clone(), Duty::Git));
        }
        if let Some(file) = &settings.global_excludes {
            // The file may be a symbolic link into somebody's dotfiles: both ends can change.
            let real = file.canonicalize().ok();
            for file in [Some(file), real.as_ref().filter(|real| *real != file)] {
                let parts = file.and_then(|file| file.parent().zip(file.file_name()));
                if let Some((dir, name)) = parts {
                    let name = name.as_encoded_bytes().to_vec();
                    wanted.push((dir.to_owned(), Duty::Global(name)));
                }
            }
        }
        self.0 = wanted
            .into_iter()
            .map(|(dir, duty)| Outpost {
                token: ground.source.watch(&dir).ok(),
                dir,
                duty,
            })
            .collect();
        ground.kept = self.0.iter().filter_map(|outpost| outpost.token).collect();
    }

    /// Returns what an event means here.
    pub(super) fn hear(&mut self, event: &RawEvent) -> Report {
        let mut report = Report::default();
        for outpost in &mut self.0 {
            let here = match &event.place {
                Place::Watch(token) => outpost.token == Some(*token),
                Place::Path(path) => *path == outpost.dir,
            };
            if !here {
                continue;
            }
            if event.what == What::Ended {
                outpost.token = None;
            }
            let itself = event.name.is_empty() && event.what != What::Attributes;
            match &outpost.duty {
                Duty::Git => {
                    let moved = event.what != What::Attributes && is_git_state(&event.name);
                    report.git_moved |= itself || moved;
                    report.rules |= *event.name == *b"info";
                }
                Duty::Info => report.rules |= itself || *event.name == *b"exclude",
                Duty::Global(name) => report.rules |= itself || *event.name == **name,
            }
        }
        report
    }
}

/// Reads the rules outside the tree into the filter; returns whether they changed.
pub(super) fn read_rules(ground: &mut Ground, settings: &WatchSettings) -> bool {
    let info = Rules::read_outside(&settings.common_dir.join("info/exclude"));
    let global = settings
        .global_excludes
        .as_deref()
        .and_then(Rules::read_outside);
    let filter = &mut ground.filter;
    let same = Rules::same(filter.info.as_ref(), info.as_ref())
        && Rules::same(filter.global.as_ref(), global.as_ref());
    filter.info = info;
    filter.global = global;
    !same
}

/// Returns whether an entry of the repository's directory says where the user's git is at.
fn is_git_state(name: &[u8]) -> bool {
    const STATE: [&[u8]; 9] = [
        b"HEAD",
        b"HEAD.lock",
        b"index",
        b"index.lock",
        b"ORIG_HEAD",
        b"MERGE_HEAD",
        b"CHERRY_PICK_HEAD",
        b"REVERT_HEAD",
        b"sequencer",
    ];
    STATE.contains(&name) || name.starts_with(b"BISECT_") || name.starts_with(b"rebase-")
}
