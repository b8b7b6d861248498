//! Packed rows: a document's hidden states and gradients are those it has alone.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use candlescope::hooks::{Edit, EditOp, HookPoint, Hooks, Point, Selector};
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, ModelError, Opened, Trainable};

/// Documents of unequal lengths, two rows of unequal lengths.
const DOCUMENTS: [&[u32]; 5] = [
    &[3, 1, 4, 1, 5, 9, 2],
    &[6],
    &[5, 3, 5],
    &[8, 9, 7, 9, 3],
    &[2, 3],
];

fn packed() -> Batch {
    let row = |documents: &[&[u32]]| {
        let mut starts = Vec::new();
        let mut ids = Vec::new();
        for document in documents {
            starts.push(ids.len());
            ids.extend_from_slice(document);
        }
        (ids, starts)
    };
    Batch::packed(&[row(&DOCUMENTS[..3]), row(&DOCUMENTS[3..])]).unwrap()
}

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.retain(|p| p.is_dir());
    all.sort();
    all
}

fn open(path: &Path, dtype: DType) -> Decoder {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    Opened::at(path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

fn wide(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// Each document's part of `[batch, pos, d]`.
fn parts(batch: &Batch, x: &Tensor) -> Vec<Tensor> {
    let part = |row: usize| {
        let x = x.get(row).unwrap();
        let cut = move |d: std::ops::Range<usize>| x.narrow(0, d.start, d.len()).unwrap();
        batch.documents(row).into_iter().map(cut)
    };
    (0..batch.rows()).flat_map(part).collect()
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64, what: &str) {
    let (a, b) = (wide(a), wide(b));
    // What is nothing but rounding (the gradient of keys' bias) is compared with what is not.
    let largest = b.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    assert_eq!(a.len(), b.len(), "{what}");
    for (x, y) in a.iter().zip(&b) {
        assert!((x - y).abs() <= tolerance * largest, "{what}: {x} and {y}");
    }
}

#[test]
fn logits_of_packed_documents_are_those_of_the_documents_alone() {
    for folder in families() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let model = open(&folder, dtype);
            let batch = packed();
            let all = model.forward(&batch, &Hooks::new(), LogitsAt::All).unwrap();
            let together = parts(&batch, &all.logits().unwrap());
            for (document, logits) in DOCUMENTS.iter().zip(together) {
                let alone = Batch::single(document).unwrap();
                let alone = model.forward(&alone, &Hooks::new(), LogitsAt::All).unwrap();
                let alone = alone.logits().unwrap().squeeze(0).unwrap();
                close(
                    &logits,
                    &alone,
                    tolerance,
                    &format!("{folder:?} {document:?}"),
                );
            }
        }
    }
}

#[test]
fn gradients_of_packed_documents_are_the_sum_of_the_documents_gradients() {
    let weigh = |hidden: &Tensor| {
        let n = hidden.elem_count();
        let w: Vec<f64> = (0..n).map(|i| (i as f64 * 0.37).sin()).collect();
        let w = Tensor::from_vec(w, hidden.shape(), hidden.device()).unwrap();
        (hidden * w).unwrap().sum_all().unwrap()
    };
    for folder in families() {
        let model = Trainable::full(open(&folder, DType::F64)).unwrap();
        let batch = packed();
        let together = parts(&batch, &model.hidden(&batch).unwrap());
        let mut loss = weigh(&together[0]);
        for part in &together[1..] {
            loss = (loss + weigh(part)).unwrap();
        }
        let together = loss.backward().unwrap();
        let alone: Vec<_> = DOCUMENTS
            .iter()
            .map(|document| {
                let hidden = model.hidden(&Batch::single(document).unwrap()).unwrap();
                weigh(&hidden.squeeze(0).unwrap()).backward().unwrap()
            })
            .collect();
        let head = model.head().id();
        for p in model.params() {
            if p.var.id() == head && !model.decoder().config().tied {
                continue;
            }
            let at = p.var.as_tensor();
            let sum = alone[1..]
                .iter()
                .fold(alone[0].get(at).unwrap().clone(), |sum, grads| {
                    (sum + grads.get(at).unwrap()).unwrap()
                });
            let what = format!("{folder:?} {}", p.name);
            close(together.get(at).unwrap(), &sum, 1e-10, &what);
        }
    }
}

#[test]
fn what_packed_rows_cannot_do_is_refused_by_name() {
    let row = vec![1u32, 2, 3];
    for starts in [vec![], vec![1], vec![0, 2, 2], vec![0, 3]] {
        let refused = Batch::packed(&[(row.clone(), starts)]);
        assert!(matches!(refused, Err(ModelError::Packed { .. })));
    }
    let model = open(&families()[0], DType::F32);
    let edit = Edit {
        at: HookPoint::new(Point::ResidPost, 0),
        op: EditOp::Scale { factor: 2.0 },
        select: Selector::all(),
    };
    let edited = model.forward(&packed(), &Hooks::new().edit(edit), LogitsAt::All);
    assert!(matches!(edited, Err(ModelError::Packed { .. })));
    let hooks = Hooks::new().capture(HookPoint::new(Point::Pattern, 0));
    let captured = model.forward(&packed(), &hooks, LogitsAt::All);
    assert!(matches!(captured, Err(ModelError::Packed { .. })));
}
