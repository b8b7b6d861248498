//! Shares of a logit against the model's logit, cuts against edited weights and renormalised rows, the stream against loops.

use candle_core::Tensor;

use super::*;
use crate::lens::{
    Component, Cut, LensError, StreamOptions, attention, attribute, knockout_effect, stream_lens,
};

fn exact(folder: &Path) -> (Decoder, Vec<u32>) {
    let options = LoadOptions {
        dtype: DType::F64,
        ..LoadOptions::default()
    };
    let model = Opened::at(folder, &options)
        .unwrap()
        .decoder(&options)
        .unwrap();
    (model, open(folder).1)
}

fn last_logits(model: &Decoder, ids: &[u32]) -> Vec<f64> {
    let batch = Batch::single(ids).unwrap();
    let out = model
        .forward(&batch, &Hooks::new(), LogitsAt::Last)
        .unwrap();
    let logits = out.logits().unwrap().flatten_all().unwrap();
    logits.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[test]
fn in_every_family_the_shares_sum_to_the_models_own_logit() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().to_string();
        let (model, ids) = exact(&folder);
        let c = model.config();
        let logits = last_logits(&model, &ids);
        let cap = |x: f64| c.final_softcap.map_or(x, |cap| cap * (x / cap).tanh());
        let said = attribute(&model, &ids, None, None, &[]).unwrap();
        let most = logits.iter().copied().fold(f64::MIN, f64::max);
        assert_eq!(logits[said.target as usize], most, "{name}");
        for target in [said.target, 3, 90] {
            let taken = attribute(&model, &ids, Some(target), None, &[]).unwrap();
            let sum: f64 = taken.contributions.iter().map(|c| c.logit).sum();
            let logit = logits[target as usize];
            assert!((cap(sum) - logit).abs() < 1e-9, "{name}: {sum} {logit}");
            assert!(taken.remainder.abs() < 1e-9, "{name}");
            let heads =
                |c: &&crate::lens::Contribution| matches!(c.component, Component::Head { .. });
            let n = taken.contributions.iter().filter(heads).count();
            assert_eq!(n, c.n_layers * c.n_heads, "{name}");
            let against = attribute(&model, &ids, Some(target), Some(7), &[]).unwrap();
            let other = attribute(&model, &ids, Some(7), None, &[]).unwrap();
            assert!(
                (against.logit - (taken.logit - other.logit)).abs() < 1e-9,
                "{name}"
            );
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} checkpoints");
}

/// An edit of a sum belongs to no component, and is shown as such.
#[test]
fn what_an_edit_adds_to_a_sum_is_the_remainder() {
    let (model, ids) = exact(&fixtures().join("llama"));
    let last = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
    let op = EditOp::Scale { factor: 2.0 };
    let edited = attribute(&model, &ids, Some(3), None, &[Edit::new(last, op)]).unwrap();
    let sum: f64 = edited.contributions.iter().map(|c| c.logit).sum();
    // Doubled and normed by twice the scale: each term counts half.
    assert!(
        (edited.remainder - sum).abs() < 1e-3 * sum.abs(),
        "{edited:?}"
    );
    assert!(attribute(&model, &ids, Some(u32::MAX), None, &[]).is_err());
}

#[test]
fn cutting_a_head_is_the_same_as_a_model_without_its_output_weights() {
    let (mut model, ids) = exact(&fixtures().join("qwen2"));
    let (layer, head, d_head) = (1, 2, model.config().d_head);
    let cut = Cut::Head { layer, head }.edit();
    let vocab = model.config().vocab_size;
    let effect = knockout_effect(&model, &ids, &[], &[cut], vocab).unwrap();
    let before = softmax(&last_logits(&model, &ids));
    let weight = &mut model.weights_mut().layers[layer].o.weight;
    let mut rows: Vec<Vec<f64>> = weight.to_vec2().unwrap();
    for row in &mut rows {
        row[head * d_head..(head + 1) * d_head].fill(0.0);
    }
    *weight = Tensor::new(rows, weight.device()).unwrap();
    let after = softmax(&last_logits(&model, &ids));
    let kl: f64 = before
        .iter()
        .zip(&after)
        .map(|(b, a)| b * (b / a).ln())
        .sum();
    assert!(
        kl > 1e-9 && (effect.kl - kl).abs() < 1e-12,
        "{} {kl}",
        effect.kl
    );
    for change in &effect.changes {
        let id = change.id as usize;
        assert!((change.before - before[id]).abs() < 1e-12);
        assert!((change.after - after[id]).abs() < 1e-12);
    }
    let sizes: Vec<f64> = effect
        .changes
        .iter()
        .map(|c| (c.before - c.after).abs())
        .collect();
    assert!(sizes.windows(2).all(|w| w[0] >= w[1]));
    assert!(
        (effect.before[0].probability - before.iter().copied().fold(0.0, f64::max)).abs() < 1e-12
    );
}

