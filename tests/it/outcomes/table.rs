//! Every pair of operations on one path, with what must come out: data only.
//!
//! A row is `HUB / LOCAL | base | the hub's tree | the other's tree | what must come out`. A tree is
//! written as `PATH=CONTENT ...`. Contents: `b` is a text of eight lines; `h` is `b` with
//! the first line edited, `k` with the same line edited otherwise, `l` with the last line edited,
//! `hl` with both; `b+x` is executable; `@t` is a link to `t`; `&1` is a submodule at commit 1;
//! `z0`, `z1`... are not text (NUL); `y0`, `y1`, `y2` are lines in Latin-1 of which different ones
//! are edited; any other word is a text of its own; `-` is no file at all. `{copy}` stands for
//! ` (conflict HOST DATE oid7)`.

use std::collections::BTreeMap;

/// One pair of operations.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// What is done, `hub / local`.
    pub(crate) name: String,
    /// What both start from.
    pub(crate) base: Tree,
    /// What the hub has.
    pub(crate) h: Tree,
    /// What the other side has.
    pub(crate) l: Tree,
    /// What must come out everywhere.
    pub(crate) expect: Tree,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A file: its bytes, and whether it is executable.
    File(Vec<u8>, bool),
    /// A link and its target.
    Link(String),
    /// A submodule: a commit id of that many equal digits.
    Submodule(char),
}

/// A whole tree.
pub(crate) type Tree = BTreeMap<String, Node>;

/// Base: a file `p`.
const FILE: &str = "\
nothing / nothing | p=b | p=b | p=b | p=b
nothing / edit | p=b | p=b | p=l | p=l
nothing / delete | p=b | p=b | - | -
nothing / chmod +x | p=b | p=b | p=b+x | p=b+x
nothing / directory | p=b | p=b | p/x=x | p/x=x
nothing / symlink | p=b | p=b | p=@t | p=@t
edit / nothing | p=b | p=h | p=b | p=h
edit / same edit | p=b | p=h | p=h | p=h
edit / edit, lines apart | p=b | p=h | p=l | p=hl
edit / edit, same line | p=b | p=h | p=k | p=h p{copy}=k
edit / edit, not text | p=z0 | p=z1 | p=z2 | p=z1 p{copy}=z2
edit / edit, not UTF-8 | p=y0 | p=y1 | p=y2 | p=y1 p{copy}=y2
edit / edit + chmod, lines apart | p=b | p=h | p=l+x | p=hl+x
edit / edit + chmod, same line | p=b | p=h | p=k+x | p=h+x p{copy}=k+x
edit / delete | p=b | p=h | - | p=h
edit / chmod +x | p=b | p=h | p=b+x | p=h+x
edit / directory | p=b | p=h | p/x=x | p=h p{copy}/x=x
edit / symlink | p=b | p=h | p=@t | p=h p{copy}=@t
delete / nothing | p=b | - | p=b | -
delete / edit | p=b | - | p=l | p=l
delete / delete | p=b | - | - | -
delete / chmod +x | p=b | - | p=b+x | p=b+x
delete / directory | p=b | - | p/x=x | p/x=x
delete / symlink | p=b | - | p=@t | p=@t
chmod +x / nothing | p=b | p=b+x | p=b | p=b+x
chmod +x / edit | p=b | p=b+x | p=l | p=l+x
chmod +x / delete | p=b | p=b+x | - | p=b+x
chmod +x / chmod +x | p=b | p=b+x | p=b+x | p=b+x
chmod +x / directory | p=b | p=b+x | p/x=x | p/x=x
chmod +x / symlink | p=b | p=b+x | p=@t | p=@t
directory / nothing | p=b | p/x=x | p=b | p/x=x
directory / edit | p=b | p/x=x | p=l | p/x=x p{copy}=l
directory / delete | p=b | p/x=x | - | p/x=x
directory / chmod +x | p=b | p/x=x | p=b+x | p/x=x
directory / directory | p=b | p/x=x | p/y=y | p/x=x p/y=y
directory / directory, same file | p=b | p/x=x | p/x=x p/y=y | p/x=x p/y=y
directory / directory, other file | p=b | p/x=x | p/x=y | p/x=x p/x{copy}=y
directory / symlink | p=b | p/x=x | p=@t | p/x=x p{copy}=@t
symlink / nothing | p=b | p=@t | p=b | p=@t
symlink / edit | p=b | p=@t | p=l | p=@t p{copy}=l
symlink / delete | p=b | p=@t | - | p=@t
symlink / chmod +x | p=b | p=@t | p=b+x | p=@t
symlink / directory | p=b | p=@t | p/x=x | p=@t p{copy}/x=x
symlink / same symlink | p=b | p=@t | p=@t | p=@t
symlink / other symlink | p=b | p=@t | p=@u | p=@t p{copy}=@u
";

