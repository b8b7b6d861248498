//! What must hold of steps whatever the numbers: the same bits after a break, gradients that are slopes, what is refused.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::params::Params;
use super::super::trainer::Given;
use super::super::*;
use crate::{About, Activation, SaeError};

const D: usize = 12;

fn all() -> Vec<Architecture> {
    let options = TopKOptions::default();
    let warmup = Warmup(3);
    vec![
        Architecture::Relu {
            l1: 0.1,
            warmup,
            by_norm: true,
        },
        Architecture::TopK { k: 3, options },
        Architecture::BatchTopK {
            k: 3.0,
            options,
            threshold_rate: 0.1,
        },
        Architecture::Matryoshka {
            k: 3.0,
            levels: Levels {
                widths: vec![8],
                own_aux: false,
            },
            options,
            threshold_rate: 0.1,
        },
        Architecture::JumpRelu {
            threshold: 0.05,
            bandwidth: 0.5,
            l0: 0.2,
            warmup,
            sparsity: Sparsity::Target(4.0),
            pre_act: 0.01,
            to_input: true,
        },
        Architecture::Gated {
            l1: 0.1,
            warmup,
            frozen_decoder: true,
        },
    ]
}

fn recipe(architecture: Architecture) -> Recipe {
    Recipe {
        lr: 3e-3,
        init_norm: 0.5,
        dead: Dead {
            after: 100,
            resample_every: 0,
        },
        ..Recipe::new(40, architecture)
    }
}

/// Rows of few of many directions.
fn batch(number: u64) -> Array2<f32> {
    let mut directions = ChaCha8Rng::seed_from_u64(1);
    let w = Array2::from_shape_fn((24, D), |_| directions.random_range(-1.0f32..1.0));
    let mut rng = ChaCha8Rng::seed_from_u64(100 + number);
    let codes = Array2::from_shape_fn((64, 24), |_| {
        let fires = rng.random_bool(0.1);
        if fires {
            rng.random_range(0.5f32..2.0)
        } else {
            0.0
        }
    });
    codes.dot(&w) + 0.3
}

#[test]
fn a_trainer_that_was_put_away_goes_on_with_the_same_bits() {
    for architecture in all() {
        let first = batch(0);
        let new = || {
            let shape = Shape::autoencoder(D);
            Trainer::new(recipe(architecture.clone()), shape, first.view(), 1.3).unwrap()
        };
        let (mut whole, mut broken) = (new(), new());
        for step in 0..12 {
            let report = whole.step(batch(step).view(), None).unwrap();
            if step % 5 == 3 {
                broken = Trainer::from_bytes(&broken.to_bytes().unwrap()).unwrap();
            }
            assert_eq!(broken.step(batch(step).view(), None).unwrap(), report);
        }
        assert_eq!(whole.to_bytes().unwrap(), broken.to_bytes().unwrap());
    }
}

#[test]
fn training_lowers_the_error_and_the_dictionary_is_what_was_trained() {
    for architecture in all() {
        let scale = Trainer::unit_scale(batch(0).view()).unwrap();
        let shape = Shape::autoencoder(D);
        let mut trainer =
            Trainer::new(recipe(architecture), shape, batch(0).view(), scale).unwrap();
        let first = trainer.step(batch(0).view(), None).unwrap();
        let mut last = first.clone();
        for step in 1..400 {
            last = trainer.step(batch(step).view(), None).unwrap();
        }
        let name = trainer.recipe().architecture.name();
        assert!(
            last.fvu < 0.5 * first.fvu,
            "{name}: {} to {}",
            first.fvu,
            last.fvu
        );
        // The exported dictionary has no scale any more and reads rows as they are.
        let dictionary = trainer.dictionary(About::default()).unwrap();
        let rows = batch(999);
        let out = dictionary.reconstruct(rows.view()).unwrap();
        let mean = rows.mean_axis(ndarray::Axis(0)).unwrap();
        let fvu = (&out - &rows).mapv(|e| e * e).sum() / (&rows - &mean).mapv(|e| e * e).sum();
        assert!(
            f64::from(fvu) < 1.5 * last.fvu + 0.02,
            "{name}: {fvu} {}",
            last.fvu
        );
        if let Activation::JumpRelu { threshold } = &dictionary.parts().activation {
            assert!(threshold.iter().all(|t| *t >= 0.0));
        }
    }
}

