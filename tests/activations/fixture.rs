//! What these tests share: checkpoints of the fixtures, contexts of made-up tokens, rows as a pass computes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candlescope::activations::training::TokenAt;
use candlescope::activations::{
    Capture, CaptureSpec, Facts, Harvest, Kept, Mixing, Origin, Policy, SourceInfo, Store,
    StoreDtype, StreamRows, TrainingRows,
};
use candlescope::hooks::{HookPoint, Hooks};
use candlescope::model::{Batch, Checkpoint, Decoder, Fingerprint, LoadOptions, LogitsAt, Opened};
use ndarray::Array2;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn decoder(name: &str) -> Decoder {
    let options = LoadOptions::default();
    let path = fixtures().join("models").join(name);
    Opened::at(&path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

pub fn checkpoint() -> Checkpoint {
    let path = fixtures().join("gguf/llama/model.gguf");
    Checkpoint::open("fixture", &path, &LoadOptions::default()).unwrap()
}

pub fn points(names: &[&str]) -> Vec<HookPoint> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// `many` contexts of `length` tokens, different from each other.
pub fn contexts(many: u32, length: u32) -> Vec<Vec<u32>> {
    let token = |i: u32, j: u32| (i * 31 + j * 7 + (i * j) % 13) % 90 + 1;
    let context = |i| (0..length).map(|j| token(i, j)).collect();
    (0..many).map(context).collect()
}

pub fn policy() -> Policy {
    Policy {
        first: 1,
        ids: vec![7, 11, 50],
        norm: Some(1.2),
        sample: 6,
    }
}

pub fn fingerprint(weights: &str) -> Fingerprint {
    let field = |name: &str| name.to_string();
    Fingerprint {
        weights: field(weights),
        tokenizer: field("t"),
        template: field("c"),
        config: field("f"),
        dtype: field("f32"),
    }
}

pub fn origin() -> Origin {
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

pub fn spec(points: &[HookPoint], dtype: StoreDtype) -> CaptureSpec {
    CaptureSpec {
        points: points.to_vec(),
        kept: Kept::All,
        dtype,
        policy: Some(policy()),
        batch: 4,
        shard_bytes: 9000,
    }
}

pub fn store(model: &Decoder, rows: &Vec<Vec<u32>>, spec: CaptureSpec, folder: &Path) -> Store {
    let capture = Capture::prepare(model, rows, spec, &origin(), folder, false).unwrap();
    assert!(capture.estimate().rate.is_some_and(|rate| rate > 0));
    let outcome = capture.run(&mut |_| ControlFlow::Continue(())).unwrap();
    assert!(outcome.complete);
    Store::open(folder).unwrap()
}

pub fn rest(rows: &mut dyn TrainingRows, size: usize) -> Vec<Vec<Array2<f32>>> {
    std::iter::from_fn(|| rows.batch(size).unwrap()).collect()
}

/// Each kept token with its rows, as a pass over its context computes them, by a policy written out again.
pub fn expected(
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

pub fn assert_rows(
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

pub fn stream<'a>(model: &'a Decoder, rows: &'a Vec<Vec<u32>>, mixing: Mixing) -> StreamRows<'a> {
    let harvest = || Harvest::new(model, &points(&["resid_post.0", "mlp_act.1"])).unwrap();
    let (facts, _) = Facts::measure(&harvest(), rows, &policy(), mixing.batch).unwrap();
    StreamRows::new(harvest(), rows, facts, mixing, None).unwrap()
}

/// Small enough to be filled often.
pub fn mixing() -> Mixing {
    Mixing {
        rows: 40,
        keep: 0.5,
        batch: 3,
        seed: 5,
    }
}
