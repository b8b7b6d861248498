//! Logistic and mass-mean probes against scikit-learn; folds.

use candlescope_probes::folds::{grouped_folds, out_of_fold, stratified_folds};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{
    Design, LogisticOptions, LogisticProbe, MassMean, Penalty, ProbeError, Score, Whitening,
};
use ndarray::{Array1, s};

use crate::{close, congruential, noisy_labels, two_classes};

fn fixed(c: f64) -> LogisticOptions {
    LogisticOptions {
        penalty: Penalty::Fixed(c),
        ..LogisticOptions::default()
    }
}

#[test]
fn logistic_matches_scikit_learn() {
    // StandardScaler + LogisticRegression(C, tol=1e-12, solver="newton-cholesky") on the same numbers: coef_[:3], intercept_.
    for (n, d, c, weights, bias) in [
        (
            24,
            3,
            1.0,
            [1.1349050212521186, 0.376748024785815, -0.1530397831653287],
            -1.447475368283783,
        ),
        (
            24,
            3,
            0.01,
            [
                0.053467857640923454,
                0.02602117334105967,
                -0.009252020164358927,
            ],
            -1.0996425318260785,
        ),
        // n < d: here the fit runs on the reduced design.
        (
            12,
            20,
            1.0,
            [0.5802588625046082, 0.073421777258134, 0.43295576117467394],
            -0.04947140250539681,
        ),
        (
            12,
            20,
            100.0,
            [1.4878052002074773, -0.14017805664210642, 0.9639897136816188],
            -0.10043984926596954,
        ),
    ] {
        let x = congruential(n, d);
        let probe = LogisticProbe::fit(x.view(), &noisy_labels(&x), &fixed(c)).unwrap();
        assert_eq!((probe.n, probe.n_pos), (n, 6));
        for (found, expected) in probe.weights.iter().zip(weights) {
            assert!(
                close(*found, expected, 1e-6),
                "n {n} d {d} C {c}: {found} {expected}"
            );
        }
        assert!(close(probe.bias, bias, 1e-6), "{} {bias}", probe.bias);
        assert!(probe.gradient < 1e-8);
    }
    let x = congruential(24, 3);
    let probe = LogisticProbe::fit(x.view(), &noisy_labels(&x), &fixed(1.0)).unwrap();
    assert!(
        close(probe.mean[0], 0.03091025600830714, 1e-9)
            && close(probe.scale[0], 0.5226032144429091, 1e-9)
    );
}

