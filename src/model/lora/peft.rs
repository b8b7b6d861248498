//! An adapter on disk as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Always: what PEFT would compute with the files is what is computed here, or they are refused by name; both files are
//! written atomically, the config last, so a folder with a config is whole.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::{
    LoraAdapter, Targets,
    adapter::Part,
    modules,
    peft_config::{self, Task},
};
use crate::config::{Family, ModelConfig};
use crate::files::{
    FileError, SafetensorsFolder, TensorSource,
    hash::{content_hash, sha256},
    write::{Planned, WriteOptions, write_atomic, write_safetensors_file},
};
use crate::model::{ModelError, score};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
/// No config is larger than this.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A score head's name beside an adapter.
pub(in crate::model) fn score_name() -> String {
    format!("{PREFIX}{}", score::NAME)
}

impl LoraAdapter {
    /// Whether a folder holds an adapter.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(CONFIG).is_file()
    }

    /// One hash of an adapter's tensors and of the factor they are scaled by.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn hash(folder: &Path) -> Result<String, ModelError> {
        let file = folder.join(CONFIG);
        let (spec, _) = peft_config::read(&file, &text(&file)?)?;
        let tensors = content_hash(&tensors(folder)?)?;
        let parts = serde_json::json!([tensors, spec.scale()]);
        Ok(sha256(parts.to_string().as_bytes()))
    }

    /// Reads an adapter for a model of this config.
    ///
    /// # Errors
    /// A feature of PEFT that is not served, a tensor of another module than the model's linear layers, a missing or
    /// left-over tensor, another shape; an adapter with a score head.
    pub fn read(folder: &Path, config: &ModelConfig) -> Result<Self, ModelError> {
        let (adapter, head) = Self::read_with_head(folder, config)?;
        match head {
            None => Ok(adapter),
            Some(_) => Err(ModelError::Adapter {
                of: folder.join(CONFIG).display().to_string(),
                expected: "an adapter of a language model".to_owned(),
                found: "one of a score model".to_owned(),
            }),
        }
    }

    /// [`Self::read`], with the score head `[1, d_model]` that may lie beside it.
    ///
    /// # Errors
    /// As there.
    pub fn read_with_head(
        folder: &Path,
        config: &ModelConfig,
    ) -> Result<(Self, Option<Tensor>), ModelError> {
        let file = folder.join(CONFIG);
        let (mut spec, task) = peft_config::read(&file, &text(&file)?)?;
        let source = tensors(folder)?;
        let mut left = source.names();
        let mut parts = Vec::new();
        for module in modules(config) {
            let stem = format!("{PREFIX}{}", module.name);
            let names = ["A", "B"].map(|which| format!("{stem}.lora_{which}.weight"));
            if !names.iter().any(|name| left.contains(name)) {
                continue;
            }
            left.retain(|name| !names.contains(name));
            let [a, b] = names.each_ref().map(|name| load(&source, name));
            let (a, b) = (a?, b?);
            check_shapes(&source, &names, [&a, &b], spec.rank)?;
            parts.push(Self::part(module, [a, b], config)?);
        }
        let head = match task {
            Task::Language => None,
            Task::Score => {
                let name = score_name();
                left.retain(|n| *n != name);
                Some(load(&source, &name)?)
            }
        };
        if !left.is_empty() {
            return Err(ModelError::ExtraTensors {
                file: source.describe(),
                count: left.len(),
                tensors: left.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
            });
        }
        spec.targets = targets(spec.targets, &parts, config);
        Ok((Self { spec, parts }, head))
    }

    /// Writes the adapter for PEFT, in f32. `base` names the model it belongs to.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, folder: &Path, config: &ModelConfig, base: &str) -> Result<(), ModelError> {
        self.write_with_head(folder, config, base, None)
    }

    /// [`Self::write`] with a score head beside it.
    pub(in crate::model) fn write_with_head(
        &self,
        folder: &Path,
        config: &ModelConfig,
        base: &str,
        head: Option<&Tensor>,
    ) -> Result<(), ModelError> {
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        for part in &self.parts {
            let [a, b] = Self::stored(part, config)?;
            let stem = format!("{PREFIX}{}", part.module.name);
            tensors.insert(format!("{stem}.lora_A.weight"), a);
            tensors.insert(format!("{stem}.lora_B.weight"), b);
        }
        if let Some(head) = head {
            tensors.insert(score_name(), head.clone());
        }
        let plan: Vec<Planned> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()))
            .collect();
        std::fs::create_dir_all(folder).map_err(|source| FileError::Io {
            file: folder.to_path_buf(),
            action: "make the folder".to_owned(),
            source,
        })?;
        write_safetensors_file(
            &folder.join(WEIGHTS),
            &plan,
            &WriteOptions::default(),
            |name| Ok::<_, candle_core::Error>(tensors[name].clone()),
        )?;
        let task = head.map_or(Task::Language, |_| Task::Score);
        let transposed = config.family == Family::Gpt2;
        let text = peft_config::write(&self.spec, base, task, transposed);
        write_atomic(&folder.join(CONFIG), text.as_bytes())?;
        Ok(())
    }
}

