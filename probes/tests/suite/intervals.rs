//! Intervals, special functions, multiplicity, power and equivalence against scipy and statsmodels.

use candlescope_probes::ProbeError;
use candlescope_probes::stats::equivalence::{
    rate_difference, tost_mean, tost_paired_rates, tost_rates,
};
use candlescope_probes::stats::interval::{clopper_pearson, wilson};
use candlescope_probes::stats::multiplicity::{benjamini_hochberg, holm};
use candlescope_probes::stats::paired::PairedTable;
use candlescope_probes::stats::power::{
    Power, detectable_flips, detectable_mean, detectable_rise, pairs_needed,
};
use candlescope_probes::stats::special::{
    fair_binomial_cdf, incomplete_beta, normal_cdf, normal_quantile, t_cdf, t_quantile,
};
use proptest::prelude::*;

use crate::close;

#[test]
fn special_functions_match_scipy() {
    for (p, z) in [
        (1e-10, -6.361340902404056),
        (0.025, -1.9599639845400545),
        (0.8, 0.8416212335729143),
        (0.975, 1.959963984540054),
        (0.999, 3.090232306167813),
    ] {
        assert!(
            close(normal_quantile(p), z, 1e-12),
            "{p}: {}",
            normal_quantile(p)
        );
    }
    assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
    for (z, p) in [
        (-8.0, 6.22096057427174e-16),
        (-3.0, 0.0013498980316300933),
        (-1.0, 0.15865525393145707),
        (0.5, 0.6914624612740131),
        (2.0, 0.9772498680518208),
    ] {
        assert!(
            (normal_cdf(z) / p - 1.0).abs() < 1e-12,
            "{z}: {}",
            normal_cdf(z)
        );
    }
    for (p, df, t) in [
        (0.975, 1.0, 12.706204736174694),
        (0.975, 9.0, 2.262157162798205),
        (0.95, 4.5, 2.065575888878524),
        (0.8, 30.0, 0.8537672614712979),
        (0.001, 3.0, -10.214531852407385),
    ] {
        assert!(
            close(t_quantile(p, df), t, 1e-10),
            "{p} {df}: {}",
            t_quantile(p, df)
        );
    }
    for (t, df, p) in [
        (1.3, 7.0, 0.8826160823038114),
        (-2.5, 20.0, 0.01061677271956619),
        (0.1, 1.0, 0.5317255174305535),
    ] {
        assert!(close(t_cdf(t, df), p, 1e-12));
    }
    for (a, b, x, value) in [
        (2.0, 3.0, 0.4, 0.5248),
        (0.5, 0.5, 0.1, 0.20483276469913345),
        (50.0, 3.0, 0.9, 0.09663328513725222),
        (1.0, 7.0, 0.02, 0.13187446675328002),
        (200.0, 300.0, 0.42, 0.8196010664172663),
    ] {
        assert!(close(incomplete_beta(a, b, x), value, 1e-12), "{a} {b} {x}");
    }
    // P(Bin(4, ½) ≤ 1) = 5/16.
    assert!(close(fair_binomial_cdf(1, 4), 0.3125, 1e-14));
}

#[test]
fn proportions_match_scipy() {
    // scipy.stats.binomtest(k, n).proportion_ci(method = "wilson" | "exact")
    for (k, n, w, c) in [
        (
            0,
            100,
            (0.0, 0.03699349820698568),
            (0.0, 0.03621669264519054),
        ),
        (
            1,
            159,
            (0.001111081403321116, 0.03476098006676309),
            (0.00015921882048812607, 0.034542140132738826),
        ),
        (
            3,
            100,
            (0.010254524024038925, 0.08451936429052762),
            (0.006229971538306227, 0.08517605297428028),
        ),
        (
            50,
            60,
            (0.7196838683638547, 0.9068682302080855),
            (0.71478074517137, 0.9170711898409363),
        ),
        (
            100,
            100,
            (0.9630065017930143, 1.0),
            (0.9637833073548094, 1.0),
        ),
    ] {
        let (wilson, exact) = (
            wilson(k, n, 0.95).unwrap(),
            clopper_pearson(k, n, 0.95).unwrap(),
        );
        assert!(
            close(wilson.low, w.0, 1e-12) && close(wilson.high, w.1, 1e-12),
            "{k}/{n} {wilson:?}"
        );
        assert!(
            close(exact.low, c.0, 1e-11) && close(exact.high, c.1, 1e-11),
            "{k}/{n} {exact:?}"
        );
    }
    assert!(matches!(wilson(3, 0, 0.95), Err(ProbeError::TooFew { .. })));
    assert!(matches!(wilson(3, 2, 0.95), Err(ProbeError::Range { .. })));
    assert!(matches!(wilson(1, 2, 1.0), Err(ProbeError::Range { .. })));
}

/// Coverage is a finite sum over k, so it is computed and not simulated.
fn coverage(n: u64, p: f64, interval: impl Fn(u64) -> (f64, f64)) -> f64 {
    let mut probability = (1.0 - p).powi(n as i32);
    let mut covered = 0.0;
    for k in 0..=n {
        let (low, high) = interval(k);
        if low <= p && p <= high {
            covered += probability;
        }
        probability *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
    }
    covered
}

