//! Rows for training dictionaries: packed contexts, what is left out of them, and the order in which they come, streamed from
//! the model or out of a store; gone on with after a break, the same bits.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candlescope::activations::training::{TokenAt, mixed, perfectly, shared};
use candlescope::activations::{
    Capture, CaptureSpec, Column, Contexts, Cursor, Facts, Harvest, Kept, Manifest, Mixing, Origin,
    PackedContexts, Packing, PairedRows, Policy, Rows, Source, SourceInfo, Store, StoreDtype,
    StoreError, StoreRows, StreamRows, TextOptions, TextRows, TrainingRows,
};
use candlescope::hooks::{HookPoint, Hooks};
use candlescope::model::{Batch, Checkpoint, Decoder, Fingerprint, LoadOptions, LogitsAt, Opened};
use ndarray::Array2;
use proptest::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn decoder(name: &str) -> Decoder {
    let options = LoadOptions::default();
    let path = fixtures().join("models").join(name);
    Opened::at(&path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

fn checkpoint() -> Checkpoint {
    let path = fixtures().join("gguf/llama/model.gguf");
    Checkpoint::open("fixture", &path, &LoadOptions::default()).unwrap()
}

fn points(names: &[&str]) -> Vec<HookPoint> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// `many` contexts of `length` tokens, different from each other.
fn contexts(many: u32, length: u32) -> Vec<Vec<u32>> {
    let token = |i: u32, j: u32| (i * 31 + j * 7 + (i * j) % 13) % 90 + 1;
    let context = |i| (0..length).map(|j| token(i, j)).collect();
    (0..many).map(context).collect()
}

fn policy() -> Policy {
    Policy {
        first: 1,
        ids: vec![7, 11, 50],
        norm: Some(1.2),
        sample: 6,
    }
}

fn fingerprint(weights: &str) -> Fingerprint {
    let field = |name: &str| name.to_string();
    Fingerprint {
        weights: field(weights),
        tokenizer: field("t"),
        template: field("c"),
        config: field("f"),
        dtype: field("f32"),
    }
}

fn origin() -> Origin {
    Origin {
        model: "fixture".into(),
        fingerprint: fingerprint("w"),
        numerical_path: "test".into(),
        source: SourceInfo {
            kind: "ids".into(),
            name: "ids".into(),
            sha256: String::new(),
            encoding: "raw".into(),
            column: None,
            max_len: 64,
            truncate: false,
            limit: None,
            now: None,
            packing: None,
        },
    }
}

fn spec(points: &[HookPoint], dtype: StoreDtype) -> CaptureSpec {
    CaptureSpec {
        points: points.to_vec(),
        kept: Kept::All,
        dtype,
        policy: Some(policy()),
        batch: 4,
        shard_bytes: 9000,
    }
}

fn store(model: &Decoder, rows: &Vec<Vec<u32>>, spec: CaptureSpec, folder: &Path) -> Store {
    let capture = Capture::prepare(model, rows, spec, &origin(), folder, false).unwrap();
    assert!(capture.estimate().rate.is_some_and(|rate| rate > 0));
    let outcome = capture.run(&mut |_| ControlFlow::Continue(())).unwrap();
    assert!(outcome.complete);
    Store::open(folder).unwrap()
}

fn stream<'a>(model: &'a Decoder, rows: &'a Vec<Vec<u32>>, mixing: Mixing) -> StreamRows<'a> {
    let harvest = || Harvest::new(model, &points(&["resid_post.0", "mlp_act.1"])).unwrap();
    let (facts, _) = Facts::measure(&harvest(), rows, &policy(), mixing.batch).unwrap();
    StreamRows::new(harvest(), rows, facts, mixing, None).unwrap()
}

/// Small enough to be filled often.
fn mixing() -> Mixing {
    Mixing {
        rows: 40,
        keep: 0.5,
        batch: 3,
        seed: 5,
    }
}

fn rest(rows: &mut dyn TrainingRows, size: usize) -> Vec<Vec<Array2<f32>>> {
    std::iter::from_fn(|| rows.batch(size).unwrap()).collect()
}

/// Each kept token with its rows, as a pass over its context computes them, by a policy written out again.
fn expected(
    model: &Decoder,
    rows: &[Vec<u32>],
    facts: &Facts,
) -> BTreeMap<(u64, u32), Vec<Vec<f32>>> {
    let points: Vec<HookPoint> = facts.points.iter().map(|p| p.point).collect();
    let hooks = points.iter().fold(Hooks::new(), |h, at| h.capture(*at));
    let mut out = BTreeMap::new();
    for (context, ids) in rows.iter().enumerate() {
        let batch = Batch::single(ids).unwrap();
        let captured = model
            .forward(&batch, &hooks, LogitsAt::None)
            .unwrap()
            .captured;
        for (position, id) in ids.iter().enumerate() {
            let row = |at: &HookPoint| -> Vec<f32> {
                let tensor = captured[at].get(0).unwrap().get(position).unwrap();
                tensor.flatten_all().unwrap().to_vec1().unwrap()
            };
            let values: Vec<Vec<f32>> = points.iter().map(row).collect();
            let outlies = values.iter().zip(&facts.points).any(|(row, p)| {
                let norm = row
                    .iter()
                    .map(|v| f64::from(*v).powi(2))
                    .sum::<f64>()
                    .sqrt();
                norm > 1.2 * p.median_norm
            });
            if position > 0 && ![7, 11, 50].contains(id) && !outlies {
                out.insert((context as u64, position as u32), values);
            }
        }
    }
    out
}

fn assert_rows(
    batches: &[(Vec<TokenAt>, Vec<Array2<f32>>)],
    expected: &BTreeMap<(u64, u32), Vec<Vec<f32>>>,
    tolerance: f32,
) {
    let mut seen = BTreeSet::new();
    for (places, matrices) in batches {
        for (i, place) in places.iter().enumerate() {
            let token = (place.context, place.position);
            assert!(seen.insert(token), "{token:?} twice");
            for (matrix, row) in matrices.iter().zip(&expected[&token]) {
                let scale = row.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                for (a, b) in matrix.row(i).iter().zip(row) {
                    assert!((a - b).abs() <= tolerance * scale, "{token:?} {a} {b}");
                }
            }
        }
    }
    assert_eq!(seen.len(), expected.len());
}

#[test]
fn a_stream_gives_each_kept_token_once_and_counts_the_others() {
    let model = decoder("llama");
    let rows = contexts(31, 12);
    let mut stream = stream(&model, &rows, mixing());
    let facts = stream.facts().clone();
    let expected = expected(&model, &rows, &facts);
    let mut batches = Vec::new();
    while let Some(batch) = stream.batch(16).unwrap() {
        batches.push((stream.places().to_vec(), batch));
    }
    // Contexts in a pass of three round otherwise than alone.
    assert_rows(&batches, &expected, 1e-5);
    let widths = stream.widths();
    assert!(widths[0] != widths[1], "{widths:?}");
    assert_eq!(batches[0].1[1].dim(), (16, widths[1]));
    let tally = stream.tally();
    assert_eq!(tally.kept, expected.len() as u64);
    assert_eq!((tally.first, tally.kept + tally.left_out()), (31, 31 * 12));
    assert!(tally.special > 0 && tally.norm > 0, "{tally:?}");
    assert!(stream.batch(16).unwrap().is_none());
}

#[test]
fn a_stream_saved_after_any_batch_goes_on_with_the_same_bits() {
    let model = decoder("llama");
    let rows = contexts(29, 12);
    let whole = rest(&mut stream(&model, &rows, mixing()), 10);
    assert!(whole.len() > 12);
    for broken in [0, 1, 2, 3, 5, 8, whole.len() - 1, whole.len()] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = stream(&model, &rows, mixing());
        for _ in 0..broken {
            first.batch(10).unwrap().unwrap();
        }
        first.save(folder.path()).unwrap();
        let mut second = stream(&model, &rows, mixing());
        second.batch(7).unwrap();
        second.restore(folder.path()).unwrap();
        assert_eq!(second.cursor(), first.cursor());
        assert!(rest(&mut second, 10) == whole[broken..], "after {broken}");
        assert_eq!(second.tally().kept, rest_tally(&model, &rows));
        // Another seed or another source is another stream.
        let other = Mixing {
            seed: 6,
            ..mixing()
        };
        let error = stream(&model, &rows, other)
            .restore(folder.path())
            .unwrap_err();
        assert!(error.to_string().contains("mixing"), "{error}");
        let others = contexts(29, 13);
        let error = stream(&model, &others, mixing())
            .restore(folder.path())
            .unwrap_err();
        assert!(error.to_string().contains("facts"), "{error}");
        if broken > 0 && broken < whole.len() {
            let file = folder.path().join("training-rows.safetensors");
            let mut bytes = std::fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&file, bytes).unwrap();
            let error = second.restore(folder.path()).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
}

fn rest_tally(model: &Decoder, rows: &Vec<Vec<u32>>) -> u64 {
    let mut all = stream(model, rows, mixing());
    rest(&mut all, 100);
    all.tally().kept
}

#[test]
fn batches_are_the_same_bits_on_any_number_of_threads() {
    let model = decoder("llama");
    let rows = contexts(20, 12);
    let folder = tempfile::tempdir().unwrap();
    store(
        &model,
        &rows,
        spec(&points(&["resid_post.1"]), StoreDtype::BF16),
        folder.path(),
    );
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let streamed = rest(&mut stream(&model, &rows, mixing()), 16);
            let stored = Store::open(folder.path()).unwrap();
            let mut stored = StoreRows::open(stored, &[], None, 3, 1).unwrap();
            (streamed, rest(&mut stored, 16))
        })
    };
    assert!(on(1) == on(3));
}

