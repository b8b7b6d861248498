//! An adapter folder opened as a model: the tensors of its base with the adapter in them.
//!
//! Always: every reader of stored tensors (weights, score heads, checks, comparisons) sees the adapted ones, computed in f32 (or
//! f64) before any rounding; the hash covers the base's stored tensors and the adapter's, and no product of them, so that it is
//! the same on every machine. Where the base lies: `base.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use serde_json::json;

use super::{
    LoraAdapter, LoraSpec,
    base::{self, Base},
    peft,
};
use crate::config::ModelConfig;
use crate::files::{
    FileError, TensorInfo, TensorSource,
    hash::{content_hash, sha256},
};
use crate::model::{
    LoadOptions, ModelError, Opened, convert,
    names::{Scheme, Take, layer_place},
    score,
};

/// A base model under an adapter.
pub struct Adapted {
    folder: PathBuf,
    base: Box<Opened>,
    /// Where the base lies, or its name.
    base_path: PathBuf,
    adapter: LoraAdapter,
    /// Of a reward or value model.
    head: Option<Tensor>,
    /// `s·B A` of the stored tensors that the adapter changes, as the two factors of each piece.
    changes: BTreeMap<String, Vec<Change>>,
}

/// A piece of a stored tensor: `A [rank, in]`, `B [out, rank]`.
struct Change {
    take: Take,
    a: Tensor,
    b: Tensor,
}

impl Adapted {
    /// Reads an adapter folder and the headers of its base.
    ///
    /// # Errors
    /// No base, an adapter of another model.
    pub fn open(folder: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let (base, base_path) = match base::find(folder, options.base.as_deref())? {
            Base::Toy(seed) => (
                Opened::toy(seed)?,
                PathBuf::from(base::name(folder, options.base.as_deref())?),
            ),
            Base::At(path) => (Opened::at(&path, options)?, path),
        };
        let (adapter, head) = LoraAdapter::read_with_head(folder, base.config())?;
        let changes = changes(&adapter, &base);
        let opened = Self {
            folder: folder.to_path_buf(),
            base: Box::new(base),
            base_path,
            adapter,
            head,
            changes,
        };
        opened.check()?;
        Ok(opened)
    }

    /// The adapter's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The base.
    pub fn base(&self) -> &Opened {
        &self.base
    }

    /// Where the base lies; `toy` and its like by name.
    pub fn base_path(&self) -> &Path {
        &self.base_path
    }

    /// The base's config, which is that of the whole.
    pub fn config(&self) -> &ModelConfig {
        self.base.config()
    }

    /// The adapter's options.
    pub fn spec(&self) -> &LoraSpec {
        self.adapter.spec()
    }

    /// The adapter.
    pub fn adapter(&self) -> &LoraAdapter {
        &self.adapter
    }

    /// Whether it is a reward or value model.
    pub fn is_scored(&self) -> bool {
        self.head.is_some()
    }

    /// Refuses a reward model where a language model is asked for.
    pub(in crate::model) fn expect_language(&self) -> Result<(), ModelError> {
        if self.head.is_none() {
            return Ok(());
        }
        Err(ModelError::Adapter {
            of: self.folder.display().to_string(),
            expected: "an adapter of a language model".to_owned(),
            found: "one of a reward model, which scores texts and writes none".to_owned(),
        })
    }

