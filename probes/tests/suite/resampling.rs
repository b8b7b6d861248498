//! The bootstrap: scipy, coverage, degenerate data, threads.

use candlescope_probes::stats::bootstrap::{
    BootstrapMethod, BootstrapOptions, Resampling, bootstrap, bootstrap_mean,
    bootstrap_paired_difference,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WAITS: [f64; 12] = [3.1, 0.2, 7.7, 1.1, 0.4, 2.2, 0.9, 15.2, 0.7, 1.9, 4.4, 0.3];

#[test]
fn bca_matches_scipy() {
    // scipy.stats.bootstrap((x,), np.mean, method="BCa", n_resamples=200000): (1.5167, 6.9750)
    let options = BootstrapOptions {
        resamples: 40_000,
        ..BootstrapOptions::default()
    };
    let found = bootstrap_mean(&WAITS, Resampling::Items, &options).unwrap();
    assert_eq!((found.n, found.method.clone()), (12, BootstrapMethod::Bca));
    let interval = found.interval.unwrap();
    assert!(
        (interval.low - 1.5167).abs() < 0.05 && (interval.high - 6.975).abs() < 0.15,
        "{interval:?}"
    );
}

#[test]
fn degenerate_data_say_so() {
    let options = BootstrapOptions::default();
    for data in [vec![2.5], vec![1.0; 20]] {
        let found = bootstrap_mean(&data, Resampling::Items, &options).unwrap();
        assert!(matches!(found.method, BootstrapMethod::Degenerate(_)) && found.interval.is_none());
    }
    let undefined = bootstrap(4, Resampling::Items, &options, |items| {
        if items.contains(&0) { 1.0 } else { f64::NAN }
    });
    assert!(matches!(
        undefined.unwrap().method,
        BootstrapMethod::Degenerate(_)
    ));
    // The largest value: no resample is above it, so the bias correction of BCa is at its limit or past it.
    let top = bootstrap(12, Resampling::Items, &options, |items| {
        items.iter().map(|&i| WAITS[i]).fold(0.0, f64::max)
    });
    let top = top.unwrap();
    assert!(top.interval.unwrap().high <= 15.2);
    // Leaving out any one item changes nothing where the statistic has a floor: percentile, with the reason.
    let flat = bootstrap(6, Resampling::Items, &options, |items| {
        let mut distinct = items.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len().min(5) as f64
    });
    assert!(matches!(
        flat.unwrap().method,
        BootstrapMethod::Percentile(_)
    ));
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            bootstrap_mean(&WAITS, Resampling::Items, &BootstrapOptions::default()).unwrap()
        })
    };
    assert_eq!(run(1), run(3));
    let other = BootstrapOptions {
        seed: 1,
        ..BootstrapOptions::default()
    };
    assert_ne!(
        run(1).interval,
        bootstrap_mean(&WAITS, Resampling::Items, &other)
            .unwrap()
            .interval
    );
}

#[test]
fn clusters_widen_and_strata_narrow() {
    let groups: Vec<usize> = (0..60).map(|i| i / 6).collect();
    let values: Vec<f64> = (0..60)
        .map(|i| f64::from(i / 6) + 0.1 * f64::from(i % 6))
        .collect();
    let options = BootstrapOptions::default();
    let se = |r: Resampling| {
        bootstrap_mean(&values, r, &options)
            .unwrap()
            .standard_error
            .unwrap()
    };
    let (items, strata, clusters) = (
        se(Resampling::Items),
        se(Resampling::Strata(&groups)),
        se(Resampling::Clusters(&groups)),
    );
    // Group means 0..9 have sd 2.872 (with n): clusters give 2.872/√10, items about 2.877/√60.
    assert!((clusters - 0.908).abs() < 0.06, "{clusters}");
    assert!((items - 0.3716).abs() < 0.03, "{items}");
    assert!(strata < 0.05, "{strata}");
    assert_eq!(
        bootstrap_mean(&values, Resampling::Clusters(&groups), &options)
            .unwrap()
            .units,
        10
    );
}

#[test]
fn pairing_uses_the_differences() {
    let before: Vec<f64> = (0..30).map(|i| f64::from(i) * 10.0).collect();
    let after: Vec<f64> = before
        .iter()
        .enumerate()
        .map(|(i, b)| b + 1.0 + 0.1 * (i % 3) as f64)
        .collect();
    let found = bootstrap_paired_difference(
        &before,
        &after,
        Resampling::Items,
        &BootstrapOptions::default(),
    )
    .unwrap();
    assert!((found.estimate - 1.1).abs() < 1e-9 && found.interval.unwrap().width() < 0.1);
}

#[test]
fn bca_covers_the_mean_of_a_skewed_distribution() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let runs = 400;
    let options = BootstrapOptions {
        resamples: 400,
        level: 0.9,
        seed: 0,
    };
    let (mut covered, mut missed_low, mut missed_high) = (0, 0, 0);
    for run in 0..runs {
        let sample: Vec<f64> = (0..30).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
        let options = BootstrapOptions {
            seed: run,
            ..options
        };
        let interval = bootstrap_mean(&sample, Resampling::Items, &options)
            .unwrap()
            .interval
            .unwrap();
        covered += u32::from(interval.contains(1.0));
        missed_low += u32::from(interval.low > 1.0);
        missed_high += u32::from(interval.high < 1.0);
    }
    let coverage = f64::from(covered) / runs as f64;
    // BCa at n = 30 is a little short of 0.90; the standard error of this estimate is 0.015.
    assert!(
        (0.84..0.94).contains(&coverage),
        "{coverage} ({missed_low} above, {missed_high} below)"
    );
}
