//! AdamW (Loshchilov and Hutter 2019) with PyTorch's arithmetic: decoupled decay, both moments bias-corrected, epsilon
//! added after the corrected root. One pass over memory a parameter, in place.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::{CHUNK, Gradients, in_place};
use crate::lanes::{Kernel, Lanes, run};
use crate::view::rows;

/// The constants of AdamW; defaults are PyTorch's, but for the decay, which is 0 as in the trainers of the field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub eps: f64,
    /// A parameter shrinks by `lr · weight_decay` of itself before each step.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// The optimiser and its state, kept by the parameters' names.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    /// Parameters that do not decay: norms and biases.
    exempt: Vec<String>,
    moments: BTreeMap<String, Moments>,
}

/// What is remembered of one parameter.
#[derive(Debug, Clone)]
struct Moments {
    shape: Vec<usize>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
}

/// Ends of the names of the state's tensors, as PyTorch calls them.
const PARTS: [&str; 3] = ["exp_avg", "exp_avg_sq", "step"];

impl AdamW {
    /// An optimiser without state. The parameters named in `exempt` do not decay.
    pub fn new(options: AdamWOptions, exempt: impl IntoIterator<Item = String>) -> Self {
        let mut exempt: Vec<String> = exempt.into_iter().collect();
        exempt.sort_unstable();
        Self {
            options,
            exempt,
            moments: BTreeMap::new(),
        }
    }

    /// The constants.
    pub fn options(&self) -> AdamWOptions {
        self.options
    }

    /// Steps taken for the parameter that has taken most.
    pub fn steps(&self) -> u64 {
        self.moments.values().map(|m| m.steps).max().unwrap_or(0)
    }

    /// One step of every parameter that has a gradient, at learning rate `lr`; the others stay, undecayed, as in PyTorch.
    ///
    /// # Errors
    /// Another number of parameters than of gradients, or a parameter that is not `f32` on the CPU, by name; then the
    /// parameters before it in the list have been changed.
    pub fn step(&mut self, params: &[(String, Var)], grads: &Gradients, lr: f64) -> Result<()> {
        grads.check(params)?;
        let (grads, factor) = grads.parts();
        for ((name, var), grad) in params.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            if var.dtype() != DType::F32 || !var.device().is_cpu() || grad.dims() != var.dims() {
                bail!(
                    "adamw: {name} is {:?} {:?} with a gradient {:?}; expected f32 on the cpu, of one shape",
                    var.dtype(),
                    var.dims(),
                    grad.dims()
                );
            }
            let decays = self.exempt.binary_search(name).is_err();
            let moments = self.moments.entry(name.clone()).or_insert_with(|| Moments {
                shape: var.dims().to_vec(),
                first: vec![0.0; var.elem_count()],
                second: vec![0.0; var.elem_count()],
                steps: 0,
            });
            if moments.shape != var.dims() {
                bail!(
                    "adamw: the state of {name} has shape {:?}, the parameter {:?}",
                    moments.shape,
                    var.dims()
                );
            }
            moments.steps += 1;
            let rate = Rate::new(self.options, moments.steps, lr, decays, factor);
            rows(grad, |grad| {
                in_place(var, name, |param| {
                    let both = [moments.first.as_mut_slice(), moments.second.as_mut_slice()];
                    in_chunks(param, grad, both, rate);
                })
            })?;
        }
        Ok(())
    }

    /// The state as named tensors: `NAME.exp_avg` and `NAME.exp_avg_sq` of the parameter's shape, `NAME.step` a number.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(3 * self.moments.len());
        for (name, m) in &self.moments {
            let whole = |x: &[f32]| Tensor::from_slice(x, m.shape.as_slice(), &Device::Cpu);
            let steps = Tensor::new(m.steps as i64, &Device::Cpu)?;
            let parts = [whole(&m.first)?, whole(&m.second)?, steps];
            let names = PARTS.map(|part| format!("{name}.{part}"));
            state.extend(names.into_iter().zip(parts));
        }
        Ok(state)
    }

    /// Puts back what [`Self::state`] gave, in place of all present state.
    ///
    /// # Errors
    /// A tensor that is missing, superfluous, or of another shape than its parameter, by name; the state is then as before.
    pub fn restore(
        &mut self,
        params: &[(String, Var)],
        state: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = state.into_iter().collect();
        let mut moments = BTreeMap::new();
        for (name, var) in params {
            let [first, second, steps] = PARTS.map(|part| state.remove(&format!("{name}.{part}")));
            let (first, second, steps) = match (first, second, steps) {
                (Some(first), Some(second), Some(steps)) => (first, second, steps),
                // A parameter that has not taken a step has no state.
                (None, None, None) => continue,
                _ => bail!("adamw: the state of {name} is not whole; expected {PARTS:?}"),
            };
            for x in [&first, &second] {
                if x.dims() != var.dims() || x.dtype() != DType::F32 {
                    bail!(
                        "adamw: the state of {name} is {:?} {:?}, expected f32 {:?}",
                        x.dtype(),
                        x.dims(),
                        var.dims()
                    );
                }
            }
            let steps = steps.to_dtype(DType::I64)?.to_scalar::<i64>()?;
            let Ok(steps) = u64::try_from(steps) else {
                bail!("adamw: {name} has taken {steps} steps");
            };
            let flat = |x: Tensor| x.flatten_all()?.to_vec1::<f32>();
            let found = Moments {
                shape: var.dims().to_vec(),
                first: flat(first)?,
                second: flat(second)?,
                steps,
            };
            moments.insert(name.clone(), found);
        }
        if let Some(name) = state.keys().next() {
            bail!("adamw: the state holds {name}, which is of no parameter");
        }
        self.moments = moments;
        Ok(())
    }
}

