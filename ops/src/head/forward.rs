//! The forward scan: what each position's logits come to, gathered tile by tile.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{HeadOptions, logits, tiles};
use crate::exp::{exp, tanh};
use crate::lanes::{Kernel, Lanes, run};
use crate::softmax::BLOCK;
use crate::view::rows;

/// What the scan finds, one number a position.
pub(super) struct Scan {
    pub logps: Vec<f32>,
    /// `log Σ exp(logit / T)`, for the backward.
    pub log_sums: Vec<f32>,
    pub entropy: Vec<f32>,
    pub top1: Vec<bool>,
    pub mean_logit: Vec<f32>,
}

/// What one position has come to so far. Logits are soft-capped and divided by the temperature, but for `total`.
#[derive(Clone, Copy)]
struct Row {
    max: f32,
    /// `Σ exp(l - max)`.
    sum: f64,
    /// `Σ exp(l - max) (l - max)`.
    slope: f64,
    /// `Σ` of soft-capped logits.
    total: f64,
    /// The target's logit, once its tile has been seen.
    target: f32,
}

impl Row {
    const NONE: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
        slope: 0.0,
        total: 0.0,
        target: f32::NAN,
    };

    /// Both as one, relative to the larger maximum.
    fn and(self, other: Self) -> Self {
        let max = self.max.max(other.max);
        let moved = |part: Self| {
            // An empty part, or one of nothing but -inf, has nothing to move.
            if part.max == f32::NEG_INFINITY {
                return (part.sum, part.slope);
            }
            let gap = f64::from(part.max) - f64::from(max);
            let factor = gap.exp();
            (part.sum * factor, (part.slope + gap * part.sum) * factor)
        };
        let ((a, da), (b, db)) = (moved(self), moved(other));
        Self {
            max,
            sum: a + b,
            slope: da + db,
            total: self.total + other.total,
            target: if other.target.is_nan() {
                self.target
            } else {
                other.target
            },
        }
    }

    fn log_sum(self) -> f64 {
        f64::from(self.max) + self.sum.ln()
    }
}

/// See [`super::token_logprobs`].
pub(super) fn scan(
    hidden: &Tensor,
    head: &Tensor,
    targets: &[u32],
    options: HeadOptions,
) -> Result<Scan> {
    let (count, vocab) = (hidden.dim(0)?, head.dim(0)?);
    let mut found = vec![Row::NONE; count];
    let shape = Shaping::new(options);
    for tile in tiles(count, vocab) {
        let (row, in_tile, token, tokens) = tile;
        let tile = logits(hidden, head, tile)?;
        rows(&tile, |tile| {
            by_row(&mut found[row..row + in_tile], Row::and, |i| {
                let logits = &tile[i * tokens..(i + 1) * tokens];
                let mut part = run(TileRow { logits, shape });
                let target = (targets[row + i] as usize).wrapping_sub(token);
                if target < tokens {
                    part.target = run(TileRow {
                        logits: &logits[target..=target],
                        shape,
                    })
                    .max;
                }
                part
            });
            Ok(())
        })?;
    }
    let each = |f: &dyn Fn(&Row) -> f64| found.iter().map(|row| f(row) as f32).collect();
    Ok(Scan {
        logps: each(&|row| f64::from(row.target) - row.log_sum()),
        log_sums: each(&|row| row.log_sum()),
        entropy: each(&|row| row.sum.ln() - row.slope / row.sum),
        top1: found.iter().map(|row| row.target >= row.max).collect(),
        mean_logit: each(&|row| row.total / vocab as f64),
    })
}

/// Joins to each row what `part` finds for it, in parallel.
pub(super) fn by_row<T: Copy + Send>(
    found: &mut [T],
    and: impl Fn(T, T) -> T + Sync,
    part: impl Fn(usize) -> T + Sync,
) {
    const ROWS_A_TASK: usize = 8;
    let chunks = found.par_chunks_mut(ROWS_A_TASK).enumerate();
    chunks.for_each(|(task, rows)| {
        for (i, row) in rows.iter_mut().enumerate() {
            *row = and(*row, part(task * ROWS_A_TASK + i));
        }
    });
}

