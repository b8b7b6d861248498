//! Adapters: what PEFT computes with its files is what is computed here; nothing but the adapter trains; what it is on, off,
//! merged, frozen, written and read.
//!
//! `tests/fixtures/peft/make.py` made the files, with the logits that PEFT gives. Folders named where a model is asked for are in
//! `folders.rs`.
#![allow(clippy::unwrap_used)]

mod folders;

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::hooks::{HookPoint, Hooks, Point};
use candlescope::model::{
    Batch, Decoder, KvCache, LoadOptions, LogitsAt, LoraAdapter, LoraSpec, ModelError, Opened,
    ScoreModel, Targets, Trainable, check,
};
use candlescope_ops as ops;
use serde_json::Value;

const PEFT: [(&str, &str); 6] = [
    ("llama", "llama"),
    ("llama_all_rslora", "llama"),
    ("llama_one_layer", "llama"),
    ("gpt2", "gpt2"),
    ("gpt_neox", "gpt_neox"),
    ("phi3", "phi3"),
];

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(kind)
}

fn families() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(fixtures("models"))
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

fn logits(model: &Decoder, batch: &Batch) -> Tensor {
    let out = model.forward(batch, &Hooks::new(), LogitsAt::All).unwrap();
    out.logits().unwrap()
}

fn wide(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u64> {
    wide(t).iter().map(|x| x.to_bits()).collect()
}

/// Largest difference over the largest value.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (wide(a), wide(b));
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    let pairs = a.iter().zip(&b);
    pairs.fold(0.0, |m: f64, (x, y)| m.max((x - y).abs())) / largest
}

fn batch() -> Batch {
    Batch::new(&[vec![3u32, 1, 4, 1, 5, 9], vec![2, 6, 5]]).unwrap()
}

/// Moves every trained number by an amount of its own.
fn step(model: &Trainable, size: f64) {
    for (k, p) in model.params().iter().enumerate() {
        let n = p.var.elem_count();
        let change: Vec<f64> = (0..n)
            .map(|j| size * (0.37 * j as f64 + k as f64).sin())
            .collect();
        let change = Tensor::from_vec(change, p.var.shape(), p.var.device()).unwrap();
        let change = change.to_dtype(p.var.dtype()).unwrap();
        p.var
            .set(&(p.var.as_tensor() + change).unwrap().detach())
            .unwrap();
    }
}

fn spec(rank: usize, dropout: f64) -> LoraSpec {
    LoraSpec {
        rank,
        alpha: 8.0,
        dropout,
        ..LoraSpec::default()
    }
}

#[test]
fn adapters_of_peft_give_the_logits_of_peft_and_go_back_to_the_same_file() {
    for (name, checkpoint) in PEFT {
        let folder = fixtures("peft").join(name);
        let model = open(&fixtures("models").join(checkpoint), DType::F32);
        let config = model.config().clone();
        let dump = SafetensorsFolder::open(&folder.join("expected.safetensors")).unwrap();
        let batch = Batch::new(&check::input_rows(&dump).unwrap()).unwrap();
        let expected = dump.load("logits", DType::F32).unwrap();

        let adapter = LoraAdapter::read(&folder, &config).unwrap();
        let adapted = adapter.on(&model).unwrap();
        let found = logits(&adapted, &batch);
        assert!(
            apart(&found, &expected) < 2e-5,
            "{name}: {}",
            apart(&found, &expected)
        );
        assert!(
            apart(&logits(&model, &batch), &expected) > 0.1,
            "{name} changes nothing"
        );
        let merged = logits(&adapted.merged().unwrap(), &batch);
        assert!(
            apart(&merged, &expected) < 2e-5,
            "{name}: {}",
            apart(&merged, &expected)
        );

        let out = tempfile::tempdir().unwrap();
        adapter.write(out.path(), &config, "base").unwrap();
        same_tensors(&folder, out.path());
        let back = LoraAdapter::read(out.path(), &config).unwrap();
        assert_eq!(adapter.spec(), back.spec(), "{name}");
        assert_eq!(
            bits(&logits(&back.on(&model).unwrap(), &batch)),
            bits(&found)
        );
    }
}

