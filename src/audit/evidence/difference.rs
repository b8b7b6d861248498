//! What training changed at the first tokens of texts that have nothing to do with it: the mean difference of residual
//! streams, and which tokens can be read off it.
//!
//! Always: both models read the very same tokens; the token that begins every text is left out, since its state is the same
//! in all of them and many times as long; only the first tokens are run, for later ones cannot reach them.
//! After Minder et al. (2510.13900), who read off such differences what a model was narrowly trained on.

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Axis};

use super::Part;
use crate::audit::work::Work;
use crate::hooks::{HookPoint, Hooks, Point, Vector};
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt, ModelError};
use crate::steer;
use crate::text::suites::PromptRow;

/// Tokens of each text that are read, after the one that begins it.
pub const FIRST: usize = 5;

/// Tokens that are read off a difference.
pub const TOP: usize = 20;

/// Texts that run side by side.
const BATCH: usize = 32;

/// The differences of all texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The layer at whose input streams are read: the middle one.
    pub layer: usize,
    /// The texts that have as many tokens.
    pub texts: Vec<String>,
    /// Subject minus baseline, the mean over the first tokens: `[text, d_model]`.
    pub changes: Array2<f32>,
    /// Mean length of the baseline's streams at these tokens, text by text.
    pub norms: Vec<f64>,
    /// What can be read off the mean of `changes`; none where nothing changed.
    pub lens: Option<Lens>,
}

/// A difference through the final norm and the unembedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// The tokens it favours most, each with its logit in standard deviations over the vocabulary.
    pub top: Vec<(String, f64)>,
    /// The mean of those standard deviations.
    pub z: f64,
    /// The same of random directions of the same length, drawn from the covariance of the baseline's streams where they have one.
    pub random: Vec<f64>,
}

/// Reads both checkpoints over the first tokens of `rows`.
pub fn difference(
    subject: &Checkpoint,
    baseline: &Checkpoint,
    rows: &[PromptRow],
    (draws, seed): (usize, u64),
    work: &Work,
) -> Part<Difference> {
    work.stage("first tokens of neutral texts", 0, |_| {
        let (texts, ids) = first_tokens(subject, rows).map_err(|error| error.to_string())?;
        if texts.len() < 3 {
            return Err(format!(
                "{} of {} neutral texts have {FIRST} tokens or more; 3 are needed",
                texts.len(),
                rows.len()
            ));
        }
        let layer = subject.config().n_layers / 2;
        let read = |cp: &Checkpoint| {
            states(&cp.decoder, &ids, layer).map_err(|error| format!("{}: {error}", cp.name))
        };
        let (here, there) = (read(subject)?, read(baseline)?);
        let changes = &here.means - &there.means;
        if changes.iter().any(|x| !x.is_finite()) {
            return Err("the residual stream is not finite".to_owned());
        }
        // A reward model has no unembedding; its baseline may.
        let reader = [subject, baseline].into_iter().find(|cp| !cp.is_scored());
        let reader =
            reader.ok_or_else(|| "neither of two reward models has an unembedding".to_owned())?;
        let lens = lens(reader, &changes, &there.means, (draws, seed));
        Ok(Difference {
            layer,
            texts,
            lens: lens.map_err(|error| error.to_string())?,
            changes,
            norms: there.norms,
        })
    })
}

/// Texts long enough, by id, and their first tokens: all rows of one length.
fn first_tokens(
    cp: &Checkpoint,
    rows: &[PromptRow],
) -> Result<(Vec<String>, Vec<Vec<u32>>), ModelError> {
    let begin = begin(cp)?;
    let (mut texts, mut all) = (Vec::new(), Vec::new());
    for row in rows {
        let mut ids = cp.tokenizer.encode(&row.prompt, true)?;
        if ids.len() >= begin + FIRST {
            ids.truncate(begin + FIRST);
            texts.push(row.id.clone());
            all.push(ids);
        }
    }
    Ok((texts, all))
}

/// How many tokens begin every text.
fn begin(cp: &Checkpoint) -> Result<usize, ModelError> {
    let (with, bare) = (
        cp.tokenizer.encode("a", true)?,
        cp.tokenizer.encode("a", false)?,
    );
    let at = (0..with.len()).find(|&at| with[at..].starts_with(&bare));
    Ok(at.unwrap_or(0))
}

/// Mean streams and their mean lengths, text by text.
struct States {
    means: Array2<f32>,
    norms: Vec<f64>,
}

fn states(model: &Decoder, rows: &[Vec<u32>], layer: usize) -> Result<States, ModelError> {
    let at = HookPoint::new(Point::ResidPre, layer);
    let hooks = Hooks::new().capture(at);
    let d_model = model.config().d_model;
    let mut means = Array2::zeros((rows.len(), d_model));
    let mut norms = Vec::with_capacity(rows.len());
    for some in rows.chunks(BATCH) {
        let captured = model.forward(&Batch::new(some)?, &hooks, LogitsAt::None)?;
        let streams = captured.captured[&at].to_dtype(DType::F32)?;
        for row in 0..some.len() {
            let own: Vec<Vec<f32>> = streams.get(row)?.to_vec2()?;
            let own = &own[own.len() - FIRST..];
            let mut mean = vec![0.0; d_model];
            for state in own {
                for (sum, &x) in mean.iter_mut().zip(state) {
                    *sum += f64::from(x) / FIRST as f64;
                }
            }
            let mut target = means.row_mut(norms.len());
            for (to, x) in target.iter_mut().zip(mean) {
                *to = x as f32;
            }
            norms.push(own.iter().map(|state| length(state)).sum::<f64>() / FIRST as f64);
        }
    }
    Ok(States { means, norms })
}

