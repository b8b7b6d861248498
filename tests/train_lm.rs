//! A small model from nothing: made, trained, interrupted, opened again; and checkpointing, which must change no bit.
#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::hooks::Hooks;
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::{Batch, Checkpoint, LoadOptions, LogitsAt, LoraSpec, Trainable};
use candlescope::train::log::{self, Row, standing};
use candlescope::train::{
    Config, Ended, Parts, Preflight, Progress, Session, Silent, Standing, fresh, prepare,
};
use candlescope_ops as ops;

const NEW: &str = "new = { d_model = 64, n_layers = 2, n_heads = 4, n_kv_heads = 2, d_mlp = 128, n_ctx = 64, vocab = 320 }";

/// Sentences of a little grammar, so that a small model soon knows what follows.
fn write_texts(dir: &Path) {
    let animals = ["cat", "dog", "bird", "fish"];
    let places = ["the mat", "a tree", "the river", "a small house"];
    let sentence = |i: usize| {
        let (one, other) = (animals[i % 4], animals[(i / 4) % 4]);
        format!("The {one} and the {other} sat on {}. ", places[(i / 2) % 4])
    };
    let document = |i: usize| (0..=i % 9).map(|j| sentence(i + 3 * j)).collect::<String>();
    let plain: Vec<String> = (0..30).map(document).collect();
    std::fs::write(dir.join("a.txt"), plain.join("\n<|endoftext|>\n")).unwrap();
    let rows = |range: std::ops::Range<usize>| -> String {
        let row = |i: usize| serde_json::json!({"text": document(i)}).to_string();
        range.map(row).collect::<Vec<_>>().join("\n")
    };
    std::fs::write(dir.join("b.jsonl"), rows(30..60)).unwrap();
    std::fs::write(dir.join("eval.jsonl"), rows(60..66)).unwrap();
}

fn config(dir: &Path, model: &str, more: &str) -> Config {
    let path = |name: &str| dir.join(name);
    if !path("a.txt").exists() {
        write_texts(dir);
    }
    let text = format!(
        "seed = 5\n[model]\n{model}\n[data]\ntrain = [{:?}, {:?}]\neval = [{:?}]\nmax_length = 48\ndate = \"2026-01-31\"\n\
         [optim]\nlr = 3e-3\nbatch_size = 4\n{more}\n[schedule]\nsteps = 30\nwarmup_steps = 3\n\
         [output]\ncheckpoint_every = 10\neval_every = 10\nkeep_last = 9\n",
        path("a.txt"),
        path("b.jsonl"),
        path("eval.jsonl")
    );
    Config::parse("run.toml", &text, "lm", &[]).unwrap()
}

fn parts(dir: &Path, more: &str) -> Parts {
    let config = config(dir, NEW, more);
    let checkpoint = fresh(&config).unwrap();
    prepare(config, checkpoint).unwrap()
}

struct StopAt<'a>(u64, &'a AtomicBool);

impl Progress for StopAt<'_> {
    fn at(&self, standing: &Standing<'_>) {
        if standing.step == self.0 {
            self.1.store(true, Ordering::SeqCst);
        }
    }
}

fn run(root: &Path, parts: Parts) {
    let mut session = Session::begin(root, parts).unwrap();
    let ended = session.run(&AtomicBool::new(false), &Silent, &mut []);
    assert!(matches!(ended.unwrap(), Ended::Finished(_)));
}

fn rows(root: &Path) -> Vec<Row> {
    standing(log::read(&root.join("metrics.jsonl")).unwrap().rows)
}

fn course(root: &Path) -> Vec<String> {
    let kept = rows(root).into_iter();
    let kept = kept.filter(|row| ["step", "eval"].contains(&row.kind.name()));
    kept.map(|row| row.timeless().line()).collect()
}

fn bytes(checkpoint: &Path) -> Vec<Vec<u8>> {
    let names = [
        "model.safetensors",
        "trainer.safetensors",
        "config.json",
        "tokenizer.json",
    ];
    names
        .map(|n| std::fs::read(checkpoint.join(n)).unwrap())
        .into()
}

