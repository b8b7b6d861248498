//! PEFT's `adapter_config.json`, both ways.
//!
//! Always: a feature that this program does not serve exactly is refused by its name; a key nobody knows is refused unless it
//! is off.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{LoraSpec, Targets};
use crate::model::ModelError;

/// What a config says beside the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// A language model.
    Language,
    /// A score head is saved beside the adapter.
    Score,
}

/// Keys that say nothing about what is computed with the tensors of the file. `exclude_modules`, `layers_to_transform` and
/// `layers_pattern` chose modules, which the tensors name; `fan_in_fan_out` follows from the family.
const IRRELEVANT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// Initialisations that leave the base weights as they are.
const PLAIN_STARTS: &[&str] = &["gaussian", "orthogonal", "eva"];

fn refuse(file: &Path, key: &str, expected: &str, found: &Value) -> ModelError {
    ModelError::Adapter {
        of: format!("{}: `{key}`", file.display()),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

/// Reads a config.
pub(super) fn read(file: &Path, text: &str) -> Result<(LoraSpec, Task), ModelError> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(keys) = value.as_object() else {
        return Err(refuse(file, "(whole file)", "a JSON object", &Value::Null));
    };
    let get = |key: &str| keys.get(key).unwrap_or(&Value::Null);
    if get("peft_type") != "LORA" {
        return Err(refuse(file, "peft_type", "\"LORA\"", get("peft_type")));
    }
    let number = |key: &str| {
        let value = get(key).as_f64().filter(|x| x.is_finite());
        value.ok_or_else(|| refuse(file, key, "a number", get(key)))
    };
    let flag = |key: &str| match get(key) {
        Value::Null => Ok(false),
        Value::Bool(on) => Ok(*on),
        other => Err(refuse(file, key, "true or false", other)),
    };
    let rank = get("r").as_u64().filter(|&r| (1..=1 << 20).contains(&r));
    let rank = rank.ok_or_else(|| refuse(file, "r", "1 or more", get("r")))?;
    let spec = LoraSpec {
        rank: rank as usize,
        alpha: number("lora_alpha")?,
        dropout: if get("lora_dropout").is_null() {
            0.0
        } else {
            number("lora_dropout")?
        },
        targets: targets(get("target_modules")),
        rslora: flag("use_rslora")?,
    };
    let task = task(file, keys)?;
    for (key, value) in keys {
        refuse_feature(file, key, value)?;
    }
    Ok((spec, task))
}

/// What was asked for, as far as it can be said here; the tensors say what there is.
fn targets(value: &Value) -> Targets {
    match value {
        Value::Array(names) => {
            let names = names.iter().filter_map(|n| Some(n.as_str()?.to_owned()));
            Targets::Modules(names.collect())
        }
        _ => Targets::AllLinear,
    }
}

fn task(file: &Path, keys: &Map<String, Value>) -> Result<Task, ModelError> {
    let saved = keys.get("modules_to_save").unwrap_or(&Value::Null);
    let names: Vec<&str> = match saved {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::Null => Vec::new(),
        other => return Err(refuse(file, "modules_to_save", "a list", other)),
    };
    let task = keys.get("task_type").unwrap_or(&Value::Null);
    match task.as_str() {
        // PEFT itself adds the head of a classifier to what is saved.
        Some("SEQ_CLS") if names.iter().all(|n| ["score", "classifier"].contains(n)) => {
            Ok(Task::Score)
        }
        None | Some("CAUSAL_LM") if names.is_empty() => Ok(Task::Language),
        None | Some("CAUSAL_LM" | "SEQ_CLS") => {
            let expected = "null; modules trained in full beside the adapter are not served";
            Err(refuse(file, "modules_to_save", expected, saved))
        }
        Some(_) => Err(refuse(
            file,
            "task_type",
            "\"CAUSAL_LM\" or \"SEQ_CLS\"",
            task,
        )),
    }
}

fn refuse_feature(file: &Path, key: &str, value: &Value) -> Result<(), ModelError> {
    let served = [
        "r",
        "lora_alpha",
        "lora_dropout",
        "use_rslora",
        "target_modules",
    ];
    let told = ["peft_type", "task_type", "modules_to_save"];
    if IRRELEVANT.contains(&key) || served.contains(&key) || told.contains(&key) {
        return Ok(());
    }
    let off = match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Object(entries) => entries.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    };
    let fine = match key {
        "bias" => value == "none",
        "init_lora_weights" => {
            value.is_boolean() || value.as_str().is_some_and(|s| PLAIN_STARTS.contains(&s))
        }
        _ => off,
    };
    if fine {
        return Ok(());
    }
    let expected = match key {
        "bias" => "\"none\"",
        "init_lora_weights" => "a start that leaves the base weights as they are",
        _ => "null or false; this feature of PEFT is not served",
    };
    Err(refuse(file, key, expected, value))
}

/// Writes a config. `modules` are the names of what is adapted, `transposed` whether the family stores `[in, out]`.
pub(super) fn write(spec: &LoraSpec, base: &str, task: Task, transposed: bool) -> String {
    let targets = match &spec.targets {
        Targets::AllLinear => json!(super::ALL_LINEAR),
        Targets::Modules(names) => json!(names),
    };
    let (task, saved) = match task {
        Task::Language => ("CAUSAL_LM", Value::Null),
        Task::Score => ("SEQ_CLS", json!(["classifier", "score"])),
    };
    let config = json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "modules_to_save": saved,
        "peft_type": "LORA",
        "r": spec.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "task_type": task,
        "use_dora": false,
        "use_rslora": spec.rslora,
    });
    format!("{config:#}\n")
}