/// Shares of rows that meet a row of their context in a batch. Golden: a simulation of the buffer in 15 lines of Python, 60
/// seeds, within four of its standard deviations; the formula, which knows no beginning and end, is near it.
#[test]
fn how_well_rows_are_mixed_is_as_stated() {
    let model = decoder("llama");
    let rows = contexts(400, 9);
    let (each, batch) = (8, 16);
    let mean = |places: &[Vec<TokenAt>]| {
        let shares = places
            .iter()
            .filter(|p| p.len() == batch)
            .map(|p| shared(p));
        let shares: Vec<f64> = shares.collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    };
    let only_first = Policy {
        first: 1,
        ..Policy::nothing()
    };
    let perfect = perfectly(400 * each, each, batch);
    let mut found = Vec::new();
    for (buffer, keep, simulated, tolerance) in [
        (64, 0.0, 0.867, 0.018),
        (320, 0.5, 0.176, 0.034),
        (1280, 0.5, 0.060, 0.019),
    ] {
        let harvest = || Harvest::new(&model, &points(&["resid_post.0"])).unwrap();
        let (facts, _) = Facts::measure(&harvest(), &rows, &only_first, 8).unwrap();
        let mixing = Mixing {
            rows: buffer,
            keep,
            batch: 8,
            seed: 1,
        };
        let mut stream = StreamRows::new(harvest(), &rows, facts, mixing, None).unwrap();
        let mut places = Vec::new();
        while stream.batch(batch).unwrap().is_some() {
            places.push(stream.places().to_vec());
        }
        let (share, stated) = (mean(&places), mixed(buffer, keep, each, batch));
        assert!(
            (share - simulated).abs() < tolerance,
            "{buffer} {keep}: {share} simulated {simulated}"
        );
        assert!(
            (simulated - stated).abs() < 0.02,
            "{buffer} {keep}: stated {stated}"
        );
        found.push(share);
    }
    assert!(
        found[0] > 4.0 * found[1] && found[1] > 1.5 * found[2],
        "{found:?}"
    );

    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(&points(&["resid_post.0"]), StoreDtype::F32);
    (spec.policy, spec.shard_bytes) = (Some(only_first), 100_000);
    let store = store(&model, &rows, spec, folder.path());
    let mut stored = StoreRows::open(store, &[], None, 1, 4).unwrap();
    let mut places = Vec::new();
    while stored.batch(batch).unwrap().is_some() {
        places.push(stored.places().to_vec());
    }
    let share = mean(&places);
    assert!(
        (share - perfect).abs() < 0.008,
        "{share}, perfect {perfect}"
    );
}

