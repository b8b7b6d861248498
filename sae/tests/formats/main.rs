//! Dictionaries from other programs, proved by what they compute: codes and reconstructions of a batch against those of the
//! source library. Where the fixtures come from: `tests/fixtures/foreign/README.md`.
#![allow(clippy::unwrap_used)]

mod fuzz;
mod pickles;
mod refusals;
mod saelens;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candlescope_sae::{Dictionary, dense};
use ndarray::Array2;

/// A file or folder of the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// All matrices of a safetensors file, by an independent reader.
fn matrices(path: &Path) -> BTreeMap<String, Array2<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |view: &safetensors::tensor::TensorView| {
        let values = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b));
        let shape = match view.shape() {
            &[n] => (1, n),
            shape => (shape[0], shape[1]),
        };
        Array2::from_shape_vec(shape, values.collect()).unwrap()
    };
    file.iter()
        .map(|(name, view)| (name.to_owned(), matrix(&view)))
        .collect()
}

/// The largest difference between two arrays, over the largest value of the second.
fn difference(found: &Array2<f32>, expected: &Array2<f32>) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let apart = found
        .iter()
        .zip(expected)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    apart / largest
}

/// Asserts that the same latents fire, with the same values, and that the same is written.
fn assert_same(dictionary: &Dictionary, folder: &Path) {
    let expected = matrices(&folder.join("expected.safetensors"));
    let rows = expected["x"].view();
    let codes = dense(&dictionary.encode(rows).unwrap(), dictionary.d_sae());
    let at = folder.display();
    for (found, expected) in codes.iter().zip(&expected["codes"]) {
        assert_eq!(
            *found != 0.0,
            *expected != 0.0,
            "{at}: {found} against {expected}"
        );
    }
    let codes = difference(&codes, &expected["codes"]);
    assert!(codes < 1e-5, "{at}: codes differ by {codes}");
    let out = difference(&dictionary.reconstruct(rows).unwrap(), &expected["out"]);
    assert!(out < 1e-5, "{at}: reconstructions differ by {out}");
}

/// Copies the files of a folder, not of those below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