#[test]
fn a_cut_edge_leaves_the_rest_of_its_row_in_proportion_and_other_heads_alone() {
    let (model, ids) = open(&fixtures().join("llama"));
    let (query, key) = (ids.len() - 1, 2);
    let cut = Cut::Edge {
        layer: 1,
        head: Some(3),
        query: -1,
        key: key as i64,
    };
    let plain = attention(&model, &ids, &[1], &[]).unwrap();
    let edited = attention(&model, &ids, &[1], &[cut.edit()]).unwrap();
    let (was, is) = (plain.row(0, 3, query), edited.row(0, 3, query));
    assert_eq!(is[key], 0.0);
    for (at, (was, is)) in was.iter().zip(is).enumerate().filter(|(at, _)| *at != key) {
        let expected = was / (1.0 - plain.row(0, 3, query)[key]);
        assert!((is - expected).abs() < 1e-6, "{at}: {is} {expected}");
    }
    assert_eq!(plain.row(0, 3, query - 1), edited.row(0, 3, query - 1));
    assert_eq!(plain.pattern(0, 2), edited.pattern(0, 2));
    let effect = knockout_effect(&model, &ids, &[], &[cut.edit()], 3).unwrap();
    assert!(effect.kl > 0.0 && effect.changes.len() == 3);
}

#[test]
fn no_cut_changes_nothing_and_a_cut_that_is_not_there_is_refused() {
    let (model, ids) = open(&fixtures().join("llama"));
    let none = knockout_effect(&model, &ids, &[], &[], 5).unwrap();
    assert_eq!((none.kl, none.before), (0.0, none.after));
    assert!(none.changes.iter().all(|c| c.before == c.after));
    for cut in [
        Cut::Head { layer: 0, head: 99 },
        Cut::Head { layer: 99, head: 0 },
        Cut::Edge {
            layer: 0,
            head: Some(0),
            query: 0,
            key: 99,
        },
    ] {
        let error = knockout_effect(&model, &ids, &[], &[cut.edit()], 5).unwrap_err();
        assert!(error.to_string().contains("99"), "{error}");
    }
    assert!(knockout_effect(&model, &ids, &[], &[], 0).is_err());
}

#[test]
fn the_streams_norms_are_those_of_the_logit_lens_and_its_projections_are_dot_products() {
    let (model, ids) = open(&fixtures().join("gemma2"));
    let d = model.config().d_model;
    let direction: Vec<f32> = (0..d).map(|i| ((i * 7 % 5) as f32) - 1.5).collect();
    let options = StreamOptions {
        positions: "1-4,-1".parse().unwrap(),
        rows: vec![LensRow::Embed, LensRow::Layer(1)],
        direction: Some(direction.clone()),
    };
    let read = stream_lens(&model, &ids, &options, &[]).unwrap();
    let lens = LensOptions {
        positions: options.positions.clone(),
        rows: options.rows.clone(),
        ..LensOptions::default()
    };
    let lens = logit_lens(&model, &ids, &lens, &[]).unwrap();
    assert_eq!(
        (&read.rows, &read.positions, &read.tokens),
        (&lens.rows, &lens.positions, &lens.tokens)
    );
    let hooks = Hooks::new().capture(LensRow::Layer(1).point());
    let batch = Batch::single(&ids).unwrap();
    let captured = model
        .forward(&batch, &hooks, LogitsAt::None)
        .unwrap()
        .captured;
    let stream: Vec<Vec<f32>> = captured[&LensRow::Layer(1).point()]
        .get(0)
        .unwrap()
        .to_vec2()
        .unwrap();
    let length: f64 = direction
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt();
    let projections = read.projections.unwrap();
    for (i, &position) in read.positions.iter().enumerate() {
        for row in 0..2 {
            assert!((read.norms[row][i] - lens.cell(row, i).norm).abs() < 1e-9);
        }
        let terms = stream[position].iter().zip(&direction);
        let by_hand: f64 = terms
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
            / length;
        assert!((projections.dots[1][i] - by_hand).abs() < 1e-9);
        assert!((projections.cosines[1][i] - by_hand / read.norms[1][i]).abs() < 1e-9);
    }
    // A stream lies along itself, whatever the length of the direction.
    let own: Vec<f32> = stream[ids.len() - 1].iter().map(|x| x * 3.0).collect();
    let along = StreamOptions {
        direction: Some(own),
        ..options
    };
    let along = stream_lens(&model, &ids, &along, &[])
        .unwrap()
        .projections
        .unwrap();
    assert!((along.cosines[1][4] - 1.0).abs() < 1e-7);
}

#[test]
fn a_direction_that_is_none_is_refused() {
    let (model, ids) = open(&fixtures().join("llama"));
    let d = model.config().d_model;
    for direction in [vec![1.0; d - 1], vec![0.0; d], vec![f32::NAN; d]] {
        let options = StreamOptions {
            direction: Some(direction),
            ..StreamOptions::default()
        };
        let error = stream_lens(&model, &ids, &options, &[]).unwrap_err();
        assert!(matches!(error, LensError::Direction { .. }), "{error}");
    }
    let plain = stream_lens(&model, &ids, &StreamOptions::default(), &[]).unwrap();
    assert_eq!(
        (plain.rows.len(), plain.projections),
        (model.config().n_layers + 1, None)
    );
}
