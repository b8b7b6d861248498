//! What reward models say: of the answers of preference pairs, with directions taken out of their residual streams, and of the
//! replies of a model that was trained by them.
//!
//! Always: a score is read at a row's last token and is the same whatever runs beside it; the pairs that a direction is fitted
//! on are not the ones that its effect is measured on.

use std::sync::Arc;

use candle_core::DType;
use ndarray::Array2;

use super::states::{self, Traits};
use super::{Activations, ByClass, Part, Replies};
use crate::audit::inputs::Judge;
use crate::audit::pairs::Preference;
use crate::audit::work::Work;
use crate::hooks::Vector;
use crate::model::{Batch, Checkpoint, ModelError, ScoreModel};
use crate::steer::{self, EncodedPrompt};

/// Rows that are scored side by side.
const BATCH: usize = 8;
/// Pairs whose answers are scored again without each direction, at most.
const MEASURED: usize = 48;
/// Random directions that are taken out beside the named ones, at most.
const RANDOM: usize = 16;

/// The scores of a pair's answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// Of the preferred one.
    pub chosen: f64,
    /// Of the other.
    pub rejected: f64,
}

impl PairScore {
    /// Chosen less rejected.
    pub fn margin(self) -> f64 {
        self.chosen - self.rejected
    }

    /// Whether the preferred answer scores higher; equal scores are no preference, and so wrong.
    pub fn right(self) -> bool {
        self.chosen > self.rejected
    }
}

/// The scores of all pairs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// By the checkpoint itself.
    pub own: Vec<PairScore>,
    /// By further reward models.
    pub members: Vec<Vec<PairScore>>,
}

/// What a reward model reads of a direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What the direction is of.
    pub name: String,
    /// Its cosine with the score head, the final norm's gain included.
    pub head_cosine: f64,
    /// By how much the reward of each measured answer changes when it is taken out of every layer.
    pub changes: Vec<f64>,
}

/// What a reward model reads of all directions.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardDirections {
    /// The layer at which directions were fitted.
    pub layer: usize,
    /// Rewards of the measured answers: the preferred ones, then the others.
    pub rewards: Vec<f64>,
    /// The directions of refusal and length, then the traits'.
    pub named: Vec<Reading>,
    /// Changes when random directions are taken out.
    pub random: Vec<Vec<f64>>,
    /// Directions that could not be fitted, and why.
    pub missing: Vec<String>,
}

/// The name of the direction from harmless to harmful prompts.
pub const REFUSAL: &str = "refusal";
/// The name of the direction from short to long answers.
pub const LENGTH: &str = "length";

/// Scores both answers of every pair by the checkpoint and by `members`.
///
/// # Errors
/// In words: a checkpoint without a score head, a pass that fails, a score that is not finite.
pub fn scores(
    cp: &Checkpoint,
    members: &[Judge],
    pairs: &[Preference],
    work: &Work,
) -> Part<Scores> {
    let own = model(cp)?;
    if pairs.is_empty() {
        return Err("no preference pairs were given".to_owned());
    }
    work.stage("rewards", 0, |_| {
        let of = |name: &str, model: &ScoreModel| {
            both(model, pairs).map_err(|error| format!("{name}: {error}"))
        };
        Ok(Scores {
            own: of(&cp.name, &own)?,
            members: members
                .iter()
                .map(|judge| of(&judge.name, &judge.model))
                .collect::<Part<_>>()?,
        })
    })
}

fn model(cp: &Checkpoint) -> Part<ScoreModel> {
    cp.score_model()
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "it has no score head".to_owned())
}

fn both(model: &ScoreModel, pairs: &[Preference]) -> Part<Vec<PairScore>> {
    let found = score(model, &rows(pairs))?;
    let (chosen, rejected) = found.split_at(pairs.len());
    let each = chosen.iter().zip(rejected);
    Ok(each
        .map(|(&chosen, &rejected)| PairScore { chosen, rejected })
        .collect())
}

