//! Adapter folders where a model is asked for: the base they name is found, both are opened as one, merged and described.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use candle_core::{DType, Tensor};
use candlescope::files::{SafetensorsFolder, TensorSource, hash::content_hash};
use candlescope::hooks::Hooks;
use candlescope::model::{
    Batch, Checkpoint, Decoder, LoadOptions, LogitsAt, LoraAdapter, LoraSpec, Opened, ScoreModel,
    Trainable, check,
};

use super::{PEFT, fixtures};

fn on(base: &Path) -> LoadOptions {
    LoadOptions {
        base: Some(base.display().to_string()),
        ..LoadOptions::default()
    }
}

fn logits(model: &Decoder, batch: &Batch) -> Vec<f64> {
    let out = model.forward(batch, &Hooks::new(), LogitsAt::All).unwrap();
    let logits = out.logits().unwrap().to_dtype(DType::F64).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    let largest = b.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |m: f64, (x, y)| m.max((x - y).abs())) / largest
}

fn list(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

#[test]
fn a_folder_of_peft_opens_as_the_model_that_peft_computes() {
    for (name, base) in PEFT {
        let folder = fixtures("peft").join(name);
        let options = on(&fixtures("models").join(base));
        let opened = Opened::at(&folder, &options).unwrap();
        let model = opened.decoder(&options).unwrap();
        let dump = SafetensorsFolder::open(&folder.join("expected.safetensors")).unwrap();
        let batch = Batch::new(&check::input_rows(&dump).unwrap()).unwrap();
        let expected = list(&dump.load("logits", DType::F32).unwrap());
        let found = apart(&logits(&model, &batch), &expected);
        assert!(found < 2e-5, "{name}: {found}");
        // It is a model like any other: nothing is beside the weights, and it trains whole.
        assert!(!model.is_adapted());
        Trainable::full(model).unwrap();
    }
}

#[test]
fn a_gguf_base_keeps_its_rows_in_another_order() {
    let (folder, base) = (
        fixtures("peft/llama_all_rslora"),
        fixtures("gguf/llama/model.gguf"),
    );
    let options = on(&base);
    let opened = Opened::at(&folder, &options).unwrap();
    let merged = opened.decoder(&options).unwrap();
    let plain = Opened::at(&base, &options)
        .unwrap()
        .decoder(&options)
        .unwrap();
    let adapter = LoraAdapter::read(&folder, plain.config()).unwrap();
    let beside = adapter.on(&plain).unwrap();
    let batch = Batch::new(&[vec![3u32, 1, 4, 1, 5, 9], vec![2, 6, 5]]).unwrap();
    let (a, b) = (logits(&merged, &batch), logits(&beside, &batch));
    assert!(apart(&a, &b) < 1e-5, "{}", apart(&a, &b));
    assert!(apart(&logits(&plain, &batch), &b) > 0.1);
}

#[test]
fn the_hash_is_of_base_and_adapter() {
    let (folder, other) = (fixtures("peft/llama"), fixtures("peft/llama_one_layer"));
    let hash = |folder: &Path, base: &str| {
        let options = on(&fixtures(base));
        Opened::at(folder, &options)
            .unwrap()
            .content_hash()
            .unwrap()
    };
    let own = hash(&folder, "models/llama");
    assert_eq!(own, hash(&folder, "models/llama"));
    assert_ne!(own, hash(&other, "models/llama"));
    // The same values of the base in another file.
    assert_ne!(own, hash(&folder, "gguf/llama/model.gguf"));
    let base = Opened::at(&fixtures("models/llama"), &LoadOptions::default()).unwrap();
    assert_eq!(
        base.content_hash().unwrap(),
        content_hash(base.source()).unwrap()
    );
    assert_ne!(own, base.content_hash().unwrap());
}

/// A toy with an adapter that does something, in a folder that names its base as `base`.
fn toy_adapter(folder: &Path, base: &str) -> Decoder {
    let toy = Checkpoint::toy(0).unwrap();
    let spec = LoraSpec {
        rank: 2,
        dropout: 0.0,
        ..LoraSpec::default()
    };
    let model = Trainable::lora(toy.decoder, &spec, 3).unwrap();
    let ones: Vec<(String, Tensor)> = model
        .values()
        .into_iter()
        .map(|(name, x)| {
            let moved = (x.ones_like().unwrap() * 0.02).unwrap();
            (name, (x + moved).unwrap())
        })
        .collect();
    model.restore(&ones).unwrap();
    let adapter = model.adapter().unwrap();
    adapter
        .write(folder, model.decoder().config(), base)
        .unwrap();
    model.decoder().clone()
}

#[test]
fn a_base_is_found_by_path_beside_the_adapter_or_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let batch = Batch::new(&[vec![3u32, 1, 4, 1, 5]]).unwrap();
    let by_name = dir.path().join("by-name");
    let expected = logits(&toy_adapter(&by_name, "toy"), &batch);
    let checkpoint = Checkpoint::open("it", &by_name, &LoadOptions::default()).unwrap();
    assert!(apart(&logits(&checkpoint.decoder, &batch), &expected) < 1e-5);
    // The words are the base's.
    assert_eq!(
        checkpoint.tokenizer.hash(),
        Checkpoint::toy(0).unwrap().tokenizer.hash()
    );
    assert!(checkpoint.template.is_some());

    let stored = dir.path().join("stored");
    candlescope::model::convert::to_folder(&Checkpoint::toy(0).unwrap(), &stored, DType::F32)
        .unwrap();
    let by_path = dir.path().join("by-path");
    toy_adapter(&by_path, "../stored");
    let checkpoint = Checkpoint::open("it", &by_path, &LoadOptions::default()).unwrap();
    assert!(apart(&logits(&checkpoint.decoder, &batch), &expected) < 1e-5);

    let lost = dir.path().join("lost");
    toy_adapter(&lost, "./no/such/model");
    let refusal = |folder: &Path, options: &LoadOptions| {
        Checkpoint::open("it", folder, options)
            .err()
            .unwrap()
            .to_string()
    };
    let said = refusal(&lost, &LoadOptions::default());
    assert!(
        said.contains("`./no/such/model` is not here") && said.contains("--base"),
        "{said}"
    );
    Checkpoint::open("it", &lost, &on(&stored)).unwrap();
    // An adapter of an adapter, or of itself.
    for base in [by_path.as_path(), lost.as_path()] {
        let said = refusal(&lost, &on(base));
        assert!(said.contains("no adapter itself"), "{said}");
    }
    let said = refusal(&lost, &on(&fixtures("models/gpt2")));
    assert!(
        said.contains("tensor(s)") || said.contains("module"),
        "{said}"
    );
}