#[test]
fn a_model_from_nothing_learns_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let parts = parts(dir.path(), "");
    let plan = Preflight::of(&parts);
    assert!(plan.model.starts_with("new llama"), "{}", plan.model);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    // Every token of a document but the first is a target once: windows share one token each.
    let data = &plan.data;
    assert_eq!(data.supervised, data.tokens - data.examples);
    assert!(data.rows < data.examples && data.longest <= 48, "{data:?}");
    run(&root, parts);
    let rows = rows(&root);
    let of = |kind: &str, name: &str| -> Vec<f64> {
        let kind = rows.iter().filter(|row| row.kind.name() == kind);
        kind.map(|row| row.number(name).unwrap()).collect()
    };
    let (losses, perplexity) = (of("step", "loss"), of("eval", "eval_perplexity"));
    let path = root.join("checkpoints/step-30");
    let model = Checkpoint::open("it", &path, &LoadOptions::default()).unwrap();
    // Nothing is known at first: the loss of a uniform guess.
    let uniform = (model.config().vocab_size as f64).ln();
    assert!((losses[0] - uniform).abs() < 0.1, "{} {uniform}", losses[0]);
    assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(perplexity.len(), 3);
    let last = of("eval", "eval_loss")[2];
    assert!((perplexity[2] - last.exp()).abs() < 1e-12 * perplexity[2]);
    assert!(perplexity[2] < 0.5 * perplexity[0], "{perplexity:?}");
    // The folder is a model with the same words, and says something of what it has learnt.
    let ids = model.tokenizer.encode("The cat and the", true).unwrap();
    assert_eq!(Some(ids[0]), model.tokenizer.bos());
    assert_eq!(model.config().eos, model.tokenizer.stop_ids());
    let options = GenerateOptions {
        max_new: 8,
        ..GenerateOptions::default()
    };
    let mut go_on = |_, _| Continue::Yes;
    let said = generate(&model.decoder, &[&ids], &options, &Hooks::new(), &mut go_on).unwrap();
    let text = model.tokenizer.decode(&said[0].ids, true).unwrap();
    assert!(text.contains("sat"), "{text}");
}

#[test]
fn a_resumed_run_has_the_bits_of_one_that_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    run(&one, parts(dir.path(), ""));
    let mut session = Session::begin(&other, parts(dir.path(), "")).unwrap();
    for at in [7, 21] {
        let stop = AtomicBool::new(false);
        let ended = session.run(&stop, &StopAt(at, &stop), &mut []).unwrap();
        assert!(matches!(ended, Ended::Interrupted(saved) if saved.step == at));
        drop(session);
        session = Session::resume(&other, parts(dir.path(), "")).unwrap();
    }
    session
        .run(&AtomicBool::new(false), &Silent, &mut [])
        .unwrap();
    let last = |root: &Path| bytes(&root.join("checkpoints/step-30"));
    assert!(last(&one) == last(&other));
    assert_eq!(course(&one), course(&other));
}

#[test]
fn checkpointing_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let (plain, sparing) = (
        parts(dir.path(), ""),
        parts(dir.path(), "checkpointing = true"),
    );
    let activations = |parts| Preflight::of(parts).memory.activations;
    assert!(activations(&sparing) < activations(&plain));
    run(&one, plain);
    run(&other, sparing);
    let weights =
        |root: &Path| std::fs::read(root.join("checkpoints/step-30/model.safetensors")).unwrap();
    assert!(weights(&one) == weights(&other));
    assert_eq!(course(&one), course(&other));
}

fn gradients(model: &Trainable, batch: &Batch) -> Vec<Option<Vec<f32>>> {
    let hidden = model.hidden(batch).unwrap();
    // Not constant over channels, so that no gradient is that of a mean.
    let weights: Vec<f32> = (0..hidden.elem_count()).map(|i| (i as f32).sin()).collect();
    let weights = Tensor::from_vec(weights, hidden.shape().clone(), hidden.device()).unwrap();
    let loss = (hidden * weights).unwrap().sum_all().unwrap();
    let found = ops::backward(&loss).unwrap();
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    model
        .params()
        .iter()
        .map(|p| found.get(&p.var).map(flat))
        .collect()
}

