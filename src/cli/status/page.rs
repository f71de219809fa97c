//! The status for a person: compact, aligned, within 80 columns wherever names allow it.

use jiff::Timestamp;

use crate::cli::out::{count, wrap};
use crate::engine::status::{
    FolderStatus, HeldStatus, Moment, Progress, State, Status, TransportStatus,
};
use crate::names::escape;

/// No line is longer, unless a name in it is.
const WIDTH: usize = 80;
/// A longer name does not push the other columns away.
const NAME_MAX: usize = 20;
/// So many paths of a group are named.
const NAMED: usize = 3;

/// Returns the lines. `now` is wall time in seconds since 1970.
pub(super) fn lines(status: &Status, now: i64) -> Vec<String> {
    let agent = &status.agent;
    let mut page = Page::new(status);
    page.lines.push(format!(
        "{}: agent {}, process {}, up {}",
        clean(&status.host),
        clean(&agent.version),
        agent.pid,
        since(&agent.since, now)
    ));
    if status.folders.is_empty() {
        page.lines.push("There are no folders.".into());
    }
    for folder in &status.folders {
        page.folder(folder, now);
    }
    for transport in &status.transports {
        page.transport(transport, now);
    }
    page.lines
}

/// Returns how long ago a time in RFC 3339 was: `12s ago`, `3h ago`; the text itself if it is
/// none. `now` is wall time in seconds since 1970.
pub(in crate::cli) fn ago(at: &str, now: i64) -> String {
    match seconds_since(at, now) {
        Some(0) => "just now".into(),
        Some(_) => format!("{} ago", since(at, now)),
        None => clean(at),
    }
}

fn since(at: &str, now: i64) -> String {
    let Some(seconds) = seconds_since(at, now) else {
        return clean(at);
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

fn seconds_since(at: &str, now: i64) -> Option<i64> {
    let at: Timestamp = at.parse().ok()?;
    Some(now.saturating_sub(at.as_second()).max(0))
}

fn clean(text: &str) -> String {
    escape(text.as_bytes())
}

fn state_word(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Working => "working",
        State::Retry => "retry",
        State::Paused => "paused",
        State::Held => "held",
    }
}

struct Page {
    lines: Vec<String>,
    /// The width of the first column.
    name: usize,
}

impl Page {
    fn new(status: &Status) -> Self {
        let folders = status.folders.iter().map(|folder| &folder.name);
        let transports = status.transports.iter().map(|transport| &transport.name);
        let width = folders
            .chain(transports)
            .map(|name| clean(name).chars().count());
        Self {
            lines: Vec::new(),
            name: width.filter(|width| *width <= NAME_MAX).max().unwrap_or(0),
        }
    }

    /// Writes the first line of an entry: name, state, and a text that is wrapped in its column.
    fn head(&mut self, name: &str, state: &str, text: &str) {
        let indent = self.indent();
        let head = format!("{:width$}  {state:<10}", clean(name), width = self.name);
        let mut rest = wrap(&clean(text), WIDTH - indent).into_iter();
        let gap = " ".repeat(indent.saturating_sub(head.chars().count()));
        let first = rest.next().unwrap_or_default();
        let line = format!("{head}{gap}{first}");
        self.lines.push(line.trim_end().to_owned());
        for line in rest {
            self.lines.push(format!("{}{line}", " ".repeat(indent)));
        }
    }

    /// Writes a text into the last column.
    fn more(&mut self, text: &str) {
        let indent = self.indent();
        for line in wrap(&clean(text), WIDTH - indent) {
            self.lines.push(format!("{}{line}", " ".repeat(indent)));
        }
    }

    fn indent(&self) -> usize {
        self.name + 14
    }

    fn folder(&mut self, folder: &FolderStatus, now: i64) {
        let message = if folder.message.is_empty() {
            well(folder, now)
        } else {
            format!("{}, for {}", folder.message, since(&folder.since, now))
        };
        self.head(&folder.name, state_word(folder.state), &message);
        self.more(&folder.hint);
        self.more(&place(folder));
        if let Some(progress) = &folder.progress {
            self.more(&progress_text(progress));
        }
        if !folder.message.is_empty() || folder.state == State::Working {
            self.more(&pending(folder));
        }
        for held in &folder.held {
            self.more(&held_text(held));
            self.more(&held.hint);
        }
        let deferred = &folder.deferred;
        if let Some(first) = deferred.first() {
            let rest = match deferred.len() - 1 {
                0 => String::new(),
                more => format!(" and {}", count(more, "more path")),
            };
            self.more(&format!("waits: {} ({}){rest}", first.path, first.why));
        }
        match folder.conflicts.len() {
            0 => {}
            copies => {
                let copies = match copies {
                    1 => "1 conflict copy".to_owned(),
                    copies => format!("{copies} conflict copies"),
                };
                self.more(&format!("{copies}; see `autosync conflicts`"));
            }
        }
        if !folder.marked.is_empty() {
            let files = count(folder.marked.len(), "file");
            self.more(&format!(
                "{files} came with conflict markers; see `autosync conflicts`"
            ));
        }
        if !folder.aside.is_empty() {
            let files = count(folder.aside.len(), "ignored file");
            self.more(&format!(
                "{files} had to make room; see `autosync conflicts`"
            ));
        }
    }

    fn transport(&mut self, transport: &TransportStatus, now: i64) {
        let mut text = transport.message.clone();
        if !transport.peers.is_empty() {
            let heard = |peer: &crate::engine::status::PeerStatus| {
                format!("{} {}", peer.host, ago(&peer.heard, now))
            };
            let peers: Vec<String> = transport.peers.iter().map(heard).collect();
            let gap = if text.is_empty() { "" } else { "; " };
            text = format!("{text}{gap}heard {}", peers.join(", "));
        }
        self.head(&transport.name, &clean(&transport.state), &text);
        self.more(&transport.hint);
        for folder in &transport.folders {
            let said = |word: &str, at: &str| match at {
                "" => None,
                at => Some(format!("{word} {}", ago(at, now))),
            };
            let sent = said("told others", &folder.sent);
            let parts: Vec<String> = sent
                .into_iter()
                .chain(said("was told", &folder.received))
                .collect();
            if !parts.is_empty() {
                self.more(&format!("{}: {}", folder.name, parts.join(", ")));
            }
        }
    }
}

/// Returns the message of a folder that has nothing to complain about.
fn well(folder: &FolderStatus, now: i64) -> String {
    if folder.state == State::Working {
        return String::new();
    }
    let newest = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.at.clone());
    let last = [&folder.last.push, &folder.last.receive]
        .into_iter()
        .filter_map(newest)
        .max_by_key(|at| at.parse::<Timestamp>().ok());
    match (&folder.hub, last) {
        (None, _) => "local versions only".into(),
        (Some(_), _) if folder.published && !folder.held.is_empty() => {
            "in sync, except what is held".into()
        }
        (Some(_), Some(at)) if folder.published => format!("in sync, {}", ago(&at, now)),
        (Some(_), None) if folder.published => "in sync".into(),
        (Some(_), _) => "not on the hub yet".into(),
    }
}

