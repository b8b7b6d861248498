//! The same row computed in different ways: alone, padded, cached, after a prefix, generated, stopped early.

use super::*;

#[test]
fn a_row_is_the_same_alone_padded_cached_split_or_after_a_shared_prefix() {
    for name in FAMILIES {
        // In f32, where our own kernels compute, to the bit; f64 goes through candle's general product.
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 0.0)] {
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
                    gap(&row, alone) <= tolerance,
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
                    gap(&rest.logits.unwrap(), &want) <= tolerance,
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
                    gap(&row, &whole.logits.unwrap()) <= tolerance,
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
            // Not to the bit: who captures every point has the pattern formed, and then attention goes by that way.
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
        gap(&branch, &whole) == 0.0,
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