#[test]
fn clopper_pearson_never_covers_less_than_it_says() {
    for n in [7, 30] {
        let exact: Vec<_> = (0..=n)
            .map(|k| clopper_pearson(k, n, 0.95).unwrap())
            .collect();
        let score: Vec<_> = (0..=n).map(|k| wilson(k, n, 0.95).unwrap()).collect();
        let mut mean = 0.0;
        for step in 1..40 {
            let p = f64::from(step) / 40.0 + 0.003;
            if p >= 1.0 {
                continue;
            }
            assert!(coverage(n, p, |k| (exact[k as usize].low, exact[k as usize].high)) >= 0.95);
            mean += coverage(n, p, |k| (score[k as usize].low, score[k as usize].high)) / 39.0;
        }
        assert!(
            (mean - 0.95).abs() < 0.02,
            "Wilson covers {mean} on average"
        );
    }
}

proptest! {
    #[test]
    fn intervals_hold_the_rate_and_mirror(n in 1_u64..400, share in 0.0..=1.0_f64, level in 0.5..0.995_f64) {
        let k = (share * n as f64).round() as u64;
        for interval in [wilson, clopper_pearson] {
            let here = interval(k, n, level).unwrap();
            prop_assert!(here.contains(k as f64 / n as f64));
            prop_assert!(0.0 <= here.low && here.high <= 1.0);
            let mirrored = interval(n - k, n, level).unwrap();
            prop_assert!((here.low + mirrored.high - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn adjusted_p_values_are_ordered(p in prop::collection::vec(0.0..=1.0_f64, 1..20)) {
        let (h, bh) = (holm(&p).unwrap(), benjamini_hochberg(&p).unwrap());
        for i in 0..p.len() {
            prop_assert!(h[i] >= bh[i] - 1e-15 && bh[i] >= p[i] - 1e-15 && h[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || h[i] <= h[j]);
            }
        }
    }

    #[test]
    fn flips_needed_and_detectable_are_inverse(flips in 0.02..1.0_f64, share in 0.1..1.0_f64) {
        let delta = flips * share;
        let n = pairs_needed(flips, delta, Power::default()).unwrap();
        // At a whole number of pairs the inverse can only be a little off.
        prop_assume!((10.0..1e6).contains(&n));
        let found = detectable_flips(n.ceil() as usize, flips, Power::default()).unwrap().difference.unwrap();
        prop_assert!(found <= delta + 1e-9 && found > delta * 0.93, "{} {}", found, delta);
    }
}

#[test]
fn multiplicity_matches_statsmodels() {
    let p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.04];
    for (found, expected) in holm(&p)
        .unwrap()
        .iter()
        .zip([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])
    {
        assert!(close(*found, expected, 1e-12));
    }
    for (found, expected) in benjamini_hochberg(&p)
        .unwrap()
        .iter()
        .zip([0.03, 0.048, 0.048, 0.03, 0.2, 0.048])
    {
        assert!(close(*found, expected, 1e-12));
    }
    assert!(matches!(
        holm(&[0.1, f64::NAN]),
        Err(ProbeError::Range { .. })
    ));
}

#[test]
fn sample_sizes_match_the_formula_by_hand() {
    // (1.96·√.15 + .8416·√.14)²/.01 = 115.2 and (1.96·√.15 + .8416·√.1475)²/.0025 = 468.3, by hand.
    assert!((pairs_needed(0.15, 0.10, Power::default()).unwrap() - 115.2).abs() < 0.3);
    assert!((pairs_needed(0.15, 0.05, Power::default()).unwrap() - 468.3).abs() < 0.7);
    assert_eq!(
        detectable_flips(5, 0.15, Power::default())
            .unwrap()
            .difference,
        None
    );
    // One rate of ½ and n = 100: near 2.8·√(.25/100) = 0.14.
    let rise = detectable_rise(100, 0.5, Power::default())
        .unwrap()
        .difference
        .unwrap();
    assert!((0.13..0.14).contains(&rise), "{rise}");
    // (1.98422 + 0.84532)/√100 with 99 degrees of freedom (t tables).
    let mean = detectable_mean(100, 1.0, Power::default())
        .unwrap()
        .difference
        .unwrap();
    assert!((mean - 0.28295).abs() < 2e-4, "{mean}");
}

#[test]
fn equivalence_matches_statsmodels_and_its_own_interval() {
    let x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    let y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
    let d: Vec<f64> = x.iter().zip(y).map(|(a, b)| a - b).collect();
    // statsmodels.stats.weightstats.ttost_paired(x, y, -1, 1)
    let tost = tost_mean(&d, 1.0, 0.05).unwrap();
    assert!(close(tost.p_value, 0.0019949390892794335, 1e-10));
    assert!(tost.equivalent && tost.interval.high < 1.0 && tost.n == 9);
    assert!(!tost_mean(&d, 0.5, 0.05).unwrap().equivalent);
    // statsmodels confint_proportions_2indep(56, 70, 48, 80, method="newcomb")
    let both = rate_difference((56, 70), (48, 80), 0.95).unwrap();
    assert!(
        close(both.low, 0.05243147240236498, 1e-10) && close(both.high, 0.33387265403690614, 1e-10)
    );
    for margin in [0.02, 0.05, 0.1, 0.2] {
        let table = PairedTable {
            both: 150,
            only_before: 6,
            only_after: 4,
            neither: 40,
        };
        for test in [
            tost_paired_rates(table, margin, 0.05).unwrap(),
            tost_rates((154, 200), (156, 200), margin, 0.05).unwrap(),
        ] {
            let inside = test.interval.low > -margin && test.interval.high < margin;
            assert_eq!(test.equivalent, inside);
            assert_eq!(test.equivalent, test.p_value < 0.05, "{test:?}");
        }
    }
}