#[test]
fn gradients_through_recomputed_blocks_are_the_same_bits() {
    let toy = || Checkpoint::toy(0).unwrap().decoder;
    let spec = LoraSpec {
        rank: 4,
        dropout: 0.3,
        ..LoraSpec::default()
    };
    let full = Trainable::full(toy()).unwrap();
    let lora = Trainable::lora(toy(), &spec, 1).unwrap();
    lora.set_dropout(Some(9));
    let row: Vec<u32> = (0..40).map(|i| i * 7 % 500).collect();
    let plain = Batch::new(&[&row[..], &row[..23]]).unwrap();
    let packed = Batch::packed(&[(row.clone(), vec![0, 11, 30])]).unwrap();
    for mut model in [full, lora] {
        for batch in [&plain, &packed] {
            model.set_checkpointing(false);
            let kept = gradients(&model, batch);
            model.set_checkpointing(true);
            let again = gradients(&model, batch);
            assert!(kept.iter().flatten().flatten().any(|x| *x != 0.0));
            assert!(kept == again, "gradients differ");
        }
    }
}

#[test]
fn a_model_that_exists_goes_on_with_texts() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "name = \"toy\"", "");
    let checkpoint = Checkpoint::toy(0).unwrap();
    let root = dir.path().join("run");
    run(&root, prepare(config, checkpoint).unwrap());
    let losses: Vec<f64> = rows(&root)
        .iter()
        .filter_map(|row| row.number("loss"))
        .collect();
    assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
}

#[test]
fn the_words_may_come_from_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let words = dir.path().join("words");
    std::fs::create_dir(&words).unwrap();
    let toy = Checkpoint::toy(0).unwrap();
    toy.tokenizer.save(&words).unwrap();
    let new = NEW.replace(
        "vocab = 320",
        &format!("tied = false, tokenizer = {words:?}"),
    );
    let config = config(dir.path(), &new, "");
    let made = fresh(&config).unwrap();
    assert_eq!(made.tokenizer.hash(), toy.tokenizer.hash());
    assert_eq!(made.config().vocab_size, toy.tokenizer.vocab_size());
    let root = dir.path().join("run");
    run(&root, prepare(config, made).unwrap());
    let saved = SafetensorsFolder::open(&root.join("checkpoints/step-30")).unwrap();
    assert!(saved.load("lm_head.weight", DType::F32).is_ok());
}

#[test]
fn options_without_effect_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write_texts(dir.path());
    let refused = |model: &str, method: &str, more: &str| {
        let text = format!("[model]\n{model}\n[data]\ntrain = [\"a.txt\"]\n{more}");
        Config::parse("run.toml", &text, method, &[])
            .unwrap_err()
            .to_string()
    };
    let named = format!("name = \"toy\"\n{NEW}");
    for (error, field) in [
        (refused(&named, "lm", ""), "model.name"),
        (refused(NEW, "sft", ""), "model.new"),
        (refused(NEW, "lm", "[lora]\nrank = 4"), "lora"),
        (refused(NEW, "lm", "chat = true"), "data.chat"),
        (
            refused(NEW, "lm", "truncation = \"drop\""),
            "data.truncation",
        ),
        (
            refused(&NEW.replace("vocab = 320", "vocab = 12"), "lm", ""),
            "model.new.vocab",
        ),
        (
            refused(&NEW.replace("n_heads = 4", "n_heads = 5"), "lm", ""),
            "n_heads",
        ),
        (
            refused(&NEW.replace("n_ctx", "n_context"), "lm", ""),
            "n_context",
        ),
        (refused("", "lm", ""), "model"),
    ] {
        assert!(error.contains(field), "{field}: {error}");
    }
    let longer = config(dir.path(), &NEW.replace("n_ctx = 64", "n_ctx = 32"), "");
    let checkpoint = fresh(&longer).unwrap();
    let error = prepare(longer, checkpoint).err().unwrap().to_string();
    assert!(error.contains("data.max_length"), "{error}");
}

#[test]
fn a_fresh_model_gives_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let made = fresh(&config(dir.path(), NEW, "")).unwrap();
    let ids = made.tokenizer.encode("The cat", true).unwrap();
    let batch = Batch::single(&ids).unwrap();
    let out = made
        .decoder
        .forward(&batch, &Hooks::new(), LogitsAt::All)
        .unwrap();
    let logits = out
        .logits()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert!(logits.iter().all(|x| x.is_finite() && x.abs() < 2.0));
}
