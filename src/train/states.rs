//! The mean state of a model over the tokens of an answer, in the middle of its blocks.
//!
//! Always: without edits and without gradients; sums in f64; a row's mean is the same whatever it is batched with.

use candle_core::DType;

use super::{TrainError, examples::Taught};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Batch, Decoder, LogitsAt};

/// Rows of one pass.
const ROWS: usize = 8;

/// The layer whose input is read: the middle one.
pub fn middle(decoder: &Decoder) -> usize {
    decoder.config().n_layers / 2
}

/// The mean of `resid_pre` over the answer's tokens of each row at a layer: `[rows][d_model]`; zeros for a row without any.
///
/// # Errors
/// The model's.
pub fn means(
    decoder: &Decoder,
    rows: &[Taught],
    layer: usize,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let at = HookPoint::new(Point::ResidPre, layer);
    let hooks = Hooks::new().capture(at);
    let width = decoder.config().d_model;
    let mut means = Vec::with_capacity(rows.len());
    for rows in rows.chunks(ROWS) {
        let ids: Vec<&Vec<u32>> = rows.iter().map(|row| &row.ids).collect();
        let batch = Batch::new(&ids)?;
        let captured = decoder.forward(&batch, &hooks, LogitsAt::None)?.captured;
        let states = captured[&at].to_dtype(DType::F32)?;
        for (at, row) in rows.iter().enumerate() {
            let own = states.get(at)?;
            let own = own.narrow(0, batch.pad()[at], row.ids.len())?;
            let tokens = own.to_vec2::<f32>()?;
            let answer = tokens.iter().zip(&row.answer).filter(|(_, is)| **is);
            let (mut sum, mut n) = (vec![0.0; width], 0.0);
            for (token, _) in answer {
                n += 1.0;
                for (sum, &x) in sum.iter_mut().zip(token) {
                    *sum += f64::from(x);
                }
            }
            means.push(sum.iter().map(|sum| sum / f64::max(n, 1.0)).collect());
        }
    }
    Ok(means)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;

    #[test]
    fn a_mean_is_over_the_answer_alone() {
        let cp = Checkpoint::toy(3).unwrap();
        let layer = middle(&cp.decoder);
        let short = Taught::answer(&[5, 6, 7], &[8, 9], 1.0);
        let long = Taught::answer(&[5, 9, 7, 7, 4, 3], &[8], 1.0);
        let both = means(&cp.decoder, &[short.clone(), long.clone()], layer).unwrap();
        for (row, mean) in [short, long].iter().zip(both) {
            let at = HookPoint::new(Point::ResidPre, layer);
            let batch = Batch::single(&row.ids).unwrap();
            let hooks = Hooks::new().capture(at);
            let pass = cp.decoder.forward(&batch, &hooks, LogitsAt::None);
            let states = pass.unwrap().captured[&at].get(0).unwrap();
            let states = states.to_vec2::<f32>().unwrap();
            let answer: Vec<usize> = (0..row.ids.len()).filter(|&i| row.answer[i]).collect();
            for (j, mean) in mean.iter().enumerate() {
                let sum: f64 = answer.iter().map(|&i| f64::from(states[i][j])).sum();
                let wanted = sum / answer.len() as f64;
                assert!((mean - wanted).abs() < 1e-5, "{mean} {wanted}");
            }
        }
    }
}
