//! Softmax probes on disk: a safetensors file with `weights` `[class, width]` on raw activations and `bias` `[class]`, and
//! everything else as JSON in its metadata under `probe`.
//!
//! Always: as [`super::file`], whose schema is another one: a command that reads one kind refuses the other by name.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candlescope_probes::softmax::SoftmaxProbe;
use serde::{Deserialize, Serialize};

use super::classes::{ClassControls, ClassFitting, Classified};
use super::file::{Fits, invalid, opened};
use super::{Place, ProbingError};
use crate::files::write::{WriteOptions, write_safetensors_file};
use crate::model::{Checkpoint, Fingerprint};

/// What a softmax probe's file says it is.
pub const CLASSES: &str = "candlescope.probe.classes/1";

/// All that is known of a softmax probe but its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassAbout {
    /// The model by the name that was given.
    pub model: String,
    /// The forward pass it reads.
    pub fingerprint: Fingerprint,
    /// Where it reads.
    pub place: Place,
    /// How it was fitted.
    pub fitting: ClassFitting,
    /// The C that was used.
    pub c: f64,
    /// The data by name.
    pub data: String,
    /// SHA-256 of the data.
    pub data_hash: String,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// The classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Macro AUROC on the validation rows.
    pub validation: f64,
    /// Its metrics on the test rows.
    pub test: Classified,
    /// What it has to beat.
    pub controls: ClassControls,
}

/// A softmax probe with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassFile {
    /// What is known of it.
    pub about: ClassAbout,
    /// The probe.
    pub probe: SoftmaxProbe,
}

impl ClassFile {
    /// Refuses a model on which this probe would read something else.
    ///
    /// # Errors
    /// Another width, another forward pass.
    pub fn fits(&self, file: &Path, model: &Checkpoint) -> Result<(), ProbingError> {
        let width = self.probe.weights.first().map_or(0, Vec::len);
        Fits {
            point: self.about.place.point,
            width,
            made_on: &self.about.fingerprint,
        }
        .check(file, model, false)
    }
}

/// Writes a softmax probe, replacing what is there.
///
/// # Errors
/// The disk refuses.
pub fn save_classes(file: &Path, probe: &ClassFile) -> Result<(), ProbingError> {
    let about = serde_json::to_string(&probe.about)
        .map_err(|e| invalid(file, "metadata `probe`", "finite numbers", e.to_string()))?;
    let options = WriteOptions {
        metadata: BTreeMap::from([
            ("schema".to_owned(), CLASSES.to_owned()),
            ("probe".to_owned(), about),
        ]),
        ..WriteOptions::default()
    };
    let (k, d) = (
        probe.probe.weights.len(),
        probe.probe.weights.first().map_or(0, Vec::len),
    );
    let plan = [
        ("bias".to_owned(), vec![k]),
        ("weights".to_owned(), vec![k, d]),
    ];
    write_safetensors_file(file, &plan, &options, |name| {
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        if name == "bias" {
            return Tensor::from_vec(narrow(&probe.probe.bias), k, &Device::Cpu);
        }
        Tensor::from_vec(narrow(&probe.probe.weights.concat()), (k, d), &Device::Cpu)
    })?;
    Ok(())
}

/// Reads a softmax probe.
///
/// # Errors
/// No such file, another schema, tensors of other shapes, a number that is not finite.
pub fn load_classes(file: &Path) -> Result<ClassFile, ProbingError> {
    let (open, about) = opened(file, CLASSES)?;
    let about: ClassAbout = serde_json::from_str(&about).map_err(|e| {
        let expected = "a softmax probe of candlescope";
        invalid(file, "metadata `probe`", expected, e.to_string())
    })?;
    let shape = |name: &str| open.load(name, DType::F32);
    let (weights, bias) = (shape("weights")?, shape("bias")?);
    let k = about.classes.len();
    let found = format!("{:?} and {:?}", weights.dims(), bias.dims());
    if weights.rank() != 2 || weights.dim(0)? != k || bias.dims() != [k] {
        let expected = format!("[{k}, width] and [{k}], as there are classes");
        return Err(invalid(file, "tensors `weights` and `bias`", &expected, found).into());
    }
    let weights = weights.to_vec2::<f32>()?;
    let bias = bias.to_vec1::<f32>()?;
    if weights
        .iter()
        .flatten()
        .chain(&bias)
        .any(|v| !v.is_finite())
    {
        return Err(invalid(file, "tensors", "finite numbers", "one that is not".into()).into());
    }
    let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    Ok(ClassFile {
        probe: SoftmaxProbe {
            n: about.n[0],
            weights: weights.iter().map(|row| wide(row)).collect(),
            bias: wide(&bias),
            c: about.c,
            gradient: 0.0,
        },
        about,
    })
}
