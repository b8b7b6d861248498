//! What must hold in every family whatever the weights: the arithmetic between hook points, the equality of the ways a
//! row can be computed, the effect of every edit, and refusal by name of what cannot be served.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candlescope::hooks::{
    Axis, Edge, Edit, EditOp, HookPoint, Hooks, Keep, POINTS, Point, PositionSelect, Selector,
    expand,
};
use candlescope::model::generate::{GenerateOptions, Prefix, generate};
use candlescope::model::{Batch, Decoder, KvCache, LoadOptions, LogitsAt, Opened};
use candlescope_ops as ops;

const FAMILIES: [&str; 14] = [
    "gpt2",
    "gpt_neox",
    "gpt_neox_serial",
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen2_sliding",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3_partial",
    "olmo2",
    "llama_rope_yarn",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

fn open(name: &str, dtype: DType) -> Decoder {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    Opened::at(&folder(name), &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

/// A row of tokens, from a small linear congruence.
fn row(len: usize, seed: u32, vocab: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * 37 + seed * 101 + i * i * 7) % vocab as u32)
        .collect()
}

fn rows(model: &Decoder, lens: &[usize]) -> Vec<Vec<u32>> {
    lens.iter()
        .enumerate()
        .map(|(i, &n)| row(n, i as u32 + 1, model.config().vocab_size))
        .collect()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Largest difference over the largest value.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let scale = b.iter().fold(1e-30_f64, |m, x| m.max(x.abs()));
    a.iter()
        .zip(&b)
        .fold(0.0_f64, |m, (x, y)| m.max((x - y).abs()))
        / scale
}

fn at(text: &str) -> HookPoint {
    text.parse().unwrap()
}

fn all_points(model: &Decoder) -> Vec<HookPoint> {
    let config = model.config();
    let layers = |per_layer| if per_layer { config.n_layers } else { 1 };
    POINTS
        .iter()
        .flat_map(|info| (0..layers(info.per_layer)).map(|layer| HookPoint::new(info.point, layer)))
        .filter(|point| point.check(config).is_ok())
        .collect()
}

fn capture_all(model: &Decoder, batch: &Batch) -> candlescope::model::Output {
    let hooks = all_points(model)
        .into_iter()
        .fold(Hooks::new(), Hooks::capture);
    model.forward(batch, &hooks, LogitsAt::All).unwrap()
}

#[test]
fn the_points_obey_the_arithmetic_of_the_block() {
    for name in FAMILIES {
        let model = open(name, DType::F64);
        let c = model.config();
        let batch = Batch::new(&rows(&model, &[19, 12])).unwrap();
        let out = capture_all(&model, &batch);
        let get = |point, layer| &out.captured[&HookPoint::new(point, layer)];
        for (i, w) in model.weights().layers.iter().enumerate() {
            let near = |a: &Tensor, b: &Tensor, what: &str| {
                let gap = gap(a, b);
                assert!(gap < 1e-12, "{name} layer {i}: {what}: {gap:e}");
            };
            let (pre, post) = (get(Point::ResidPre, i), get(Point::ResidPost, i));
            let (attn, mlp) = (get(Point::AttnContrib, i), get(Point::MlpContrib, i));
            near(
                &((pre + attn).unwrap() + mlp).unwrap(),
                post,
                "resid_pre + attn_contrib + mlp_contrib = resid_post",
            );
            if !c.parallel {
                near(
                    &(pre + attn).unwrap(),
                    get(Point::ResidMid, i),
                    "resid_pre + attn_contrib = resid_mid",
                );
            }
            let pattern = get(Point::Pattern, i);
            near(
                &ops::softmax_last_dim(get(Point::AttnScores, i)).unwrap(),
                pattern,
                "softmax(attn_scores) = pattern",
            );
            near(
                &ops::attention_from_pattern(pattern, get(Point::V, i)).unwrap(),
                get(Point::Z, i),
                "pattern v = z",
            );
            let down =
                ops::linear(get(Point::MlpAct, i), &w.down.weight, w.down.bias.as_ref()).unwrap();
            near(&down, get(Point::MlpOut, i), "down(mlp_act) = mlp_out");
            let z = get(Point::Z, i).flatten_from(2).unwrap();
            near(
                &ops::linear(&z, &w.o.weight, w.o.bias.as_ref()).unwrap(),
                get(Point::AttnOut, i),
                "o(z) = attn_out",
            );
            let mut heads = get(Point::HeadResult, i).sum(2).unwrap();
            if let Some(bias) = &w.o.bias {
                heads = heads.broadcast_add(bias).unwrap();
            }
            near(
                &heads,
                get(Point::AttnOut, i),
                "sum of head_result + bias = attn_out",
            );
            if i + 1 < c.n_layers {
                near(
                    post,
                    get(Point::ResidPre, i + 1),
                    "resid_post = next resid_pre",
                );
            }
            if w.attn_post_norm.is_none() {
                near(
                    attn,
                    get(Point::AttnOut, i),
                    "without a post-norm attn_contrib = attn_out",
                );
            } else {
                assert!(
                    gap(attn, get(Point::AttnOut, i)) > 1e-3,
                    "{name}: a post-norm changes what is added"
                );
            }
        }
        let last = get(Point::ResidPost, c.n_layers - 1);
        assert!(gap(&model.unembed(last).unwrap(), get(Point::Logits, 0)) < 1e-12);
        let sums = get(Point::Pattern, 0).sum(3).unwrap();
        for (i, sum) in values(&sums).into_iter().enumerate() {
            let (in_row, position) = (i / (c.n_heads * 19), i % 19);
            let padding = in_row == 1 && position < 7;
            assert!((sum - if padding { 0.0 } else { 1.0 }).abs() < 1e-12);
        }
    }
}

#[test]
fn every_readable_point_has_its_declared_shape_and_every_edit_of_it_changes_the_logits() {
    for name in FAMILIES {
        let model = open(name, DType::F32);
        let batch = Batch::new(&rows(&model, &[9, 9])).unwrap();
        let out = capture_all(&model, &batch);
        let logits = out.logits.as_ref().unwrap();
        for point in all_points(&model) {
            let dims = point.point.info().dims(model.config(), 2, 9, 9);
            assert_eq!(out.captured[&point].dims(), dims, "{name} {point}");
            let op = match point.point {
                Point::AttnScores => EditOp::Knockout {
                    edges: vec![Edge { query: -1, key: 3 }],
                },
                // Channel by channel: a norm takes a common factor out again, and a softmax a common shift of all keys.
                _ => EditOp::Closure {
                    name: "ramp".into(),
                    function: Arc::new(|x, _| {
                        let width = x.dim(candle_core::D::Minus1)?;
                        let ramp = Tensor::arange(0f32, width as f32, &Device::Cpu)?;
                        x.broadcast_mul(&((ramp * 0.05)? + 1.0)?)
                    }),
                },
            };
            let hooks = Hooks::new().edit(Edit::new(point, op));
            let edited = model.forward(&batch, &hooks, LogitsAt::All).unwrap();
            let moved = gap(&edited.logits.unwrap(), logits);
            assert!(moved > 1e-5, "{name} {point}: {moved:e}");
        }
    }
}

#[test]
fn a_row_is_the_same_alone_padded_cached_split_or_after_a_shared_prefix() {
    for name in FAMILIES {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let model = open(name, dtype);
            let texts = rows(&model, &[17, 11, 14]);
            let none = Hooks::new();
            let alone: Vec<Tensor> = texts
                .iter()
                .map(|t| {
                    model
                        .forward(&Batch::single(t).unwrap(), &none, LogitsAt::All)
                        .unwrap()
                        .logits
                        .unwrap()
                })
                .collect();
            let padded = model
                .forward(&Batch::new(&texts).unwrap(), &none, LogitsAt::All)
                .unwrap()
                .logits
                .unwrap();
            for (i, alone) in alone.iter().enumerate() {
                let n = texts[i].len();
                let row = padded
                    .narrow(0, i, 1)
                    .unwrap()
                    .narrow(1, 17 - n, n)
                    .unwrap();
                assert!(
                    gap(&row, alone) < tolerance,
                    "{name} {dtype:?} padded {:e}",
                    gap(&row, alone)
                );
            }
            for cut in [1, 5, 16] {
                let mut cache = KvCache::new(model.config(), 1, 4);
                let (head, tail) = texts[0].split_at(cut);
                model
                    .forward_cached(
                        &Batch::single(head).unwrap(),
                        &mut cache,
                        &none,
                        LogitsAt::Last,
                    )
                    .unwrap();
                let rest = model
                    .forward_cached(
                        &Batch::single(tail).unwrap(),
                        &mut cache,
                        &none,
                        LogitsAt::All,
                    )
                    .unwrap();
                let want = alone[0].narrow(1, cut, 17 - cut).unwrap();
                assert!(
                    gap(&rest.logits.unwrap(), &want) < tolerance,
                    "{name} {dtype:?} cut at {cut}"
                );
            }
            let shared: Vec<Vec<u32>> = texts
                .iter()
                .map(|t| [&texts[0][..6], &t[..]].concat())
                .collect();
            let refs: Vec<&[u32]> = shared.iter().map(Vec::as_slice).collect();
            assert_eq!(
                Prefix::common(&refs),
                6 + usize::from(texts.iter().all(|t| t[0] == texts[0][0]))
            );
            let prefix = Prefix::new(&model, &shared[0][..6], &none).unwrap();
            let (mut cache, batch) = prefix.split(&refs, 0).unwrap();
            let after = model
                .forward_cached(&batch, &mut cache, &none, LogitsAt::Last)
                .unwrap()
                .logits
                .unwrap();
            for (i, text) in shared.iter().enumerate() {
                let whole = model
                    .forward(&Batch::single(text).unwrap(), &none, LogitsAt::Last)
                    .unwrap();
                let row = after.narrow(0, i, 1).unwrap();
                assert!(
                    gap(&row, &whole.logits.unwrap()) < tolerance,
                    "{name} {dtype:?} prefix row {i}"
                );
            }
        }
    }
}

