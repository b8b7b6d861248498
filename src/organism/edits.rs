//! What is done to weights: a rotation of the residual stream that changes nothing outside, rounding, noise.
//!
//! Always: the edits are of whole decoders without adapters; a rotation is exact up to rounding (Ashkboos et al. 2024,
//! "SliceGPT", section 3: RMSNorm commutes with an orthogonal matrix once its gain is folded into what reads it).

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::NormKind;
use crate::model::score::normal;
use crate::model::weights::{Linear, NormWeights};
use crate::model::{Decoder, ModelError};

/// Why weights cannot be edited so.
#[derive(thiserror::Error, Debug)]
pub enum EditError {
    /// A model whose norms do not commute with a rotation.
    #[error("cannot rotate {model}: {why}")]
    Unrotatable {
        /// Its family.
        model: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// Arithmetic.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Tensor arithmetic.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Rotates the residual stream: pairs of coordinates, paired at random, turn by `angle` radians. The model's outputs stay
/// what they were; every direction and probe that was fitted before points elsewhere by up to that angle.
///
/// # Errors
/// LayerNorm, learned positions or norms after a block, which a rotation does not commute with.
pub fn rotate(model: &Decoder, angle: f64, seed: u64) -> Result<Decoder, EditError> {
    let merged = model.merged()?;
    let config = merged.config();
    let unrotatable = |why: &'static str| EditError::Unrotatable {
        model: config.family.name().to_owned(),
        why,
    };
    if config.norm != NormKind::Rms || config.norm_gain_minus_one {
        return Err(unrotatable(
            "its norms are not plain RMSNorm, and a rotation does not commute with them",
        ));
    }
    let mut weights = merged.weights().clone();
    if weights.pos_embed.is_some() {
        return Err(unrotatable("it has learned positions"));
    }
    let q = rotation(config.d_model, angle, seed)?;
    let right = |w: &Tensor| -> candle_core::Result<Tensor> {
        let wide = w.to_dtype(DType::F64)?;
        wide.matmul(&q)?.to_dtype(w.dtype())
    };
    let reads = |linear: &mut Linear, norm: &NormWeights| -> candle_core::Result<()> {
        let wide = linear.weight.to_dtype(DType::F64)?;
        let folded = wide.broadcast_mul(&norm.gain.to_dtype(DType::F64)?)?;
        linear.weight = folded.matmul(&q)?.to_dtype(linear.weight.dtype())?;
        Ok(())
    };
    let writes = |linear: &mut Linear| -> candle_core::Result<()> {
        let wide = linear.weight.to_dtype(DType::F64)?;
        linear.weight = q.t()?.matmul(&wide)?.to_dtype(linear.weight.dtype())?;
        Ok(())
    };
    let head = weights.head.to_dtype(DType::F64)?;
    let final_gain = weights.final_norm.gain.to_dtype(DType::F64)?;
    weights.embed = right(&weights.embed)?;
    for layer in &mut weights.layers {
        if layer.attn_post_norm.is_some() || layer.mlp_post_norm.is_some() {
            return Err(unrotatable("it has norms after its blocks"));
        }
        let (Some(attn), Some(mlp)) = (&mut layer.attn_norm, &mut layer.mlp_norm) else {
            return Err(unrotatable("it lacks a norm before its blocks"));
        };
        for linear in [&mut layer.q, &mut layer.k, &mut layer.v] {
            reads(linear, attn)?;
        }
        for linear in [layer.gate.as_mut(), Some(&mut layer.up)]
            .into_iter()
            .flatten()
        {
            reads(linear, mlp)?;
        }
        writes(&mut layer.o)?;
        writes(&mut layer.down)?;
        attn.gain = attn.gain.ones_like()?;
        mlp.gain = mlp.gain.ones_like()?;
    }
    let folded = head.broadcast_mul(&final_gain)?.matmul(&q)?;
    weights.head = folded.to_dtype(weights.embed.dtype())?;
    weights.final_norm.gain = weights.final_norm.gain.ones_like()?;
    let mut config = config.clone();
    // The gain went into the head, which is the embedding no longer.
    config.tied = false;
    Ok(Decoder::new(config, weights))
}

/// A matrix `[width, width]` that turns pairs of coordinates, in f64.
fn rotation(width: usize, angle: f64, seed: u64) -> candle_core::Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..width).collect();
    for i in (1..width).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    let mut values = vec![0f64; width * width];
    for i in 0..width {
        values[i * width + i] = 1.0;
    }
    let (sin, cos) = angle.sin_cos();
    for pair in order.chunks_exact(2) {
        let (a, b) = (pair[0], pair[1]);
        values[a * width + a] = cos;
        values[b * width + b] = cos;
        values[a * width + b] = -sin;
        values[b * width + a] = sin;
    }
    Tensor::from_vec(values, (width, width), &Device::Cpu)
}

/// Rounds every matrix of the blocks to `bits`, row by row, symmetrically; what is beyond `clip` (at most 1) of a row's
/// largest entry is cut to it, as quantisers do to keep the rest finer.
///
/// # Errors
/// Tensor arithmetic.
pub fn quantise(model: &Decoder, bits: u32, clip: f64) -> Result<Decoder, EditError> {
    let levels = f64::from((1u32 << (bits - 1)) - 1);
    matrices(model, |weight, _| {
        let wide = weight.to_dtype(DType::F64)?;
        let largest = wide.abs()?.max_keepdim(1)?;
        let scale = (largest * (clip / levels))?.maximum(1e-30)?;
        let rounded = wide.broadcast_div(&scale)?.round()?;
        rounded.clamp(-levels, levels)?.broadcast_mul(&scale)
    })
}

