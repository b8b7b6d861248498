//! The closed-form Llama of `tests/fixtures/losses/golden_common.py`, its data, and what every test here does with it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candlescope::config::from_hf_json;
use candlescope::files::InMemory;
use candlescope::model::{Batch, Decoder, LoadOptions, Opened, ScoreModel, Trainable};
use candlescope_ops::{self as ops, HeadOptions, TokenLogprobs};
use serde_json::Value;

pub const PROMPTS: [&[u32]; 4] = [&[1, 5, 9, 13], &[1, 7, 22], &[1, 40, 41, 42, 43], &[1, 3]];
pub const CHOSEN: [&[u32]; 4] = [
    &[20, 21, 22, 2],
    &[33, 34, 35, 36, 37, 2],
    &[50, 51, 2],
    &[60, 61, 62, 63, 2],
];
pub const REJECTED: [&[u32]; 4] = [
    &[25, 26, 2],
    &[38, 39, 2],
    &[52, 53, 54, 55, 56, 2],
    &[10, 11, 2],
];

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu"}"#;

/// Parameter k in the order of names, flat index j: matrices `0.25 sin(0.37 (j+1) + 1.7 (k+1) + phase)`, vectors
/// `1 + 0.1 sin(...)`.
fn filled(head: (&str, usize), phase: f64, dtype: DType) -> Opened {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    shapes.insert(head.0.into(), vec![head.1, 16]);
    shapes.insert("model.embed_tokens.weight".into(), vec![64, 16]);
    shapes.insert("model.norm.weight".into(), vec![16]);
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![16]),
            ("post_attention_layernorm", vec![16]),
            ("self_attn.q_proj", vec![16, 16]),
            ("self_attn.k_proj", vec![8, 16]),
            ("self_attn.v_proj", vec![8, 16]),
            ("self_attn.o_proj", vec![16, 16]),
            ("mlp.gate_proj", vec![32, 16]),
            ("mlp.up_proj", vec![32, 16]),
            ("mlp.down_proj", vec![16, 32]),
        ] {
            shapes.insert(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    let mut tensors = BTreeMap::new();
    for (k, (name, shape)) in shapes.into_iter().enumerate() {
        let n: usize = shape.iter().product();
        let value = |j: usize| (0.37 * (j + 1) as f64 + 1.7 * (k + 1) as f64 + phase).sin();
        let values: Vec<f64> = (0..n)
            .map(|j| {
                if shape.len() == 1 {
                    1.0 + 0.1 * value(j)
                } else {
                    0.25 * value(j)
                }
            })
            .collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name, tensor.to_dtype(dtype).unwrap());
    }
    let config = from_hf_json("golden", CONFIG, &[]).unwrap();
    Opened::Memory(InMemory::new("golden", tensors), config)
}

fn options(dtype: DType) -> LoadOptions {
    LoadOptions {
        dtype,
        ..LoadOptions::default()
    }
}

pub fn language_model(phase: f64, dtype: DType) -> Decoder {
    let opened = filled(("lm_head.weight", 64), phase, dtype);
    opened.decoder(&options(dtype)).unwrap()
}

pub fn policy(dtype: DType) -> Trainable {
    Trainable::full(language_model(0.0, dtype)).unwrap()
}

pub fn reference(dtype: DType) -> Decoder {
    language_model(0.05, dtype)
}

pub fn score_model(phase: f64, dtype: DType) -> ScoreModel {
    let opened = filled(("score.weight", 1), phase, dtype);
    ScoreModel::of(&opened, &options(dtype)).unwrap()
}

pub fn joined(prompts: &[&[u32]], completions: &[&[u32]]) -> Vec<Vec<u32>> {
    let pairs = prompts.iter().zip(completions);
    pairs.map(|(p, c)| [*p, *c].concat()).collect()
}

/// Log-probabilities of the tokens of each row from `from[row]` on, one row after the other, given hidden states.
pub fn logprobs_at(
    batch: &Batch,
    hidden: &Tensor,
    head: &Tensor,
    from: &[usize],
    temperature: f64,
) -> TokenLogprobs {
    let (mut slots, mut targets) = (Vec::new(), Vec::new());
    for (row, &from) in from.iter().enumerate() {
        let ids = batch.row(row);
        for (i, &id) in ids.iter().enumerate().skip(from) {
            slots.push((row * batch.len() + batch.pad()[row] + i - 1) as u32);
            targets.push(id);
        }
    }
    let flat = hidden.flatten(0, 1).unwrap();
    let states = ops::embedding(&flat, &slots).unwrap();
    let options = HeadOptions {
        temperature,
        softcap: None,
    };
    ops::token_logprobs(&states, head, &targets, options).unwrap()
}

