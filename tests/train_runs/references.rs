//! What runs go on from and are compared with: an adapter that goes on, references of every kind, what of them is kept.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Tensor};
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::model::{Checkpoint, LoadOptions, convert};
use candlescope::train::log::{self, Row};
use candlescope::train::{Config, Parts, Session, Silent, TrainError, prepare};

use crate::rows::{USUAL, config_text, parts_of, same_end, write_pairs};

fn run(session: &mut Session) {
    session
        .run(&AtomicBool::new(false), &Silent, &mut [])
        .unwrap();
}

fn begin(root: &Path, parts: Parts) {
    run(&mut Session::begin(root, parts).unwrap());
}

fn rows(root: &Path) -> Vec<Row> {
    log::read(&root.join("metrics.jsonl")).unwrap().rows
}

fn series(root: &Path, name: &str) -> Vec<f64> {
    let rows = rows(root);
    let steps = rows.iter().filter(|row| row.kind.name() == "step");
    steps.map(|row| row.number(name).unwrap()).collect()
}

fn said(root: &Path) -> Vec<String> {
    let rows = rows(root);
    let all = rows.iter().filter_map(|row| row.text("reference_logps"));
    all.map(str::to_owned).collect()
}

/// An adapter that has learnt something, in the last checkpoint of a run of its own.
fn learnt(dir: &Path) -> PathBuf {
    let home = dir.join("first");
    std::fs::create_dir_all(&home).unwrap();
    let more = format!(
        "{}[lora]\nrank = 4\nalpha = 16\n",
        USUAL.replace("lr = 1e-3", "lr = 1e-2")
    );
    begin(&home.join("run"), parts_of("sft", &home, &more));
    home.join("run/checkpoints/step-11")
}

/// The config of a method on an adapter, which alone says what the base is.
fn on_adapter(dir: &Path, adapter: &Path, more: &str) -> String {
    config_text(dir, more).replace(
        "[model]\n",
        &format!("[model]\nadapter = '{}'\n", adapter.display()),
    )
}

fn ready(method: &str, text: &str) -> Result<Parts, TrainError> {
    let config = Config::parse("run.toml", text, method, &[])?;
    prepare(config, Checkpoint::toy(0).unwrap())
}

fn pairs(dir: &Path) {
    write_pairs(&dir.join("train.jsonl"), 22);
    write_pairs(&dir.join("eval.jsonl"), 5);
}

fn tensors(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let file = SafetensorsFolder::open(&folder.join("adapter_model.safetensors")).unwrap();
    let load = |name: String| {
        let tensor: Tensor = file.load(&name, DType::F32).unwrap();
        (name, tensor.flatten_all().unwrap().to_vec1().unwrap())
    };
    file.names().into_iter().map(load).collect()
}

const STEADY: &str = "[optim]\nlr = 1e-3\nbatch_size = 2\naccumulation = 2\n[schedule]\nsteps = 6\nshape = \"constant\"\n\
    [output]\ncheckpoint_every = 3\nkeep_last = 9\n";

#[test]
fn an_adapter_goes_on_from_its_own_numbers_at_its_own_reference() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = learnt(dir.path());
    pairs(dir.path());
    let text = on_adapter(dir.path(), &adapter, STEADY);
    let parts = ready("dpo", &text).unwrap();
    // What trains is what the folder has.
    let policy = &parts.bench.policy;
    for (name, values) in tensors(&adapter) {
        let (_, found) = policy
            .values()
            .into_iter()
            .find(|(n, _)| *n == name)
            .unwrap();
        assert_eq!(
            found.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            values
        );
    }
    let lora = parts.config.lora.clone().unwrap();
    assert_eq!(
        (lora.rank, lora.alpha, lora.dropout),
        (Some(4), Some(16.0), Some(0.0))
    );
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    begin(&one, parts);
    let losses = series(&one, "loss");
    assert!(
        (losses[0] - std::f64::consts::LN_2).abs() < 1e-5 && losses[5] < losses[0],
        "{losses:?}"
    );
    assert!(series(&one, "rewards/margins")[0].abs() < 1e-5);
    // The reference is not the base: with that one the policy begins somewhere else, and nothing is asserted.
    let more = format!("{STEADY}[method.dpo]\nreference = \"base\"\n");
    begin(
        &other,
        ready("dpo", &on_adapter(dir.path(), &adapter, &more)).unwrap(),
    );
    let apart = series(&other, "loss")[0];
    assert!((apart - std::f64::consts::LN_2).abs() > 1e-3, "{apart}");
    // What is saved is the adapter, whose base is still the toy; it goes on once more, as a merged model too.
    let last = one.join("checkpoints/step-6");
    assert_ne!(tensors(&last), tensors(&adapter));
    let merged = Checkpoint::open("it", &last, &LoadOptions::default()).unwrap();
    assert!(merged.template.is_some());
    ready("kto", &on_adapter(dir.path(), &last, STEADY)).unwrap();
    // A fresh adapter on an adapter would be one that nobody can open.
    let text = config_text(dir.path(), &format!("{STEADY}[lora]\n"));
    let config = Config::parse("run.toml", &text, "dpo", &[]).unwrap();
    let error = prepare(config, merged).err().unwrap().to_string();
    assert!(error.contains("model.adapter"), "{error}");
}