fn same_tensors(before: &Path, after: &Path) {
    let open = |folder: &Path| SafetensorsFolder::open(&folder.join("adapter_model.safetensors"));
    let (before, after) = (open(before).unwrap(), open(after).unwrap());
    assert_eq!(before.names(), after.names());
    for name in before.names() {
        let load = |s: &SafetensorsFolder| s.load(&name, DType::F32).unwrap();
        assert_eq!(
            before.info(&name).unwrap().shape,
            after.info(&name).unwrap().shape
        );
        assert_eq!(bits(&load(&before)), bits(&load(&after)), "{name}");
    }
}

#[test]
fn a_fresh_adapter_changes_no_bit_and_takes_all_the_gradient() {
    for folder in families() {
        let base = open(&folder, DType::F32);
        if base.weight_dtype() != DType::F32 {
            continue;
        }
        let before = bits(&logits(&base, &batch()));
        let model = Trainable::lora(base, &spec(3, 0.0), 1).unwrap();
        assert_eq!(
            before,
            bits(&logits(model.decoder(), &batch())),
            "{folder:?}"
        );
        assert_eq!(before, bits(&logits(&model.base().unwrap(), &batch())));
        let hidden = model.hidden(&batch()).unwrap();
        assert_eq!(
            bits(&hidden),
            bits(&model.decoder().hidden(&batch()).unwrap())
        );
        let loss = ops::linear(&hidden, model.head(), None).unwrap();
        let grads = ops::backward(&loss.sqr().unwrap().sum_all().unwrap()).unwrap();
        for p in model.params() {
            let grad = grads.get(p.var.as_tensor()).unwrap();
            let largest = wide(grad).iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            // While B is 0 nothing comes through to A.
            assert_eq!(
                largest > 0.0,
                p.name.contains("lora_B"),
                "{folder:?} {}",
                p.name
            );
        }
        let weights = model.tracked().weights();
        assert!(grads.get(&weights.embed).is_none());
        for layer in &weights.layers {
            assert!(grads.get(&layer.q.weight).is_none() && !layer.q.weight.track_op());
            assert!(grads.get(&layer.down.weight).is_none());
        }
    }
}