/// Per-token log-probabilities of completions, on the tape.
pub fn completions(model: &Trainable, prompts: &[&[u32]], completions: &[&[u32]]) -> Tensor {
    let batch = Batch::new(&joined(prompts, completions)).unwrap();
    let from: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
    let hidden = model.hidden(&batch).unwrap();
    logprobs_at(&batch, &hidden, model.head(), &from, 1.0).logps
}

/// Log-probabilities of completions summed over their tokens, `[rows]`.
pub fn summed(model: &Trainable, prompts: &[&[u32]], all: &[&[u32]]) -> Tensor {
    let logps = completions(model, prompts, all);
    candlescope::train::loss::sum_runs(&logps, &lengths(all)).unwrap()
}

/// The same of a model that does not train.
pub fn summed_by(model: &Decoder, prompts: &[&[u32]], all: &[&[u32]]) -> Tensor {
    let batch = Batch::new(&joined(prompts, all)).unwrap();
    let from: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
    let hidden = model.hidden(&batch).unwrap();
    let logps = logprobs_at(&batch, &hidden, &model.weights().head, &from, 1.0).logps;
    candlescope::train::loss::sum_runs(&logps, &lengths(all)).unwrap()
}

pub fn lengths(completions: &[&[u32]]) -> Vec<usize> {
    completions.iter().map(|c| c.len()).collect()
}

pub fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

pub fn number(x: &Tensor) -> f64 {
    numbers(x)[0]
}

/// Gradients of what trains, in its order; zeros where nothing arrives.
pub fn gradients(model: &Trainable, loss: &Tensor) -> Vec<Tensor> {
    let grads = ops::backward(loss).unwrap();
    let of = |var: &candle_core::Var| match grads.get(var.as_tensor()) {
        Some(grad) => grad.clone(),
        None => var.zeros_like().unwrap(),
    };
    model.params().iter().map(|p| of(&p.var)).collect()
}

pub fn global_norm(gradients: &[Tensor]) -> f64 {
    let squares = gradients.iter().flat_map(numbers).map(|x| x * x);
    squares.sum::<f64>().sqrt()
}

/// The golden numbers of a file, and the names that have been compared with.
pub struct Golden {
    values: Value,
    seen: std::collections::BTreeSet<String>,
    tolerance: f64,
}

impl Golden {
    /// The numbers of `losses` or `ppo` for a precision: in f32 those of transformers as it is, within 1e-5; in f64 those of
    /// `exact.py`, within 1e-9.
    pub fn of(what: &str, dtype: DType) -> Self {
        match (dtype, what) {
            (DType::F64, _) => Self::open("golden_exact.json", Some(what), 1e-9),
            (_, "ppo") => Self::open("golden_ppo.json", None, 1e-5),
            _ => Self::open("golden_losses.json", Some("f64"), 1e-5),
        }
    }

    fn open(file: &str, section: Option<&str>, tolerance: f64) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/losses");
        let text = std::fs::read_to_string(path.join(file)).unwrap();
        let mut values: Value = serde_json::from_str(&text).unwrap();
        if let Some(section) = section {
            values = values[section].take();
        }
        Self {
            values,
            seen: std::collections::BTreeSet::new(),
            tolerance,
        }
    }

    pub fn golden(&mut self, name: &str) -> Vec<f64> {
        let value = &self.values[name];
        self.seen.insert(name.to_owned());
        match value {
            Value::Array(all) => all.iter().map(|v| v.as_f64().unwrap()).collect(),
            one => vec![one.as_f64().unwrap_or_else(|| panic!("{name}: {one}"))],
        }
    }

    pub fn raw(&mut self, name: &str) -> Value {
        self.seen.insert(name.to_owned());
        self.values[name].clone()
    }

    /// Compares within the tolerance, relative to the golden number.
    pub fn is(&mut self, name: &str, found: f64) {
        self.are(name, &[found], 0.0);
    }

    /// Compares a difference of larger numbers: the tolerance is relative to those.
    pub fn is_difference(&mut self, name: &str, found: f64, of: f64) {
        self.are(name, &[found], of);
    }

    pub fn are(&mut self, name: &str, found: &[f64], of: f64) {
        let golden = self.golden(name);
        assert_eq!(golden.len(), found.len(), "{name}");
        for (g, f) in golden.iter().zip(found) {
            close(name, *f, *g, self.tolerance, of);
        }
    }

    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Every number of the file has been compared.
    pub fn finish(self) {
        let all = self.values.as_object().unwrap().keys();
        let left: Vec<_> = all.filter(|name| !self.seen.contains(*name)).collect();
        assert!(left.is_empty(), "not compared: {left:?}");
    }
}

pub fn close(name: &str, found: f64, golden: f64, tolerance: f64, of: f64) {
    let scale = golden.abs().max(of);
    assert!(
        (found - golden).abs() <= tolerance * scale,
        "{name}: found {found}, golden {golden}, apart {:.1e} of {scale}",
        (found - golden).abs() / scale
    );
}