/// With the threshold at the least code of a batch, what BatchTopK became gives that batch's very codes.
#[test]
fn batch_topk_exported_as_jumprelu_gives_the_same_codes() {
    let architecture = Architecture::BatchTopK {
        k: 3.0,
        options: TopKOptions::default(),
        threshold_rate: 1.0,
    };
    let shape = Shape::autoencoder(D);
    let mut trainer = Trainer::new(recipe(architecture), shape, batch(0).view(), 1.0).unwrap();
    for step in 0..50 {
        trainer.step(batch(step).view(), None).unwrap();
    }
    let rows = batch(50);
    let mut threshold = trainer.threshold;
    let pass = trainer.pass(
        Given::of(rows.as_slice().unwrap(), None, 64, &[]),
        &mut threshold,
    );
    trainer.threshold = threshold;
    // Just below the least one kept, which a threshold is not above.
    trainer.threshold.average *= 1.0 - 1e-6;
    let dictionary = trainer.dictionary(About::default()).unwrap();
    let codes = dictionary.encode(rows.view()).unwrap();
    assert_eq!(codes.latents, pass.codes.latents);
    assert_eq!(codes.starts, pass.codes.starts);
    let norms = super::super::decoder::decoder_norms(&trainer.params.w_dec, &[D]);
    for (e, value) in codes.values.iter().enumerate() {
        let scaled = pass.codes.values[e] * norms[codes.latents[e] as usize];
        assert!((value / scaled - 1.0).abs() < 1e-4);
    }
}

/// AuxK's gradient is the slope of its loss: nudging a dead latent's weights moves the loss as the gradient says.
#[test]
fn auxk_has_a_gradient() {
    let architecture = Architecture::TopK {
        k: 3,
        options: TopKOptions::default(),
    };
    let shape = Shape::autoencoder(D);
    let mut trainer = Trainer::new(recipe(architecture), shape, batch(0).view(), 1.0).unwrap();
    let rows = batch(1);
    let x = rows.as_slice().unwrap();
    // Fewer than k_aux, which is 6: all of them take part in each row, and a nudge changes no choice.
    for bias in &mut trainer.params.b_enc[35..] {
        *bias = -2.0;
    }
    let dead: Vec<u32> = (35..40).collect();
    let run = |trainer: &Trainer| {
        let mut threshold = trainer.threshold;
        trainer.pass(Given::of(x, None, 64, &dead), &mut threshold)
    };
    let loss = |trainer: &Trainer| -> f64 {
        run(trainer)
            .losses
            .iter()
            .find(|(name, _)| *name == "auxk")
            .unwrap()
            .1
    };
    let grads = run(&trainer).grads;
    for latent in 35..40 {
        for (which, at) in [(0, latent * D + 2), (1, latent * D + 5), (2, latent)] {
            let of = |p: &mut super::super::params::Params, by: f32| {
                let numbers = match which {
                    0 => &mut p.w_enc,
                    1 => &mut p.w_dec,
                    _ => &mut p.b_enc,
                };
                numbers[at] += by;
            };
            let grad = match which {
                0 => grads.w_enc[at],
                1 => grads.w_dec[at],
                _ => grads.b_enc[at],
            };
            let (mut up, mut down) = (trainer.clone(), trainer.clone());
            of(&mut up.params, 2e-3);
            of(&mut down.params, -2e-3);
            let slope = (loss(&up) - loss(&down)) / 4e-3;
            assert!(grad.abs() > 1e-3, "a gradient of 0");
            assert!(
                (slope / f64::from(grad) - 1.0).abs() < 2e-2,
                "{which} {slope} {grad}"
            );
        }
    }
}

