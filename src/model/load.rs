//! Opening the weights of a checkpoint: which format lies at a path, its config, its tensors in place.

use std::path::Path;

use candle_core::DType;

use super::{
    Decoder, ModelError,
    lora::{Adapted, LoraAdapter},
    names::Scheme,
    weights,
};
use crate::config::{self, ModelConfig};
use crate::files::{self, Gguf, InMemory, Layout, SafetensorsFolder, TensorSource};

/// How to open a checkpoint.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `F32`; `BF16` keeps matrices in half the memory and computes in f32; `F64` is the exact twin.
    pub dtype: DType,
    /// Unknown config keys that the user vouches for.
    pub accept_config_keys: Vec<String>,
    /// The base of an adapter folder, instead of the one that the folder names.
    pub base: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            dtype: DType::F32,
            accept_config_keys: Vec::new(),
            base: None,
        }
    }
}

/// The tensors of a checkpoint with its config: everything but the words.
pub enum Opened {
    /// A Hugging Face folder.
    Folder(SafetensorsFolder, ModelConfig),
    /// A GGUF file.
    Gguf(Gguf, ModelConfig),
    /// The toy, which lies in no file.
    Memory(InMemory, ModelConfig),
    /// An adapter folder with its base.
    Adapted(Box<Adapted>),
}

impl Opened {
    /// Reads headers and config; no weights yet.
    pub fn at(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        if !path.exists() {
            let why = "nothing is there; give a folder, a .gguf file or the name of a known model";
            return Err(ModelError::NotACheckpoint {
                path: path.display().to_string(),
                why: why.into(),
            });
        }
        if LoraAdapter::is_in(path) {
            return Ok(Self::Adapted(Box::new(Adapted::open(path, options)?)));
        }
        match files::layout(path)? {
            Layout::Gguf => {
                let gguf = Gguf::open(path)?;
                let config = config::from_gguf(&gguf)?;
                Ok(Self::Gguf(gguf, config))
            }
            Layout::Safetensors => {
                let folder = if path.is_dir() {
                    path
                } else {
                    path.parent().unwrap_or(Path::new("."))
                };
                let file = folder.join("config.json");
                let json = read_config(&file)?;
                let config = config::from_hf_json(
                    &file.display().to_string(),
                    &json,
                    &options.accept_config_keys,
                )?;
                Ok(Self::Folder(SafetensorsFolder::open(path)?, config))
            }
        }
    }

    /// The config.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(_, config) | Self::Gguf(_, config) | Self::Memory(_, config) => config,
            Self::Adapted(adapted) => adapted.config(),
        }
    }

    /// The tensors.
    pub fn source(&self) -> &dyn TensorSource {
        match self {
            Self::Folder(source, _) => source,
            Self::Gguf(source, _) => source,
            Self::Memory(source, _) => source,
            Self::Adapted(adapted) => &**adapted,
        }
    }

    /// The adapter and its base, where this is an adapter folder.
    pub fn adapted(&self) -> Option<&Adapted> {
        match self {
            Self::Adapted(adapted) => Some(adapted),
            _ => None,
        }
    }

    /// One hash of the stored tensors; of an adapter folder, of base and adapter.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn content_hash(&self) -> Result<String, files::FileError> {
        match self {
            Self::Adapted(adapted) => adapted.content_hash(),
            _ => files::hash::content_hash(self.source()),
        }
    }

    /// Loads the weights.
    pub fn decoder(&self, options: &LoadOptions) -> Result<Decoder, ModelError> {
        if let Self::Adapted(adapted) = self {
            adapted.expect_language()?;
        }
        self.loaded(self.source(), true, options)
    }

    /// Loads the weights but the unembedding, in whose place the embedding stands. `source` is this one's, or a part of it.
    pub(super) fn headless(
        &self,
        source: &dyn TensorSource,
        options: &LoadOptions,
    ) -> Result<Decoder, ModelError> {
        self.loaded(source, false, options)
    }

    fn loaded(
        &self,
        source: &dyn TensorSource,
        head: bool,
        options: &LoadOptions,
    ) -> Result<Decoder, ModelError> {
        if !matches!(options.dtype, DType::F32 | DType::BF16 | DType::F64) {
            return Err(ModelError::Dtype {
                file: self.source().describe(),
                found: options.dtype.as_str(),
            });
        }
        let stored = self.adapted().map_or(self, Adapted::base);
        let scheme = match stored {
            Self::Gguf(..) => Scheme::Gguf,
            _ => Scheme::HuggingFace,
        };
        let weights = weights::load(source, scheme, self.config(), options.dtype, head)?;
        Ok(Decoder::new(self.config().clone(), weights))
    }
}

/// No config is larger than this.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

fn read_config(file: &Path) -> Result<String, ModelError> {
    let refuse = |why: String| ModelError::NotACheckpoint {
        path: file.display().to_string(),
        why,
    };
    let size = std::fs::metadata(file)
        .map_err(|e| refuse(format!("a folder of weights needs a config.json ({e})")))?
        .len();
    if size > MAX_CONFIG_BYTES {
        return Err(refuse(format!(
            "a config of {size} bytes; at most {MAX_CONFIG_BYTES} are read"
        )));
    }
    std::fs::read_to_string(file).map_err(|e| refuse(e.to_string()))
}
