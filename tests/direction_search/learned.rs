//! Directions learned by gradient: the gradient is that of finite differences, the loss falls on a planted direction, and what was
//! stopped goes on to the bit.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Tensor, Var};
use candlescope::model::{Checkpoint, Decoder, LoadOptions, Opened};
use candlescope::steer::learned::{
    Example, Lessons, Place, Settings, Start, State, begun, learn, losses, measured,
};
use candlescope::steer::{Options, random_directions};
use serde_json::Value;

use super::{key, prompts};

fn open(name: &str) -> Decoder {
    let options = LoadOptions {
        dtype: DType::F64,
        ..LoadOptions::default()
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name);
    let opened = Opened::at(&path, &options).unwrap();
    opened.decoder(&options).unwrap()
}

/// Examples of unequal lengths, so that there is padding.
fn lessons() -> Lessons {
    let of = |prompt: &[u32], answer: &[u32]| Example::new(prompt, answer).unwrap();
    Lessons {
        bypass: vec![of(&[3, 1, 4, 1, 5], &[9, 2, 6]), of(&[2, 7, 1], &[8, 2])],
        induce: vec![of(&[6, 6, 2, 6], &[20]), of(&[1, 4, 14], &[2, 13, 5, 6])],
        retain: vec![of(&[5, 7, 7, 2], &[15, 6, 6]), of(&[9, 0, 1], &[5])],
    }
}

