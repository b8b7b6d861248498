//! The toy as a checkpoint like any other, and the circuit that is planted in it.
#![allow(clippy::unwrap_used)]

use candle_core::DType;

use super::*;
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::generate::{Continue, GenerateOptions, generate};
use crate::model::{Batch, LogitsAt, self_check};

fn logits(model: &Checkpoint, text: &str) -> Vec<Vec<f32>> {
    let ids = model.tokenizer.encode(text, true).unwrap();
    let batch = Batch::single(&ids).unwrap();
    let out = model
        .decoder
        .forward(&batch, &Hooks::new(), LogitsAt::All)
        .unwrap();
    out.logits().unwrap().get(0).unwrap().to_vec2().unwrap()
}

#[test]
fn a_name_is_the_toy_only_when_it_says_so() {
    assert_eq!(
        [seed("toy"), seed("TOY"), seed("toy:7")],
        [Some(0), Some(0), Some(7)]
    );
    for other in [
        "./toy", "toys", "toy:", "toy:x", "toy:-1", "org/toy", "boy:7",
    ] {
        assert_eq!(seed(other), None, "{other}");
    }
}

#[test]
fn one_seed_is_one_model_to_the_bit() {
    let (a, b, c) = (
        Checkpoint::toy(3).unwrap(),
        Checkpoint::toy(3).unwrap(),
        Checkpoint::toy(4).unwrap(),
    );
    let bits = |m: &Checkpoint| -> Vec<u32> {
        logits(m, "The cat sat")
            .concat()
            .iter()
            .map(|x| x.to_bits())
            .collect()
    };
    assert_eq!(bits(&a), bits(&b));
    assert_eq!(a.fingerprint().unwrap(), b.fingerprint().unwrap());
    assert_ne!(
        a.fingerprint().unwrap().weights,
        c.fingerprint().unwrap().weights
    );
    assert_eq!(
        a.fingerprint().unwrap().tokenizer,
        c.fingerprint().unwrap().tokenizer
    );
    assert_eq!((a.name.as_str(), c.name.as_str()), ("toy:3", "toy:4"));
}

#[test]
fn it_passes_the_checks_of_any_checkpoint_in_every_dtype() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        let model = Checkpoint::toy_as(0, &options).unwrap();
        assert_eq!(model.decoder.weight_dtype(), dtype);
        for finding in self_check::all(&model, 2e-5).unwrap() {
            assert!(finding.ok, "{dtype:?} {}: {}", finding.name, finding.found);
        }
    }
}

/// Each planted head at its place, on a text with a repetition.
#[test]
fn planted_heads_do_what_they_are_planted_for() {
    let model = Checkpoint::toy(0).unwrap();
    let text = " king queen red blue green black cat dog king queen red blue green";
    let ids = model.tokenizer.encode(text, true).unwrap();
    let at = |layer| HookPoint::new(Point::Pattern, layer);
    let hooks = (0..4).fold(Hooks::new(), |h, layer| h.capture(at(layer)));
    let batch = Batch::single(&ids).unwrap();
    let captured = model
        .decoder
        .forward(&batch, &hooks, LogitsAt::None)
        .unwrap()
        .captured;
    let weight = |layer: usize, head: usize, query: usize, key: usize| -> f32 {
        let pattern = captured[&at(layer)].get(0).unwrap().get(head).unwrap();
        pattern
            .get(query)
            .unwrap()
            .get(key)
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    for query in 2..ids.len() {
        assert!(weight(0, 0, query, query - 1) > 0.9, "previous {query}");
        assert!(weight(0, 1, query, 0) > 0.9, "first {query}");
        assert!(
            weight(1, 2, query, query) > 0.9,
            "current {query}: {:?}",
            (0..=query)
                .map(|key| weight(1, 2, query, key))
                .collect::<Vec<_>>()
        );
        // Tokens 9 to 13 stand at 1 to 5 too: induction looks at the token after them there, and else at the first.
        let (found, what) = if query >= 9 {
            (query - 7, "found")
        } else {
            (0, "nothing")
        };
        assert!(
            weight(1, 0, query, found) > 0.8,
            "induction {query}: {what}"
        );
    }
}

#[test]
fn it_goes_on_with_what_followed_before_and_generates_through_the_cache() {
    let model = Checkpoint::toy(0).unwrap();
    let ids = model
        .tokenizer
        .encode(" king queen red blue green black cat dog king queen", true)
        .unwrap();
    let options = GenerateOptions {
        max_new: 5,
        stop: model.stop_ids(),
        ..GenerateOptions::default()
    };
    let mut go_on = |_, _| Continue::Yes;
    let out = generate(&model.decoder, &[&ids], &options, &Hooks::new(), &mut go_on);
    let text = model.tokenizer.decode(&out.unwrap()[0].ids, true).unwrap();
    assert_eq!(text, " red blue green black cat");
}

#[test]
fn activations_are_not_degenerate() {
    let model = Checkpoint::toy(1).unwrap();
    let all = logits(&model, "The capital of France is");
    let entropy = |row: &Vec<f32>| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = row.iter().map(|x| (x - max).exp()).sum();
        let p = row.iter().map(|x| (x - max).exp() / sum);
        p.map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 })
            .sum::<f32>()
    };
    for row in &all[1..] {
        assert!((0.2..6.4).contains(&entropy(row)), "{}", entropy(row));
    }
}
