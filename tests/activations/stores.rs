//! Rows out of stores: each kept token once an epoch, stores side by side, and what is refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use candlescope::activations::{
    Capture, Harvest, Manifest, PairedRows, Policy, Store, StoreDtype, StoreRows, TrainingRows,
};

use candlescope::hooks::HookPoint;
use candlescope::model::Decoder;

use crate::fixture::{
    assert_rows, contexts, decoder, expected, fingerprint, mixing, origin, points, policy, rest,
    spec, store, stream,
};

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