/// Prompt and answer of each row: the preferred ones, then the others.
fn rows(pairs: &[Preference]) -> Vec<Vec<u32>> {
    let chosen = pairs.iter().map(|p| (&p.pair.prompt, &p.pair.chosen));
    let rejected = pairs.iter().map(|p| (&p.pair.prompt, &p.pair.rejected));
    chosen
        .chain(rejected)
        .map(|(prompt, answer)| [prompt.as_slice(), answer].concat())
        .collect()
}

/// The score of each row, in their order; rows of like length share a batch.
fn score(model: &ScoreModel, rows: &[Vec<u32>]) -> Part<Vec<f64>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].len());
    let mut scores = vec![0.0; rows.len()];
    for some in order.chunks(BATCH) {
        let ids: Vec<&[u32]> = some.iter().map(|&row| rows[row].as_slice()).collect();
        let found = batch(model, &ids).map_err(|error| error.to_string())?;
        for (&row, score) in some.iter().zip(found) {
            if !score.is_finite() {
                return Err(format!("it scores an answer {score}"));
            }
            scores[row] = score;
        }
    }
    Ok(scores)
}

fn batch(model: &ScoreModel, ids: &[&[u32]]) -> Result<Vec<f64>, ModelError> {
    let scores = model.scores(&Batch::new(ids)?)?;
    Ok(scores.to_dtype(DType::F64)?.to_vec1()?)
}

/// What of the reward hangs on refusal, on length and on the traits.
///
/// # Errors
/// In words: too few pairs, a pass that fails, an interruption.
pub fn directions(
    cp: &Checkpoint,
    pairs: &[Preference],
    (activations, traits): (&Activations, Part<&Traits>),
    (draws, seed): (usize, u64),
    work: &Work,
) -> Part<RewardDirections> {
    let reader = model(cp)?;
    let fitted: Vec<Preference> = pairs.iter().step_by(2).cloned().collect();
    let mut measured: Vec<Preference> = pairs.iter().skip(1).step_by(2).cloned().collect();
    measured.truncate(MEASURED);
    if fitted.len() < 4 || measured.len() < 4 {
        return Err(format!(
            "{} pairs are too few to fit directions on one half and measure on the other; 8 are needed",
            pairs.len()
        ));
    }
    let layer = states::middle(cp);
    let said = |error: ModelError| error.to_string();
    let [one, other] = states::both(&cp.decoder, &fitted, layer).map_err(said)?;
    let (mut named, mut missing) = (Vec::new(), Vec::new());
    let mut add = |name: &str, found: Part<Vec<f32>>| match found {
        Ok(vector) => named.push((name.to_owned(), vector)),
        Err(why) => missing.push(format!("{name}: {why}")),
    };
    add(REFUSAL, refusal(activations, layer));
    add(LENGTH, length(&fitted, [&one, &other]));
    match traits {
        Ok(traits) => {
            for one in &traits.all {
                add(&one.name, Ok(one.vector.clone()));
            }
        }
        Err(why) => add("traits", Err(why)),
    }
    let spread = ndarray::concatenate(ndarray::Axis(0), &[one.view(), other.view()])
        .map_err(|error| error.to_string())?;
    let drawn = steer::covariance_matched_directions(spread.view(), draws.min(RANDOM), seed)
        .map_err(|error| error.to_string())?;
    work.stage("reward directions", named.len() + drawn.len(), |stage| {
        let rows = rows(&measured);
        let rewards = score(&reader, &rows)?;
        let head = head(&reader).map_err(said)?;
        let mut done = 0;
        let mut changes = |vector: &Vector| -> Part<Vec<f64>> {
            if work.cancelled() {
                return Err("interrupted before it was measured".to_owned());
            }
            let without = model(&cp.under(steer::ablation(vector, cp.config())))?;
            let found = score(&without, &rows)?;
            done += 1;
            stage.at(done);
            Ok(found.iter().zip(&rewards).map(|(a, b)| a - b).collect())
        };
        let mut readings = Vec::with_capacity(named.len());
        for (name, vector) in named {
            let head_cosine =
                candlescope_probes::direction::cosine(&head, &vector).map_err(|e| e.to_string())?;
            readings.push(Reading {
                name,
                head_cosine,
                changes: changes(&Arc::new(vector))?,
            });
        }
        let random = drawn.iter().map(&mut changes).collect::<Part<_>>()?;
        Ok(RewardDirections {
            layer,
            rewards,
            named: readings,
            random,
            missing,
        })
    })
}