/// What happens to a raw logit: the soft-cap, then the temperature.
#[derive(Clone, Copy)]
pub(super) struct Shaping {
    pub cap: Option<f32>,
    pub cold: f32,
}

impl Shaping {
    pub(super) fn new(options: HeadOptions) -> Self {
        Self {
            cap: options.softcap.map(|cap| cap as f32),
            cold: (1.0 / options.temperature) as f32,
        }
    }

    /// The soft-capped logit.
    #[inline(always)]
    pub(super) fn capped<V: Lanes>(self, raw: V) -> V {
        match self.cap {
            Some(cap) => tanh(raw.mul(V::splat(1.0 / cap))).mul(V::splat(cap)),
            None => raw,
        }
    }

    /// What the softmax is taken of.
    #[inline(always)]
    pub(super) fn logit<V: Lanes>(self, raw: V) -> V {
        self.capped(raw).mul(V::splat(self.cold))
    }
}

/// One position's logits of one tile.
struct TileRow<'a> {
    logits: &'a [f32],
    shape: Shaping,
}

impl Kernel for TileRow<'_> {
    type Out = Row;
    #[inline(always)]
    fn run<V: Lanes>(self) -> Row {
        let (len, cold) = (self.logits.len(), V::splat(self.shape.cold));
        let zero = V::splat(0.0);
        // SAFETY: start + n <= len throughout.
        let load = |start: usize, n: usize, fill: f32| unsafe {
            V::load_part_or_all(self.logits.as_ptr().add(start), n, fill)
        };
        let mut highest = [V::splat(f32::NEG_INFINITY); 4];
        for (i, start) in (0..len).step_by(V::N).enumerate() {
            let part = load(start, V::N.min(len - start), f32::NEG_INFINITY);
            highest[i % 4] = highest[i % 4].max(part);
        }
        let [a, b, c, d] = highest;
        // Soft-cap and temperature rise with the logit, so the highest stays so; NaN is found again by the sums.
        let highest = V::splat(a.max(b).max(c.max(d)).highest());
        let max = self.shape.capped(highest).mul(cold);
        let mut row = Row {
            max: max.spill(0.0)[0],
            ..Row::NONE
        };
        if row.max == f32::NEG_INFINITY {
            return row;
        }
        for block in (0..len).step_by(BLOCK) {
            let (mut sums, mut slopes, mut totals) = ([zero; 2], [zero; 2], [zero; 2]);
            for (i, start) in (block..len.min(block + BLOCK)).step_by(V::N).enumerate() {
                let n = V::N.min(len - start);
                let capped = self.shape.capped(load(start, n, 0.0));
                let gap = capped.mul(cold).sub(max);
                let (e, gap) = if n == V::N {
                    (exp(gap), gap)
                } else {
                    // Lanes beyond the end count nothing.
                    let gap = first(gap, n, f32::MIN);
                    (exp(gap), first(gap, n, 0.0))
                };
                let e_gap = e.mul(V::splat(-200.0).max(gap));
                sums[i % 2] = sums[i % 2].add(e);
                slopes[i % 2] = slopes[i % 2].add(e_gap);
                totals[i % 2] = totals[i % 2].add(first(capped, n, 0.0));
            }
            row.sum += sums[0].add(sums[1]).sum();
            row.slope += slopes[0].add(slopes[1]).sum();
            row.total += totals[0].add(totals[1]).sum();
        }
        row
    }
}

/// The first `n` lanes, then `fill`.
#[inline(always)]
pub(super) fn first<V: Lanes>(x: V, n: usize, fill: f32) -> V {
    if n == V::N {
        return x;
    }
    let mut lanes = x.spill(0.0);
    lanes[n..].fill(fill);
    // SAFETY: the buffer holds 16 numbers, at least N.
    unsafe { V::load(lanes.as_ptr()) }
}