/// Base: nothing at `p`.
const NOTHING: &str = "\
nothing / new file | - | - | p=f | p=f
nothing / new directory | - | - | p/x=x | p/x=x
nothing / new symlink | - | - | p=@t | p=@t
new file / nothing | - | p=f | - | p=f
new file / same file | - | p=f | p=f | p=f
new file / same bytes, executable | - | p=f | p=f+x | p=f
new file / other file | - | p=f | p=g | p=f p{copy}=g
new file / alike file | - | p=h | p=l | p=h p{copy}=l
new file / new directory | - | p=f | p/x=x | p=f p{copy}/x=x
new file / new symlink | - | p=f | p=@t | p=f p{copy}=@t
new directory / nothing | - | p/x=x | - | p/x=x
new directory / new file | - | p/x=x | p=f | p/x=x p{copy}=f
new directory / new directory | - | p/x=x | p/y=y | p/x=x p/y=y
new directory / new symlink | - | p/x=x | p=@t | p/x=x p{copy}=@t
new symlink / nothing | - | p=@t | - | p=@t
new symlink / new file | - | p=@t | p=f | p=@t p{copy}=f
new symlink / new directory | - | p=@t | p/x=x | p=@t p{copy}/x=x
new symlink / same symlink | - | p=@t | p=@t | p=@t
new symlink / other symlink | - | p=@t | p=@u | p=@t p{copy}=@u
";

