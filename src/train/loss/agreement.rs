//! Several reward models on the same pairs: how far they agree, and what they say as one.
//!
//! Always: members have scored the same pairs in the same order.

use serde::Serialize;

use super::{
    Ensemble, LossError,
    calibration::{PairScore, check},
    error::within,
    interval::{Estimate, Resampling},
};

/// How far the members of an ensemble agree on the same pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Members.
    pub members: usize,
    /// Pairs.
    pub n: usize,
    /// Share of pairs on which two members prefer the same text, mean over pairs of members.
    pub pairwise: Estimate,
    /// Share of pairs on which all do.
    pub unanimous: Estimate,
    /// Mean over pairs of the deviation (over members, population) of the margin.
    pub deviation: Estimate,
    /// Share of the pairs on which not all agree that more than half of the members get right; none where all agree.
    pub majority: Option<Estimate>,
}

/// The members on one pair.
#[derive(Clone, Copy)]
struct Vote {
    members: usize,
    right: usize,
    deviation: f64,
}

impl Vote {
    fn of(margins: &[f64], right: usize) -> Self {
        let m = margins.len() as f64;
        let mean = margins.iter().sum::<f64>() / m;
        let squares = margins.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Self {
            members: margins.len(),
            right,
            deviation: (squares / m).sqrt(),
        }
    }

    /// Share of the couples of members that agree.
    fn agreeing(self) -> f64 {
        let (m, yes, no) = (self.members, self.right, self.members - self.right);
        let same = yes * yes.saturating_sub(1) + no * no.saturating_sub(1);
        same as f64 / (m * (m - 1)) as f64
    }

    fn unanimous(self) -> bool {
        self.right == 0 || self.right == self.members
    }
}

impl Agreement {
    /// Of each member's scores of the same pairs.
    ///
    /// # Errors
    /// Fewer than 2 members, no pairs, or members with other numbers of pairs.
    pub fn of(members: &[Vec<PairScore>], resampling: &Resampling) -> Result<Self, LossError> {
        let m = members.len();
        within(m >= 2, "ensemble", "members", "2 or more", m)?;
        same_pairs(members)?;
        let n = members[0].len();
        let votes: Vec<Vote> = (0..n)
            .map(|pair| {
                let all = || members.iter().map(|member| &member[pair]);
                let margins: Vec<f64> = all().map(PairScore::margin).collect();
                Vote::of(&margins, all().filter(|p| p.right()).count())
            })
            .collect();
        let here = means(&votes);
        let ends = resampling.intervals(&votes, means);
        let [pairwise, deviation] =
            std::array::from_fn(|k| Estimate::drawn(here[k].unwrap_or(f64::NAN), n, ends[k]));
        let unanimous = votes.iter().filter(|vote| vote.unanimous()).count();
        let split = votes.iter().filter(|vote| !vote.unanimous());
        let won = split.filter(|vote| 2 * vote.right > m).count();
        Ok(Self {
            members: m,
            n,
            pairwise,
            unanimous: Estimate::share(unanimous, n).unwrap_or(Estimate::drawn(f64::NAN, n, None)),
            deviation,
            majority: Estimate::share(won, n - unanimous),
        })
    }
}

fn means(votes: &[Vote]) -> [Option<f64>; 2] {
    let n = votes.len() as f64;
    let mean = |of: &dyn Fn(&Vote) -> f64| Some(votes.iter().map(of).sum::<f64>() / n);
    [mean(&|vote| vote.agreeing()), mean(&|vote| vote.deviation)]
}

fn same_pairs(members: &[Vec<PairScore>]) -> Result<(), LossError> {
    let n = members.first().map_or(0, Vec::len);
    for member in members {
        super::same_length("pairs of each member", n, member.len())?;
        check(member)?;
    }
    Ok(())
}