#[test]
fn lora_options_other_than_the_adapters_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = learnt(dir.path());
    pairs(dir.path());
    let refusal = |lora: &str| {
        let text = on_adapter(dir.path(), &adapter, &format!("{STEADY}[lora]\n{lora}\n"));
        ready("dpo", &text).err().map(|error| error.to_string())
    };
    assert_eq!(
        refusal("rank = 4\nalpha = 16\ntargets = \"all-linear\"\ndropout = 0.1"),
        None
    );
    for (lora, expected) in [
        (
            "rank = 8",
            "`lora.rank`: expected 4, as model.adapter has it, or nothing, found 8",
        ),
        ("alpha = 32", "`lora.alpha`: expected 16"),
        ("rslora = true", "`lora.rslora`: expected false"),
        (
            "targets = [\"q_proj\"]",
            "`lora.targets`: expected model.layers.0.self_attn.q_proj",
        ),
    ] {
        let said = refusal(lora).unwrap();
        assert!(said.starts_with(expected), "{said}");
    }
    let text = config_text(
        dir.path(),
        &format!("{STEADY}[method.dpo]\nreference = \"adapter\"\n"),
    );
    let said = ready("dpo", &text).err().unwrap().to_string();
    assert!(
        said.contains("`method.dpo.reference`: expected `base`"),
        "{said}"
    );
    for key in ["reference = \"base\"", "precompute_reference = true"] {
        let more = format!("{STEADY}[method.dpo]\nloss = \"simpo\"\n{key}\n");
        let said = ready("dpo", &config_text(dir.path(), &more))
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.contains("has no effect: the loss simpo has no reference"),
            "{said}"
        );
    }
}

#[test]
fn another_checkpoint_is_a_reference_by_name_or_path_if_it_has_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let stored = dir.path().join("stored");
    convert::to_folder(&Checkpoint::toy(1).unwrap(), &stored, DType::F32).unwrap();
    for method in ["dpo", "kto"] {
        let mut curves = Vec::new();
        for (i, name) in ["toy:1", stored.to_str().unwrap()].into_iter().enumerate() {
            let more = format!("{STEADY}[method.{method}]\nreference = '{name}'\n");
            let root = dir.path().join(format!("{method}-{i}"));
            begin(&root, parts_of(method, dir.path(), &more));
            assert_eq!(said(&root), ["computed"]);
            curves.push(series(&root, "loss"));
        }
        assert_eq!(curves[0], curves[1]);
        // It is another model: the first step is not where equal models are.
        let equal = if method == "dpo" {
            std::f64::consts::LN_2
        } else {
            0.5
        };
        assert!((curves[0][0] - equal).abs() > 1e-3, "{curves:?}");
    }
    let refusal = |name: &str| {
        let more = format!("{STEADY}[method.dpo]\nreference = '{name}'\n");
        ready("dpo", &config_text(dir.path(), &more))
            .err()
            .unwrap()
            .to_string()
    };
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama/model.gguf");
    let found = refusal(fixtures.to_str().unwrap());
    assert!(found.contains("as the policy, found 160"), "{found}");
    // The same number of words, but two of them changed places.
    let file = stored.join("tokenizer.json");
    let words = std::fs::read_to_string(&file).unwrap();
    let mut words: serde_json::Value = serde_json::from_str(&words).unwrap();
    let vocab = words["model"]["vocab"].as_object_mut().unwrap();
    let (cat, dog) = (vocab["cat"].clone(), vocab["dog"].clone());
    vocab.insert("cat".into(), dog);
    vocab.insert("dog".into(), cat);
    std::fs::write(&file, words.to_string()).unwrap();
    let found = refusal(stored.to_str().unwrap());
    assert!(
        found.contains("a model with the policy's tokenizer"),
        "{found}"
    );
    let found = refusal("./no/such");
    assert!(
        found.contains("`method.dpo.reference`") && found.contains("no/such"),
        "{found}"
    );
}

#[test]
fn what_is_kept_of_a_reference_is_what_it_says_beside_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    for method in ["dpo", "kto"] {
        let of = |kept: bool| {
            let more = format!(
                "{USUAL}[method.{method}]\nreference = 'toy:1'\nprecompute_reference = {kept}\n"
            );
            let root = dir.path().join(format!("{method}-{kept}"));
            begin(&root, parts_of(method, dir.path(), &more));
            assert_eq!(root.join("reference/logps.safetensors").exists(), kept);
            let evals = rows(&root)
                .into_iter()
                .filter_map(|row| row.number("eval_loss"));
            [series(&root, "loss"), evals.collect()].concat()
        };
        let (kept, beside) = (of(true), of(false));
        assert_eq!(kept.len(), 14);
        for (a, b) in kept.iter().zip(&beside) {
            assert!(
                (a - b).abs() < 1e-4 * b.abs(),
                "{method}: {kept:?} {beside:?}"
            );
        }
    }
}

#[test]
fn kept_numbers_are_read_again_and_those_of_another_key_are_not() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let more = format!("{USUAL}[method.kto]\nreference = 'toy:1'\n");
    let parts = || parts_of("kto", dir.path(), &more);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    begin(&one, parts());
    let file = other.join("reference/logps.safetensors");
    let session = Session::begin(&other, parts()).unwrap();
    let kept = std::fs::read(&file).unwrap();
    drop(session);
    drop(Session::resume(&other, parts()).unwrap());
    // As if they had been computed on other data.
    let text = String::from_utf8_lossy(&kept).into_owned();
    let at = text.find("\"data\":\"").unwrap() + 8;
    let mut changed = kept.clone();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(&file, &changed).unwrap();
    run(&mut Session::resume(&other, parts()).unwrap());
    assert_eq!(
        said(&other),
        [
            "computed",
            "read",
            "computed again: what was kept is of another data"
        ]
    );
    assert_eq!(std::fs::read(&file).unwrap(), kept);
    same_end(&one, &other, 11);
}
