//! Softmax and its logarithm over the last dimension. A row that is `-inf` throughout (a query that sees no key) has
//! probability zero everywhere instead of NaN; a NaN or `+inf` in a row makes the whole row NaN.

use candle_core::{D, DType, Result, Tensor};

use crate::view::refuse_empty;

/// `exp(x) / Σ exp(x)` over the last dimension; rows that are all `-inf` give zeros.
///
/// # Errors
/// An empty tensor.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("softmax_last_dim", "x", x)?;
    softmax_plain(x)
}

/// `x - log Σ exp(x)` over the last dimension; rows that are all `-inf` stay `-inf`.
///
/// # Errors
/// An empty tensor.
pub fn log_softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("log_softmax_last_dim", "x", x)?;
    let parts = Shifted::new(x)?;
    parts.shifted.broadcast_sub(&parts.sum.log()?)
}

/// `log Σ exp(x)` over the last dimension, which is dropped: `[.., n]` to `[..]`; rows that are all `-inf` give `-inf`.
///
/// # Errors
/// An empty tensor.
pub fn logsumexp_last_dim(x: &Tensor) -> Result<Tensor> {
    refuse_empty("logsumexp_last_dim", "x", x)?;
    let parts = Shifted::new(x)?;
    (parts.sum.log()? + parts.max)?.squeeze(D::Minus1)
}

/// The differentiable softmax.
pub(crate) fn softmax_plain(x: &Tensor) -> Result<Tensor> {
    let parts = Shifted::new(x)?;
    parts.exp.broadcast_div(&parts.sum)
}

/// What the three functions share, in candle expressions. The maximum is a constant for the gradient: it cancels.
struct Shifted {
    /// Row maximum, `[.., 1]`, possibly `-inf`.
    max: Tensor,
    /// `x - max`, where an infinite maximum counts as 0.
    shifted: Tensor,
    /// `exp(shifted)`.
    exp: Tensor,
    /// Row sums of `exp`, 1 where the row is empty so that neither division nor logarithm gives NaN.
    sum: Tensor,
}

impl Shifted {
    fn new(x: &Tensor) -> Result<Self> {
        let max = x.detach().max_keepdim(D::Minus1)?;
        let empty = max.eq(f64::NEG_INFINITY)?;
        let finite = empty.where_cond(&max.zeros_like()?, &max)?;
        let shifted = x.broadcast_sub(&finite)?;
        let exp = shifted.exp()?;
        let one_if_empty = empty.to_dtype(DType::F32)?.to_dtype(x.dtype())?;
        let sum = (exp.sum_keepdim(D::Minus1)? + one_if_empty)?;
        Ok(Self {
            max,
            shifted,
            exp,
            sum,
        })
    }
}