/// What a loss behind the dictionary adds to the gradients is the slope of what it reads, the reconstruction.
#[test]
fn a_loss_behind_the_dictionary_pulls_along_its_slope() {
    let rows = batch(1);
    let x = rows.as_slice().unwrap();
    let pulls: Vec<f32> = batch(2).as_slice().unwrap().to_vec();
    for architecture in all() {
        let estimated = matches!(architecture, Architecture::JumpRelu { .. });
        let recipe = Recipe {
            centred: false,
            ..recipe(architecture)
        };
        let mut trainer =
            Trainer::new(recipe, Shape::autoencoder(D), batch(0).view(), 0.5).unwrap();
        for _ in 0..20 {
            trainer.step(rows.view(), None).unwrap();
        }
        let run = |trainer: &Trainer, through| {
            let given = Given {
                through,
                ..Given::of(x, None, 64, &[])
            };
            trainer.pass(given, &mut trainer.threshold.clone())
        };
        let through = Through {
            loss: 1.0,
            gradient: &pulls,
            weight: Weight::Fixed(3.0),
        };
        // The part of the loss that is new: linear in the reconstruction, in units of the rows.
        let value = |trainer: &Trainer| -> f64 {
            let error = run(trainer, None).error;
            let terms = error.iter().zip(x).zip(&pulls);
            terms
                .map(|((e, x), g)| 3.0 * f64::from(e + x) / 0.5 * f64::from(*g))
                .sum()
        };
        let (with, without) = (run(&trainer, Some(through)), run(&trainer, None));
        assert_eq!(with.losses.last(), Some(&("through", 3.0)));
        let fired = with.codes.latents[0] as usize;
        for (which, at) in [
            ("W_dec", fired * D + 3),
            ("b_dec", 4),
            ("W_enc", fired * D + 1),
        ] {
            if estimated && which == "W_enc" {
                continue;
            }
            let of = |params: &Params| -> f64 {
                let named = params.named();
                f64::from(named.iter().find(|(name, _)| *name == which).unwrap().1[at])
            };
            let grad = of(&with.grads) - of(&without.grads);
            let nudged = |by: f32| {
                let mut other = trainer.clone();
                let named = other.params.named_mut();
                named
                    .into_iter()
                    .find(|(name, _)| *name == which)
                    .unwrap()
                    .1[at] += by;
                value(&other)
            };
            let slope = (nudged(1e-3) - nudged(-1e-3)) / 2e-3;
            assert!(grad.abs() > 1e-3, "{which}: a gradient of 0");
            assert!((slope / grad - 1.0).abs() < 2e-2, "{which} {slope} {grad}");
        }
    }
}

/// Latents that cannot fire are given rows that are badly reconstructed, and fire again.
#[test]
fn dead_latents_start_anew_from_bad_rows() {
    let architecture = Architecture::Relu {
        l1: 0.01,
        warmup: Warmup(0),
        by_norm: true,
    };
    let recipe = Recipe {
        dead: Dead {
            after: 200,
            resample_every: 640,
        },
        ..recipe(architecture)
    };
    let shape = Shape::autoencoder(D);
    let mut trainer = Trainer::new(recipe, shape, batch(0).view(), 1.0).unwrap();
    for bias in &mut trainer.params.b_enc[20..] {
        *bias = -1e3;
    }
    for step in 0..9 {
        assert_eq!(trainer.step(batch(step).view(), None).unwrap().resampled, 0);
    }
    assert!(trainer.dead().len() >= 20);
    let report = trainer.step(batch(9).view(), None).unwrap();
    assert!(report.resampled >= 20, "{}", report.resampled);
    assert!(trainer.params.b_enc[20..].iter().all(|b| b.abs() < 1.0));
    let mut fired = std::collections::BTreeSet::new();
    for step in 10..30 {
        let mut threshold = trainer.threshold;
        let rows = batch(step);
        let pass = trainer.pass(
            Given::of(rows.as_slice().unwrap(), None, 64, &[]),
            &mut threshold,
        );
        fired.extend(pass.codes.latents.iter().copied().filter(|l| *l >= 20));
    }
    assert_eq!(fired.len(), 20, "{fired:?}");
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    let shape = || Shape::autoencoder(D);
    let topk = |k| Architecture::TopK {
        k,
        options: TopKOptions::default(),
    };
    let new = |recipe| Trainer::new(recipe, shape(), batch(0).view(), 1.0);
    let text = |e: SaeError| e.to_string();
    let refused = |recipe: Recipe| text(new(recipe).err().unwrap());
    assert!(refused(recipe(topk(41))).contains("k: 41 is outside above 0, at most d_sae"));
    assert!(
        refused(Recipe {
            d_sae: 0,
            ..recipe(topk(3))
        })
        .contains("d_sae: 0")
    );
    assert!(
        refused(Recipe {
            lr: f64::NAN,
            ..recipe(topk(3))
        })
        .contains("lr: NaN")
    );
    let levels = Architecture::Matryoshka {
        k: 3.0,
        levels: Levels {
            widths: vec![8, 8],
            own_aux: false,
        },
        options: TopKOptions::default(),
        threshold_rate: 0.1,
    };
    assert!(refused(recipe(levels)).contains("levels: [8, 8]"));
    let mut trainer = new(recipe(topk(3))).unwrap();
    let mut rows = batch(0);
    rows[(5, 7)] = f32::NAN;
    let error = text(trainer.step(rows.view(), None).err().unwrap());
    assert!(error.contains("row 5, column 7"), "{error}");
    assert_eq!(trainer.steps(), 0);
    let error = text(
        trainer
            .step(Array2::zeros((4, D + 1)).view(), None)
            .err()
            .unwrap(),
    );
    assert!(
        error.contains("[4, 12]") && error.contains("[4, 13]"),
        "{error}"
    );
    let bytes = trainer.to_bytes().unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        assert!(Trainer::from_bytes(&bytes[..cut]).is_err());
    }
}
