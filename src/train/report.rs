//! The report on reward models: held-out pairs scored by one or several, and what the numbers of `loss/calibration.rs` say.
//!
//! Always: all models score the same tokens; what is written can be made again from the models, the pairs and the seed in it.
//! A run that has held-out pairs writes its own when it ends; `candlescope reward eval` makes one for any models.

use std::path::Path;

use candle_core::{DType, Tensor};
use serde::Serialize;
use serde_json::json;

use super::{
    TrainError,
    loss::{
        Ensemble, LossError,
        agreement::{Agreement, together},
        calibration::{Calibration, PairScore},
        interval::Resampling,
    },
    pairs,
};
use crate::files::write::write_atomic;
use crate::model::ScoreModel;
use crate::text::dataset::Pair;

/// Name of the format.
pub const SCHEMA: &str = "candlescope.reward.report/1";

/// Weight of the variance in an ensemble's `uwo` where nothing else is said; 0.1 to 0.5 in Coste et al. (2024).
pub const LAMBDA: f64 = 0.5;

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What it is called.
    pub model: String,
    /// Its numbers.
    #[serde(flatten)]
    pub numbers: Calibration,
}

/// Several models as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Together {
    /// How far they agree.
    pub agreement: Agreement,
    /// Weight of the variance in `uwo`.
    pub lambda: f64,
    /// By the mean of their scores.
    pub mean: Calibration,
    /// By the smallest.
    pub min: Calibration,
    /// By the mean less `lambda` times the variance.
    pub uwo: Calibration,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where the pairs come from.
    pub data: Vec<String>,
    /// Each model.
    pub models: Vec<Judged>,
    /// All of them together; none for one.
    pub ensemble: Option<Together>,
}

/// Both answers of each pair scored, all side by side in one batch.
///
/// # Errors
/// No pairs, tokens that the model does not have, rows beyond its context.
pub fn score(model: &ScoreModel, some: &[&Pair]) -> Result<Vec<PairScore>, TrainError> {
    scored(some, &model.scores(&pairs::batch(some)?)?)
}

/// Pairs with their scores `[2 * pairs]`, chosen then rejected.
pub(super) fn scored(some: &[&Pair], scores: &Tensor) -> Result<Vec<PairScore>, TrainError> {
    let scores = scores.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let (chosen, rejected) = scores.split_at(some.len());
    let each = some.iter().zip(chosen.iter().zip(rejected));
    Ok(each
        .map(|(pair, (&chosen, &rejected))| PairScore {
            chosen,
            rejected,
            chosen_tokens: pair.chosen.len(),
            rejected_tokens: pair.rejected.len(),
        })
        .collect())
}

impl Report {
    /// Of models with their scores of the same pairs, in the same order.
    ///
    /// # Errors
    /// No pairs, a score that is no number, models with other numbers of pairs.
    pub fn of(
        data: Vec<String>,
        models: Vec<(String, Vec<PairScore>)>,
        lambda: f64,
        resampling: &Resampling,
    ) -> Result<Self, LossError> {
        let (names, scores): (Vec<String>, Vec<Vec<PairScore>>) = models.into_iter().unzip();
        let judged = |(model, scores): (String, &Vec<PairScore>)| {
            let numbers = Calibration::of(scores, resampling)?;
            Ok(Judged { model, numbers })
        };
        let models: Result<_, LossError> = names.into_iter().zip(&scores).map(judged).collect();
        let ensemble = (scores.len() > 1).then(|| {
            let by = |by| Calibration::of(&together(&scores, by)?, resampling);
            Ok::<_, LossError>(Together {
                agreement: Agreement::of(&scores, resampling)?,
                lambda,
                mean: by(Ensemble::Mean)?,
                min: by(Ensemble::Min)?,
                uwo: by(Ensemble::Uwo { lambda })?,
            })
        });
        Ok(Self {
            data,
            models: models?,
            ensemble: ensemble.transpose()?,
        })
    }

    /// Writes it as JSON with a `schema` field.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let mut value = json!(self);
        value["schema"] = SCHEMA.into();
        Ok(write_atomic(path, format!("{value:#}\n").as_bytes())?)
    }
}
