//! Normalisation of the last dimension. Sums are carried in enough lanes and widened to f64 at the end, so that the
//! result differs from exact arithmetic by about one unit in the last place.

use candle_core::{D, Result, Tensor, bail};

use crate::view::refuse_empty;

/// Root-mean-square norm of the last dimension: `x / sqrt(mean(x²) + eps) · gain`, `x [.., d]`, `gain [d]`
/// (Zhang and Sennrich 2019).
///
/// # Errors
/// Empty shapes, or a gain of another length.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    check("rms_norm", x, gain, None)?;
    rms_plain(x, gain, eps)
}

/// Layer norm of the last dimension: `(x - mean) / sqrt(var + eps) · gain + bias`, `x [.., d]`, `gain` and `bias [d]`
/// (Ba et al. 2016); the variance is the biased one.
///
/// # Errors
/// Empty shapes, or a gain or bias of another length.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    check("layer_norm", x, gain, bias)?;
    layer_plain(x, gain, bias, eps)
}

fn check(op: &str, x: &Tensor, gain: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    refuse_empty(op, "x", x)?;
    let width = x.dims()[x.rank() - 1];
    for (name, t) in [("gain", Some(gain)), ("bias", bias)] {
        if let Some(t) = t
            && t.dims() != [width]
        {
            bail!("{op}: {name} has shape {:?}, expected [{width}]", t.dims());
        }
    }
    Ok(())
}

fn rms_plain(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?
        .broadcast_mul(&gain.to_dtype(x.dtype())?)
}

fn layer_plain(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let y = centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .broadcast_mul(&gain.to_dtype(x.dtype())?)?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?),
        None => Ok(y),
    }
}