/// Base: a directory `p/` with files `a` and `b`.
const DIRECTORY: &str = "\
nothing / edit p/a | p/a=b p/b=c | p/a=b p/b=c | p/a=l p/b=c | p/a=l p/b=c
nothing / add p/n | p/a=b p/b=c | p/a=b p/b=c | p/a=b p/b=c p/n=n | p/a=b p/b=c p/n=n
nothing / delete p/ | p/a=b p/b=c | p/a=b p/b=c | - | -
nothing / file p | p/a=b p/b=c | p/a=b p/b=c | p=f | p=f
nothing / rename p/ q/ | p/a=b p/b=c | p/a=b p/b=c | q/a=b q/b=c | q/a=b q/b=c
edit p/a / nothing | p/a=b p/b=c | p/a=h p/b=c | p/a=b p/b=c | p/a=h p/b=c
edit p/a / edit p/a | p/a=b p/b=c | p/a=h p/b=c | p/a=l p/b=c | p/a=hl p/b=c
edit p/a / edit p/a, same line | p/a=b p/b=c | p/a=h p/b=c | p/a=k p/b=c | p/a=h p/a{copy}=k p/b=c
edit p/a / edit p/b | p/a=b p/b=c | p/a=h p/b=c | p/a=b p/b=n | p/a=h p/b=n
edit p/a / add p/n | p/a=b p/b=c | p/a=h p/b=c | p/a=b p/b=c p/n=n | p/a=h p/b=c p/n=n
edit p/a / delete p/ | p/a=b p/b=c | p/a=h p/b=c | - | p/a=h
edit p/a / file p | p/a=b p/b=c | p/a=h p/b=c | p=f | p/a=h p{copy}=f
edit p/a / rename p/ q/ | p/a=b p/b=c | p/a=h p/b=c | q/a=b q/b=c | q/a=h q/b=c
add p/n / nothing | p/a=b p/b=c | p/a=b p/b=c p/n=n | p/a=b p/b=c | p/a=b p/b=c p/n=n
add p/n / edit p/a | p/a=b p/b=c | p/a=b p/b=c p/n=n | p/a=l p/b=c | p/a=l p/b=c p/n=n
add p/n / add p/m | p/a=b p/b=c | p/a=b p/b=c p/n=n | p/a=b p/b=c p/m=m | p/a=b p/b=c p/n=n p/m=m
add p/n / add another p/n | p/a=b p/b=c | p/a=b p/b=c p/n=n | p/a=b p/b=c p/n=m | p/a=b p/b=c p/n=n p/n{copy}=m
add p/n / delete p/ | p/a=b p/b=c | p/a=b p/b=c p/n=n | - | p/n=n
add p/n / file p | p/a=b p/b=c | p/a=b p/b=c p/n=n | p=f | p/n=n p{copy}=f
add p/n / rename p/ q/ | p/a=b p/b=c | p/a=b p/b=c p/n=n | q/a=b q/b=c | q/a=b q/b=c p/n=n
delete p/ / nothing | p/a=b p/b=c | - | p/a=b p/b=c | -
delete p/ / edit p/a | p/a=b p/b=c | - | p/a=l p/b=c | p/a=l
delete p/ / add p/n | p/a=b p/b=c | - | p/a=b p/b=c p/n=n | p/n=n
delete p/ / delete p/ | p/a=b p/b=c | - | - | -
delete p/ / file p | p/a=b p/b=c | - | p=f | p=f
delete p/ / rename p/ q/ | p/a=b p/b=c | - | q/a=b q/b=c | q/a=b q/b=c
file p / nothing | p/a=b p/b=c | p=f | p/a=b p/b=c | p=f
file p / edit p/a | p/a=b p/b=c | p=f | p/a=l p/b=c | p=f p{copy}/a=l
file p / chmod p/a | p/a=b p/b=c | p=f | p/a=b+x p/b=c | p=f
chmod p/a / file p | p/a=b p/b=c | p/a=b+x p/b=c | p=f | p=f
file p / add p/n | p/a=b p/b=c | p=f | p/a=b p/b=c p/n=n | p=f p{copy}/n=n
file p / delete p/ | p/a=b p/b=c | p=f | - | p=f
file p / same file p | p/a=b p/b=c | p=f | p=f | p=f
file p / other file p | p/a=b p/b=c | p=f | p=g | p=f p{copy}=g
file p / rename p/ q/ | p/a=b p/b=c | p=f | q/a=b q/b=c | p=f q/a=b q/b=c
rename p/ q/ / nothing | p/a=b p/b=c | q/a=b q/b=c | p/a=b p/b=c | q/a=b q/b=c
rename p/ q/ / edit p/a | p/a=b p/b=c | q/a=b q/b=c | p/a=l p/b=c | q/a=l q/b=c
rename p/ q/ / add p/n | p/a=b p/b=c | q/a=b q/b=c | p/a=b p/b=c p/n=n | q/a=b q/b=c p/n=n
rename p/ q/ / delete p/ | p/a=b p/b=c | q/a=b q/b=c | - | q/a=b q/b=c
rename p/ q/ / file p | p/a=b p/b=c | q/a=b q/b=c | p=f | p=f q/a=b q/b=c
rename p/ q/ / the same | p/a=b p/b=c | q/a=b q/b=c | q/a=b q/b=c | q/a=b q/b=c
rename p/ q/ / rename p/ r/ | p/a=b p/b=c | q/a=b q/b=c | r/a=b r/b=c | q/a=b q/b=c r/a=b r/b=c
rename p/ q/ / link p | p/a=b p/b=c | q/a=b q/b=c | p=@t | p=@t q/a=b q/b=c
";