fn place(folder: &FolderStatus) -> String {
    let hub = match &folder.hub {
        Some(hub) => format!(" -> {}", hub.url),
        None => String::new(),
    };
    let branch = match folder.branch.as_str() {
        "" => String::new(),
        branch => format!(" ({branch})"),
    };
    format!("{}{hub}{branch}", folder.path)
}

fn pending(folder: &FolderStatus) -> String {
    let mut parts = Vec::new();
    if folder.pending.paths > 0 {
        let paths = count(folder.pending.paths, "changed path");
        parts.push(format!("{paths} to commit"));
    }
    if folder.pending.commits > 0 {
        let commits = count(folder.pending.commits, "commit");
        parts.push(format!("{commits} to push"));
    }
    parts.join(", ")
}

fn held_text(held: &HeldStatus) -> String {
    let named: Vec<&str> = held.paths.iter().take(NAMED).map(String::as_str).collect();
    let rest = held.more + held.paths.len().saturating_sub(NAMED);
    let rest = if rest == 0 {
        String::new()
    } else {
        format!(" and {rest} more")
    };
    format!("held: {}: {}{rest}", held.message, named.join(", "))
}

fn progress_text(progress: &Progress) -> String {
    let Progress {
        what,
        done,
        total,
        unit,
    } = progress;
    let (done, all) = if unit == "bytes" {
        (rough_size(*done), rough_size(*total))
    } else {
        (format!("{done}"), format!("{total} {unit}"))
    };
    if *total == 0 {
        format!("{what}: {done}")
    } else {
        format!("{what}: {done} of {all}")
    }
}

/// Returns a size with three digits at most.
fn rough_size(bytes: u64) -> String {
    let (mut rest, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if rest < 1000 {
            break;
        }
        rest = rest.div_ceil(1024);
        unit = larger;
    }
    format!("{rest} {unit}")
}
