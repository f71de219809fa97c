//! System calls of the program, as strace sees and disturbs them.
//!
//! Counts are those of strace's `when=`: of one call, in one thread. Calls are attributed to the
//! thread in which they began.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support::{PROGRAM, Sandbox};

/// Every call that changes something on a disk or makes it durable. `openat` is one of them if it
/// may create, and writes are if they go to a file.
pub(crate) const CHANGING: &str = "openat,write,pwrite64,writev,copy_file_range,sendfile,fallocate,\
    rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,\
    truncate,ftruncate,fchmod,chmod,fchmodat,symlink,symlinkat,setxattr,lsetxattr,fsetxattr,\
    utimensat,fchown,fchownat,fsync,fdatasync,syncfs";

/// A call that was made, and which one it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    /// The name of the call.
    pub(crate) name: String,
    /// Its number among those of its name in its thread, from one on.
    pub(crate) nth: usize,
    /// The call as it was traced.
    pub(crate) text: String,
}

impl Call {
    /// Whether it only waits for the disk.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync" | "syncfs")
    }

    /// Whether it adds something to a disk, which may be full.
    pub(crate) fn adds(&self) -> bool {
        let adding = [
            "open",
            "write",
            "pwrite",
            "copy",
            "send",
            "fallocate",
            "rename",
            "link",
            "mkdir",
            "sym",
            "set",
            "ftruncate",
            "lset",
            "fset",
        ];
        adding.iter().any(|it| self.name.starts_with(it))
    }
}

/// Whose calls are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The program's alone: its children are let go as soon as they are another program. Every call
    /// of it costs two stops.
    Program,
    /// The program's and those of its children; only what is asked for costs a stop.
    All,
}

/// The program under strace: `options`, then the sync of a folder.
pub(crate) fn program(sandbox: &Sandbox, whose: Whose, options: &[&str], folder: &Path) -> Command {
    let mut command = sandbox.command("strace");
    command.args(["-f", "-qq", "-y"]).args(match whose {
        Whose::Program => &["-b", "execve"][..],
        Whose::All => &["--seccomp-bpf"],
    });
    command.args(options).arg(PROGRAM).arg("once").arg(folder);
    command
}

/// Returns why nothing can be traced here, if so.
pub(crate) fn cannot(sandbox: &Sandbox) -> Option<&'static str> {
    let mut command = sandbox.command("strace");
    let Ok(out) = command
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .output()
    else {
        return Some("there is no strace");
    };
    (!out.status.success()).then_some("nobody may trace here")
}

/// What a trace of everything shows.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The program's calls that succeeded and changed something, each number of each call once.
    pub(crate) changes: Vec<Call>,
    /// How many more there were that have the name and number of one in another thread: nothing
    /// strikes at these, because the first that comes is struck.
    pub(crate) shadowed: usize,
    /// How many calls of a name a child made at most.
    children: BTreeMap<String, usize>,
}

impl Trace {
    /// Reads what strace wrote, asked for [`CHANGING`] and `execve`.
    pub(crate) fn read(log: &str) -> Self {
        let mut trace = Self::default();
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut begun: BTreeMap<&str, Call> = BTreeMap::new();
        let mut programs: Vec<&str> = Vec::new();
        let mut all: Vec<(&str, Call)> = Vec::new();
        for line in log.lines() {
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            if let Some((_, end)) = rest
                .strip_prefix("<... ")
                .and_then(|rest| rest.split_once(" resumed>"))
            {
                if let Some(mut call) = begun.remove(thread) {
                    call.text.push_str(end);
                    all.push((thread, call));
                }
                continue;
            }
            let Some((name, _)) = rest.split_once('(') else {
                continue;
            };
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                continue;
            }
            if name == "execve" {
                programs.push(thread);
                continue;
            }
            let count = counts.entry((thread, name)).or_default();
            *count += 1;
            let (name, nth) = (name.to_owned(), *count);
            if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
                let text = begin.to_owned();
                begun.insert(thread, Call { name, nth, text });
            } else {
                let text = rest.to_owned();
                all.push((thread, Call { name, nth, text }));
            }
        }
        let child = |thread| programs.iter().skip(1).any(|program| *program == thread);
        for ((thread, name), count) in &counts {
            if child(*thread) {
                let most = trace.children.entry((*name).to_owned()).or_default();
                *most = (*most).max(*count);
            }
        }
        for (_, call) in all.into_iter().filter(|(thread, _)| !child(thread)) {
            let known = |it: &Call| it.name == call.name && it.nth == call.nth;
            if !changed(&call) {
                continue;
            }
            if trace.changes.iter().any(known) {
                trace.shadowed += 1;
            } else {
                trace.changes.push(call);
            }
        }
        trace
    }

    /// Whose calls have to be looked at to strike the program alone at this one.
    pub(crate) fn whose(&self, call: &Call) -> Whose {
        let most = self.children.get(&call.name).copied().unwrap_or(0);
        // Some room: not every run is the same.
        if call.nth > most + 5 {
            Whose::All
        } else {
            Whose::Program
        }
    }
}

/// Whether a call changed something that stays.
fn changed(call: &Call) -> bool {
    let Some((asked, result)) = call.text.rsplit_once(" = ") else {
        return false;
    };
    if result.starts_with('-') || result.starts_with('?') {
        return false;
    }
    let to = |at: &str| {
        let file = asked.split_once(at).map_or("", |(_, rest)| rest);
        file.split_once('<').is_some_and(|(_, name)| {
            name.starts_with('/') && (!name.starts_with("/dev/") || name.starts_with("/dev/shm/"))
        })
    };
    match call.name.as_str() {
        "openat" => asked.contains("O_CREAT") || asked.contains("O_TRUNC"),
        "copy_file_range" => to(", NULL, "),
        "write" | "pwrite64" | "writev" | "sendfile" => to("("),
        _ => true,
    }
}

#[test]
fn changes_are_counted_in_their_thread_and_told_from_looks() {
    let log = "\
        7 execve(\"/program\", [], 0x7f) = 0\n\
        7 openat(AT_FDCWD</>, \"/a\", O_RDONLY) = 3</a>\n\
        7 openat(AT_FDCWD</>, \"/a\", O_RDWR|O_CREAT, 0600 <unfinished ...>\n\
        8 write(1<pipe:[1]>, \"x\", 1) = 1\n\
        9 write(5</b>, \"x\", 1)           = 1\n\
        8 write(4</b>, \"x\", 1)           = 1\n\
        7 <... openat resumed>)             = 3</a>\n\
        9 execve(\"/child\", [], 0x7f <unfinished ...>\n\
        9 <... execve resumed>)             = 0\n\
        8 mkdir(\"/c\", 0777)               = -1 EEXIST (File exists)\n\
        8 write(4</dev/null>, \"x\", 1)     = 1\n\
        7 write(4</dev/shm/b>, \"x\", 1)    = 1\n\
        7 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
        7 mkdir(\"/c\", 0777)               = ?\n\
        8 +++ exited with 0 +++\n";
    let trace = Trace::read(log);
    let found: Vec<(&str, usize)> = trace
        .changes
        .iter()
        .map(|call| (call.name.as_str(), call.nth))
        .collect();
    assert_eq!(found, [("write", 2), ("openat", 2), ("write", 1)]);
    assert_eq!(trace.children.get("write"), Some(&1));
    let whose: Vec<Whose> = trace.changes.iter().map(|it| trace.whose(it)).collect();
    assert_eq!(whose, [Whose::Program, Whose::Program, Whose::Program]);
}