/// Renames of files.
const RENAMES: &str = "\
rename / edit | p=b | q=b | p=l | q=l
rename + edit / edit, lines apart | p=b | q=h | p=l | q=hl
rename + edit / edit, same line | p=b | q=h | p=k | q=h q{copy}=k
edit / rename | p=b | p=h | q=b | q=h
edit / rename + edit, lines apart | p=b | p=h | q=l | q=hl
edit / rename + edit, same line | p=b | p=h | q=k | q=h q{copy}=k
rename + edit / edit, not UTF-8 | p=y0 | q=y1 | p=y2 | q=y1 q{copy}=y2
rename / delete | p=b | q=b | - | q=b
delete / rename | p=b | - | q=b | q=b
rename + edit / delete | p=b | q=h | - | q=h
rename / chmod | p=b | q=b | p=b+x | q=b+x
chmod / rename | p=b | p=b+x | q=b | q=b+x
rename / symlink | p=b | q=b | p=@t | p=@t q=b
symlink / rename | p=b | p=@t | q=b | p=@t q=b
rename / rename, two names | p=b | q=b | r=b | q=b r=b
rename / rename + chmod, two names | p=b | q=b | r=b+x | q=b+x r=b+x
rename + edit / rename + edit, two names, lines apart | p=b | q=h | r=l | q=hl r=hl
rename + edit / rename + edit, two names, same line | p=b | q=h | r=k | q=h r=k
rename + edit / rename, two names | p=b | q=h | r=b | q=h r=h
rename / rename, one name | a=b c=c | q=b c=c | a=b q=c | q=b q{copy}=c
rename + edit / rename + edit, one name | a=b c=c | q=b c=ch | a=l q=c | q=b q{copy}=c c=ch a=l
rename + edit / rename + edit, one name, same lines | a=b c=c | q=h c=ch | a=k q=cl | q=h q{copy}=cl c=ch a=k
rename q / add q | a=b c=c | q=b c=c | a=b c=c q=f | q=b q{copy}=f c=c
add q / rename q | a=b c=c | a=b c=c q=f | q=b c=c | q=f q{copy}=b c=c
rename q / add q, edit | a=b c=c | q=b c=c | a=l c=c q=f | q=b q{copy}=f a=l c=c
rename q + edit / add q, edit same line | a=b c=c | q=h c=c | a=k c=c q=f | q=h q{copy}=f a=k c=c
add q, edit / rename q | a=b c=c | a=h c=c q=f | q=b c=c | q=f q{copy}=b a=h c=c
p to d/p / file d | p=b | d/p=b | p=b d=f | d/p=b d{copy}=f
file d / p to d/p | p=b | p=b d=f | d/p=b | d=f d{copy}/p=b
p to d/p, edit / file d, edit | p=b | d/p=h | p=l d=f | d/p=hl d{copy}=f
p to d/p, edit / file d, edit same line | p=b | d/p=h | p=k d=f | d/p=h d/p{copy}=k d{copy}=f
p to p/x, alike / edit | p=b | p/x=b | p=l | p/x=l
edit / p to p/x, alike | p=b | p=h | p/x=b | p/x=h
p/a to p, alike / edit p/a | p/a=b | p=b | p/a=l | p=l
edit p/a / p/a to p, alike | p/a=b | p/a=h | p=b | p=h
swap / edit | a=b c=c | a=c c=b | a=l c=c | a=c c=l
edit / swap | a=b c=c | a=h c=c | a=c c=b | a=c c=h
swap / edit of both | a=b c=c | a=c c=b | a=l c=cl | a=cl c=l
swap / same swap | a=b c=c | a=c c=b | a=c c=b | a=c c=b
swap / delete | a=b c=c | a=c c=b | c=c | a=c c=b
rotation / edit | a=b c=c d=d | a=c c=d d=b | a=l c=c d=d | a=c c=d d=l
";

/// Links, modes, submodules, names.
const MORE: &str = "\
chmod -x / edit | p=b+x | p=b | p=l+x | p=l
edit / chmod -x | p=b+x | p=h+x | p=b | p=h
chmod -x / delete | p=b+x | p=b | - | p=b
chmod -x / chmod -x | p=b+x | p=b | p=b | p=b
chmod -x / directory | p=b+x | p=b | p/x=x | p/x=x
directory / chmod -x | p=b+x | p/x=x | p=b | p/x=x
symlink / chmod -x | p=b+x | p=@t | p=b | p=@t
retarget / nothing | p=@t | p=@u | p=@t | p=@u
retarget / same | p=@t | p=@u | p=@u | p=@u
retarget / retarget | p=@t | p=@u | p=@v | p=@u p{copy}=@v
retarget / delete | p=@t | p=@u | - | p=@u
delete / retarget | p=@t | - | p=@u | p=@u
retarget / file | p=@t | p=@u | p=f | p=@u p{copy}=f
file / retarget | p=@t | p=f | p=@u | p=f p{copy}=@u
retarget / directory | p=@t | p=@u | p/x=x | p=@u p{copy}/x=x
directory / retarget | p=@t | p/x=x | p=@u | p/x=x p{copy}=@u
submodule moved / nothing | p=&1 | p=&2 | p=&1 | p=&2
submodule moved / same | p=&1 | p=&2 | p=&2 | p=&2
submodule moved / moved | p=&1 | p=&2 | p=&3 | p=&2
submodule moved / deleted | p=&1 | p=&2 | - | p=&2
submodule moved / directory | p=&1 | p=&2 | p/x=x | p=&2 p{copy}/x=x
directory / submodule moved | p=&1 | p/x=x | p=&2 | p/x=x p{copy}=&2
submodule moved / file | p=&1 | p=&2 | p=f | p=&2 p{copy}=f
file / submodule moved | p=&1 | p=f | p=&2 | p=f p{copy}=&2
new submodule / new file | - | p=&2 | p=f | p=&2 p{copy}=f
new file / new submodule | - | p=f | p=&2 | p=f p{copy}=&2
new submodule / new directory | - | p=&2 | p/x=x | p=&2 p{copy}/x=x
new submodule / other new submodule | - | p=&2 | p=&3 | p=&2
names that differ in case | - | Name=f | name=g | Name=f name=g
names that differ in Unicode form | - | \u{e9}=f | e\u{301}=g | \u{e9}=f e\u{301}=g
case-only rename / edit | Name=b | name=b | Name=l | name=l
removed from the history / nothing | p=b q=c | q=c | p=b q=c | q=c
copy with extension | p.txt=b | p.txt=h | p.txt=k | p.txt=h p{copy}.txt=k
copy of a dot file | .p=b | .p=h | .p=k | .p=h .p{copy}.conflict=k
copy in a loading directory | x.d/p.conf=b | x.d/p.conf=h | x.d/p.conf=k | x.d/p.conf=h x.d/p{copy}.conf.conflict=k
";

