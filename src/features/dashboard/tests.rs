//! What one pass keeps, against the same counted row by row; a planted latent, whose label and logits are known.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::DType;
use candlescope_sae::{About, Activation, Codes, Dictionary, Parts, Scaling, measure::Density};
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use super::*;
use crate::activations::{Harvest, Policy};
use crate::features::Splice;
use crate::model::Checkpoint;

fn splice(model: &Checkpoint, at: &str, encoder: Array2<f32>, bias: Array1<f32>) -> Splice {
    splice_of(model, at, encoder.clone(), encoder, bias)
}

fn splice_of(
    model: &Checkpoint,
    at: &str,
    encoder: Array2<f32>,
    decoder: Array2<f32>,
    bias: Array1<f32>,
) -> Splice {
    let decoder_bias = Array1::zeros(decoder.ncols());
    let dictionary = Dictionary::new(Parts {
        encoder,
        decoder,
        encoder_bias: bias,
        decoder_bias,
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    });
    let at = at.parse().unwrap();
    Splice::new(
        Arc::new(dictionary.unwrap()),
        "made",
        [at, at],
        model.config(),
    )
    .unwrap()
}

/// What is above 0 and below in each channel.
fn both(model: &Checkpoint, at: &str) -> Splice {
    let d = model.config().d_model;
    let one = Array2::<f32>::eye(d);
    splice(
        model,
        at,
        concatenate![Axis(0), one, -&one],
        Array1::zeros(2 * d),
    )
}

fn contexts() -> Vec<Vec<u32>> {
    let of = |seed: u32| {
        (0..14)
            .map(move |i| 20 + (seed * 7 + i * i * 5) % 60)
            .collect()
    };
    (0..7).map(of).collect()
}

fn options() -> CollectOptions {
    let policy = Policy {
        first: 2,
        ..Policy::nothing()
    };
    CollectOptions {
        batch: 3,
        top: 4,
        sample: 1000,
        window: [3, 2],
        ..CollectOptions::page(policy)
    }
}

fn run(
    model: &Checkpoint,
    splice: &Splice,
    latents: &[usize],
    options: &CollectOptions,
) -> Collected {
    let mut tokens = 0;
    let collected = collect(model, splice, &contexts(), latents, options, &mut |more| {
        tokens += more;
        ControlFlow::Continue(())
    });
    assert_eq!(tokens, 7 * 14);
    collected.unwrap()
}

/// The codes of all tokens, context by context.
fn all_codes(model: &Checkpoint, splice: &Splice) -> Vec<Codes> {
    let harvest = Harvest::new(&model.decoder, &[splice.read()]).unwrap();
    let width = harvest.widths()[0];
    let of = |ids: &Vec<u32>| {
        let tokens = harvest.pass(std::slice::from_ref(ids), 0).unwrap();
        let rows = ArrayView2::from_shape((ids.len(), width), &tokens[0].values[0]);
        splice.dictionary().encode(rows.unwrap()).unwrap()
    };
    contexts().iter().map(of).collect()
}

