//! One dictionary of a run: which of the harvested points it reads and writes, its steps, and what it is worth on rows held
//! out.

use candlescope_sae::measure::Measure;
use candlescope_sae::train::{StepReport, Trainer};
use candlescope_sae::{About, Dictionary};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use crate::train::TrainError;
use crate::train::log::Numbers;

/// Rows of one pass through a dictionary at an evaluation.
const PART: usize = 2048;

/// A dictionary in training.
pub(super) struct One {
    pub name: String,
    pub trainer: Trainer,
    /// Which of the harvested points it reads and writes.
    pub points: [Vec<usize>; 2],
    pub about: About,
}

impl One {
    pub fn dictionary(&self) -> Result<Dictionary, TrainError> {
        Ok(self.trainer.dictionary(self.about.clone())?)
    }

    /// Weights, gradients and two moments of four bytes each.
    pub fn memory(&self) -> u64 {
        let (recipe, shape) = (self.trainer.recipe(), self.trainer.shape());
        16 * recipe.d_sae as u64 * (shape.d_in + shape.d_out()) as u64
    }

    /// A step on the rows of all points, with a learning rate of its own or the recipe's.
    pub fn step(
        &mut self,
        batch: &[Array2<f32>],
        lr: Option<f64>,
    ) -> Result<StepReport, TrainError> {
        let [reads, writes] = &self.points;
        let joined;
        let input = match reads.as_slice() {
            [only] => &batch[*only],
            several => {
                joined = beside(batch, several)?;
                &joined
            }
        };
        let target = match writes.as_slice() {
            [] => None,
            several => Some(beside(batch, several)?),
        };
        let target = target.as_ref().map(Array2::view);
        let trainer = &mut self.trainer;
        Ok(trainer.step_through(input.view(), target, None, lr)?)
    }

    /// The dictionary as it would be used, on the rows held out.
    pub fn evaluated(&self, held: &[Array2<f32>]) -> Result<Numbers, TrainError> {
        let [reads, writes] = &self.points;
        let input = beside(held, reads)?;
        let target = match writes.as_slice() {
            [] => None,
            several => Some(beside(held, several)?),
        };
        let target = target.as_ref().unwrap_or(&input);
        let dictionary = self.dictionary()?;
        let mut measure = Measure::of(&dictionary);
        for from in (0..input.nrows()).step_by(PART) {
            let part = ndarray::s![from..(from + PART).min(input.nrows()), ..];
            measure.run(&dictionary, input.slice(part), target.slice(part))?;
        }
        let quality = measure.quality();
        let mut numbers = Numbers::new();
        let found = [
            ("eval_l0", quality.l0),
            ("eval_fvu", quality.fvu.pooled),
            ("eval_dead_share", Some(quality.latents.dead)),
        ];
        for (name, value) in found {
            numbers.set(name, value.unwrap_or(f64::NAN));
        }
        Ok(numbers)
    }
}

/// Rows of several points side by side.
pub(super) fn beside(rows: &[Array2<f32>], points: &[usize]) -> Result<Array2<f32>, TrainError> {
    let views: Vec<ArrayView2<f32>> = points.iter().map(|&i| rows[i].view()).collect();
    let joined = concatenate(Axis(1), &views).map_err(|e| TrainError::Empty {
        what: "rows".into(),
        found: e.to_string(),
        hint: "points of one harvest have as many rows".into(),
    })?;
    Ok(joined.as_standard_layout().into_owned())
}
