//! AdamW and summed gradients over candle tensors, until `candlescope_ops` has its own.
//!
//! Always: decay is decoupled (Loshchilov and Hutter 2019) and on matrices alone, moments are bias-corrected, weights change in
//! place through their `Var`s; gradients of several passes are summed before anything is divided or clipped.

use candle_core::{DType, Tensor, backprop::GradStore};

use super::TrainError;
use crate::model::trainable::Param;

/// One gradient for each parameter, summed over the passes of a step.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// None yet, for so many parameters.
    pub fn new(params: usize) -> Self {
        Self {
            sums: vec![None; params],
        }
    }

    /// Adds those of one pass.
    pub fn add(&mut self, params: &[Param], store: &mut GradStore) -> Result<(), TrainError> {
        for (sum, param) in self.sums.iter_mut().zip(params) {
            let Some(more) = store.remove(&param.var) else {
                continue;
            };
            *sum = Some(match sum.take() {
                Some(sum) => (sum + more)?,
                None => more,
            });
        }
        Ok(())
    }

    /// Of parameter `i`; `None` if none came.
    pub fn get(&self, i: usize) -> Option<&Tensor> {
        self.sums.get(i)?.as_ref()
    }

    /// Root of the sum of squares over all of them, in f64.
    pub fn global_norm(&self) -> Result<f64, TrainError> {
        let mut total = 0.0;
        for sum in self.sums.iter().flatten() {
            let squares = sum.to_dtype(DType::F64)?.sqr()?.sum_all()?;
            total += squares.to_scalar::<f64>()?;
        }
        Ok(total.sqrt())
    }
}

/// Settings of [`AdamW`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled, on matrices.
    pub weight_decay: f64,
}

/// The optimiser.
#[derive(Debug)]
pub struct AdamW {
    settings: Settings,
    steps: u64,
    moments: Vec<[Tensor; 2]>,
}

impl AdamW {
    /// Moments of zero.
    pub fn new(params: &[Param], settings: Settings) -> Result<Self, TrainError> {
        let zero = |p: &Param| -> Result<[Tensor; 2], TrainError> {
            Ok([p.var.zeros_like()?, p.var.zeros_like()?])
        };
        Ok(Self {
            settings,
            steps: 0,
            moments: params.iter().map(zero).collect::<Result<_, _>>()?,
        })
    }

    /// One step; gradients are multiplied by `scale` first. A parameter without a gradient stays as it is.
    pub fn step(
        &mut self,
        params: &[Param],
        gradients: &Gradients,
        lr: f64,
        scale: f64,
    ) -> Result<(), TrainError> {
        self.steps += 1;
        let [b1, b2] = self.settings.betas;
        let correct = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (c1, c2) = (correct(b1), correct(b2));
        for (i, (param, [first, second])) in params.iter().zip(&mut self.moments).enumerate() {
            let Some(gradient) = gradients.get(i) else {
                continue;
            };
            let gradient = (gradient * scale)?;
            *first = ((&*first * b1)? + (&gradient * (1.0 - b1))?)?;
            *second = ((&*second * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
            let denominator = ((&*second / c2)?.sqrt()? + self.settings.eps)?;
            let update = ((&*first / c1)? / denominator)?;
            let decay = if param.decay {
                1.0 - lr * self.settings.weight_decay
            } else {
                1.0
            };
            let value = ((param.var.as_detached_tensor() * decay)? - (update * lr)?)?;
            param.var.set(&value)?;
        }
        Ok(())
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments by name: `NAME.exp_avg` and `NAME.exp_avg_sq`.
    pub fn state(&self, params: &[Param]) -> Vec<(String, Tensor)> {
        let both = |(p, [first, second]): (&Param, &[Tensor; 2])| {
            [
                (format!("{}.exp_avg", p.name), first.clone()),
                (format!("{}.exp_avg_sq", p.name), second.clone()),
            ]
        };
        params.iter().zip(&self.moments).flat_map(both).collect()
    }

    /// Takes over what [`Self::state`] gave; the name of the first that is not there otherwise.
    pub fn restore(
        &mut self,
        params: &[Param],
        steps: u64,
        saved: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<(), String> {
        let fetch = |param: &Param, part: &str| {
            let name = format!("{}.{part}", param.name);
            let fits = |t: &Tensor| t.dims() == param.var.dims();
            saved(&name).filter(fits).ok_or(name)
        };
        let mut moments = Vec::with_capacity(params.len());
        for param in params {
            moments.push([fetch(param, "exp_avg")?, fetch(param, "exp_avg_sq")?]);
        }
        self.moments = moments;
        self.steps = steps;
        Ok(())
    }
}
