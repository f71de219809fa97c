//! What undo, redo and restore have in common: which folder, what it would do, whether that is meant.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::out::{Out, say};
use super::scene::{Scene, folder_word};
use super::status::ago;
use crate::agent::prepare::{Wish, prepare};
use crate::agent::recall::alone;
use crate::clock;
use crate::config::{FolderSettings, Settings};
use crate::control::ClientError;
use crate::engine::recall::{Answer, At, Deed, Recall, Wanted};
use crate::error::{Complaint, Exit};
use crate::names::{RepoPath, escape};

pub(super) mod when;

/// So many paths are named before a person is asked.
const NAMED: usize = 20;

/// How something is brought back.
#[derive(Debug, Clone, Args)]
pub(super) struct RecallArgs {
    /// In this folder: its name in `autosync status`, or its path; else the one around the current
    /// directory, or the only one
    #[arg(long, value_name = "FOLDER")]
    pub(super) folder: Option<String>,
    /// Only on this computer; the others keep what they have
    ///
    /// The files here then differ from what the folder has on purpose, and `autosync status` lists
    /// them. That ends with `autosync redo` after an undo, with `autosync undo` after a restore, or when
    /// one of them is edited: the edit is merged with what the others have.
    #[arg(long)]
    only_here: bool,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// With --yes: also if it deletes very many files
    #[arg(long, requires = "yes")]
    approve: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// A path that is in the folder.
    #[arg(skip)]
    pub(super) near: Option<PathBuf>,
}

/// Where a folder is.
pub(super) struct Located {
    /// Its root, canonical.
    pub(super) root: PathBuf,
    /// Its git directory, where that is configured.
    pub(super) git_dir: Option<PathBuf>,
    /// Whether an agent cares for it.
    pub(super) tended: bool,
    /// Otherwise: as it is configured.
    alone: Option<(Settings, FolderSettings)>,
}

/// Brings something back, or says what that would do.
pub(super) fn recall(
    scene: &Scene,
    args: &RecallArgs,
    wanted: impl FnOnce(&Path) -> anyhow::Result<Wanted>,
) -> anyhow::Result<Exit> {
    scene.start_quiet_log()?;
    let near = match &args.near {
        Some(path) => lexical(path)?,
        None => std::env::current_dir()?,
    };
    let located = locate(scene, args.folder.as_deref(), &near)?;
    let recall = Recall {
        wanted: wanted(&located.root)?,
        dry_run: false,
        only_here: args.only_here,
        approved: args.approve,
    };
    let done = if located.tended {
        let root = located.root.to_string_lossy().into_owned();
        let ask = |recall: &Recall| scene.put(async |client| client.recall(&root, recall).await);
        let plan = ask(&Recall {
            dry_run: true,
            ..recall.clone()
        })?;
        match agrees(args, &recall, &plan)? {
            Some(recall) => Some(ask(&recall)?),
            None => None,
        }
    } else {
        let Some((settings, folder)) = &located.alone else {
            return Err(Complaint::new(Exit::Failed, "the folder is not known", "").into());
        };
        let wish = Wish {
            only_now: true,
            ..Wish::default()
        };
        let ready = prepare(folder, settings, &scene.paths, &wish)?;
        alone(&ready.settings, &recall, |plan| agrees(args, &recall, plan))?
    };
    let Some(answer) = done else {
        return Ok(Exit::Done);
    };
    if args.json {
        say(serde_json::to_string_pretty(&answer)?)?;
        return Ok(Exit::Done);
    }
    for path in &answer.kept {
        say(format!(
            "`{}` was saved in that very moment; both are merged.",
            escape(path.as_bytes())
        ))?;
    }
    say(match (args.only_here, located.tended) {
        (true, _) => match recall.wanted {
            Wanted::Undo(_) => "Done, on this computer only. `autosync redo` ends that.",
            Wanted::Redo | Wanted::Restore { .. } => {
                "Done, on this computer only. `autosync undo` ends that."
            }
        },
        (false, true) => "Done. `autosync log` shows it.",
        (false, false) => "Done here. No agent runs: `autosync once` brings it to the others.",
    })?;
    Ok(Exit::Done)
}

