//! The lens against the model itself (every family), against arithmetic by hand, and in chunks.
#![allow(clippy::unwrap_used)]

mod attention;
mod components;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;

use super::logit::in_chunks;
use super::{LensOptions, LensRow, LogitLens, logit_lens};
use crate::files::{SafetensorsFolder, TensorSource};
use crate::hooks::{Edit, EditOp, HookPoint, Hooks, Point};
use crate::model::{Batch, Decoder, LoadOptions, LogitsAt, Opened, check};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

fn open(folder: &Path) -> (Decoder, Vec<u32>) {
    let options = LoadOptions::default();
    let model = Opened::at(folder, &options)
        .unwrap()
        .decoder(&options)
        .unwrap();
    let dump = SafetensorsFolder::open(&folder.join("expected.safetensors")).unwrap();
    let ids = check::input_rows(&dump).unwrap().swap_remove(0);
    (model, ids)
}

fn everything(model: &Decoder) -> LensOptions {
    LensOptions {
        top_k: model.config().vocab_size,
        ..LensOptions::default()
    }
}

/// Probabilities by token at one cell.
fn distribution(lens: &LogitLens, row: usize, position: usize) -> Vec<f64> {
    let cell = lens.cell(row, position);
    let mut out = vec![f64::NAN; cell.top.len()];
    for ranked in &cell.top {
        out[ranked.id as usize] = ranked.probability;
    }
    out
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.iter().map(|x| (x - max).exp() / sum).collect()
}

fn own(model: &Decoder, ids: &[u32], hooks: &Hooks) -> Vec<Vec<f64>> {
    let out = model
        .forward(&Batch::single(ids).unwrap(), hooks, LogitsAt::All)
        .unwrap();
    let logits = out.logits().unwrap().squeeze(0).unwrap();
    let rows: Vec<Vec<f64>> = logits.to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    rows.iter().map(|row| softmax(row)).collect()
}

/// Logits are f32: one that differs in its last bit moves a probability by about 1e-7, so 1e-13 means the same logits.
fn assert_same(ours: &[f64], model: &[f64], what: &str) {
    for (a, b) in ours.iter().zip(model) {
        assert!((a - b).abs() < 1e-13, "{what}: {a} {b}");
    }
}

#[test]
fn in_every_family_the_last_row_is_the_model_and_every_row_is_a_distribution() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().to_string();
        let (model, ids) = open(&folder);
        let lens = logit_lens(&model, &ids, &everything(&model), &[]).unwrap();
        let last = lens.rows.len() - 1;
        assert_eq!(lens.rows.len(), model.config().n_layers + 1);
        let truth = own(&model, &ids, &Hooks::new());
        for (i, truth) in truth.iter().enumerate() {
            assert_same(&distribution(&lens, last, i), truth, &name);
            assert_eq!(lens.cell(last, i).kl, 0.0, "{name}");
            assert_eq!(lens.cell(last, i).target_rank, 1, "{name}");
            for row in 0..=last {
                let cell = lens.cell(row, i);
                let sum: f64 = cell.top.iter().map(|t| t.probability).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{name} {row} {sum}");
                assert!(cell.kl >= 0.0 && cell.kl.is_finite(), "{name} {row}");
                let most = (model.config().vocab_size as f64).ln() + 1e-12;
                assert!((0.0..=most).contains(&cell.entropy), "{name} {row}");
                let p = cell.top.iter().find(|t| t.id == lens.targets[i]).unwrap();
                assert!((p.probability.ln() - cell.target_log_prob).abs() < 1e-9);
                assert_eq!(cell.top[cell.target_rank - 1].id, lens.targets[i]);
                assert!(
                    cell.top
                        .windows(2)
                        .all(|w| w[0].probability >= w[1].probability)
                );
            }
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} checkpoints");
}