#[test]
fn as_counted_row_by_row() {
    let model = Checkpoint::toy(0).unwrap();
    let splice = both(&model, "resid_post.1");
    let latents = [5, 64, 3, 100];
    let found = run(&model, &splice, &latents, &options());
    let codes = all_codes(&model, &splice);
    let mut density = Density::new(128);
    for context in &codes {
        let mut kept = Codes::new();
        for row in 2..context.rows() {
            let (latents, values) = context.row(row);
            kept.push(latents.iter().copied().zip(values.iter().copied()));
        }
        density.add(&kept).unwrap();
    }
    assert_eq!(found.density.fired(), density.fired());
    assert_eq!((found.density.rows(), found.tally.first), (7 * 12, 14));
    let near = |a: f32, b: f32| assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
    for (slot, &latent) in latents.iter().enumerate() {
        let value = |context: usize, row: usize| codes[context].value(row, latent as u32);
        // The strongest of each context, sorted.
        let mut strongest: Vec<(f32, usize, usize)> = (0..7)
            .filter_map(|c| {
                let rows = (2..14).map(|row| (value(c, row), c, row));
                // Of equals the first; `max_by` would give the last.
                rows.filter(|r| r.0 > 0.0)
                    .reduce(|a, b| if b.0 > a.0 { b } else { a })
            })
            .collect();
        strongest.sort_by(|a, b| b.0.total_cmp(&a.0));
        strongest.truncate(4);
        let top = found.followed[slot].top();
        assert_eq!(top.len(), strongest.len());
        for (firing, (value, context, row)) in top.iter().zip(strongest) {
            near(firing.value, value);
            assert_eq!((firing.context, firing.position), (context as u64, row));
            let window = row.saturating_sub(3)..(row + 3).min(14);
            assert_eq!(firing.tokens, contexts()[context][window.clone()]);
            for (at, found) in window.zip(&firing.values) {
                let left_out = at < 2;
                near(
                    *found,
                    if left_out {
                        0.0
                    } else {
                        codes[context].value(at, latent as u32)
                    },
                );
            }
        }
        let fired = density.fired()[latent];
        assert_eq!(
            found.followed[slot].values().counts.iter().sum::<u64>(),
            fired
        );
        // All firings are in the sample, and so the groups are quantiles.
        assert_eq!(found.followed[slot].sampled() as u64, fired);
        let mut values: Vec<f32> = (0..7)
            .flat_map(|c| (2..14).map(move |row| (c, row)))
            .map(|(c, row)| value(c, row))
            .filter(|v| *v > 0.0)
            .collect();
        values.sort_by(f32::total_cmp);
        let groups = found.groups(slot);
        assert_eq!(groups.iter().map(|g| g.size).sum::<usize>(), values.len());
        if values.is_empty() {
            // It never fires here: no groups, no companions.
            assert!(found.cofiring(slot, 128).is_empty());
            continue;
        }
        near(groups[0].high, values[values.len() - 1]);
        near(groups[groups.len() - 1].low, values[0]);
        assert!(groups.windows(2).all(|w| w[0].low >= w[1].high));
        // A latent and its opposite are never together; the best companion is as counted.
        let pairs = found.cofiring(slot, 128);
        assert!(
            pairs
                .iter()
                .all(|p| p.index != latent && p.index != (latent + 64) % 128)
        );
        // A latent that fires in every row has no correlation with any.
        let Some(best) = pairs.first() else {
            let rows = found.density.rows();
            assert!(fired < 3 || fired == rows, "{latent}: {fired} of {rows}");
            continue;
        };
        let together = |c: usize| {
            let fires = |row: usize, l: usize| codes[c].value(row, l as u32) != 0.0;
            (2..14)
                .filter(|&row| fires(row, latent) && fires(row, best.index))
                .count()
        };
        assert_eq!(best.rows, (0..7).map(together).sum::<usize>() as u64);
    }
}

#[test]
fn a_planted_latent_is_named_and_its_logits_are_the_unembedding() {
    let model = Checkpoint::toy(0).unwrap();
    let harvest = Harvest::new(&model.decoder, &["resid_pre.0".parse().unwrap()]).unwrap();
    let token = contexts()[0][4];
    let tokens = harvest.pass(&contexts(), 0).unwrap();
    let d = model.config().d_model;
    let rows: Vec<(u32, &[f32])> = tokens
        .iter()
        .flat_map(|t| t.ids.iter().copied().zip(t.values[0].chunks(d)))
        .collect();
    let own = rows.iter().find(|r| r.0 == token).unwrap().1;
    let dot = |row: &[f32]| row.iter().zip(own).map(|(a, b)| a * b).sum::<f32>();
    // The embedding of the token is the longest along itself; half way to the next one is the threshold.
    let others = rows.iter().filter(|r| r.0 != token).map(|r| dot(r.1));
    let next = others.fold(f32::NEG_INFINITY, f32::max);
    assert!(next < dot(own), "{next} {}", dot(own));
    let head = model.decoder.weights().head.to_dtype(DType::F32).unwrap();
    let head: Vec<Vec<f32>> = head.to_vec2().unwrap();
    let encoder = Array2::from_shape_vec((1, d), own.to_vec()).unwrap();
    let decoder = Array2::from_shape_vec((1, d), head[33].clone()).unwrap();
    let bias = Array1::from_elem(1, -f32::midpoint(next, dot(own)));
    let splice = splice_of(&model, "resid_pre.0", encoder, decoder.clone(), bias);
    let found = run(&model, &splice, &[0], &options());
    let label = found.label(0, &model.tokenizer);
    let fired = contexts()
        .iter()
        .flat_map(|c| &c[2..])
        .filter(|t| **t == token)
        .count();
    assert_eq!(found.density.fired()[0], fired as u64);
    if fired >= 5 {
        let label = label.unwrap();
        assert_eq!(
            (label.by, label.precision, label.recall),
            (Trait::Token, 1.0, 1.0)
        );
    } else {
        assert_eq!(label, None);
    }
    let made = dashboard(&model, &splice, ["made".into(), "two".into()], &found).unwrap();
    let latent = &made.latents[0];
    let gain = model
        .decoder
        .weights()
        .final_norm
        .gain
        .to_dtype(DType::F32)
        .unwrap();
    let gain: Vec<f32> = gain.to_vec1().unwrap();
    let logit = |row: &Vec<f32>| -> f32 {
        let terms = row.iter().zip(&gain).zip(decoder.row(0).to_vec());
        terms.map(|((u, g), x)| u * g * x).sum()
    };
    let mut logits: Vec<(f32, u32)> = head.iter().map(logit).zip(0..).collect();
    logits.sort_by(|a, b| b.0.total_cmp(&a.0));
    let effects = latent.logits.as_ref().unwrap();
    assert_eq!((effects.positive.len(), effects.negative.len()), (10, 10));
    for (shown, (value, _)) in effects.positive.iter().zip(&logits) {
        assert!((shown.value - value).abs() < 1e-4 * value.abs().max(1.0));
    }
    for (shown, (value, _)) in effects.negative.iter().zip(logits.iter().rev()) {
        assert!((shown.value - value).abs() < 1e-4 * value.abs().max(1.0));
    }
    assert_eq!(
        effects.histogram.counts.iter().sum::<u64>(),
        head.len() as u64
    );
}

