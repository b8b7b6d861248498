//! A model with one number for a text: a reward model, or the value model of PPO. A decoder without its unembedding, and a
//! linear score head on the final norm's output, saved as transformers' `…ForSequenceClassification` with one label.
//!
//! Always: the score is read at a row's last token by its place, never by looking for a padding id.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    Batch, Decoder, LoadOptions, ModelError, Opened,
    names::{Outer, Scheme, outer_stem},
};
use crate::config::ModelConfig;
use crate::files::TensorSource;

/// The score head's name in a file.
pub(super) const NAME: &str = "score.weight";

/// The unembedding's name, which a file of a score model lacks.
pub(super) fn head_name(config: &ModelConfig) -> String {
    let stem = outer_stem(config, Scheme::HuggingFace, Outer::Head);
    format!("{stem}.weight")
}

/// A reward or value model.
#[derive(Debug, Clone)]
pub struct ScoreModel {
    decoder: Decoder,
    head: Tensor,
}

impl ScoreModel {
    /// Of a decoder and a head `[1, d_model]`.
    ///
    /// # Errors
    /// A head of another shape.
    pub fn new(decoder: Decoder, head: Tensor) -> Result<Self, ModelError> {
        let expected = vec![1, decoder.config().d_model];
        if head.dims() != expected {
            return Err(ModelError::Shape {
                file: "a score model".to_owned(),
                tensor: NAME.to_owned(),
                expected,
                found: head.dims().to_vec(),
            });
        }
        Ok(Self { decoder, head })
    }

    /// A fresh head on a language model: normal with deviation `1/√(d_model + 1)` (Stiennon et al. 2020).
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn fresh(decoder: Decoder, seed: u64) -> Result<Self, ModelError> {
        let d = decoder.config().d_model;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let deviation = ((d + 1) as f64).sqrt().recip();
        let values: Vec<f64> = (0..d).map(|_| deviation * normal(&mut rng)).collect();
        let head =
            Tensor::from_vec(values, (1, d), &Device::Cpu)?.to_dtype(decoder.compute_dtype())?;
        Self::new(decoder, head)
    }

    /// A head of zeros on a decoder: a value model that begins at 0.
    ///
    /// # Errors
    /// Tensor arithmetic.
    pub fn zero(decoder: Decoder) -> Result<Self, ModelError> {
        let shape = (1, decoder.config().d_model);
        let head = Tensor::zeros(shape, decoder.compute_dtype(), &Device::Cpu)?;
        Self::new(decoder, head)
    }

    /// Opens a folder of transformers' `…ForSequenceClassification` with one label and no bias.
    ///
    /// # Errors
    /// A folder of a language model or a classifier of several labels, naming the tensor.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::of(&Opened::at(path, options)?, options)
    }

    /// [`Self::open`] of what is open already.
    ///
    /// # Errors
    /// As there.
    pub fn of(opened: &Opened, options: &LoadOptions) -> Result<Self, ModelError> {
        let shape = [1, opened.config().d_model];
        let source = Scored(opened.source());
        let info = source
            .0
            .info(NAME)
            .ok_or_else(|| ModelError::MissingTensor {
                file: source.0.describe(),
                tensor: NAME.to_owned(),
                needed_for: "the score of a reward model".to_owned(),
            })?;
        if info.shape != shape {
            return Err(ModelError::Shape {
                file: source.0.describe(),
                tensor: NAME.to_owned(),
                expected: shape.to_vec(),
                found: info.shape,
            });
        }
        let decoder = opened.headless(&source, options)?;
        let head = source.0.load(NAME, decoder.compute_dtype())?;
        Self::new(decoder, head)
    }

    /// The backbone. Its logits mean nothing.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// `[1, d_model]`
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// A score for each row, at its last token: `[batch]`.
    ///
    /// # Errors
    /// As [`Decoder::hidden`].
    pub fn scores(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        scores(&self.decoder.hidden(batch)?, &self.head)
    }

    /// A score at every slot: `[batch, pos]`; padding slots hold numbers without a meaning.
    ///
    /// # Errors
    /// As [`Decoder::hidden`].
    pub fn values(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        values(&self.decoder.hidden(batch)?, &self.head)
    }
}

/// Scores at the last slot of hidden states `[batch, pos, d_model]` with a head `[1, d_model]`: `[batch]`. Differentiable.
///
/// # Errors
/// Shapes that do not go together.
pub fn scores(hidden: &Tensor, head: &Tensor) -> Result<Tensor, ModelError> {
    let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.contiguous()?;
    Ok(values(&last, head)?.squeeze(1)?)
}

/// Scores at every slot of hidden states `[batch, pos, d_model]`: `[batch, pos]`. Differentiable.
///
/// # Errors
/// Shapes that do not go together.
pub fn values(hidden: &Tensor, head: &Tensor) -> Result<Tensor, ModelError> {
    Ok(candlescope_ops::linear(hidden, head, None)?.squeeze(2)?)
}

/// The tensors of a score model as those of its backbone.
struct Scored<'a>(&'a dyn TensorSource);

impl TensorSource for Scored<'_> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.0.names();
        names.retain(|name| name != NAME);
        names
    }

    fn info(&self, name: &str) -> Option<crate::files::TensorInfo> {
        self.0.info(name)
    }

    fn load(&self, name: &str, dtype: DType) -> Result<Tensor, crate::files::FileError> {
        self.0.load(name, dtype)
    }
}

/// A draw from the normal distribution (Box and Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    use rand::Rng;
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