#[test]
fn the_reduced_design_is_the_same_model() {
    // Doubling the rows makes n ≥ d, so the direct road is taken; halving C keeps the balance of loss and penalty.
    let x = congruential(12, 20);
    let labels = noisy_labels(&x);
    let twice = ndarray::concatenate![ndarray::Axis(0), x, x];
    let labels_twice = [labels.clone(), labels.clone()].concat();
    let reduced = LogisticProbe::fit(x.view(), &labels, &fixed(2.0)).unwrap();
    let direct = LogisticProbe::fit(twice.view(), &labels_twice, &fixed(1.0)).unwrap();
    for (a, b) in reduced.weights.iter().zip(&direct.weights) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn the_score_is_the_logit_and_survives_json() {
    let (x, labels) = two_classes(60, 8, 2.0, 1);
    let probe = LogisticProbe::fit(x.view(), &labels, &LogisticOptions::default()).unwrap();
    let back: LogisticProbe =
        serde_json::from_str(&serde_json::to_string(&probe).unwrap()).unwrap();
    assert_eq!(
        back.scores(x.view()).unwrap(),
        probe.scores(x.view()).unwrap()
    );
    // At the optimum the intercept's gradient is 0: mean probability = share of positives.
    let scores = probe.scores(x.view()).unwrap();
    let mean = scores.iter().map(|s| 1.0 / (1.0 + (-s).exp())).sum::<f64>() / 60.0;
    assert!((mean - 0.5).abs() < 1e-6);
    // raw weights: differences of scores are differences of dot products.
    let raw = Array1::from(probe.raw_weights());
    let gap = &x.row(0).mapv(f64::from) - &x.row(1).mapv(f64::from);
    assert!(close(raw.dot(&gap), scores[0] - scores[1], 1e-9));
}

#[test]
fn bad_input_is_refused_by_name() {
    let (mut x, labels) = two_classes(20, 4, 2.0, 1);
    let probe = LogisticProbe::fit(x.view(), &labels, &LogisticOptions::default()).unwrap();
    x[[7, 2]] = f32::NAN;
    let expected = ProbeError::NonFinite {
        what: "activations",
        row: 7,
        column: 2,
    };
    assert_eq!(
        LogisticProbe::fit(x.view(), &labels, &LogisticOptions::default()).unwrap_err(),
        expected
    );
    assert_eq!(
        MassMean::fit(x.view(), &labels, Whitening::None).unwrap_err(),
        expected
    );
    assert!(matches!(
        probe.scores(x.view()),
        Err(ProbeError::NonFinite { row: 7, .. })
    ));
    assert!(matches!(
        probe.scores(x.slice(s![.., ..3])),
        Err(ProbeError::Length {
            expected: 4,
            found: 3,
            ..
        })
    ));
    let clean = congruential(20, 4);
    assert_eq!(
        MassMean::fit(clean.view(), &[true; 20], Whitening::None).unwrap_err(),
        ProbeError::OneClass {
            positives: 20,
            negatives: 0
        }
    );
    assert!(matches!(
        LogisticProbe::fit(congruential(20, 4).view(), &labels, &fixed(0.0)),
        Err(ProbeError::Range { what: "C", .. })
    ));
}

#[test]
fn cross_validation_follows_the_size_of_the_data() {
    for (n, folds) in [(12, 36), (60, 6), (160, 1)] {
        let (x, labels) = two_classes(n, 200, 2.5, 2);
        let probe = LogisticProbe::fit(x.view(), &labels, &LogisticOptions::sae_probes()).unwrap();
        assert_eq!(probe.validation.len(), 10);
        assert!(probe.validation.iter().all(|v| v.folds == folds));
        let best = probe.validation.iter().map(|v| v.auroc).fold(0.0, f64::max);
        let chosen = probe.validation.iter().find(|v| v.c == probe.c).unwrap();
        assert!(chosen.auroc >= best - 1e-12);
        assert!(
            probe
                .validation
                .iter()
                .all(|v| v.auroc < best - 1e-12 || v.c >= probe.c),
            "ties go to the strongest penalty"
        );
    }
}

#[test]
fn out_of_fold_scores_are_held_out() {
    // Random labels on n < d: any probe separates what it was fitted on, none what it was not.
    let x = crate::gaussian(80, 200, 4);
    let labels: Vec<bool> = (0..80).map(|i| i % 2 == 0).collect();
    let design = Design::new(x.view(), true).unwrap();
    assert_eq!((design.n(), design.width()), (80, 200));
    let seen = LogisticProbe::fit_design(&design, &labels, &fixed(1.0))
        .unwrap()
        .scores(x.view())
        .unwrap();
    assert_eq!(auroc_value(&seen, &labels).unwrap(), 1.0);
    let folds = stratified_folds(&labels, 5, 1).unwrap();
    let fit = |x: ndarray::ArrayView2<f32>, l: &[bool]| LogisticProbe::fit(x, l, &fixed(1.0));
    let unseen = out_of_fold(x.view(), &labels, &folds, fit).unwrap();
    assert!((auroc_value(&unseen, &labels).unwrap() - 0.5).abs() < 0.2);
}

#[test]
fn folds_balance_classes_and_keep_groups() {
    let labels: Vec<bool> = (0..50).map(|i| i % 5 == 0).collect();
    let folds = stratified_folds(&labels, 5, 9).unwrap();
    for fold in 0..5 {
        let members: Vec<usize> = (0..50).filter(|&i| folds[i] == fold).collect();
        assert_eq!(
            (
                members.len(),
                members.iter().filter(|&&i| labels[i]).count()
            ),
            (10, 2)
        );
    }
    let groups: Vec<usize> = (0..50).map(|i| i / 3).collect();
    let folds = grouped_folds(&groups, &labels, 4, 9).unwrap();
    assert!((1..50).all(|i| groups[i] != groups[i - 1] || folds[i] == folds[i - 1]));
    assert!(matches!(
        stratified_folds(&labels, 11, 0),
        Err(ProbeError::TooFew { .. })
    ));
}

#[test]
fn whitened_mass_mean_matches_scikit_learn_covariance() {
    // sklearn.covariance.ledoit_wolf(within-class residuals, assume_centered=True); numpy solve of that matrix.
    let x = congruential(12, 20);
    let probe = MassMean::fit(x.view(), &noisy_labels(&x), Whitening::LedoitWolf).unwrap();
    assert!(
        close(probe.shrinkage.unwrap(), 0.7946064526895378, 1e-9),
        "{:?}",
        probe.shrinkage
    );
    for (found, expected) in
        probe
            .theta
            .iter()
            .zip([2.523342100034787, 1.1172554372268246, 2.3183154985141794])
    {
        assert!(close(*found, expected, 1e-6), "{found} {expected}");
    }
    let x = congruential(24, 3);
    let probe = MassMean::fit(x.view(), &noisy_labels(&x), Whitening::LedoitWolf).unwrap();
    assert_eq!(probe.shrinkage, Some(1.0));
    for (found, expected) in
        probe
            .theta
            .iter()
            .zip([2.738591072173109, 1.2991775982660352, -0.48577842984323377])
    {
        assert!(close(*found, expected, 1e-6), "{found} {expected}");
    }
    // Both roads of the whitening agree: n < d through Woodbury, n ≥ d directly, on the same rows doubled.
    let x = congruential(12, 20);
    let labels = noisy_labels(&x);
    let twice = ndarray::concatenate![ndarray::Axis(0), x, x];
    let a = MassMean::fit(x.view(), &labels, Whitening::Shrunk(0.3)).unwrap();
    let b = MassMean::fit(
        twice.view(),
        &[labels.clone(), labels].concat(),
        Whitening::Shrunk(0.3),
    )
    .unwrap();
    assert!(
        a.theta
            .iter()
            .zip(&b.theta)
            .all(|(p, q)| close(*p, *q, 1e-8))
    );
}

#[test]
fn plain_mass_mean_is_the_difference_and_centres_between_the_classes() {
    let x = ndarray::array![[1.0_f32, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]];
    let labels = [true, true, false, false];
    let probe = MassMean::fit(x.view(), &labels, Whitening::None).unwrap();
    assert_eq!(probe.theta, vec![2.0, -3.0]);
    let scores = probe
        .scores(ndarray::array![[2.0_f32, 0.0], [0.0, 3.0]].view())
        .unwrap();
    assert_eq!(scores, vec![6.5, -6.5]);
}

#[test]
fn out_of_fold_scores_reach_the_auroc_theory_gives() {
    // θ = (2, 0, …) + noise of variance 2/30 in each of 30 axes on 60 training items: d' = 4/√(4 + 2), AUROC Φ(d'/√2) = 0.876.
    let mean = (0..12).map(|seed| {
        let (x, labels) = two_classes(80, 30, 2.0, seed);
        let folds = stratified_folds(&labels, 4, seed).unwrap();
        let scores = out_of_fold(x.view(), &labels, &folds, |x, l| {
            MassMean::fit(x, l, Whitening::None)
        })
        .unwrap();
        auroc_value(&scores, &labels).unwrap()
    });
    let mean = mean.sum::<f64>() / 12.0;
    assert!((mean - 0.87).abs() < 0.04, "{mean}");
}
