//! File names that programs use for what exists only while they work.

/// How long a name that only looks transient is taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transient {
    /// Programs use such names for nothing else.
    Always,
    /// Real files have such names too: only a young file is taken for a transient one.
    WhileYoung,
}

/// Returns whether programs use such a file name for what exists only while they work: swap
/// files, locks, half-finished downloads, databases' journals.
pub fn transient(name: &[u8]) -> Option<Transient> {
    let ends = |end: &[u8]| name.len() > end.len() && name.ends_with(end);
    let begins = |start: &[u8]| name.starts_with(start);
    // `.f.swp`, and `.f.swpx` with which vim finds out what names the disk can hold.
    let stem = name.strip_suffix(b"x").unwrap_or(name);
    let is_swap = |name: &[u8]| name.len() > 5 && name[..name.len() - 1].ends_with(b".sw");
    let swap = begins(b".") && (is_swap(name) || is_swap(stem));
    let always = swap
        || name == b"4913"
        || ends(b"~")
        || (begins(b".#") && name.len() > 2)
        || (begins(b"#") && ends(b"#"))
        || (begins(b".~lock.") && ends(b"#"))
        || [".part", ".crdownload", ".tmp", "-wal", "-shm", "-journal"]
            .iter()
            .any(|end| ends(end.as_bytes()));
    if always {
        return Some(Transient::Always);
    }
    let random = |rest: &[u8]| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric);
    let sed = name.strip_prefix(b"sed").is_some_and(random);
    let rsync = begins(b".")
        && name.len() > 8
        && name[name.len() - 7] == b'.'
        && random(&name[name.len() - 6..]);
    (sed || rsync).then_some(Transient::WhileYoung)
}
