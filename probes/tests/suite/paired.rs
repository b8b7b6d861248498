//! Paired tests, agreement and detector error against scipy, statsmodels and hand counts.

use candlescope_probes::stats::agreement::{cohen_kappa, detector_agreement};
use candlescope_probes::stats::bootstrap::BootstrapOptions;
use candlescope_probes::stats::paired::{
    NullMethod, PairedTable, mcnemar, paired_bootstrap_test, sign_flip_test, sign_test,
};
use candlescope_probes::stats::prevalence::rogan_gladen;
use candlescope_probes::stats::ranks::{midranks, wilcoxon_signed_rank};
use candlescope_probes::{Interval, ProbeError};
use proptest::prelude::*;

use crate::close;

fn table(both: u64, only_before: u64, only_after: u64, neither: u64) -> PairedTable {
    PairedTable {
        both,
        only_before,
        only_after,
        neither,
    }
}

#[test]
fn mcnemar_matches_statsmodels() {
    // statsmodels mcnemar([[30, 12], [5, 40]], exact=True)
    let test = mcnemar(table(30, 12, 5, 40), 0.95).unwrap();
    assert!(close(test.p_value, 0.143463134765625, 1e-12));
    assert_eq!(test.n, 87);
    // scipy.stats.binomtest(0, 6)
    assert!(close(
        mcnemar(table(1, 6, 0, 1), 0.95).unwrap().p_value,
        0.03125,
        1e-12
    ));
    assert_eq!(mcnemar(table(5, 0, 0, 5), 0.95).unwrap().p_value, 1.0);
}

#[test]
fn paired_interval_matches_newcombe_by_formula() {
    // Newcombe 1998 (Stat. Med. 17:2635) method 10 evaluated in numpy on scipy's Wilson bounds; sign: before − after there.
    for (t, low, high) in [
        (
            table(30, 12, 5, 40),
            -0.013202563578610799,
            0.17120379525276275,
        ),
        (
            table(14, 5, 0, 22),
            0.01148324138303325,
            0.22649268435121125,
        ),
        (
            table(43, 0, 0, 0),
            -0.08200980322579121,
            0.08200980322579121,
        ),
        (
            table(212, 144, 256, 707),
            -0.1141915328050671,
            -0.05543347268433288,
        ),
        (table(14, 5, 0, 0), 0.04103978682124257, 0.48791550897815106),
    ] {
        let found = t.interval(0.95).unwrap();
        assert!(
            close(-found.high, low, 1e-10) && close(-found.low, high, 1e-10),
            "{t:?} {found:?}"
        );
    }
}

proptest! {
    #[test]
    fn mcnemar_is_symmetric(a in 0_u64..60, b in 0_u64..30, c in 0_u64..30, d in 0_u64..60) {
        prop_assume!(a + b + c + d > 0);
        let one = mcnemar(table(a, b, c, d), 0.9).unwrap();
        let two = mcnemar(table(a, c, b, d), 0.9).unwrap();
        prop_assert_eq!(one.p_value, two.p_value);
        prop_assert!((one.interval.low + two.interval.high).abs() < 1e-12);
        prop_assert!(one.interval.contains(one.difference));
        prop_assert!(one.p_value > 0.0 && one.p_value <= 1.0);
    }

    #[test]
    fn paired_tests_do_not_care_about_sign(d in prop::collection::vec(-5.0..5.0_f64, 3..40)) {
        let flipped: Vec<f64> = d.iter().map(|v| -v).collect();
        for test in [sign_test, wilcoxon_signed_rank] {
            prop_assert!((test(&d).unwrap().p_value - test(&flipped).unwrap().p_value).abs() < 1e-12);
        }
    }

    #[test]
    fn midranks_sum_to_the_triangle(v in prop::collection::vec(-3_i32..3, 1..40)) {
        let values: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
        let n = values.len() as f64;
        prop_assert!((midranks(&values).iter().sum::<f64>() - n * (n + 1.0) / 2.0).abs() < 1e-9);
    }
}

#[test]
fn the_table_counts_pairs() {
    let t = PairedTable::of(
        &[true, true, false, false, true],
        &[true, false, true, false, false],
    )
    .unwrap();
    assert_eq!(t, table(1, 2, 1, 1));
    assert!(close(t.difference(), -0.2, 1e-15));
    assert!(matches!(
        PairedTable::of(&[true], &[]),
        Err(ProbeError::Length { .. })
    ));
}