#[test]
fn a_store_gives_each_kept_token_once_an_epoch_and_goes_on_where_it_was() {
    let model = decoder("llama");
    let rows = contexts(22, 12);
    let at = points(&["resid_post.0", "mlp_act.1"]);
    let folder = tempfile::tempdir().unwrap();
    let made = store(&model, &rows, spec(&at, StoreDtype::F32), folder.path());
    assert!(made.manifest().shards.len() > 3);
    let facts = made.manifest().facts.clone().unwrap();
    let expected = expected(&model, &rows, &facts);
    let open = |seed| {
        let store = Store::open(folder.path()).unwrap();
        StoreRows::open(store, &at, Some(&fingerprint("w")), seed, 2).unwrap()
    };
    let mut stored = open(9);
    let kept = expected.len();
    assert_eq!(stored.total(), Some(kept as u64));
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let batch = stored.batch(kept).unwrap().unwrap();
        epochs.push((stored.places().to_vec(), batch));
    }
    assert!(stored.batch(1).unwrap().is_none());
    for epoch in &epochs {
        assert_rows(std::slice::from_ref(epoch), &expected, 1e-5);
    }
    assert!(epochs[0].0 != epochs[1].0);

    let whole = rest(&mut open(9), 13);
    assert!(rest(&mut open(10), 13) != whole);
    for broken in [0, 4, whole.len() / 2 + 1, whole.len()] {
        let saved = tempfile::tempdir().unwrap();
        let mut first = open(9);
        (0..broken).for_each(|_| drop(first.batch(13).unwrap().unwrap()));
        first.save(saved.path()).unwrap();
        let mut second = open(9);
        second.batch(50).unwrap();
        second.restore(saved.path()).unwrap();
        assert!(rest(&mut second, 13) == whole[broken..], "after {broken}");
        assert!(
            open(10)
                .restore(saved.path())
                .unwrap_err()
                .to_string()
                .contains("seed")
        );
        let error = stream(&model, &rows, mixing())
            .restore(saved.path())
            .unwrap_err();
        assert!(error.to_string().contains("training-rows.json"), "{error}");
    }
}

