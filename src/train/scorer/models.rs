//! Reward models as a source of rewards: one, or an ensemble.
//!
//! Always: a reward model reads the policy's own tokens, so its tokenizer must be the policy's.

use std::path::{Path, PathBuf};

use candle_core::DType;

use super::{Answer, Ensemble, Scorer, TrainError};
use crate::model::{Batch, LoadOptions, Opened, ScoreModel, checkpoint::words};
use crate::text::Tokenizer;

/// Reward models whose scores become one.
pub struct Judges {
    models: Vec<ScoreModel>,
    by: Ensemble,
    batch: usize,
}

/// Opens a reward or value model that has these words.
///
/// # Errors
/// No such model; other words.
pub fn open_scored(path: &Path, tokenizer: &Tokenizer) -> Result<ScoreModel, TrainError> {
    let options = LoadOptions {
        dtype: DType::F32,
        ..LoadOptions::default()
    };
    let opened = Opened::at(path, &options)?;
    let model = ScoreModel::of(&opened, &options)?;
    let (theirs, _) = words(&opened, path)?;
    if theirs.hash() != tokenizer.hash() {
        let expected = format!("the policy's words, {}", tokenizer.hash());
        return Err(TrainError::mismatch(
            path,
            "tokenizer",
            expected,
            theirs.hash(),
        ));
    }
    Ok(model)
}

impl Judges {
    /// Opens them.
    ///
    /// # Errors
    /// As [`open_scored`].
    pub fn open(
        paths: &[PathBuf],
        by: Ensemble,
        tokenizer: &Tokenizer,
        batch: usize,
    ) -> Result<Self, TrainError> {
        let models = paths.iter().map(|path| open_scored(path, tokenizer));
        Ok(Self {
            models: models.collect::<Result<_, _>>()?,
            by,
            batch,
        })
    }
}

impl Scorer for Judges {
    fn scores(&mut self, answers: &[Answer]) -> Result<Vec<f64>, TrainError> {
        let mut scores = Vec::with_capacity(answers.len());
        for answers in answers.chunks(self.batch) {
            let rows: Vec<Vec<u32>> = answers.iter().map(Answer::row).collect();
            let batch = Batch::new(&rows)?;
            let each = self.models.iter().map(|model| {
                let scores = model.scores(&batch)?.to_dtype(DType::F64)?;
                Ok::<_, TrainError>(scores.to_vec1::<f64>()?)
            });
            let each: Vec<Vec<f64>> = each.collect::<Result<_, _>>()?;
            scores.extend((0..rows.len()).map(|row| {
                let members: Vec<f64> = each.iter().map(|scores| scores[row]).collect();
                self.by.reward(&members)
            }));
        }
        Ok(scores)
    }
}
