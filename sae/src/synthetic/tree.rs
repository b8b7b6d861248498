//! Which feature is whose child: trees laid out level by level, so that a parent always stands before its children.

use serde::{Deserialize, Serialize};

/// Features that fire only where their parent does. The first `roots` features are the roots, then come their children, then
/// the children of those; what is left over stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    /// Trees.
    pub roots: usize,
    /// Children of each feature that is not a leaf.
    pub children: usize,
    /// Levels below the roots.
    pub depth: usize,
    /// Of siblings that would fire together only one does, each with the same chance.
    pub exclusive: bool,
}

impl Trees {
    /// Features in trees; `None` if there are too many to count.
    pub fn features(&self) -> Option<usize> {
        let mut level = self.roots;
        let mut all = level;
        for _ in 0..self.depth {
            level = level.checked_mul(self.children)?;
            all = all.checked_add(level)?;
        }
        Some(all)
    }

    /// The parent of each of `features` features.
    pub(super) fn parents(&self, features: usize) -> Vec<Option<usize>> {
        let inside = self.features().unwrap_or(features).min(features);
        let of = |feature: usize| {
            (feature >= self.roots && feature < inside)
                .then(|| (feature - self.roots) / self.children)
        };
        (0..features).map(of).collect()
    }
}