#[test]
fn wilcoxon_matches_scipy() {
    let x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    let y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
    let d: Vec<f64> = x.iter().zip(y).map(|(a, b)| a - b).collect();
    // scipy.stats.wilcoxon(x, y, method="exact"): statistic min(W+, W−) = 5, p = 0.0390625 (Hollander and Wolfe's depression data)
    let test = wilcoxon_signed_rank(&d).unwrap();
    assert_eq!(
        (test.statistic, test.p_value, test.method),
        (40.0, 0.0390625, NullMethod::Exact)
    );
    // With ties: all 2^10 sign patterns enumerated in Python, W+ = 43.
    let ties =
        wilcoxon_signed_rank(&[1.0, -2.0, 3.0, 4.0, -1.0, 2.0, 2.0, 5.0, -3.0, 6.0]).unwrap();
    assert_eq!((ties.statistic, ties.p_value), (43.0, 0.134765625));
    // numpy RandomState(0): round(randn(60) + .3, 1); scipy.stats.wilcoxon(…, method="approx", correction=True)
    let big = [
        2.1, 0.7, 1.3, 2.5, 2.2, -0.7, 1.3, 0.1, 0.2, 0.7, 0.4, 1.8, 1.1, 0.4, 0.7, 0.6, 1.8, 0.1,
        0.6, -0.6, -2.3, 1.0, 1.2, -0.4, 2.6, -1.2, 0.3, 0.1, 1.8, 1.8, 0.5, 0.7, -0.6, -1.7, -0.0,
        0.5, 1.5, 1.5, -0.1, -0.0, -0.7, -1.1, -1.4, 2.3, -0.2, -0.1, -1.0, 1.1, -1.3, 0.1, -0.6,
        0.7, -0.2, -0.9, 0.3, 0.7, 0.4, 0.6, -0.3, -0.1,
    ];
    let test = wilcoxon_signed_rank(&big).unwrap();
    assert_eq!(
        (test.n, test.used, test.method),
        (60, 58, NullMethod::Normal)
    );
    assert!(close(test.p_value, 0.010209024941587376, 1e-10), "{test:?}");
    assert_eq!(wilcoxon_signed_rank(&[0.0, 0.0]).unwrap().p_value, 1.0);
}

#[test]
fn sign_flips_agree_exactly_and_by_draws() {
    // Three equal differences: only +++ and −−− are as extreme, 2/8.
    assert_eq!(
        sign_flip_test(&[1.0, 1.0, 1.0], 0, 0).unwrap().p_value,
        0.25
    );
    // Both roads to the same p: 14 differences enumerated, and 15 with a 0 that changes nothing by draws.
    let d: Vec<f64> = (0..14)
        .map(|i| f64::from(i % 5) - 1.2 + f64::from(i) * 0.05)
        .collect();
    let mut padded = d.clone();
    padded.push(0.0);
    let (exact, drawn) = (
        sign_flip_test(&d, 0, 0).unwrap(),
        sign_flip_test(&padded, 20_000, 5).unwrap(),
    );
    assert_eq!(
        (exact.method, drawn.method),
        (NullMethod::Exact, NullMethod::MonteCarlo)
    );
    assert!(
        (exact.p_value - drawn.p_value).abs() < 0.012,
        "{} {}",
        exact.p_value,
        drawn.p_value
    );
    let boot = paired_bootstrap_test(&d, 5_000, 5).unwrap();
    assert!(
        (exact.p_value - boot.p_value).abs() < 0.05,
        "{} {}",
        exact.p_value,
        boot.p_value
    );
    assert!(matches!(
        paired_bootstrap_test(&[2.0; 5], 500, 0),
        Err(ProbeError::Numerical { .. })
    ));
}

#[test]
fn kappa_matches_statsmodels() {
    // statsmodels cohens_kappa([[20, 5], [10, 15]]): kappa 0.4, ASE 0.1270, interval 0.1511 to 0.6489.
    let mut first = vec![0; 25];
    first.extend([1; 25]);
    let mut second = vec![0; 20];
    second.extend([1; 5]);
    second.extend([0; 10]);
    second.extend([1; 15]);
    let found = cohen_kappa(&first, &second, 0.95).unwrap();
    assert!(close(found.kappa.unwrap(), 0.4, 1e-12) && found.n == 50);
    let Interval { low, high, .. } = found.interval.unwrap();
    assert!((low - 0.1511).abs() < 1e-4 && (high - 0.6489).abs() < 1e-4);
    assert_eq!(cohen_kappa(&[3, 3], &[3, 3], 0.95).unwrap().kappa, None);
}

#[test]
fn unknown_votes_keep_their_own_count() {
    let votes = vec![
        vec![Some(true), Some(true), Some(false), None, Some(true)],
        vec![Some(true), Some(false), Some(false), None, None],
        vec![Some(true), None, Some(false), Some(true), Some(false)],
    ];
    let found = detector_agreement(&votes, 0.95).unwrap();
    assert_eq!(
        (found.n, found.comparable, found.unknown.clone()),
        (5, 4, vec![1, 2, 1])
    );
    assert_eq!(found.raw, Some(0.5));
    assert_eq!(found.unanimous.unwrap().successes, 2);
    // By hand: pairable votes 5 yes, 5 no; disagreement within = 1·1/1 + 1·1/1 = 2; α = 1 − 2·9/25.
    assert!(close(found.alpha.unwrap(), 1.0 - 18.0 / 25.0, 1e-12));
}

#[test]
fn prevalence_carries_the_detector_errors() {
    let options = BootstrapOptions::default();
    // (0.3 + 0.95 − 1)/(0.9 + 0.95 − 1) = 0.294117…, by hand.
    let sure = rogan_gladen((300, 1_000), (90_000, 100_000), (95_000, 100_000), &options).unwrap();
    assert!(close(sure.rate, 0.25 / 0.85, 1e-12) && sure.n == 1_000);
    let vague = rogan_gladen((300, 1_000), (18, 20), (19, 20), &options).unwrap();
    assert!(vague.interval.width() > 1.5 * sure.interval.width());
    assert!(sure.interval.contains(sure.rate));
    // Wald: sd √(.3·.7/1000)/.85 = 0.01705, so about ±0.0334.
    assert!(
        (sure.interval.width() - 0.0668).abs() < 0.006,
        "{}",
        sure.interval.width()
    );
    assert!(matches!(
        rogan_gladen((3, 10), (5, 10), (5, 10), &options),
        Err(ProbeError::Range { .. })
    ));
}
