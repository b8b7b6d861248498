//! One batch and fixed weights through SAELens 6.54: losses, codes, gradients and three steps of Adam for each
//! architecture and option (tests/fixtures/saelens, torch 2.15 in f32).

use ndarray::{Array2, ArrayView2};
use safetensors::SafeTensors;
use serde_json::Value;

use super::super::params::Params;
use super::super::trainer::Given;
use super::super::*;

const JSON: &str = include_str!("../../../tests/fixtures/saelens/sae.json");
const TENSORS: &[u8] = include_bytes!("../../../tests/fixtures/saelens/sae.safetensors");
const D: usize = 16;
const F: usize = 64;

fn tensor(name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(TENSORS).unwrap();
    let found = tensors.tensor(name).unwrap();
    let numbers = found.data().as_chunks().0.iter();
    numbers.map(|b| f32::from_le_bytes(*b)).collect()
}

fn turned(numbers: &[f32], rows: usize) -> Vec<f32> {
    let width = numbers.len() / rows;
    let m = ArrayView2::from_shape((rows, width), numbers).unwrap();
    m.t().iter().copied().collect()
}

fn number(config: &Value, key: &str) -> f64 {
    config[key].as_f64().unwrap()
}

fn architecture(name: &str, config: &Value) -> Architecture {
    let options = || TopKOptions {
        aux: number(config, "aux_loss_coefficient"),
        by_norm: config["rescale_acts_by_decoder_norm"].as_bool().unwrap(),
        ..TopKOptions::default()
    };
    let warmup = Warmup::default();
    if name.starts_with("standard") {
        Architecture::Relu {
            l1: number(config, "l1_coefficient"),
            warmup,
            by_norm: true,
        }
    } else if name.starts_with("topk") {
        Architecture::TopK {
            k: number(config, "k") as usize,
            options: options(),
        }
    } else if name.starts_with("batchtopk") {
        Architecture::BatchTopK {
            k: number(config, "k"),
            options: options(),
            threshold_rate: number(config, "topk_threshold_lr"),
        }
    } else if name.starts_with("gated") {
        Architecture::Gated {
            l1: number(config, "l1_coefficient"),
            warmup,
            frozen_decoder: false,
        }
    } else {
        let sparsity = match config["jumprelu_sparsity_loss_mode"].as_str().unwrap() {
            "step" => Sparsity::Step,
            _ => Sparsity::Tanh(number(config, "jumprelu_tanh_scale")),
        };
        Architecture::JumpRelu {
            threshold: 0.0,
            bandwidth: number(config, "jumprelu_bandwidth"),
            l0: number(config, "l0_coefficient"),
            warmup,
            sparsity,
            pre_act: config["pre_act_loss_coefficient"].as_f64().unwrap_or(0.0),
            to_input: config["jumprelu_ste_to_input"].as_bool().unwrap(),
        }
    }
}

fn trainer(name: &str, case: &Value) -> (Trainer, Array2<f32>) {
    let config = &case["config"];
    let x = Array2::from_shape_vec((8, D), tensor("x")).unwrap();
    let recipe = Recipe {
        lr: 1e-2,
        clip: None,
        dead: Dead {
            after: 1 << 30,
            resample_every: 0,
        },
        b_dec: Bias::Zero,
        centred: config["apply_b_dec_to_input"].as_bool().unwrap(),
        ..Recipe::new(F, architecture(name, config))
    };
    let mut trainer = Trainer::new(recipe, Shape::autoencoder(D), x.view(), 1.0).unwrap();
    let gated = name.starts_with("gated");
    trainer.params = Params {
        w_enc: turned(&tensor("W_enc"), D),
        w_dec: tensor("W_dec"),
        b_enc: tensor(if gated { "b_gate" } else { "b_enc" }),
        b_dec: tensor("b_dec"),
        threshold: if name.starts_with("jumprelu") {
            tensor("threshold")
        } else {
            Vec::new()
        },
        r_mag: if gated { tensor("r_mag") } else { Vec::new() },
        b_mag: if gated { tensor("b_mag") } else { Vec::new() },
        w_skip: Vec::new(),
    };
    if case["dead_mask"].as_bool().unwrap() {
        // Never counted back to life, so that the mask stays for the three steps.
        for silent in &mut trainer.silent[48..] {
            *silent = 1 << 40;
        }
    }
    (trainer, x)
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, size: f64) {
    let error = (found - expected).abs();
    assert!(
        error <= 2e-5 * size.abs().max(1e-2),
        "{what}: {found} {expected}"
    );
}

