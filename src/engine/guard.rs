//! When a change is too dangerous to be forwarded without a person.
//!
//! Absent: any look at the tree. The edge counts, this room judges.

/// How much may vanish at once before a person is asked. The larger of the two limits counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassDelete {
    /// So many files are never a mass delete, however small the folder.
    pub files: usize,
    /// Nor is this share of the folder's files, in percent, however large it is.
    pub percent: u8,
}

impl Default for MassDelete {
    fn default() -> Self {
        Self {
            files: 50,
            percent: 25,
        }
    }
}

impl MassDelete {
    /// Returns whether `removed` of `before` files gone at once is more than both limits.
    ///
    /// A rename counts as no removal; the edge leaves out of `removed` what appears elsewhere.
    pub fn is_exceeded(self, removed: usize, before: usize) -> bool {
        let share = before.saturating_mul(usize::from(self.percent));
        removed > self.files && removed.saturating_mul(100) > share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mass_delete_is_more_than_fifty_files_and_a_quarter() {
        let guard = MassDelete::default();
        for (removed, before, held) in [
            (50, 50, false),
            (51, 51, true),
            (240, 1_000, false),
            (250, 1_000, false),
            (251, 1_000, true),
            (0, 0, false),
        ] {
            assert_eq!(
                guard.is_exceeded(removed, before),
                held,
                "{removed} {before}"
            );
        }
    }

    #[test]
    fn the_limits_are_as_they_are_set() {
        let strict = MassDelete {
            files: 0,
            percent: 0,
        };
        assert!(strict.is_exceeded(1, 1_000));
        assert!(!strict.is_exceeded(0, 1_000));
        let never = MassDelete {
            files: 0,
            percent: 100,
        };
        assert!(!never.is_exceeded(1_000, 1_000));
    }
}