    /// One hash for base and adapter.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn content_hash(&self) -> Result<String, FileError> {
        let base = content_hash(self.base.source())?;
        let adapter = content_hash(&peft::tensors(&self.folder)?)?;
        let parts = json!(["adapter", base, adapter, self.spec().scale()]);
        Ok(sha256(parts.to_string().as_bytes()))
    }

    /// Shapes, before anything is loaded.
    fn check(&self) -> Result<(), ModelError> {
        for (name, pieces) in &self.changes {
            let info = self.base.source().info(name);
            let info = info.ok_or_else(|| ModelError::MissingTensor {
                file: self.base.source().describe(),
                tensor: name.clone(),
                needed_for: format!("the adapter in {}", self.folder.display()),
            })?;
            let product: usize = pieces.iter().map(|c| c.b.dims()[0] * c.a.dims()[1]).sum();
            if info.shape.iter().product::<usize>() != product {
                let shapes = pieces
                    .iter()
                    .map(|c| format!("{:?}·{:?}", c.b.dims(), c.a.dims()));
                return Err(ModelError::Adapter {
                    of: format!("{}: `{name}`", self.folder.display()),
                    expected: format!("a change of the base's {:?}", info.shape),
                    found: shapes.collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(())
    }

    fn changed(&self, name: &str, pieces: &[Change], dtype: DType) -> Result<Tensor, FileError> {
        let exact = if dtype == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        let stored = self.base.source().load(name, exact)?;
        let scale = self.spec().scale();
        let sum = || -> candle_core::Result<Tensor> {
            let of = |c: &Change| {
                let delta = c.b.to_dtype(exact)?.matmul(&c.a.to_dtype(exact)?)?;
                Ok((c.take, (delta * scale)?))
            };
            let deltas: Vec<_> = pieces.iter().map(of).collect::<candle_core::Result<_>>()?;
            (&stored + convert::joined(&deltas, self.config())?)?.to_dtype(dtype)
        };
        sum().map_err(|e| self.unlike(name, &e))
    }

    fn unlike(&self, name: &str, error: &candle_core::Error) -> FileError {
        FileError::Tensor {
            file: self.folder.clone(),
            tensor: name.to_owned(),
            field: "shape".to_owned(),
            expected: "the base's".to_owned(),
            found: error.to_string(),
        }
    }

    /// A score model has no unembedding of its own.
    fn hides(&self, name: &str) -> bool {
        self.head.is_some() && !self.config().tied && name == score::head_name(self.config())
    }
}

/// Which stored tensors of the base an adapter changes, piece by piece.
fn changes(adapter: &LoraAdapter, base: &Opened) -> BTreeMap<String, Vec<Change>> {
    let scheme = match base {
        Opened::Gguf(..) => Scheme::Gguf,
        _ => Scheme::HuggingFace,
    };
    let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for part in &adapter.parts {
        for ((role, _), b) in part.module.roles.iter().zip(&part.b) {
            let place = layer_place(base.config(), scheme, part.module.layer, *role, "weight");
            changes.entry(place.name).or_default().push(Change {
                take: place.take,
                a: part.a.clone(),
                b: b.clone(),
            });
        }
    }
    changes
}

impl TensorSource for Adapted {
    fn describe(&self) -> String {
        format!("{} on {}", self.folder.display(), self.base_path.display())
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.base.source().names();
        names.retain(|name| !self.hides(name));
        if self.head.is_some() {
            names.push(score::NAME.to_owned());
            names.sort();
        }
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let f32 = |shape: Vec<usize>| TensorInfo {
            dtype: "F32".to_owned(),
            shape,
        };
        if let Some(head) = self.head.as_ref().filter(|_| name == score::NAME) {
            return Some(f32(head.dims().to_vec()));
        }
        let info = self
            .base
            .source()
            .info(name)
            .filter(|_| !self.hides(name))?;
        Some(if self.changes.contains_key(name) {
            f32(info.shape)
        } else {
            info
        })
    }

    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, FileError> {
        if let Some(head) = self.head.as_ref().filter(|_| name == score::NAME) {
            return head.to_dtype(dtype).map_err(|e| self.unlike(name, &e));
        }
        match self.changes.get(name) {
            Some(pieces) => self.changed(name, pieces, dtype),
            None => self.base.source().load(name, dtype),
        }
    }

    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FileError> {
        let own = self.head.is_some() && name == score::NAME;
        if !own && !self.changes.contains_key(name) {
            return self.base.source().raw(name);
        }
        let values = self.load(name, DType::F32)?;
        let values = values.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = values.map_err(|e| self.unlike(name, &e))?;
        Ok(Cow::Owned(
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ))
    }
}
