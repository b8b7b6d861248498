//! Parity with transformers: tiny checkpoints of every family and of the options that change the forward pass.
//! The dumps are described in tests/fixtures/models/README.md and tests/fixtures/gguf/README.md.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use candle_core::DType;
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::hooks::Hooks;
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, Opened, check};

/// Largest error over a tensor, relative to its largest value, that f32 rounding explains.
const TOLERANCE: f64 = 2e-5;

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(kind)
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

fn dumps(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.retain(|p| {
        let name = p.file_name().unwrap().to_string_lossy().to_string();
        name.starts_with("expected")
            && name.ends_with(".safetensors")
            && name != "expected_f64.safetensors"
    });
    found.sort();
    found
}

fn folders(kind: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(fixtures(kind))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.retain(|p| p.is_dir());
    all.sort();
    all
}

#[test]
fn logits_hidden_states_and_patterns_equal_transformers() {
    let mut compared = 0;
    let mut failures = Vec::new();
    for folder in folders("models") {
        let model = open(&folder, DType::F32);
        for dump in dumps(&folder) {
            let reference = SafetensorsFolder::open(&dump).unwrap();
            for error in check::against(&model, &reference).unwrap() {
                compared += 1;
                if error.max_rel.is_nan() || error.max_rel > TOLERANCE {
                    let name = folder.file_name().unwrap().to_string_lossy().to_string();
                    failures.push(format!(
                        "{name} {:?} {} {:.2e}",
                        dump.file_name().unwrap(),
                        error.tensor,
                        error.max_rel
                    ));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {compared}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(compared > 250, "only {compared} tensors were compared");
}

#[test]
fn the_f64_twin_differs_from_f32_by_rounding_and_equals_the_f64_reference() {
    let mut seen = 0;
    let mut failures = Vec::<String>::new();
    for folder in folders("models") {
        let file = folder.join("expected_f64.safetensors");
        if !file.exists() {
            continue;
        }
        let dump = SafetensorsFolder::open(&file).unwrap();
        let rows = check::input_rows(&dump).unwrap();
        let batch = Batch::new(&rows).unwrap();
        let logits = |dtype| {
            let out = open(&folder, dtype)
                .forward(&batch, &Hooks::new(), LogitsAt::All)
                .unwrap();
            out.logits()
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        let (exact, single) = (logits(DType::F64), logits(DType::F32));
        let golden = dump
            .load("exact.logits", DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap();
        let scale = golden.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let gap = |a: &[f64], b: &[f64]| {
            a.iter()
                .zip(b)
                .fold(0.0_f64, |m, (x, y)| m.max((x - y).abs()))
                / scale
        };
        if !(gap(&exact, &golden) < 1e-9 && gap(&single, &exact) < 5e-6) {
            failures.push(format!("{}: {:e}", folder.display(), gap(&exact, &golden)));
        }
        seen += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(seen, 11);
}

#[test]
fn a_gguf_file_gives_the_numbers_of_its_safetensors_twin() {
    let mut compared = 0;
    for folder in folders("gguf") {
        let dump = [
            folder.join("expected.safetensors"),
            fixtures("models")
                .join(twin(&folder))
                .join("expected.safetensors"),
        ]
        .into_iter()
        .find(|p| p.exists());
        let (Some(dump), true) = (dump, folder.file_name().unwrap() != "types") else {
            continue;
        };
        let model = open(&folder.join("model.gguf"), DType::F32);
        let reference = SafetensorsFolder::open(&dump).unwrap();
        for error in check::against(&model, &reference).unwrap() {
            assert!(
                error.max_rel < TOLERANCE,
                "{}: {} {:e}",
                folder.display(),
                error.tensor,
                error.max_rel
            );
            compared += 1;
        }
    }
    assert!(compared >= 60, "only {compared} tensors were compared");
}

#[test]
fn left_padded_rows_and_their_greedy_continuations_equal_transformers() {
    for name in ["llama", "gpt2", "gemma3", "gpt_neox"] {
        let folder = fixtures("models").join(name);
        let model = open(&folder, DType::F32);
        let dump = SafetensorsFolder::open(&folder.join("padded.safetensors")).unwrap();
        let ints = |tensor| dump.load_ints(tensor).unwrap().to_vec2::<i64>().unwrap();
        let (ids, mask) = (ints("input_ids"), ints("attention_mask"));
        let rows: Vec<Vec<u32>> = ids
            .iter()
            .zip(&mask)
            .map(|(ids, mask)| {
                ids.iter()
                    .zip(mask)
                    .filter(|(_, m)| **m == 1)
                    .map(|(id, _)| *id as u32)
                    .collect()
            })
            .collect();
        let logits = model
            .forward(&Batch::new(&rows).unwrap(), &Hooks::new(), LogitsAt::All)
            .unwrap()
            .logits
            .unwrap();
        let theirs = dump.load("logits", DType::F32).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let pad = ids[i].len() - row.len();
            let real = |t: &candle_core::Tensor| {
                let row = t.get(i).unwrap().narrow(0, pad, row.len()).unwrap();
                row.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (a, b) = (real(&logits), real(&theirs));
            let scale = b.iter().fold(0f32, |m, x| m.max(x.abs()));
            let gap = a
                .iter()
                .zip(&b)
                .fold(0f32, |m, (x, y)| m.max((x - y).abs()))
                / scale;
            assert!(f64::from(gap) < TOLERANCE, "{name} row {i}: {gap:e}");
        }
        let refs: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let options = GenerateOptions {
            max_new: 12,
            ..GenerateOptions::default()
        };
        let out = generate(&model, &refs, &options, &Hooks::new(), &mut |_, _| {
            Continue::Yes
        })
        .unwrap();
        for (row, want) in out.iter().zip(ints("generated")) {
            assert_eq!(
                row.ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(),
                want,
                "{name}"
            );
        }
    }
}

/// Which safetensors fixture a GGUF fixture without a dump of its own was made from.
fn twin(folder: &Path) -> &'static str {
    match folder.file_name().unwrap().to_str().unwrap() {
        "llama_linear" => "llama_rope_linear",
        "llama_llama3" => "llama_rope_llama3",
        "mistral" => "mistral_full",
        "qwen3" => "qwen3_tied",
        "phi3" => "phi3_longrope",
        _ => "",
    }
}