#[test]
fn generation_with_a_cache_and_edits_equals_recomputing_everything() {
    for name in FAMILIES {
        let model = open(name, DType::F64);
        let texts = rows(&model, &[7, 4]);
        let direction: Vec<f32> = (0..model.config().d_model)
            .map(|i| (i as f32 * 0.7).sin())
            .collect();
        let ablate = |at| {
            Edit::new(
                at,
                EditOp::Ablate {
                    directions: vec![Arc::new(direction.clone())],
                    amount: 1.0,
                },
            )
        };
        let hooks = Hooks::new().edits(
            expand("resid_post.*", model.config())
                .unwrap()
                .into_iter()
                .map(ablate),
        );
        let options = GenerateOptions {
            max_new: 6,
            ..GenerateOptions::default()
        };
        let refs: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let mut streamed = vec![Vec::new(); 2];
        let out = generate(&model, &refs, &options, &hooks, &mut |row, id| {
            streamed[row].push(id);
            candlescope::model::generate::Continue::Yes
        })
        .unwrap();
        for (i, text) in texts.iter().enumerate() {
            let mut ids = text.clone();
            for _ in 0..6 {
                let last = model
                    .forward(&Batch::single(&ids).unwrap(), &hooks, LogitsAt::Last)
                    .unwrap()
                    .logits
                    .unwrap();
                let last = values(&last);
                let best = (0..last.len())
                    .max_by(|&a, &b| last[a].total_cmp(&last[b]))
                    .unwrap();
                ids.push(best as u32);
            }
            assert_eq!(out[i].ids, ids[text.len()..], "{name} row {i}");
            assert_eq!(streamed[i], out[i].ids);
        }
    }
}