/// Returns every cell of every table.
pub(crate) fn cells() -> Vec<Cell> {
    let tables = [
        ("file", FILE),
        ("nothing", NOTHING),
        ("directory", DIRECTORY),
        ("rename", RENAMES),
        ("more", MORE),
    ];
    let mut cells = Vec::new();
    for (table, rows) in tables {
        for row in rows.lines() {
            let parts: Vec<&str> = row.split('|').map(str::trim).collect();
            let [name, base, h, l, expect] = parts[..] else {
                panic!("{row}");
            };
            cells.push(Cell {
                name: format!("{table}: {name}"),
                base: tree(base),
                h: tree(h),
                l: tree(l),
                expect: tree(expect),
            });
        }
    }
    cells
}

/// Reads a tree; every tree also holds a file that nobody touches.
pub(crate) fn tree(words: &str) -> Tree {
    let mut tree = Tree::from([("o".to_owned(), node("o"))]);
    for word in words.split_ascii_whitespace().filter(|word| *word != "-") {
        let (path, content) = word.split_once('=').unwrap();
        tree.insert(path.to_owned(), node(content));
    }
    tree
}

/// Reads what stands at a path.
pub(crate) fn node(word: &str) -> Node {
    if let Some(target) = word.strip_prefix('@') {
        return Node::Link(target.to_owned());
    }
    if let Some(digit) = word.strip_prefix('&') {
        return Node::Submodule(digit.chars().next().unwrap());
    }
    let (word, executable) = match word.strip_suffix("+x") {
        Some(word) => (word, true),
        None => (word, false),
    };
    Node::File(content(word), executable)
}

/// Returns the bytes of a content word. The first letter says the text, `h`, `k` and `l` behind it
/// which lines are edited.
fn content(word: &str) -> Vec<u8> {
    let (text, edits) = match word {
        "h" | "k" | "l" | "hl" => ("b", word),
        _ if word.starts_with('c') => ("c", &word[1..]),
        _ => (word, ""),
    };
    if let Some(version) = text.strip_prefix('z') {
        return format!("\0 not text, version {version}\n").into_bytes();
    }
    let first = match (edits.contains('h'), edits.contains('k')) {
        (true, _) => " edited by the hub",
        (_, true) => " edited by the other",
        _ => "",
    };
    let last = if edits.contains('l') {
        " edited at the end"
    } else {
        ""
    };
    let latin = text.strip_prefix('y');
    let mut out = Vec::new();
    for line in 1..=8 {
        let edit = match (line, latin) {
            (1, Some("1")) | (8, Some("2")) => " edited",
            (1, _) => first,
            (8, _) => last,
            _ => "",
        };
        let name = if latin.is_some() { "latin" } else { text };
        out.extend(format!("{name}{line}{name} of {name}{edit}").bytes());
        if latin.is_some() {
            out.push(0xe4);
        }
        out.push(b'\n');
    }
    out
}
