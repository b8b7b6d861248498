//! Planted worlds, and dictionaries whose score is known beforehand.
#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, Axis, array, concatenate, s};
use proptest::prelude::*;

use super::random::normal_cdf;
use super::*;
use crate::{About, Activation, Dictionary, Parts, Scaling, dense};

fn planted(change: impl FnOnce(&mut PlantedSpec)) -> Planted {
    let mut spec = PlantedSpec {
        d: 16,
        features: 24,
        seed: 7,
        ..PlantedSpec::default()
    };
    change(&mut spec);
    Planted::new(spec).unwrap()
}

/// Reads and writes these directions `[latents, d]`.
fn tied(directions: Array2<f32>, threshold: f32) -> Dictionary {
    let (latents, d) = directions.dim();
    Dictionary::new(Parts {
        encoder: directions.clone(),
        decoder: directions,
        encoder_bias: Array1::zeros(latents),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::JumpRelu {
            threshold: Array1::from_elem(latents, threshold),
        },
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
    .unwrap()
}

fn options() -> ScoreOptions {
    ScoreOptions {
        batches: 3,
        rows: 400,
        ..ScoreOptions::default()
    }
}

/// Rates over many rows.
fn observed(planted: &Planted, rows: usize) -> Vec<f64> {
    let (_, truth) = planted.batch(0, rows);
    let mut fired = vec![0.0; planted.rates().len()];
    truth.latents.iter().for_each(|&f| fired[f as usize] += 1.0);
    fired.into_iter().map(|n| n / rows as f64).collect()
}

#[test]
fn the_truth_makes_the_rows() {
    let planted = planted(|spec| spec.bias = 2.0);
    let (rows, truth) = planted.batch(3, 100);
    let made = dense(&truth, 24).dot(planted.directions()) + planted.bias();
    assert!((&rows - &made).iter().all(|e| e.abs() < 1e-5));
    let norm = planted.bias().dot(planted.bias()).sqrt();
    assert!((norm - 2.0).abs() < 1e-5);
    for row in planted.directions().outer_iter() {
        assert!((row.dot(&row) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_row_hangs_on_its_address_alone() {
    let make = || planted(|spec| spec.noise = 0.1);
    let (long, truth) = make().batch(9, 50);
    let (short, _) = make().batch(9, 20);
    assert_eq!(long.slice(s![..20, ..]), short);
    assert_eq!(truth, make().batch(9, 50).1);
    assert_ne!(make().batch(10, 20).0, short);
    let other = planted(|spec| (spec.noise, spec.seed) = (0.1, 8));
    assert_ne!(other.batch(9, 20).0, short);
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(one.install(|| make().batch(9, 50).0), long);
}

/// Zipf rates as SAELens 6.54.12 gives them: `zipfian_firing_probabilities(4, 1.0, 0.3, 0.01)`.
#[test]
fn rates_of_the_power_law() {
    let planted = planted(|spec| spec.features = 4);
    let expected = [0.3, 0.106_666_67, 0.042_222_22, 0.01];
    for (found, expected) in planted.rates().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7);
    }
}

#[test]
fn features_are_pushed_apart() {
    let squares = |planted: &Planted| {
        let gram = planted.directions().dot(&planted.directions().t());
        gram.iter().map(|c| c * c).sum::<f32>()
    };
    // The smallest sum of squares of 24 unit vectors in 16 dimensions is 24² / 16.
    assert!((squares(&planted(|_| {})) - 36.0).abs() < 0.01);
    assert!(squares(&planted(|spec| spec.spread = 0)) > 45.0);
    let few = planted(|spec| spec.features = 10);
    assert!((squares(&few) - 10.0).abs() < 1e-3);
}

#[test]
fn children_keep_their_rates_and_never_fire_alone() {
    let trees = Trees {
        roots: 2,
        children: 3,
        depth: 2,
        exclusive: false,
    };
    assert_eq!(trees.features(), Some(26));
    let tree = |exclusive| {
        planted(|spec| {
            spec.features = 30;
            spec.trees = Some(Trees { exclusive, ..trees });
        })
    };
    let free = tree(false);
    assert_eq!(
        free.parents()[..9],
        [
            None,
            None,
            Some(0),
            Some(0),
            Some(0),
            Some(1),
            Some(1),
            Some(1),
            Some(2)
        ]
    );
    assert_eq!(free.parents()[26], None);
    for (found, rate) in observed(&free, 20_000).iter().zip(free.rates()) {
        // Five standard errors.
        assert!(
            (found - rate).abs() < 5.0 * (rate / 20_000.0).sqrt(),
            "{found} {rate}"
        );
    }
    for planted in [free, tree(true)] {
        let (_, truth) = planted.batch(1, 2000);
        let mut siblings = 0;
        for row in 0..2000 {
            let (fired, _) = truth.row(row);
            for &feature in fired {
                let Some(parent) = planted.parents()[feature as usize] else {
                    continue;
                };
                assert!(truth.value(row, parent as u32) > 0.0);
                let same = |&&f: &&u32| planted.parents()[f as usize] == Some(parent);
                siblings += fired.iter().filter(same).count() - 1;
            }
        }
        let exclusive = planted.spec().trees.unwrap().exclusive;
        assert_eq!(siblings == 0, exclusive);
    }
}

#[test]
fn correlation_keeps_the_rates_and_ties_the_features() {
    let planted = planted(|spec| {
        spec.features = 12;
        spec.rates = PowerLaw {
            highest: 0.2,
            lowest: 0.2,
            exponent: 1.0,
        };
        spec.correlation = Some(Correlation {
            rank: 1,
            common: 0.8,
        });
    });
    let n = 20_000;
    for rate in observed(&planted, n) {
        assert!((rate - 0.2).abs() < 0.02, "{rate}");
    }
    // One common number with loadings of one size: features of one sign are tied, of opposite signs they shun each other.
    let (_, truth) = planted.batch(0, n);
    let together = |a: u32, b: u32| {
        let rows = (0..n).filter(|&r| truth.value(r, a) > 0.0 && truth.value(r, b) > 0.0);
        rows.count() as f64 / n as f64
    };
    for b in 1..12 {
        let rate = together(0, b);
        assert!(!(0.02..=0.09).contains(&rate), "{rate}");
    }
}

/// From scipy.stats.norm.cdf 1.17.
#[test]
fn normal_shares() {
    for (z, expected) in [
        (0.0, 0.5),
        (1.0, 0.841_344_746_068_542_9),
        (-2.5, 0.006_209_665_325_776_132),
        (4.0, 0.999_968_328_758_166_9),
        (-6.0, 9.865_876_450_376_946e-10),
    ] {
        assert!((normal_cdf(z) / expected - 1.0_f64).abs() < 1e-12, "{z}");
    }
}

#[test]
fn the_true_dictionary_scores_one() {
    // As many features as dimensions, so that they are orthogonal and each latent reads its own alone.
    let planted = planted(|spec| (spec.d, spec.features) = (24, 24));
    let score = score(
        &planted,
        &tied(planted.directions().clone(), 0.05),
        &options(),
    )
    .unwrap();
    let recovery = &score.recovery;
    assert!(recovery.matched > 0.9999 && recovery.best_of_latents > 0.9999);
    assert_eq!(
        (recovery.found, recovery.uniqueness, recovery.duplicates),
        (1.0, 1.0, 0.0)
    );
    assert!(
        recovery
            .pairs
            .iter()
            .all(|pair| pair.feature == pair.latent)
    );
    assert_eq!(
        (score.by_feature, score.by_latent),
        (Some([1.0; 3]), Some([1.0; 3]))
    );
    assert!(score.quality.fvu.pooled.unwrap() < 1e-8);
    assert!((score.quality.l0.unwrap() - score.true_l0).abs() < 1e-12);
    assert_eq!(score.absorption, None);
    let text = serde_json::to_string(&score).unwrap();
    assert_eq!(serde_json::from_str::<Score>(&text).unwrap(), score);
}

#[test]
fn half_of_the_features_twice() {
    let planted = planted(|spec| (spec.d, spec.features) = (24, 24));
    let half = planted.directions().slice(s![..12, ..]);
    let twice = concatenate![Axis(0), half, half];
    let score = score(&planted, &tied(twice, 0.05), &options()).unwrap();
    let recovery = score.recovery;
    assert_eq!(
        (recovery.found, recovery.uniqueness, recovery.duplicates),
        (0.5, 0.5, 0.5)
    );
    assert!((recovery.best_of_latents - 1.0).abs() < 1e-5);
    assert!((recovery.best_of_features - 0.5).abs() < 1e-3);
    assert!((recovery.matched - 0.5).abs() < 1e-3);
}

/// A parent and its child; the parent's latent keeps still where the child's fires, which writes both.
#[test]
fn absorption_is_seen() {
    let planted = planted(|spec| {
        (spec.d, spec.features) = (2, 2);
        spec.rates = PowerLaw {
            highest: 0.5,
            lowest: 0.2,
            exponent: 1.0,
        };
        spec.strength_deviation = 0.0;
        spec.trees = Some(Trees {
            roots: 1,
            children: 1,
            depth: 1,
            exclusive: false,
        });
    });
    let [parent, child] = [0, 1].map(|f| planted.directions().row(f).to_owned());
    let honest = tied(planted.directions().clone(), 0.5);
    let mut parts = honest.clone().into_parts();
    parts.encoder.row_mut(0).assign(&(&parent - &child));
    parts.decoder.row_mut(1).assign(&(&parent + &child));
    let absorbing = Dictionary::new(parts).unwrap();
    let seen = |dictionary: &Dictionary| score(&planted, dictionary, &options()).unwrap();
    let (honest, absorbing) = (seen(&honest), seen(&absorbing));
    assert_eq!(honest.absorption.unwrap().rate(), Some(0.0));
    let found = absorbing.absorption.unwrap();
    assert_eq!((found.rate(), found.silent_alone), (Some(1.0), 0));
    // Both rebuild the rows, with fewer latents in the one that absorbs: why dictionaries do it.
    assert!(absorbing.quality.fvu.pooled.unwrap() < 1e-8);
    assert!(absorbing.quality.l0.unwrap() < honest.quality.l0.unwrap());
}

#[test]
fn refusals_name_what_is_wrong() {
    let refused = |change: fn(&mut PlantedSpec)| {
        let mut spec = PlantedSpec::default();
        change(&mut spec);
        Planted::new(spec).unwrap_err().to_string()
    };
    assert!(refused(|s| s.d = 0).starts_with("d: 0"));
    assert!(refused(|s| s.rates.highest = 1.0).contains("firing rates"));
    assert!(refused(|s| s.noise = f64::NAN).contains("noise"));
    let trees = refused(|s| {
        s.trees = Some(Trees {
            roots: 4,
            children: 1 << 40,
            depth: 9,
            exclusive: false,
        });
    });
    assert!(trees.contains("the 128 features"), "{trees}");
    let planted = planted(|_| {});
    let narrow = tied(Array2::ones((3, 5)), 0.0);
    assert!(score(&planted, &narrow, &options()).is_err());
    let silent = tied(Array2::ones((3, 16)), 1e6);
    let silent = score(&planted, &silent, &options())
        .unwrap_err()
        .to_string();
    assert!(silent.contains("latents that fired"), "{silent}");
}

#[test]
fn the_best_pairing_is_not_the_greedy_one() {
    let cosines = array![[0.9_f32, 0.8, 0.0], [0.8, 0.1, 0.0]];
    let (how, pairs) = matching::pairs(cosines.view());
    let columns: Vec<usize> = pairs.iter().map(|p| p.latent).collect();
    assert_eq!((how, columns), (Matching::Hungarian, vec![1, 0]));
    let (_, turned) = matching::pairs(cosines.t());
    let turned: Vec<_> = turned.iter().map(|p| (p.latent, p.feature)).collect();
    assert_eq!(turned, [(1, 0), (0, 1)]);
    assert_eq!(matching::greedy(cosines.view()), [(0, 0), (1, 1)]);
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1).into_iter();
    let insert = |p: Vec<usize>| {
        (0..n).map(move |at| {
            let mut longer = p.clone();
            longer.insert(at, n - 1);
            longer
        })
    };
    shorter.flat_map(insert).collect()
}

proptest! {
    #[test]
    fn no_pairing_is_better(values in prop::collection::vec(-1.0_f32..1.0, 30)) {
        let cosines = Array2::from_shape_vec((5, 6), values).unwrap();
        let sum = |pairs: &[Matched]| pairs.iter().map(|p| f64::from(p.cosine)).sum::<f64>();
        let (_, found) = matching::pairs(cosines.view());
        let of = |p: &Vec<usize>| (0..5).map(|r| f64::from(cosines[(r, p[r])])).sum::<f64>();
        let best = permutations(6).iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        prop_assert!((sum(&found) - best).abs() < 1e-6);
        let greedy = matching::greedy(cosines.view());
        let greedy: f64 = greedy.iter().map(|&at| f64::from(cosines[at])).sum();
        prop_assert!(greedy <= best + 1e-6);
    }
}
