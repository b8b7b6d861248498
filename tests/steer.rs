//! Steering on tiny models of every family: what ablation leaves, what a shared prefix changes, what selection decides.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use candlescope::hooks::{Hooks, Vector, expand};
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, Opened};
use candlescope::steer::{
    EncodedPrompt, KlLimit, Options, PromptSet, RefusalTokens, Residuals, SelectionPolicy,
    SteerError, Validation, Where, ablation, ablation_subspace, addition, candidates, last_logits,
    log_odds, random_directions, refusal_scores, residuals, select,
};

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(kind)
}

fn open(name: &str) -> Decoder {
    let options = LoadOptions {
        dtype: DType::F32,
        ..LoadOptions::default()
    };
    let path = fixture("models").join(name);
    Opened::at(&path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

const FAMILIES: [&str; 9] = [
    "llama", "gemma2", "gemma3", "olmo2", "gpt2", "gpt_neox", "qwen2", "qwen3", "phi3",
];

/// `n` prompts of a shared opening, 1 to 5 tokens that depend on `salt`, and a tail of two.
fn prompts(n: usize, salt: u32) -> Vec<EncodedPrompt> {
    let make = |i: usize| {
        let mut ids = vec![3, 1, 4, 1, 5];
        ids.extend((0..=i % 5).map(|j| 7 + (salt + 11 * i as u32 + 5 * j as u32) % 40));
        let end = ids.len() - 1;
        ids.extend([2, 6]);
        EncodedPrompt {
            id: format!("p{i}"),
            instruction_end: end,
            tail: end + 1..ids.len(),
            ids,
        }
    };
    (0..n).map(make).collect()
}

fn unit(model: &Decoder, seed: u64) -> Vector {
    random_directions(1, model.config().d_model, seed)
        .unwrap()
        .remove(0)
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

/// Largest |x·r| / |x| over all positions of every stream of the model.
fn component(model: &Decoder, r: &[f32], edits: Hooks) -> f64 {
    let prompts = prompts(4, 0);
    let rows: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
    let batch = Batch::new(&rows).unwrap();
    let points = expand("resid_post.*", model.config()).unwrap();
    let hooks = points.iter().fold(edits, |hooks, &at| hooks.capture(at));
    let out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
    let mut worst = 0.0f64;
    for at in &points {
        let x = out.captured[at].to_vec3::<f32>().unwrap();
        for (row, pad) in x.iter().zip(batch.pad()) {
            for position in &row[*pad..] {
                worst = worst.max(dot(position, r).abs() / norm(position));
            }
        }
    }
    worst
}

#[test]
fn ablation_leaves_no_component_in_any_stream_of_any_family() {
    for name in FAMILIES {
        let model = open(name);
        let r = unit(&model, 1);
        let base = component(&model, &r, Hooks::new());
        let left = component(&model, &r, Hooks::new().edits(ablation(&r, model.config())));
        assert!(base > 1e-2, "{name}: nothing to remove ({base:.1e})");
        assert!(left < 1e-5, "{name}: {left:.1e} of {base:.1e} is left");
    }
}

#[test]
fn ablating_module_outputs_is_not_enough_under_a_post_norm() {
    // Why `ablation` edits what is added, not what a module returns: on Gemma 2 and OLMo 2 the norm's gain brings the
    // component back.
    for name in ["gemma2", "olmo2"] {
        let model = open(name);
        let r = unit(&model, 1);
        let mut edits = ablation(&r, model.config());
        edits.retain(|e| e.at.point.info().name == "resid_pre");
        for point in ["attn_out.*", "mlp_out.*"] {
            for at in expand(point, model.config()).unwrap() {
                let op = edits[0].op.clone();
                edits.push(candlescope::hooks::Edit::new(at, op));
            }
        }
        let left = component(&model, &r, Hooks::new().edits(edits));
        assert!(left > 1e-3, "{name}: {left:.1e}");
    }
}

#[test]
fn a_subspace_is_removed_whole() {
    for name in ["llama", "gemma2"] {
        let model = open(name);
        let (a, b) = (unit(&model, 1), unit(&model, 2));
        let both: Vector = Arc::new(a.iter().zip(b.iter()).map(|(a, b)| a + 0.5 * b).collect());
        let edits = ablation_subspace(&[a.clone(), both], model.config());
        for r in [&a, &b] {
            assert!(component(&model, r, Hooks::new().edits(edits.clone())) < 1e-5);
        }
    }
}

/// Logits of each prompt run alone and whole.
fn alone(model: &Decoder, prompts: &[EncodedPrompt], hooks: &Hooks) -> Vec<Vec<f32>> {
    prompts
        .iter()
        .map(|p| {
            let batch = Batch::single(&p.ids).unwrap();
            let out = model.forward(&batch, hooks, LogitsAt::Last).unwrap();
            let logits = out.logits().unwrap().flatten_all().unwrap();
            logits.to_vec1::<f32>().unwrap()
        })
        .collect()
}

fn batched(
    model: &Decoder,
    prompts: &[EncodedPrompt],
    hooks: &Hooks,
    batch: usize,
) -> Vec<Vec<f32>> {
    let options = Options {
        batch,
        ..Options::default()
    };
    let mut out = vec![Vec::new(); prompts.len()];
    last_logits(model, prompts, hooks, &options, &mut |i, row| {
        assert!(out[i].is_empty(), "prompt {i} came twice");
        out[i] = row.to_vec();
    })
    .unwrap();
    out
}

fn worst(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_shared_prefix_and_batching_do_not_change_the_logits() {
    for name in FAMILIES {
        let model = open(name);
        let prompts = prompts(7, 3);
        assert_eq!(PromptSet::new(&prompts).shared(), 5);
        let r = unit(&model, 1);
        let long: Vector = Arc::new(r.iter().map(|x| 3.0 * x).collect());
        let cases = [
            ("base", Hooks::new()),
            ("ablation", Hooks::new().edits(ablation(&r, model.config()))),
            ("addition", Hooks::new().edits(addition(&long, 1, 1.0))),
        ];
        let base = alone(&model, &prompts, &Hooks::new());
        for (case, hooks) in cases {
            let expected = alone(&model, &prompts, &hooks);
            let found = batched(&model, &prompts, &hooks, 3);
            let scale = expected.iter().flatten().fold(0f32, |m, x| m.max(x.abs()));
            assert_eq!(found, expected, "{name} {case}");
            if case != "base" {
                let change = worst(&base, &expected) / scale;
                assert!(
                    change > 1e-3,
                    "{name} {case} changes nothing ({change:.1e})"
                );
            }
        }
    }
}

#[test]
fn residuals_are_the_streams_at_the_places_asked_for() {
    for name in ["llama", "gpt2", "gpt_neox", "gemma2"] {
        let model = open(name);
        let n_layers = model.config().n_layers;
        let mut prompts = prompts(6, 9);
        // A prompt whose instruction ends earlier than the others', and one that is all tail but one token.
        prompts[4].instruction_end = 6;
        prompts[0].instruction_end = 0;
        let layers = [n_layers, 0, 1];
        let wheres = [Where::InstructionEnd, Where::FromEnd(1), Where::FromEnd(2)];
        let options = Options {
            batch: 4,
            ..Options::default()
        };
        let found = residuals(&model, &prompts, &layers, &wheres, &options).unwrap();
        assert_eq!((found.n(), found.d()), (6, model.config().d_model));
        for (i, prompt) in prompts.iter().enumerate() {
            for (l, &layer) in layers.iter().enumerate() {
                let point = if layer == n_layers {
                    format!("resid_post.{}", n_layers - 1)
                } else {
                    format!("resid_pre.{layer}")
                };
                let at = expand(&point, model.config()).unwrap()[0];
                let batch = Batch::single(&prompt.ids).unwrap();
                let hooks = Hooks::new().capture(at);
                let out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
                let stream = out.captured[&at].to_vec3::<f32>().unwrap().remove(0);
                let last = prompt.ids.len() - 1;
                for (w, index) in [prompt.instruction_end, last, last - 1]
                    .into_iter()
                    .enumerate()
                {
                    let row = found.at(l, w).row(i).to_vec();
                    let difference: Vec<f32> =
                        row.iter().zip(&stream[index]).map(|(a, b)| a - b).collect();
                    assert!(
                        norm(&difference) < 1e-5 * norm(&stream[index]),
                        "{name} prompt {i} {point} {w}"
                    );
                }
            }
        }
    }
}

#[test]
fn places_that_do_not_exist_are_refused_by_name() {
    let model = open("llama");
    let prompts = prompts(3, 0);
    let read = |layers: &[usize], wheres: &[Where]| {
        residuals(&model, &prompts, layers, wheres, &Options::default()).unwrap_err()
    };
    let layer = read(&[model.config().n_layers + 1], &[Where::FromEnd(1)]);
    assert!(matches!(layer, SteerError::Layer { .. }), "{layer}");
    let position = read(&[0], &[Where::FromEnd(9)]).to_string();
    assert_eq!(position, "prompt `p0` has 8 tokens and no position -9");
    assert!(matches!(
        read(&[0], &[Where::FromEnd(0)]),
        SteerError::NoPosition { .. }
    ));
}

#[test]
fn passes_report_progress_and_stop_when_told() {
    let model = open("llama");
    let prompts = prompts(5, 0);
    let cancel = AtomicBool::new(false);
    let seen = Cell::new((0, 0));
    let progress = |done, total| {
        seen.set((done, total));
        cancel.store(done >= 4, Ordering::Relaxed);
    };
    let options = Options {
        batch: 2,
        progress: Some(&progress),
        cancel: Some(&cancel),
    };
    let stopped = last_logits(&model, &prompts, &Hooks::new(), &options, &mut |_, _| {});
    assert!(matches!(stopped, Err(SteerError::Interrupted)));
    assert_eq!(seen.get(), (4, 5));
}

fn tokens() -> RefusalTokens {
    RefusalTokens {
        ids: vec![9, 20],
        words: vec!["a".into(), "b".into()],
    }
}

/// Residuals of training and validation prompts of two classes that begin differently after the shared opening.
fn material(model: &Decoder) -> (Vec<EncodedPrompt>, Vec<EncodedPrompt>, Vec<Residuals>) {
    let class = |n: usize, salt: u32, mark: u32| {
        let mut made = prompts(n, salt);
        for p in &mut made {
            p.ids[5] = mark;
        }
        made
    };
    let sets = [
        class(8, 1, 50),
        class(9, 2, 51),
        class(5, 3, 50),
        class(6, 4, 51),
    ];
    let layers: Vec<usize> = (0..=model.config().n_layers).collect();
    let wheres = Where::all(&sets[0]);
    assert_eq!(
        wheres,
        [Where::InstructionEnd, Where::FromEnd(2), Where::FromEnd(1)]
    );
    let read = |p: &Vec<EncodedPrompt>| {
        residuals(model, p, &layers, &wheres, &Options::default()).unwrap()
    };
    let found = sets.iter().map(read).collect();
    let [.., harmful, harmless] = sets;
    (harmful, harmless, found)
}

#[test]
fn candidates_are_mean_differences_of_every_place_that_has_one() {
    let model = open("llama");
    let (_, _, r) = material(&model);
    let found = candidates(&r[0], &r[1], &r[2], &r[3], 0).unwrap();
    // Template tokens have one embedding whatever was asked, so layer 0 has the instruction's end only.
    let n_layers = model.config().n_layers;
    assert_eq!(found.len(), 1 + (n_layers - 1) * 3);
    assert!(found.iter().all(|c| c.layer < n_layers));
    let last = found.last().unwrap();
    assert_eq!(
        (last.direction.layer, last.direction.position),
        (Some(n_layers - 1), Some(-1))
    );
    let (harmful, harmless) = (r[0].at(n_layers - 1, 2), r[1].at(n_layers - 1, 2));
    let mean = |x: ndarray::ArrayView2<f32>, j: usize| x.column(j).mapv(f64::from).mean().unwrap();
    for (j, &value) in last.scaled().iter().enumerate() {
        let expected = mean(harmful, j) - mean(harmless, j);
        assert!((f64::from(value) - expected).abs() < 1e-6);
    }
    assert!((norm(&last.unit()) - 1.0).abs() < 1e-6);
    let other = residuals(
        &model,
        &prompts(3, 0),
        &[0],
        &[Where::FromEnd(1)],
        &Options::default(),
    );
    let refused = candidates(&r[0], &other.unwrap(), &r[2], &r[3], 0).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("harmless training activations were read")
    );
}

#[test]
fn selection_measures_what_it_says_and_is_repeatable() {
    let model = open("llama");
    let (harmful, harmless, r) = material(&model);
    let found = candidates(&r[0], &r[1], &r[2], &r[3], 0).unwrap();
    let validation = Validation {
        harmful: &harmful,
        harmless: &harmless,
    };
    let mut policy = SelectionPolicy::default_();
    policy.max_depth = 1.0;
    policy.screen = Some(2);
    let (calls, totals) = (Cell::new((0, 0)), Cell::new(0));
    let progress = |done, total| {
        assert!(done > calls.get().0, "progress goes back");
        calls.set((done, total));
        totals.set(totals.get().max(total));
    };
    let options = Options {
        progress: Some(&progress),
        ..Options::default()
    };
    let run = |options: &Options| {
        select(&model, validation, &found, &tokens(), &policy, options).unwrap()
    };
    let selection = run(&options);
    assert_eq!(
        calls.get(),
        (totals.get(), totals.get()),
        "progress ends at its total"
    );
    assert_eq!(selection, run(&Options::default()));
    assert_eq!((selection.all.len(), selection.random_kl.len()), (2, 32));
    assert_eq!(
        (selection.n_train, selection.n_candidates),
        ((8, 9), found.len())
    );

    // The first tried candidate, measured the long way.
    let scored = &selection.all[0];
    let mean = |hooks: &Hooks, prompts: &[EncodedPrompt]| {
        let logits = alone(&model, prompts, hooks);
        logits
            .iter()
            .map(|row| log_odds(row, &tokens()))
            .sum::<f64>()
            / prompts.len() as f64
    };
    let ablated = Hooks::new().edits(ablation(&scored.candidate.unit(), model.config()));
    let added = Hooks::new().edits(addition(
        &scored.candidate.scaled(),
        scored.candidate.layer,
        1.0,
    ));
    let close = |found: f64, expected: f64, what: &str| {
        assert!(
            (found - expected).abs() < 1e-4,
            "{what}: {found} {expected}"
        );
    };
    close(
        selection.baseline_harmful.estimate,
        mean(&Hooks::new(), &harmful),
        "base",
    );
    close(scored.bypass.estimate, mean(&ablated, &harmful), "bypass");
    close(scored.induce.estimate, mean(&added, &harmless), "induce");
    close(
        scored.drop.estimate,
        selection.baseline_harmful.estimate - scored.bypass.estimate,
        "drop",
    );
    let (base, after) = (
        alone(&model, &harmless, &Hooks::new()),
        alone(&model, &harmless, &ablated),
    );
    let divergence: f64 = base
        .iter()
        .zip(&after)
        .map(|(p, q)| candlescope::steer::kl(p, q))
        .sum();
    close(scored.kl.estimate, divergence / harmless.len() as f64, "kl");

    // A random tiny model has no causal direction; what comes back says so.
    assert!(!selection.causal);
    assert!(
        selection
            .reason
            .as_ref()
            .unwrap()
            .starts_with("none of 2 candidates is admissible")
    );
    let best = selection
        .all
        .iter()
        .map(|s| s.candidate.separation)
        .fold(0.0, f64::max);
    assert_eq!(selection.chosen.candidate.separation, best);

    // With limits that anything passes, the lowest bypass wins.
    policy.min_induce = -99.0;
    policy.needs_drop = false;
    policy.kl = KlLimit::Absolute { max: 99.0 };
    let loose = select(
        &model,
        validation,
        &found,
        &tokens(),
        &policy,
        &Options::default(),
    )
    .unwrap();
    let lowest = loose
        .all
        .iter()
        .map(|s| s.bypass.estimate)
        .fold(f64::INFINITY, f64::min);
    assert!(loose.causal && loose.reason.is_none() && loose.random_kl.is_empty());
    assert_eq!(loose.chosen.bypass.estimate, lowest);
}

#[test]
fn scores_come_back_in_the_order_of_the_prompts() {
    let model = open("qwen2");
    let prompts = prompts(9, 2);
    let scores = refusal_scores(
        &model,
        &prompts,
        &Hooks::new(),
        &tokens(),
        &Options::default(),
    )
    .unwrap();
    for (score, logits) in scores.iter().zip(alone(&model, &prompts, &Hooks::new())) {
        assert!((score - log_odds(&logits, &tokens())).abs() < 1e-4);
    }
}
