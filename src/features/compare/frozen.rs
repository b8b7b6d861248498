//! One dictionary, frozen, on two checkpoints: how well it still fits, and which latents do something else.

use std::ops::ControlFlow;

use candlescope_probes::{Bootstrap, Resampling, stats::bootstrap::bootstrap};
use candlescope_sae::{
    Codes, Dictionary,
    measure::{Measure, Quality},
};
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};
use serde::{Deserialize, Serialize};

use super::counts::Became;
use super::{
    CompareOptions, Counts, Example, Examples, LatentChange, PairedContext, Pairs, ShiftNull,
};
use crate::activations::Tally;
use crate::features::{FeatureError, Splice};
use crate::model::{Checkpoint, ModelError};

/// What is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Contexts.
    pub contexts: usize,
    /// What was left out, on either model.
    pub tally: Tally,
    /// On each model.
    pub quality: [Quality; 2],
    /// FVU on the second over FVU on the first, resampled by context with each model's mean row as it is; none where one is
    /// not above 0.
    pub fvu_ratio: Option<Bootstrap>,
    /// Latents that are alive on either model.
    pub alive: usize,
    /// Silent on the first, alive on the second.
    pub births: usize,
    /// Alive on the first, silent on the second.
    pub deaths: usize,
    /// Latents that fire more or less often by the factor or more, births and deaths with them, beside what chance gives.
    pub shifts: ShiftNull,
    /// Of all latents that are alive, those whose adjusted p-value is at most 0.01.
    pub significant: usize,
    /// All latents that are alive on either, the surest change first; the first ones with examples.
    pub latents: Vec<LatentChange>,
}

/// The level of [`Frozen::significant`].
pub const LEVEL: f64 = 0.01;

/// What a context adds to FVU on one model.
struct Part {
    error: f64,
    /// `Σ x`, `Σ |x|²`, rows.
    sum: Array1<f64>,
    square: f64,
    rows: f64,
}

/// The same context by context, for whoever resamples contexts.
#[derive(Debug, Clone)]
pub struct FrozenContexts {
    /// The contexts that keep a token, by number; all that follows is in their order.
    pub kept: Vec<usize>,
    /// What was left out, on either model.
    pub tally: Tally,
    /// On each model.
    pub quality: [Quality; 2],
    /// Squared error and squared distance to the model's mean row, of each context on each model.
    pub fits: [Vec<[f64; 2]>; 2],
    /// How often each latent fires.
    pub counts: Counts,
    /// Tokens at which latents changed most; contexts by number.
    pub examples: Examples,
}

