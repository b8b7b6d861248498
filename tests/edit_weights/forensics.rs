//! Planted changes of weights, each told apart from the others. Plants that are not ours are made with plain arithmetic.

use candle_core::{DType, Device, Tensor};
use candlescope::model::Decoder;
use candlescope::model::weights::Linear;
use candlescope::steer::edit::forensics::{Forensics, Kind, Verdict, forensics};
use candlescope::steer::edit::{Basis, WeightEdit};

use super::{directions, exact, naive, noise, open, with_biases, with_spread_gains};

fn look(subject: &Decoder, baseline: &Decoder) -> Forensics {
    forensics(subject, baseline, None, 0).unwrap()
}

/// The model with something done to every linear layer of the blocks.
fn each(model: &Decoder, mut change: impl FnMut(usize, &Tensor) -> Tensor) -> Decoder {
    let mut model = model.clone();
    let mut count = 0;
    let mut apply = |linear: &mut Linear| {
        count += 1;
        linear.weight = change(count, &linear.weight);
    };
    for layer in &mut model.weights_mut().layers {
        let linears = [
            Some(&mut layer.q),
            Some(&mut layer.k),
            Some(&mut layer.v),
            Some(&mut layer.o),
            layer.gate.as_mut(),
            Some(&mut layer.up),
            Some(&mut layer.down),
        ];
        linears.into_iter().flatten().for_each(&mut apply);
    }
    model
}