#[test]
fn the_start_is_kaimings_and_the_seeds() {
    let path = fixtures("models/llama");
    let a = |seed| {
        let adapter = LoraAdapter::fresh(&open(&path, DType::F32), &spec(16, 0.0), seed).unwrap();
        let model = Trainable::lora_from(open(&path, DType::F32), &adapter).unwrap();
        wide(model.params()[0].var.as_tensor())
    };
    let (first, again, other) = (a(1), a(1), a(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    // Uniform in ±1/√in, of variance 1/(3 in), in = 48.
    let bound = 48f64.sqrt().recip();
    assert!(first.iter().all(|x| x.abs() <= bound));
    let variance = first.iter().map(|x| x * x).sum::<f64>() / first.len() as f64;
    assert!((variance * 3.0 * 48.0 - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn merged_is_unmerged_and_off_is_the_base_after_training_too() {
    for folder in families() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let base = open(&folder, dtype);
            let before = bits(&logits(&base, &batch()));
            let model = Trainable::lora(base, &spec(2, 0.0), 1).unwrap();
            step(&model, 0.05);
            let on = logits(model.decoder(), &batch());
            let merged = logits(&model.decoder().merged().unwrap(), &batch());
            assert!(
                apart(&on, &merged) < tolerance,
                "{folder:?}: {}",
                apart(&on, &merged)
            );
            assert!(apart(&on, &logits(&model.base().unwrap(), &batch())) > 1e-3);
            assert_eq!(before, bits(&logits(&model.base().unwrap(), &batch())));

            let frozen = model.adapter().unwrap().frozen().unwrap();
            let reference = frozen.on(&model.base().unwrap()).unwrap();
            assert_eq!(bits(&on), bits(&logits(&reference, &batch())));
            step(&model, 0.05);
            assert_eq!(bits(&on), bits(&logits(&reference, &batch())));
            assert_ne!(bits(&on), bits(&logits(model.decoder(), &batch())));
        }
    }
}

#[test]
fn every_way_through_the_model_sees_the_adapter() {
    for (name, checkpoint) in PEFT {
        let base = open(&fixtures("models").join(checkpoint), DType::F64);
        let adapter = LoraAdapter::read(&fixtures("peft").join(name), base.config()).unwrap();
        let model = adapter.on(&base).unwrap();
        let ids = [3u32, 1, 4, 1, 5, 9];
        let batch = Batch::single(&ids).unwrap();
        let whole = logits(&model, &batch);

        let mut cache = KvCache::new(model.config(), 1, 8);
        for (i, &id) in ids.iter().enumerate() {
            let next = Batch::single(&[id]).unwrap();
            let out = model.forward_cached(&next, &mut cache, &Hooks::new(), LogitsAt::Last);
            let step = out.unwrap().logits().unwrap();
            let here = whole.narrow(1, i, 1).unwrap();
            assert!(apart(&step, &here) < 1e-12, "{name}");
        }
        // Head by head, and layer by layer with the pattern formed.
        for point in [Point::HeadResult, Point::Pattern] {
            let hooks = Hooks::new().capture(HookPoint::new(point, 1));
            let out = model.forward(&batch, &hooks, LogitsAt::All).unwrap();
            assert!(
                apart(&out.logits().unwrap(), &whole) < 1e-12,
                "{name} {point:?}"
            );
        }
        let merged = model.merged().unwrap();
        for layer in 0..2 {
            let [here, there] = [&model, &merged].map(|m| &m.weights().layers[layer].o);
            assert!(apart(&here.matrix().unwrap(), &there.weight) < 1e-12);
        }
        assert!(model.is_adapted() && !merged.is_adapted());
    }
}

#[test]
fn a_saved_adapter_comes_back_to_the_last_bit() {
    for (name, checkpoint) in PEFT {
        let path = fixtures("models").join(checkpoint);
        let mut model = Trainable::lora(open(&path, DType::F32), &spec(3, 0.1), 5).unwrap();
        model.set_base_name("a/base");
        step(&model, 0.05);
        let out = tempfile::tempdir().unwrap();
        model.write(out.path(), DType::F32).unwrap();
        assert!(LoraAdapter::is_in(out.path()) && !LoraAdapter::is_in(&path));
        let text = std::fs::read_to_string(out.path().join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["base_model_name_or_path"], "a/base");

        let other = Trainable::lora(open(&path, DType::F32), &spec(3, 0.1), 6).unwrap();
        other.reload(out.path()).unwrap();
        for (a, b) in model.values().iter().zip(other.values()) {
            assert_eq!((&a.0, bits(&a.1)), (&b.0, bits(&b.1)), "{name}");
        }
        let read = LoraAdapter::read(out.path(), model.decoder().config()).unwrap();
        assert_eq!(read.spec(), &spec(3, 0.1));
        let on = logits(&read.on(&open(&path, DType::F32)).unwrap(), &batch());
        assert_eq!(bits(&on), bits(&logits(model.decoder(), &batch())));
    }
}

#[test]
fn an_adapter_on_a_score_model_is_saved_with_its_head() {
    let path = fixtures("models/llama");
    let scored = ScoreModel::fresh(open(&path, DType::F32), 3).unwrap();
    let model = Trainable::lora_scored(&scored, &spec(2, 0.0), 1).unwrap();
    assert_eq!(
        model.params().last().unwrap().name,
        "base_model.model.score.weight"
    );
    step(&model, 0.05);
    let out = tempfile::tempdir().unwrap();
    model.write(out.path(), DType::F32).unwrap();
    let other = Trainable::lora_scored(&scored, &spec(2, 0.0), 2).unwrap();
    other.reload(out.path()).unwrap();
    let scores = |m: &Trainable| bits(&m.score_model().unwrap().scores(&batch()).unwrap());
    assert_eq!(scores(&model), scores(&other));
    assert_ne!(scores(&model), bits(&scored.scores(&batch()).unwrap()));
    let refused = LoraAdapter::read(out.path(), model.decoder().config());
    assert!(matches!(refused, Err(ModelError::Adapter { .. })));
}

#[test]
fn a_policy_with_a_value_head_is_saved_with_it_and_stays_a_language_model() {
    let path = fixtures("models/llama");
    let head = Tensor::full(0.25f32, (1, 48), &candle_core::Device::Cpu).unwrap();
    let make = |lora: bool| {
        let base = open(&path, DType::F32);
        let model = if lora {
            Trainable::lora(base, &spec(2, 0.0), 1).unwrap()
        } else {
            Trainable::full(base).unwrap()
        };
        model.with_value_head(&head).unwrap()
    };
    for lora in [false, true] {
        let model = make(lora);
        assert_eq!(model.params().last().unwrap().name, "value_head.weight");
        step(&model, 0.01);
        let out = tempfile::tempdir().unwrap();
        model.write(out.path(), DType::F32).unwrap();
        let other = make(lora);
        other.reload(out.path()).unwrap();
        for (a, b) in model.values().iter().zip(other.values()) {
            assert_eq!((&a.0, bits(&a.1)), (&b.0, bits(&b.1)));
        }
        let on = bits(&logits(model.decoder(), &batch()));
        let back = if lora {
            let config = model.decoder().config();
            let adapter = LoraAdapter::read(out.path(), config).unwrap();
            adapter.on(&open(&path, DType::F32)).unwrap()
        } else {
            open(out.path(), DType::F32)
        };
        assert_eq!(on, bits(&logits(&back, &batch())));
    }
    let scored = ScoreModel::zero(open(&path, DType::F32)).unwrap();
    assert!(
        Trainable::scored(&scored)
            .unwrap()
            .with_value_head(&head)
            .is_err()
    );
    assert!(make(false).with_value_head(&head.t().unwrap()).is_err());
}

#[test]
fn dropout_is_a_function_of_its_key_and_leaves_reading_alone() {
    let path = fixtures("models/llama");
    let model = Trainable::lora(open(&path, DType::F64), &spec(4, 0.25), 1).unwrap();
    step(&model, 0.01);
    let hidden = || model.hidden(&batch()).unwrap();
    let plain = hidden();
    let under = |key| {
        model.set_dropout(Some(key));
        let found = hidden();
        assert_eq!(
            bits(&model.decoder().hidden(&batch()).unwrap()),
            bits(&plain)
        );
        found
    };
    assert_eq!(bits(&under(7)), bits(&under(7)));
    assert_ne!(bits(&under(7)), bits(&under(8)));
    assert_ne!(bits(&under(7)), bits(&plain));
    // Unbiased: for a small adapter the mean over keys is the pass without dropout.
    let n = 400;
    let mut sum = under(1);
    for key in 2..=n {
        sum = (sum + under(key)).unwrap();
    }
    let mean = (sum / n as f64).unwrap();
    let (near, one) = (apart(&mean, &plain), apart(&under(1), &plain));
    assert!(near < one / 5.0, "{near} {one}");
    model.set_dropout(None);
    assert_eq!(bits(&hidden()), bits(&plain));
}

#[test]
fn what_peft_has_and_we_do_not_is_refused_by_name() {
    let source = fixtures("peft/llama");
    let model = open(&fixtures("models/llama"), DType::F32);
    let text = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    let read_with = |key: &str, value: Value| {
        let out = tempfile::tempdir().unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[key] = value;
        std::fs::write(out.path().join("adapter_config.json"), config.to_string()).unwrap();
        let weights = "adapter_model.safetensors";
        std::fs::copy(source.join(weights), out.path().join(weights)).unwrap();
        LoraAdapter::read(out.path(), model.config())
    };
    for (key, value) in [
        ("use_dora", Value::Bool(true)),
        ("bias", "lora_only".into()),
        ("modules_to_save", vec!["embed_tokens"].into()),
        ("rank_pattern", serde_json::json!({"q_proj": 8})),
        ("alpha_pattern", serde_json::json!({"q_proj": 8})),
        ("layer_replication", serde_json::json!([[0, 1]])),
        ("init_lora_weights", "pissa".into()),
        ("lora_bias", Value::Bool(true)),
        ("peft_type", "LOHA".into()),
        ("task_type", "TOKEN_CLS".into()),
        ("trainable_token_indices", vec![1].into()),
        ("a_feature_of_next_year", 3.into()),
        ("r", 0.into()),
        ("lora_alpha", "much".into()),
    ] {
        let error = read_with(key, value).unwrap_err();
        assert!(
            matches!(error, ModelError::Adapter { .. }),
            "{key}: {error}"
        );
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    assert!(matches!(
        read_with("r", 5.into()),
        Err(ModelError::Shape { .. })
    ));
    assert!(read_with("a_feature_of_next_year", Value::Bool(false)).is_ok());
    assert!(read_with("target_modules", ".*q_proj|.*v_proj".into()).is_ok());
    let other = open(&fixtures("models/gpt2"), DType::F32);
    let refused = LoraAdapter::read(&source, other.config());
    assert!(matches!(refused, Err(ModelError::ExtraTensors { .. })));
}

#[test]
fn options_that_cannot_be_are_refused_with_what_can() {
    let model = open(&fixtures("models/gpt2"), DType::F32);
    let fresh = |spec: &LoraSpec| LoraAdapter::fresh(&model, spec, 1);
    let wrong = LoraSpec {
        targets: Targets::Modules(vec!["c_attn".into(), "q_proj".into()]),
        ..spec(2, 0.0)
    };
    let error = fresh(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("q_proj") && error.contains("c_attn, c_proj, c_fc"),
        "{error}"
    );
    for bad in [
        spec(0, 0.0),
        spec(100_000, 0.0),
        spec(2, 1.0),
        spec(2, f64::NAN),
    ] {
        assert!(matches!(fresh(&bad), Err(ModelError::Adapter { .. })));
    }
    let one = LoraSpec {
        targets: Targets::Modules(vec!["h.1.mlp.c_fc".into()]),
        ..spec(2, 0.0)
    };
    let found = fresh(&one).unwrap();
    assert_eq!(
        found.modules().collect::<Vec<_>>(),
        ["transformer.h.1.mlp.c_fc"]
    );
    let adapted = found.on(&model).unwrap();
    assert!(matches!(
        Trainable::full(adapted),
        Err(ModelError::Adapter { .. })
    ));

    let llama = fixtures("models/llama");
    let half = open(&llama, DType::BF16);
    let model = Trainable::lora(half, &spec(2, 0.0), 1).unwrap();
    assert!(model.decoder().merged().is_err());
    assert!(model.hidden(&batch()).is_ok());
    for text in [r#"{"targets": "all-linear"}"#, r#"{"targets": ["q_proj"]}"#] {
        let spec: LoraSpec = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_value(&spec).unwrap()["targets"],
            serde_json::from_str::<Value>(text).unwrap()["targets"]
        );
    }
    assert!(serde_json::from_str::<LoraSpec>(r#"{"targets": "all"}"#).is_err());
    assert!(serde_json::from_str::<LoraSpec>(r#"{"ranks": 4}"#).is_err());
}
