//! Gradients of a list of parameters, summed over micro-batches, with their norm and clipping.

use candle_core::{DType, Result, Tensor, Var, backprop::GradStore, bail};
use rayon::prelude::*;

use super::{CHUNK, in_place};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::rows;

/// The sum of the gradients of a list of parameters, `f32` on the CPU. The list is given at each call and always the same:
/// entry `i` here is parameter `i` there.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Owned: nothing else holds their storage.
    sums: Vec<Option<Tensor>>,
    /// What they are still to be multiplied by.
    factor: f64,
}

impl Gradients {
    /// No gradients yet, of `count` parameters.
    pub fn new(count: usize) -> Self {
        Self {
            sums: vec![None; count],
            factor: 1.0,
        }
    }

    /// Adds what one backward found. Parameters that it did not reach are left as they are.
    ///
    /// # Errors
    /// Another number of parameters, or a gradient that is not `f32` on the CPU, by name.
    pub fn add(&mut self, params: &[(String, Var)], mut found: GradStore) -> Result<()> {
        self.check(params)?;
        self.settle()?;
        for (sum, (name, var)) in self.sums.iter_mut().zip(params) {
            let Some(grad) = found.remove(var) else {
                continue;
            };
            if grad.dtype() != DType::F32 || !grad.device().is_cpu() {
                bail!(
                    "gradients: that of {name} is {:?}, expected f32 on the cpu",
                    grad.dtype()
                );
            }
            match sum {
                Some(sum) => rows(&grad, |grad| {
                    in_place(sum, name, |sum| {
                        let chunks = sum.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
                        chunks.for_each(|(sum, grad)| run(AddTo { sum, grad }));
                    })
                })?,
                // Candle forms each gradient as a fresh sum, so that nobody else holds this one.
                None => *sum = Some(grad.contiguous()?.detach()),
            }
        }
        Ok(())
    }

    /// Multiplies all by a factor: the one over the global count of an accumulation window.
    pub fn scale(&mut self, factor: f64) {
        self.factor *= factor;
    }

    /// The Euclidean norm of all gradients as one vector, in f64. Not finite if a gradient is not.
    ///
    /// # Errors
    /// None in practice.
    pub fn global_norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for sum in self.sums.iter().flatten() {
            total += rows(sum, |sum| {
                let squares: Vec<f64> = sum.par_chunks(CHUNK).map(|x| run(Squares(x))).collect();
                Ok(squares.iter().sum::<f64>())
            })?;
        }
        Ok(total.sqrt() * self.factor.abs())
    }

    /// Scales all gradients so that their global norm is at most `max_norm`, with PyTorch's coefficient
    /// `max_norm / (norm + 1e-6)`; gives back the norm before. A norm that is not finite is given back and nothing scaled.
    ///
    /// # Errors
    /// As [`Self::global_norm`].
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        let norm = self.global_norm()?;
        let coefficient = max_norm / (norm + 1e-6);
        if norm.is_finite() && coefficient < 1.0 {
            self.scale(coefficient);
        }
        Ok(norm)
    }

    /// The parameters that got no gradient at all: in a full training run there are none, and each is a cut tape.
    ///
    /// # Errors
    /// Another number of parameters.
    pub fn missing<'a>(&self, params: &'a [(String, Var)]) -> Result<Vec<&'a str>> {
        self.check(params)?;
        let both = self.sums.iter().zip(params);
        Ok(both
            .filter(|(sum, _)| sum.is_none())
            .map(|(_, (name, _))| name.as_str())
            .collect())
    }

    /// The gradient of parameter `i` as it counts, a copy.
    ///
    /// # Errors
    /// None in practice.
    pub fn get(&self, i: usize) -> Result<Option<Tensor>> {
        let sum = self.sums.get(i).and_then(Option::as_ref);
        sum.map(|sum| sum * self.factor).transpose()
    }

    /// Forgets all gradients, for the next step.
    pub fn clear(&mut self) {
        self.sums.fill(None);
        self.factor = 1.0;
    }

    /// The gradients, each to be multiplied by the factor.
    pub(super) fn parts(&self) -> (&[Option<Tensor>], f32) {
        (&self.sums, self.factor as f32)
    }

    pub(super) fn check(&self, params: &[(String, Var)]) -> Result<()> {
        if params.len() != self.sums.len() {
            bail!(
                "gradients: of {} parameters, but {} are given",
                self.sums.len(),
                params.len()
            );
        }
        Ok(())
    }

    /// Multiplies the sums by what is outstanding.
    fn settle(&mut self) -> Result<()> {
        let factor = std::mem::replace(&mut self.factor, 1.0) as f32;
        if factor != 1.0 {
            for sum in self.sums.iter().flatten() {
                in_place(sum, "gradient", |sum| {
                    sum.par_iter_mut()
                        .with_min_len(CHUNK)
                        .for_each(|x| *x *= factor);
                })?;
            }
        }
        Ok(())
    }
}

/// `sum += grad`, of equal lengths. Plain loops, here and below: the compiler widens them to the level's vectors.
struct AddTo<'a> {
    sum: &'a mut [f32],
    grad: &'a [f32],
}

impl Kernel for AddTo<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        for (sum, grad) in self.sum.iter_mut().zip(self.grad) {
            *sum += grad;
        }
    }
}

/// The sum of squares, in sixteen f64 lanes.
struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Out = f64;
    #[inline(always)]
    fn run<V: Lanes>(self) -> f64 {
        let mut lanes = [0.0f64; 16];
        let (blocks, rest) = self.0.as_chunks::<16>();
        for block in blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        lanes.iter().sum::<f64>() + rest
    }
}