/// One step of bare numbers: a parameter, its gradient times `factor`, and its two moments, all of one length. `steps`
/// counts this step, from 1.
///
/// # Panics
/// If the lengths differ.
pub fn adamw_slice(
    param: &mut [f32],
    grad: &[f32],
    [first, second]: [&mut [f32]; 2],
    options: AdamWOptions,
    steps: u64,
    lr: f64,
    factor: f32,
) {
    let lengths = [grad.len(), first.len(), second.len()];
    assert_eq!(lengths, [param.len(); 3]);
    let rate = Rate::new(options, steps, lr, true, factor);
    in_chunks(param, grad, [first, second], rate);
}

fn in_chunks(param: &mut [f32], grad: &[f32], [first, second]: [&mut [f32]; 2], rate: Rate) {
    let chunks = param
        .par_chunks_mut(CHUNK)
        .zip(grad.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK))
        .zip(second.par_chunks_mut(CHUNK));
    chunks.for_each(|(((param, grad), first), second)| {
        run(Chunk {
            param,
            grad,
            first,
            second,
            rate,
        });
    });
}

/// The numbers of one step of one parameter.
#[derive(Clone, Copy)]
struct Rate {
    /// What gradients are multiplied by first.
    factor: f32,
    keep: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    /// `√(1 - β₂ᵗ)`.
    root: f32,
    /// `lr / (1 - β₁ᵗ)`.
    step: f32,
}

impl Rate {
    fn new(o: AdamWOptions, steps: u64, lr: f64, decays: bool, factor: f32) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        let decay = if decays { o.weight_decay } else { 0.0 };
        Self {
            factor,
            keep: (1.0 - lr * decay) as f32,
            rest1: (1.0 - o.beta1) as f32,
            beta2: o.beta2 as f32,
            rest2: (1.0 - o.beta2) as f32,
            eps: o.eps as f32,
            root: correction(o.beta2).sqrt() as f32,
            step: (lr / correction(o.beta1)) as f32,
        }
    }
}

/// Part of one parameter, all of one length.
struct Chunk<'a> {
    param: &'a mut [f32],
    grad: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    rate: Rate,
}

impl Kernel for Chunk<'_> {
    type Out = ();
    // A plain loop that the compiler widens to the level's vectors; no fused steps, so every level gives the same bits.
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let r = self.rate;
        let moments = self.first.iter_mut().zip(self.second.iter_mut());
        for ((param, &grad), (first, second)) in self.param.iter_mut().zip(self.grad).zip(moments) {
            let grad = grad * r.factor;
            *first += r.rest1 * (grad - *first);
            *second = *second * r.beta2 + r.rest2 * grad * grad;
            let root = second.sqrt() / r.root + r.eps;
            *param = *param * r.keep - r.step * *first / root;
        }
    }
}
