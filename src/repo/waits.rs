//! For how long removals that came in have waited for a person's word.
//!
//! The file `autosync/waits` holds it, so that it outlives restarts. It is counted on the clock that
//! goes on during a suspend, never on the wall clock; over a boot, what that clock says since then.
//!
//! Invariant: when what waits changes, the time begins anew. Nothing is carried out before it has
//! waited for the whole time.

use std::time::Duration;

use super::bases::{Bases, Why};
use super::records::{self, number};
use super::{Place, RepoError};
use crate::clock;
use crate::process;

/// The kind and version of the file.
const KIND: &str = "autosync waits 1";
/// The file is written no more often than this.
const OFTEN: Duration = Duration::from_secs(60);

/// Returns for how long the removals that wait have done so; `None` if none does.
pub(super) fn waited(place: &Place, bases: &Bases) -> Result<Option<Duration>, RepoError> {
    let file = place.store.join("waits");
    let mut what = Vec::new();
    for (path, _) in bases.iter().filter(|(_, it)| it.why == Why::RemovalWaits) {
        what.extend_from_slice(path.as_bytes());
        what.push(0);
    }
    if what.is_empty() {
        records::remove(&file)?;
        return Ok(None);
    }
    let what = place.objects.hash_blob(&what)?.to_string();
    let (now, boot) = (clock::now().0, process::boot_id());
    let known = records::read(&file, KIND, 4)?.unwrap_or_default();
    let (mut waited, mut fresh) = (Duration::ZERO, false);
    if let Some(known) = known.first().filter(|known| known[3] == what.as_bytes()) {
        let seconds = |field| Ok::<_, RepoError>(Duration::from_secs(number(&file, field)?));
        let since = if known[0] == boot.as_bytes() {
            now.saturating_sub(seconds(&known[1])?)
        } else {
            // It waited when the machine went down, and ever since it is up again.
            now
        };
        waited = seconds(&known[2])? + since;
        fresh = known[0] == boot.as_bytes() && since < OFTEN;
    }
    if !fresh {
        let fields = [
            boot,
            now.as_secs().to_string(),
            waited.as_secs().to_string(),
            what,
        ];
        records::write(&file, KIND, &[fields.map(String::into_bytes).to_vec()])?;
    }
    Ok(Some(waited))
}
