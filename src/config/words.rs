//! Values that are one of a few words, and the nearest right word to a wrong one.

/// A value that is written as one of a few words.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value with its word, in the order in which they are named to a person.
    const ALL: &'static [(&'static str, Self)];

    /// Returns the value of a word.
    fn of(word: &str) -> Option<Self> {
        let same = |(name, _): &&(&str, Self)| *name == word;
        Self::ALL.iter().find(same).map(|(_, value)| *value)
    }

    /// Returns the word.
    fn word(self) -> &'static str {
        let same = |(_, value): &&(&str, Self)| *value == self;
        Self::ALL.iter().find(same).map_or("", |(name, _)| name)
    }
}

/// What the agent does by itself in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As soon as there is something.
    Auto,
    /// When asked, by `autosync sync`.
    Manual,
    /// Never.
    Off,
}

impl Word for Way {
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("manual", Self::Manual),
        ("off", Self::Off),
    ];
}

/// What becomes of a file that both sides changed, unless an attribute of the path says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictRule {
    /// Merge text; keep both where that fails.
    Merge,
    /// Keep both.
    Copy,
    /// The hub's version stands, ours stays in the history.
    Hub,
    /// Our version stands, the hub's stays in the history.
    Local,
    /// Merge text and keep the lines of both.
    Union,
}

impl Word for ConflictRule {
    const ALL: &'static [(&'static str, Self)] = &[
        ("merge", Self::Merge),
        ("copy", Self::Copy),
        ("hub", Self::Hub),
        ("local", Self::Local),
        ("union", Self::Union),
    ];
}

/// A way to hear of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransportKind {
    /// The hub itself says so.
    Hub,
    /// The other hosts say so over XMPP.
    Xmpp,
    /// The other hosts say so over `SparkleShare`'s line protocol.
    Fanout,
    /// We ask from time to time. Always on underneath, whether it is named or not.
    Poll,
}

impl Word for TransportKind {
    const ALL: &'static [(&'static str, Self)] = &[
        ("hub", Self::Hub),
        ("xmpp", Self::Xmpp),
        ("fanout", Self::Fanout),
        ("poll", Self::Poll),
    ];
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What is held and needs a person.
    Error,
    /// Also what is tried again.
    Warn,
    /// Also what a person did or would ask about.
    Info,
    /// Also every event and action of the engine.
    Debug,
    /// Everything.
    Trace,
}

impl Word for LogLevel {
    const ALL: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object on each line.
    Json,
}

impl Word for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// Returns the one of `known` that is most like `wrong`, if one is like it at all: at most a third
/// of its letters, and at least one, may be wrong.
pub(super) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let reach = (wrong.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (distance(wrong, word), word))
        .filter(|(far, _)| *far <= reach)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// Returns how many letters must be put in, left out, changed or swapped with their neighbour to
/// make `b` of `a` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_slips_of_the_hand() {
        for (a, b, far) in [
            ("", "", 0),
            ("", "abc", 3),
            ("quiet", "quiet", 0),
            ("qiuet", "quiet", 1),
            ("quite", "quiet", 1),
            ("exlude", "exclude", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_word_is_named_and_a_stranger_is_not() {
        let known = ["auto", "manual", "off"];
        assert_eq!(nearest("atuo", known), Some("auto"));
        assert_eq!(nearest("of", known), Some("off"));
        assert_eq!(nearest("yesterday", known), None);
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        fn check<W: Word + std::fmt::Debug>() {
            for (word, value) in W::ALL {
                assert_eq!(W::of(word), Some(*value));
                assert_eq!(value.word(), *word);
            }
        }
        check::<Way>();
        check::<ConflictRule>();
        check::<TransportKind>();
        check::<LogLevel>();
        check::<LogFormat>();
    }
}