/// The score head as it reads the residual stream: through the final norm's gain.
fn head(model: &ScoreModel) -> Result<Vec<f32>, ModelError> {
    let gain = &model.decoder().weights().final_norm.gain;
    let (gain, head) = (
        gain.to_dtype(DType::F32)?,
        model.head().to_dtype(DType::F32)?,
    );
    Ok(head.broadcast_mul(&gain)?.flatten_all()?.to_vec1()?)
}

/// From harmless to harmful prompts, at the template's last token.
fn refusal(activations: &Activations, layer: usize) -> Part<Vec<f32>> {
    let at = |class: &[super::Streams; 3]| class[0].template.get(layer).cloned();
    match (at(&activations.harmful), at(&activations.harmless)) {
        (Some(harmful), Some(harmless)) => {
            states::between(&harmful, &harmless).map_err(|error| error.to_string())
        }
        _ => Err(format!("layer {layer} was not captured")),
    }
}

/// From the shorter half of the answers to the longer.
fn length(pairs: &[Preference], states: [&Array2<f32>; 2]) -> Part<Vec<f32>> {
    let mut all: Vec<(usize, usize, usize)> = Vec::new();
    for (at, preference) in pairs.iter().enumerate() {
        all.push((preference.pair.chosen.len(), 0, at));
        all.push((preference.pair.rejected.len(), 1, at));
    }
    all.sort_unstable();
    let middle = all[all.len() / 2].0;
    let of = |keep: &dyn Fn(usize) -> bool| -> Array2<f32> {
        let kept: Vec<_> = all.iter().filter(|(tokens, ..)| keep(*tokens)).collect();
        Array2::from_shape_fn((kept.len(), states[0].ncols()), |(row, j)| {
            let (_, which, at) = *kept[row];
            states[which][[at, j]]
        })
    };
    let (long, short) = (of(&|n| n >= middle), of(&|n| n < middle));
    if short.nrows() == 0 {
        return Err("all answers are of one length".to_owned());
    }
    states::between(&long, &short).map_err(|error| error.to_string())
}

/// The mean score by `judges` of what a checkpoint replied to each prompt.
///
/// # Errors
/// In words: no reward model, a reply beyond its context, a pass that fails.
pub fn judged(
    judges: &[Judge],
    prompts: [&[EncodedPrompt]; 3],
    replies: &Replies,
    work: &Work,
) -> Part<ByClass<f64>> {
    if judges.is_empty() {
        return Err("no reward model was given".to_owned());
    }
    let said = [&replies.harmful, &replies.harmless, &replies.lookalike];
    let total = said.iter().map(|replies| replies.len()).sum();
    work.stage("rewards of replies", total, |_| {
        let mut out: [Vec<f64>; 3] = Default::default();
        for (class, (prompts, replies)) in prompts.into_iter().zip(said).enumerate() {
            let rows: Vec<Vec<u32>> = (prompts.iter().zip(replies))
                .map(|(prompt, reply)| [prompt.ids.as_slice(), &reply.ids].concat())
                .collect();
            let mut sums = vec![0.0; rows.len()];
            for judge in judges {
                let scores =
                    score(&judge.model, &rows).map_err(|why| format!("{}: {why}", judge.name))?;
                for (sum, score) in sums.iter_mut().zip(scores) {
                    *sum += score / judges.len() as f64;
                }
            }
            out[class] = sums;
        }
        let [harmful, harmless, lookalike] = out;
        Ok(ByClass {
            harmful,
            harmless,
            lookalike,
        })
    })
}