/// The pairs as an ensemble scores them: each text by its members' scores of it.
///
/// # Errors
/// No members, no pairs, or members with other numbers of pairs.
pub fn together(members: &[Vec<PairScore>], by: Ensemble) -> Result<Vec<PairScore>, LossError> {
    let found = members.len();
    within(found > 0, "ensemble", "members", "1 or more", found)?;
    same_pairs(members)?;
    let score = |pair: usize, of: &dyn Fn(&PairScore) -> f64| {
        let scores: Vec<f64> = members.iter().map(|member| of(&member[pair])).collect();
        by.reward(&scores)
    };
    let first = members[0].iter().enumerate();
    Ok(first
        .map(|(pair, lengths)| PairScore {
            chosen: score(pair, &|p| p.chosen),
            rejected: score(pair, &|p| p.rejected),
            ..*lengths
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(margin: f64) -> PairScore {
        PairScore {
            chosen: margin,
            rejected: 0.0,
            chosen_tokens: 1,
            rejected_tokens: 1,
        }
    }

    const FEW: Resampling = Resampling { draws: 50, seed: 1 };

    #[test]
    fn members_agree_as_counted_by_hand() {
        let member = |margins: [f64; 2]| margins.map(pair).to_vec();
        let all = [member([1.0, 1.0]), member([3.0, -1.0]), member([2.0, 3.0])];
        let found = Agreement::of(&all, &FEW).unwrap();
        // The first pair: all three, margins 1 2 3. The second: two of three, one couple of three, margins 1 -1 3.
        assert!((found.pairwise.value - f64::midpoint(1.0, 1.0 / 3.0)).abs() < 1e-15);
        assert_eq!((found.unanimous.value, found.members, found.n), (0.5, 3, 2));
        let deviation = f64::midpoint((2.0f64 / 3.0).sqrt(), (8.0f64 / 3.0).sqrt());
        assert!((found.deviation.value - deviation).abs() < 1e-15);
        assert_eq!(found.majority.map(|m| (m.value, m.n)), Some((1.0, 1)));
        assert!(Agreement::of(&all[..1], &FEW).is_err());
        let short = [member([1.0, 1.0]), vec![pair(1.0)]];
        assert!(Agreement::of(&short, &FEW).is_err());
    }

    #[test]
    fn an_ensemble_of_copies_is_its_member() {
        let member: Vec<PairScore> = [0.4, -1.5, 0.0, 2.0].map(pair).to_vec();
        let copies = vec![member.clone(); 3];
        let uwo = Ensemble::Uwo { lambda: 0.5 };
        for by in [Ensemble::Mean, Ensemble::Min, uwo] {
            for (found, expected) in together(&copies, by).unwrap().iter().zip(&member) {
                assert!((found.margin() - expected.margin()).abs() < 1e-15, "{by:?}");
            }
        }
        let found = Agreement::of(&copies, &FEW).unwrap();
        assert_eq!((found.pairwise.value, found.unanimous.value), (1.0, 1.0));
        assert!(found.deviation.value < 1e-15);
        assert_eq!(found.majority, None);
    }

    /// Two members, by hand: means 1 and 0 against 2.5 and 1, smallest 0 and -1 against 2 and 0.
    #[test]
    fn an_ensemble_scores_each_text_by_its_members() {
        let scored = |chosen: f64, rejected: f64| {
            vec![PairScore {
                chosen,
                rejected,
                ..pair(0.0)
            }]
        };
        let members = [scored(2.0, 2.0), scored(0.0, 3.0)];
        let of = |by| together(&members, by).unwrap()[0];
        let (mean, min) = (of(Ensemble::Mean), of(Ensemble::Min));
        assert_eq!((mean.chosen, mean.rejected), (1.0, 2.5));
        assert_eq!((min.chosen, min.rejected), (0.0, 2.0));
        // Variances 1 and 0.25.
        let uwo = of(Ensemble::Uwo { lambda: 0.4 });
        assert_eq!((uwo.chosen, uwo.rejected), (0.6, 2.4));
    }
}
