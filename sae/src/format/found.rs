//! What was recognised: the formats, and how a folder or file is told apart from its neighbours.

use std::path::{Path, PathBuf};

use super::{refusal, unsupported};
use crate::SaeError;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SAELens, 6 and before: `cfg.json`, `sae_weights.safetensors`.
    SaeLens,
    /// dictionary_learning: `ae.pt`, `config.json`.
    DictionaryLearning,
    /// sparsify: `cfg.json`, `sae.safetensors`.
    Sparsify,
    /// Gemma Scope 1: `params.npz`.
    GemmaScope,
    /// Gemma Scope 2: `params.safetensors`, `config.json`.
    GemmaScope2,
    /// Llama Scope: `hyperparams.json`, `checkpoints/final.safetensors`.
    LlamaScope,
    /// Qwen Scope: `layerN.sae.pt`.
    QwenScope,
    /// circuit-tracer's per-layer transcoders: `layer_N.safetensors`, `config.yaml`.
    CircuitTracer,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SaeLens,
        Self::DictionaryLearning,
        Self::Sparsify,
        Self::GemmaScope,
        Self::GemmaScope2,
        Self::LlamaScope,
        Self::QwenScope,
        Self::CircuitTracer,
    ];

    /// The name on a command line and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "saelens",
            Self::DictionaryLearning => "dictionary-learning",
            Self::Sparsify => "sparsify",
            Self::GemmaScope => "gemma-scope",
            Self::GemmaScope2 => "gemma-scope-2",
            Self::LlamaScope => "llama-scope",
            Self::QwenScope => "qwen-scope",
            Self::CircuitTracer => "circuit-tracer",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = SaeError;

    fn from_str(name: &str) -> Result<Self, SaeError> {
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| SaeError::Range {
            what: "format",
            found: name.to_owned(),
            allowed: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// What was read, beside the dictionary itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The format.
    pub format: Format,
    /// Which dialect of it, in the format's own words (`6, jumprelu`; `BatchTopKSAE`).
    pub dialect: String,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What a reader should know: what was folded, assumed or left open.
    pub notes: Vec<String>,
    /// log10 of how often each latent fired, where the folder has it (`sparsity.safetensors`) `[d_sae]`.
    pub sparsity: Option<Vec<f32>>,
}

impl Found {
    pub(super) fn new(format: Format, dialect: impl Into<String>, files: &[&Path]) -> Self {
        Self {
            format,
            dialect: dialect.into(),
            files: files.iter().map(|&f| f.to_owned()).collect(),
            notes: Vec::new(),
            sparsity: None,
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The folder of a file, or the folder itself.
pub(super) fn folder(path: &Path) -> &Path {
    if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    }
}

/// The file itself, or the one of this name in a folder.
pub(super) fn file(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() {
        path.join(name)
    } else {
        path.to_owned()
    }
}

fn names(folder: &Path) -> Result<Vec<String>, SaeError> {
    let io = |source| SaeError::Io {
        file: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        names.push(
            entry
                .map_err(io)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Recognises a folder or file by its names alone.
pub(super) fn detect(path: &Path) -> Result<Format, SaeError> {
    let kind = path.metadata().map_err(|source| SaeError::Io {
        file: path.to_owned(),
        source,
    })?;
    if kind.is_dir() {
        detect_folder(path)
    } else {
        detect_file(path)
    }
}

/// A file `{before}N{after}`, as layers are numbered.
fn numbered(name: &str, before: &str, after: &str) -> bool {
    let number = name
        .strip_prefix(before)
        .and_then(|n| n.strip_suffix(after));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The one file of a folder that is numbered so.
pub(super) fn only(folder: &Path, before: &str, after: &str) -> Result<PathBuf, SaeError> {
    let names = names(folder)?;
    let mut files = names.iter().filter(|n| numbered(n, before, after));
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(folder.join(file)),
        (None, _) => Err(refusal(folder, format!("no file {before}N{after}"))),
        (Some(first), _) => Err(refusal(
            folder,
            format!("several dictionaries, one a layer; name one of them, such as {first}"),
        )),
    }
}

pub(super) const CLT: &str = "each of its latents writes to every later layer, and a dictionary here has one decoder; per-layer transcoders are read";

fn detect_folder(path: &Path) -> Result<Format, SaeError> {
    let names = names(path)?;
    let has = |name: &str| names.iter().any(|n| n == name);
    let layers = |before: &str, after: &str| -> Vec<&str> {
        let all = names.iter().map(String::as_str);
        all.filter(|n| numbered(n, before, after)).collect()
    };
    if has("cfg.json") && has("sae_weights.safetensors") {
        return Ok(Format::SaeLens);
    }
    if has("cfg.json") && has("sae.safetensors") {
        return Ok(Format::Sparsify);
    }
    if has("ae.pt") {
        return Ok(Format::DictionaryLearning);
    }
    if has("params.npz") {
        return Ok(Format::GemmaScope);
    }
    if has("params.safetensors") {
        return Ok(Format::GemmaScope2);
    }
    if has("hyperparams.json") {
        return Ok(Format::LlamaScope);
    }
    if !layers("W_enc_", ".safetensors").is_empty() {
        return Err(unsupported(path, "a cross-layer transcoder", CLT));
    }
    for (files, format) in [
        (layers("layer_", ".safetensors"), Format::CircuitTracer),
        (layers("layer", ".sae.pt"), Format::QwenScope),
    ] {
        if !files.is_empty() {
            return Ok(format);
        }
    }
    let shown: Vec<String> = names
        .iter()
        .take(8)
        .map(|n| super::tensors::short(n))
        .collect();
    Err(refusal(
        path,
        format!(
            "no dictionary is recognised here; expected cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors \
             (sparsify), ae.pt (dictionary_learning), params.npz or params.safetensors (Gemma Scope), hyperparams.json \
             (Llama Scope), layerN.sae.pt (Qwen Scope) or layer_N.safetensors (circuit-tracer); found {}",
            if shown.is_empty() {
                "nothing".to_owned()
            } else {
                shown.join(", ")
            }
        ),
    ))
}

fn detect_file(path: &Path) -> Result<Format, SaeError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let found = match &*name {
        "sae_weights.safetensors" => Format::SaeLens,
        "sae.safetensors" => Format::Sparsify,
        "cfg.json" | "config.json" | "hyperparams.json" => return detect_folder(folder(path)),
        "ae.pt" => Format::DictionaryLearning,
        "params.safetensors" => Format::GemmaScope2,
        "final.safetensors" => Format::LlamaScope,
        n if numbered(n, "layer", ".sae.pt") => Format::QwenScope,
        n if numbered(n, "layer_", ".safetensors") => Format::CircuitTracer,
        n if numbered(n, "W_enc_", ".safetensors") || numbered(n, "W_dec_", ".safetensors") => {
            return Err(unsupported(path, "a cross-layer transcoder", CLT));
        }
        n if Path::new(n).extension().is_some_and(|e| e == "npz") => Format::GemmaScope,
        _ => {
            return Err(refusal(
                path,
                format!(
                    "no format has a file of this name; name the format ({})",
                    Format::ALL.map(Format::name).join(", ")
                ),
            ));
        }
    };
    Ok(found)
}
