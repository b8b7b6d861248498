//! A dictionary in training, a batch at a time.

use candlescope_ops::AdamWOptions;
use candlescope_ops::sparse::{Entries, squares};
use ndarray::{Array1, Array2, ArrayView2};
use serde::Serialize;

use super::batch_topk::{self, Threshold};
use super::decoder::{decoder_norms, to_unit, without_parallel};
use super::jumprelu::{self, Jump};
use super::params::Params;
use super::pass::{Batch, Pass, back_centring, column_sums, matrix};
use super::recipe::{Architecture, DecoderNorm, Recipe, Shape};
use super::resample::resample;
use super::through::{Felt, Through};
use super::{gated, init, matryoshka, relu, topk};
use crate::dictionary::{finite, shape};
use crate::{About, Activation, Dictionary, Parts, SaeError, Scaling};

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps so far, this one included.
    pub step: u64,
    /// Rows so far.
    pub rows: u64,
    /// All terms of the loss together: squared error summed over the width, averaged over rows, and what the architecture adds.
    pub loss: f64,
    /// Its terms by name.
    pub losses: Vec<(&'static str, f64)>,
    /// Latents that fired in a row, on average.
    pub l0: f64,
    /// `Σ |x̂ - y|² / Σ |y - mean of the batch|²` (sparsify's).
    pub fvu: f64,
    /// Latents that have been silent for too long.
    pub dead: usize,
    /// Latents that started anew.
    pub resampled: usize,
    /// The norm of all gradients as one vector, before the limit.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// The threshold of inference, where a batch decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// A dictionary in training.
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(super) recipe: Recipe,
    pub(super) shape: Shape,
    pub(super) params: Params,
    pub(super) moments: [Params; 2],
    /// Rows since each latent last fired.
    pub(super) silent: Vec<u64>,
    pub(super) threshold: Threshold,
    pub(super) step: u64,
    pub(super) rows: u64,
    /// What rows are multiplied with before anything else; folded into the weights of the dictionary.
    pub(super) scale: f32,
}

/// Rows as one slice.
fn flat<'a>(what: &str, rows: &'a ArrayView2<f32>, width: usize) -> Result<&'a [f32], SaeError> {
    shape(what, &[rows.nrows(), width], rows.shape())?;
    finite(what, *rows)?;
    rows.as_slice().ok_or_else(|| SaeError::Unsupported {
        what: what.into(),
        why: "rows must lie one after the other in memory".into(),
    })
}

