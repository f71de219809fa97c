//! Somebody who works in a folder and notes exactly what they wrote and what they destroyed.
//!
//! Exactly: what is deleted or replaced is moved out of the folder and read there, and what is
//! written over is read through the same descriptor. So the notes hold whatever an agent does
//! between two of our steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What can be worked on: the directories, the folder itself first, and the names in each of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    dirs: &'static [&'static str],
    files: &'static [&'static str],
}

/// As in a small project.
pub(crate) const MANY: Names = Names {
    dirs: &["", "a/", "b/", "b/deep/", "c/"],
    files: &["one", "two", "three.txt", "four.txt", "five", "a", "b"],
};

/// So few that everything meets all the time, files and directories above all.
pub(crate) const FEW: Names = Names {
    dirs: &["", "a/", "b/", "b/a/"],
    files: &["one", "a", "b"],
};

/// What begins every token; 8 digits follow.
const MARK: &[u8] = b"tok-";

/// Returns every token in a text.
pub(crate) fn tokens_in(text: &[u8]) -> BTreeSet<String> {
    text.windows(MARK.len() + 9)
        .filter(|window| window.starts_with(MARK))
        .map(|window| String::from_utf8_lossy(window).into_owned())
        .collect()
}

/// Who works in one folder.
pub(crate) struct Actor {
    letter: char,
    root: PathBuf,
    trash: PathBuf,
    names: Names,
    /// Files that stay open for a while, with the names that they were opened by.
    held: Vec<(File, String)>,
    /// Whether files are held open.
    holds: bool,
    /// What was thrown away, by inode: what is written to it afterwards is lost rightly.
    thrown: BTreeSet<u64>,
    count: u32,
    /// Every token, and where it was written.
    pub(crate) written: BTreeMap<String, String>,
    /// Every token that was in this folder when it was overwritten or deleted here.
    pub(crate) destroyed: BTreeSet<String>,
}

impl Actor {
    /// Somebody who works in `root` and throws away to `trash` on the same disk.
    pub(crate) fn new(name: &str, root: &Path, trash: &Path, names: Names) -> Self {
        fs::create_dir(trash).unwrap();
        Self {
            letter: name.chars().next().unwrap(),
            root: root.to_owned(),
            trash: trash.to_owned(),
            names,
            held: Vec::new(),
            holds: false,
            thrown: BTreeSet::new(),
            count: 0,
            written: BTreeMap::new(),
            destroyed: BTreeSet::new(),
        }
    }

    /// The same, who also holds files open and writes to them later.
    pub(crate) fn holding(self) -> Self {
        Self {
            holds: true,
            ..self
        }
    }

    /// Closes all files.
    pub(crate) fn let_go(&mut self) {
        self.held.clear();
    }

    /// Does one thing. What is not possible as things stand is left.
    pub(crate) fn act(&mut self, random: &mut fastrand::Rng) {
        let name = self.name(random);
        if self.holds && random.u32(..4) == 0 {
            drop(self.hold(name, random));
            return;
        }
        let done = match random.u32(..100) {
            0..20 => self.save_in_place(&name, random),
            20..40 => self.save_by_rename(&name, random),
            40..60 => self.append(&name),
            60..70 => self.delete(&name),
            70..80 => {
                let to = self.name(random);
                self.rename(&name, &to)
            }
            80..85 => self.link(&name),
            85..92 => self.chmod(&name, random.bool()),
            92..94 => fs::create_dir_all(self.root.join(self.directory(random))),
            94..96 => self.delete(self.directory(random)),
            _ => {
                let [from, to] = [0; 2].map(|_: u8| self.directory(random));
                self.rename(from, to)
            }
        };
        // A name may be taken by a directory, or be none at all: then nothing was done.
        drop(done);
    }

    fn name(&self, random: &mut fastrand::Rng) -> String {
        let Names { dirs, files } = self.names;
        let dir = dirs[random.usize(..dirs.len())];
        format!("{dir}{}", files[random.usize(..files.len())])
    }

