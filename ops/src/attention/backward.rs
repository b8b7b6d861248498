//! The backward of fused attention: scores and weights are computed again, block by block, so that nothing of the size
//! queries x keys is kept between the passes (as in FlashAttention, Dao et al. 2022).
//!
//! One task is a batch row and a key/value head with all query heads that share it: it alone adds to that head's `dk` and
//! `dv`, block after block, so the sums have one order whatever the number of threads. Weights have the forward's bits.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::fused::{PARALLEL_FROM, block_of, union};
use super::heads::{Heads, with_heads};
use super::line::LineBack;
use super::{AttentionSpec, Shape};
use crate::grad::product::{Matrix, Target, product};
use crate::grad::{Backward, tracks};
use crate::lanes::run;
use crate::product::{Rows, products};
use crate::softmax::BLOCK;
use crate::view::{Shared, tasks};

/// What the backward needs beside the tensors.
pub(super) struct Back {
    spec: AttentionSpec,
}

impl Back {
    pub(super) fn new(spec: &AttentionSpec) -> Self {
        Self { spec: spec.clone() }
    }
}

impl Backward for Back {
    const NAME: &'static str = "attention";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let shape = Shape::of_queries("attention", q, k)?.with_values("attention", v)?;
        let mut values: Vec<Option<Vec<f32>>> = inputs
            .iter()
            .map(|x| tracks(x).then(|| vec![0.0; x.elem_count()]))
            .collect();
        let mut out = values
            .iter_mut()
            .map(|x| x.as_mut().map(|x| Shared::new(x.as_mut_ptr())));
        let [dq, dk, dv] = std::array::from_fn(|_| out.next().flatten());
        with_heads(q, |q| {
            with_heads(k, |k| {
                with_heads(v, |v| {
                    with_heads(grad, |dz| {
                        let spec = &self.spec;
                        Pass {
                            shape,
                            q,
                            k,
                            v,
                            dz,
                            spec,
                            dq,
                            dk,
                            dv,
                        }
                        .run();
                        Ok(())
                    })
                })
            })
        })?;
        let tensor = |(values, x): (Option<Vec<f32>>, &&Tensor)| {
            values
                .map(|values| Tensor::from_vec(values, x.dims(), x.device()))
                .transpose()
        };
        values.into_iter().zip(inputs).map(tensor).collect()
    }
}

struct Pass<'a> {
    shape: Shape,
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    dz: Heads<'a>,
    spec: &'a AttentionSpec,
    /// Results, zeroed, contiguous in the shape of what they are gradients of; `None` if nobody wants one.
    dq: Option<Shared>,
    dk: Option<Shared>,
    dv: Option<Shared>,
}

/// Buffers of one task, used for each block again.
#[derive(Default)]
struct Room {
    queries: Vec<f32>,
    dz: Vec<f32>,
    scores: Vec<f32>,
    slopes: Vec<f32>,
    capped: Vec<f32>,
    dq: Vec<f32>,
}

/// A block of queries of one task. Line `i` is query `first + i / group`, head `kv_head · group + i % group`.
struct Block {
    row: usize,
    kv_head: usize,
    group: usize,
    first: usize,
    lines: usize,
    /// The positions any of the queries sees.
    all: Range<usize>,
    /// The position of the first column, a multiple of the softmax's block, as in the forward.
    base: usize,
    columns: usize,
}

impl Block {
    fn place(&self, line: usize) -> (usize, usize) {
        let head = self.kv_head * self.group + line % self.group;
        (self.first + line / self.group, head)
    }
}