/// Says what would be done and asks whether that is meant. Returns what is to be done, if anything.
fn agrees(args: &RecallArgs, recall: &Recall, plan: &Answer) -> Result<Option<Recall>, Complaint> {
    let failed = |error: io::Error| Complaint::new(Exit::Failed, error.to_string(), "");
    if args.dry_run {
        if args.json {
            let text = serde_json::to_string_pretty(plan);
            let text = text.map_err(|error| Complaint::new(Exit::Failed, error.to_string(), ""))?;
            say(text).map_err(failed)?;
        } else {
            show(plan).map_err(failed)?;
        }
        return Ok(None);
    }
    let mut sure = exactly(recall, plan);
    if args.yes {
        return Ok(Some(sure));
    }
    if !io::stdin().is_terminal() {
        return Err(Complaint::new(
            Exit::Usage,
            "there is nobody to ask here, so nothing was done",
            "Say `--yes` if it is meant, or `--dry-run` to see what it would do.",
        ));
    }
    show(plan).map_err(failed)?;
    let question = if plan.needs_approval {
        format!("Delete {} files and go on? [y/N] ", plan.removed)
    } else {
        "Go on? [y/N] ".to_owned()
    };
    let mut err = io::stderr();
    err.write_all(question.as_bytes())
        .and_then(|()| err.flush())
        .map_err(failed)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(failed)?;
    if !line.ends_with('\n') {
        // Nobody ended the line of the question.
        writeln!(err).map_err(failed)?;
    }
    if !matches!(line.trim(), "y" | "Y" | "yes" | "Yes") {
        say("Nothing was done.").map_err(failed)?;
        return Ok(None);
    }
    sure.approved |= plan.needs_approval;
    Ok(Some(sure))
}

/// Returns what was shown, whatever has become the newest meanwhile.
fn exactly(recall: &Recall, plan: &Answer) -> Recall {
    let wanted = match &recall.wanted {
        Wanted::Undo(_) | Wanted::Redo => Wanted::Undo(Some(plan.operation.clone())),
        Wanted::Restore { path, .. } => Wanted::Restore {
            path: path.clone(),
            at: Some(At::Commit(plan.from.clone())),
        },
    };
    Recall {
        wanted,
        ..recall.clone()
    }
}

/// Shows what would be done.
fn show(plan: &Answer) -> io::Result<()> {
    let mut out = Out::new();
    for line in lines(plan, clock::wall_seconds()) {
        out.line(line)?;
    }
    out.flush()
}

fn lines(plan: &Answer, now: i64) -> Vec<String> {
    let clean = |text: &str| escape(text.as_bytes());
    let place = if plan.only_here {
        "on this computer only"
    } else {
        "on all your computers"
    };
    let when = match plan.when.as_str() {
        "" => String::new(),
        when => format!(" ({})", ago(when, now)),
    };
    let mut what = clean(&plan.what);
    if let Some(first) = what.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut lines = vec![format!("{what}{when}, {place}:")];
    for change in plan.changes.iter().take(NAMED) {
        let verb = match change.what {
            Deed::Change => "change back",
            Deed::Create => "bring back ",
            Deed::Remove => "delete     ",
            Deed::Copy => "put beside ",
        };
        lines.push(format!("  {verb}  {}", clean(&change.path)));
    }
    let more = plan.changes.len().saturating_sub(NAMED) + plan.more;
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    if plan.changes.iter().any(|it| it.what == Deed::Copy) {
        lines.push(
            "What is put beside was changed since at the same lines; the file keeps its name."
                .into(),
        );
    }
    if plan.needs_approval {
        lines.push(format!("That deletes {} files.", plan.removed));
    }
    lines
}

