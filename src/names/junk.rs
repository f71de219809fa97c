//! Which directories are build output or caches: what nobody wrote and everybody can have again.
//!
//! Some names are used for nothing else (`node_modules`). Others are words (`build`, `target`), and
//! then what stands in the directory or beside it has to say so. A tag says it of any directory
//! (<https://bford.info/cachedir/>).
//!
//! Absent: any look at a disk, and `vendor`, `bin`, `out` and the like, which people keep.

/// The file that marks a directory as a cache.
pub const TAG: &str = "CACHEDIR.TAG";

/// How that file begins if it is one.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What has to be there for a name to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// This name in the directory.
    Inside(&'static str),
    /// This name beside it.
    Beside(&'static str),
}

use Proof::{Beside, Inside};

/// Names that are used for nothing else.
const ALWAYS: &[&str] = &[
    "node_modules",
    "bower_components",
    "jspm_packages",
    "__pycache__",
    ".venv",
    ".tox",
    ".nox",
    ".eggs",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".gradle",
    ".next",
    ".nuxt",
    ".svelte-kit",
    ".parcel-cache",
    ".turbo",
    ".angular",
    ".cache",
    ".ccache",
    ".sass-cache",
    ".pnpm-store",
    ".terraform",
    ".stack-work",
    "dist-newstyle",
    "elm-stuff",
    ".dart_tool",
    ".zig-cache",
];

/// Names that are used for other things too, and what proves that they are not: one is enough.
const PROVEN: &[(&str, &[Proof])] = &[
    (
        "target",
        &[
            Inside(TAG),
            Beside("Cargo.toml"),
            Beside("pom.xml"),
            Beside("build.sbt"),
        ],
    ),
    (
        "build",
        &[
            Inside("CMakeCache.txt"),
            Inside("build.ninja"),
            Inside("meson-private"),
            Beside("build.gradle"),
            Beside("build.gradle.kts"),
        ],
    ),
    (
        "dist",
        &[
            Beside("package.json"),
            Beside("pyproject.toml"),
            Beside("setup.py"),
        ],
    ),
    (
        "_build",
        &[
            Beside("mix.exs"),
            Beside("dune-project"),
            Beside("rebar.config"),
        ],
    ),
    ("deps", &[Beside("mix.exs")]),
    ("obj", &[Inside("project.assets.json")]),
    ("Pods", &[Beside("Podfile")]),
    (".build", &[Beside("Package.swift")]),
    ("zig-cache", &[Beside("build.zig")]),
    ("zig-out", &[Beside("build.zig")]),
    ("venv", &[Inside("pyvenv.cfg")]),
    ("env", &[Inside("pyvenv.cfg")]),
    (".env", &[Inside("pyvenv.cfg")]),
];

/// What the name of a directory says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Nothing.
    None,
    /// It is build output or a cache.
    Junk,
    /// It is, if one of these is there.
    If(&'static [Proof]),
}

/// Returns what the name of a directory says of it.
pub fn sign(name: &[u8]) -> Sign {
    if ALWAYS.iter().any(|junk| junk.as_bytes() == name) {
        return Sign::Junk;
    }
    let proven = PROVEN.iter().find(|(word, _)| word.as_bytes() == name);
    if let Some((_, proofs)) = proven {
        return Sign::If(proofs);
    }
    if name.starts_with(b"cmake-build-") {
        return Sign::If(&[Inside("CMakeCache.txt")]);
    }
    Sign::None
}

/// Returns whether the beginning of a [`TAG`] says that its directory is a cache.
pub fn is_tag(head: &[u8]) -> bool {
    head.starts_with(SIGNATURE)
}

/// Returns how many bytes of a [`TAG`] have to be looked at.
pub fn tag_len() -> u64 {
    SIGNATURE.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_needs_a_proof_and_a_name_of_its_own_needs_none() {
        for name in ["node_modules", "__pycache__", ".venv", ".gradle"] {
            assert_eq!(sign(name.as_bytes()), Sign::Junk, "{name}");
        }
        for name in ["build", "dist", "target", "env", "cmake-build-debug"] {
            let Sign::If(proofs) = sign(name.as_bytes()) else {
                panic!("{name}");
            };
            assert!(!proofs.is_empty());
        }
        for name in [
            "src",
            "vendor",
            "Target",
            "node_modules2",
            "bin",
            "photos",
            "",
        ] {
            assert_eq!(sign(name.as_bytes()), Sign::None, "{name}");
        }
    }

    #[test]
    fn a_tag_is_one_by_its_first_line() {
        assert!(is_tag(
            b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"
        ));
        assert!(!is_tag(b"Signature: 8a477f597d28d172789f06886806bc5"));
        assert!(!is_tag(b"# Signature: 8a477f597d28d172789f06886806bc55"));
        assert_eq!(tag_len(), 43);
    }
}