#[test]
fn edits_do_what_they_say_and_only_where_they_say() {
    let model = open("llama", DType::F64);
    let d = model.config().d_model;
    let batch = Batch::new(&rows(&model, &[10, 6])).unwrap();
    let clean = capture_all(&model, &batch);
    let run = |edit: Edit, look: HookPoint| {
        model
            .forward(
                &batch,
                &Hooks::new().edit(edit).capture(look),
                LogitsAt::None,
            )
            .unwrap()
            .captured[&look]
            .clone()
    };
    let untouched = |look: HookPoint| {
        let hooks = Hooks::new().capture(look);
        model
            .forward(&batch, &hooks, LogitsAt::None)
            .unwrap()
            .captured[&look]
            .clone()
    };
    let point = at("resid_post.1");
    let before = &untouched(point);
    let direction: Arc<Vec<f32>> = Arc::new((0..d).map(|i| (i as f32).cos()).collect());
    let r = Tensor::new(direction.as_slice(), &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    let norm = values(&r.sqr().unwrap().sum_all().unwrap())[0].sqrt();
    let along =
        |t: &Tensor| values(&(t.broadcast_mul(&r).unwrap().sum(2).unwrap() / norm).unwrap());

    let ablate = EditOp::Ablate {
        directions: vec![direction.clone()],
        amount: 1.0,
    };
    let ablated = run(Edit::new(point, ablate.clone()), point);
    assert!(along(&ablated).iter().all(|x| x.abs() < 1e-12));
    let added = run(
        Edit::new(
            point,
            EditOp::Add {
                vector: direction.clone(),
                alpha: 2.0,
            },
        ),
        point,
    );
    assert!(gap(&added, &before.broadcast_add(&(&r * 2.0).unwrap()).unwrap()) < 1e-12);
    let clamped = run(
        Edit::new(
            point,
            EditOp::Clamp {
                direction: Some(direction.clone()),
                min: -0.1,
                max: 0.1,
            },
        ),
        point,
    );
    assert!(along(&clamped).iter().all(|x| x.abs() <= 0.1 + 1e-9));
    let replaced = run(
        Edit::new(
            point,
            EditOp::Replace {
                vector: direction.clone(),
            },
        ),
        point,
    );
    assert!(gap(&replaced, &r.broadcast_as(before.shape()).unwrap()) < 1e-12);
    let patched = run(
        Edit::new(
            point,
            EditOp::Patch {
                from: clean.captured[&at("resid_post.0")].clone(),
            },
        ),
        point,
    );
    assert_eq!(gap(&patched, &clean.captured[&at("resid_post.0")]), 0.0);

    // Position 3 of row 1 sits in slot 7, since four slots of that row are padding.
    let select = Selector {
        rows: Axis::Only(vec![1]),
        ..Selector::positions(PositionSelect::At(vec![3, -1]))
    };
    let some = run(Edit::new(point, ablate.clone()).on(select), point);
    for r in 0..2 {
        for slot in 0..10 {
            let place = |t: &Tensor| t.narrow(0, r, 1).unwrap().narrow(1, slot, 1).unwrap();
            let expected = if r == 1 && (slot == 7 || slot == 9) {
                &ablated
            } else {
                before
            };
            assert_eq!(
                gap(&place(&some), &place(expected)),
                0.0,
                "row {r} slot {slot}"
            );
        }
    }
    let heads = Selector {
        heads: Axis::Only(vec![2]),
        ..Selector::all()
    };
    let z = run(
        Edit::new(at("z.0"), EditOp::Scale { factor: 0.0 }).on(heads),
        at("z.0"),
    );
    let z_before = &untouched(at("z.0"));
    for h in 0..4 {
        let head = |t: &Tensor| t.narrow(2, h, 1).unwrap();
        let want = if h == 2 {
            head(z_before).zeros_like().unwrap()
        } else {
            head(z_before)
        };
        assert_eq!(gap(&head(&z), &want), 0.0);
    }
    let channels = Selector {
        channels: Axis::Only(vec![5]),
        ..Selector::all()
    };
    let one = run(
        Edit::new(point, EditOp::Scale { factor: 3.0 }).on(channels),
        point,
    );
    let moved: Vec<usize> = (0..d)
        .filter(|&i| {
            gap(
                &one.narrow(2, i, 1).unwrap(),
                &before.narrow(2, i, 1).unwrap(),
            ) > 0.0
        })
        .collect();
    assert_eq!(moved, [5]);

    let edge = EditOp::Knockout {
        edges: vec![Edge { query: 5, key: 2 }],
    };
    let only_head = Selector {
        heads: Axis::Only(vec![1]),
        ..Selector::all()
    };
    let pattern = run(
        Edit::new(at("attn_scores.1"), edge).on(only_head),
        at("pattern.1"),
    );
    let cell = |row: usize, head: usize, slot: usize, key: usize| {
        values(
            &pattern
                .get(row)
                .unwrap()
                .get(head)
                .unwrap()
                .get(slot)
                .unwrap()
                .get(key)
                .unwrap(),
        )[0]
    };
    assert_eq!((cell(0, 1, 5, 2), cell(1, 1, 9, 6)), (0.0, 0.0));
    assert!(cell(0, 0, 5, 2) > 0.0 && cell(0, 1, 4, 2) > 0.0);
    let total: f64 = (0..10).map(|key| cell(0, 1, 5, key)).sum();
    assert!(
        (total - 1.0).abs() < 1e-12,
        "the other keys take up the weight"
    );
}

#[test]
fn an_early_stop_returns_the_same_tensors() {
    let model = open("gemma3", DType::F32);
    let batch = Batch::new(&rows(&model, &[8])).unwrap();
    let whole = capture_all(&model, &batch);
    for point in all_points(&model) {
        let out = model
            .forward(&batch, &Hooks::new().capture(point), LogitsAt::None)
            .unwrap();
        assert!(out.logits.is_none());
        assert!(
            gap(&out.captured[&point], &whole.captured[&point]) < 2e-6,
            "{point}"
        );
    }
    let last = model
        .forward(
            &batch,
            &Hooks::new().capture_kept(at("resid_post.1"), Keep::Last(3)),
            LogitsAt::None,
        )
        .unwrap();
    let want = whole.captured[&at("resid_post.1")].narrow(1, 5, 3).unwrap();
    assert!(gap(&last.captured[&at("resid_post.1")], &want) < 2e-6);
}

#[test]
fn gradients_flow_through_edits_and_captures() {
    for name in ["llama", "gpt2", "gemma2", "olmo2"] {
        let model = open(name, DType::F64);
        let batch = Batch::new(&rows(&model, &[6])).unwrap();
        let d = model.config().d_model;
        let start: Vec<f64> = (0..d).map(|i| 0.1 * (i as f64).sin()).collect();
        let loss = |vector: &Tensor| {
            let vector = vector.clone();
            let add = EditOp::Closure {
                name: "add".into(),
                function: Arc::new(move |x, _| x.broadcast_add(&vector)),
            };
            let hooks = Hooks::new()
                .edit(Edit::new(at("resid_pre.0"), add))
                .capture(at("pattern.1"));
            let out = model.forward(&batch, &hooks, LogitsAt::Last).unwrap();
            let pattern = out.captured[&at("pattern.1")]
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap();
            (out.logits.unwrap().sqr().unwrap().sum_all().unwrap() + pattern).unwrap()
        };
        let var = Var::from_vec(start.clone(), d, &Device::Cpu).unwrap();
        let grads = loss(var.as_tensor()).backward().unwrap();
        let gradient = values(grads.get(&var).expect("a gradient reached the vector"));
        for i in [0, 7, d - 1] {
            let shifted = |h: f64| {
                let mut v = start.clone();
                v[i] += h;
                values(&loss(&Tensor::from_vec(v, d, &Device::Cpu).unwrap()))[0]
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            let scale = numeric.abs().max(1e-3);
            assert!(
                (gradient[i] - numeric).abs() / scale < 1e-5,
                "{name}[{i}]: {} vs {numeric}",
                gradient[i]
            );
        }
    }
}

#[test]
fn what_cannot_apply_is_refused_by_name() {
    let neox = open("gpt_neox", DType::F32);
    let llama = open("llama", DType::F32);
    let gpt2 = open("gpt2", DType::F32);
    let batch = |m: &Decoder| Batch::new(&rows(m, &[8])).unwrap();
    let refuse = |model: &Decoder, edit: Edit| {
        let hooks = Hooks::new().edit(edit);
        model
            .forward(&batch(model), &hooks, LogitsAt::All)
            .expect_err("must be refused")
            .to_string()
    };
    let capture = |model: &Decoder, point: &str| {
        let hooks = Hooks::new().capture(at(point));
        model
            .forward(&batch(model), &hooks, LogitsAt::All)
            .expect_err("must be refused")
            .to_string()
    };
    let scale = || EditOp::Scale { factor: 0.5 };
    let vector = |n| Arc::new(vec![1.0; n]);
    let cases = [
        (capture(&neox, "resid_mid.0"), "parallel"),
        (capture(&neox, "mlp_pre_linear.0"), "gate"),
        (capture(&gpt2, "rot_q.0"), "rotary"),
        (capture(&llama, "pos_embed"), "position table"),
        (capture(&llama, "q.3"), "layers 0 to 2"),
        (
            refuse(
                &llama,
                Edit::new(at("q.0"), scale()).on(Selector {
                    heads: Axis::Only(vec![4]),
                    ..Selector::all()
                }),
            ),
            "head 4",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("k.0"), scale()).on(Selector {
                    heads: Axis::Only(vec![2]),
                    ..Selector::all()
                }),
            ),
            "head 2",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("embed"), scale()).on(Selector {
                    heads: Axis::Only(vec![0]),
                    ..Selector::all()
                }),
            ),
            "no head axis",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("embed"), scale()).on(Selector {
                    channels: Axis::Only(vec![48]),
                    ..Selector::all()
                }),
            ),
            "channel 48",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("embed"), scale()).on(Selector {
                    rows: Axis::Only(vec![1]),
                    ..Selector::all()
                }),
            ),
            "row 1",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("embed"), scale())
                    .on(Selector::positions(PositionSelect::At(vec![8]))),
            ),
            "position 8",
        ),
        (
            refuse(
                &llama,
                Edit::new(at("embed"), scale())
                    .on(Selector::positions(PositionSelect::At(vec![-9]))),
            ),
            "position -9",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("embed"),
                    EditOp::Add {
                        vector: vector(47),
                        alpha: 1.0,
                    },
                ),
            ),
            "vector of 48",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("embed"),
                    EditOp::Add {
                        vector: vector(48),
                        alpha: f64::NAN,
                    },
                ),
            ),
            "finite",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("embed"),
                    EditOp::Ablate {
                        directions: vec![Arc::new(vec![0.0; 48])],
                        amount: 1.0,
                    },
                ),
            ),
            "zero",
        ),
        (
            refuse(&llama, Edit::new(at("attn_scores.0"), scale())),
            "cannot be scaled",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("pattern.0"),
                    EditOp::Knockout {
                        edges: vec![Edge { query: 3, key: 1 }],
                    },
                ),
            ),
            "attn_scores",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("attn_scores.0"),
                    EditOp::Knockout {
                        edges: vec![Edge { query: 1, key: 3 }],
                    },
                ),
            ),
            "looks ahead",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("attn_scores.0"),
                    EditOp::Knockout {
                        edges: vec![Edge { query: 9, key: 3 }],
                    },
                ),
            ),
            "query 9",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("embed"),
                    EditOp::Clamp {
                        direction: None,
                        min: 1.0,
                        max: 0.0,
                    },
                ),
            ),
            "above max",
        ),
        (
            refuse(
                &llama,
                Edit::new(
                    at("embed"),
                    EditOp::Patch {
                        from: Tensor::zeros((1, 7, 48), DType::F32, &Device::Cpu).unwrap(),
                    },
                ),
            ),
            "shape",
        ),
    ];
    for (message, wanted) in cases {
        assert!(
            message.contains(wanted),
            "`{message}` should mention `{wanted}`"
        );
    }
}

