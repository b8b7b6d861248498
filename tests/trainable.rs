//! Weights that train: names, storage shared with the decoder that reads, gradients that reach them, folders that keep bits.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::model::{Batch, Decoder, LoadOptions, ModelError, Opened, ScoreModel, Trainable};

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.retain(|p| p.is_dir());
    all.sort();
    assert!(all.len() >= 10);
    all
}

fn open(path: &Path) -> Decoder {
    let options = LoadOptions::default();
    Opened::at(path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

fn numbers(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    numbers(t).iter().map(|x| x.to_bits()).collect()
}

/// Two rows of unequal lengths.
fn batch() -> Batch {
    Batch::new(&[vec![3u32, 1, 4, 1, 5], vec![9, 2, 6]]).unwrap()
}

/// A number in which every position and channel of the hidden states has a part of its own.
fn readout(hidden: &Tensor) -> Tensor {
    let n = hidden.elem_count();
    let weights: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
    let weights = Tensor::from_vec(weights, hidden.shape(), hidden.device()).unwrap();
    (hidden * weights).unwrap().sum_all().unwrap()
}

#[test]
fn every_stored_tensor_trains_under_its_own_name_and_gets_a_gradient() {
    for folder in families() {
        let stored = SafetensorsFolder::open(&folder).unwrap();
        let model = Trainable::full(open(&folder)).unwrap();
        let names: BTreeSet<String> = model.params().iter().map(|p| p.name.clone()).collect();
        assert_eq!(
            names.len(),
            model.params().len(),
            "{folder:?}: a name twice"
        );
        let stems: BTreeSet<String> = names
            .iter()
            .map(|n| n.split('[').next().unwrap().to_owned())
            .collect();
        let mut expected: BTreeSet<String> = stored.names().into_iter().collect();
        if model.decoder().config().tied {
            expected.remove("lm_head.weight");
        }
        assert_eq!(stems, expected, "{folder:?}");
        let elements: usize = model.params().iter().map(|p| p.var.elem_count()).sum();
        let there: usize = expected
            .iter()
            .map(|n| stored.info(n).unwrap().shape.iter().product::<usize>())
            .sum();
        assert_eq!(elements, there, "{folder:?}");

        let hidden = model.hidden(&batch()).unwrap();
        let logits = hidden.broadcast_matmul(&model.head().t().unwrap()).unwrap();
        let grads = readout(&logits).backward().unwrap();
        for p in model.params() {
            let grad = grads.get(p.var.as_tensor());
            let grad = grad.unwrap_or_else(|| panic!("{folder:?}: no gradient for {}", p.name));
            // Keys' bias has none: it moves all scores of a query alike.
            let nothing = numbers(grad).iter().all(|&x| x == 0.0);
            assert!(!nothing, "{folder:?}: zero gradient for {}", p.name);
            let finite = numbers(grad).iter().all(|x| x.is_finite());
            assert!(finite, "{folder:?}: {}", p.name);
        }
        let norms = |name: &str| name.contains("norm") || name.contains("ln_");
        for p in model.params() {
            let vector = norms(&p.name) || p.name.contains(".bias");
            assert_eq!(p.decay, !vector, "{}", p.name);
        }
    }
}

#[test]
fn the_decoder_that_reads_sees_every_step_and_the_original_sees_none() {
    for folder in families() {
        let original = open(&folder);
        let before = bits(&original.hidden(&batch()).unwrap());
        let model = Trainable::full(original.clone()).unwrap();
        assert_eq!(before, bits(&model.decoder().hidden(&batch()).unwrap()));
        step(&model);
        let tracked = numbers(&model.hidden(&batch()).unwrap());
        let read = numbers(&model.decoder().hidden(&batch()).unwrap());
        assert_ne!(before, bits(&model.decoder().hidden(&batch()).unwrap()));
        assert_eq!(before, bits(&original.hidden(&batch()).unwrap()));
        let largest = read.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (a, b) in tracked.iter().zip(&read) {
            assert!((a - b).abs() < 2e-5 * largest, "{folder:?}: {a} and {b}");
        }
        assert!(!model.decoder().hidden(&batch()).unwrap().track_op());
    }
}

/// Moves every weight, each element by another amount.
fn step(model: &Trainable) {
    for (k, p) in model.params().iter().enumerate() {
        let n = p.var.elem_count();
        let change: Vec<f32> = (0..n)
            .map(|j| 0.02 * (1.1 + (0.37 * j as f32 + k as f32).sin()))
            .collect();
        let change = Tensor::from_vec(change, p.var.shape(), p.var.device()).unwrap();
        p.var.set(&(p.var.as_tensor() + change).unwrap()).unwrap();
    }
}

#[test]
fn a_written_folder_is_the_model_that_trained_to_the_last_bit() {
    for folder in families() {
        let model = Trainable::full(open(&folder)).unwrap();
        step(&model);
        let out = tempfile::tempdir().unwrap();
        model.write(out.path(), DType::F32).unwrap();
        let now = bits(&model.decoder().hidden(&batch()).unwrap());
        assert_eq!(now, bits(&open(out.path()).hidden(&batch()).unwrap()));
        let other = Trainable::full(open(&folder)).unwrap();
        other.reload(out.path()).unwrap();
        for (a, b) in model.values().iter().zip(other.values()) {
            assert_eq!((&a.0, bits(&a.1)), (&b.0, bits(&b.1)), "{folder:?}");
        }
        assert_eq!(now, bits(&other.decoder().hidden(&batch()).unwrap()));
    }
}

#[test]
fn a_score_model_trains_without_an_unembedding_and_comes_back_from_its_folder() {
    for folder in families() {
        let fresh = ScoreModel::fresh(open(&folder), 7).unwrap();
        let model = Trainable::scored(&fresh).unwrap();
        let names: Vec<&str> = model.params().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.last(), Some(&"score.weight"));
        assert!(!names.contains(&"lm_head.weight") && !names.contains(&"embed_out.weight"));
        step(&model);
        let out = tempfile::tempdir().unwrap();
        model.write(out.path(), DType::F32).unwrap();
        let scores = |m: &ScoreModel| bits(&m.scores(&batch()).unwrap());
        let now = scores(&model.score_model().unwrap());
        assert_ne!(now, scores(&fresh));
        let opened = ScoreModel::open(out.path(), &LoadOptions::default()).unwrap();
        assert_eq!(now, scores(&opened), "{folder:?}");
        // A row alone has the score it has in a batch: the last token is found by its place.
        let alone = opened.scores(&Batch::single(&[9, 2, 6]).unwrap()).unwrap();
        let (alone, row) = (numbers(&alone)[0], f32::from_bits(now[1]));
        assert!((alone - row).abs() < 2e-5 * row.abs().max(1.0));
        let refused = Opened::at(out.path(), &LoadOptions::default())
            .unwrap()
            .decoder(&LoadOptions::default());
        assert!(refused.is_err(), "a score model opened as a language model");
        assert!(ScoreModel::open(&folder, &LoadOptions::default()).is_err());
    }
}

#[test]
fn weights_of_another_model_and_half_width_are_refused() {
    let model = Trainable::full(open(&families()[0])).unwrap();
    let before: Vec<Vec<u32>> = model.values().iter().map(|(_, t)| bits(t)).collect();
    let mut values = model.values();
    let (name, last) = values.pop().unwrap();
    let missing = model.restore(&values).unwrap_err();
    assert!(missing.to_string().contains(&name), "{missing}");
    values.push((name, last.unsqueeze(0).unwrap()));
    assert!(matches!(
        model.restore(&values),
        Err(ModelError::Shape { .. })
    ));
    let after: Vec<Vec<u32>> = model.values().iter().map(|(_, t)| bits(t)).collect();
    assert_eq!(before, after);
    let options = LoadOptions {
        dtype: DType::BF16,
        ..LoadOptions::default()
    };
    let half = Opened::at(&families()[0], &options)
        .unwrap()
        .decoder(&options)
        .unwrap();
    assert!(
        Trainable::full(half)
            .unwrap_err()
            .to_string()
            .contains("f32")
    );
}
