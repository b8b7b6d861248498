//! Golden values, and what must hold of any dictionary on any rows.
#![allow(clippy::unwrap_used)]

use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;

use super::*;
use crate::Codes;

/// Values from -2 to 2 by a linear congruential generator, which the golden script repeats.
fn grid(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn((rows, columns), || {
        state = (state * 1_664_525 + 1_013_904_223) % (1 << 32);
        ((state >> 8) as f64 / f64::from(1 << 24) * 4.0 - 2.0) as f32
    })
}

fn silent(rows: usize) -> Codes {
    let mut codes = Codes::new();
    (0..rows).for_each(|_| codes.push([]));
    codes
}

fn measured(target: &Array2<f32>, output: &Array2<f32>, cuts: &[usize]) -> Measure {
    let mut measure = Measure::new(1, target.ncols());
    let mut start = 0;
    for &end in cuts {
        let cut = |rows: &Array2<f32>| rows.slice(s![start..end, ..]).to_owned();
        let (target, output) = (cut(target), cut(output));
        let codes = silent(end - start);
        measure.add(target.view(), output.view(), &codes).unwrap();
        start = end;
    }
    measure
}

fn near(found: Option<f64>, expected: f64, tolerance: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() < tolerance, "{found} {expected}");
}

/// `pooled` from SAELens 6.54.12's `ExplainedVarianceCalculator` (f32 squares), the rest from the formulas of
/// dictionary_learning's `evaluation.py`, sparsify's `sparse_coder.py` and SAELens's `evals.py` written out in numpy
/// float64; rows `grid(1) + 3`, output `rows + grid(2) / 4 + 0.5`, batches of 4 and 3.
#[test]
fn golden_values() {
    let target = grid(1, 7, 5) + 3.0;
    let output = &target + &(grid(2, 7, 5) * 0.25 + 0.5);
    let quality = measured(&target, &output, &[4, 7]).quality();
    near(
        quality.explained_variance.pooled,
        0.771_121_893_563_841_6,
        2e-7,
    );
    near(
        quality.explained_variance.pooled,
        0.771_121_807_233_282_2,
        1e-12,
    );
    near(
        quality.explained_variance.batch_variance,
        0.956_646_873_246_836_3,
        1e-7,
    );
    near(quality.fvu.batch_mean, 0.259_492_713_358_175_2, 1e-12);
    near(quality.mse, 1.315_789_811_213_193_2, 1e-12);
    near(quality.l2_ratio, 1.161_844_638_766_848, 1e-12);
    near(quality.cosine, 0.996_862_765_010_132_6, 1e-12);
    near(quality.relative_bias, 1.143_072_295_917_309_6, 1e-12);
    near(quality.severity, 2.678_237_213_469_499, 1e-12);
}

#[test]
fn codes_by_hand() {
    let mut codes = Codes::new();
    codes.push([(0, 2.0), (3, -1.0)]);
    codes.push([(0, 4.0), (1, 0.0)]);
    codes.push([]);
    codes.push([(0, 1.0), (1, 1.0), (3, 1.0)]);
    let mut measure = Measure::new(4, 1);
    let rows = grid(5, 4, 1);
    measure.add(rows.view(), rows.view(), &codes).unwrap();
    let quality = measure.quality();
    // L0 is 2, 1 (a stored 0 did not fire), 0, 3.
    assert_eq!(quality.l0, Some(1.5));
    near(quality.l0_deviation, 1.25_f64.sqrt(), 1e-12);
    assert_eq!(quality.l1, Some(10.0 / 4.0));
    let density = measure.density();
    assert_eq!(density.fired(), [3, 1, 0, 2]);
    assert_eq!(density.mean_when_firing(0), Some(7.0 / 3.0));
    assert_eq!(density.mean_when_firing(2), None);
    assert_eq!(density.largest(3), 1.0);
    assert_eq!(density.log10()[2], -10.0);
    near(Some(density.log10()[0]), (0.75_f64 + 1e-10).log10(), 1e-15);
    let shares = density.shares(0.3, 0.6);
    assert_eq!([shares.dead, shares.rare, shares.dense], [0.25; 3]);
    let histogram = density.histogram();
    assert_eq!(histogram.edges.len(), histogram.counts.len() + 1);
    assert_eq!(histogram.counts.iter().sum::<u64>(), 4);
    // The dead one in the first bin; 3/4 and 2/4 lie above -0.5, 1/4 between -0.75 and -0.5.
    assert_eq!((histogram.counts[0], histogram.counts[37]), (1, 1));
    assert_eq!(histogram.counts[38] + histogram.counts[39], 2);
}

