//! The figures as a Markdown table.

use std::time::Duration;

/// One row.
pub(crate) struct Row {
    size: usize,
    what: &'static str,
    ours: String,
    slowest: String,
    bare: String,
    ratio: String,
}

impl Row {
    /// Creates a row of times, beside those of the bare loop.
    pub(crate) fn new(
        size: usize,
        what: &'static str,
        times: &[Duration],
        bare: Option<&[Duration]>,
    ) -> Self {
        let (ours, slowest) = super::say(times);
        let ratio = bare.map_or(String::new(), |bare| {
            format!(
                "{:.2}",
                median(times).as_secs_f64() / median(bare).as_secs_f64()
            )
        });
        let bare = bare.map_or(String::new(), |bare| millis(median(bare)));
        Self {
            size,
            what,
            ours,
            slowest,
            bare,
            ratio,
        }
    }

    /// Creates a row of one figure.
    pub(crate) fn text(size: usize, what: &'static str, ours: String) -> Self {
        let (slowest, bare, ratio) = Default::default();
        Self {
            size,
            what,
            ours,
            slowest,
            bare,
            ratio,
        }
    }
}

/// Prints the head of the table.
pub(crate) fn print_head() {
    println!("| files | what | ours, median | p95 | bare git loop | ours / loop |");
    println!("|---:|---|---:|---:|---:|---:|");
}

/// Prints a row at once: a long run that is stopped has still said what it knew.
pub(crate) fn print(row: &Row) {
    let Row {
        size,
        what,
        ours,
        slowest,
        bare,
        ratio,
    } = row;
    println!("| {size} | {what} | {ours} | {slowest} | {bare} | {ratio} |");
}

/// Returns the median.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// Returns the time that `percent` of all do not exceed.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[at]
}

/// Returns a time in milliseconds.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
