//! The backward of [`super::token_logprobs`]. Logits are computed again tile by tile and turned into their gradient,
//! `(onehot - p) · dy / T` times the soft-cap's slope, which goes into two products at once.

use candle_core::{DType, Result, Tensor};

use super::forward::Shaping;
use super::{HeadOptions, logits_again, tiles};
use crate::exp::exp;
use crate::grad::product::{Matrix, Target, product};
use crate::grad::{Backward, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::{fill, rows};

/// What the backward needs beside the tensors.
pub(super) struct Back {
    pub targets: Vec<u32>,
    pub log_sums: Vec<f32>,
    pub options: HeadOptions,
}

impl Backward for Back {
    const NAME: &'static str = "token_logprobs";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (hidden, head) = (inputs[0], inputs[1]);
        let ((count, width), vocab) = (hidden.dims2()?, head.dim(0)?);
        // Not zeroed: the first product that goes somewhere is written, the others are added.
        let room = |numbers: usize| Vec::<f32>::with_capacity(numbers);
        let mut dhidden = tracks(hidden).then(|| room(count * width));
        let mut dhead = tracks(head).then(|| room(vocab * width));
        rows(grad, |dy| {
            for tile in tiles(count, vocab) {
                let (row, in_tile, token, tokens) = tile;
                let raw = logits_again(hidden, head, tile)?;
                let slopes = rows(&raw, |raw| Ok(self.slopes(raw, dy, row, token, tokens)))?;
                let slopes = Matrix::new(&slopes, tokens);
                let target = |to: &mut Vec<f32>, from: usize, add: bool| Target {
                    start: to.spare_capacity_mut()[from * width..].as_mut_ptr().cast(),
                    stride: width,
                    add,
                };
                if let Some(dhidden) = &mut dhidden {
                    let block = head.narrow(0, token, tokens)?.detach();
                    rows(&block.to_dtype(DType::F32)?, |block| {
                        let block = Matrix::new(block, width);
                        let to = target(dhidden, row, token > 0);
                        // SAFETY: slopes are [in_tile, tokens], the block [tokens, width], dhidden has room for these
                        // rows, and the first tile of a band has written them.
                        unsafe { product([in_tile, width, tokens], slopes, block, to, true) };
                        Ok(())
                    })?;
                }
                if let Some(dhead) = &mut dhead {
                    rows(&hidden.narrow(0, row, in_tile)?.detach(), |band| {
                        let band = Matrix::new(band, width);
                        let (slopes, to) = (slopes.transposed(), target(dhead, token, row > 0));
                        // SAFETY: as above, [tokens, in_tile] by [in_tile, width]; the first band has written all tokens.
                        unsafe { product([tokens, width, in_tile], slopes, band, to, true) };
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })?;
        let tensor = |values: Option<Vec<f32>>, x: &Tensor| {
            let whole = |mut values: Vec<f32>| {
                // SAFETY: the tiles cover all positions and tokens, so every number was written; nothing is empty.
                unsafe { values.set_len(x.elem_count()) };
                Tensor::from_vec(values, x.dims(), x.device())
            };
            values.map(whole).transpose()
        };
        Ok(vec![tensor(dhidden, hidden)?, tensor(dhead, head)?])
    }
}

impl Back {
    /// The gradient of a tile's raw logits.
    fn slopes(&self, raw: &[f32], dy: &[f32], row: usize, token: usize, tokens: usize) -> Vec<f32> {
        let write = |i: usize, out: *mut f32, n: usize| {
            let target = (self.targets[row + i] as usize).wrapping_sub(token);
            run(Slopes {
                raw: &raw[i * tokens..][..n],
                target: (target < tokens).then_some(target),
                log_sum: self.log_sums[row + i],
                dy: dy[row + i],
                shape: Shaping::new(self.options),
                out,
            });
        };
        // SAFETY: `Slopes` writes as many numbers as it reads.
        unsafe { fill(raw.len(), tokens, write) }
    }
}

/// One position; `out` has room for as many numbers as `raw`.
struct Slopes<'a> {
    raw: &'a [f32],
    /// Where the target is, if it is in this tile.
    target: Option<usize>,
    log_sum: f32,
    dy: f32,
    shape: Shaping,
    out: *mut f32,
}

impl Kernel for Slopes<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for start in (0..self.raw.len()).step_by(V::N) {
            let n = V::N.min(self.raw.len() - start);
            // SAFETY: start + n stays within raw, and out is as long.
            unsafe {
                let raw = V::load_part_or_all(self.raw.as_ptr().add(start), n, 0.0);
                self.slope(raw, 0.0)
                    .store_part_or_all(self.out.add(start), n);
            }
        }
        if let Some(target) = self.target {
            let at = self.slope(V::splat(self.raw[target]), 1.0);
            // SAFETY: the target lies inside raw, so inside out.
            unsafe { at.store_part(self.out.add(target), 1) };
        }
    }
}

impl Slopes<'_> {
    /// A method, as a closure that is used twice stays a call without the level's instructions.
    #[inline(always)]
    fn slope<V: Lanes>(&self, raw: V, onehot: f32) -> V {
        let shape = self.shape;
        let capped = shape.capped(raw);
        let p = exp(capped.mul(V::splat(shape.cold)).sub(V::splat(self.log_sum)));
        let dy = V::splat(onehot).sub(p).mul(V::splat(self.dy * shape.cold));
        let Some(cap) = shape.cap else { return dy };
        // d/dx c tanh(x / c) = 1 - tanh²(x / c)
        let t = capped.mul(V::splat(1.0 / cap));
        dy.sub(dy.mul(t).mul(t))
    }
}
