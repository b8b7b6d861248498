//! Rows streamed from the model: each kept token once, well mixed, gone on with after a break, the same bits.

use candlescope::activations::training::{TokenAt, mixed, perfectly, shared};
use candlescope::activations::{
    Facts, Harvest, Mixing, Policy, Store, StoreDtype, StoreError, StoreRows, StreamRows,
    TrainingRows,
};
use candlescope::model::Decoder;

use crate::fixture::{
    assert_rows, contexts, decoder, expected, mixing, points, rest, spec, store, stream,
};

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