impl Pass<'_> {
    fn run(&self) {
        let s = self.shape;
        let work = s.batch * s.heads * s.queries * s.keys * (s.width + s.value_width);
        tasks(s.batch * s.kv_heads, work >= PARALLEL_FROM, |i| {
            let (row, kv_head) = (i / s.kv_heads, i % s.kv_heads);
            let group = s.heads / s.kv_heads;
            let mut room = Room::default();
            for first in (0..s.queries).step_by(block_of(s)) {
                let count = block_of(s).min(s.queries - first);
                let seen: Vec<Range<usize>> = (first..first + count)
                    .map(|query| self.spec.visible(row, query))
                    .collect();
                // Queries that see nothing had a result of zero, whatever they are.
                let Some(all) = union(&seen) else { continue };
                let base = all.start / BLOCK * BLOCK;
                let block = Block {
                    row,
                    kv_head,
                    group,
                    first,
                    lines: count * group,
                    columns: all.end - base,
                    all,
                    base,
                };
                // SAFETY: this task alone writes this row's gradients of these heads.
                unsafe {
                    self.weights_and_slopes(&block, &seen, &mut room);
                    self.spread(&block, &mut room);
                }
            }
        });
    }

    /// The lines' weights and the gradients of their raw scores, for the columns of the block.
    ///
    /// # Safety
    /// The block must lie inside the shape.
    unsafe fn weights_and_slopes(&self, block: &Block, seen: &[Range<usize>], room: &mut Room) {
        let (d, dv) = (self.shape.width, self.shape.value_width);
        gather(&self.q, block, d, &mut room.queries);
        gather(&self.dz, block, dv, &mut room.dz);
        let len = block.lines * block.columns;
        for buffer in [&mut room.scores, &mut room.slopes, &mut room.capped] {
            buffer.clear();
            buffer.reserve(len);
        }
        let lines = |values: &[f32], width: usize| Rows {
            start: values.as_ptr(),
            stride: width,
            count: block.lines,
        };
        // SAFETY: the positions seen lie inside k and v; every column of a line is written before it is read: those of the
        // pieces by the products, the others by the line itself.
        unsafe {
            for (positions, slot) in self.spec.layout.pieces(block.row, &block.all) {
                if positions.is_empty() {
                    continue;
                }
                let of = |heads: &Heads| Rows {
                    start: heads.at(block.row, slot, block.kv_head),
                    stride: heads.step(),
                    count: positions.len(),
                };
                let column = positions.start - block.base;
                let to = room.scores.as_mut_ptr().add(column);
                products(lines(&room.queries, d), of(&self.k), d, to, block.columns);
                let to = room.slopes.as_mut_ptr().add(column);
                products(lines(&room.dz, dv), of(&self.v), dv, to, block.columns);
            }
            for i in 0..block.lines {
                let seen = &seen[i / block.group];
                let from = i * block.columns;
                run(LineBack {
                    scores: room.scores.as_mut_ptr().add(from),
                    slopes: room.slopes.as_mut_ptr().add(from),
                    len: block.columns,
                    visible: seen.start.max(block.base) - block.base
                        ..seen.end.max(block.base) - block.base,
                    scale: self.spec.scale as f32,
                    cap: self.spec.softcap.map(|cap| cap as f32),
                    capped: room.capped.as_mut_ptr().add(from),
                });
            }
            room.scores.set_len(len);
            room.slopes.set_len(len);
        }
    }

    /// `dq = ds · k`, `dk += dsᵀ · q`, `dv += pᵀ · dz`.
    ///
    /// # Safety
    /// The room must hold the block's weights and slopes, and nobody else write its row's gradients of its heads.
    unsafe fn spread(&self, block: &Block, room: &mut Room) {
        let s = self.shape;
        let (d, dv, columns) = (s.width, s.value_width, block.columns);
        room.dq.clear();
        room.dq.resize(block.lines * d, 0.0);
        let dq = Target {
            start: room.dq.as_mut_ptr(),
            stride: d,
            add: true,
        };
        // SAFETY: pieces are columns of the block; slots lie inside k, v and their gradients.
        unsafe {
            for (positions, slot) in self.spec.layout.pieces(block.row, &block.all) {
                let count = positions.len();
                if count == 0 {
                    continue;
                }
                let column = positions.start - block.base;
                let p = Matrix::new(&room.scores[column..], columns);
                let ds = Matrix::new(&room.slopes[column..], columns);
                let to = |out: Shared, width: usize| Target {
                    start: out
                        .at(((block.row * s.keys + slot) * s.kv_heads + block.kv_head) * width),
                    stride: s.kv_heads * width,
                    add: true,
                };
                if self.dq.is_some() {
                    let k = Matrix::at(self.k.at(block.row, slot, block.kv_head), self.k.step(), 1);
                    product([block.lines, d, count], ds, k, dq, false);
                }
                if let Some(dk) = self.dk {
                    let q = Matrix::new(&room.queries, d);
                    product(
                        [count, d, block.lines],
                        ds.transposed(),
                        q,
                        to(dk, d),
                        false,
                    );
                }
                if let Some(out) = self.dv {
                    let dz = Matrix::new(&room.dz, dv);
                    product(
                        [count, dv, block.lines],
                        p.transposed(),
                        dz,
                        to(out, dv),
                        false,
                    );
                }
            }
            if let Some(out) = self.dq {
                for (i, line) in room.dq.chunks_exact(d).enumerate() {
                    let (query, head) = block.place(i);
                    let to = out.at(((block.row * s.queries + query) * s.heads + head) * d);
                    std::ptr::copy_nonoverlapping(line.as_ptr(), to, d);
                }
            }
        }
    }
}

/// The lines of a block side by side, so that one product serves all heads of the group.
fn gather(heads: &Heads, block: &Block, width: usize, to: &mut Vec<f32>) {
    to.clear();
    for i in 0..block.lines {
        let (query, head) = block.place(i);
        // SAFETY: the row of channels lies inside the tensor.
        to.extend_from_slice(unsafe {
            std::slice::from_raw_parts(heads.at(block.row, query, head), width)
        });
    }
}
