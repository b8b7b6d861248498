//! Fused attention in `f32`: scores of one block of queries against all keys they may see, softmax in place, weighted
//! sum of the values. Scores are never stored beyond a block; keys and values are read where they lie.
//!
//! One task is a batch row, a key/value head with all query heads that share it, and a block of queries. What always
//! holds: keys are taken by logical position, so the bits of a query's result depend on its own row alone: not on its
//! padding, the rows beside it, what was computed in earlier passes, or the number of threads.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::heads::{Heads, with_heads};
use super::line::Line;
use super::mix::{Mix, Segment};
use super::{AttentionSpec, Shape};
use crate::lanes::run;
use crate::product::{Rows, products};
use crate::softmax::BLOCK;
use crate::view::{Shared, tasks};

/// Numbers of a block's scores: 1 MiB, half of a usual second-level cache.
const BLOCK_SCORES: usize = 1 << 18;
/// From this many multiplications on, tasks go to several threads.
pub(super) const PARALLEL_FROM: usize = 1 << 17;

/// See [`super::attention`].
pub(super) fn attention(
    shape: Shape,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &AttentionSpec,
) -> Result<Vec<f32>> {
    with_heads(q, |q| {
        with_heads(k, |k| {
            with_heads(v, |v| {
                Ok(Fused {
                    shape,
                    q,
                    k,
                    v,
                    spec,
                }
                .run())
            })
        })
    })
}

struct Fused<'a> {
    shape: Shape,
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    spec: &'a AttentionSpec,
}

/// Queries of a block, so that its scores stay in cache; a function of the shape alone.
pub(super) fn block_of(s: Shape) -> usize {
    (BLOCK_SCORES / (s.heads / s.kv_heads * s.keys))
        .clamp(8, 64)
        .min(s.queries)
}

/// What one task computes.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    kv_head: usize,
    /// Query heads that share the key/value head.
    group: usize,
    /// First query.
    first: usize,
    /// Number of queries.
    count: usize,
}

impl Fused<'_> {
    fn run(&self) -> Vec<f32> {
        let s = self.shape;
        let group = s.heads / s.kv_heads;
        let block = block_of(s);
        let blocks = s.queries.div_ceil(block);
        let len = s.batch * s.queries * s.heads * s.value_width;
        let mut out: Vec<f32> = Vec::with_capacity(len);
        let shared = Shared::new(out.as_mut_ptr());
        let work = s.batch * s.heads * s.queries * s.keys * (s.width + s.value_width);
        tasks(s.batch * s.kv_heads * blocks, work >= PARALLEL_FROM, |i| {
            let (rest, block_index) = (i / blocks, i % blocks);
            let first = block_index * block;
            let part = Part {
                row: rest / s.kv_heads,
                kv_head: rest % s.kv_heads,
                group,
                first,
                count: block.min(s.queries - first),
            };
            // SAFETY: parts are disjoint sets of heads and positions of the result.
            unsafe { self.part(part, shared) };
        });
        // SAFETY: the parts cover every head of every position.
        unsafe { out.set_len(len) };
        out
    }

    /// # Safety
    /// `out` must be the whole result, and nobody else may write this part of it.
    unsafe fn part(&self, part: Part, out: Shared) {
        let s = self.shape;
        let (d, dv) = (s.width, s.value_width);
        // Line `i` is query `i / group`, head `i % group`: gathered so that one product serves all heads of the group.
        let lines = part.count * part.group;
        let query = |i: usize| part.first + i / part.group;
        let head = |i: usize| part.kv_head * part.group + i % part.group;
        let to: Vec<*mut f32> = (0..lines)
            // SAFETY: the head of a position of the result.
            .map(|i| unsafe {
                out.at(((part.row * s.queries + query(i)) * s.heads + head(i)) * dv)
            })
            .collect();
        let seen: Vec<Range<usize>> = (part.first..part.first + part.count)
            .map(|query| self.spec.visible(part.row, query))
            .collect();
        let Some(all) = union(&seen) else {
            for to in to {
                // SAFETY: one line of this part.
                unsafe { to.write_bytes(0, dv) };
            }
            return;
        };
        let mut queries: Vec<f32> = Vec::with_capacity(lines * d);
        for i in 0..lines {
            // SAFETY: the row lies inside q.
            queries.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.q.at(part.row, query(i), head(i)), d)
            });
        }
        // Columns are positions from a multiple of the softmax's block on: how its sum is grouped must not depend on
        // where a window happens to begin.
        let base = all.start / BLOCK * BLOCK;
        let columns = all.end - base;
        let mut scores: Vec<f32> = Vec::with_capacity(lines * columns);
        let x = Rows {
            start: queries.as_ptr(),
            stride: d,
            count: lines,
        };
        // SAFETY: the positions seen lie inside k and v; every column of a line is written before it is read: those of
        // the segments by the product, the others by the line itself.
        unsafe {
            for part_of_keys in segments(self.spec, &self.k, part.row, part.kv_head, &all) {
                let Segment { positions, rows } = part_of_keys;
                if rows.count > 0 {
                    let first_column = scores.as_mut_ptr().add(positions.start - base);
                    products(x, rows, d, first_column, columns);
                }
            }
            let line = |i: usize| scores.as_ptr().add(i * columns).cast_mut();
            let factors: Vec<f32> = (0..lines)
                .map(|i| {
                    let seen = &seen[i / part.group];
                    run(Line {
                        scores: line(i),
                        len: columns,
                        visible: seen.start.max(base) - base..seen.end.max(base) - base,
                        scale: self.spec.scale as f32,
                        cap: self.spec.softcap.map(|cap| cap as f32),
                    })
                })
                .collect();
            let weights = Rows {
                start: scores.as_ptr(),
                stride: columns,
                count: lines,
            };
            run(Mix {
                weights,
                base,
                factors: &factors,
                visible: &|i| seen[i / part.group].clone(),
                segments: segments(self.spec, &self.v, part.row, part.kv_head, &all),
                width: dv,
                out: &to,
            });
        }
    }
}

/// The keys or values of these positions of a row: those in the prefix, and those after the padding.
///
/// # Safety
/// The positions must be some that a query sees.
unsafe fn segments(
    spec: &AttentionSpec,
    of: &Heads,
    row: usize,
    kv_head: usize,
    all: &Range<usize>,
) -> [Segment; 2] {
    spec.layout
        .pieces(row, all)
        .map(|(positions, slot)| Segment {
            rows: Rows {
                start: of.at(row, slot, kv_head),
                stride: of.step(),
                count: positions.len(),
            },
            positions,
        })
}

/// From the first to the last position that any of the queries sees; nothing if none sees any.
pub(super) fn union(seen: &[Range<usize>]) -> Option<Range<usize>> {
    seen.iter()
        .filter(|range| !range.is_empty())
        .cloned()
        .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
}