/// Golden: the hidden states are those transformers dumped (embeddings of this fixture are tied); norm, unembedding and statistics are written out here.
#[test]
fn early_layers_equal_arithmetic_by_hand_on_the_dumped_hidden_states() {
    let folder = fixtures().join("llama");
    let (model, ids) = open(&folder);
    let dump = SafetensorsFolder::open(&folder.join("expected.safetensors")).unwrap();
    let weights = SafetensorsFolder::open(&folder.join("model.safetensors")).unwrap();
    let vector = |source: &SafetensorsFolder, name: &str| -> Vec<f64> {
        let tensor = source.load(name, DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    let gain = vector(&weights, "model.norm.weight");
    let head = vector(&weights, "model.embed_tokens.weight");
    let d = gain.len();
    let final_hidden = vector(&dump, &format!("hidden.{}", model.config().n_layers));
    let logits = |normed: &[f64]| -> Vec<f64> {
        head.chunks(d)
            .map(|w| w.iter().zip(normed).map(|(a, b)| a * b).sum())
            .collect()
    };
    let lens = logit_lens(&model, &ids, &everything(&model), &[]).unwrap();
    for row in 0..model.config().n_layers {
        let hidden = vector(&dump, &format!("hidden.{row}"));
        for i in 0..ids.len() {
            let x = &hidden[i * d..(i + 1) * d];
            let square: f64 = x.iter().map(|x| x * x).sum();
            let scale = (square / d as f64 + model.config().norm_eps).sqrt().recip();
            let normed: Vec<f64> = x.iter().zip(&gain).map(|(x, g)| x * scale * g).collect();
            let p = softmax(&logits(&normed));
            let f = softmax(&logits(&final_hidden[i * d..(i + 1) * d]));
            let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
            let kl: f64 = f.iter().zip(&p).map(|(f, p)| f * (f / p).ln()).sum();
            let cell = lens.cell(row, i);
            for (ours, by_hand) in distribution(&lens, row, i).iter().zip(&p) {
                assert!((ours - by_hand).abs() < 2e-5, "{ours} {by_hand}");
            }
            assert!((cell.entropy - entropy).abs() < 2e-4, "{row} {i}");
            assert!((cell.kl - kl).abs() < 2e-4, "{row} {i}");
            assert!((cell.norm - square.sqrt()).abs() < 2e-5 * square.sqrt());
        }
    }
}

#[test]
fn chunks_and_selections_change_nothing_but_rounding() {
    let (model, ids) = open(&fixtures().join("gemma2"));
    let whole = logit_lens(&model, &ids, &everything(&model), &[]).unwrap();
    for chunk in [1, 3, 100] {
        let parts = in_chunks(&model, &ids, &everything(&model), &[], chunk).unwrap();
        assert_eq!(parts.targets, whole.targets);
        for (a, b) in parts
            .cells
            .iter()
            .flatten()
            .zip(whole.cells.iter().flatten())
        {
            assert!((a.kl - b.kl).abs() < 1e-5 && (a.entropy - b.entropy).abs() < 1e-5);
        }
    }
    let some = LensOptions {
        positions: "1,-1".parse().unwrap(),
        rows: vec![LensRow::Layer(0)],
        target: Some(7),
        ..everything(&model)
    };
    let some = logit_lens(&model, &ids, &some, &[]).unwrap();
    assert_eq!(some.positions, [1, ids.len() - 1]);
    assert_eq!(some.tokens, [ids[1], ids[ids.len() - 1]]);
    assert_eq!((some.cells.len(), some.targets), (1, vec![7, 7]));
    assert!((some.cells[0][0].kl - whole.cells[1][1].kl).abs() < 1e-5);
}

#[test]
fn under_an_edit_the_last_row_is_the_edited_model() {
    let (model, ids) = open(&fixtures().join("qwen2"));
    let d = model.config().d_model;
    let direction: Vec<f32> = (0..d).map(|i| ((i * 7 % 5) as f32) - 2.0).collect();
    let edit = |point, layer| {
        let op = EditOp::Ablate {
            directions: vec![Arc::new(direction.clone())],
            amount: 1.0,
        };
        Edit::new(HookPoint::new(point, layer), op)
    };
    let last = model.config().n_layers - 1;
    let edits = vec![edit(Point::ResidPost, 0), edit(Point::ResidPost, last)];
    let lens = logit_lens(&model, &ids, &everything(&model), &edits).unwrap();
    let plain = own(&model, &ids, &Hooks::new());
    let edited = own(&model, &ids, &Hooks::new().edits(edits));
    for (i, truth) in edited.iter().enumerate() {
        let row = distribution(&lens, last + 1, i);
        assert_same(&row, truth, "edited");
        assert!(row.iter().zip(&plain[i]).any(|(a, b)| (a - b).abs() > 1e-6));
    }
    let after = edit(Point::FinalNorm, 0);
    let error = logit_lens(&model, &ids, &everything(&model), &[after]).unwrap_err();
    assert!(error.to_string().contains("final_norm"), "{error}");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let (model, ids) = open(&fixtures().join("gpt2"));
    let read = |options: LensOptions| {
        logit_lens(&model, &ids, &options, &[])
            .unwrap_err()
            .to_string()
    };
    let base = LensOptions::default;
    assert!(read(LensOptions { top_k: 0, ..base() }).contains("top-k"));
    assert!(
        read(LensOptions {
            rows: vec![LensRow::Layer(99)],
            ..base()
        })
        .contains("99")
    );
    assert!(
        read(LensOptions {
            target: Some(u32::MAX),
            ..base()
        })
        .contains("vocabulary")
    );
    assert!(
        read(LensOptions {
            positions: "99".parse().unwrap(),
            ..base()
        })
        .contains("99")
    );
    assert!(logit_lens(&model, &[], &base(), &[]).is_err());
}