impl Trainer {
    /// A dictionary with its first weights. `first` are targets `[n, d_out]` that `b_dec` may start from; all rows are
    /// multiplied with `scale` (see [`unit_scale`](Self::unit_scale)).
    ///
    /// # Errors
    /// A recipe that cannot be trained, rows of another width, a scale that is not a number above 0.
    pub fn new(
        recipe: Recipe,
        shape: Shape,
        first: ArrayView2<f32>,
        scale: f32,
    ) -> Result<Self, SaeError> {
        recipe.check(&shape)?;
        let recipe = Recipe {
            // What is taken off the input is the mean of what is written, which is something else here.
            centred: recipe.centred && !shape.transcoder,
            ..recipe
        };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(SaeError::Range {
                what: "scale",
                found: scale.to_string(),
                allowed: "numbers above 0".into(),
            });
        }
        if !shape.transcoder && shape.d_in != shape.d_out() {
            return Err(SaeError::Shape {
                what: "widths read and written by an autoencoder".into(),
                expected: vec![shape.d_in],
                found: vec![shape.d_out()],
            });
        }
        let targets: Vec<f32> = flat("first rows", &first, shape.d_out())?
            .iter()
            .map(|x| x * scale)
            .collect();
        let mut params = init::params(&recipe, &shape, &targets);
        if recipe.decoder_norm == DecoderNorm::Unit {
            to_unit(&mut params.w_dec, shape.d_out());
        }
        let moments = [params.zeros(), params.zeros()];
        Ok(Self {
            silent: vec![0; recipe.d_sae],
            recipe,
            shape,
            params,
            moments,
            threshold: Threshold::default(),
            step: 0,
            rows: 0,
            scale,
        })
    }

    /// The factor that brings rows `[n, d]` to a mean norm of `√d` (SAELens's `expected_average_only_in`).
    ///
    /// # Errors
    /// No rows, rows of zeros, or values that are not finite.
    pub fn unit_scale(rows: ArrayView2<f32>) -> Result<f32, SaeError> {
        finite("rows", rows)?;
        let norm = |row: ndarray::ArrayView1<f32>| {
            row.iter()
                .map(|x| f64::from(*x).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let total: f64 = rows.outer_iter().map(norm).sum();
        let scale = (rows.ncols() as f64).sqrt() * rows.nrows() as f64 / total;
        if scale.is_finite() && scale > 0.0 {
            return Ok(scale as f32);
        }
        Err(SaeError::Range {
            what: "mean norm of the rows",
            found: format!("{total}, summed over {} rows", rows.nrows()),
            allowed: "numbers above 0".into(),
        })
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Latents that have been silent for too long, rising.
    pub fn dead(&self) -> Vec<u32> {
        let after = match self.recipe.dead.after {
            0 => return Vec::new(),
            after => after,
        };
        (0..)
            .zip(&self.silent)
            .filter(|(_, rows)| **rows > after)
            .map(|(l, _)| l)
            .collect()
    }

    /// One step on rows `[n, d_in]`, and for a transcoder what they are to become, `[n, d_out]`.
    ///
    /// # Errors
    /// No rows, rows of another width, values that are not finite, targets for an autoencoder or none for a transcoder,
    /// and a loss that is not finite any more: then nothing has changed.
    pub fn step(
        &mut self,
        inputs: ArrayView2<f32>,
        targets: Option<ArrayView2<f32>>,
    ) -> Result<StepReport, SaeError> {
        self.step_through(inputs, targets, None, None)
    }

    /// A step in which another loss pulls at the reconstruction too, and which may have a learning rate of its own.
    ///
    /// # Errors
    /// As [`Self::step`], and a gradient of another shape.
    pub fn step_through(
        &mut self,
        inputs: ArrayView2<f32>,
        targets: Option<ArrayView2<f32>>,
        through: Option<Through>,
        lr: Option<f64>,
    ) -> Result<StepReport, SaeError> {
        let rows = inputs.nrows();
        if rows == 0 {
            return Err(SaeError::Range {
                what: "rows of a batch",
                found: "0".into(),
                allowed: "1 or more".into(),
            });
        }
        let scaled = |rows: &[f32]| rows.iter().map(|x| x * self.scale).collect::<Vec<f32>>();
        let raw = scaled(flat("rows", &inputs, self.shape.d_in)?);
        let target = match (&targets, self.shape.transcoder) {
            (Some(targets), true) => {
                shape("targets", &[rows, self.shape.d_out()], targets.shape())?;
                Some(scaled(flat("targets", targets, self.shape.d_out())?))
            }
            (None, false) => None,
            (found, _) => {
                let found = if found.is_some() {
                    "targets"
                } else {
                    "no targets"
                };
                return Err(SaeError::Unsupported {
                    what: found.into(),
                    why: "a transcoder has targets, an autoencoder's are its rows".into(),
                });
            }
        };
        if let Some(through) = &through {
            let found = [through.gradient.len()];
            shape(
                "gradient behind the dictionary",
                &[rows * self.shape.d_out()],
                &found,
            )?;
        }
        for threshold in &mut self.params.threshold {
            // Below 0 the gate would let negative numbers pass.
            *threshold = threshold.max(0.0);
        }
        let dead = self.dead();
        let mut next_threshold = self.threshold;
        let given = Given {
            raw: &raw,
            target: target.as_deref(),
            rows,
            dead: &dead,
            through,
        };
        let mut pass = self.pass(given, &mut next_threshold);
        let loss: f64 = pass.losses.iter().map(|(_, loss)| loss).sum();
        let grad_norm = self.limit(&mut pass);
        if !loss.is_finite() || !grad_norm.1.is_finite() {
            return Err(SaeError::Range {
                what: "loss",
                found: format!("{loss} at step {}, gradient {}", self.step + 1, grad_norm.1),
                allowed: "finite numbers: try a smaller learning rate".into(),
            });
        }
        let lr = lr.unwrap_or_else(|| self.recipe.lr * self.recipe.schedule.factor(self.step));
        self.update(&pass.grads, lr, grad_norm.0);
        self.threshold = next_threshold;
        self.step += 1;
        self.rows += rows as u64;
        self.count(&pass.codes, rows as u64);
        let target = target.as_deref().unwrap_or(&raw);
        let resampled = self.resample_if_due(rows as u64, &raw, target, &pass.error);
        Ok(StepReport {
            step: self.step,
            rows: self.rows,
            loss,
            l0: pass.codes.len() as f64 / rows as f64,
            fvu: pass.squares / spread(target, self.shape.d_out()),
            dead: dead.len(),
            resampled,
            grad_norm: grad_norm.1,
            lr,
            threshold: self.rate().map(|rate| self.threshold.unbiased(rate)),
            losses: pass.losses,
        })
    }

    /// What the next step would rebuild of rows `[n, d_in]`, in their units.
    ///
    /// # Errors
    /// As [`Self::step`]; a transcoder.
    pub fn rebuilt(&self, inputs: ArrayView2<f32>) -> Result<Array2<f32>, SaeError> {
        if self.shape.transcoder {
            return Err(SaeError::Unsupported {
                what: "rebuilding rows in training".into(),
                why: "a transcoder writes other rows than it reads".into(),
            });
        }
        let raw: Vec<f32> = flat("rows", &inputs, self.shape.d_in)?
            .iter()
            .map(|x| x * self.scale)
            .collect();
        let given = Given {
            raw: &raw,
            target: None,
            rows: inputs.nrows(),
            dead: &[],
            through: None,
        };
        let pass = self.pass(given, &mut self.threshold.clone());
        let rebuilt = pass.error.iter().zip(&raw);
        let rebuilt: Vec<f32> = rebuilt.map(|(e, x)| (x + e) / self.scale).collect();
        Ok(matrix(&rebuilt, self.shape.d_in).to_owned())
    }

    pub(super) fn pass(&self, given: Given, threshold: &mut Threshold) -> Pass {
        let Given {
            raw,
            target,
            rows,
            dead,
            through,
        } = given;
        let centred = self.recipe.centred.then(|| {
            let bias = self.params.b_dec.iter().cycle();
            raw.iter()
                .zip(bias)
                .map(|(x, b)| x - b)
                .collect::<Vec<f32>>()
        });
        let batch = Batch {
            params: &self.params,
            input: centred.as_deref().unwrap_or(raw),
            raw,
            target: target.unwrap_or(raw),
            rows,
            d_in: self.shape.d_in,
            d_out: self.shape.d_out(),
            blocks: &self.shape.blocks,
            dead,
            felt: through.map(|through| Felt {
                through,
                scale: self.scale,
            }),
        };
        let (step, d_sae) = (self.step, self.recipe.d_sae);
        let mut pass = match &self.recipe.architecture {
            Architecture::Relu {
                l1,
                warmup,
                by_norm,
            } => relu::pass(&batch, l1 * warmup.factor(step), *by_norm),
            Architecture::TopK { k, options } => {
                let k = options.k_at(*k as f64, step, d_sae).round() as usize;
                topk::pass(&batch, k, *options)
            }
            Architecture::BatchTopK {
                k,
                options,
                threshold_rate,
            } => {
                let k = options.k_at(*k, step, d_sae);
                batch_topk::pass(&batch, k, *options, threshold, *threshold_rate)
            }
            Architecture::Matryoshka {
                k,
                levels,
                options,
                threshold_rate,
            } => {
                let k = options.k_at(*k, step, d_sae);
                matryoshka::pass(&batch, k, levels, *options, threshold, *threshold_rate)
            }
            Architecture::JumpRelu {
                bandwidth,
                l0,
                warmup,
                sparsity,
                pre_act,
                to_input,
                ..
            } => {
                let jump = Jump {
                    bandwidth: *bandwidth,
                    l0: l0 * warmup.factor(step),
                    sparsity: *sparsity,
                    pre_act: *pre_act,
                    to_input: *to_input,
                };
                jumprelu::pass(&batch, jump)
            }
            // Its biases are not its products' sums, so it does its own centring.
            Architecture::Gated {
                l1,
                warmup,
                frozen_decoder,
            } => {
                let l1 = l1 * warmup.factor(step);
                return gated::pass(&batch, l1, *frozen_decoder, self.recipe.centred);
            }
        };
        if self.recipe.centred {
            let sums = std::mem::take(&mut pass.grads.b_enc);
            back_centring(&self.params, &sums, self.shape.d_in, &mut pass.grads);
            pass.grads.b_enc = sums;
        }
        pass
    }

    /// The factor that keeps the gradient below its limit, and its norm before.
    fn limit(&self, pass: &mut Pass) -> (f32, f64) {
        if self.recipe.decoder_norm == DecoderNorm::Unit {
            without_parallel(
                &self.params.w_dec,
                &mut pass.grads.w_dec,
                self.shape.d_out(),
            );
        }
        let total: f64 = pass
            .grads
            .named()
            .iter()
            .map(|(_, grad)| squares(grad))
            .sum();
        let norm = total.sqrt();
        let factor = self
            .recipe
            .clip
            .map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0));
        (factor as f32, norm)
    }

    fn update(&mut self, grads: &Params, lr: f64, factor: f32) {
        let options = AdamWOptions {
            beta1: self.recipe.betas[0],
            beta2: self.recipe.betas[1],
            eps: self.recipe.eps,
            weight_decay: 0.0,
        };
        let [first, second] = &mut self.moments;
        let moments = first.named_mut().into_iter().zip(second.named_mut());
        let all = self
            .params
            .named_mut()
            .into_iter()
            .zip(grads.named())
            .zip(moments);
        for (((_, param), (_, grad)), ((_, first), (_, second))) in all {
            candlescope_ops::adamw_slice(
                param,
                grad,
                [first, second],
                options,
                self.step + 1,
                lr,
                factor,
            );
        }
        if self.recipe.decoder_norm == DecoderNorm::Unit {
            to_unit(&mut self.params.w_dec, self.shape.d_out());
        }
    }

    fn count(&mut self, codes: &Entries, rows: u64) {
        self.silent.iter_mut().for_each(|silent| *silent += rows);
        for &latent in &codes.latents {
            self.silent[latent as usize] = 0;
        }
    }

    fn resample_if_due(&mut self, rows: u64, raw: &[f32], target: &[f32], error: &[f32]) -> usize {
        let every = self.recipe.dead.resample_every;
        if every == 0 || self.rows / every == (self.rows - rows) / every {
            return 0;
        }
        let dead = self.dead();
        let off = |rows: &[f32], bias: &[f32]| -> Vec<f32> {
            rows.iter()
                .zip(bias.iter().cycle())
                .map(|(x, b)| x - b)
                .collect()
        };
        let target = off(target, &self.params.b_dec);
        let input = if self.shape.transcoder {
            raw
        } else {
            target.as_slice()
        };
        resample(self, &dead, input, &target, error)
    }

    fn rate(&self) -> Option<f64> {
        match self.recipe.architecture {
            Architecture::BatchTopK { threshold_rate, .. }
            | Architecture::Matryoshka { threshold_rate, .. } => Some(threshold_rate),
            _ => None,
        }
    }

    /// The dictionary as it stands, for rows as they are: the scale is folded into the weights, and where latents are
    /// compared in units of their decoder norm, that too, so that decoder rows have length 1. BatchTopK ends as JumpReLU.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn dictionary(&self, about: About) -> Result<Dictionary, SaeError> {
        let (d_sae, d_in, d_out) = (self.recipe.d_sae, self.shape.d_in, self.shape.d_out());
        let p = &self.params;
        let by_norm = match &self.recipe.architecture {
            Architecture::TopK { options, .. }
            | Architecture::BatchTopK { options, .. }
            | Architecture::Matryoshka { options, .. } => options.by_norm,
            Architecture::Relu { by_norm, .. } => *by_norm,
            Architecture::JumpRelu { .. } | Architecture::Gated { .. } => true,
        };
        let norms = if by_norm {
            let norms = decoder_norms(&p.w_dec, &self.shape.blocks);
            norms.iter().map(|n| n.max(f32::MIN_POSITIVE)).collect()
        } else {
            vec![1.0; d_sae]
        };
        let scale = self.scale;
        let matrix = |numbers: &[f32], width: usize, factor: &dyn Fn(usize) -> f32| {
            let rows = numbers.len() / width;
            Array2::from_shape_fn((rows, width), |(i, j)| numbers[i * width + j] * factor(i))
        };
        let times_norm = |numbers: &[f32]| -> Array1<f32> {
            numbers.iter().zip(&norms).map(|(x, n)| x * n).collect()
        };
        let activation = match &self.recipe.architecture {
            Architecture::Relu { .. } => Activation::Relu,
            Architecture::TopK { k, .. } => Activation::TopK { k: *k },
            Architecture::BatchTopK { threshold_rate, .. }
            | Architecture::Matryoshka { threshold_rate, .. } => Activation::JumpRelu {
                threshold: Array1::from_elem(
                    d_sae,
                    self.threshold.unbiased(*threshold_rate) as f32,
                ),
            },
            Architecture::JumpRelu { .. } => Activation::JumpRelu {
                threshold: times_norm(&p.threshold).mapv(|t| t.max(0.0)),
            },
            Architecture::Gated { .. } => Activation::Gated {
                log_scale: Array1::from(p.r_mag.clone()),
                magnitude_bias: times_norm(&p.b_mag),
            },
        };
        Dictionary::new(Parts {
            encoder: matrix(&p.w_enc, d_in, &|i| norms[i] * scale),
            decoder: matrix(&p.w_dec, d_out, &|i| 1.0 / (norms[i] * scale)),
            encoder_bias: times_norm(&p.b_enc),
            decoder_bias: p.b_dec.iter().map(|b| b / scale).collect(),
            centred: self.recipe.centred,
            activation,
            // Both sides of it are scaled alike.
            skip: (!p.w_skip.is_empty()).then(|| matrix(&p.w_skip, d_in, &|_| 1.0)),
            scaling: Scaling::None,
            about,
        })
    }
}

/// What a pass is made on, in scaled units.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub raw: &'a [f32],
    pub target: Option<&'a [f32]>,
    pub rows: usize,
    pub dead: &'a [u32],
    pub through: Option<Through<'a>>,
}

#[cfg(test)]
impl<'a> Given<'a> {
    /// Rows alone.
    pub fn of(raw: &'a [f32], target: Option<&'a [f32]>, rows: usize, dead: &'a [u32]) -> Self {
        Self {
            raw,
            target,
            rows,
            dead,
            through: None,
        }
    }
}

/// `Σ |y - mean|²`.
fn spread(rows: &[f32], width: usize) -> f64 {
    let count = (rows.len() / width) as f64;
    let sums: f64 = column_sums(rows, width)
        .iter()
        .map(|sum| sum * sum / count)
        .sum();
    squares(rows) - sums
}