#[test]
fn neighbours_by_cosine_and_no_logits_off_the_stream() {
    let model = Checkpoint::toy(0).unwrap();
    let d = model.config().d_model;
    let mut rows = Array2::zeros((4, d));
    for (row, values) in [[1.0, 0.0], [3.0, 3.0], [0.0, 2.0], [-5.0, 0.0]]
        .iter()
        .enumerate()
    {
        rows[(row, 0)] = values[0];
        rows[(row, 1)] = values[1];
    }
    let made = |at: &str| {
        let splice = splice(&model, at, rows.clone(), Array1::from_elem(4, 1.0));
        let found = run(&model, &splice, &[0, 2], &options());
        dashboard(&model, &splice, ["made".into(), "two".into()], &found).unwrap()
    };
    let stream = made("resid_mid.1");
    let near: Vec<(usize, f32)> = stream.latents[0]
        .neighbours
        .iter()
        .map(|n| (n.index, n.cosine))
        .collect();
    let half = 0.5_f32.sqrt();
    for ((index, cosine), expected) in near.iter().zip([(1, half), (2, 0.0), (3, -1.0)]) {
        assert_eq!(*index, expected.0);
        assert!((cosine - expected.1).abs() < 1e-6);
    }
    assert_eq!(stream.latents[1].index, 2);
    assert!(stream.latents[0].logits.is_some());
    assert!(made("mlp_in.1").latents[0].logits.is_none());
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let model = Checkpoint::toy(0).unwrap();
    let splice = both(&model, "resid_post.1");
    let refused = |latents: &[usize], options: &CollectOptions| {
        let mut go = |_| ControlFlow::Continue(());
        let found = collect(&model, &splice, &contexts(), latents, options, &mut go);
        found.unwrap_err().to_string()
    };
    assert!(refused(&[128], &options()).contains("0 to 127"));
    assert!(refused(&[1, 1], &options()).contains("twice"));
    let mut nothing = options();
    nothing.policy.first = 99;
    assert!(refused(&[1], &nothing).contains("no token is kept"));
    let mut stop = |_| ControlFlow::Break(());
    assert!(collect(&model, &splice, &contexts(), &[1], &options(), &mut stop).is_err());
}

#[test]
fn what_was_written_is_read_again_and_found_in_its_folder() {
    let model = Checkpoint::toy(0).unwrap();
    let splice = both(&model, "resid_post.1");
    let collected = run(&model, &splice, &[5, 64], &options());
    let names = ["dictionary".into(), "the first 2".into()];
    let made = dashboard(&model, &splice, names, &collected).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // As the command line writes it: the schema first.
    let with = |schema: &str, object: String| format!("{{\"schema\":\"{schema}\",{}", &object[1..]);
    let several = folder.path().join("several.json");
    let whole = serde_json::to_string(&made).unwrap();
    std::fs::write(&several, with(DASHBOARD_SCHEMA, whole)).unwrap();
    assert_eq!(stored(&several).unwrap(), made);
    let one = folder.path().join("one.json");
    let place = serde_json::to_string(&made.place).unwrap();
    let latent = serde_json::to_string(&made.latents[1]).unwrap();
    let object = format!("{},{}", place.trim_end_matches('}'), &latent[1..]);
    std::fs::write(&one, with(LATENT_SCHEMA, object)).unwrap();
    let read = stored(&one).unwrap();
    assert_eq!(
        (read.place, &read.latents[..]),
        (made.place, &made.latents[1..])
    );
    for (name, text) in [
        ("cfg.json", "{\"k\": 3}"),
        ("not.json", "["),
        ("a.txt", "x"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        assert!(stored(&folder.path().join(name)).is_err());
    }
    let mut found = stored_in(folder.path());
    found.sort();
    assert_eq!(found, [one, several]);
    assert!(stored_in(&folder.path().join("absent")).is_empty());
}