    fn directory(&self, random: &mut fastrand::Rng) -> &'static str {
        let dirs = self.names.dirs;
        dirs[random.usize(1..dirs.len())].trim_end_matches('/')
    }

    fn token(&mut self) -> String {
        self.count += 1;
        format!("tok-{}{:08}", self.letter, self.count)
    }

    fn wrote(&mut self, tokens: impl IntoIterator<Item = String>, name: &str) {
        let entries = tokens.into_iter().map(|token| (token, name.to_owned()));
        self.written.extend(entries);
    }

    /// Returns a text with one line replaced by a new one, or a new text; and what is new in it.
    ///
    /// Each token is in one line alone: a merge of two edits may take one line from each.
    fn edited(&mut self, before: &[u8], random: &mut fastrand::Rng) -> (Vec<u8>, Vec<String>) {
        let text = String::from_utf8_lossy(before);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut tokens = vec![self.token()];
        if lines.len() < 3 || random.u32(..4) == 0 {
            tokens.extend([self.token(), self.token()]);
            let lines: Vec<String> = tokens.iter().map(|it| format!("line {it}\n")).collect();
            return (lines.join("\n").into_bytes(), tokens);
        }
        let at = random.usize(..lines.len());
        lines[at] = format!("line {}", tokens[0]);
        ((lines.join("\n") + "\n").into_bytes(), tokens)
    }

    /// Notes what of `before` is not in `after`.
    fn replaced(&mut self, before: &[u8], after: &[u8]) {
        let kept = tokens_in(after);
        let gone = tokens_in(before);
        self.destroyed.extend(gone.difference(&kept).cloned());
    }

    fn make_room(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(name);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(path)
    }

    /// Opens a file, replaces a line in it, and writes it.
    pub(crate) fn save_in_place(
        &mut self,
        name: &str,
        random: &mut fastrand::Rng,
    ) -> io::Result<()> {
        let path = self.make_room(name)?;
        if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Ok(());
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut before = Vec::new();
        file.read_to_end(&mut before)?;
        let (after, tokens) = self.edited(&before, random);
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        file.write_all(&after)?;
        self.replaced(&before, &after);
        self.wrote(tokens, name);
        Ok(())
    }

    /// Writes a file beside it and exchanges the two.
    pub(crate) fn save_by_rename(
        &mut self,
        name: &str,
        random: &mut fastrand::Rng,
    ) -> io::Result<()> {
        let path = self.make_room(name)?;
        let before = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => fs::read(&path)?,
            Ok(_) => return Ok(()),
            Err(_) => Vec::new(),
        };
        let (after, tokens) = self.edited(&before, random);
        let aside = self.aside();
        fs::write(&aside, &after)?;
        match renameat_with(CWD, &aside, CWD, &path, RenameFlags::EXCHANGE) {
            Ok(()) => {
                self.wrote(tokens, name);
                self.discarded(&aside, &after);
                Ok(())
            }
            Err(rustix::io::Errno::NOENT) => {
                renameat_with(CWD, &aside, CWD, &path, RenameFlags::NOREPLACE)?;
                self.wrote(tokens, name);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a text of several lines in the place of what is there, a token of its own behind it.
    pub(crate) fn put(&mut self, name: &str, text: &str) -> io::Result<()> {
        let path = self.make_room(name)?;
        let before = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => fs::read(&path)?,
            Ok(_) => return Ok(()),
            Err(_) => Vec::new(),
        };
        let token = self.token();
        let after = format!("{text}# {token}\n").into_bytes();
        fs::write(&path, &after)?;
        self.replaced(&before, &after);
        self.wrote([token], name);
        Ok(())
    }

    /// Adds a line.
    pub(crate) fn append(&mut self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Ok(());
        }
        let mut file = File::options().append(true).open(&path)?;
        let token = self.token();
        file.write_all(format!("appended {token}\n").as_bytes())?;
        self.wrote([token], name);
        Ok(())
    }

    /// Opens a file for longer, writes to one that is open, or closes one.
    fn hold(&mut self, name: String, random: &mut fastrand::Rng) -> io::Result<()> {
        if self.held.len() < 3 && random.bool() {
            let path = self.root.join(&name);
            if fs::symlink_metadata(&path)?.is_file() {
                let file = File::options().append(true).open(path)?;
                self.held.push((file, name));
            }
            return Ok(());
        }
        if self.held.is_empty() {
            return Ok(());
        }
        let at = random.usize(..self.held.len());
        let token = self.token();
        let (file, name) = &mut self.held[at];
        let name = name.clone();
        file.write_all(format!("late {token}\n").as_bytes())?;
        let gone = self.thrown.contains(&file.metadata()?.ino());
        if !gone {
            self.wrote([token], &name);
        }
        if random.bool() {
            self.held.swap_remove(at);
        }
        Ok(())
    }

    /// Moves a file or directory out of the folder.
    pub(crate) fn delete(&mut self, name: &str) -> io::Result<()> {
        let aside = self.aside();
        fs::rename(self.root.join(name), &aside)?;
        self.discarded(&aside, b"");
        Ok(())
    }

    /// Renames a file or directory; over a file as `mv` does.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        let from = self.root.join(from);
        let to = self.make_room(to)?;
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => {
                let kind = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.is_dir());
                if kind(&from)? || kind(&to)? {
                    return Ok(());
                }
                // What `mv` over a file does, in two steps that show what went away.
                renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE)?;
                let aside = self.aside();
                fs::rename(&from, &aside)?;
                self.discarded(&aside, b"");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a link.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<()> {
        let path = self.make_room(name)?;
        let token = self.token();
        symlink(format!("to/{token}"), path)?;
        self.wrote([token], name);
        Ok(())
    }

    /// Makes a file executable, or not.
    pub(crate) fn chmod(&self, name: &str, executable: bool) -> io::Result<()> {
        let path = self.root.join(name);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Ok(());
        }
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn aside(&mut self) -> PathBuf {
        self.count += 1;
        self.trash.join(self.count.to_string())
    }

    /// Notes everything in what was moved away, but for what is in `after`.
    fn discarded(&mut self, aside: &Path, after: &[u8]) {
        let Ok(meta) = fs::symlink_metadata(aside) else {
            return;
        };
        self.thrown.insert(meta.ino());
        if meta.is_dir() {
            for entry in fs::read_dir(aside).unwrap() {
                self.discarded(&entry.unwrap().path(), after);
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(aside).unwrap();
            self.replaced(target.as_os_str().as_encoded_bytes(), after);
        } else {
            let before = fs::read(aside).unwrap();
            self.replaced(&before, after);
        }
    }
}
