//! The residual stream over an answer: its mean over the answer's tokens at one layer, and directions between contrasted answers.
//!
//! Always: only tokens of the answer count, whatever prompt stands before them; a row's state is the same whatever runs beside it.

use candle_core::DType;
use candlescope_probes::Direction;
use candlescope_probes::error::ProbeError;
use ndarray::Array2;

use super::Part;
use crate::audit::pairs::Preference;
use crate::audit::traits::TraitPairs;
use crate::audit::work::Work;
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt, ModelError};

/// Answers that run side by side.
const BATCH: usize = 16;

/// Traits with fewer pairs are left out: a mean of less says nothing.
const LEAST: usize = 3;

/// Directions between answers with and without each trait, on one checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Traits {
    /// The layer at whose input they were read: the middle one.
    pub layer: usize,
    /// One for each trait.
    pub all: Vec<TraitDirection>,
}

/// A trait's direction.
#[derive(Clone, Debug, PartialEq)]
pub struct TraitDirection {
    /// The trait.
    pub name: String,
    /// Mean of the answers with it minus mean of those without; of length 1.
    pub vector: Vec<f32>,
    /// Pairs that it is made of.
    pub pairs: usize,
}

/// The layer at which states of answers are read.
pub fn middle(cp: &Checkpoint) -> usize {
    cp.config().n_layers / 2
}

/// Fits the direction of each trait.
///
/// # Errors
/// In words: no trait with enough pairs, a pass that fails, an interruption.
pub fn traits(cp: &Checkpoint, sets: &[TraitPairs], work: &Work) -> Part<Traits> {
    let usable: Vec<&TraitPairs> = sets.iter().filter(|set| set.pairs.len() >= LEAST).collect();
    if usable.is_empty() {
        return Err(format!(
            "no trait has the {LEAST} pairs of answers that a direction needs; the words of this checkpoint may lack theirs"
        ));
    }
    let layer = middle(cp);
    work.stage("traits", usable.len(), |stage| {
        let mut all = Vec::new();
        for (done, set) in usable.iter().enumerate() {
            if work.cancelled() {
                return Err("interrupted before it was measured".to_owned());
            }
            let named = |why: String| format!("trait `{}`: {why}", set.name);
            let [with, without] =
                both(&cp.decoder, &set.pairs, layer).map_err(|error| named(error.to_string()))?;
            let found = between(&with, &without).map_err(|error| named(error.to_string()))?;
            all.push(TraitDirection {
                name: set.name.clone(),
                vector: found,
                pairs: set.pairs.len(),
            });
            stage.at(done + 1);
        }
        Ok(Traits { layer, all })
    })
}

/// The unit vector from the mean of one set of states to that of another.
///
/// # Errors
/// Means that are equal or not finite.
pub fn between(to: &Array2<f32>, from: &Array2<f32>) -> Result<Vec<f32>, ProbeError> {
    let found = Direction::difference_of_means(to.view(), from.view())?;
    Ok(found.vector)
}

/// The states of the preferred and of the other answers, `[pair, d_model]` each.
///
/// # Errors
/// A pass that fails.
pub fn both(
    model: &Decoder,
    pairs: &[Preference],
    layer: usize,
) -> Result<[Array2<f32>; 2], ModelError> {
    let rows = |chosen: bool| -> Vec<(usize, Vec<u32>)> {
        let row = |preference: &Preference| {
            let pair = &preference.pair;
            let answer = if chosen { &pair.chosen } else { &pair.rejected };
            (pair.prompt.len(), [pair.prompt.as_slice(), answer].concat())
        };
        pairs.iter().map(row).collect()
    };
    Ok([
        answers(model, &rows(true), layer)?,
        answers(model, &rows(false), layer)?,
    ])
}

/// The mean state over the tokens of each row after its prompt, at the input of `layer`: `[row, d_model]`. A prompt is given by
/// its length.
///
/// # Errors
/// A row without an answer, a pass that fails.
pub fn answers(
    model: &Decoder,
    rows: &[(usize, Vec<u32>)],
    layer: usize,
) -> Result<Array2<f32>, ModelError> {
    let at = HookPoint::new(Point::ResidPre, layer);
    let hooks = Hooks::new().capture(at);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].1.len());
    let mut means = Array2::zeros((rows.len(), model.config().d_model));
    for some in order.chunks(BATCH) {
        let ids: Vec<&[u32]> = some.iter().map(|&row| rows[row].1.as_slice()).collect();
        let batch = Batch::new(&ids)?;
        let captured = model.forward(&batch, &hooks, LogitsAt::None)?.captured;
        let states = captured[&at].to_dtype(DType::F32)?;
        for (place, &row) in some.iter().enumerate() {
            let (prompt, ids) = &rows[row];
            let n = ids.len().saturating_sub(*prompt);
            if n == 0 {
                return Err(ModelError::Empty {
                    what: "an answer has no token",
                });
            }
            let own = states
                .get(place)?
                .narrow(0, batch.pad()[place] + prompt, n)?
                .to_vec2::<f32>()?;
            for (j, mean) in means.row_mut(row).iter_mut().enumerate() {
                let sum: f64 = own.iter().map(|state| f64::from(state[j])).sum();
                *mean = (sum / n as f64) as f32;
            }
        }
    }
    Ok(means)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// One pass a row, tokens picked by hand.
    #[test]
    fn the_state_of_an_answer_is_the_mean_over_its_own_tokens() {
        let cp = Checkpoint::toy(3).unwrap();
        let layer = middle(&cp);
        let rows = vec![
            (2, vec![40, 41, 42, 43, 44]),
            (3, vec![50, 51, 52, 53]),
            (1, vec![60, 61, 62, 63, 64, 65, 66]),
        ];
        let found = answers(&cp.decoder, &rows, layer).unwrap();
        let at = HookPoint::new(Point::ResidPre, layer);
        for (row, (prompt, ids)) in rows.iter().enumerate() {
            let hooks = Hooks::new().capture(at);
            let batch = Batch::single(ids).unwrap();
            let out = cp.decoder.forward(&batch, &hooks, LogitsAt::None).unwrap();
            let states: Vec<Vec<f32>> = out.captured[&at].squeeze(0).unwrap().to_vec2().unwrap();
            let own = &states[*prompt..];
            for (j, x) in found.row(row).iter().enumerate() {
                let mean = own.iter().map(|state| state[j]).sum::<f32>() / own.len() as f32;
                assert!((x - mean).abs() < 1e-4, "{x} {mean}");
            }
        }
        assert!(answers(&cp.decoder, &[(2, vec![1, 2])], layer).is_err());
    }

    #[test]
    fn a_direction_leads_from_one_mean_to_the_other() {
        let to = ndarray::array![[1.0f32, 4.0], [3.0, 4.0]];
        let from = ndarray::array![[-1.0f32, 0.0], [-1.0, 0.0]];
        let found = between(&to, &from).unwrap();
        // (2, 4) less (-1, 0): (3, 4) of length 5.
        assert!((found[0] - 0.6).abs() < 1e-6 && (found[1] - 0.8).abs() < 1e-6);
    }
}
