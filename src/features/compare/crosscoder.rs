//! A crosscoder over two checkpoints: whose each latent is, and whether the other model really lacks it.

use std::ops::ControlFlow;

use candlescope_sae::Dictionary;
use candlescope_sae::diff::{
    Class, DecoderPair, LatentScaling, Presence, RELATIVE_BINS, Scaled, decoder_pairs,
    relative_histogram,
};
use candlescope_sae::measure::{Measure, Quality};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use serde::{Deserialize, Serialize};

use super::{CompareOptions, Example, Examples, Pairs};
use crate::activations::Tally;
use crate::features::{FeatureError, Opened};
use crate::hooks::HookPoint;
use crate::model::{Checkpoint, ModelError};

/// What a crosscoder reads: for each block the point and the number of its checkpoint, as `resid_post.15@1` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// In the order of the blocks.
    pub blocks: Vec<(HookPoint, usize)>,
}

impl Reading {
    /// Of a dictionary over several checkpoints; none for any other.
    ///
    /// # Errors
    /// Points that cannot be read.
    pub fn of(opened: &Opened) -> Result<Option<Self>, FeatureError> {
        let reads = &opened.dictionary.about().reads;
        if !reads.iter().any(|name| name.contains('@')) {
            return Ok(None);
        }
        let block = |name: &String| {
            let refuse = |why: String| FeatureError::Place {
                artefact: opened.name.clone(),
                side: "reads",
                why,
            };
            let wanted = || refuse(format!("`{name}` is not written POINT@NUMBER"));
            let (at, number) = name.split_once('@').ok_or_else(wanted)?;
            let at = at
                .parse()
                .map_err(|e: crate::hooks::HookError| refuse(e.to_string()))?;
            Ok((at, number.parse().map_err(|_| wanted())?))
        };
        let blocks: Result<_, FeatureError> = reads.iter().map(block).collect();
        Ok(Some(Self { blocks: blocks? }))
    }

    /// The point of each of two checkpoints.
    fn points(&self, name: &str) -> Result<[HookPoint; 2], FeatureError> {
        match self.blocks[..] {
            [(first, 0), (second, 1)] => Ok([first, second]),
            _ => Err(FeatureError::Place {
                artefact: name.into(),
                side: "reads",
                why: "a comparison takes a crosscoder over one point of two checkpoints, POINT@0 and POINT@1".into(),
            }),
        }
    }
}

/// A latent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossLatent {
    /// Its two decoder rows.
    #[serde(flatten)]
    pub pair: DecoderPair,
    /// Share of the tokens in which it fired.
    pub density: f64,
    /// What latent scaling says.
    pub scaled: Scaled,
    /// The same as a judgement.
    pub presence: Presence,
    /// Tokens at which it fired most.
    pub examples: Vec<Example>,
}

/// What is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crosscoded {
    /// Contexts.
    pub contexts: usize,
    /// What was left out, on either model.
    pub tally: Tally,
    /// How well each model is rebuilt.
    pub quality: [Quality; 2],
    /// Latents of each class: the first model's alone, both models', the second's alone, between, neither's.
    pub classes: [(Class, usize); 5],
    /// Latents by relative decoder norm, in bins of equal width from 0 to 1.
    pub relative: [u64; RELATIVE_BINS],
    /// Latents of the second model alone that fired, and those of them that latent scaling finds new.
    pub new_in_second: [usize; 2],
    /// From which ratio on a latent counts as there.
    pub scaling_limit: f64,
    /// All latents: the second model's alone first, new before others, then the first's, then the rest; the densest first.
    pub latents: Vec<CrossLatent>,
}

