//! Fused attention in `f32`: scores of one block of queries against all keys they may see, softmax in place, weighted
//! sum of the values. Scores are never stored beyond a block; keys and values are read where they lie.
//!
//! One task is a batch row, a key/value head with all query heads that share it, and a block of queries. Blocks depend
//! on the shapes alone, so results do not depend on the number of threads.

use candle_core::{D, Result, Tensor};
use gemm::Parallelism;

use super::{AttentionSpec, Shape};
use crate::dot::{Rows, products};
use crate::exp::tanh;
use crate::lanes::{Kernel, Lanes, run};
use crate::softmax::exp_row;
use crate::view::{Shared, tasks, with_f32};

/// Numbers of a block's scores: 1 MiB, half of a usual second-level cache.
const BLOCK_SCORES: usize = 1 << 18;
/// From this many multiplications on, tasks go to several threads.
const PARALLEL_FROM: usize = 1 << 17;

/// A borrowed `[batch, pos, head, channel]` tensor whose channels are adjacent.
#[derive(Clone, Copy)]
struct Heads<'a> {
    values: &'a [f32],
    start: usize,
    stride: [usize; 3],
}

impl Heads<'_> {
    /// The row of channels at a place inside the shape.
    fn at(&self, batch: usize, position: usize, head: usize) -> *const f32 {
        let [b, s, h] = self.stride;
        self.values[self.start + batch * b + position * s + head * h..].as_ptr()
    }

    /// Numbers from one position to the next.
    fn step(&self) -> usize {
        self.stride[1]
    }
}

/// Lends a tensor as [`Heads`], copying it only if its channels are not adjacent.
fn with_heads<R>(x: &Tensor, read: impl FnOnce(Heads<'_>) -> Result<R>) -> Result<R> {
    let copy;
    let x = if x.stride()[3] == 1 || x.dim(D::Minus1)? == 1 {
        x
    } else {
        copy = x.force_contiguous()?;
        &copy
    };
    with_f32(x, |values, layout| {
        let s = layout.stride();
        let start = layout.start_offset();
        read(Heads {
            values,
            start,
            stride: [s[0], s[1], s[2]],
        })
    })
}

/// `c = a · b` on this thread; `a [m, k]`, `b [k, n]`, `c [m, n]`, each with its strides (row, column).
///
/// # Safety
/// `a` and `b` must be readable and `c` writable as described.
#[allow(clippy::too_many_arguments)] // one matrix product, as the field writes it
unsafe fn product(
    [m, n, k]: [usize; 3],
    a: *const f32,
    a_stride: [usize; 2],
    b: *const f32,
    b_stride: [usize; 2],
    c: *mut f32,
    c_row: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            c_row as isize,
            false,
            a,
            a_stride[1] as isize,
            a_stride[0] as isize,
            b,
            b_stride[1] as isize,
            b_stride[0] as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// See [`super::attention`].
pub(super) fn attention(
    shape: Shape,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    let out = with_heads(q, |q| {
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
    })?;
    let shape = (shape.batch, shape.queries, shape.heads, shape.value_width);
    Tensor::from_vec(out, shape, q.device())
}

struct Fused<'a> {
    shape: Shape,
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    spec: &'a AttentionSpec,
}

impl Fused<'_> {
    fn run(&self) -> Vec<f32> {
        let s = self.shape;
        let group = s.heads / s.kv_heads;
        let block = (BLOCK_SCORES / (group * s.keys))
            .clamp(8, 64)
            .min(s.queries);
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
        let span = self
            .spec
            .span(part.row, part.first..part.first + part.count);
        let (seen, lines) = (span.len(), part.count * part.group);
        // Line `i` is query `i / group`, head `i % group`: gathered so that one product serves all heads of the group.
        let place = |i: usize| {
            (
                part.first + i / part.group,
                part.kv_head * part.group + i % part.group,
            )
        };
        let to = |i: usize| {
            let (query, head) = place(i);
            ((part.row * s.queries + query) * s.heads + head) * dv
        };
        if span.is_empty() {
            for i in 0..lines {
                // SAFETY: line i of this part.
                unsafe { out.at(to(i)).write_bytes(0, dv) };
            }
            return;
        }
        let mut queries: Vec<f32> = Vec::with_capacity(lines * d);
        for i in 0..lines {
            let (query, head) = place(i);
            // SAFETY: the row lies inside q.
            queries.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.q.at(part.row, query, head), d)
            });
        }
        let mut scores: Vec<f32> = Vec::with_capacity(lines * seen);
        let mut mixed: Vec<f32> = Vec::with_capacity(lines * dv);
        let k = self.k.at(part.row, span.start, part.kv_head);
        let v = self.v.at(part.row, span.start, part.kv_head);
        let few = lines <= 8;
        // SAFETY: keys and values of the span lie inside k and v; the scratch has the room its products need, and is
        // written wholly before it is read.
        unsafe {
            if few {
                let x = Rows {
                    start: queries.as_ptr(),
                    stride: d,
                    count: lines,
                };
                let keys = Rows {
                    start: k,
                    stride: self.k.step(),
                    count: seen,
                };
                products(x, keys, d, scores.as_mut_ptr(), seen);
            } else {
                let c = scores.as_mut_ptr();
                product(
                    [lines, seen, d],
                    queries.as_ptr(),
                    [d, 1],
                    k,
                    [1, self.k.step()],
                    c,
                    seen,
                );
            }
            scores.set_len(lines * seen);
            let factors: Vec<f32> = (0..lines)
                .map(|i| {
                    let line = &mut scores[i * seen..(i + 1) * seen];
                    hide(line, span.start, &self.spec.ranges(part.row, place(i).0));
                    run(Line {
                        scores: line,
                        scale: self.spec.scale as f32,
                        cap: self.cap(),
                    })
                })
                .collect();
            if few {
                for (i, &factor) in factors.iter().enumerate() {
                    let weights = &scores[i * seen..(i + 1) * seen];
                    run(Mix {
                        weights,
                        factor,
                        v,
                        step: self.v.step(),
                        width: dv,
                        out: out.at(to(i)),
                    });
                }
                return;
            }
            let c = mixed.as_mut_ptr();
            product(
                [lines, dv, seen],
                scores.as_ptr(),
                [seen, 1],
                v,
                [self.v.step(), 1],
                c,
                dv,
            );
            mixed.set_len(lines * dv);
            for (i, &factor) in factors.iter().enumerate() {
                let line = &mixed[i * dv..(i + 1) * dv];
                let to = out.at(to(i));
                for (j, &x) in line.iter().enumerate() {
                    to.add(j).write(x * factor);
                }
            }
        }
    }

    fn cap(&self) -> Option<f32> {
        self.spec.softcap.map(|cap| cap as f32)
    }
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

