//! The record of a latent, `candlescope.sae.latent/1`: near to Neuronpedia's, whose names are in brackets below.
//!
//! Always: every number says of what it is; tokens are as the tokenizer gives them, unescaped. A [`Dashboard`] is some
//! records with the place they share.

use serde::{Deserialize, Serialize};

use super::cofiring::{Cofiring, CofiringOver};
use super::collect::Collected;
use super::firings::{Firing, Group};
use super::growing::Bins;
use super::label::Label;
use super::writes::{LogitEffects, Neighbour, logit_effects, neighbours};
use crate::activations::Tally;
use crate::features::{FeatureError, Splice};
use crate::hooks::HookPoint;
use crate::model::Checkpoint;

/// Of one latent with its place.
pub const LATENT_SCHEMA: &str = "candlescope.sae.latent/1";
/// Of several.
pub const DASHBOARD_SCHEMA: &str = "candlescope.sae.dashboard/1";

/// Tokens on either side of the logits.
const TOKENS: usize = 10;
/// Neighbours, and latents that fire together.
const OTHERS: usize = 10;

/// Where latents live, and on what they were seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The model.
    pub model: String,
    /// The dictionary.
    pub dictionary: String,
    /// Its latents.
    pub d_sae: usize,
    /// The point it reads.
    pub reads: HookPoint,
    /// The point it writes.
    pub writes: HookPoint,
    /// Contexts seen.
    pub contexts: usize,
    /// Their tokens, by what became of them: those kept were encoded.
    pub tally: Tally,
    /// Which tokens were left out, in words.
    pub policy: String,
    /// With whom latents were compared in `cofiring`.
    pub cofiring_over: CofiringOver,
}

/// One place where a latent fired (`activations[]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Which context, from 0 (`dataIndex`).
    pub context: u64,
    /// Which of its tokens.
    pub position: usize,
    /// The value there (`maxValue` for a top example).
    pub value: f32,
    /// Its token among `tokens` (`maxValueTokenIndex`).
    pub at: usize,
    /// The tokens around (`tokens`).
    pub tokens: Vec<String>,
    /// The values on them (`values`); 0 also on tokens that were left out.
    pub values: Vec<f32>,
}

/// Firings of a tenth, by value (`binMin`, `binMax`, `binContains`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantileGroup {
    /// Smallest value of the part.
    pub low: f32,
    /// Largest.
    pub high: f32,
    /// Share of the sampled firings.
    pub share: f64,
    /// Some, drawn, the strongest first.
    pub examples: Vec<Example>,
}

/// A latent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentRecord {
    /// Which (`index`).
    pub index: usize,
    /// Rows in which it fired.
    pub fired: u64,
    /// Their share of the rows (`frac_nonzero`).
    pub density: f64,
    /// Mean value over them.
    pub mean: Option<f64>,
    /// Largest value (`maxActApprox`).
    pub max: f32,
    /// Norm of its decoder row.
    pub decoder_norm: f32,
    /// What foretells its firing (`explanations`).
    pub label: Option<Label>,
    /// Counts of the values above 0 (`freq_hist_data`).
    pub histogram: Bins,
    /// The strongest firings, one a context.
    pub top: Vec<Example>,
    /// Firings that were sampled; all of them, where it is `fired`.
    pub sampled: usize,
    /// The sample in tenths by value, the strongest first.
    pub quantiles: Vec<QuantileGroup>,
    /// What it does to logits directly (`pos_str`, `pos_values`, `neg_str`, `neg_values`, `logits_hist_data`); none where
    /// what is written is not added to the residual stream as it is.
    pub logits: Option<LogitEffects>,
    /// Latents with similar decoder rows (`topkCosSimIndices`, `topkCosSimValues`).
    pub neighbours: Vec<Neighbour>,
    /// Latents that fire with it (`correlated_features`).
    pub cofiring: Vec<Cofiring>,
}

/// Some latents of a dictionary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dashboard {
    /// What they share.
    #[serde(flatten)]
    pub place: Place,
    /// The latents, in the order in which they were followed.
    pub latents: Vec<LatentRecord>,
}

/// Records of what was collected. `dictionary` is its name, `policy` what was left out.
///
/// # Errors
/// Tensor arithmetic.
pub fn dashboard(
    model: &Checkpoint,
    splice: &Splice,
    [dictionary, policy]: [String; 2],
    collected: &Collected,
) -> Result<Dashboard, FeatureError> {
    let latents: Vec<usize> = collected
        .followed
        .iter()
        .map(super::collect::Followed::latent)
        .collect();
    let effects = logit_effects(model, splice, &latents, TOKENS)?;
    let mut effects = effects.map(Vec::into_iter);
    let near = neighbours(splice, &latents, OTHERS);
    let density = &collected.density;
    let mut records = Vec::with_capacity(latents.len());
    for (slot, (followed, neighbours)) in collected.followed.iter().zip(near).enumerate() {
        let index = followed.latent();
        let row = splice.dictionary().parts().decoder.row(index);
        let shown = |f: &Firing| example(f, model);
        let sampled = followed.sampled();
        let group = |g: Group| QuantileGroup {
            low: g.low,
            high: g.high,
            share: g.size as f64 / sampled.max(1) as f64,
            examples: g.shown.iter().map(shown).collect(),
        };
        records.push(LatentRecord {
            index,
            fired: density.fired()[index],
            density: density.of(index),
            mean: density.mean_when_firing(index),
            max: density.largest(index),
            decoder_norm: row.dot(&row).sqrt(),
            label: collected.label(slot, &model.tokenizer),
            histogram: followed.values(),
            top: followed.top().iter().map(shown).collect(),
            sampled,
            quantiles: collected.groups(slot).into_iter().map(group).collect(),
            logits: effects.as_mut().and_then(Iterator::next),
            neighbours,
            cofiring: collected.cofiring(slot, OTHERS),
        });
    }
    Ok(Dashboard {
        place: Place {
            model: model.name.clone(),
            dictionary,
            d_sae: splice.dictionary().d_sae(),
            reads: splice.read(),
            writes: splice.write(),
            contexts: collected.contexts,
            tally: collected.tally,
            policy,
            cofiring_over: collected.cofiring_over(),
        },
        latents: records,
    })
}

fn example(firing: &Firing, model: &Checkpoint) -> Example {
    let token = |id: &u32| model.tokenizer.token(*id);
    Example {
        context: firing.context,
        position: firing.position,
        value: firing.value,
        at: firing.position - firing.start,
        tokens: firing.tokens.iter().map(token).collect(),
        values: firing.values.clone(),
    }
}
