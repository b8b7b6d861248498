//! The report against numpy, scipy, scikit-learn and statsmodels, and what must hold of any report.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::train::loss::interval::By;

const FEW: Resampling = Resampling {
    draws: 100,
    seed: 5,
};

fn of(pairs: &[PairScore]) -> Calibration {
    Calibration::of(pairs, &FEW).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

/// Ends of intervals that another generator drew 20,000 times, and 20,000 draws here.
fn near(found: Option<Estimate>, expected: [f64; 2], within: f64) {
    let ends = found.unwrap().interval.unwrap();
    for (found, expected) in ends.iter().zip(expected) {
        assert!((found - expected).abs() < within, "{ends:?} {expected}");
    }
}

fn eight() -> Vec<PairScore> {
    let chosen = [1.2, 0.3, -0.5, 2.0, 0.1, 0.9, -1.0, 0.4];
    let rejected = [0.2, 0.5, -1.5, 1.9, -0.2, 1.4, -1.1, -2.0];
    let chosen_tokens = [12, 5, 30, 8, 9, 3, 40, 21];
    let rejected_tokens = [10, 9, 20, 8, 15, 11, 5, 4];
    (0..8)
        .map(|i| PairScore {
            chosen: chosen[i],
            rejected: rejected[i],
            chosen_tokens: chosen_tokens[i],
            rejected_tokens: rejected_tokens[i],
        })
        .collect()
}

/// Scores with a known share of length in them.
fn sixty() -> Vec<PairScore> {
    (0..60)
        .map(|i: usize| {
            let (chosen_tokens, rejected_tokens) = (5 + (7 * i) % 41, 4 + (11 * i) % 37);
            let at = i as f64;
            PairScore {
                chosen: 1.5 * (1.3 * at).sin() + 0.3 + 0.02 * chosen_tokens as f64,
                rejected: (0.7 * at * at).cos() + 0.02 * rejected_tokens as f64,
                chosen_tokens,
                rejected_tokens,
            }
        })
        .collect()
}

/// Values from numpy: digitize, corrcoef, and least squares for what length explains.
#[test]
fn eight_pairs_equal_numpy() {
    let found = of(&eight());
    close(found.accuracy.value, 0.75);
    close(found.margin.value, 0.525);
    close(found.ece.value, 0.258_659_997_669_218_77);
    close(
        found.length_correlation.unwrap().value,
        -0.305_990_115_792_475_76,
    );
    close(
        found.partial_correlation.unwrap().value,
        0.352_079_557_457_150_6,
    );
    close(found.accuracy_without_length.value, 0.75);
    let share = |bucket: Bucket| (bucket.n, bucket.accuracy.map(|a| a.value));
    assert_eq!(share(found.chosen_longer), (4, Some(1.0)));
    assert_eq!(share(found.chosen_shorter), (3, Some(1.0 / 3.0)));
    assert_eq!(
        found.reliability.iter().map(|b| b.bucket.n).sum::<usize>(),
        8
    );
    // Differences 0 2 4 6 8 10 17 35, two in each quarter; those of 4 and 8 are wrong.
    let quarters: Vec<_> = found
        .by_length
        .iter()
        .map(|b| (b.high, b.accuracy.unwrap().value))
        .collect();
    assert_eq!(quarters, [(2.0, 1.0), (6.0, 0.5), (10.0, 0.5), (35.0, 1.0)]);
}

/// Accuracy and shares with `proportion_confint(method="wilson")` of statsmodels; the error and the bins from scikit-learn's
/// `calibration_curve` with 20 bins from 0 to 1; correlations from `scipy.stats.pearsonr`, the partial one of the residuals of
/// scikit-learn's `LinearRegression`; intervals from numpy, 20,000 draws of `default_rng(0)`.
#[test]
fn sixty_pairs_equal_scipy_and_sklearn() {
    let draws = Resampling {
        draws: 20_000,
        seed: 2,
    };
    let found = Calibration::of(&sixty(), &draws).unwrap();
    let ends = |of: Option<Estimate>, value: f64, [low, high]: [f64; 2]| {
        let of = of.unwrap();
        close(of.value, value);
        let [a, b] = of.interval.unwrap();
        close(a, low);
        close(b, high);
        assert_eq!(of.by, By::Wilson);
    };
    let wilson = [0.473_660_534_920_407_5, 0.714_305_094_651_174_4];
    ends(Some(found.accuracy), 0.6, wilson);
    let wilson = [0.424_520_831_258_446_3, 0.672_501_459_522_187_9];
    ends(found.longer_chosen, 32.0 / 58.0, wilson);
    let wilson = [0.441_181_045_699_627_46, 0.688_182_008_674_551_6];
    ends(found.longer_preferred, 33.0 / 58.0, wilson);
    assert_eq!(found.longer_preferred.unwrap().n, 58);

    close(found.margin.value, 0.266_773_606_976_278_44);
    close(found.ece.value, 0.250_064_039_463_199_66);
    let length = found.length_correlation.unwrap().value;
    close(length, 0.246_455_629_772_229_26);
    let partial = found.partial_correlation.unwrap().value;
    close(partial, 0.121_551_407_329_409_82);
    close(found.accuracy_without_length.value, 34.0 / 60.0);

    near(Some(found.margin), [-0.110, 0.650], 0.015);
    near(Some(found.ece), [0.1839, 0.3903], 0.01);
    near(found.length_correlation, [0.0699, 0.4075], 0.01);
    near(found.partial_correlation, [-0.0820, 0.3166], 0.01);
    near(
        Some(found.accuracy_without_length),
        [0.4333, 0.6833],
        0.0167 + 1e-9,
    );
    let null = found.ece_if_calibrated;
    assert!((null.mean - 0.1310).abs() < 0.002, "{null:?}");
    assert!((null.high - 0.1840).abs() < 0.003, "{null:?}");

    let bins: Vec<usize> = found.reliability.iter().map(|b| b.bucket.n).collect();
    assert_eq!(bins, [5, 5, 6, 8, 6, 5, 4, 12, 7, 2]);
    let fourth = found.reliability[3];
    close(fourth.bucket.accuracy.unwrap().value, 0.25);
    assert!((fourth.confidence.unwrap() - 0.678_769_49).abs() < 1e-8);
    let quarters: Vec<_> = found
        .by_length
        .iter()
        .map(|b| {
            let right = (b.accuracy.unwrap().value * b.n as f64).round() as usize;
            (b.low as usize, b.high as usize, b.n, right)
        })
        .collect();
    let expected = [
        (0, 5, 16, 9),
        (6, 11, 16, 10),
        (12, 19, 13, 9),
        (20, 36, 15, 8),
    ];
    assert_eq!(quarters, expected);
}

#[test]
fn texts_of_one_length_leave_nothing_to_explain() {
    let mut pairs = eight();
    for pair in &mut pairs {
        (pair.chosen_tokens, pair.rejected_tokens) = (7, 7);
    }
    let found = of(&pairs);
    assert_eq!(found.length_correlation, None);
    assert_eq!(found.accuracy_without_length.value, found.accuracy.value);
    assert_eq!(found.by_length.len(), 1);
    assert_eq!(found.chosen_longer.accuracy, None);
    assert_eq!((found.longer_chosen, found.longer_preferred), (None, None));
    assert!(Calibration::of(&[], &FEW).is_err());
    pairs[0].chosen = f64::NAN;
    assert!(Calibration::of(&pairs, &FEW).is_err());
}

#[test]
fn a_report_can_be_written_as_json() {
    let text = serde_json::to_string(&of(&eight())).unwrap();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["accuracy"]["value"], 0.75);
    assert_eq!(read["accuracy"]["by"], "wilson");
    assert_eq!(read["reliability"][0]["low"], 0.5);
    // One pair has no spread: no intervals but Wilson's, and no numbers that JSON lacks.
    let one = of(&eight()[..1]);
    assert_eq!((one.margin.interval, one.accuracy.n), (None, 1));
    assert!(!serde_json::to_string(&one).unwrap().contains("NaN"));
}