fn drawn(shape: (usize, usize), seed: u64) -> Tensor {
    let values = noise(shape.0 * shape.1, seed);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn low_rank(weight: &Tensor, rank: usize, size: f64, seed: u64) -> Tensor {
    let (out, input) = weight.dims2().unwrap();
    let b = drawn((out, rank), 2 * seed);
    let a = drawn((rank, input), 2 * seed + 1);
    let delta = (b.matmul(&a).unwrap() * size).unwrap();
    (weight + delta).unwrap()
}

#[test]
fn our_edit_is_recognised_with_its_direction_and_strength() {
    for (name, strength, keep_norms) in [
        ("llama", 1.0, false),
        ("llama", 0.5, false),
        ("llama", 1.0, true),
        ("gpt2", 1.0, false),
        ("gemma3", 1.0, false),
        ("olmo2", 1.3, false),
        ("phi3", 1.0, true),
    ] {
        let model = with_spread_gains(with_biases(open(name, DType::F32)));
        let mut edit = exact(&model, 1, 21);
        edit.amounts = candlescope::steer::edit::Amounts::uniform(model.config(), strength);
        edit.keep_norms = keep_norms;
        let after = edit.apply(&model).unwrap();
        let found = forensics(&after, &model, Some(&edit.basis), 0).unwrap();
        let case = format!("{name} {strength} {keep_norms}: {}", found.says);
        assert_eq!(found.verdict, Verdict::Abliteration, "{case}");
        // Restored norms bring a change of other directions with them, large in a stream of 48 channels.
        let off = if keep_norms { 0.05 } else { 0.01 };
        assert!((found.strength.unwrap() - strength).abs() < off, "{case}");
        assert_eq!(found.norms_kept, keep_norms, "{case}");
        assert!(found.cosine.unwrap() > 0.99, "{case}: {:?}", found.cosine);
        assert!(found.embedding_changed, "{case}");
        assert_eq!(found.untied, model.config().tied, "{case}");
        let common = found.common.as_ref().unwrap();
        assert!(common.agreement > 0.99, "{case}: {common:?}");
        for matrix in &found.matrices {
            let Some(along) = matrix.along else {
                assert_eq!(
                    matrix.kind,
                    Kind::Unchanged,
                    "{case}: {} reads",
                    matrix.name
                );
                continue;
            };
            let left = (1.0 - strength).abs();
            assert!(
                (along.ratio - left).abs() < 0.1,
                "{case}: {} {along:?}",
                matrix.name
            );
            // In 48 channels random directions overlap with it, through spread gains up to 0.9; in 576 there is 0.97 left.
            assert!(
                along.least_random > 0.2,
                "{case}: {} {along:?}",
                matrix.name
            );
        }
    }
}

#[test]
fn the_usual_edit_of_a_post_norm_model_is_recognised_and_told_from_the_exact_one() {
    let model = with_spread_gains(open("gemma3", DType::F32));
    let r = directions(&model, 1, 3).remove(0);
    let basis = Basis::new(std::slice::from_ref(&r)).unwrap();
    let found = forensics(&naive(&model, &r), &model, Some(&basis), 0).unwrap();
    assert_eq!(found.verdict, Verdict::Abliteration, "{}", found.says);
    assert!(found.says.contains("gains were left out"), "{}", found.says);
    let common = found.common.unwrap();
    assert!(common.without_gains > 0.99, "{common:?}");
    assert!(common.agreement < 0.9, "{common:?}");
    // Most of it still comes through, and the ratio says so.
    let ratios = found.matrices.iter().filter_map(|m| m.along);
    let blocks: Vec<f64> = ratios.map(|a| a.ratio).filter(|r| *r != 1.0).collect();
    assert!(blocks.iter().all(|r| *r > 0.2), "{blocks:?}");
    assert!(!found.embedding_changed);
}

#[test]
fn a_direction_for_each_layer_is_recognised() {
    let model = open("llama", DType::F32);
    let mut after = model.clone();
    for (layer, r) in directions(&model, model.config().n_layers, 5)
        .iter()
        .enumerate()
    {
        let basis = Basis::new(std::slice::from_ref(r)).unwrap();
        let mut edit = WeightEdit::new(basis, model.config());
        edit.amounts = candlescope::steer::edit::Amounts::of_layers(model.config(), &[layer], 1.0);
        after = edit.apply(&after).unwrap();
    }
    let found = look(&after, &model);
    // Three layers: a third lies along any one direction, near enough.
    assert_eq!(
        found.verdict,
        Verdict::AbliterationByLayer,
        "{}",
        found.says
    );
}

#[test]
fn a_lora_update_is_no_rank_one_edit() {
    for name in ["llama", "gpt2", "gemma3"] {
        let model = open(name, DType::F32);
        for size in [0.02, 0.3] {
            let after = each(&model, |seed, w| low_rank(w, 16, size, seed as u64));
            let found = look(&after, &model);
            assert_eq!(
                found.verdict,
                Verdict::LowRank,
                "{name} {size}: {}",
                found.says
            );
        }
        // Nor when one of its directions leads, as after little training.
        let after = each(&model, |seed, w| {
            let spread = low_rank(w, 15, 0.02, seed as u64);
            low_rank(&spread, 1, 0.2, 77 + seed as u64)
        });
        let found = look(&after, &model);
        let leading = found.matrices.iter().filter_map(|m| m.spectrum.as_ref());
        let most = leading.map(|s| s.rank1_share).fold(0.0, f64::max);
        assert!(most > 0.7, "{name}: {most}");
        assert_eq!(found.verdict, Verdict::LowRank, "{name}: {}", found.says);
    }
}

#[test]
fn rank_one_edits_are_recognised_and_are_no_abliteration() {
    let model = open("llama", DType::F32);
    let mut after = model.clone();
    let down = &mut after.weights_mut().layers[1].down;
    down.weight = low_rank(&down.weight, 1, 0.3, 5);
    let found = look(&after, &model);
    assert_eq!(found.verdict, Verdict::RankOneEdit, "{}", found.says);
    let changed: Vec<&str> = found
        .matrices
        .iter()
        .filter(|m| m.kind == Kind::RankOne)
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(changed, ["model.layers.1.mlp.down_proj.weight"]);
    // An adapter of rank one everywhere: rank-one changes that no direction has in common.
    let after = each(&model, |seed, w| low_rank(w, 1, 0.3, seed as u64));
    let found = look(&after, &model);
    assert_eq!(found.verdict, Verdict::RankOneEdit, "{}", found.says);
    assert!(found.common.unwrap().agreement < 0.7);
}

#[test]
fn noise_and_decay_and_rounding_are_what_they_are() {
    for name in ["llama", "gpt2", "gemma3"] {
        let model = open(name, DType::F32);
        let cases: [(&str, Verdict, fn(usize, &Tensor) -> Tensor); 5] = [
            ("noise", Verdict::FullRank, |seed, w| {
                let n = drawn(w.dims2().unwrap(), seed as u64);
                (w + (n * 0.05).unwrap()).unwrap()
            }),
            ("decay", Verdict::FullRank, |_, w| (w * 0.6).unwrap()),
            ("bf16", Verdict::Rounded, |_, w| {
                w.to_dtype(DType::BF16)
                    .unwrap()
                    .to_dtype(DType::F32)
                    .unwrap()
            }),
            ("int8 by row", Verdict::Rounded, |_, w| {
                quantised(w, 127.0, true)
            }),
            ("int4 by matrix", Verdict::Rounded, |_, w| {
                quantised(w, 7.0, false)
            }),
        ];
        for (case, expected, change) in cases {
            let found = look(&each(&model, change), &model);
            assert_eq!(found.verdict, expected, "{name} {case}: {}", found.says);
        }
    }
}

/// Symmetric absmax quantisation, with a step for each row or one for all.
fn quantised(w: &Tensor, levels: f32, by_row: bool) -> Tensor {
    let (rows, columns) = w.dims2().unwrap();
    let mut values = w.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let size = if by_row { columns } else { rows * columns };
    for group in values.chunks_mut(size) {
        let step = group.iter().fold(0f32, |m, x| m.max(x.abs())) / levels;
        for x in group {
            *x = (*x / step).round() * step;
        }
    }
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

#[test]
fn an_edit_is_still_seen_after_rounding_to_bf16_and_int8() {
    let model = open("llama", DType::F32);
    let after = exact(&model, 1, 4).apply(&model).unwrap();
    for (case, rounded) in [
        (
            "bf16",
            each(&after, |_, w| {
                w.to_dtype(DType::BF16)
                    .unwrap()
                    .to_dtype(DType::F32)
                    .unwrap()
            }),
        ),
        ("int8", each(&after, |_, w| quantised(w, 127.0, true))),
    ] {
        let found = look(&rounded, &model);
        assert_eq!(
            found.verdict,
            Verdict::Abliteration,
            "{case}: {}",
            found.says
        );
    }
}

#[test]
fn vectors_alone_and_nothing_at_all() {
    let model = open("gpt2", DType::F32);
    assert_eq!(look(&model, &model).verdict, Verdict::Identical);
    let found = look(&with_biases(model.clone()), &model);
    assert_eq!(found.verdict, Verdict::VectorsOnly);
    assert!(
        found
            .changed_vectors
            .contains(&"layers.1.down.bias".to_owned())
    );
    // A bias where there was none: how an activation addition is baked in.
    let model = open("llama", DType::F32);
    let mut after = model.clone();
    let bias = Tensor::from_vec(noise(48, 3), 48, &Device::Cpu).unwrap();
    after.weights_mut().layers[1].down.bias = Some(bias);
    let found = look(&after, &model);
    assert_eq!(found.new_biases, ["layers.1.down.bias"]);
    assert_eq!(found.verdict, Verdict::VectorsOnly);
}

#[test]
fn other_architectures_and_broken_weights_are_refused() {
    let (llama, gpt2) = (open("llama", DType::F32), open("gpt2", DType::F32));
    let refused = forensics(&gpt2, &llama, None, 0).unwrap_err().to_string();
    assert!(refused.contains("family"), "{refused}");
    let broken = each(&llama, |i, w| {
        if i == 4 {
            (w * f64::NAN).unwrap()
        } else {
            w.clone()
        }
    });
    let refused = forensics(&broken, &llama, None, 0).unwrap_err().to_string();
    assert!(
        refused.contains("o_proj") && refused.contains("not finite"),
        "{refused}"
    );
}
