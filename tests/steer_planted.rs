//! A direction planted in a small model, where the truth is known: extraction finds it, ablation removes what hangs on it,
//! addition brings that about, and the selection takes it and gives the same where it was interrupted.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::{DType, Tensor};
use candlescope::hooks::Hooks;
use candlescope::model::{Decoder, LoadOptions, Opened};
use candlescope::steer::grid_file::{GridFile, Key};
use candlescope::steer::{
    Candidate, EncodedPrompt, Method, Options, RefusalTokens, SelectionPolicy, SteerError,
    Validation, Where, ablation, addition, candidates_by, random_directions, refusal_scores,
    residuals, select, select_noting,
};

/// A token that only harmful prompts end with, its harmless twin, and the token that a refusal opens with.
const MARK: u32 = 50;
const TWIN: u32 = 51;
const REFUSAL: u32 = 9;

/// A llama whose embedding of the mark is that of its twin plus a planted vector, which the refusal's row of the head reads.
fn planted() -> (Decoder, Vec<f32>, f32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
    let options = LoadOptions::default();
    let plain = Opened::at(&path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap();
    let d = plain.config().d_model;
    let unit = random_directions(1, d, 7).unwrap().remove(0).to_vec();
    let mut config = plain.config().clone();
    let mut weights = plain.weights().clone();
    config.tied = false;
    let rows = |t: &Tensor| t.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    let (mut table, mut head) = (rows(&weights.embed), rows(&weights.head));
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let twin = table[TWIN as usize].clone();
    // Large, so that what the blocks write in answer to it stays small beside it.
    let planted = 12.0 * length(&twin);
    table[MARK as usize] = twin
        .iter()
        .zip(&unit)
        .map(|(t, u)| t + planted * u)
        .collect();
    head[REFUSAL as usize] = unit.iter().map(|u| 3.0 * u).collect();
    let device = weights.embed.device().clone();
    weights.embed = Tensor::new(table, &device).unwrap();
    weights.head = Tensor::new(head, &device).unwrap();
    (Decoder::new(config, weights), unit, planted)
}

/// `n` prompts of words that are drawn, and at the end the mark or its twin.
fn prompts(n: u32, salt: u32, last: u32) -> Vec<EncodedPrompt> {
    let make = |i: u32| {
        let mut ids = vec![3, 1, 4];
        ids.extend((0..2 + i % 3).map(|j| 60 + (salt + 11 * i + 5 * j) % 40));
        ids.push(last);
        EncodedPrompt {
            id: format!("p{i}"),
            instruction_end: ids.len() - 1,
            tail: ids.len()..ids.len(),
            ids,
        }
    };
    (0..n).map(make).collect()
}

fn tokens() -> RefusalTokens {
    RefusalTokens {
        ids: vec![REFUSAL],
        words: vec!["no".into()],
    }
}

fn found(model: &Decoder, method: Method) -> Vec<Candidate> {
    let layers: Vec<usize> = (0..model.config().n_layers).collect();
    let read = |p: &[EncodedPrompt]| {
        residuals(model, p, &layers, &[Where::FromEnd(1)], &Options::default()).unwrap()
    };
    let train = [read(&prompts(24, 1, MARK)), read(&prompts(24, 2, TWIN))];
    let held = [read(&prompts(6, 3, MARK)), read(&prompts(6, 4, TWIN))];
    candidates_by(method, [&train[0], &train[1]], [&held[0], &held[1]], 0).unwrap()
}

fn cosine(candidate: &Candidate, unit: &[f32]) -> f32 {
    let pairs = candidate.direction.vector.iter().zip(unit);
    pairs.map(|(a, b)| a * b).sum()
}

#[test]
fn extraction_finds_it() {
    let (model, unit, planted) = planted();
    let means = found(&model, Method::Means);
    assert!(cosine(&means[0], &unit) > 0.999_999);
    // What stands before the last token differs between prompts, the embedding of the last does not.
    assert!((means[0].direction.norm / f64::from(planted) - 1.0).abs() < 1e-5);
    for candidate in &means {
        let found = cosine(candidate, &unit);
        // Later, what the blocks wrote in answer to it is part of the difference.
        assert!(found > 0.8, "layer {}: {found}", candidate.layer);
        assert!((candidate.separation - 1.0).abs() < 1e-12);
    }
    for method in [Method::Pca, Method::Logistic] {
        for candidate in found(&model, method).iter().filter(|c| c.layer > 0) {
            let found = cosine(candidate, &unit);
            assert!(found > 0.7, "{method:?} layer {}: {found}", candidate.layer);
        }
    }
}

#[test]
fn ablation_removes_and_addition_induces() {
    let (model, unit, planted) = planted();
    let (harmful, harmless) = (prompts(8, 5, MARK), prompts(8, 5, TWIN));
    let scores = |prompts: &[EncodedPrompt], hooks: &Hooks| {
        refusal_scores(&model, prompts, hooks, &tokens(), &Options::default()).unwrap()
    };
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let none = Hooks::new();
    let (refuses, answers) = (scores(&harmful, &none), scores(&harmless, &none));
    assert!(
        mean(&refuses) > mean(&answers) + 3.0,
        "{refuses:?} {answers:?}"
    );
    let vector = unit.clone().into();
    let ablated = Hooks::new().edits(ablation(&vector, model.config()));
    // Mark and twin differ by the planted vector alone, so without it the two prompts are one.
    let (a, b) = (scores(&harmful, &ablated), scores(&harmless, &ablated));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let added = addition(&vector, 0, f64::from(planted));
    let induced = scores(&harmless, &Hooks::new().edits(added));
    assert!(
        mean(&induced) > mean(&answers) + 3.0,
        "{induced:?} {answers:?}"
    );
}

fn policy() -> SelectionPolicy {
    SelectionPolicy {
        min_induce: -6.0,
        max_depth: 1.0,
        kl: candlescope::steer::KlLimit::Absolute { max: 10.0 },
        ..SelectionPolicy::arditi()
    }
}

fn key() -> Key {
    Key {
        schema: "test".into(),
        weights: String::new(),
        tokenizer: String::new(),
        template: String::new(),
        prompts: String::new(),
        settings: serde_json::Value::Null,
    }
}

#[test]
fn a_selection_that_was_interrupted_gives_the_bits_of_one_that_was_not() {
    let (model, unit, _) = planted();
    let (harmful, harmless) = (prompts(6, 3, MARK), prompts(6, 4, TWIN));
    let validation = Validation {
        harmful: &harmful,
        harmless: &harmless,
    };
    let candidates = found(&model, Method::Means);
    let (tokens, policy) = (tokens(), policy());
    let options = Options::default();
    let whole = select(&model, validation, &candidates, &tokens, &policy, &options).unwrap();
    assert!(whole.causal, "{:?}", whole.reason);
    assert!(cosine(&whole.chosen.candidate, &unit) > 0.8);

    let folder = tempfile::tempdir().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    // Stopped behind the first candidate: 6 + 6 prompts unedited, then 6 + 2 · 6.
    let progress = |done: usize, _: usize| {
        if done > 30 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let interrupted = Options {
        progress: Some(&progress),
        cancel: Some(&stop),
        batch: 3,
    };
    let mut grid = GridFile::open(folder.path(), &key()).unwrap();
    let cut = select_noting(
        &model,
        validation,
        &candidates,
        &tokens,
        &policy,
        &interrupted,
        &mut grid,
    );
    assert!(matches!(cut, Err(SteerError::Interrupted)));
    assert_eq!(grid.len(), 1);
    drop(grid);
    let mut grid = GridFile::open(folder.path(), &key()).unwrap();
    let rest = select_noting(
        &model,
        validation,
        &candidates,
        &tokens,
        &policy,
        &options,
        &mut grid,
    );
    assert_eq!(rest.unwrap(), whole);
    assert_eq!(grid.len(), candidates.len());
}
