//! What cannot apply is refused by name.

use super::*;

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
