//! Patterns against transformers, value norms against loops and the model's own heads, scores by hand and on planted heads.

use super::*;
use crate::lens::{
    Attention, HeadKind, LensError, attention, head_kinds, probe_heads, repeated_tokens,
};
use crate::model::Checkpoint;

/// Golden: `pattern.L` of the dumps is what transformers computed with eager attention.
#[test]
fn patterns_are_those_of_transformers_in_every_family() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let (model, ids) = open(&folder);
        let dump = SafetensorsFolder::open(&folder.join("expected.safetensors")).unwrap();
        let read = attention(&model, &ids, &[], &[]).unwrap();
        for layer in 0..model.config().n_layers {
            let Ok(theirs) = dump.load(&format!("pattern.{layer}"), DType::F32) else {
                continue;
            };
            let theirs: Vec<Vec<Vec<f32>>> = theirs.get(0).unwrap().to_vec3().unwrap();
            for (head, theirs) in theirs.iter().enumerate() {
                for (query, theirs) in theirs.iter().enumerate() {
                    for (a, b) in read.row(layer, head, query).iter().zip(theirs) {
                        assert!((a - b).abs() < 2e-5, "{} {layer}.{head}", folder.display());
                    }
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 60, "only {seen} layers");
}

/// The first token looks at itself alone, so what it takes from itself is all that the head writes there.
#[test]
fn a_value_norm_is_the_length_of_what_the_head_writes() {
    for name in ["gpt2", "gpt_neox", "qwen2", "phi3", "gemma2", "olmo2"] {
        let (model, ids) = open(&fixtures().join(name));
        let read = attention(&model, &ids, &[], &[]).unwrap();
        for layer in 0..model.config().n_layers {
            let at = HookPoint::new(Point::HeadResult, layer);
            let hooks = Hooks::new().capture(at);
            let batch = Batch::single(&ids).unwrap();
            let mut out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
            let written = out
                .captured
                .remove(&at)
                .unwrap()
                .get(0)
                .unwrap()
                .get(0)
                .unwrap();
            for (head, x) in written.to_vec2::<f32>().unwrap().iter().enumerate() {
                let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
                let ours = read.weighted_row(layer, head, 0)[0];
                assert!(
                    (ours - length).abs() <= 1e-5 * length,
                    "{name} {layer}.{head}"
                );
            }
        }
    }
}

/// Golden: `α ‖W_O v‖` written out in loops over f64, on a model whose heads share values.
#[test]
fn the_value_weighted_pattern_equals_loops_over_the_weights() {
    let (model, ids) = open(&fixtures().join("qwen2"));
    let c = model.config();
    assert!(c.n_kv_heads < c.n_heads);
    let (layer, at) = (1, HookPoint::new(Point::V, 1));
    let hooks = Hooks::new().capture(at);
    let batch = Batch::single(&ids).unwrap();
    let mut out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
    let values: Vec<Vec<Vec<f32>>> = out
        .captured
        .remove(&at)
        .unwrap()
        .get(0)
        .unwrap()
        .to_vec3()
        .unwrap();
    let w_o: Vec<Vec<f32>> = model.weights().layers[layer].o.weight.to_vec2().unwrap();
    let read = attention(&model, &ids, &[layer], &[]).unwrap();
    for head in 0..c.n_heads {
        for (query, row) in read.weighted_pattern(0, head).iter().enumerate() {
            for (key, &ours) in row.iter().enumerate() {
                let value = &values[key][head / (c.n_heads / c.n_kv_heads)];
                let mut square = 0.0;
                for out in &w_o {
                    let slice = &out[head * c.d_head..(head + 1) * c.d_head];
                    let x: f64 = slice.iter().zip(value).map(|(w, v)| f64::from(w * v)).sum();
                    square += x * x;
                }
                let by_hand = f64::from(read.row(0, head, query)[key]) * square.sqrt();
                assert!(
                    (f64::from(ours) - by_hand).abs() < 1e-5,
                    "{head} {query} {key}"
                );
            }
        }
    }
}

fn made(tokens: &[u32], rows: &[&[f32]]) -> Attention {
    let n = tokens.len();
    let mut weights = vec![0.0; n * n];
    for (query, row) in rows.iter().enumerate() {
        weights[query * n..query * n + row.len()].copy_from_slice(row);
    }
    Attention::new(vec![7], 1, tokens.to_vec(), weights, vec![1.0; n])
}

#[test]
fn scores_by_hand() {
    let rows: [&[f32]; 5] = [
        &[1.0],
        &[0.5, 0.5],
        &[0.5, 0.25, 0.25],
        &[0.125, 0.25, 0.5, 0.125],
        &[0.25, 0.0, 0.25, 0.5, 0.0],
    ];
    // Queries 2, 3, 4. Token 5 comes again at 3 (then came 6, at 2), token 6 at 4 (then came 5, at 3).
    let head = made(&[9, 5, 6, 5, 6], &rows).heads().unwrap().remove(0);
    let scores = head.scores;
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    close(scores.previous, (0.25 + 0.5 + 0.5) / 3.0);
    close(scores.first, (0.5 + 0.125 + 0.25) / 3.0);
    close(scores.current, (0.25 + 0.125) / 3.0);
    close(scores.duplicate.unwrap(), f64::midpoint(0.25, 0.25));
    close(scores.induction.unwrap(), f64::midpoint(0.5, 0.5));
    // Entropies 1.5, 1.75 and 1.5 bits.
    close(scores.entropy, (1.5 + 1.75 + 1.5) / 3.0 * 2f64.ln());
    assert_eq!(
        (head.layer, head.head, head.kind),
        (7, 0, HeadKind::Induction)
    );
}

#[test]
fn without_a_repetition_there_is_no_such_score() {
    let rows: [&[f32]; 3] = [&[1.0], &[0.5, 0.5], &[0.25, 0.375, 0.375]];
    let head = made(&[1, 2, 3], &rows).heads().unwrap().remove(0);
    assert_eq!((head.scores.duplicate, head.scores.induction), (None, None));
    assert_eq!(head.kind, HeadKind::Diffuse);
    // What came after the token before is the token itself.
    let head = made(&[1, 2, 2], &rows).heads().unwrap().remove(0);
    assert_eq!(
        (head.scores.duplicate, head.scores.induction),
        (Some(0.375), None)
    );
    let error = made(&[1, 2], &rows[..2]).heads().unwrap_err();
    assert!(
        matches!(
            error,
            LensError::TooShort {
                least: 3,
                found: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn planted_heads_are_recognised_on_repeated_random_tokens() {
    let model = Checkpoint::toy(0).unwrap();
    let ids = repeated_tokens(&model, 24, 5);
    assert_eq!((ids.len(), Some(ids[0])), (49, model.tokenizer.bos()));
    assert_eq!(ids[1..25], ids[25..]);
    assert_eq!(ids, repeated_tokens(&model, 24, 5));
    assert_ne!(ids, repeated_tokens(&model, 24, 6));
    let heads = probe_heads(&model, 24, 5, &[]).unwrap();
    assert_eq!(heads, head_kinds(&model.decoder, &ids, &[]).unwrap());
    let of = |layer, head| {
        *heads
            .iter()
            .find(|h| (h.layer, h.head) == (layer, head))
            .unwrap()
    };
    for (layer, head, kind) in [
        (0, 0, HeadKind::Previous),
        (0, 1, HeadKind::First),
        (1, 0, HeadKind::Induction),
        (1, 2, HeadKind::Current),
        (1, 3, HeadKind::First),
    ] {
        let found = of(layer, head);
        assert_eq!(found.kind, kind, "{layer}.{head}: {:?}", found.scores);
        assert!(
            found.scores.kind().1 > 0.8,
            "{layer}.{head}: {:?}",
            found.scores
        );
    }
}

#[test]
fn what_is_too_large_or_not_there_is_refused_before_any_work() {
    let model = Checkpoint::toy(0).unwrap().decoder;
    let long = vec![5; 3000];
    let error = attention(&model, &long, &[], &[]).unwrap_err();
    assert!(
        matches!(
            error,
            LensError::TooLarge {
                layers: 4,
                weights: 144_000_000,
                ..
            }
        ),
        "{error}"
    );
    let error = attention(&model, &[1, 2], &[4], &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("layer 4"), "{error}");
}