#[test]
fn a_cache_made_under_other_edits_is_not_silently_continued() {
    let model = open("llama", DType::F32);
    let text = row(8, 1, 160);
    let edit = |from| {
        Hooks::new().edit(
            Edit::new(at("resid_post.0"), EditOp::Scale { factor: 0.5 })
                .on(Selector::positions(PositionSelect::From(from))),
        )
    };
    let mut cache = KvCache::new(model.config(), 1, 8);
    let (head, tail) = text.split_at(5);
    model
        .forward_cached(
            &Batch::single(head).unwrap(),
            &mut cache,
            &Hooks::new(),
            LogitsAt::Last,
        )
        .unwrap();
    let tail = Batch::single(tail).unwrap();
    let refused = model
        .forward_cached(&tail, &mut cache, &edit(3), LogitsAt::Last)
        .unwrap_err();
    assert!(refused.to_string().contains("other edits"), "{refused}");
    let branch = model
        .forward_cached(&tail, &mut cache, &edit(5), LogitsAt::Last)
        .unwrap()
        .logits
        .unwrap();
    let whole = model
        .forward(&Batch::single(&text).unwrap(), &edit(5), LogitsAt::Last)
        .unwrap()
        .logits
        .unwrap();
    assert!(
        gap(&branch, &whole) < 2e-5,
        "an edit from the first new position on may branch off a cache"
    );
}

#[test]
fn a_cache_is_not_continued_where_the_frequencies_change() {
    for (name, original) in [("llama_rope_dynamic", 16), ("phi3_longrope", 32)] {
        let model = open(name, DType::F64);
        let text = row(40, 3, model.config().vocab_size);
        let none = Hooks::new();
        let mut cache = KvCache::new(model.config(), 1, 40);
        let (head, tail) = text[..original].split_at(7);
        let run = |ids: &[u32], cache: &mut KvCache| {
            model.forward_cached(&Batch::single(ids).unwrap(), cache, &none, LogitsAt::Last)
        };
        run(head, &mut cache).unwrap();
        let cached = run(tail, &mut cache).unwrap().logits.unwrap();
        let whole = model
            .forward(
                &Batch::single(&text[..original]).unwrap(),
                &none,
                LogitsAt::Last,
            )
            .unwrap();
        assert!(gap(&cached, &whole.logits.unwrap()) < 1e-12, "{name}");
        let refused = run(&text[original..=original], &mut cache)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("frequencies"), "{name}: {refused}");
    }
}