#[test]
fn an_offset_is_forgiven_by_one_definition_alone() {
    let target = grid(3, 200, 6);
    let output = &target + 1.0;
    let fvu = measured(&target, &output, &[100, 200]).quality().fvu;
    near(fvu.batch_variance, 0.0, 1e-10);
    assert!(fvu.pooled.unwrap() > 0.5 && fvu.batch_mean.unwrap() > 0.5);
}

#[test]
fn what_rows_cannot_say_is_none() {
    let quality = Measure::new(3, 2).quality();
    let unknown = [quality.l0, quality.mse, quality.cosine, quality.fvu.pooled];
    assert_eq!(unknown, [None; 4]);
    let equal = Array2::ones((4, 2));
    let quality = measured(&equal, &equal, &[4]).quality();
    assert_eq!(quality.fvu, ByDefinition::default());
    assert_eq!((quality.cosine.is_some(), quality.batches), (true, 1));
    let zeros = Array2::zeros((4, 2));
    assert_eq!(measured(&zeros, &equal, &[4]).quality().l2_ratio, None);
    assert_eq!(measured(&equal, &zeros, &[4]).quality().cosine, Some(0.0));
    let text = serde_json::to_string(&quality).unwrap();
    assert_eq!(serde_json::from_str::<Quality>(&text).unwrap(), quality);
}

#[test]
fn refusals() {
    let mut measure = Measure::new(3, 2);
    let rows = grid(1, 4, 2);
    let mut add = |rows: ArrayView2<f32>, codes: &Codes| measure.add(rows, rows, codes);
    let shape = add(rows.view(), &silent(3)).unwrap_err();
    assert!(matches!(shape, SaeError::Shape { .. }), "{shape}");
    let mut beyond = silent(3);
    beyond.push([(3, 1.0)]);
    let range = add(rows.view(), &beyond).unwrap_err();
    assert!(range.to_string().contains("0 to 2"), "{range}");
    let mut bad = rows.clone();
    bad[(2, 1)] = f32::NAN;
    let nan = add(bad.view(), &silent(4)).unwrap_err();
    assert!(nan.to_string().contains("row 2, column 1"), "{nan}");
    assert_eq!(measure, Measure::new(3, 2));
    assert!(measure.merge(&Measure::new(4, 2)).is_err());
}

