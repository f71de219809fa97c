//! New objects as loose files, durable together.
//!
//! A commit of one file is five objects. Made durable one by one each costs two waits for the
//! disk; here all are written, their writeback is begun, and then each is fsynced: the first wait
//! carries the others.
//!
//! Invariants:
//! 1. An object gets its name only after its content is durable, and in the order given, so a
//!    power cut leaves no empty object, and none that names one that is missing.
//! 2. A file that a kill left behind has the name of git's own (`tmp_obj_*`), which `git gc`
//!    removes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use tempfile::{Builder, TempPath};

use super::objects::Kind;
use crate::names::ObjectId;
use crate::sys;

/// Objects that are known by their ids and not yet written.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    order: Vec<ObjectId>,
    by_id: BTreeMap<ObjectId, (Kind, Vec<u8>)>,
}

impl Gathered {
    /// Takes an object.
    pub(super) fn add(&mut self, id: ObjectId, kind: Kind, content: &[u8]) {
        if !self.by_id.contains_key(&id) {
            self.order.push(id);
            self.by_id.insert(id, (kind, content.to_vec()));
        }
    }

    /// Returns an object.
    pub(super) fn get(&self, id: ObjectId) -> Option<&(Kind, Vec<u8>)> {
        self.by_id.get(&id)
    }

    /// Writes them below `objects`, in the order in which they came. `meanwhile` runs between the
    /// writing and the waiting; what it makes durable shares the wait.
    pub(super) fn write(
        &self,
        objects: &Path,
        meanwhile: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut files: Vec<(File, TempPath, PathBuf)> = Vec::new();
        let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
        for id in &self.order {
            let Some((kind, content)) = self.by_id.get(id) else {
                continue;
            };
            let name = id.to_string();
            let dir = objects.join(&name[..2]);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    dirs.insert(objects.to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            write!(encoder, "{} {}\0", kind.word(), content.len())?;
            encoder.write_all(content)?;
            let (mut file, aside) = Builder::new()
                .prefix("tmp_obj_")
                .permissions(Permissions::from_mode(0o444))
                .tempfile_in(&dir)?
                .into_parts();
            file.write_all(&encoder.finish()?)?;
            sys::start_writeback(&file);
            files.push((file, aside, dir.join(&name[2..])));
            dirs.insert(dir);
        }
        meanwhile()?;
        for (file, _, _) in &files {
            file.sync_all()?;
        }
        for (_, aside, name) in files {
            aside.persist(name).map_err(|error| error.error)?;
        }
        for dir in dirs {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: usize) -> (ObjectId, String) {
        let text = format!("content {number}\n");
        let id = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap();
        (ObjectId::from_bytes(id.as_bytes()).unwrap(), text)
    }

    #[test]
    fn what_was_gathered_is_there_for_git_after_the_wait_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(place.path()).unwrap();
        let mut gathered = Gathered::default();
        for number in 0..20 {
            let (id, text) = object(number);
            gathered.add(id, Kind::Blob, text.as_bytes());
            gathered.add(id, Kind::Blob, text.as_bytes());
        }
        let odb = repo.odb().unwrap();
        let there = |number| {
            let oid = git2::Oid::from_bytes(object(number).0.as_bytes()).unwrap();
            odb.read(oid).ok().map(|found| found.data().to_vec())
        };
        let named = gathered.write(&repo.path().join("objects"), || {
            assert!((0..20).all(|number| there(number).is_none()));
            Err(io::Error::other("no room"))
        });
        assert!(named.is_err());
        // What failed leaves nothing behind but directories.
        for number in 0..20 {
            let dir = repo
                .path()
                .join("objects")
                .join(&object(number).0.to_string()[..2]);
            assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        }
        gathered
            .write(&repo.path().join("objects"), || Ok(()))
            .unwrap();
        for number in 0..20 {
            assert_eq!(there(number).unwrap(), object(number).1.as_bytes());
        }
    }
}
