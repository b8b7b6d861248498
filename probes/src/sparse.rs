//! The k-sparse probe (Gurnee et al. 2305.01610): the k features whose class means differ most in units of the feature's
//! standard deviation, and a logistic fit on those alone. Says whether a few neurons are enough.

use ndarray::{ArrayView2, Axis};

use crate::error::{ProbeError, at_least, both_classes, finite_rows, same_length};
use crate::linalg::{means, rows_of};
use crate::linear::{ChooseC, LinearProbe, spread};
use crate::shared::SharedFits;

/// The k features of largest |μ⁺ − μ⁻|/σ, largest first; ties go to the lower index.
///
/// # Errors
/// One class, no or more than d features asked for, a value that is not finite.
pub fn top_features(
    x: ArrayView2<f32>,
    labels: &[bool],
    k: usize,
) -> Result<Vec<usize>, ProbeError> {
    same_length("labels", x.nrows(), labels.len())?;
    both_classes(labels, 1)?;
    finite_rows("activations", x)?;
    at_least("features of a k-sparse probe", 1, k)?;
    at_least("features", k, x.ncols())?;
    let (_, scale) = crate::design::moments(x);
    let side = |class| means(rows_of(x, labels, class).view());
    let size = (side(true) - side(false)).mapv(f64::abs) / scale;
    let mut order: Vec<usize> = (0..x.ncols()).collect();
    order.sort_by(|&a, &b| size[b].total_cmp(&size[a]).then(a.cmp(&b)));
    order.truncate(k);
    Ok(order)
}

pub(crate) fn fit(
    x: ArrayView2<f32>,
    labels: &[bool],
    k: usize,
    c: ChooseC,
) -> Result<LinearProbe, ProbeError> {
    let features = top_features(x, labels, k)?;
    let shared = SharedFits::new(x.select(Axis(1), &features).view())?;
    // The features stay those of all items while C is chosen: a choice among C, not an estimate.
    let probe = match c {
        ChooseC::Fixed(c) => shared.fit(labels, c)?,
        ChooseC::Folds { folds, grid } => shared.fit_chosen(labels, folds, grid)?,
    };
    let small = LinearProbe::of_logistic(&probe);
    let (mean, scale) = crate::design::moments(x);
    Ok(LinearProbe {
        weights: spread(&features, &small.weights, x.ncols()),
        bias: small.bias,
        mean: mean.to_vec(),
        scale: scale.to_vec(),
        c: small.c,
    })
}