#[test]
fn threads_change_no_bit() {
    let (target, output) = (grid(1, 1000, 9), grid(2, 1000, 9));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build()
            .unwrap()
            .install(|| measured(&target, &output, &[700, 1000]))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_sink_among_the_rows_costs_no_digits() {
    let mut rows = grid(4, 1000, 3);
    rows[(0, 1)] = 24_000.0;
    let mut column: Vec<f64> = rows.column(1).iter().map(|&x| f64::from(x)).collect();
    // The same in another order, by the textbook's two passes.
    column.sort_by(f64::total_cmp);
    let mean = column.iter().sum::<f64>() / 1000.0;
    let squares: f64 = column.iter().map(|x| (x - mean).powi(2)).sum();
    let found = Moments::of(rows.view()).variance()[1];
    assert!((found / (squares / 1000.0) - 1.0).abs() < 1e-13);
}

#[test]
fn births_deaths_and_shifts() {
    let run = |fired: [u64; 5]| {
        let mut density = Density::new(5);
        for row in 0..1000_u64 {
            let mut codes = Codes::new();
            let firing = (0..5_u32).filter(|&l| row < fired[l as usize]);
            codes.push(firing.map(|l| (l, 1.0)));
            density.add(&codes).unwrap();
        }
        density
    };
    let (before, after) = (run([100, 0, 7, 0, 50]), run([110, 9, 0, 0, 200]));
    let drift = Drift::between(&before, &after, Floors::default()).unwrap();
    let latents = |list: &[Crossing]| list.iter().map(|c| c.latent).collect::<Vec<_>>();
    assert_eq!(latents(&drift.births), [1]);
    assert_eq!(latents(&drift.deaths), [2]);
    // Latent 4 fires four times as often; birth and death are shifts too; latent 0 is none; latent 3 never lived.
    assert_eq!((drift.alive, drift.shifted), (4, 3));
    assert_eq!(drift.shifts.last().unwrap().latent, 0);
    let of_4 = drift.shifts.iter().find(|s| s.latent == 4).unwrap();
    near(Some(of_4.log2_ratio), (200.5_f64 / 50.5).log2(), 1e-12);
    let same = Drift::between(&before, &before, Floors::default()).unwrap();
    assert_eq!(
        (same.divergence, same.shifted, same.births.len()),
        (0.0, 0, 0)
    );
    assert!(Drift::between(&before, &Density::new(5), Floors::default()).is_err());
    assert!(Drift::between(&before, &Density::new(4), Floors::default()).is_err());
}

fn rows(seed: u64) -> (Array2<f32>, Array2<f32>) {
    (grid(seed, 40, 4) + 0.5, grid(seed + 1, 40, 4))
}

proptest! {
    #[test]
    fn merging_is_one_pass(seed in 0_u64..1000, cut in 1_usize..39) {
        let (target, output) = rows(seed);
        let whole = measured(&target, &output, &[cut, 40]);
        let part = |from: usize, to: usize| {
            let part = |m: &Array2<f32>| m.slice(s![from..to, ..]).to_owned();
            measured(&part(&target), &part(&output), &[to - from])
        };
        let mut merged = part(0, cut);
        merged.merge(&part(cut, 40)).unwrap();
        let (a, b) = (whole.quality(), merged.quality());
        prop_assert_eq!(a.rows, b.rows);
        for (a, b) in [(a.fvu.pooled, b.fvu.pooled), (a.fvu.batch_mean, b.fvu.batch_mean), (a.mse, b.mse),
            (a.fvu.batch_variance, b.fvu.batch_variance), (a.cosine, b.cosine), (a.l2_ratio, b.l2_ratio), (a.severity, b.severity)]
        {
            prop_assert!((a.unwrap() - b.unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn a_perfect_reconstruction_leaves_nothing(seed in 0_u64..1000) {
        let (target, _) = rows(seed);
        let quality = measured(&target, &target, &[25, 40]).quality();
        let fvu = quality.fvu;
        prop_assert_eq!([fvu.pooled, fvu.batch_mean, fvu.batch_variance], [Some(0.0); 3]);
        prop_assert!((quality.cosine.unwrap() - 1.0).abs() < 1e-12);
        prop_assert_eq!(quality.relative_bias, Some(1.0));
        // The batch's own mean explains nothing, by each definition; over batches the pooled variance is the larger one.
        let mean = target.mean_axis(ndarray::Axis(0)).unwrap();
        let of_mean = measured(&target, &mean.broadcast((40, 4)).unwrap().to_owned(), &[40]).quality();
        prop_assert!((of_mean.fvu.pooled.unwrap() - 1.0).abs() < 1e-6);
        prop_assert!((of_mean.fvu.batch_mean.unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn scale_matters_only_to_the_error(seed in 0_u64..1000, power in -8_i32..8) {
        // A power of two changes no mantissa, so the ratios stay to the bit.
        let scale = 2_f32.powi(power);
        let (target, output) = rows(seed);
        let one = measured(&target, &output, &[40]).quality();
        let other = measured(&(&target * scale), &(&output * scale), &[40]).quality();
        prop_assert_eq!(one.fvu, other.fvu);
        prop_assert_eq!(one.cosine, other.cosine);
        prop_assert_eq!(one.relative_bias, other.relative_bias);
        let square = f64::from(scale) * f64::from(scale);
        prop_assert!((other.mse.unwrap() / square / one.mse.unwrap() - 1.0).abs() < 1e-12);
    }
}
