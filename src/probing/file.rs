//! Probes on disk: a safetensors file with `weights` `[width]` on raw activations, `mean` and `scale` `[width]` of the
//! training rows, and everything else as JSON in its metadata under `probe`.
//!
//! Always: scores from a loaded probe are those of the probe that was saved, to f32 weights; a probe says on what forward
//! pass, data and rows it was made, and is refused on another forward pass unless that is the point (transfer).

use std::path::Path;

use candlescope_probes::calibration::{Isotonic, Platt};
use candlescope_probes::{LinearProbe, ProbeError};
use serde::{Deserialize, Serialize};

use super::harvest::width;
use super::pairs::PairsAbout;
use super::score::{HeldOut, calibrated};
use super::tensors::{as_weights, invalid, numbers, opened, write};
use super::{Fitting, Place, ProbingError};
use crate::files::{FileError, safetensors::SafetensorsFile};
use crate::hooks::{HookPoint, Point};
use crate::model::{Checkpoint, Fingerprint};

/// What a probe's file says it is.
pub const SCHEMA: &str = "candlescope.probe/1";

/// From score to probability, by the validation rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// The sigmoid.
    pub platt: Platt,
    /// The step function; stands before the sigmoid where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isotonic: Option<Isotonic>,
}

impl Calibrated {
    /// The probability of the positive class.
    pub fn probability(&self, score: f64) -> f64 {
        match &self.isotonic {
            Some(steps) => steps.probability(score),
            None => self.platt.probability(score),
        }
    }

    /// Puts the calibration of these probabilities in place of the sigmoid's.
    ///
    /// # Errors
    /// Lengths that differ.
    pub fn judge(
        &self,
        found: &mut HeldOut,
        scores: &[f64],
        labels: &[bool],
    ) -> Result<(), ProbeError> {
        found.calibration = Some(calibrated(scores, labels, &|s| self.probability(s))?);
        Ok(())
    }

    /// Refuses steps that are none: a file may hold anything.
    pub(super) fn check(&self, file: &Path) -> Result<(), FileError> {
        let Some(Isotonic {
            scores,
            probabilities,
            ..
        }) = &self.isotonic
        else {
            return Ok(());
        };
        let rising = |v: &[f64]| v.windows(2).all(|w| w[0] <= w[1]);
        let sound = scores.len() == probabilities.len()
            && !scores.is_empty()
            && rising(scores)
            && rising(probabilities);
        if sound {
            return Ok(());
        }
        let expected = "as many probabilities as scores, both rising";
        let found = format!("{} and {}", probabilities.len(), scores.len());
        Err(invalid(file, "metadata `probe`, isotonic", expected, found))
    }
}

/// What a probe reads, and where it was made.
pub(super) struct Fits<'a> {
    pub(super) point: HookPoint,
    /// Numbers that it reads.
    pub(super) width: usize,
    pub(super) made_on: &'a Fingerprint,
}

impl Fits<'_> {
    /// Refuses another width or, unless `foreign`, another forward pass.
    pub(super) fn check(
        &self,
        file: &Path,
        model: &Checkpoint,
        foreign: bool,
    ) -> Result<(), ProbingError> {
        let point = self.point.check(model.config())?;
        let found = width(point, model.config())?;
        if found != self.width {
            return Err(ProbingError::Width {
                file: file.to_path_buf(),
                expected: self.width,
                point: point.to_string(),
                model: model.name.clone(),
                found,
            });
        }
        if !foreign {
            let artefact = format!("the probe {}", file.display());
            model.fingerprint()?.expect(self.made_on, &artefact)?;
        }
        Ok(())
    }
}

/// What a file says it is; nothing where it says nothing.
///
/// # Errors
/// No such file, one that is no safetensors file.
pub fn schema(file: &Path) -> Result<Option<String>, ProbingError> {
    let open = SafetensorsFile::open(file)?;
    Ok(open.metadata().get("schema").cloned())
}

/// All that is known of a probe but its vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The model by the name that was given.
    pub model: String,
    /// The forward pass it reads.
    pub fingerprint: Fingerprint,
    /// Where it reads.
    pub place: Place,
    /// How it was fitted.
    pub fitting: Fitting,
    /// The C that was used.
    pub c: Option<f64>,
    /// Added to the product with the weights.
    pub bias: f64,
    /// Score to probability, from the validation rows.
    #[serde(flatten)]
    pub calibrated: Calibrated,
    /// Called positive above it; set on the validation rows' negatives.
    pub threshold: f64,
    /// The data by name.
    pub data: String,
    /// SHA-256 of the data.
    pub data_hash: String,
    /// Rows (train, validation, test).
    pub n: [usize; 3],
    /// The class that scores high.
    pub positive: String,
    /// All classes.
    pub classes: Vec<String>,
    /// Its metrics on the test rows.
    pub test: HeldOut,
    /// Of a direction that was found on pairs, what it is worth on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairsAbout>,
}

/// A probe with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeFile {
    /// What is known of it.
    pub about: About,
    /// The probe.
    pub probe: LinearProbe,
}

impl ProbeFile {
    /// The probability of the positive class.
    pub fn probability(&self, score: f64) -> f64 {
        self.about.calibrated.probability(score)
    }

    /// Refuses a probe of another point than the residual stream: it cannot be read along the layers.
    ///
    /// # Errors
    /// The point.
    pub fn in_stream(&self) -> Result<(), ProbingError> {
        let at = self.about.place.point;
        if matches!(
            at.point,
            Point::ResidPre | Point::ResidMid | Point::ResidPost
        ) {
            return Ok(());
        }
        Err(ProbingError::Point {
            point: at.to_string(),
            reason: "a probe of this point cannot be read along the residual stream".into(),
        })
    }

    /// Refuses a model on which this probe would read something else: another width, or, unless `foreign`, another forward
    /// pass.
    ///
    /// # Errors
    /// The field that differs.
    pub fn fits(&self, file: &Path, model: &Checkpoint, foreign: bool) -> Result<(), ProbingError> {
        Fits {
            point: self.about.place.point,
            width: self.probe.weights.len(),
            made_on: &self.about.fingerprint,
        }
        .check(file, model, foreign)
    }
}

/// Writes a probe, replacing what is there.
///
/// # Errors
/// The disk refuses.
pub fn save(file: &Path, probe: &ProbeFile) -> Result<(), ProbingError> {
    let vectors = [
        ("mean", &probe.probe.mean),
        ("scale", &probe.probe.scale),
        ("weights", &probe.probe.weights),
    ];
    let tensors = vectors.map(|(name, values)| (name, vec![values.len()], values.clone()));
    write(file, SCHEMA, &probe.about, &tensors)
}

/// Reads a probe.
///
/// # Errors
/// No such file, another schema, tensors of unlike lengths, a number that is not finite.
pub fn load(file: &Path) -> Result<ProbeFile, ProbingError> {
    let (open, about): (_, About) = opened(file, SCHEMA, "a probe of candlescope")?;
    about.calibrated.check(file)?;
    let vector = |name| numbers(&open, file, name).map(|(_, values)| values);
    let (weights, mean, scale) = (vector("weights")?, vector("mean")?, vector("scale")?);
    as_weights(file, "mean", mean.len(), weights.len())?;
    as_weights(file, "scale", scale.len(), weights.len())?;
    if let Some(bad) = scale.iter().find(|&&s| s <= 0.0) {
        return Err(invalid(file, "tensor `scale`", "positive numbers", bad.to_string()).into());
    }
    Ok(ProbeFile {
        probe: LinearProbe {
            weights,
            bias: about.bias,
            mean,
            scale,
            c: about.c,
        },
        about,
    })
}
