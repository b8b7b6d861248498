//! Softmax probes on disk: a safetensors file with `weights` `[class, width]` on raw activations and `bias` `[class]`, and
//! everything else as JSON in its metadata under `probe`.
//!
//! Always: as [`super::file`], whose schema is another one: a command that reads one kind refuses the other by name.

use std::path::Path;

use candlescope_probes::softmax::SoftmaxProbe;
use serde::{Deserialize, Serialize};

use super::classes::{ClassControls, ClassFitting, Classified};
use super::file::Fits;
use super::tensors::{invalid, numbers, opened, write};
use super::{Place, ProbingError};
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
    let weights = &probe.probe.weights;
    let (k, d) = (weights.len(), weights.first().map_or(0, Vec::len));
    let tensors = [
        ("bias", vec![k], probe.probe.bias.clone()),
        ("weights", vec![k, d], weights.concat()),
    ];
    write(file, CLASSES, &probe.about, &tensors)
}

/// Reads a softmax probe.
///
/// # Errors
/// No such file, another schema, tensors of other shapes, a number that is not finite.
pub fn load_classes(file: &Path) -> Result<ClassFile, ProbingError> {
    let (open, about): (_, ClassAbout) = opened(file, CLASSES, "a softmax probe of candlescope")?;
    let (shape, weights) = numbers(&open, file, "weights")?;
    let (of_bias, bias) = numbers(&open, file, "bias")?;
    let k = about.classes.len();
    let (&[classes, width], true) = (&shape[..], shape.last() != Some(&0)) else {
        let expected = "a row for each class";
        return Err(invalid(file, "tensor `weights`", expected, format!("{shape:?}")).into());
    };
    if classes != k || of_bias != [k] {
        let expected = format!("[{k}, width] and [{k}], as there are classes");
        let found = format!("{shape:?} and {of_bias:?}");
        return Err(invalid(file, "tensors `weights` and `bias`", &expected, found).into());
    }
    Ok(ClassFile {
        probe: SoftmaxProbe {
            n: about.n[0],
            weights: weights.chunks(width).map(<[f64]>::to_vec).collect(),
            bias,
            c: about.c,
            gradient: 0.0,
        },
        about,
    })
}