#[test]
fn losses_codes_and_gradients_are_saelens_own() {
    let golden: Value = serde_json::from_str(JSON).unwrap();
    let cases = golden["arch"].as_object().unwrap();
    assert_eq!(cases.len(), 20);
    for (name, case) in cases {
        let (trainer, x) = trainer(name, case);
        let mut threshold = trainer.threshold;
        let dead = trainer.dead();
        let pass = trainer.pass(
            Given::of(x.as_slice().unwrap(), None, 8, &dead),
            &mut threshold,
        );
        let loss: f64 = pass.losses.iter().map(|(_, loss)| loss).sum();
        close(name, loss, number(case, "loss"), number(case, "loss"));
        for (ours, theirs) in [
            ("mse", "mse_loss"),
            ("l1", "l1_loss"),
            ("auxk", "auxiliary_reconstruction_loss"),
            ("gate_mse", "auxiliary_reconstruction_loss"),
            ("l0", "l0_loss"),
            ("pre_act", "pre_act_loss"),
        ] {
            if let Some((_, found)) = pass.losses.iter().find(|(name, _)| *name == ours) {
                let expected = number(&case["losses"], theirs);
                close(&format!("{name} {ours}"), *found, expected, expected);
            }
        }
        codes_agree(name, case, &trainer, &pass.codes);
        gradients_agree(name, case, &pass.grads);
    }
}

fn codes_agree(
    name: &str,
    case: &Value,
    trainer: &Trainer,
    codes: &candlescope_ops::sparse::Entries,
) {
    let norms = super::super::decoder::decoder_norms(&trainer.params.w_dec, &[D]);
    // SAELens's codes of these are in units of the decoder's norm.
    let scaled = case["config"]["rescale_acts_by_decoder_norm"] == Value::Bool(true);
    for row in 0..8 {
        let at = codes.starts[row]..codes.starts[row + 1];
        let latents: Vec<u64> = codes.latents[at.clone()]
            .iter()
            .map(|&l| l.into())
            .collect();
        let expected: Vec<u64> =
            serde_json::from_value(case["active_idx"][row].clone()).unwrap_or_default();
        // The list of a dense code is cut in the fixture.
        assert_eq!(latents[..expected.len()], expected, "{name} {row}");
        assert_eq!(
            latents.len() as u64,
            case["L0_per_row"][row].as_u64().unwrap()
        );
        for (e, value) in at.zip(case["active_val"][row].as_array().unwrap()) {
            let latent = codes.latents[e] as usize;
            let factor = if scaled { norms[latent] } else { 1.0 };
            close(
                name,
                f64::from(codes.values[e] * factor),
                value.as_f64().unwrap(),
                1.0,
            );
        }
    }
}

fn gradients_agree(name: &str, case: &Value, grads: &Params) {
    let w_enc = turned(&grads.w_enc, F);
    let mut total = 0.0;
    for (theirs, grad) in case["grads"].as_object().unwrap() {
        let found = match theirs.as_str() {
            "W_enc" => &w_enc,
            "W_dec" => &grads.w_dec,
            "b_enc" | "b_gate" => &grads.b_enc,
            "b_dec" => &grads.b_dec,
            "threshold" => &grads.threshold,
            "r_mag" => &grads.r_mag,
            "b_mag" => &grads.b_mag,
            other => panic!("{other}"),
        };
        let what = format!("{name} {theirs}");
        let square: f64 = found.iter().map(|g| f64::from(*g).powi(2)).sum();
        let size = number(grad, "l2");
        total += square;
        close(&what, square.sqrt(), size, size);
        let sum: f64 = found.iter().map(|g| f64::from(*g)).sum();
        close(&what, sum, number(grad, "sum"), size);
        for (g, expected) in found.iter().zip(grad["first4"].as_array().unwrap()) {
            close(&what, f64::from(*g), expected.as_f64().unwrap(), size);
        }
    }
    close(name, total.sqrt(), number(case, "grad_norm"), total.sqrt());
}

#[test]
fn three_steps_of_adam_are_saelens_own() {
    let golden: Value = serde_json::from_str(JSON).unwrap();
    for (name, case) in golden["arch"].as_object().unwrap() {
        let (mut trainer, x) = trainer(name, case);
        for expected in case["adam_lr1e-2_losses"].as_array().unwrap() {
            let before = trainer.silent.clone();
            let report = trainer.step(x.view(), None).unwrap();
            // The mask is fixed there, whatever fires.
            if case["dead_mask"].as_bool().unwrap() {
                trainer.silent = before;
            }
            let expected = expected.as_f64().unwrap();
            // Adam divides by the gradient's size, so rounding of a gradient near 0 is a whole step.
            let error = (report.loss - expected).abs() / expected;
            assert!(error < 2e-3, "{name}: {} {expected}", report.loss);
        }
        if let Some(after) = case["topk_threshold_after"].as_f64() {
            // After the four passes, the loss of the last being the one after three steps.
            let found = trainer.threshold.average;
            assert!(
                (found / after - 1.0).abs() < 5e-3,
                "{name}: {found} {after}"
            );
        }
    }
}