/// The base model that an adapter's config names.
pub(super) fn base_name(folder: &Path) -> Result<Option<String>, ModelError> {
    let file = folder.join(CONFIG);
    let config: serde_json::Value = serde_json::from_str(&text(&file)?).unwrap_or_default();
    let name = config.get("base_model_name_or_path");
    Ok(name.and_then(|name| Some(name.as_str()?.to_owned())))
}

/// The adapter's file.
pub(super) fn tensors(folder: &Path) -> Result<SafetensorsFolder, FileError> {
    SafetensorsFolder::open(&folder.join(WEIGHTS))
}

fn text(file: &Path) -> Result<String, ModelError> {
    let refuse = |why: String| ModelError::NotACheckpoint {
        path: file.display().to_string(),
        why,
    };
    let size = std::fs::metadata(file)
        .map_err(|e| refuse(format!("a PEFT adapter needs this file ({e})")))?
        .len();
    if size > MAX_CONFIG_BYTES {
        return Err(refuse(format!(
            "{size} bytes; at most {MAX_CONFIG_BYTES} are read"
        )));
    }
    std::fs::read_to_string(file).map_err(|e| refuse(e.to_string()))
}

fn load(source: &SafetensorsFolder, name: &str) -> Result<Tensor, ModelError> {
    if source.info(name).is_none() {
        return Err(ModelError::MissingTensor {
            file: source.describe(),
            tensor: name.to_owned(),
            needed_for: "an adapter that the file begins".to_owned(),
        });
    }
    Ok(source.load(name, DType::F32)?)
}

/// `A [rank, in]`, `B [out, rank]`; against the weights they are checked when they are put on.
fn check_shapes(
    source: &SafetensorsFolder,
    names: &[String; 2],
    [a, b]: [&Tensor; 2],
    rank: usize,
) -> Result<(), ModelError> {
    let expected = [
        (a, vec![rank, *a.dims().last().unwrap_or(&0)]),
        (b, vec![*b.dims().first().unwrap_or(&0), rank]),
    ];
    for ((tensor, expected), name) in expected.into_iter().zip(names) {
        if tensor.dims() != expected {
            return Err(ModelError::Shape {
                file: source.describe(),
                tensor: name.clone(),
                expected,
                found: tensor.dims().to_vec(),
            });
        }
    }
    Ok(())
}

/// Targets that name exactly the modules of the file: those of its config where they do, else the modules one by one.
fn targets(said: Targets, parts: &[Part], config: &ModelConfig) -> Targets {
    let there: Vec<&str> = parts.iter().map(|p| p.module.name.as_str()).collect();
    let same = |targets: &Targets| {
        let picked = targets.pick(config).unwrap_or_default();
        picked
            .iter()
            .map(|m| m.name.as_str())
            .eq(there.iter().copied())
    };
    if same(&said) {
        return said;
    }
    Targets::Modules(there.into_iter().map(str::to_owned).collect())
}