#[test]
fn a_store_that_ends_early_or_is_of_another_model_is_refused() {
    let model = decoder("llama");
    let rows = contexts(22, 12);
    let folder = tempfile::tempdir().unwrap();
    let at = points(&["resid_post.0"]);
    let prepare = |policy: Option<Policy>| {
        let mut spec = spec(&at, StoreDtype::F32);
        spec.policy = policy;
        Capture::prepare(&model, &rows, spec, &origin(), folder.path(), true)
    };
    let mut calls = 0;
    let stopped = prepare(Some(policy())).unwrap().run(&mut |_| {
        calls += 1;
        if calls < 4 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert!(!stopped.unwrap().complete);
    let open = |weights: &str, points: &[HookPoint]| {
        let store = Store::open(folder.path()).unwrap();
        let opened = StoreRows::open(store, points, Some(&fingerprint(weights)), 0, 1);
        opened.err().map(|e| e.to_string())
    };
    assert!(open("w", &at).unwrap().contains("not complete"));
    // Resuming takes the numbers of the first run, and refuses another policy.
    let other = prepare(Some(Policy {
        first: 2,
        ..policy()
    }))
    .err()
    .unwrap();
    assert!(other.to_string().contains("left out"), "{other}");
    assert!(
        prepare(None)
            .err()
            .unwrap()
            .to_string()
            .contains("left out")
    );
    let begun = Manifest::read(folder.path()).unwrap();
    let resumed = prepare(Some(policy())).unwrap();
    assert_eq!(resumed.facts(), begun.facts.as_ref());
    assert!(
        resumed
            .run(&mut |_| ControlFlow::Continue(()))
            .unwrap()
            .complete
    );
    assert_eq!(open("w", &at), None);
    assert!(open("v", &at).unwrap().contains("weights"));
    assert!(
        open("w", &points(&["resid_post.1"]))
            .unwrap()
            .contains("resid_post.1")
    );
    let whole = tempfile::tempdir().unwrap();
    store(&model, &rows, spec(&at, StoreDtype::F32), whole.path());
    for entry in std::fs::read_dir(whole.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert!(
            read(whole.path()) == read(folder.path()),
            "{}",
            name.display()
        );
    }
}

/// The loss in the manifest is that of the rows that come back, against the same rows in f32.
#[test]
fn what_a_number_format_loses_is_measured() {
    let model = decoder("llama");
    let rows = contexts(12, 12);
    let at = points(&["resid_post.0", "z.1"]);
    let exact = tempfile::tempdir().unwrap();
    let exact = store(&model, &rows, spec(&at, StoreDtype::F32), exact.path());
    assert!(exact.manifest().lost().is_empty());
    let mut losses = Vec::new();
    for (dtype, least, most) in [
        (StoreDtype::F16, 1e-9, 1e-7),
        (StoreDtype::BF16, 1e-7, 1e-5),
        (StoreDtype::Int8, 1e-6, 1e-3),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let lossy = store(&model, &rows, spec(&at, dtype), folder.path());
        let ends = |store: Store| {
            let mut rows = StoreRows::open(store, &at, None, 0, 1).unwrap();
            rows.batch(1000).unwrap().unwrap()
        };
        // The same seed gives the same order, but the norms decide on what was computed, not on what is stored.
        let exact = ends(Store::open(exact.folder()).unwrap());
        let (stored, manifest) = (ends(Store::open(folder.path()).unwrap()), lossy.manifest());
        for (lost, (a, b)) in manifest.lost().iter().zip(exact.iter().zip(&stored)) {
            let ratio = |(x, y): (ndarray::ArrayView1<f32>, ndarray::ArrayView1<f32>)| {
                let pairs = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2));
                pairs.sum::<f64>() / x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
            };
            let ratios: Vec<f64> = a.rows().into_iter().zip(b.rows()).map(ratio).collect();
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            let worst = ratios.iter().copied().fold(0.0, f64::max);
            assert!((lost.mean() / mean - 1.0).abs() < 1e-6, "{lost:?} {mean}");
            assert!((lost.worst / worst - 1.0).abs() < 1e-6, "{lost:?} {worst}");
            assert!(least < mean && mean < most, "{dtype:?} {mean}");
            losses.push(mean);
        }
        assert_eq!(manifest.lost().len(), 2);
        // The store's own reading of a row is the training row's.
        let row = lossy.row(at[1], 3).unwrap();
        assert_eq!(row.dims().len(), 3);
        let tokens: Vec<f32> = row.flatten_all().unwrap().to_vec1().unwrap();
        assert!(tokens.iter().any(|v| stored[1].iter().any(|s| s == v)));
    }
    assert!(losses[0] < losses[2] && losses[2] < losses[4], "{losses:?}");
    let mut attention = spec(&points(&["pattern.0", "resid_post.0"]), StoreDtype::Int8);
    attention.policy = None;
    let folder = tempfile::tempdir().unwrap();
    let error = Capture::prepare(&model, &rows, attention, &origin(), folder.path(), false);
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("int8 for pattern.0")
    );
}

