//! The two halves of attention for those who look between them: scores for every slot, and a pattern times the values.

use candle_core::{Result, Tensor};

use super::heads::with_heads;
use super::line::Finish;
use super::mix::{Mix, Segment};
use super::{AttentionSpec, Shape, fused::PARALLEL_FROM};
use crate::lanes::run;
use crate::product::{Rows, products};
use crate::view::{Shared, tasks};

/// See [`super::attention_scores`].
pub(super) fn scores(shape: Shape, q: &Tensor, k: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
    let s = shape;
    let cap = spec.softcap.map(|cap| cap as f32);
    let plane = s.queries * s.keys;
    let len = s.batch * s.heads * plane;
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let shared = Shared::new(out.as_mut_ptr());
    with_heads(q, |q| {
        with_heads(k, |k| {
            tasks(s.batch * s.heads, len * s.width >= PARALLEL_FROM, |i| {
                let (row, head) = (i / s.heads, i % s.heads);
                let queries = Rows {
                    start: q.at(row, 0, head),
                    stride: q.step(),
                    count: s.queries,
                };
                let keys = Rows {
                    start: k.at(row, 0, head / (s.heads / s.kv_heads)),
                    stride: k.step(),
                    count: s.keys,
                };
                // SAFETY: all rows lie inside q and k, and plane i of the result is this task's.
                unsafe {
                    let start = shared.at(i * plane);
                    products(queries, keys, s.width, start, s.keys);
                    for query in 0..s.queries {
                        let line = start.add(query * s.keys);
                        run(Finish {
                            line: std::slice::from_raw_parts_mut(line, s.keys),
                            visible: spec.ranges(row, query),
                            scale: spec.scale as f32,
                            cap,
                        });
                    }
                }
            });
            Ok(())
        })
    })?;
    // SAFETY: the tasks cover every plane.
    unsafe { out.set_len(len) };
    Tensor::from_vec(out, (s.batch, s.heads, s.queries, s.keys), q.device())
}

/// See [`super::attention_from_pattern`].
pub(super) fn weigh(shape: Shape, pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let s = shape;
    let len = s.batch * s.queries * s.heads * s.value_width;
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let shared = Shared::new(out.as_mut_ptr());
    let factors = vec![1.0; s.queries];
    with_heads(pattern, |pattern| {
        with_heads(v, |v| {
            tasks(s.batch * s.heads, len * s.keys >= PARALLEL_FROM, |i| {
                let (row, head) = (i / s.heads, i % s.heads);
                // Here the tensor's second dimension is the head and its third the query.
                let weights = Rows {
                    start: pattern.at(row, head, 0),
                    stride: pattern.stride[2],
                    count: s.queries,
                };
                let values = |positions: std::ops::Range<usize>| Segment {
                    rows: Rows {
                        start: v.at(row, 0, head / (s.heads / s.kv_heads)),
                        stride: v.step(),
                        count: positions.len(),
                    },
                    positions,
                };
                let lines: Vec<*mut f32> = (0..s.queries)
                    // SAFETY: this head's channels of the result are this task's.
                    .map(|query| unsafe {
                        shared.at(((row * s.queries + query) * s.heads + head) * s.value_width)
                    })
                    .collect();
                run(Mix {
                    weights,
                    base: 0,
                    factors: &factors,
                    visible: &|_| 0..s.keys,
                    segments: [values(0..s.keys), values(0..0)],
                    width: s.value_width,
                    out: &lines,
                });
            });
            Ok(())
        })
    })?;
    // SAFETY: the tasks cover every head.
    unsafe { out.set_len(len) };
    Tensor::from_vec(
        out,
        (s.batch, s.queries, s.heads, s.value_width),
        v.device(),
    )
}
