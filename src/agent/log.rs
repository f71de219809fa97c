//! What the log says of what the user is told.

use crate::engine::action::Tell;

/// Returns what happened and what to do about it, as text.
pub(super) fn sentences(message: &str, hint: &str) -> String {
    if hint.is_empty() {
        message.to_owned()
    } else {
        format!("{message}. {hint}")
    }
}

/// Writes what a person did or would ask about into the log.
pub(super) fn log(folder: &str, tell: &Tell) {
    match tell {
        Tell::Committed(made) => tracing::info!(folder, "committed {}", made.summary),
        Tell::Pushed(commit) => tracing::info!(folder, "pushed {}", commit.short()),
        Tell::Arrived { hosts, .. } => {
            let has = if hosts.len() == 1 { "has" } else { "have" };
            tracing::info!(folder, "{} {has} it", hosts.join(", "));
        }
        Tell::Received { host, count, .. } => {
            let from = host.as_deref().unwrap_or("the hub");
            let files = if *count == 1 { "file" } else { "files" };
            tracing::info!(folder, "{count} {files} from {from}");
        }
        Tell::Conflict(copies) => {
            for copy in copies {
                tracing::warn!(
                    folder,
                    "both sides changed {}; see {}",
                    copy.path,
                    copy.copy
                );
            }
        }
        Tell::Marked(marked) => {
            for file in marked {
                tracing::warn!(folder, "{}", sentences(&file.message(), &file.hint()));
            }
        }
        Tell::Held(held) => tracing::error!(folder, "{}", sentences(&held.message, &held.hint)),
        Tell::Problem(trouble) => {
            tracing::warn!(folder, "{}", sentences(&trouble.message, &trouble.hint));
        }
        Tell::Over(code) => tracing::info!(folder, code = code.word(), "this problem is over"),
        Tell::Solved => tracing::info!(folder, "syncing again"),
    }
}