/// Puts `-inf` into the scores outside the ranges; the line begins at slot `start`. Ranges are in rising order.
fn hide(line: &mut [f32], start: usize, ranges: &[std::ops::Range<usize>; 2]) {
    let mut from = 0;
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        line[from..range.start - start].fill(f32::NEG_INFINITY);
        from = range.end - start;
    }
    line[from..].fill(f32::NEG_INFINITY);
}

/// Scale, soft-cap and exponentials of one line of raw scores, in place; gives back the factor that makes them sum to 1.
struct Line<'a> {
    scores: &'a mut [f32],
    scale: f32,
    cap: Option<f32>,
}

impl Kernel for Line<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<V: Lanes>(self) -> f32 {
        let (line, len) = (self.scores.as_mut_ptr(), self.scores.len());
        // SAFETY: the line is ours and as long as it says.
        unsafe {
            scale_and_cap::<V>(line, len, self.scale, self.cap);
            exp_row::<V>(line, Some(line), len, false).factor()
        }
    }
}

/// `s · scale`, then `c tanh(s / c)`; hidden scores, `-inf`, stay so.
///
/// # Safety
/// `line` must be readable and writable for `len` numbers.
#[inline(always)]
unsafe fn scale_and_cap<V: Lanes>(line: *mut f32, len: usize, scale: f32, cap: Option<f32>) {
    for start in (0..len).step_by(V::N) {
        let n = V::N.min(len - start);
        // SAFETY: start + n <= len.
        unsafe {
            let raw = V::load_part_or_all(line.add(start), n, 0.0);
            let mut x = raw.mul(V::splat(scale));
            if let Some(cap) = cap {
                x = tanh(x.mul(V::splat(1.0 / cap))).mul(V::splat(cap));
            }
            // -inf times the scale, or through tanh, would no longer say "hidden".
            let lowest = V::splat(f32::MIN);
            raw.sub(lowest)
                .choose(raw, x)
                .store_part_or_all(line.add(start), n);
        }
    }
}

