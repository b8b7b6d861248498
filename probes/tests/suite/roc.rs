//! AUROC, DeLong and recall at a false-positive rate.

use candlescope_probes::ProbeError;
use candlescope_probes::roc::{
    AurocInterval, auroc, auroc_value, delong_paired, delong_unpaired, recall_at_fpr,
};
use candlescope_probes::stats::bootstrap::{BootstrapOptions, Resampling, bootstrap};
use proptest::prelude::*;

use crate::close;

const A: [f64; 12] = [
    0.1, 0.4, 0.35, 0.8, 0.9, 0.4, 0.2, 0.7, 0.65, 0.3, 0.5, 0.05,
];
const B: [f64; 12] = [
    0.3, 0.2, 0.5, 0.6, 0.95, 0.45, 0.1, 0.4, 0.7, 0.35, 0.3, 0.2,
];
const L: [bool; 12] = [
    false, false, true, true, true, false, false, true, false, true, true, false,
];

#[test]
fn delong_matches_the_direct_double_sum() {
    // numpy: kernel matrix of all pairs, covariance of its row and column means; sklearn's roc_auc_score agrees on the areas.
    let (a, b) = (auroc(&A, &L, 0.95).unwrap(), auroc(&B, &L, 0.95).unwrap());
    assert!(close(a.value, 0.8055555555555556, 1e-13) && close(b.value, 0.7638888888888888, 1e-13));
    assert!(
        close(a.variance, 0.01820987654320988, 1e-12)
            && close(b.variance, 0.024459876543209882, 1e-12)
    );
    assert!(
        close(a.interval.low, 0.4336066002615305, 1e-9)
            && close(a.interval.high, 0.9573001911978323, 1e-9)
    );
    let test = delong_paired(&A, &B, &L, 0.95).unwrap();
    assert!(
        close(test.difference, -0.04166666666666674, 1e-12)
            && close(test.standard_error, 0.13861083277638503, 1e-10)
    );
    assert!(close(test.p_value, 0.7637181541181106, 1e-9));
    let apart = delong_unpaired(&a, &b, 0.95).unwrap();
    assert!(
        close(
            apart.standard_error,
            (a.variance + b.variance).sqrt(),
            1e-12
        ) && apart.n == 24
    );
}

#[test]
fn perfect_separation_keeps_an_honest_interval() {
    let labels: Vec<bool> = (0..40).map(|i| i >= 20).collect();
    let scores: Vec<f64> = (0..40).map(f64::from).collect();
    let found = auroc(&scores, &labels, 0.95).unwrap();
    assert_eq!(
        (found.value, found.variance, found.interval.high),
        (1.0, 0.0, 1.0)
    );
    assert_eq!(found.interval_method, AurocInterval::NewcombeScore);
    assert!(
        (0.85..0.97).contains(&found.interval.low),
        "{:?}",
        found.interval
    );
    let same = delong_paired(&scores, &scores, &labels, 0.95).unwrap();
    assert!(!same.determined && same.p_value == 1.0);
    assert!(matches!(
        auroc(&scores, &[true; 40], 0.95),
        Err(ProbeError::OneClass {
            positives: 40,
            negatives: 0
        })
    ));
    assert!(matches!(
        auroc(&[f64::NAN, 1.0], &[true, false], 0.95),
        Err(ProbeError::NonFinite { column: 0, .. })
    ));
}

proptest! {
    #[test]
    fn area_is_invariant_and_mirrors(items in prop::collection::vec((-20_i32..20, any::<bool>()), 4..60)) {
        let labels: Vec<bool> = items.iter().map(|i| i.1).collect();
        prop_assume!(labels.iter().any(|&l| l) && labels.iter().any(|&l| !l));
        let scores: Vec<f64> = items.iter().map(|i| f64::from(i.0)).collect();
        let area = auroc_value(&scores, &labels).unwrap();
        let bent: Vec<f64> = scores.iter().map(|s| (s / 7.0).exp() * 3.0 - 5.0).collect();
        prop_assert!((auroc_value(&bent, &labels).unwrap() - area).abs() < 1e-12);
        let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
        prop_assert!((auroc_value(&turned, &labels).unwrap() + area - 1.0).abs() < 1e-12);
        let mut wins = 0.0;
        let mut pairs = 0.0;
        for i in (0..labels.len()).filter(|&i| labels[i]) {
            for j in (0..labels.len()).filter(|&j| !labels[j]) {
                pairs += 1.0;
                wins += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
            }
        }
        prop_assert!((area - wins / pairs).abs() < 1e-12);
        let whole = auroc(&scores, &labels, 0.95).unwrap();
        prop_assert!(whole.interval.contains(area) && whole.interval.low >= 0.0 && whole.interval.high <= 1.0);
    }
}

#[test]
fn delong_agrees_with_the_bootstrap() {
    let (x, labels) = crate::two_classes(160, 2, 1.2, 3);
    let scores: Vec<f64> = x.column(0).iter().map(|&v| f64::from(v)).collect();
    let delong = auroc(&scores, &labels, 0.95).unwrap().variance.sqrt();
    let strata: Vec<usize> = labels.iter().map(|&l| usize::from(l)).collect();
    let boot = bootstrap(
        160,
        Resampling::Strata(&strata),
        &BootstrapOptions::default(),
        |items| {
            let s: Vec<f64> = items.iter().map(|&i| scores[i]).collect();
            let l: Vec<bool> = items.iter().map(|&i| labels[i]).collect();
            auroc_value(&s, &l).unwrap_or(f64::NAN)
        },
    );
    let boot = boot.unwrap().standard_error.unwrap();
    assert!((delong / boot - 1.0).abs() < 0.1, "{delong} {boot}");
}

#[test]
fn recall_respects_the_false_positive_budget() {
    // 100 negatives 0..99, 10 positives at 90.5, 91.5, …, 99.5. At 5 % the threshold is 94: positives above are 94.5 … 99.5.
    let mut scores: Vec<f64> = (0..100).map(f64::from).collect();
    scores.extend((0..10).map(|i| 90.5 + f64::from(i)));
    let labels: Vec<bool> = (0..110).map(|i| i >= 100).collect();
    let found = recall_at_fpr(&scores, &labels, 0.05, 0.95).unwrap();
    assert_eq!(
        (
            found.threshold,
            found.false_positives.successes,
            found.recall.successes
        ),
        (94.0, 5, 6)
    );
    assert!(found.resolved);
    let strict = recall_at_fpr(&scores, &labels, 0.001, 0.95).unwrap();
    assert_eq!(
        (strict.threshold, strict.recall.successes, strict.resolved),
        (99.0, 1, false)
    );
}
