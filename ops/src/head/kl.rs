//! The exact divergence of two models' next-token distributions, over the whole vocabulary, tile by tile.

use candle_core::{DType, Result, Tensor, bail};

use super::forward::{Shaping, by_row, first};
use super::{HeadOptions, check, logits, plain, tiles};
use crate::exp::exp;
use crate::lanes::{Kernel, Lanes, run};
use crate::softmax::BLOCK;
use crate::view::rows;

/// `KL(p ‖ q) = Σ p (log p - log q)` at each of `n` positions, nats, `[n]`; no gradient. `p` and `q` are
/// `softmax(softcap(hidden · headᵀ) / temperature)` with `hidden [n, d]` and `head [vocab, d]`, widths of their own.
///
/// Exactly 0 where the logits of both have the same bits; otherwise the rounding of the logits (some 1e-6 absolute) may
/// leave a tiny value below 0.
///
/// # Errors
/// Shapes that do not go together, a temperature or soft-cap that is not positive.
pub fn token_kl(
    hidden_p: &Tensor,
    head_p: &Tensor,
    hidden_q: &Tensor,
    head_q: &Tensor,
    options: HeadOptions,
) -> Result<Tensor> {
    const OP: &str = "token_kl";
    check(OP, hidden_p, head_p, options)?;
    check(OP, hidden_q, head_q, options)?;
    let (count, vocab) = (hidden_p.dim(0)?, head_p.dim(0)?);
    if hidden_q.dim(0)? != count || head_q.dim(0)? != vocab {
        bail!(
            "{OP}: p has {count} positions and {vocab} tokens, q {} and {}",
            hidden_q.dim(0)?,
            head_q.dim(0)?
        );
    }
    let single = |x: &Tensor| x.dtype() == DType::F32 && x.device().is_cpu();
    if !single(hidden_p) || !single(hidden_q) {
        return plain::token_kl([hidden_p, hidden_q], [head_p, head_q], options);
    }
    let shape = Shaping::new(options);
    let mut found = vec![Pair::NONE; count];
    for tile in tiles(count, vocab) {
        let (row, in_tile, _, tokens) = tile;
        let p = logits(hidden_p, head_p, tile)?;
        let q = logits(hidden_q, head_q, tile)?;
        rows(&p, |p| {
            rows(&q, |q| {
                by_row(&mut found[row..row + in_tile], Pair::and, |i| {
                    let at = i * tokens..(i + 1) * tokens;
                    let (p, q) = (&p[at.clone()], &q[at]);
                    run(TilePair { p, q, shape })
                });
                Ok(())
            })
        })?;
    }
    let kl = found.iter().map(|pair| pair.divergence() as f32).collect();
    Tensor::from_vec(kl, count, hidden_p.device())
}

/// What one position's two lines of logits have come to so far.
#[derive(Clone, Copy)]
struct Pair {
    max: [f32; 2],
    /// `Σ exp(l - max)` of each.
    sum: [f64; 2],
    /// `Σ exp(p - max p) (p - q)`.
    gap: f64,
}

impl Pair {
    const NONE: Self = Self {
        max: [f32::NEG_INFINITY; 2],
        sum: [0.0; 2],
        gap: 0.0,
    };

    /// Both as one, relative to the larger maxima.
    fn and(self, other: Self) -> Self {
        let max: [f32; 2] = std::array::from_fn(|i| self.max[i].max(other.max[i]));
        let factor = |part: &Self, i: usize| {
            if part.max[i] == f32::NEG_INFINITY {
                return 1.0;
            }
            (f64::from(part.max[i]) - f64::from(max[i])).exp()
        };
        let sum = |i| self.sum[i] * factor(&self, i) + other.sum[i] * factor(&other, i);
        Self {
            max,
            sum: [sum(0), sum(1)],
            gap: self.gap * factor(&self, 0) + other.gap * factor(&other, 0),
        }
    }

    fn divergence(self) -> f64 {
        let log_sum = |i: usize| f64::from(self.max[i]) + self.sum[i].ln();
        self.gap / self.sum[0] - (log_sum(0) - log_sum(1))
    }
}

/// One position's logits of one tile, of both models.
struct TilePair<'a> {
    p: &'a [f32],
    q: &'a [f32],
    shape: Shaping,
}

impl Kernel for TilePair<'_> {
    type Out = Pair;
    #[inline(always)]
    fn run<V: Lanes>(self) -> Pair {
        let (len, zero) = (self.p.len(), V::splat(0.0));
        // SAFETY: start + n <= len throughout.
        let load = |from: &[f32], start: usize, n: usize| unsafe {
            V::load_part_or_all(from.as_ptr().add(start), n, f32::NEG_INFINITY)
        };
        let max = [self.p, self.q].map(|line| {
            let mut highest = V::splat(f32::NEG_INFINITY);
            for start in (0..len).step_by(V::N) {
                highest = highest.max(load(line, start, V::N.min(len - start)));
            }
            self.shape.logit(V::splat(highest.highest()))
        });
        let mut pair = Pair {
            max: max.map(|max| max.spill(0.0)[0]),
            ..Pair::NONE
        };
        for block in (0..len).step_by(BLOCK) {
            let (mut sums, mut gaps) = ([zero; 2], zero);
            for start in (block..len.min(block + BLOCK)).step_by(V::N) {
                let n = V::N.min(len - start);
                let (p, q) = (
                    self.shape.logit(load(self.p, start, n)),
                    self.shape.logit(load(self.q, start, n)),
                );
                // Lanes beyond the end count nothing.
                let (of_p, of_q) = (first(p, n, f32::MIN), first(q, n, f32::MIN));
                let (of_p, of_q) = (exp(of_p.sub(max[0])), exp(of_q.sub(max[1])));
                sums = [sums[0].add(of_p), sums[1].add(of_q)];
                gaps = gaps.add(first(of_p.mul(p.sub(q)), n, 0.0));
            }
            pair.sum[0] += sums[0].sum();
            pair.sum[1] += sums[1].sum();
            pair.gap += gaps.sum();
        }
        pair
    }
}