/// Finds the folder that is meant: by its name or path, else the one around `near`, else the only
/// one.
pub(super) fn locate(
    scene: &Scene,
    asked: Option<&str>,
    near: &Path,
) -> Result<Located, anyhow::Error> {
    let tended = match scene.put(async |client| client.status().await) {
        Ok(status) => status
            .folders
            .into_iter()
            .map(|folder| (folder.name, PathBuf::from(folder.path)))
            .collect(),
        Err(error) if no_agent(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let settings = scene.settings()?;
    let configured = settings
        .folders
        .iter()
        .map(|folder| (folder.name.clone(), real(&folder.path)));
    let all: Vec<(String, PathBuf)> = tended.iter().cloned().chain(configured).collect();
    let root = if let Some(asked) = asked {
        let word = folder_word(asked);
        let hit = all
            .iter()
            .find(|(name, path)| *name == word || path.as_os_str() == word.as_str());
        let inside = || {
            let path = std::path::absolute(&word).ok()?;
            around(&Some(path).filter(|path| path.is_dir())?)
        };
        let found = hit.map(|(_, path)| path.clone()).or_else(inside);
        found.ok_or_else(|| no_such_folder(asked, &all))?
    } else {
        let near = real(near);
        let inside = all.iter().map(|(_, path)| path);
        let inside = inside.filter(|path| near.starts_with(path));
        let inside = inside.max_by_key(|path| path.as_os_str().len());
        match inside.cloned().or_else(|| around(&near)) {
            Some(root) => root,
            None => only(&all)?,
        }
    };
    let known = settings
        .folders
        .iter()
        .position(|folder| real(&folder.path) == root);
    let git_dir = known.and_then(|at| settings.folders[at].git_dir.clone());
    let is_tended = tended.iter().any(|(_, path)| *path == root);
    let alone = if is_tended {
        None
    } else {
        let (settings, at) = match known {
            Some(at) => (settings, at),
            None => (
                settings
                    .with_dirs(std::slice::from_ref(&root))
                    .map_err(Complaint::from)?,
                0,
            ),
        };
        let folder = settings.folders[at].clone();
        Some((settings, folder))
    };
    Ok(Located {
        root,
        git_dir,
        tended: is_tended,
        alone,
    })
}

fn no_agent(error: &anyhow::Error) -> bool {
    let text = ClientError::NoAgent.to_string();
    error
        .downcast_ref::<Complaint>()
        .is_some_and(|complaint| complaint.message == text)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the work tree around a path, if there is one.
fn around(path: &Path) -> Option<PathBuf> {
    let found = path.ancestors().find(|dir| dir.join(".git").exists());
    found.map(real)
}

fn only(all: &[(String, PathBuf)]) -> Result<PathBuf, Complaint> {
    let mut roots: Vec<&PathBuf> = all.iter().map(|(_, path)| path).collect();
    roots.sort_unstable();
    roots.dedup();
    match roots[..] {
        [root] => Ok(root.clone()),
        [] => Err(Complaint::new(
            Exit::NoRepository,
            "there is no folder here",
            "Run it inside of one, or say which with `--folder`.",
        )),
        _ => Err(Complaint::new(
            Exit::Usage,
            "there are several folders, and this is in none of them",
            format!("Say which with `--folder`: {}.", names(all)),
        )),
    }
}

fn names(all: &[(String, PathBuf)]) -> String {
    let mut names: Vec<String> = all
        .iter()
        .map(|(name, _)| escape(name.as_bytes()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn no_such_folder(asked: &str, all: &[(String, PathBuf)]) -> Complaint {
    let asked = escape(asked.as_bytes());
    let hint = match names(all) {
        names if names.is_empty() => "There are no folders.".to_owned(),
        names => format!("The folders are: {names}."),
    };
    Complaint::new(Exit::Failed, format!("there is no folder `{asked}`"), hint)
}

/// Returns an absolute path with every directory that is there resolved; the last name stays, so
/// that a link is itself.
pub(super) fn lexical(path: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    if let Ok(real) = whole.canonicalize()
        && real.is_dir()
        && !whole.is_symlink()
    {
        return Ok(real);
    }
    let mut rest = Vec::new();
    let mut at = whole.as_path();
    while let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
        rest.push(name.to_owned());
        if let Ok(real) = parent.canonicalize() {
            return Ok(rest.iter().rev().fold(real, |path, name| path.join(name)));
        }
        at = parent;
    }
    Ok(whole)
}

/// Returns a path of a person as one inside the folder; `None` is the folder itself.
pub(super) fn inside(root: &Path, path: &Path) -> anyhow::Result<Option<RepoPath>> {
    let whole = lexical(path)?;
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let Ok(rest) = whole.strip_prefix(root) else {
        let message = format!("`{shown}` is not inside the folder");
        return Err(Complaint::new(Exit::Usage, message, "").into());
    };
    if rest.as_os_str().is_empty() {
        return Ok(None);
    }
    let found = RepoPath::from_path(rest);
    found
        .map(Some)
        .map_err(|error| Complaint::new(Exit::Usage, error.to_string(), "").into())
}