#[test]
fn an_adapter_of_a_reward_model_scores_and_writes_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Checkpoint::toy(0).unwrap();
    let model = ScoreModel::fresh(toy.decoder, 5).unwrap();
    let spec = LoraSpec {
        dropout: 0.0,
        ..LoraSpec::default()
    };
    let mut trained = Trainable::lora_scored(&model, &spec, 1).unwrap();
    trained.set_base_name("toy");
    let folder = dir.path().join("rm");
    trained.write(&folder, DType::F32).unwrap();
    let batch = Batch::new(&[vec![3u32, 1, 4], vec![1, 5]]).unwrap();
    let options = LoadOptions::default();
    let read = ScoreModel::open(&folder, &options).unwrap();
    let (a, b) = (
        list(&read.scores(&batch).unwrap()),
        list(&model.scores(&batch).unwrap()),
    );
    assert!(apart(&a, &b) < 1e-6, "{a:?} {b:?}");
    let said = Checkpoint::open("it", &folder, &options)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("reward model"), "{said}");
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(args)
        .stdin(Stdio::null())
        .env("CANDLESCOPE_OFFLINE", "1")
        .env(
            "CANDLESCOPE_CACHE",
            std::env::temp_dir().join("candlescope-no-cache-here"),
        )
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn the_command_line_takes_adapters_wherever_a_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("adapter");
    toy_adapter(&folder, "toy");
    let name = folder.to_str().unwrap();
    let said = |args: &[&str]| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        text(&output)
    };
    let info = said(&["model", "info", name]);
    assert!(
        info.contains("LoRA of rank 2, alpha 32, on 28 linear layers"),
        "{info}"
    );
    assert!(info.contains("base          toy\n"), "{info}");
    let out = dir.path().join("merged");
    let merged = out.to_str().unwrap();
    let answer = |model: &str| {
        let output = run(&["run", model, "The cat", "--max-new", "6", "--quiet"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    said(&["model", "merge", name, "--out", merged]);
    assert_eq!(answer(name), answer(merged));
    let output = run(&["model", "merge", merged, "--out", name]);
    assert!(text(&output).contains("is no adapter"), "{}", text(&output));
    let output = run(&["run", name, "hi", "--base", "/no/such"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("/no/such"), "{}", text(&output));
}
