//! Parity with transformers of the products that are split on AMX, forced for weights of any size. A program of its own:
//! the choice is the whole process's. On CPUs without AMX this compares the exact products once more.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use candle_core::DType;
use candlescope::files::SafetensorsFolder;
use candlescope::model::{LoadOptions, Opened, check};
use candlescope_ops::{Products, set_products};

/// As in parity.rs.
const TOLERANCE: f64 = 2e-5;

#[test]
fn split_products_keep_every_family_within_the_tolerance_of_f32() {
    set_products(Products::Split { terms: 3, from: 0 });
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut compared = 0;
    let mut errors = Vec::new();
    for folder in std::fs::read_dir(models).unwrap() {
        let folder = folder.unwrap().path();
        let dump = folder.join("expected.safetensors");
        if !dump.exists() {
            continue;
        }
        let options = LoadOptions {
            dtype: DType::F32,
            ..LoadOptions::default()
        };
        let model = Opened::at(&folder, &options)
            .unwrap()
            .decoder(&options)
            .unwrap();
        let reference = SafetensorsFolder::open(&dump).unwrap();
        for error in check::against(&model, &reference).unwrap() {
            compared += 1;
            errors.push((
                error.max_rel,
                format!("{} {}", folder.display(), error.tensor),
            ));
        }
    }
    errors.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert!(errors[0].0 <= TOLERANCE, "{:#?}", &errors[..10]);
    assert!(compared > 90, "only {compared} tensors were compared");
}