#[test]
fn a_pass_stops_after_the_last_point_and_refuses_what_is_no_number() {
    let mut model = decoder("llama");
    let rows = contexts(4, 8);
    let layer = &mut model.weights_mut().layers[1];
    layer.o = layer.down.clone();
    let pass = |model: &Decoder, names: &[&str]| {
        let harvest = Harvest::new(model, &points(names)).unwrap();
        harvest.pass(&rows, 10).map(|tokens| tokens.len())
    };
    assert_eq!(pass(&model, &["resid_post.0", "mlp_out.0"]).unwrap(), 4);
    assert_eq!(pass(&model, &["resid_post.0", "z.1"]).unwrap(), 4);
    assert!(pass(&model, &["resid_post.1"]).is_err());
    let embed = &mut model.weights_mut().embed;
    *embed = (embed.clone() * f64::NAN).unwrap();
    let error = pass(&model, &["embed"]).unwrap_err().to_string();
    assert!(
        error.contains("embed, row 10, position 0") && error.contains("NaN"),
        "{error}"
    );
    for bad in [
        &[][..],
        &["pattern.0"],
        &["embed", "embed"],
        &["resid_post.9"],
    ] {
        assert!(Harvest::new(&model, &points(bad)).is_err(), "{bad:?}");
    }
}

