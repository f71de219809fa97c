//! What the demo says: lines of at most 80 columns, or JSON.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::out::{count, say, wrap};
use super::verdict::Verdict;

/// Columns of who did something.
const WHO: usize = 17;
/// Columns of what was done.
const WHAT: usize = 50;

/// Tells what happens as it happens.
#[derive(Debug)]
pub(super) struct Tale {
    json: bool,
}

impl Tale {
    /// Creates a tale in words or in JSON.
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    fn object(&self, object: &Value) -> io::Result<()> {
        debug_assert!(self.json);
        say(object)
    }

    /// Tells where everything is.
    pub(super) fn opening(&self, place: &Path) -> io::Result<()> {
        if self.json {
            return self.object(&json!({"event": "place", "path": place.display().to_string()}));
        }
        say("Two computers, one folder, a hub between them.")?;
        say(format!("In {}.", place.display()))?;
        say("")
    }

    /// Tells one step: who did what, and how long it took until it was so.
    pub(super) fn step(&self, who: &str, what: &str, took: Duration) -> io::Result<()> {
        if self.json {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            return self.object(&json!({"event": "step", "who": who, "what": what, "ms": ms}));
        }
        let lines = wrap(what, WHAT);
        for (at, line) in lines.iter().enumerate() {
            let who = if at == 0 { who } else { "" };
            if at + 1 < lines.len() {
                say(format!("{who:<WHO$} {line}"))?;
            } else {
                say(format!("{who:<WHO$} {line:<WHAT$} {:>8}", shown(took)))?;
            }
        }
        Ok(())
    }

    /// Tells how it came out.
    pub(super) fn verdict(&self, verdict: &Verdict) -> io::Result<()> {
        if self.json {
            return self.object(&json!({
                "event": "result",
                "ok": verdict.failures.is_empty(),
                "files": verdict.files,
                "links": verdict.links,
                "commits": verdict.commits,
                "tokens": verdict.tokens,
                "in_tree": verdict.in_tree,
                "in_history": verdict.in_history,
                "failures": verdict.failures,
            }));
        }
        say("")?;
        let folders = format!(
            "{} and {} on each computer; {} versions were written: {} are in the folder, {} in \
             its history of {}.",
            count(verdict.files, "file"),
            count(verdict.links, "link"),
            verdict.tokens,
            verdict.in_tree,
            verdict.in_history,
            count(verdict.commits, "commit"),
        );
        let lines: Vec<String> = if verdict.failures.is_empty() {
            wrap(&folders, 80)
                .into_iter()
                .chain(wrap(
                    "Both folders are the same, nothing that was written is missing, and git finds \
                     no fault in them and the hub.",
                    80,
                ))
                .collect()
        } else {
            verdict
                .failures
                .iter()
                .flat_map(|failure| wrap(&format!("FAILED: {failure}"), 80))
                .collect()
        };
        lines.into_iter().try_for_each(say)
    }

    /// Tells where everything stays.
    pub(super) fn kept(&self, place: &Path) -> io::Result<()> {
        if self.json {
            return self.object(&json!({"event": "kept", "path": place.display().to_string()}));
        }
        say(format!("Kept in {}.", place.display()))
    }
}

/// Returns a time with three digits at least.
fn shown(took: Duration) -> String {
    if took < Duration::from_secs(10) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}