/// Compares two checkpoints through a dictionary. `progress` is told of tokens that are done.
///
/// # Errors
/// Models that do not go together, contexts of which nothing is kept, [`ModelError::Cancelled`] where `progress` breaks.
pub fn compare_frozen(
    models: [&Checkpoint; 2],
    splice: &Splice,
    contexts: &[Vec<u32>],
    options: &CompareOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Frozen, FeatureError> {
    let found = frozen_contexts(models, splice, contexts, options, progress)?;
    let mut changes = found.counts.changes(options.floors)?;
    for change in changes.iter_mut().take(options.top) {
        change.examples = found.examples.of(change.latent);
    }
    let of = |wanted: Became| changes.iter().filter(|c| c.became == wanted).count();
    let null = found
        .counts
        .null(options.floors, options.draws, options.bootstrap.seed);
    Ok(Frozen {
        contexts: contexts.len(),
        tally: found.tally,
        fvu_ratio: fvu_ratio(&found.fits, options)?,
        quality: found.quality,
        alive: changes.len(),
        births: of(Became::Born),
        deaths: of(Became::Died),
        shifts: null,
        significant: changes.iter().filter(|c| c.adjusted <= LEVEL).count(),
        latents: changes,
    })
}

/// Reads two checkpoints through a dictionary, context by context; as [`compare_frozen`], which sums it up.
///
/// # Errors
/// As [`compare_frozen`].
pub fn frozen_contexts(
    models: [&Checkpoint; 2],
    splice: &Splice,
    contexts: &[Vec<u32>],
    options: &CompareOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<FrozenContexts, FeatureError> {
    let mut points = vec![splice.read(), splice.write()];
    points.dedup();
    let pairs = Pairs::new(models, [&points, &points], contexts, options)?;
    let dictionary = splice.dictionary();
    let latents = dictionary.d_sae();
    let mut tally = Tally::default();
    let mut measures = [Measure::of(dictionary), Measure::of(dictionary)];
    let mut counts = Counts::new(latents);
    let mut examples = Examples::new(latents, options.examples);
    let mut parts: [Vec<Part>; 2] = Default::default();
    let mut kept = Vec::new();
    let batch = options.batch.max(1);
    for (i, some) in contexts.chunks(batch).enumerate() {
        let found = pairs.pass(some, i * batch)?;
        for context in &found {
            context.tally(&mut tally);
        }
        let mut codes = Vec::new();
        for m in 0..2 {
            codes.push(side(
                dictionary,
                &found,
                m,
                &mut measures[m],
                &mut parts[m],
            )?);
        }
        for (j, context) in found.iter().enumerate() {
            let both = [&codes[0][j], &codes[1][j]];
            if !context.positions.is_empty() {
                counts.add(both);
                kept.push(i * batch + j);
                note(&mut examples, both, i * batch + j, &context.positions);
            }
        }
        let tokens = some.iter().map(|ids| ids.len() as u64).sum();
        if progress(tokens).is_break() {
            return Err(ModelError::Cancelled.into());
        }
    }
    if kept.is_empty() {
        let what = "no token is kept on both models; give more text or another --drop".into();
        return Err(FeatureError::Nothing { what });
    }
    Ok(FrozenContexts {
        kept,
        tally,
        quality: [measures[0].quality(), measures[1].quality()],
        fits: [scatters(&parts[0]), scatters(&parts[1])],
        counts,
        examples,
    })
}

/// The codes of each context on one model.
fn side(
    dictionary: &Dictionary,
    found: &[PairedContext],
    m: usize,
    measure: &mut Measure,
    parts: &mut Vec<Part>,
) -> Result<Vec<Codes>, FeatureError> {
    let of_point = |last: bool| -> Result<Array2<f32>, FeatureError> {
        let each = found.iter().filter_map(|context| {
            let points = &context.rows[m];
            if last { points.last() } else { points.first() }
        });
        let views: Vec<ArrayView2<f32>> = each.map(ndarray::ArrayBase::view).collect();
        let all = concatenate(Axis(0), &views);
        all.map_err(|e| FeatureError::Candle(candle_core::Error::wrap(e)))
    };
    let (rows, target) = (of_point(false)?, of_point(true)?);
    if rows.nrows() == 0 {
        return Ok(vec![Codes::new(); found.len()]);
    }
    let (codes, out) = measure.run(dictionary, rows.view(), target.view())?;
    let mut each = Vec::new();
    let mut from = 0;
    for context in found {
        let to = from + context.positions.len();
        let mut own = Codes::new();
        for row in from..to {
            let (latents, values) = codes.row(row);
            own.push(latents.iter().copied().zip(values.iter().copied()));
        }
        each.push(own);
        if to > from {
            let block = s![from..to, ..];
            parts.push(Part::of(target.slice(block), out.slice(block)));
        }
        from = to;
    }
    Ok(each)
}

impl Part {
    fn of(target: ArrayView2<f32>, out: ArrayView2<f32>) -> Self {
        let wide = target.mapv(f64::from);
        let error = (&wide - &out.mapv(f64::from)).mapv(|e| e * e).sum();
        Self {
            error,
            sum: wide.sum_axis(Axis(0)),
            square: wide.mapv(|x| x * x).sum(),
            rows: target.nrows() as f64,
        }
    }
}

/// Bootstrapped over contexts, the same ones on both models; the mean rows, which all contexts decide, stay as they are.
fn fvu_ratio(
    sums: &[Vec<[f64; 2]>; 2],
    options: &CompareOptions,
) -> Result<Option<Bootstrap>, FeatureError> {
    let fvu = |m: usize, items: &[usize]| {
        let sum = |at: usize| items.iter().map(|&i| sums[m][i][at]).sum::<f64>();
        let (error, scatter) = (sum(0), sum(1));
        if error > 0.0 && scatter > 0.0 {
            error / scatter
        } else {
            f64::NAN
        }
    };
    let ratio = |items: &[usize]| fvu(1, items) / fvu(0, items);
    let all: Vec<usize> = (0..sums[0].len()).collect();
    let defined = ratio(&all).is_finite();
    Ok(defined
        .then(|| bootstrap(all.len(), Resampling::Items, &options.bootstrap, ratio))
        .transpose()?)
}

/// Squared error and squared distance to the mean row, of each context.
fn scatters(parts: &[Part]) -> Vec<[f64; 2]> {
    let rows: f64 = parts.iter().map(|p| p.rows).sum();
    let Some(first) = parts.first() else {
        return Vec::new();
    };
    let zero = Array1::zeros(first.sum.len());
    let mean = parts.iter().fold(zero, |mean, p| mean + &p.sum) / rows.max(1.0);
    let length = mean.dot(&mean);
    let of = |p: &Part| {
        let scatter = p.square - 2.0 * mean.dot(&p.sum) + p.rows * length;
        [p.error, scatter.max(0.0)]
    };
    parts.iter().map(of).collect()
}

/// The tokens of a context at which latents changed most.
fn note(examples: &mut Examples, codes: [&Codes; 2], context: usize, positions: &[usize]) {
    for (row, &position) in positions.iter().enumerate() {
        let [(a, x), (b, y)] = [codes[0].row(row), codes[1].row(row)];
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let latent = match (a.get(i), b.get(j)) {
                (Some(a), Some(b)) => *a.min(b),
                (Some(only), None) | (None, Some(only)) => *only,
                (None, None) => break,
            };
            let mut values = [0.0; 2];
            if a.get(i) == Some(&latent) {
                values[0] = x[i];
                i += 1;
            }
            if b.get(j) == Some(&latent) {
                values[1] = y[j];
                j += 1;
            }
            let example = Example {
                context,
                position,
                values,
            };
            examples.add(latent as usize, (values[1] - values[0]).abs(), example);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn scatters_add_up() {
        let part = |rows: Array2<f32>| Part::of(rows.view(), (&rows * 0.5).view());
        let parts = [
            part(array![[1.0, 2.0], [3.0, 2.0]]),
            part(array![[2.0, 5.0]]),
        ];
        // Mean (2, 3): distances 2, 2 and 4; errors a quarter of the squared norms.
        let found = scatters(&parts);
        assert_eq!(found, [[4.5, 4.0], [7.25, 4.0]]);
        assert!(scatters(&[]).is_empty());
    }

    #[test]
    fn the_largest_changes_are_kept_from_both_sides() {
        let mut before = Codes::new();
        before.push([(0, 1.0), (2, 5.0)]);
        let mut after = Codes::new();
        after.push([(1, 3.0), (2, 1.0)]);
        let mut examples = Examples::new(3, 2);
        note(&mut examples, [&before, &after], 7, &[4]);
        let of = |latent: usize| examples.of(latent)[0];
        assert_eq!(of(0).values, [1.0, 0.0]);
        assert_eq!(of(1).values, [0.0, 3.0]);
        assert_eq!(
            (of(2).values, of(2).context, of(2).position),
            ([5.0, 1.0], 7, 4)
        );
    }
}
