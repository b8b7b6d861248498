//! Probes where they were not made: on another suite, at another layer, in another checkpoint.
//!
//! Between checkpoints (or layers) of one width the old probe is judged three ways on the same test rows: frozen, re-aligned
//! without labels (mean and scale of the new training rows in place of the old ones; both must have read the same kind of
//! text), and refitted. What refitting gains over the frozen probe is the stale part of the loss; what it gains over the
//! re-aligned one is the recoverability gap: near 0, the information is where it was and only moved and stretched.

use candlescope_probes::linear::{ChooseC, moments};
use candlescope_probes::roc::{AurocDifference, delong_paired};
use candlescope_probes::{Auroc, LinearProbe, ProbeError, Score, auroc, linear};
use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::Fitting;
use super::sweep::Parts;

/// An old probe on new activations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// As it was.
    pub frozen: Auroc,
    /// With the mean and scale of the new training rows; no labels used.
    pub realigned: Auroc,
    /// Fitted anew on the new training rows.
    pub refitted: Auroc,
    /// Refitted minus frozen, paired.
    pub stale: AurocDifference,
    /// Refitted minus re-aligned, paired: the recoverability gap.
    pub gap: AurocDifference,
}

/// Carries `old` to activations `x` `[row, width]` of rows with `labels` `[row]`.
///
/// # Errors
/// Another width, one class in a part, a fit that is refused.
pub fn carry(
    old: &LinearProbe,
    x: ArrayView2<f32>,
    labels: &[bool],
    parts: &Parts,
    fitting: &Fitting,
) -> Result<Carried, ProbeError> {
    let train = x.select(Axis(0), &parts.train);
    let test = x.select(Axis(0), &parts.test);
    let pick = |rows: &[usize]| rows.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
    let (y_train, y) = (pick(&parts.train), pick(&parts.test));
    let (mean, scale) = moments(train.view())?;
    let frozen = old.scores(test.view())?;
    let realigned = old.realigned(&mean, &scale)?.scores(test.view())?;
    let c = fitting.c.map_or(
        ChooseC::Folds {
            folds: &parts.folds,
            grid: &fitting.grid,
        },
        ChooseC::Fixed,
    );
    let refitted = linear::fit(fitting.kind, train.view(), &y_train, c)?.scores(test.view())?;
    Ok(Carried {
        frozen: auroc(&frozen, &y, fitting.level)?,
        realigned: auroc(&realigned, &y, fitting.level)?,
        refitted: auroc(&refitted, &y, fitting.level)?,
        stale: delong_paired(&frozen, &refitted, &y, fitting.level)?,
        gap: delong_paired(&realigned, &refitted, &y, fitting.level)?,
    })
}

/// A matrix of test AUROCs: probe of the row on the test rows of the column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Where the probes were fitted.
    pub from: Vec<String>,
    /// Where they were judged.
    pub to: Vec<String>,
    /// `[from][to]`.
    pub auroc: Vec<Vec<Auroc>>,
}

/// Judges each probe on each set of test activations `[row, width]` with labels `[row]`.
///
/// # Errors
/// Another width, one class only.
pub fn matrix(
    probes: &[(String, LinearProbe)],
    sets: &[(String, ArrayView2<f32>, &[bool])],
    level: f64,
) -> Result<Matrix, ProbeError> {
    let row = |probe: &LinearProbe| {
        let cell =
            |(_, x, y): &(String, ArrayView2<f32>, &[bool])| auroc(&probe.scores(*x)?, y, level);
        sets.iter()
            .map(cell)
            .collect::<Result<Vec<_>, ProbeError>>()
    };
    Ok(Matrix {
        from: probes.iter().map(|(name, _)| name.clone()).collect(),
        to: sets.iter().map(|(name, _, _)| name.clone()).collect(),
        auroc: probes
            .iter()
            .map(|(_, p)| row(p))
            .collect::<Result<_, _>>()?,
    })
}
