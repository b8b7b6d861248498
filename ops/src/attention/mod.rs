//! Causal grouped-query attention over a key/value cache, with the two explicit halves (scores, pattern times values)
//! that hooks need. What a query may see is defined in `mask`; the plain way, oracle of the others, is in `plain`.

mod backward;
mod fused;
mod halves;
mod heads;
mod line;
mod mask;
mod mix;
mod plain;

use candle_core::{Result, Tensor, bail};

use crate::grad::{record, tracks};
use crate::view::{f32_on_cpu, fused as all_fused, refuse_empty};

pub use mask::{AttentionSpec, KeyLayout};

/// Attention: `q [b, s, h, d]`, `k [b, t, hk, d]`, `v [b, t, hk, dv]` to `[b, s, h, dv]`.
///
/// Head `i` reads key/value head `i / (h / hk)`. A query that sees no key gives zeros. `k` and `v` may be views into a
/// larger cache; the fused way does not copy them.
///
/// # Errors
/// Shapes that do not go together, empty ones, or a layout with another number of rows than the batch.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
    let shape = Shape::of_queries("attention", q, k)?.with_values("attention", v)?;
    spec.check("attention", q, k)?;
    if f32_on_cpu(&[q, k, v]) {
        let z = fused::attention(shape, q, k, v, spec)?;
        let dims = (shape.batch, shape.queries, shape.heads, shape.value_width);
        if [q, k, v].into_iter().any(tracks) {
            return record(&[q, k, v], dims, z, backward::Back::new(spec));
        }
        return Tensor::from_vec(z, dims, q.device());
    }
    let pattern = crate::softmax::softmax_plain(&plain::scores(q, k, spec)?)?;
    plain::weigh(&pattern, v)
}

/// Attention scores `[b, h, s, t]`: scaled, soft-capped, and `-inf` where the query does not see the key.
///
/// # Errors
/// As [`attention`].
pub fn attention_scores(q: &Tensor, k: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
    let shape = Shape::of_queries("attention_scores", q, k)?;
    spec.check("attention_scores", q, k)?;
    if all_fused(&[q, k]) {
        return halves::scores(shape, q, k, spec);
    }
    plain::scores(q, k, spec)
}

/// Pattern times values: `pattern [b, h, s, t]`, `v [b, t, hk, dv]` to `[b, s, h, dv]`.
///
/// # Errors
/// Shapes that do not go together or are empty.
pub fn attention_from_pattern(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let shape = Shape::of_pattern("attention_from_pattern", pattern, v)?;
    if all_fused(&[pattern, v]) {
        return halves::weigh(shape, pattern, v);
    }
    plain::weigh(pattern, v)
}

/// The dimensions of one call, checked.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    /// Channels of a query and a key.
    width: usize,
    /// Channels of a value; 0 where there are no values.
    value_width: usize,
}

impl Shape {
    fn of_queries(op: &str, q: &Tensor, k: &Tensor) -> Result<Self> {
        refuse_empty(op, "q", q)?;
        refuse_empty(op, "k", k)?;
        let (batch, queries, heads, width) = q.dims4()?;
        let (key_batch, keys, kv_heads, key_width) = k.dims4()?;
        if batch != key_batch || width != key_width || heads % kv_heads != 0 {
            bail!(
                "{op}: q {:?} and k {:?} do not go together; expected k [{batch}, t, a divisor of {heads}, {width}]",
                q.dims(),
                k.dims()
            );
        }
        Ok(Self {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            width,
            value_width: 0,
        })
    }

    fn of_pattern(op: &str, pattern: &Tensor, v: &Tensor) -> Result<Self> {
        refuse_empty(op, "pattern", pattern)?;
        refuse_empty(op, "v", v)?;
        let (batch, heads, queries, keys) = pattern.dims4()?;
        let (v_batch, v_keys, kv_heads, value_width) = v.dims4()?;
        if batch != v_batch || keys != v_keys || heads % kv_heads != 0 {
            bail!(
                "{op}: pattern {:?} and v {:?} do not go together; expected v [{batch}, {keys}, a divisor of {heads}, dv]",
                pattern.dims(),
                v.dims()
            );
        }
        Ok(Self {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            width: 0,
            value_width,
        })
    }

    fn with_values(self, op: &str, v: &Tensor) -> Result<Self> {
        refuse_empty(op, "v", v)?;
        let (batch, keys, kv_heads, value_width) = v.dims4()?;
        if batch != self.batch || keys != self.keys || kv_heads != self.kv_heads {
            bail!(
                "{op}: v {:?} does not go with k; expected [{}, {}, {}, dv]",
                v.dims(),
                self.batch,
                self.keys,
                self.kv_heads
            );
        }
        Ok(Self {
            value_width,
            ..self
        })
    }
}