/// `out = factor · Σ weights[t] v[t]`, four vectors of channels at a time.
struct Mix<'a> {
    weights: &'a [f32],
    factor: f32,
    /// Values of the first key; `step` numbers to the next key's, `width` channels.
    v: *const f32,
    step: usize,
    width: usize,
    out: *mut f32,
}

impl Kernel for Mix<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut start = 0;
        // SAFETY: channels start .. start + n of each key's values, and of out, exist.
        unsafe {
            while start + 4 * V::N <= self.width {
                let mut sums = [V::splat(0.0); 4];
                for (t, &weight) in self.weights.iter().enumerate() {
                    let v = self.v.add(t * self.step + start);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(v.add(j * V::N)).mul_add(V::splat(weight), *sum);
                    }
                }
                for (j, sum) in sums.iter().enumerate() {
                    sum.mul(V::splat(self.factor))
                        .store(self.out.add(start + j * V::N));
                }
                start += 4 * V::N;
            }
            while start < self.width {
                let n = V::N.min(self.width - start);
                let mut sum = V::splat(0.0);
                for (t, &weight) in self.weights.iter().enumerate() {
                    let v = V::load_part_or_all(self.v.add(t * self.step + start), n, 0.0);
                    sum = v.mul_add(V::splat(weight), sum);
                }
                sum.mul(V::splat(self.factor))
                    .store_part_or_all(self.out.add(start), n);
                start += n;
            }
        }
    }
}

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
                let k_start = k.at(row, 0, head / (s.heads / s.kv_heads));
                let q_start = q.at(row, 0, head);
                // SAFETY: all rows lie inside q and k, and plane i of the result is this task's.
                unsafe {
                    let plane_start = shared.at(i * plane);
                    let sizes = [s.queries, s.keys, s.width];
                    product(
                        sizes,
                        q_start,
                        [q.step(), 1],
                        k_start,
                        [1, k.step()],
                        plane_start,
                        s.keys,
                    );
                    for query in 0..s.queries {
                        let start = plane_start.add(query * s.keys);
                        let line = std::slice::from_raw_parts_mut(start, s.keys);
                        hide(line, 0, &spec.ranges(row, query));
                        run(Finish {
                            line,
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

/// [`scale_and_cap`] as a kernel.
struct Finish<'a> {
    line: &'a mut [f32],
    scale: f32,
    cap: Option<f32>,
}

impl Kernel for Finish<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        // SAFETY: the line is ours and as long as it says.
        unsafe {
            scale_and_cap::<V>(
                self.line.as_mut_ptr(),
                self.line.len(),
                self.scale,
                self.cap,
            );
        };
    }
}

/// See [`super::attention_from_pattern`].
pub(super) fn weigh(shape: Shape, pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let s = shape;
    let len = s.batch * s.queries * s.heads * s.value_width;
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let shared = Shared::new(out.as_mut_ptr());
    with_heads(pattern, |pattern| {
        with_heads(v, |v| {
            tasks(s.batch * s.heads, len * s.keys >= PARALLEL_FROM, |i| {
                let (row, head) = (i / s.heads, i % s.heads);
                // Here the tensor's second dimension is the head and its third the query.
                let p_start = pattern.at(row, head, 0);
                let v_start = v.at(row, 0, head / (s.heads / s.kv_heads));
                // SAFETY: all rows lie inside the tensors, and this head's channels of the result are this task's.
                unsafe {
                    let to = shared.at((row * s.queries * s.heads + head) * s.value_width);
                    let sizes = [s.queries, s.value_width, s.keys];
                    let strides = [pattern.stride[2], 1];
                    product(
                        sizes,
                        p_start,
                        strides,
                        v_start,
                        [v.step(), 1],
                        to,
                        s.heads * s.value_width,
                    );
                }
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
