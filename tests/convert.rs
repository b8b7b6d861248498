//! `model::convert`: what is written as a Hugging Face folder is the model that was opened, to the last bit.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use candle_core::DType;
use candlescope::config::Family;
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::hooks::Hooks;
use candlescope::model::{
    Batch, Checkpoint, Decoder, LoadOptions, LogitsAt, ModelError, Opened, check, convert,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open(path: &Path) -> Decoder {
    let options = LoadOptions::default();
    Opened::at(path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

/// Bits of the logits on 40 tokens, beyond every sliding window and scaling border of the fixtures.
fn logit_bits(model: &Decoder) -> Vec<u32> {
    let n = 40.min(model.config().n_ctx).max(24);
    let vocab = model.config().vocab_size as u32;
    let ids: Vec<u32> = (0..n as u32).map(|i| (i * 7 + 3) % vocab).collect();
    let batch = Batch::single(&ids).unwrap();
    let logits = model.forward(&batch, &Hooks::new(), LogitsAt::All).unwrap();
    let logits: Vec<f32> = logits
        .logits()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_family_and_variant_keeps_its_bits() {
    let mut families = Vec::new();
    for entry in std::fs::read_dir(fixtures().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let before = open(&path);
        let out = tempfile::tempdir().unwrap();
        convert::write_model(&before, out.path(), DType::F32)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let after = open(out.path());
        assert_eq!(logit_bits(&before), logit_bits(&after), "{name}");
        same_names(&path, out.path(), &name);
        families.push(before.config().family);
    }
    for (family, name) in Family::ALL {
        assert!(families.contains(&family), "no fixture of {name}");
    }
}

/// The tensors have the names and shapes under which transformers wrote them. Nothing of ours would show a wrong but
/// consistent name.
fn same_names(before: &Path, after: &Path, fixture: &str) {
    let (before, after) = (
        SafetensorsFolder::open(before).unwrap(),
        SafetensorsFolder::open(after).unwrap(),
    );
    assert_eq!(before.names(), after.names(), "{fixture}");
    for name in before.names() {
        let (a, b) = (before.info(&name).unwrap(), after.info(&name).unwrap());
        assert_eq!(a.shape, b.shape, "{fixture}: {name}");
    }
}

#[test]
fn a_gguf_file_becomes_a_folder_with_the_same_bits_words_and_template() {
    for name in [
        "llama",
        "llama_quantised",
        "llama_llama3",
        "gemma2",
        "gemma3",
        "qwen2",
        "qwen3",
        "phi3",
        "gpt2",
    ] {
        let path = fixtures().join("gguf").join(name).join("model.gguf");
        let Ok(before) = Checkpoint::open(name, &path, &LoadOptions::default()) else {
            // Only llama's fixture has a whole tokenizer; for the others the weights are compared.
            let out = tempfile::tempdir().unwrap();
            let before = open(&path);
            convert::write_model(&before, out.path(), DType::F32)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(logit_bits(&before), logit_bits(&open(out.path())), "{name}");
            continue;
        };
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("twin");
        let files = convert::to_folder(&before, &out, DType::F32).unwrap();
        assert!(files.iter().any(|f| f == "tokenizer.json"), "{files:?}");
        let after = Checkpoint::open(name, &out, &LoadOptions::default()).unwrap();
        assert_eq!(
            logit_bits(&before.decoder),
            logit_bits(&after.decoder),
            "{name}"
        );
        let text = "Hello wörld, 2 plus\n  2!";
        assert_eq!(
            before.tokenizer.encode(text, true).unwrap(),
            after.tokenizer.encode(text, true).unwrap(),
            "{name}"
        );
        assert_eq!(before.stop_ids(), after.stop_ids(), "{name}");
        assert_eq!(
            before.template.as_ref().map(|t| t.source().to_owned()),
            after.template.as_ref().map(|t| t.source().to_owned()),
            "{name}"
        );
        if before.template.is_some() {
            let ids = |c: &Checkpoint| c.encode_prompt("Hello", Some("Be brief.")).unwrap().ids;
            assert_eq!(ids(&before), ids(&after), "{name}");
        }
    }
}

/// The numbers of transformers on the original hold for what we wrote, so the folder is right and not only consistent.
#[test]
fn the_converted_folder_agrees_with_transformers() {
    for name in ["gpt2", "gpt_neox", "phi3", "gemma3"] {
        let path = fixtures().join("models").join(name);
        let out = tempfile::tempdir().unwrap();
        convert::write_model(&open(&path), out.path(), DType::F32).unwrap();
        let dump = SafetensorsFolder::open(&path.join("expected.safetensors")).unwrap();
        for tensor in check::against(&open(out.path()), &dump).unwrap() {
            assert!(tensor.max_rel < 2e-5, "{name}: {tensor:?}");
        }
    }
}

#[test]
fn half_width_files_hold_rounded_weights() {
    let before = open(&fixtures().join("models/llama"));
    for dtype in [DType::F16, DType::BF16] {
        let out = tempfile::tempdir().unwrap();
        convert::write_model(&before, out.path(), dtype).unwrap();
        let info = SafetensorsFolder::open(out.path())
            .unwrap()
            .info("model.norm.weight")
            .unwrap();
        assert_eq!(info.dtype, if dtype == DType::F16 { "F16" } else { "BF16" });
        assert_ne!(logit_bits(&before), logit_bits(&open(out.path())));
    }
}

#[test]
fn an_existing_place_is_left_alone_and_a_failure_leaves_nothing() {
    let path = fixtures().join("gguf/llama/model.gguf");
    let checkpoint = Checkpoint::open("llama", &path, &LoadOptions::default()).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let taken = parent.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let error = convert::to_folder(&checkpoint, &taken, DType::F32).unwrap_err();
    assert!(matches!(error, ModelError::File(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
    let nowhere = parent.path().join("no/such/folder");
    let error = convert::to_folder(&checkpoint, &nowhere, DType::F32)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no/such/folder"), "{error}");
    // F64 is no dtype of the format: the failure comes after the folder was begun.
    assert!(convert::to_folder(&checkpoint, &parent.path().join("x"), DType::F64).is_err());
    let left: Vec<_> = std::fs::read_dir(parent.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["taken"]);
}
