//! Calibration, multi-class probes and contrast-consistent search. Golden values: scikit-learn 1.9.1, run once.

use candlescope_probes::Platt;
use candlescope_probes::calibration::{Isotonic, balanced_accuracy, calibration};
use candlescope_probes::ccs::{Ccs, CcsOptions};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::softmax::{SoftmaxProbe, macro_auroc};
use proptest::prelude::*;

use crate::{close, congruential, gaussian, noisy_labels};

fn scores() -> (Vec<f64>, Vec<bool>) {
    let x = congruential(24, 3);
    let scores = x
        .outer_iter()
        .map(|r| f64::from(r[0]) * 2.0 + f64::from(r[1]))
        .collect();
    (scores, noisy_labels(&x))
}

#[test]
fn platt_matches_scikit_learn() {
    // _SigmoidCalibration().fit: 1/(1 + exp(a·s + b)) there, so both signs are turned.
    let (s, y) = scores();
    let platt = Platt::fit(&s, &y).unwrap();
    assert!(close(platt.a, 1.0109990022132682, 1e-5), "{}", platt.a);
    assert!(close(platt.b, -1.3192119375177251, 1e-5), "{}", platt.b);
}

#[test]
fn isotonic_matches_scikit_learn() {
    // IsotonicRegression(out_of_bounds="clip").fit(s, y).predict.
    let (s, y) = scores();
    let fit = Isotonic::fit(&s, &y).unwrap();
    let expected = [1.0 / 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5];
    for (score, expected) in s.iter().zip(expected) {
        assert!(close(fit.probability(*score), expected, 1e-12));
    }
    for (score, expected) in [(-9.0, 0.0), (9.0, 1.0), (0.05, 0.0)] {
        assert!(close(fit.probability(score), expected, 1e-12), "{score}");
    }
}

#[test]
fn a_score_that_ranks_backwards_is_given_one_probability() {
    let platt = Platt::fit(&[3.0, 2.0, 1.0, 0.0], &[false, false, true, true]).unwrap();
    assert_eq!(platt.a, 0.0);
    assert!(close(platt.probability(9.0), 0.5, 1e-12));
}

#[test]
fn calibration_error_by_hand() {
    // Two bins of two: |(0.1 + 0.2) − 1| + |(0.7 + 0.8) − 1| over 4 = 1.2/4; Brier (0.01 + 0.64 + 0.49 + 0.04)/4.
    let found = calibration(&[0.1, 0.8, 0.2, 0.7], &[false, true, true, false], 2).unwrap();
    assert!(close(found.ece, 0.3, 1e-12), "{}", found.ece);
    assert!(close(found.brier, 0.295, 1e-12), "{}", found.brier);
}

#[test]
fn balanced_accuracy_by_hand() {
    // Recall 2/2, specificity 3/4; Wilson 95 %: [0.342380, 1] and [0.300642, 0.954413].
    let scores = [1.0, 2.0, -1.0, -2.0, -3.0, 4.0];
    let labels = [true, true, false, false, false, false];
    let found = balanced_accuracy(&scores, &labels, 0.0, 0.95).unwrap();
    assert!(close(found.value, 0.875, 1e-12));
    let below = 0.5 * (1.0f64 - 0.342380).hypot(0.75 - 0.300642);
    assert!(
        close(found.interval.low, 0.875 - below, 1e-5),
        "{:?}",
        found.interval
    );
    assert!(close(
        found.interval.high,
        0.875 + 0.5 * (0.954413 - 0.75),
        1e-5
    ));
}

fn three(n: usize, d: usize) -> (ndarray::Array2<f32>, Vec<usize>) {
    let x = congruential(n, d);
    let class = |(i, r): (usize, ndarray::ArrayView1<f32>)| {
        let score = f64::from(r[0]) + 0.5 * f64::from(r[1]);
        let class = usize::from(score >= -0.3) + usize::from(score >= 0.3);
        if i % 5 == 0 { (class + 1) % 3 } else { class }
    };
    let y = x.outer_iter().enumerate().map(class).collect();
    (x, y)
}

