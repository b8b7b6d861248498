//! Random low-rank edits of a model's weights in memory: a change of known size that means nothing, to see whether an
//! audit reacts to change as such.

use candle_core::{Device, Tensor};
use candlescope_probes::direction::isotropic_directions;

use super::SteerError;
use crate::model::Decoder;

/// A random edit of rank `rank`, `scale` times as large (in Frobenius norm) as the matrix it is added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRank {
    /// Rank of each matrix's change.
    pub rank: usize,
    /// Its norm over the matrix's norm.
    pub scale: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// Adds `scale · ‖W‖ / √rank · Σ a bᵀ` with random unit vectors a and b to the matrices that write into the residual
/// stream: the output projections of attention and MLP of every block.
///
/// # Errors
/// Tensor arithmetic; a rank of 0.
pub fn low_rank(model: &mut Decoder, edit: LowRank) -> Result<(), SteerError> {
    for (i, layer) in model.weights_mut().layers.iter_mut().enumerate() {
        for (j, linear) in [&mut layer.o, &mut layer.down].into_iter().enumerate() {
            let seed = edit.seed.wrapping_add(4 * i as u64 + 2 * j as u64);
            linear.weight = changed(&linear.weight, edit, seed)?;
        }
    }
    Ok(())
}

fn changed(weight: &Tensor, edit: LowRank, seed: u64) -> Result<Tensor, SteerError> {
    let (out, input) = weight.dims2()?;
    let unit = |width: usize, seed: u64| -> Result<Tensor, SteerError> {
        let rows = isotropic_directions(width, edit.rank, seed)?;
        let values: Vec<f32> = rows.iter().copied().collect();
        Ok(Tensor::from_vec(values, (edit.rank, width), &Device::Cpu)?)
    };
    let change = unit(out, seed)?
        .t()?
        .matmul(&unit(input, seed.wrapping_add(1))?)?;
    let wide = weight.to_dtype(candle_core::DType::F32)?;
    let norm = f64::from(wide.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?);
    let size = edit.scale * norm / (edit.rank as f64).sqrt();
    Ok((wide + (change * size)?)?.to_dtype(weight.dtype())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_change_has_the_size_and_rank_that_were_asked_for() {
        let n = 40;
        let weight = Tensor::randn(0f32, 1f32, (n, n), &Device::Cpu).unwrap();
        let edit = LowRank {
            rank: 1,
            scale: 0.1,
            seed: 7,
        };
        let after = changed(&weight, edit, edit.seed).unwrap();
        let change = (&after - &weight).unwrap();
        let norm = |t: &Tensor| {
            t.sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .sqrt()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert!((norm(&change) / norm(&weight) - 0.1).abs() < 1e-3);
        // Of rank one: every 2 x 2 minor vanishes.
        let m: Vec<Vec<f32>> = change.to_vec2().unwrap();
        let minor = |i: usize, j: usize| m[0][0] * m[i][j] - m[0][j] * m[i][0];
        assert!(minor(3, 5).abs() < 1e-4 && minor(20, 11).abs() < 1e-4);
        assert_eq!(
            changed(&weight, edit, 7).unwrap().to_vec2::<f32>().unwrap(),
            after.to_vec2::<f32>().unwrap()
        );
    }
}