fn any_pair() -> impl Strategy<Value = PairScore> {
    (-4.0..4.0f64, -4.0..4.0f64, 1..60usize, 1..60usize).prop_map(
        |(chosen, rejected, chosen_tokens, rejected_tokens)| PairScore {
            chosen,
            rejected,
            chosen_tokens,
            rejected_tokens,
        },
    )
}

fn value(of: Option<Estimate>) -> f64 {
    of.map_or(0.0, |of| of.value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Bradley-Terry leaves the level of scores open.
    #[test]
    fn a_constant_on_all_scores_changes_nothing(
        pairs in proptest::collection::vec(any_pair(), 2..40), level in -50.0..50.0f64,
    ) {
        let raised: Vec<PairScore> = pairs
            .iter()
            .map(|p| PairScore { chosen: p.chosen + level, rejected: p.rejected + level, ..*p })
            .collect();
        let (a, b) = (of(&pairs), of(&raised));
        prop_assert!((a.margin.value - b.margin.value).abs() < 1e-12);
        prop_assert!((a.ece.value - b.ece.value).abs() < 1e-9);
        let numbers = |c: &Calibration| [value(c.length_correlation), value(c.partial_correlation)];
        for (a, b) in numbers(&a).iter().zip(numbers(&b)) {
            prop_assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        prop_assert_eq!(a.accuracy, b.accuracy);
    }

    /// Every answer swapped with the other: without ties right becomes wrong, and length has the same say.
    #[test]
    fn a_report_of_swapped_pairs_is_the_mirror(pairs in proptest::collection::vec(any_pair(), 2..40)) {
        let swapped: Vec<PairScore> = pairs
            .iter()
            .map(|p| PairScore {
                chosen: p.rejected,
                rejected: p.chosen,
                chosen_tokens: p.rejected_tokens,
                rejected_tokens: p.chosen_tokens,
            })
            .collect();
        let (a, b) = (of(&pairs), of(&swapped));
        prop_assert!((a.accuracy.value + b.accuracy.value - 1.0).abs() < 1e-12);
        prop_assert!((a.margin.value + b.margin.value).abs() < 1e-12);
        prop_assert!((value(a.partial_correlation) + value(b.partial_correlation)).abs() < 1e-9);
        prop_assert!((value(a.length_correlation) - value(b.length_correlation)).abs() < 1e-9);
        prop_assert_eq!(a.longer_preferred, b.longer_preferred);
        prop_assert!((value(a.longer_chosen) + value(b.longer_chosen) - f64::from(u8::from(a.longer_chosen.is_some()))).abs() < 1e-12);
    }

    /// Bins and quarters count every pair once; intervals hold their numbers' range.
    #[test]
    fn every_pair_is_counted_once(pairs in proptest::collection::vec(any_pair(), 1..60)) {
        let found = of(&pairs);
        let n = pairs.len();
        prop_assert_eq!(found.reliability.iter().map(|b| b.bucket.n).sum::<usize>(), n);
        prop_assert_eq!(found.by_length.iter().map(|b| b.n).sum::<usize>(), n);
        let error: f64 = found
            .reliability
            .iter()
            .filter_map(|b| Some((b.bucket.accuracy?.value - b.confidence?).abs() * b.bucket.n as f64))
            .sum();
        prop_assert!((error / n as f64 - found.ece.value).abs() < 1e-12);
        let right: f64 = found
            .by_length
            .iter()
            .map(|b| b.accuracy.map_or(0.0, |a| a.value * b.n as f64))
            .sum();
        prop_assert!((right / n as f64 - found.accuracy.value).abs() < 1e-12);
        for ends in [found.margin.interval, found.ece.interval].into_iter().flatten() {
            prop_assert!(ends[0] <= ends[1]);
        }
    }

    /// Scores that are length alone leave nothing once length is taken out.
    #[test]
    fn length_alone_explains_itself(pairs in proptest::collection::vec(any_pair(), 3..40), slope in 0.1..2.0f64) {
        let by_length: Vec<PairScore> = pairs
            .iter()
            .map(|p| PairScore {
                chosen: slope * p.chosen_tokens as f64,
                rejected: slope * p.rejected_tokens as f64,
                ..*p
            })
            .collect();
        let found = of(&by_length);
        if let Some(correlation) = found.length_correlation {
            prop_assert!((correlation.value - 1.0).abs() < 1e-9);
            prop_assert!(found.longer_preferred.is_none_or(|share| share.value == 1.0));
        }
    }
}
