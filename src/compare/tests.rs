//! Comparisons against numbers worked out by hand, against lens, stream and KL, and of a checkpoint with itself.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling};
use ndarray::{Array1, Array2};

use super::*;
use crate::features::Splice;
use crate::hooks::{HookPoint, Hooks, Point};
use crate::lens::{LensOptions, Positions, StreamOptions, logit_lens, stream_lens};
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt, ModelError};
use crate::steer;

const TEXT: &str = "the red house by the river, the red";

fn toys() -> (Checkpoint, Checkpoint, Vec<u32>) {
    let (a, b) = (Checkpoint::toy(0).unwrap(), Checkpoint::toy(1).unwrap());
    let ids = a.tokenizer.encode(TEXT, true).unwrap();
    (a, b, ids)
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn logits(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let out = model.forward(&Batch::single(ids).unwrap(), &Hooks::new(), LogitsAt::Last);
    let logits = out.unwrap().logits().unwrap().to_dtype(DType::F32).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_moment_is_what_lens_stream_and_model_say() {
    let (model, _, ids) = toys();
    let position = 4;
    let wave: Vec<f32> = (0..model.config().d_model)
        .map(|i| (i % 5) as f32 - 1.5)
        .collect();
    let refusal = steer::RefusalTokens {
        ids: vec![300, 301],
        words: Vec::new(),
    };
    let found = moment(
        &model.decoder,
        &ids,
        &MomentOptions {
            position,
            top_k: 3,
            direction: Some(wave.clone()),
            refusal: Some(refusal.clone()),
        },
    )
    .unwrap();
    let at: Positions = position.to_string().parse().unwrap();
    let options = LensOptions {
        top_k: 3,
        positions: at.clone(),
        ..LensOptions::default()
    };
    let lens = logit_lens(&model.decoder, &ids, &options, &[]).unwrap();
    let options = StreamOptions {
        positions: at,
        direction: Some(wave),
        ..StreamOptions::default()
    };
    let stream = stream_lens(&model.decoder, &ids, &options, &[]).unwrap();
    let dots = stream.projections.unwrap().dots;
    assert_eq!(found.layers.len(), model.config().n_layers + 1);
    for (i, layer) in found.layers.iter().enumerate() {
        assert_eq!(layer.row, lens.rows[i]);
        let cell = lens.cell(i, 0);
        for (ours, theirs) in layer.top.iter().zip(&cell.top) {
            assert_eq!(ours.id, theirs.id, "{i}");
            assert!((ours.probability - theirs.probability).abs() < 1e-6);
        }
        assert!((layer.norm - cell.norm).abs() < 1e-4 * cell.norm);
        assert!((layer.along.unwrap() - dots[i][0]).abs() < 1e-4);
    }
    // The last layer is the model.
    let own = logits(&model.decoder, &ids[..=position]);
    for (ours, theirs) in found.top(3).iter().zip(&found.layers.last().unwrap().top) {
        assert_eq!(ours.id, theirs.id);
        assert!((ours.probability - theirs.probability).abs() < 1e-6);
    }
    let score = steer::log_odds(&own, &refusal);
    assert!((found.layers.last().unwrap().refusal.unwrap() - score).abs() < 1e-4);
    let sum: f64 = (0..own.len() as u32)
        .map(|id| found.probability(id).unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    assert_eq!(found.probability(own.len() as u32), None);
    assert_eq!(found.kl_from(&found), Some(0.0));
}

#[test]
fn a_moment_is_refused_where_there_is_none() {
    let (model, _, ids) = toys();
    let said = |options: MomentOptions| {
        moment(&model.decoder, &ids, &options)
            .unwrap_err()
            .to_string()
    };
    let options = MomentOptions {
        position: 99,
        top_k: 1,
        ..MomentOptions::default()
    };
    assert!(said(options).contains("position 99 is out of range"));
    assert!(said(MomentOptions::default()).contains("top-k is 0"));
    let short = MomentOptions {
        top_k: 1,
        direction: Some(vec![1.0]),
        ..MomentOptions::default()
    };
    assert!(said(short).contains("found 1"));
    let zero = vec![0.0; model.config().d_model];
    let zero = MomentOptions {
        top_k: 1,
        direction: Some(zero),
        ..MomentOptions::default()
    };
    assert!(said(zero).contains("length 0"));
}

#[test]
fn a_checkpoint_beside_itself_has_no_change() {
    let (model, _, ids) = toys();
    let own = &model.decoder;
    let changes = weight_changes(own, own, &mut go_on).unwrap();
    assert!(!changes.is_empty() && changes.iter().all(|c| c.relative == 0.0));
    let tokens = token_changes(own, own, &ids).unwrap();
    assert_eq!(tokens.len(), ids.len());
    assert!(tokens.iter().all(|t| t.kl == 0.0 && t.top[0] == t.top[1]));
    let parted = parting(own, own, &ids, 6, &[]).unwrap();
    assert_eq!(parted.fork, None);
    assert_eq!(parted.answers[0], parted.answers[1]);
    assert_eq!(parted.answers[0].len(), 6);
}

#[test]
fn a_weight_that_was_made_larger_has_moved_by_as_much() {
    let (model, ..) = toys();
    let mut other = model.decoder.clone();
    let down = &mut other.weights_mut().layers[2].down.weight;
    *down = (down.clone() * 1.25).unwrap();
    // One number of a norm's gain, by hand: ‖change‖ = 3, ‖gain‖ from its own numbers.
    let gain = &mut other.weights_mut().final_norm.gain;
    let values: Vec<f32> = gain.to_vec1().unwrap();
    let length = values.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let mut moved = values.clone();
    moved[1] += 3.0;
    *gain = Tensor::new(moved, gain.device()).unwrap();
    let changes = weight_changes(&model.decoder, &other, &mut go_on).unwrap();
    for change in &changes {
        let expected = match change.name().as_str() {
            "layers.2.down" => 0.25,
            "final_norm" => 3.0 / length,
            _ => 0.0,
        };
        assert!((change.relative - expected).abs() < 1e-6, "{change:?}");
    }
    let named = |name: &str| changes.iter().filter(|c| c.name() == name).count();
    assert_eq!(
        [named("layers.2.down"), named("final_norm"), named("embed")],
        [1, 1, 1]
    );
    // From nothing to something is no share of anything.
    let zero = &mut other.weights_mut().layers[0].q.weight;
    *zero = zero.zeros_like().unwrap();
    let back = weight_changes(&other, &model.decoder, &mut go_on).unwrap();
    let q = back.iter().find(|c| c.name() == "layers.0.q").unwrap();
    assert_eq!(q.relative, f64::INFINITY);
}

#[test]
fn weights_are_compared_until_somebody_stops_it() {
    let (a, b, _) = toys();
    let mut heard = Vec::new();
    let mut stop = |done: usize, of: usize| {
        heard.push((done, of));
        if done == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let ended = weight_changes(&a.decoder, &b.decoder, &mut stop);
    assert!(matches!(
        ended,
        Err(CompareError::Model(ModelError::Cancelled))
    ));
    assert_eq!(heard, [(0, 5), (1, 5), (2, 5)]);
}

#[test]
fn tokens_and_answers_part_where_the_models_do() {
    let (a, b, ids) = toys();
    let tokens = token_changes(&a.decoder, &b.decoder, &ids).unwrap();
    for (at, token) in tokens.iter().enumerate() {
        let (p, q) = (
            logits(&a.decoder, &ids[..=at]),
            logits(&b.decoder, &ids[..=at]),
        );
        let expected = steer::kl(&p, &q);
        assert!(
            (token.kl - expected).abs() < 1e-4 * expected.max(1.0),
            "{at}"
        );
        let best = |l: &[f32]| (0..l.len()).max_by(|x, y| l[*x].total_cmp(&l[*y])).unwrap() as u32;
        assert_eq!([token.top[0].id, token.top[1].id], [best(&p), best(&q)]);
    }
    let parted = parting(&a.decoder, &b.decoder, &ids, 8, &[]).unwrap();
    let fork = parted.fork.unwrap();
    let [one, two] = &parted.answers;
    assert_eq!(one[..fork.at], two[..fork.at]);
    assert_eq!([one[fork.at], two[fork.at]], fork.ids);
    assert_ne!(fork.ids[0], fork.ids[1]);
    // Each says what it finds likelier.
    assert!(fork.probabilities[0][0] > fork.probabilities[0][1]);
    assert!(fork.probabilities[1][1] > fork.probabilities[1][0]);
    let said: Vec<u32> = ids.iter().chain(&one[..fork.at]).copied().collect();
    let p = logits(&a.decoder, &said);
    let whole: f64 = p.iter().map(|x| f64::from(*x).exp()).sum();
    let expected = f64::from(p[fork.ids[0] as usize]).exp() / whole;
    assert!((fork.probabilities[0][0] - expected).abs() < 1e-5);
    let long = vec![ids[0]; tokens::MOST_TOKENS + 1];
    let refused = token_changes(&a.decoder, &b.decoder, &long).unwrap_err();
    assert!(refused.to_string().contains("513 tokens"), "{refused}");
}

/// A latent that fires where one number of the stream at `embed` is above a bound, for each bound.
fn dictionary(model: &Checkpoint, bounds: &[f32]) -> Splice {
    let d = model.config().d_model;
    let at = HookPoint::new(Point::Embed, 0);
    let mut encoder = Array2::zeros((bounds.len(), d));
    encoder.column_mut(0).fill(1.0);
    let parts = Parts {
        decoder: encoder.clone(),
        encoder,
        encoder_bias: Array1::zeros(bounds.len()),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::JumpRelu {
            threshold: Array1::from(bounds.to_vec()),
        },
        skip: None,
        scaling: Scaling::None,
        about: About {
            reads: vec![at.to_string()],
            ..About::default()
        },
    };
    let dictionary = Arc::new(Dictionary::new(parts).unwrap());
    Splice::new(dictionary, "bounds", [at, at], model.config()).unwrap()
}

#[test]
fn latents_are_gained_and_lost_with_the_number_that_they_read() {
    let (model, _, ids) = toys();
    let splice = dictionary(&model, &[0.5, 5.0, 50.0]);
    // The embedding of one token of the text is set by hand: 1 before, 10 after.
    let token = *ids.iter().skip(1).find(|id| **id != ids[0]).unwrap();
    let at = ids.iter().skip(1).position(|id| *id == token).unwrap() + 1;
    let with = |value: f32| {
        let mut decoder = model.decoder.clone();
        let embed = &mut decoder.weights_mut().embed;
        let (rows, d) = embed.dims2().unwrap();
        let mut numbers: Vec<Vec<f32>> = embed.to_vec2().unwrap();
        for row in &mut numbers {
            row[0] = 0.0;
        }
        numbers[token as usize][0] = value;
        let flat: Vec<f32> = numbers.into_iter().flatten().collect();
        *embed = Tensor::from_vec(flat, (rows, d), embed.device()).unwrap();
        decoder
    };
    let (before, after) = (with(1.0), with(10.0));
    let found = latents_on(&before, &after, &splice, &ids).unwrap();
    let gained = Latent {
        latent: 1,
        value: 10.0,
        position: at,
    };
    assert_eq!(
        found,
        Crossed {
            gained: vec![gained],
            lost: Vec::new(),
            both: 1
        }
    );
    let back = latents_on(&after, &before, &splice, &ids).unwrap();
    assert_eq!((back.lost, back.gained.len()), (vec![gained], 0));
    let same = latents_on(&after, &after, &splice, &ids).unwrap();
    assert_eq!((same.both, same.gained.len() + same.lost.len()), (2, 0));
}

#[test]
fn other_architectures_are_refused_by_name() {
    let (model, ..) = toys();
    let mut other = model.decoder.clone();
    other.weights_mut().layers[1].up.weight =
        Tensor::zeros((3, 5), DType::F32, &candle_core::Device::Cpu).unwrap();
    let refused = weight_changes(&model.decoder, &other, &mut go_on).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("layers.1.up") && said.contains("[3, 5]"),
        "{said}"
    );
}
