//! The loop: propose, measure on a quarter of the prompts, on half, on all; note; repeat.
//!
//! Pruning is exact: after each part both objectives are bounded from below by what was measured, and a trial is cut short only
//! when one that was run to its end is better than the bounds. What is cut short could not have come onto the front.
//! Always: a trial follows from those before it and the settings, so a search that was killed goes on as if it had not been.

use super::{
    Bench, Journal, Measured, Observed, Sampler, SearchError, Space, Trial, dominates, front,
    propose,
};
use crate::hooks::Hooks;

/// Parts of the prompts after which a trial may be cut short, in quarters.
const PARTS: [usize; 3] = [1, 2, 4];

/// How long a search is and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Trials in all, those in the journal included.
    pub trials: usize,
    /// How points are proposed.
    pub sampler: Sampler,
}

/// Tries edits until the journal holds as many trials as asked for; `seen` is told of each as it is noted.
///
/// # Errors
/// A pass's, the journal's, an interruption; what was noted stays.
pub fn search(
    bench: &Bench,
    space: &Space,
    settings: &Settings,
    journal: &mut Journal,
    seen: &mut dyn FnMut(&Trial),
) -> Result<(), SearchError> {
    while journal.trials().len() < settings.trials {
        let before = observed(bench, journal.trials());
        let number = before.len();
        let point = propose(space, &before, &settings.sampler, number);
        let hooks = hooks(bench, space, &point)?;
        let done: Vec<[f64; 2]> = before
            .iter()
            .filter(|o| o.whole)
            .map(|o| o.values)
            .collect();
        let mut measured = Measured::default();
        let mut cut = false;
        for quarters in PARTS {
            bench.measure(&hooks, quarters, &mut measured)?;
            let least = measured.values(bench.floor(), bench.counts());
            cut = quarters < 4 && done.iter().any(|&other| dominates(other, least));
            if cut {
                break;
            }
        }
        let extras = if cut {
            None
        } else {
            Some(bench.extras(&hooks)?)
        };
        let trial = Trial {
            number,
            point,
            measured,
            extras,
        };
        journal.note(trial.clone())?;
        seen(&trial);
    }
    Ok(())
}

/// Numbers of the trials that none dominates, by refusal.
pub fn best_of(bench: &Bench, journal: &Journal) -> Vec<usize> {
    let all = observed(bench, journal.trials());
    let whole: Vec<usize> = (0..all.len()).filter(|&i| all[i].whole).collect();
    let values: Vec<[f64; 2]> = whole.iter().map(|&i| all[i].values).collect();
    front(&values).into_iter().map(|i| whole[i]).collect()
}

/// Measures these trials on a bench of prompts that the search did not see, but for those of which the journal knows; `seen` is
/// told of each.
///
/// # Errors
/// A pass's, the journal's, an interruption.
pub fn tested(
    best: &[usize],
    held: &Bench,
    space: &Space,
    journal: &mut Journal,
    seen: &mut dyn FnMut(),
) -> Result<(), SearchError> {
    for &number in best {
        let Some(trial) = journal.trials().get(number) else {
            continue;
        };
        if journal.test(number).is_none() {
            let hooks = hooks(held, space, &trial.point)?;
            let (measured, extras) = held.whole(&hooks)?;
            journal.note_test(number, measured, extras)?;
        }
        seen();
    }
    Ok(())
}

fn hooks(bench: &Bench, space: &Space, point: &super::Point) -> Result<Hooks, SearchError> {
    let cp = bench.checkpoint();
    let edit = space.edit(point, cp.config())?;
    let edits = edit.hooks(&cp.decoder)?.unwrap_or_default();
    Ok(Hooks::new().edits(edits))
}

fn observed(bench: &Bench, trials: &[Trial]) -> Vec<Observed> {
    let of = |trial: &Trial| Observed {
        point: trial.point.clone(),
        values: trial.measured.values(bench.floor(), bench.counts()),
        whole: trial.whole(),
    };
    trials.iter().map(of).collect()
}
