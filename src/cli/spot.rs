//! A path that a person names on the command line: in which folder it is, and where there.

use std::path::{Path, PathBuf};

use super::scene::Scene;
use crate::control::ClientError;
use crate::error::{Complaint, Exit};
use crate::git::Git;
use crate::names::{RepoPath, escape};

/// Where a path is.
#[derive(Debug)]
pub(super) struct Spot {
    /// The folder's root.
    pub(super) root: PathBuf,
    /// Its repository.
    pub(super) git: Git,
    /// The path in it; `None` is the folder itself.
    pub(super) path: Option<RepoPath>,
    /// Whether it is a directory.
    pub(super) is_directory: bool,
}

impl Spot {
    /// Finds a path: from the current directory, or else, as `autosync status` shows it, in the one
    /// folder of the configuration or of the agent that has it.
    pub(super) fn find(asked: &Path, scene: &Scene) -> anyhow::Result<Self> {
        let absolute = std::path::absolute(asked)?;
        if absolute.symlink_metadata().is_ok() {
            return Self::at(&absolute, scene);
        }
        let mut found: Vec<PathBuf> = Vec::new();
        if asked.is_relative() {
            for root in roots(scene)? {
                let there = root.join(asked);
                if there.symlink_metadata().is_ok() && !found.contains(&there) {
                    found.push(there);
                }
            }
        }
        match found.as_slice() {
            [there] => Self::at(there, scene),
            [] => Err(Complaint::new(
                Exit::Failed,
                format!("there is no `{}`", show(asked)),
                "Give the path as `autosync status` shows it.",
            )
            .into()),
            _ => Err(Complaint::new(
                Exit::Failed,
                format!("several folders have `{}`", show(asked)),
                "Give the whole path.",
            )
            .into()),
        }
    }

    fn at(path: &Path, scene: &Scene) -> anyhow::Result<Self> {
        let meta = path.symlink_metadata()?;
        // The directory may be named through links; a link itself is what is meant.
        let real = match (meta.is_symlink(), path.parent(), path.file_name()) {
            (true, Some(parent), Some(name)) => parent.canonicalize()?.join(name),
            _ => path.canonicalize()?,
        };
        let start = if meta.is_dir() {
            Some(real.as_path())
        } else {
            real.parent()
        };
        // A broken configuration is no reason not to know a repository.
        let configured = scene.settings().map(|settings| settings.folders);
        let configured = configured
            .unwrap_or_default()
            .into_iter()
            .find_map(|folder| {
                let root = folder.path.canonicalize().ok()?;
                real.starts_with(&root).then_some((root, folder.git_dir))
            });
        let around = start.and_then(|dir| dir.ancestors().find(|dir| dir.join(".git").exists()));
        let (root, git_dir) = match (configured, around) {
            (Some(folder), _) => folder,
            (None, Some(root)) => (root.to_owned(), None),
            (None, None) => {
                return Err(Complaint::new(
                    Exit::NoRepository,
                    format!("`{}` is in no folder of autosync", show(path)),
                    "Give a path in a folder that is kept in sync.",
                )
                .into());
            }
        };
        let git = Git::discover(&root, git_dir.as_deref())
            .map_err(|error| Complaint::from(&error.trouble()))?;
        let inside = real.strip_prefix(&root)?;
        let path = if inside.as_os_str().is_empty() {
            None
        } else {
            Some(RepoPath::from_path(inside)?)
        };
        Ok(Self {
            root,
            git,
            path,
            is_directory: meta.is_dir(),
        })
    }

    /// Returns the path for a person.
    pub(super) fn shown(&self) -> String {
        match &self.path {
            Some(path) if self.is_directory => format!("{path}/"),
            Some(path) => path.to_string(),
            None => show(&self.root),
        }
    }

    /// Asks the agent, if one runs and cares for the folder, to look again. Returns whether it does.
    pub(super) fn look_again(&self, scene: &Scene) -> anyhow::Result<bool> {
        let Some(root) = self.root.to_str() else {
            return Ok(false);
        };
        scene.put(async |client| Ok::<_, ClientError>(client.sync(Some(root)).await.is_ok()))
    }
}

/// Returns the roots of all folders that are known here.
fn roots(scene: &Scene) -> anyhow::Result<Vec<PathBuf>> {
    let mut roots: Vec<PathBuf> = Vec::new();
    if let Ok(settings) = scene.settings() {
        roots.extend(settings.folders.into_iter().map(|folder| folder.path));
    }
    let status = scene.put(async |client| Ok::<_, ClientError>(client.status().await.ok()))?;
    let folders = status.map(|status| status.folders).unwrap_or_default();
    roots.extend(folders.into_iter().map(|folder| PathBuf::from(folder.path)));
    Ok(roots)
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}