/// Reads two checkpoints through a crosscoder. `progress` is told of tokens that are done.
///
/// # Errors
/// A dictionary that is not one of two checkpoints, models that do not go with it, contexts of which nothing is kept,
/// [`ModelError::Cancelled`] where `progress` breaks.
pub fn compare_crosscoder(
    models: [&Checkpoint; 2],
    opened: &Opened,
    reading: &Reading,
    contexts: &[Vec<u32>],
    options: &CompareOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Crosscoded, FeatureError> {
    let dictionary = &opened.dictionary;
    let points = reading.points(&opened.name)?;
    let pairs = Pairs::new(models, [&points[..1], &points[1..]], contexts, options)?;
    let widths = pairs.widths();
    let (found, expected) = (dictionary.d_in(), widths[0] + widths[1]);
    if found != expected {
        return Err(FeatureError::Width {
            artefact: opened.name.clone(),
            side: "reads",
            at: points[0],
            expected,
            found,
        });
    }
    let latents = dictionary.d_sae();
    let mut scaling = LatentScaling::new(dictionary, &widths, [0, 1])?;
    let mut measures = widths.map(|width| Measure::new(latents, width));
    let mut examples = Examples::new(latents, options.examples);
    let mut tally = Tally::default();
    let batch = options.batch.max(1);
    for (i, some) in contexts.chunks(batch).enumerate() {
        let found = pairs.pass(some, i * batch)?;
        let mut places = Vec::new();
        let mut rows = Vec::new();
        for (j, context) in found.iter().enumerate() {
            context.tally(&mut tally);
            let own = context.positions.iter();
            places.extend(own.map(|&position| (i * batch + j, position)));
            rows.push(beside(&context.rows)?);
        }
        let views: Vec<ArrayView2<f32>> = rows.iter().map(ndarray::ArrayBase::view).collect();
        let rows = joined(Axis(0), &views)?;
        if rows.nrows() > 0 {
            let (codes, out) = scaling.add(dictionary, rows.view())?;
            let mut from = 0;
            for (measure, width) in measures.iter_mut().zip(widths) {
                let block = s![.., from..from + width];
                measure.add(rows.slice(block), out.slice(block), &codes)?;
                from += width;
            }
            for (row, &(context, position)) in places.iter().enumerate() {
                let (latents, values) = codes.row(row);
                for (&latent, &value) in latents.iter().zip(values) {
                    let example = Example {
                        context,
                        position,
                        values: [value; 2],
                    };
                    examples.add(latent as usize, value, example);
                }
            }
        }
        let tokens = some.iter().map(|ids| ids.len() as u64).sum();
        if progress(tokens).is_break() {
            return Err(ModelError::Cancelled.into());
        }
    }
    if measures[0].density().rows() == 0 {
        let what = "no token is kept on both models; give more text or another --drop".into();
        return Err(FeatureError::Nothing { what });
    }
    let latents = judged(
        dictionary,
        &widths,
        &scaling,
        &measures[0],
        options,
        &examples,
    )?;
    let pairs: Vec<DecoderPair> = latents.iter().map(|l| l.pair).collect();
    let classes = [
        Class::OnlyFirst,
        Class::Shared,
        Class::OnlySecond,
        Class::Between,
        Class::Neither,
    ];
    let fired = |l: &&CrossLatent| l.pair.class == Class::OnlySecond && l.scaled.fired > 0;
    let new = |l: &&CrossLatent| fired(l) && l.presence == Presence::New;
    Ok(Crosscoded {
        contexts: contexts.len(),
        tally,
        quality: [measures[0].quality(), measures[1].quality()],
        classes: classes.map(|class| (class, pairs.iter().filter(|p| p.class == class).count())),
        relative: relative_histogram(&pairs),
        new_in_second: [
            latents.iter().filter(fired).count(),
            latents.iter().filter(new).count(),
        ],
        scaling_limit: options.scaling_limit,
        latents,
    })
}

/// All latents, those that tell most first; the first ones with examples.
fn judged(
    dictionary: &Dictionary,
    widths: &[usize; 2],
    scaling: &LatentScaling,
    measure: &Measure,
    options: &CompareOptions,
    examples: &Examples,
) -> Result<Vec<CrossLatent>, FeatureError> {
    let pairs = decoder_pairs(dictionary, widths, [0, 1])?;
    let mut all: Vec<CrossLatent> = pairs
        .into_iter()
        .zip(scaling.all())
        .map(|(pair, scaled)| CrossLatent {
            density: measure.density().of(pair.latent),
            presence: scaled.presence(options.scaling_limit),
            pair,
            scaled,
            examples: Vec::new(),
        })
        .collect();
    let rank = |l: &CrossLatent| match (l.pair.class, l.presence) {
        _ if l.scaled.fired == 0 => 5,
        (Class::OnlySecond, Presence::New) => 0,
        (Class::OnlySecond, _) => 1,
        (Class::OnlyFirst, Presence::New) => 2,
        (Class::OnlyFirst, _) => 3,
        _ => 4,
    };
    all.sort_by(|a, b| rank(a).cmp(&rank(b)).then(b.density.total_cmp(&a.density)));
    for latent in all.iter_mut().take(options.top) {
        latent.examples = examples.of(latent.pair.latent);
    }
    Ok(all)
}

/// The rows of both models side by side.
fn beside(rows: &[Vec<Array2<f32>>; 2]) -> Result<Array2<f32>, FeatureError> {
    let views: Vec<ArrayView2<f32>> = rows
        .iter()
        .flatten()
        .map(ndarray::ArrayBase::view)
        .collect();
    joined(Axis(1), &views)
}

fn joined(axis: Axis, views: &[ArrayView2<f32>]) -> Result<Array2<f32>, FeatureError> {
    let all = concatenate(axis, views);
    let all = all.map_err(|e| FeatureError::Candle(candle_core::Error::wrap(e)))?;
    Ok(all.as_standard_layout().into_owned())
}