#[test]
fn softmax_matches_scikit_learn() {
    // StandardScaler + LogisticRegression(C=1, tol=1e-12).decision_function of rows 0 and 7.
    let golden = [
        (
            (30, 4),
            [
                -0.5770204253946918,
                0.5969403302381019,
                -0.01991990484341022,
            ],
            [1.7048231691835425, 0.8745351653666731, -2.579358334550217],
        ),
        (
            (18, 25),
            [-1.1676283228292899, -0.5249048480737623, 1.6925331709030522],
            [1.7725239370144037, -0.3807789474281059, -1.3917449895862983],
        ),
    ];
    for ((n, d), zero, seven) in golden {
        let (x, y) = three(n, d);
        let probe = SoftmaxProbe::fit(x.view(), &y, 3, 1.0).unwrap();
        let logits = probe.logits(x.view()).unwrap();
        for (row, expected) in [(0, zero), (7, seven)] {
            for (found, expected) in logits[row].iter().zip(expected) {
                assert!(
                    close(*found, expected, 2e-5),
                    "{n} x {d}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn macro_auroc_is_the_mean_of_one_against_rest() {
    let logits = vec![
        vec![2.0, 0.0, 0.0],
        vec![0.0, 1.0, 0.5],
        vec![1.0, 0.5, 0.0],
        vec![0.0, 0.0, 3.0],
    ];
    let labels = [0, 1, 0, 2];
    let (mean, each) = macro_auroc(&logits, &labels, 0.95).unwrap();
    assert_eq!(
        each.iter().map(|a| a.value).collect::<Vec<_>>(),
        [1.0, 1.0, 1.0]
    );
    assert_eq!(mean, 1.0);
    let (x, mut y) = three(30, 4);
    assert!(
        SoftmaxProbe::fit(x.view(), &y, 4, 1.0).is_err(),
        "a class without items"
    );
    y[0] = 9;
    assert!(SoftmaxProbe::fit(x.view(), &y, 3, 1.0).is_err());
}

#[test]
fn contrast_search_finds_a_planted_truth_without_labels() {
    // Statement and negation differ by ±2 along axis 0 with the truth, and by a constant along axis 1 (the word itself).
    let n = 80;
    let truth: Vec<bool> = (0..n).map(|i| (i * 7) % 3 == 0 || i % 5 == 0).collect();
    let side = |sign: f32, word: f32, seed: u64| {
        let mut x = gaussian(n, 8, seed);
        for (mut row, &t) in x.outer_iter_mut().zip(&truth) {
            row *= 0.5;
            row[0] += sign * if t { 2.0 } else { -2.0 };
            row[1] += word;
        }
        x
    };
    let (first, second) = (side(1.0, 4.0, 1), side(-1.0, -4.0, 2));
    let ccs = Ccs::fit(first.view(), second.view(), &CcsOptions::default()).unwrap();
    assert!(ccs.loss < 0.05, "{}", ccs.loss);
    assert!(ccs.losses.iter().all(|&l| l >= ccs.loss));
    let ccs = ccs.oriented(first.view(), second.view(), &truth).unwrap();
    let scores = ccs.scores(first.view(), second.view()).unwrap();
    assert!(auroc_value(&scores, &truth).unwrap() > 0.99);
    // The two sides change places: what was true is false.
    let turned = Ccs {
        sides: [ccs.sides[1].clone(), ccs.sides[0].clone()],
        ..ccs
    };
    for (a, b) in scores
        .iter()
        .zip(turned.scores(second.view(), first.view()).unwrap())
    {
        assert!(close(*a, 1.0 - b, 1e-12));
    }
}

proptest! {
    #[test]
    fn isotonic_never_falls(raw in proptest::collection::vec((-5f64..5.0, any::<bool>()), 1..40), a in -6f64..6.0, b in -6f64..6.0) {
        let (s, y): (Vec<f64>, Vec<bool>) = raw.into_iter().unzip();
        let fit = Isotonic::fit(&s, &y).unwrap();
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(fit.probability(low) <= fit.probability(high) + 1e-12);
        prop_assert!((0.0..=1.0).contains(&fit.probability(a)));
    }
}
