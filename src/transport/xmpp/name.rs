//! The name of our connection at the account.
//!
//! Invariants: it is never like an old host's, because two of one name end each other's connection
//! and an old host does not recover from that; it is another one after it was taken from us.

use super::legacy;

/// A longer host name is cut.
const HOST: usize = 64;

/// Chooses a name: the one that is wanted, else one of the host and something random. After `taken`
/// was no good, another one.
pub(super) fn choose(
    wanted: Option<&str>,
    host: &str,
    chance: &mut fastrand::Rng,
    taken: Option<&str>,
) -> String {
    let mut random = || chance.u16(..);
    match wanted {
        Some(wanted) if legacy::is_old(wanted) => {
            tracing::warn!("this resource is one of an old host; another one is used");
        }
        Some(wanted) if taken.is_none() => return wanted.to_owned(),
        Some(wanted) => return format!("{wanted}.{:04x}", random()),
        None => {}
    }
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '-'
        }
    };
    let host: String = host.chars().take(HOST).map(plain).collect();
    loop {
        let name = format!("autosync.{host}.{:04x}", random());
        if taken != Some(name.as_str()) {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_is_wanted_until_it_is_taken() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut choose = |wanted, taken| choose(wanted, "lap top.x", &mut chance, taken);
        assert_eq!(choose(Some("mine"), None), "mine");
        let other = choose(Some("mine"), Some("mine"));
        assert!(other.starts_with("mine.") && other.len() == 9);
        let first = choose(None, None);
        assert!(first.starts_with("autosync.lap-top-x."), "{first}");
        assert_ne!(choose(None, Some(&first)), first);
    }

    #[test]
    fn a_name_is_never_an_old_hosts() {
        let mut chance = fastrand::Rng::with_seed(1);
        let name = choose(Some("AutosyncJabberBot on x"), "x", &mut chance, None);
        assert!(name.starts_with("autosync.x."));
    }
}