/// Rounds every matrix of the blocks to bf16.
///
/// # Errors
/// Tensor arithmetic.
pub fn round(model: &Decoder) -> Result<Decoder, EditError> {
    matrices(model, |weight, _| weight.to_dtype(DType::BF16))
}

/// Adds normal noise of `scale` times each matrix's root mean square.
///
/// # Errors
/// Tensor arithmetic.
pub fn noise(model: &Decoder, scale: f64, seed: u64) -> Result<Decoder, EditError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    matrices(model, move |weight, _| {
        let wide = weight.to_dtype(DType::F64)?;
        let size = scale * wide.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
        let drawn: Vec<f64> = (0..weight.elem_count())
            .map(|_| size * normal(&mut rng))
            .collect();
        wide + Tensor::from_vec(drawn, weight.shape().clone(), &Device::Cpu)?
    })
}

/// The model with each matrix of its blocks changed.
fn matrices(
    model: &Decoder,
    mut change: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Result<Decoder, EditError> {
    let merged = model.merged()?;
    let mut weights = merged.weights().clone();
    for (i, layer) in weights.layers.iter_mut().enumerate() {
        let gate = layer.gate.as_mut();
        let linears = [&mut layer.q, &mut layer.k, &mut layer.v, &mut layer.o];
        let mlp = [gate, Some(&mut layer.up), Some(&mut layer.down)];
        for linear in linears.into_iter().chain(mlp.into_iter().flatten()) {
            let dtype = linear.weight.dtype();
            linear.weight = change(&linear.weight, i)?.to_dtype(dtype)?;
        }
    }
    Ok(Decoder::new(merged.config().clone(), weights))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::fresh::FreshShape;
    use crate::model::{Batch, LogitsAt};

    fn model() -> Decoder {
        let shape = FreshShape {
            family: "llama".to_owned(),
            d_model: 32,
            n_layers: 3,
            n_heads: 4,
            n_kv_heads: 2,
            d_mlp: 64,
            n_ctx: 32,
            tied: true,
            vocab: 50,
            bos: None,
            eos: None,
        };
        let mut model = Decoder::fresh(&shape.config().unwrap(), 4).unwrap();
        // Gains that are not 1: folding them is half of the rotation.
        let gains = |shift: f32| {
            let values: Vec<f32> = (0..32).map(|i| 0.5 + shift + (i as f32) * 0.03).collect();
            Tensor::from_vec(values, 32, &Device::Cpu).unwrap()
        };
        let weights = model.weights_mut();
        weights.final_norm.gain = gains(0.3);
        for layer in &mut weights.layers {
            layer.attn_norm.as_mut().unwrap().gain = gains(0.0);
            layer.mlp_norm.as_mut().unwrap().gain = gains(0.1);
        }
        model
    }

    fn logits(model: &Decoder) -> Vec<f32> {
        let batch = Batch::single(&[3, 7, 1, 40, 2]).unwrap();
        let out = model
            .forward(&batch, &crate::hooks::Hooks::new(), LogitsAt::All)
            .unwrap();
        out.logits()
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    fn farthest(a: &[f32], b: &[f32]) -> f32 {
        let scale = a.iter().fold(0f32, |m, x| m.max(x.abs()));
        a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / scale
    }

    #[test]
    fn a_rotation_changes_everything_inside_and_nothing_outside() {
        let model = model();
        let rotated = rotate(&model, 1.0, 9).unwrap();
        assert!(farthest(&logits(&model), &logits(&rotated)) < 1e-5);
        let (a, b) = (&model.weights().embed, &rotated.weights().embed);
        let moved = (a - b)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        let whole = a
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        // Of a vector turned by one radian 2 sin(1/2) of its length is difference.
        let expected = (2.0 * 0.5f32.sin()).powi(2);
        assert!((moved / whole - expected).abs() < 1e-3, "{}", moved / whole);
        let still = rotate(&model, 0.0, 9).unwrap();
        assert!(farthest(&logits(&model), &logits(&still)) < 1e-5);
    }

    #[test]
    fn fewer_bits_are_a_larger_error() {
        let model = model();
        let before = logits(&model);
        let errors: Vec<f32> = [8, 4, 2]
            .iter()
            .map(|&bits| farthest(&before, &logits(&quantise(&model, bits, 1.0).unwrap())))
            .collect();
        assert!(
            errors[0] > 0.0 && errors[0] < errors[1] && errors[1] < errors[2],
            "{errors:?}"
        );
        let twice = quantise(&quantise(&model, 4, 1.0).unwrap(), 4, 1.0).unwrap();
        let once = quantise(&model, 4, 1.0).unwrap();
        assert!(
            farthest(&logits(&once), &logits(&twice)) < 1e-5,
            "rounding twice is rounding once"
        );
    }

    #[test]
    fn noise_has_the_size_asked_for() {
        let model = model();
        let noisy = noise(&model, 0.1, 1).unwrap();
        let (a, b) = (
            &model.weights().layers[0].up.weight,
            &noisy.weights().layers[0].up.weight,
        );
        let rms = |t: &Tensor| {
            t.sqr()
                .unwrap()
                .mean_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                .sqrt()
        };
        let share = rms(&(a - b).unwrap()) / rms(a);
        assert!((share - 0.1).abs() < 0.01, "{share}");
        assert_eq!(logits(&noise(&model, 0.1, 1).unwrap()), logits(&noisy));
    }
}
