//! Calibration on banks made by hand.
#![allow(clippy::unwrap_used)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::features::Feature;
use super::*;

fn record(name: &str, fault: Option<&str>, strength: f64, fits: bool, xs: &[f64]) -> Record {
    let features = xs
        .iter()
        .enumerate()
        .map(|(i, &value)| {
            let feature = Feature {
                value,
                error: Some(0.01),
                two_sided: i == 2,
            };
            (format!("signal{i}.q"), feature)
        })
        .collect();
    Record {
        name: name.to_owned(),
        fault: fault.map(str::to_owned),
        kind: fault.unwrap_or("clean").to_owned(),
        strength,
        fits,
        features,
    }
}

fn basis() -> Basis {
    Basis {
        baseline: "w".to_owned(),
        seed: 0,
        decoding: "greedy".to_owned(),
        suites: Vec::new(),
    }
}

/// Clean checkpoints are noise of .1 in three quantities; fault a raises the first, fault b moves the third either way.
fn bank(seed: u64, clean: usize) -> Vec<Record> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = || -> f64 { (0..12).map(|_| rng.random::<f64>() - 0.5).sum::<f64>() * 0.1 };
    let mut all = Vec::new();
    for fits in [true, false] {
        for i in 0..clean {
            let xs = [noise(), noise(), noise()];
            all.push(record(&format!("clean{i}"), None, 1.0, fits, &xs));
        }
        for strength in [0.1, 1.0] {
            for i in 0..4 {
                let xs = [2.0 * strength + noise(), noise(), noise()];
                all.push(record(&format!("a{i}"), Some("a"), strength, fits, &xs));
                let side = if i % 2 == 0 { 2.0 } else { -2.0 };
                let xs = [noise(), noise(), side * strength + noise()];
                all.push(record(&format!("b{i}"), Some("b"), strength, fits, &xs));
            }
        }
    }
    all
}

#[test]
fn faults_are_found_and_named_and_clean_ones_pass() {
    let bank = bank(1, 20);
    let calibration = fit(&bank, "a bank", basis()).unwrap();
    // The largest of 60 draws of a normal is 2.4 deviations, give or take .4, and counts ln 2.4; two more may add to it.
    assert!(
        (0.6..1.8).contains(&calibration.threshold),
        "{}",
        calibration.threshold
    );
    let usual = calibration.quantities["signal0.q"];
    // The noise, the sampling error, and the error of the mean of 20.
    assert!((usual.scale - 0.103).abs() < 0.035, "{}", usual.scale);
    let report = report::report(&calibration, &bank).unwrap();
    assert_eq!((report.full.k, report.full.n), (8, 8));
    assert_eq!((report.named.k, report.named.n), (8, 8));
    assert!(report.false_alarms.k <= 2, "{:?}", report.false_alarms);
    assert_eq!(report.confusion["a"].get("b"), None);
    assert_eq!(report.power["a"][&100].k, 4);
    assert!(
        report.power["a"][&10].k < 4,
        "a tenth of the dose is within the noise"
    );
    let [faults, clean] = report.signals["signal1"];
    assert_eq!((faults.n, clean.n), (8, 20));
    assert!(faults.k <= 1, "what a fault does not move says nothing");
}

#[test]
fn a_new_clean_checkpoint_alarms_as_seldom_as_promised() {
    let (mut alarms, mut all) = (0, 0);
    for seed in 0..60 {
        let bank = bank(100 + seed, 19);
        let calibration = fit(&bank, "a bank", basis()).unwrap();
        let rate = report::report(&calibration, &bank).unwrap().false_alarms;
        alarms += rate.k;
        all += rate.n;
    }
    // Conformal: 1 in 20 on average. The standard error over dependent halves is some .01.
    let share = alarms as f64 / all as f64;
    assert!((0.02..0.085).contains(&share), "{share}");
}

#[test]
fn one_sided_quantities_do_not_alarm_when_they_are_better() {
    let bank = bank(3, 12);
    let calibration = fit(&bank, "a bank", basis()).unwrap();
    let better = record("better", None, 1.0, false, &[-5.0, 0.0, 0.0]);
    assert!(!diagnosis::diagnose(&calibration, &better.features).alarm);
    let odd = record("odd", None, 1.0, false, &[0.0, 0.0, -5.0]);
    let said = diagnosis::diagnose(&calibration, &odd.features);
    assert!(said.alarm);
    assert_eq!(said.because[0].0, "signal2.q");
    assert_eq!(said.named(), Some("b"));
}

#[test]
fn a_bank_that_cannot_calibrate_says_why() {
    let few: Vec<Record> = bank(4, 3);
    assert!(matches!(
        fit(&few, "a bank", basis()),
        Err(CalibrateError::Clean { found: 3, .. })
    ));
    let mut clean = bank(5, 10);
    clean.retain(|record| record.fault.is_none());
    assert!(matches!(
        fit(&clean, "a bank", basis()),
        Err(CalibrateError::Faults)
    ));
    let mut empty = bank(6, 10);
    for record in &mut empty {
        record.features.clear();
    }
    assert!(matches!(
        fit(&empty, "a bank", basis()),
        Err(CalibrateError::Features)
    ));
}

#[test]
fn what_clean_ones_never_did_counts_by_the_error_of_as_many_samples() {
    // One hedge in 32 answers, where five clean ones had none: their error is nothing, that of the sample is not.
    let usual = fit::Usual {
        centre: 0.0,
        scale: 1e-3,
        two_sided: false,
    };
    let hedged = |error| Feature {
        value: 0.031,
        error,
        two_sided: false,
    };
    assert!((usual.deviations(hedged(None), 5) - 31.0).abs() < 1e-9);
    let few = usual.deviations(hedged(Some(0.031)), 5);
    assert!((few - 5.0_f64.sqrt()).abs() < 1e-9, "{few}");
    let many = usual.deviations(hedged(Some(0.031)), 20);
    assert!((many - 20.0_f64.sqrt()).abs() < 1e-9, "{many}");
    // Where clean ones differ by more, they are the measure.
    let wide = fit::Usual {
        scale: 0.1,
        ..usual
    };
    assert!((wide.deviations(hedged(Some(0.031)), 5) - 0.31).abs() < 1e-9);
}