fn options() -> TextOptions {
    TextOptions {
        chat: Some(false),
        max_len: None,
        truncate: false,
        limit: None,
        now: "2026-01-02T00:00:00".parse().unwrap(),
    }
}

fn texts(checkpoint: &Checkpoint, source: Source) -> TextRows<'_> {
    TextRows::new(checkpoint, source, options()).unwrap()
}

fn all(contexts: &dyn Contexts, from: Cursor) -> Vec<(Vec<u32>, Cursor)> {
    contexts
        .contexts(from)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn documents_are_packed_end_to_end_and_any_cursor_goes_on() {
    let checkpoint = checkpoint();
    let tokenizer = &checkpoint.tokenizer;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "b.txt",
        "the other thing\n<|endoftext|>\n \n<|endoftext|>\nin there,  the end!\n",
    );
    write("a.md", "Then: 12 + 34 = 46");
    write("c.json", "{}");
    let packing = Packing::new(5, Some(false), tokenizer).unwrap();
    let end = packing.separator.unwrap();
    assert!(tokenizer.is_special(end));
    let mut expected = Vec::new();
    for text in [
        "Then: 12 + 34 = 46",
        "the other thing",
        "in there,  the end!",
    ] {
        expected.extend(tokenizer.encode(text, false).unwrap());
        expected.push(end);
    }
    let packed = |packing| {
        let source = Source::Documents(folder.path().to_path_buf());
        PackedContexts::new(texts(&checkpoint, source), packing).unwrap()
    };
    let plain = packed(packing);
    let found = all(&plain, Cursor::default());
    let cut: Vec<Vec<u32>> = expected.chunks_exact(5).map(<[u32]>::to_vec).collect();
    assert_eq!(found.iter().map(|c| c.0.clone()).collect::<Vec<_>>(), cut);
    for (i, (_, cursor)) in found.iter().enumerate() {
        assert_eq!(all(&plain, *cursor), found[i + 1..]);
        assert_eq!(cursor.context, i as u64 + 1);
    }
    // With a first token each context takes one token less.
    let bos = tokenizer.bos().unwrap();
    let begun = all(
        &packed(Packing::new(5, Some(true), tokenizer).unwrap()),
        Cursor::default(),
    );
    let cut: Vec<Vec<u32>> = expected
        .chunks_exact(4)
        .map(|c| [&[bos], c].concat())
        .collect();
    assert_eq!(begun.iter().map(|c| c.0.clone()).collect::<Vec<_>>(), cut);
    let limited = Packing {
        limit: Some(3),
        ..packing
    };
    assert_eq!(all(&packed(limited), Cursor::default()), found[..3]);
    let info = plain.info().unwrap();
    assert_eq!(
        (info.kind.as_str(), info.max_len, info.packing),
        ("documents", 5, Some(packing))
    );
    assert!(Packing::new(1, None, tokenizer).is_err());
    let long = Packing {
        length: 9999,
        ..packing
    };
    let source = Source::Documents(folder.path().to_path_buf());
    assert!(PackedContexts::new(texts(&checkpoint, source), long).is_err());
}