fn wide(v: &[f32], scale: f64) -> Vec<f64> {
    v.iter().map(|&x| scale * f64::from(x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn the_gradient_is_that_of_finite_differences_in_every_part() {
    let place = Place {
        layer: 1,
        alpha: 2.0,
    };
    for name in ["llama", "gemma2", "gpt2", "gpt_neox"] {
        let model = open(name);
        let d = model.config().d_model;
        let drawn = random_directions(4, d, 8).unwrap();
        // Not of length 1: it is brought there on the tape.
        let at = wide(&drawn[0], 1.7);
        let tensor = |v: &[f64]| Tensor::from_slice(v, d, &Device::Cpu).unwrap();
        let value = |v: &[f64], part: usize| {
            let found = losses(&model, &tensor(v), place, &lessons()).unwrap();
            found.numbers().unwrap()[part]
        };
        let var = Var::from_tensor(&tensor(&at)).unwrap();
        let found = losses(&model, var.as_tensor(), place, &lessons()).unwrap();
        for (part, loss) in [&found.bypass, &found.induce, &found.retain]
            .into_iter()
            .enumerate()
        {
            let grads = candlescope_ops::backward(loss).unwrap();
            let gradient = grads
                .get(var.as_tensor())
                .unwrap()
                .to_vec1::<f64>()
                .unwrap();
            let size = dot(&gradient, &gradient).sqrt();
            assert!(size > 1e-6, "{name} part {part}: no gradient");
            let outward = dot(&gradient, &at) / (size * dot(&at, &at).sqrt());
            assert!(
                outward.abs() < 1e-9,
                "{name} part {part}: {outward:.1e} points outward"
            );
            for step in &drawn[1..] {
                let step = wide(step, 1.0);
                let h = 1e-5;
                let moved =
                    |h: f64| -> Vec<f64> { at.iter().zip(&step).map(|(x, s)| x + h * s).collect() };
                let slope = (value(&moved(h), part) - value(&moved(-h), part)) / (2.0 * h);
                let expected = dot(&gradient, &step);
                assert!(
                    (slope - expected).abs() < 1e-6 * size.max(slope.abs()),
                    "{name} part {part}: {slope} by differences, {expected} by gradient"
                );
            }
        }
    }
}

#[test]
fn what_was_planted_is_learned_back_and_a_stopped_run_goes_on_to_the_bit() {
    let cp = Checkpoint::toy(0).unwrap();
    let drawn = random_directions(2, cp.config().d_model, 3).unwrap();
    let place = Place {
        layer: 1,
        alpha: 3.0,
    };
    let start = Start {
        direction: &drawn[0],
        place,
    };
    // The answers are those under the planted direction; learning begins beside it.
    let (harmful, harmless) = (prompts(&cp, "harmful", 6), prompts(&cp, "harmless", 6));
    let of = [&harmful[..], &harmless[..]];
    let lessons = Lessons::new(&cp, of, &start, 6, &Options::default()).unwrap();
    assert_eq!(lessons.bypass.len(), 6);
    let beside: Vec<f64> = drawn[0]
        .iter()
        .zip(drawn[1].iter())
        .map(|(a, b)| f64::from(*a) + 1.2 * f64::from(*b))
        .collect();
    let settings = Settings {
        steps: 12,
        rate: 0.02,
        examples: 4,
        batch: 2,
        ..Settings::default()
    };
    let model = &cp.decoder;
    let begin = || begun(model, place, &lessons, (vec![beside.clone()], 3), key()).unwrap();
    let both = [&lessons, &lessons];
    let mut norms = Vec::new();
    let mut whole = begin();
    let before = whole.best.0;
    let folder = tempfile::tempdir().unwrap();
    let mut keep = |state: &State| {
        norms.push(dot(&state.sphere.rows()[0], &state.sphere.rows()[0]));
        state.write(folder.path())
    };
    learn(model, place, both, &settings, &mut whole, None, &mut keep).unwrap();
    assert_eq!(norms.len(), 12);
    assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-12), "{norms:?}");
    let after = whole.best.0;
    assert!(after < 0.9 * before, "{before} {after}");
    let planted = wide(&drawn[0], 1.0);
    let cosine = |v: &[f64]| dot(v, &planted) / dot(v, v).sqrt();
    println!(
        "loss {before:.4} to {after:.4}, cosine {:.3}",
        cosine(&whole.best.1[0])
    );
    let own = measured(model, place, &lessons, &whole.best.1, 2).unwrap();
    assert!((own[0] + 0.2 * own[1] + own[2] - after).abs() < 1e-9);

    // Five steps, then the rest from disk.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut keep = |state: &State| state.write(elsewhere.path());
    let mut first = begin();
    let five = Settings {
        steps: 5,
        ..settings
    };
    learn(model, place, both, &five, &mut first, None, &mut keep).unwrap();
    let mut again = State::read(elsewhere.path(), &key()).unwrap().unwrap();
    assert_eq!(again, first);
    learn(model, place, both, &settings, &mut again, None, &mut keep).unwrap();
    assert_eq!(again, whole);
    assert_eq!(State::read(folder.path(), &key()).unwrap(), Some(whole));
}

#[test]
fn a_cone_stays_orthonormal() {
    let cp = Checkpoint::toy(0).unwrap();
    let drawn = random_directions(3, cp.config().d_model, 3).unwrap();
    let place = Place {
        layer: 1,
        alpha: 3.0,
    };
    let start = Start {
        direction: &drawn[0],
        place,
    };
    let (harmful, harmless) = (prompts(&cp, "harmful", 3), prompts(&cp, "harmless", 3));
    let of = [&harmful[..], &harmless[..]];
    let lessons = Lessons::new(&cp, of, &start, 3, &Options::default()).unwrap();
    let rows: Vec<Vec<f64>> = drawn.iter().map(|v| wide(v, 2.0)).collect();
    let model = &cp.decoder;
    let mut state = begun(model, place, &lessons, (rows, 3), key()).unwrap();
    let settings = Settings {
        steps: 4,
        examples: 3,
        batch: 1,
        ..Settings::default()
    };
    let both = [&lessons, &lessons];
    let before = state.sphere.clone();
    learn(model, place, both, &settings, &mut state, None, &mut |_| {
        Ok(())
    })
    .unwrap();
    for (i, a) in state.sphere.rows().iter().enumerate() {
        for (j, b) in state.sphere.rows().iter().enumerate() {
            let expected = if i == j { 1.0 } else { 0.0 };
            assert!((dot(a, b) - expected).abs() < 1e-12, "{i} {j}");
        }
        // Every one of them has been learned.
        assert!(dot(a, &before.rows()[i]) < 0.9999, "{i}");
    }
}

#[test]
fn the_command_learns_goes_on_and_names_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let file = super::command::direction(folder.path(), "d.safetensors", 3);
    let run = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let head = [
            "direction",
            "learn",
            "toy",
            "--direction",
            &file,
            "--train",
            "4",
        ];
        let small = [
            "--validation",
            "2",
            "--test",
            "2",
            "--tokens",
            "3",
            "--examples",
            "2",
        ];
        let output = Command::new(env!("CARGO_BIN_EXE_candlescope"))
            .args([&head[..], &small, &["--out", out.to_str().unwrap()], more].concat())
            .env("CANDLESCOPE_OFFLINE", "1")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, _, errors) = run("none", &["--steps", "2"]);
    assert!(code == Some(2) && errors.contains("--layer"), "{errors}");
    let (code, text, errors) = run(
        "whole",
        &["--layer", "1", "--steps", "4", "--cone", "2", "--json"],
    );
    assert_eq!(code, Some(0), "{errors}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["schema"], "candlescope.direction.learn/1");
    assert_eq!(report["steps"], 4);
    assert_eq!(report["learned"].as_array().unwrap().len(), 2);
    let (code, _, errors) = run("parts", &["--layer", "1", "--steps", "2", "--cone", "2"]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, shown, errors) = run("parts", &["--layer", "1", "--steps", "4", "--cone", "2"]);
    assert!(
        code == Some(0) && errors.contains("going on behind 2 steps"),
        "{errors}"
    );
    assert!(shown.contains("4 steps"), "{shown}");
    for name in ["learning.json", "direction.safetensors", "cone.safetensors"] {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(name)).unwrap();
        assert_eq!(read("parts"), read("whole"), "{name}");
    }
    let (code, _, errors) = run("parts", &["--layer", "2", "--cone", "2"]);
    assert!(
        code == Some(2) && errors.contains("other settings"),
        "{errors}"
    );
}
