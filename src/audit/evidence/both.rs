//! Subject and baseline on the same texts and weight by weight, as far as an audit asks for it.

use super::{Evidence, Pair, Prompts, difference, pair};
use crate::audit::signal::Need;
use crate::audit::work::Work;
use crate::model::Checkpoint;

/// Two checkpoints side by side.
pub struct Both<'a> {
    /// The checkpoint under audit.
    pub subject: &'a Checkpoint,
    /// What it is held against.
    pub baseline: &'a Checkpoint,
    /// What is known of that, where the two can be paired.
    pub before: Option<&'a Evidence>,
}

impl Both<'_> {
    /// What both are needed for; `mismatch` says why they cannot be paired on the same tokens.
    pub fn compare(
        &self,
        prompts: &Prompts,
        needs: &[Need],
        mismatch: Option<&str>,
        (draws, seed): (usize, u64),
        work: &Work,
    ) -> Pair {
        let wanted = |need: Need| -> Result<(), String> {
            if work.cancelled() {
                Err("interrupted before it was measured".to_owned())
            } else if needs.contains(&need) {
                Ok(())
            } else {
                Err("no enabled signal asks for it".to_owned())
            }
        };
        let direction = self
            .before
            .and_then(|before| before.direction.as_ref().ok())
            .map(|chosen| chosen.direction.vector.as_slice());
        Pair {
            texts: match mismatch {
                Some(why) => Err(why.to_owned()),
                None => wanted(Need::Texts).and_then(|()| {
                    pair::texts(self.subject, self.baseline, &prompts.neutral, work)
                }),
            },
            difference: match mismatch {
                Some(why) => Err(why.to_owned()),
                None => wanted(Need::Difference).and_then(|()| {
                    let draws = (draws, seed);
                    difference::difference(
                        self.subject,
                        self.baseline,
                        &prompts.neutral,
                        draws,
                        work,
                    )
                }),
            },
            weights: wanted(Need::Weights).and_then(|()| {
                pair::weights(
                    &self.subject.decoder,
                    &self.baseline.decoder,
                    direction,
                    seed,
                    work,
                )
            }),
        }
    }
}
