//! When a change is too dangerous to be forwarded without a person.
//!
//! Absent: any look at the tree. The edge counts, this room judges.

/// So many removals are never a mass delete, however small the folder.
const FEW: usize = 50;

/// Returns whether `removed` of `before` files gone at once is a mass delete: more than 50 files
/// and more than a quarter of what was there.
///
/// A rename counts as no removal; the edge leaves out of `removed` what appears elsewhere.
pub fn is_mass_delete(removed: usize, before: usize) -> bool {
    removed > FEW && removed.saturating_mul(4) > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mass_delete_is_more_than_fifty_files_and_a_quarter() {
        assert!(!is_mass_delete(50, 50));
        assert!(is_mass_delete(51, 51));
        assert!(!is_mass_delete(240, 1_000));
        assert!(!is_mass_delete(250, 1_000));
        assert!(is_mass_delete(260, 1_000));
        assert!(!is_mass_delete(0, 0));
    }
}
