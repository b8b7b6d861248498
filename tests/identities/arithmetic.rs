//! The arithmetic between hook points, their shapes, and that each edit of them reaches the logits.

use super::*;

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
