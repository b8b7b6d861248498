//! Attention in candle expressions: differentiable, any float type. The oracle for the fused kernel.

use candle_core::{Result, Tensor};

use super::AttentionSpec;

/// `[b, h, s, t]` scores, scaled, soft-capped and masked.
pub(super) fn scores(q: &Tensor, k: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
    let (batch, queries, heads, width) = q.dims4()?;
    let (_, keys, kv_heads, _) = k.dims4()?;
    let q = q.transpose(1, 2)?.contiguous()?;
    let q = q.reshape((batch, kv_heads, heads / kv_heads * queries, width))?;
    let k = k.transpose(1, 2)?.contiguous()?.transpose(2, 3)?;
    let mut scores = (q.matmul(&k)?.reshape((batch, heads, queries, keys))? * spec.scale)?;
    if let Some(cap) = spec.softcap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    let mut seen = Vec::with_capacity(batch * queries * keys);
    for row in 0..batch {
        for query in 0..queries {
            seen.extend((0..keys).map(|slot| u8::from(spec.sees(row, query, slot))));
        }
    }
    let seen = Tensor::from_vec(seen, (batch, 1, queries, keys), scores.device())?;
    let hidden = Tensor::new(f32::NEG_INFINITY, scores.device())?
        .to_dtype(scores.dtype())?
        .broadcast_as(scores.shape())?;
    seen.broadcast_as(scores.shape())?
        .where_cond(&scores, &hidden)
}

/// `pattern [b, h, s, t]` times `v [b, t, hk, dv]`, as `[b, s, h, dv]`.
pub(super) fn weigh(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (batch, heads, queries, keys) = pattern.dims4()?;
    let (_, _, kv_heads, width) = v.dims4()?;
    let pattern =
        pattern
            .contiguous()?
            .reshape((batch, kv_heads, heads / kv_heads * queries, keys))?;
    let v = v.to_dtype(pattern.dtype())?.transpose(1, 2)?.contiguous()?;
    pattern
        .matmul(&v)?
        .reshape((batch, heads, queries, width))?
        .transpose(1, 2)?
        .contiguous()
}