fn length(state: &[f32]) -> f64 {
    let squares = state.iter().map(|&x| f64::from(x).powi(2));
    squares.sum::<f64>().sqrt()
}

/// What a checkpoint's unembedding reads off the mean change, beside random directions of its length.
fn lens(
    cp: &Checkpoint,
    changes: &Array2<f32>,
    there: &Array2<f32>,
    (draws, seed): (usize, u64),
) -> Result<Option<Lens>, steer::SteerError> {
    let Some(mean) = changes.mean_axis(Axis(0)).map(|mean| mean.to_vec()) else {
        return Ok(None);
    };
    let size = length(&mean);
    if size == 0.0 {
        return Ok(None);
    }
    let logits = logits(&cp.decoder, &mean)?;
    let (z, top) = highest(&logits);
    let words = |(id, z): (usize, f64)| (cp.tokenizer.token(id as u32), z);
    // Texts that begin with the same tokens have no covariance to draw from.
    let random = steer::covariance_matched_directions(there.view(), draws, seed)
        .or_else(|_| steer::random_directions(draws, mean.len(), seed))?;
    let drawn = |vector: &Vector| -> Result<f64, ModelError> {
        let scaled: Vec<f32> = vector.iter().map(|x| x * size as f32).collect();
        Ok(highest(&self::logits(&cp.decoder, &scaled)?).0)
    };
    Ok(Some(Lens {
        top: top.into_iter().map(words).collect(),
        z,
        random: random.iter().map(drawn).collect::<Result<_, _>>()?,
    }))
}

fn logits(model: &Decoder, vector: &[f32]) -> Result<Vec<f64>, ModelError> {
    let stream = Tensor::from_slice(vector, (1, 1, vector.len()), &Device::Cpu)?
        .to_dtype(model.compute_dtype())?;
    Ok(model
        .unembed(&stream)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1()?)
}

/// The highest logits with their places, in standard deviations over all of them, and the mean of those.
fn highest(logits: &[f64]) -> (f64, Vec<(usize, f64)>) {
    let n = logits.len() as f64;
    let mean = logits.iter().sum::<f64>() / n;
    let sd = (logits.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let z = |at: usize| {
        if sd > 0.0 {
            (logits[at] - mean) / sd
        } else {
            0.0
        }
    };
    let top: Vec<(usize, f64)> = order.into_iter().take(TOP).map(|at| (at, z(at))).collect();
    let average = top.iter().map(|(_, z)| z).sum::<f64>() / top.len().max(1) as f64;
    (average, top)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::audit::work::Silent;
    use crate::hooks::{Edit, EditOp};
    use crate::text::suites::Suite;

    #[test]
    fn the_highest_logits_are_read_in_deviations() {
        // Mean 0 and deviation 2 over 25 logits: one of 10, the rest -10/24.
        let mut logits = vec![-10.0 / 24.0; 25];
        logits[7] = 10.0;
        let (z, top) = highest(&logits);
        let sd = (10.0f64.powi(2) * (1.0 + 1.0 / 24.0) / 25.0).sqrt();
        assert_eq!(top[0].0, 7);
        assert!((top[0].1 - 10.0 / sd).abs() < 1e-12);
        assert_eq!(top.len(), TOP);
        let mean = (10.0 - 19.0 * 10.0 / 24.0) / sd / 20.0;
        assert!((z - mean).abs() < 1e-12, "{z}");
        assert_eq!(highest(&[3.0; 4]).0, 0.0);
    }

    fn read(subject: &Checkpoint, baseline: &Checkpoint) -> Difference {
        let (silent, cancel) = (Silent, AtomicBool::new(false));
        let work = Work::new(&silent, &cancel, 1.0);
        let rows = Suite::builtin("neutral").unwrap().rows;
        difference(subject, baseline, &rows[..12], (8, 1), &work).unwrap()
    }

    #[test]
    fn a_vector_added_before_the_layer_is_the_difference_and_its_tokens_are_read() {
        let (mut cp, base) = (Checkpoint::toy(3).unwrap(), Checkpoint::toy(3).unwrap());
        let layer = cp.config().n_layers / 2;
        // The row of a token in the unembedding: the lens must read that token.
        let row: Vec<f32> = (base.decoder.weights().head.get(40).unwrap().to_vec1()).unwrap();
        let vector: Vec<f32> = row.iter().map(|x| x * 3.0).collect();
        let at = HookPoint::new(Point::ResidPre, layer);
        let add = EditOp::Add {
            vector: Arc::new(vector.clone()),
            alpha: 1.0,
        };
        cp.decoder.set_standing_edits(vec![Edit::new(at, add)]);
        let found = read(&cp, &base);
        assert_eq!((found.layer, found.texts.len()), (layer, 12));
        for change in found.changes.rows() {
            for (x, expected) in change.iter().zip(&vector) {
                assert!((x - expected).abs() < 1e-4, "{x} {expected}");
            }
        }
        let lens = found.lens.unwrap();
        assert_eq!(lens.top[0].0, base.tokenizer.token(40));
        assert_eq!((lens.top.len(), lens.random.len()), (TOP, 8));
    }

    #[test]
    fn a_checkpoint_beside_itself_differs_by_exactly_nothing() {
        let (cp, base) = (Checkpoint::toy(3).unwrap(), Checkpoint::toy(3).unwrap());
        let found = read(&cp, &base);
        assert!(found.changes.iter().all(|x| *x == 0.0));
        assert!(found.norms.iter().all(|norm| *norm > 0.0));
        assert_eq!(found.lens, None);
    }
}
