//! What edits do, where they do it, and that gradients pass through them.

use super::*;

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
