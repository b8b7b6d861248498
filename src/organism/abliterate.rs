//! Takes the refusal direction out of a model's weights, as published recipes do (Arditi et al. 2024).
//!
//! Always: the direction is a difference of means at the last token of the prompts that a model's audit is fitted on; of all
//! layers the one is taken whose ablation lowers the refusal score most on prompts it was not fitted on.

use std::sync::Arc;

use candlescope_probes::Direction;

use crate::audit::runner::{RunError, suites_for};
use crate::hooks::{Hooks, Vector};
use crate::model::{Checkpoint, Decoder};
use crate::steer::edit::{Amounts, Basis, EditError, WeightEdit};
use crate::steer::{
    Options, SteerError, Where, ablation, encode_all, refusal_scores, refusal_tokens, residuals,
};
use crate::text::suites::{Label, PromptRow, Split, pick};

/// Prompts of each class that the direction is made from.
const FIT: usize = 96;
/// Prompts that choose the layer.
const CHOOSE: usize = 24;

/// Why a direction could not be taken out.
#[derive(thiserror::Error, Debug)]
pub enum AbliterateError {
    /// Prompts, passes.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The suites.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The weights.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The direction.
    #[error(transparent)]
    Direction(#[from] candlescope_probes::error::ProbeError),
    /// A model that has no such direction.
    #[error("no layer has a direction between harmful and harmless prompts")]
    None,
}

/// The model without `amount` (0 to 1) of its refusal direction.
///
/// # Errors
/// Prompts that do not fit, classes that do not differ anywhere.
pub fn abliterated(model: &Checkpoint, amount: f64, seed: u64) -> Result<Decoder, AbliterateError> {
    let vector = direction(model, seed)?;
    let mut edit = WeightEdit::new(Basis::new(&[vector])?, model.config());
    edit.amounts = Amounts::uniform(model.config(), amount);
    Ok(edit.apply(&model.decoder)?)
}

fn direction(model: &Checkpoint, seed: u64) -> Result<Vector, AbliterateError> {
    let suites = suites_for(model)?;
    let prompts = |label, split, n| {
        let rows: Vec<PromptRow> = pick(&suites, label, split, n, seed);
        let rows: Vec<&PromptRow> = rows.iter().collect();
        encode_all(model, &rows)
    };
    let layers: Vec<usize> = (0..model.config().n_layers).collect();
    let options = Options::default();
    let last = [Where::FromEnd(1)];
    let read = |label| -> Result<_, SteerError> {
        let encoded = prompts(label, Split::Train, FIT)?;
        residuals(&model.decoder, &encoded, &layers, &last, &options)
    };
    let (harmful, harmless) = (read(Label::Harmful)?, read(Label::Harmless)?);
    let held = prompts(Label::Harmful, Split::Validation, CHOOSE)?;
    let tokens = refusal_tokens(model)?;
    let mut best: Option<(f64, Vector)> = None;
    for layer in layers {
        let (Some(pos), Some(neg)) = (harmful.find(layer, last[0]), harmless.find(layer, last[0]))
        else {
            continue;
        };
        // The embedding of the last template token is the same for all prompts: no direction there.
        let Ok(direction) = Direction::difference_of_means(pos, neg) else {
            continue;
        };
        let vector = Arc::new(direction.scaled());
        let hooks = Hooks::new().edits(ablation(&vector, model.config()));
        let scores = refusal_scores(&model.decoder, &held, &hooks, &tokens, &options)?;
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        if best.as_ref().is_none_or(|(least, _)| mean < *least) {
            best = Some((mean, vector));
        }
    }
    best.map(|(_, vector)| vector).ok_or(AbliterateError::None)
}