#[test]
fn rows_of_files_and_prompts_are_packed_like_documents() {
    let checkpoint = checkpoint();
    let data = |name: &str| fixtures().join("data").join(name);
    let ids = |source: Source, chat| {
        let options = TextOptions { chat, ..options() };
        let texts = TextRows::new(&checkpoint, source, options).unwrap();
        let packing = Packing::new(16, Some(false), &checkpoint.tokenizer).unwrap();
        let packed = PackedContexts::new(texts, packing).unwrap();
        packed.rows()?.collect::<Result<Vec<_>, _>>()
    };
    let lines = std::fs::read_to_string(data("text.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let packing = Packing::new(16, None, &checkpoint.tokenizer).unwrap();
    let mut stream: Vec<u32> = Vec::new();
    for row in &rows {
        stream.extend(
            checkpoint
                .tokenizer
                .encode(row["text"].as_str().unwrap(), false)
                .unwrap(),
        );
        stream.extend(packing.separator);
    }
    let found = ids(Source::Jsonl(data("text.jsonl"), Column::Text), Some(false)).unwrap();
    assert_eq!(found.concat(), stream[..stream.len() / 16 * 16]);
    let folder = tempfile::tempdir().unwrap();
    let array = folder.path().join("text.json");
    std::fs::write(&array, serde_json::to_string(&rows).unwrap()).unwrap();
    assert_eq!(
        ids(Source::Table(array, Column::Text), Some(false)).unwrap(),
        found
    );
    // The Parquet file holds the rows of the JSON lines.
    if checkpoint.template.is_some() {
        let of_lines = ids(
            Source::Jsonl(data("messages.jsonl"), Column::Messages),
            None,
        )
        .unwrap();
        let of_parquet = ids(Source::Table(data("hub.parquet"), Column::Messages), None).unwrap();
        assert!(of_lines.len() > 5);
        assert_eq!(of_lines, of_parquet);
    }
    assert!(ids(Source::Table(data("hub.parquet"), Column::Text), None).is_err());
    assert!(ids(Source::Table(data("none.parquet"), Column::Text), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn packing_loses_no_token_but_the_last_ones(
        documents in proptest::collection::vec("[a-z ]{0,40}", 1..8), length in 2usize..20
    ) {
        let checkpoint = checkpoint();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, documents.join("\n")).unwrap();
        let packing = Packing::new(length, Some(false), &checkpoint.tokenizer).unwrap();
        let contexts = PackedContexts::new(texts(&checkpoint, Source::Lines(path)), packing).unwrap();
        let mut expected = Vec::new();
        for text in documents.iter().filter(|text| !text.trim().is_empty()) {
            expected.extend(checkpoint.tokenizer.encode(text, false).unwrap());
            expected.extend(packing.separator);
        }
        let found = all(&contexts, Cursor::default());
        let ids: Vec<u32> = found.iter().flat_map(|c| c.0.clone()).collect();
        prop_assert_eq!(&ids[..], &expected[..expected.len() / length * length]);
        for (i, (_, cursor)) in found.iter().enumerate() {
            prop_assert_eq!(&all(&contexts, *cursor)[..], &found[i + 1..]);
        }
    }
}

#[test]
fn a_policy_is_read_from_a_list() {
    let checkpoint = checkpoint();
    let parse = |text: &str| Policy::parse(text, &checkpoint.tokenizer);
    assert_eq!(
        parse("first,special,norm").unwrap(),
        Policy::training(&checkpoint.tokenizer)
    );
    let policy = parse("first:4, id:9,norm:2.5,id:0,sample:3").unwrap();
    assert_eq!((policy.first, policy.ids), (4, vec![0, 9]));
    assert_eq!((policy.norm, policy.sample), (Some(2.5), 3));
    assert_eq!(parse("none").unwrap(), Policy::nothing());
    for bad in [
        "",
        "frist",
        "first:0",
        "norm:1",
        "norm:nan",
        "id",
        "id:99999",
        "special:2",
        "none,first",
    ] {
        assert!(
            parse(bad).unwrap_err().to_string().contains("--drop"),
            "{bad}"
        );
    }
}

#[test]
fn stores_of_the_same_tokens_come_side_by_side() {
    let rows = contexts(22, 12);
    let at = points(&["resid_post.0", "mlp_act.1"]);
    let models = ["llama", "mistral"].map(decoder);
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let expected = [0, 1].map(|i| {
        let mut spec = spec(&at, StoreDtype::F32);
        // Other shards, the same tokens.
        spec.shard_bytes += i as u64 * 3000;
        let made = store(&models[i], &rows, spec, folders[i].path());
        expected(&models[i], &rows, made.manifest().facts.as_ref().unwrap())
    });
    let mut both = BTreeMap::new();
    for (token, first) in &expected[0] {
        if let Some(second) = expected[1].get(token) {
            both.insert(*token, [first.clone(), second.clone()].concat());
        }
    }
    assert!(!both.is_empty() && both.len() < expected[0].len().max(expected[1].len()));
    let open = |seed| {
        let one = |folder: &tempfile::TempDir| {
            let store = Store::open(folder.path()).unwrap();
            StoreRows::open(store, &at, None, seed, 2).unwrap()
        };
        PairedRows::new(folders.iter().map(one).collect()).unwrap()
    };
    let mut paired = open(4);
    assert_eq!(
        (paired.total(), paired.widths().len()),
        (Some(both.len() as u64), 4)
    );
    for _ in 0..2 {
        let batch = paired.batch(both.len()).unwrap().unwrap();
        assert_rows(&[(paired.places().to_vec(), batch)], &both, 1e-5);
    }
    assert!(paired.batch(1).unwrap().is_none());
    let whole = rest(&mut open(4), 13);
    for broken in [0, 3, whole.len()] {
        let saved = tempfile::tempdir().unwrap();
        let mut first = open(4);
        (0..broken).for_each(|_| drop(first.batch(13).unwrap().unwrap()));
        first.save(saved.path()).unwrap();
        let mut second = open(4);
        second.batch(50).unwrap();
        second.restore(saved.path()).unwrap();
        assert!(rest(&mut second, 13) == whole[broken..], "after {broken}");
        let error = open(5).restore(saved.path()).unwrap_err().to_string();
        assert!(error.contains("seed"), "{error}");
    }
}

#[test]
fn stores_of_other_tokens_are_refused_by_name() {
    let model = decoder("llama");
    let at = points(&["resid_post.0"]);
    let rows = contexts(9, 12);
    let first = tempfile::tempdir().unwrap();
    store(&model, &rows, spec(&at, StoreDtype::F32), first.path());
    let open =
        |folder: &Path| StoreRows::open(Store::open(folder).unwrap(), &at, None, 0, 1).unwrap();
    let refused = |rows: &Vec<Vec<u32>>, tokenizer: &str, words: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut origin = origin();
        origin.fingerprint.tokenizer = tokenizer.into();
        let spec = spec(&at, StoreDtype::F32);
        let capture = Capture::prepare(&model, rows, spec, &origin, folder.path(), false).unwrap();
        capture.run(&mut |_| ControlFlow::Continue(())).unwrap();
        let stores = vec![open(first.path()), open(folder.path())];
        let error = PairedRows::new(stores).err().unwrap().to_string();
        let names = [folder.path(), first.path()].map(|path| path.display().to_string());
        for word in words
            .iter()
            .copied()
            .chain(names.iter().map(String::as_str))
        {
            assert!(error.contains(word), "{word}: {error}");
        }
    };
    let mut other = rows.clone();
    other[3][5] += 1;
    refused(&other, "t", &["token ids"]);
    refused(
        &contexts(8, 12),
        "t",
        &["contexts", "9 contexts of 108 tokens", "8 contexts of 96"],
    );
    refused(&contexts(9, 11), "t", &["contexts"]);
    refused(&rows, "u", &["tokenizers"]);
    assert!(PairedRows::new(Vec::new()).is_err());
}
