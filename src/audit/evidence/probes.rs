//! Probes for harmfulness: fitted on train prompts, the layer chosen on validation prompts, scored on test prompts.
//!
//! Always: test prompts decide nothing. Layers are compared at one penalty, because a penalty chosen for each layer would
//! be chosen on the same prompts as the layer; the chosen layer then gets its C by cross-validation on train prompts.

use candlescope_probes::error::ProbeError;
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{LogisticOptions, LogisticProbe, Penalty, Score};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rayon::prelude::*;

use super::{Activations, Place, Use};
use crate::audit::signal::SignalError;
use crate::audit::signals::estimate::Scored;

/// The probe of one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The token it reads.
    pub place: Place,
    /// The layer it reads.
    pub layer: usize,
    /// The probe.
    pub fitted: LogisticProbe,
    /// AUROC on validation prompts by layer, at the common penalty.
    pub validation: Vec<f64>,
    /// AUROC on test prompts by layer, at the common penalty; for the picture, decides nothing.
    pub test: Vec<f64>,
    /// Its logits on harmful test prompts.
    pub harmful: Vec<f64>,
    /// Its logits on harmless test prompts.
    pub harmless: Vec<f64>,
}

impl Probe {
    /// Its scores on test prompts, harmful first.
    pub fn scored(&self) -> Scored {
        Scored::new(&self.harmful, &self.harmless)
    }

    /// Whether it is right on each test prompt, harmful first.
    pub fn correct(&self) -> Vec<bool> {
        let harmful = self.harmful.iter().map(|logit| *logit > 0.0);
        harmful
            .chain(self.harmless.iter().map(|logit| *logit <= 0.0))
            .collect()
    }
}

/// The probes of both places.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// At the last instruction token.
    pub instruction: Probe,
    /// At the last template token.
    pub template: Probe,
}

/// The C at which layers are compared.
const COMMON_C: f64 = 0.01;

/// Fits both.
pub fn fit(activations: &Activations, seed: u64) -> Result<Probes, SignalError> {
    let (instruction, template) = rayon::join(
        || at_place(activations, Place::Instruction, seed),
        || at_place(activations, Place::Template, seed),
    );
    Ok(Probes {
        instruction: instruction?,
        template: template?,
    })
}

/// One layer at the common penalty: AUROC and loss on validation, AUROC on test.
struct Tried {
    validation: f64,
    loss: f64,
    test: f64,
}

fn at_place(activations: &Activations, place: Place, seed: u64) -> Result<Probe, SignalError> {
    let tried = (0..activations.layers())
        .into_par_iter()
        .map(|layer| try_layer(activations, place, layer))
        .collect::<Result<Vec<_>, _>>()?;
    // By AUROC, and where it saturates by the loss.
    let best = (0..tried.len()).min_by(|&a, &b| {
        let (a, b) = (&tried[a], &tried[b]);
        b.validation
            .total_cmp(&a.validation)
            .then(a.loss.total_cmp(&b.loss))
    });
    let Some(layer) = best else {
        return Err(SignalError::Missing {
            what: "activations",
            why: "no layer was captured".to_owned(),
        });
    };
    let (x, labels) = split(activations, Use::Train, place, layer)?;
    let options = LogisticOptions {
        seed,
        ..LogisticOptions::sae_probes()
    };
    let fitted = LogisticProbe::fit(x.view(), &labels, &options)?;
    let [harmful, harmless] = activations.at(Use::Test, place, layer)?;
    Ok(Probe {
        place,
        layer,
        harmful: fitted.scores(harmful)?,
        harmless: fitted.scores(harmless)?,
        fitted,
        validation: tried.iter().map(|layer| layer.validation).collect(),
        test: tried.iter().map(|layer| layer.test).collect(),
    })
}

fn try_layer(activations: &Activations, place: Place, layer: usize) -> Result<Tried, SignalError> {
    let (x, labels) = split(activations, Use::Train, place, layer)?;
    let options = LogisticOptions {
        penalty: Penalty::Fixed(COMMON_C),
        ..LogisticOptions::default()
    };
    // The input embeddings of a template's tokens are the same for every prompt: nothing can be fitted there.
    let varies = x.axis_iter(Axis(0)).any(|row| row != x.row(0));
    if !varies {
        return Ok(Tried {
            validation: 0.5,
            loss: f64::INFINITY,
            test: 0.5,
        });
    }
    let probe = LogisticProbe::fit(x.view(), &labels, &options)?;
    let (held, held_labels) = split(activations, Use::Validation, place, layer)?;
    let scores = probe.scores(held.view())?;
    let loss = scores
        .iter()
        .zip(&held_labels)
        .map(|(logit, label)| (if *label { -logit } else { *logit }).exp().ln_1p())
        .sum();
    let (test, test_labels) = split(activations, Use::Test, place, layer)?;
    Ok(Tried {
        validation: auroc_value(&scores, &held_labels)?,
        loss,
        test: auroc_value(&probe.scores(test.view())?, &test_labels)?,
    })
}

/// A split's activations of both classes, harmful first, with labels.
pub fn split(
    activations: &Activations,
    split: Use,
    place: Place,
    layer: usize,
) -> Result<(Array2<f32>, Vec<bool>), SignalError> {
    let [harmful, harmless] = activations.at(split, place, layer)?;
    let labels = [vec![true; harmful.nrows()], vec![false; harmless.nrows()]].concat();
    Ok((stack(&[harmful, harmless])?, labels))
}

/// Rows of several arrays of one width, one after the other.
pub fn stack(parts: &[ArrayView2<f32>]) -> Result<Array2<f32>, ProbeError> {
    concatenate(Axis(0), parts).map_err(|error| ProbeError::Numerical {
        what: "stacking activations",
        reason: error.to_string(),
    })
}
