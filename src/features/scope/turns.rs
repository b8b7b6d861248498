//! Which latents are edited from which token on.
//!
//! Always: the first token of a text stays as it is, as wherever latents are turned. It is an attention sink on which no
//! dictionary was trained: its codes mean nothing and are so large that a changed one would break the model.

use serde::{Deserialize, Serialize};

use crate::features::LatentEdit;

/// From a position on these edits and no others, until the next turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The first position where they hold; the token read there is as it was, the one after it may be another.
    pub from: usize,
    /// What is done there, in this order.
    pub edits: Vec<LatentEdit>,
}

/// Turns by rising position.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Turns(Vec<Turn>);

impl Turns {
    /// No latent is ever edited.
    pub fn none() -> Self {
        Self::default()
    }

    /// From the second token on.
    pub fn always(edits: Vec<LatentEdit>) -> Self {
        Self::none().with(0, edits)
    }

    /// These edits from `from` on, or from the second token if that is later, in place of all that came there or later.
    pub fn with(&self, from: usize, edits: Vec<LatentEdit>) -> Self {
        let from = from.max(1);
        let earlier = self.0.iter().take_while(|turn| turn.from < from);
        let mut turns: Vec<Turn> = earlier.cloned().collect();
        if turns.last().map_or(&[][..], |turn| &turn.edits) != edits {
            turns.push(Turn { from, edits });
        }
        Self(turns)
    }

    /// The edits at a position.
    pub fn at(&self, position: usize) -> &[LatentEdit] {
        let later = self.0.partition_point(|turn| turn.from <= position);
        later
            .checked_sub(1)
            .map_or(&[], |last| self.0[last].edits.as_slice())
    }

    /// All turns.
    pub fn all(&self) -> &[Turn] {
        &self.0
    }

    /// The first position where two schedules do something else.
    pub fn differ(&self, other: &Self) -> Option<usize> {
        let starts = self.0.iter().chain(&other.0).map(|turn| turn.from);
        starts.filter(|&at| self.at(at) != other.at(at)).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_turn_holds_until_the_next_and_ends_what_came_later() {
        let edit = |text: &str| vec![text.parse::<LatentEdit>().unwrap()];
        let one = Turns::none().with(3, edit("7=0")).with(6, edit("7+2"));
        let seen = [2, 3, 5, 6, 90].map(|at| one.at(at).to_vec());
        let [none, first, second] = [vec![], edit("7=0"), edit("7+2")];
        assert_eq!(
            seen,
            [none.clone(), first.clone(), first, second.clone(), second]
        );
        let two = one.with(4, vec![]);
        assert_eq!(
            (two.all().len(), two.at(3).len(), two.at(9).len()),
            (2, 1, 0)
        );
        assert_eq!((one.differ(&two), two.differ(&one)), (Some(4), Some(4)));
        assert_eq!(one.differ(&one.clone()), None);
        // What changes nothing is no turn.
        assert_eq!(one.with(5, edit("7=0")).all().len(), 1);
        assert_eq!(Turns::none().with(5, vec![]), Turns::none());
        let always = Turns::always(edit("1*2"));
        assert_eq!((always.at(0).len(), always.at(1)), (0, &edit("1*2")[..]));
    }
}
