//! Each loss written densely in candle, in f64, with candle's autograd: another way to the same gradients.

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::trainer::Given;
use super::super::*;
use crate::train::params::Params;

type T = candle_core::Result<Tensor>;

struct Vars {
    w_enc: Var,
    w_dec: Var,
    b_enc: Var,
    b_dec: Var,
    gate: Option<[Var; 2]>,
    threshold: Option<Var>,
    w_skip: Option<Var>,
}

fn var(numbers: &[f32], shape: &[usize]) -> Var {
    let wide: Vec<f64> = numbers.iter().map(|x| f64::from(*x)).collect();
    Var::from_tensor(&Tensor::from_vec(wide, shape, &Device::Cpu).unwrap()).unwrap()
}

impl Vars {
    fn new(p: &Params, shape: &Shape) -> Self {
        let (f, d_in, d_out) = (p.b_enc.len(), shape.d_in, shape.d_out());
        let some = |x: &Vec<f32>, shape: &[usize]| (!x.is_empty()).then(|| var(x, shape));
        Self {
            w_enc: var(&p.w_enc, &[f, d_in]),
            w_dec: var(&p.w_dec, &[f, d_out]),
            b_enc: var(&p.b_enc, &[f]),
            b_dec: var(&p.b_dec, &[d_out]),
            gate: some(&p.r_mag, &[f])
                .zip(some(&p.b_mag, &[f]))
                .map(|(r, b)| [r, b]),
            threshold: some(&p.threshold, &[f]),
            w_skip: some(&p.w_skip, &[d_out, d_in]),
        }
    }
}

struct Twin<'a> {
    v: &'a Vars,
    shape: &'a Shape,
    recipe: &'a Recipe,
    x: Tensor,
    y: Tensor,
    dead: &'a [u32],
}

fn mask_of(x: &Tensor, keep: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>) -> T {
    let rows: Vec<Vec<f64>> = x.to_vec2()?;
    Tensor::new(keep(&rows), &Device::Cpu)
}

fn above(x: &Tensor, bound: f64) -> T {
    mask_of(x, |rows| {
        let one = |v: &f64| f64::from(u8::from(*v > bound));
        rows.iter()
            .map(|row| row.iter().map(one).collect())
            .collect()
    })
}

impl Twin<'_> {
    fn norms(&self) -> T {
        let mut at = 0;
        let mut sum: Option<Tensor> = None;
        for &block in &self.shape.blocks {
            let part = self.v.w_dec.narrow(1, at, block)?.sqr()?.sum(1)?.sqrt()?;
            sum = Some(match sum {
                None => part,
                Some(sum) => (sum + part)?,
            });
            at += block;
        }
        Ok(sum.unwrap())
    }

    fn input(&self) -> T {
        if self.recipe.centred && !self.shape.transcoder {
            return self.x.broadcast_sub(&self.v.b_dec);
        }
        Ok(self.x.clone())
    }

    fn decode(&self, codes: &Tensor) -> T {
        let out = codes.matmul(&self.v.w_dec)?.broadcast_add(&self.v.b_dec)?;
        match &self.v.w_skip {
            None => Ok(out),
            Some(skip) => out + self.x.matmul(&skip.t()?)?,
        }
    }

    fn mse(out: &Tensor, target: &Tensor) -> T {
        (out - target)?.sqr()?.sum(1)?.mean(0)
    }

    fn pre(&self) -> T {
        self.input()?
            .matmul(&self.v.w_enc.t()?)?
            .broadcast_add(&self.v.b_enc)
    }

    fn loss(&self) -> T {
        match &self.recipe.architecture {
            Architecture::Relu { l1, by_norm, .. } => {
                let codes = self.pre()?.relu()?;
                let weighted = if *by_norm {
                    codes.broadcast_mul(&self.norms()?)?
                } else {
                    codes.clone()
                };
                Self::mse(&self.decode(&codes)?, &self.y)? + (weighted.sum(1)?.mean(0)? * *l1)?
            }
            Architecture::TopK { k, options } => {
                let scaled = self.scaled(options)?;
                let mask = mask_of(&scaled, |rows| {
                    rows.iter().map(|row| top(row, *k, 0.0)).collect()
                })?;
                self.fixed_k(&scaled, &mask, options, &[self.recipe.d_sae], false)
            }
            Architecture::BatchTopK { k, options, .. } => {
                let (scaled, mask) = self.batch(*k, options)?;
                self.fixed_k(&scaled, &mask, options, &[self.recipe.d_sae], false)
            }
            Architecture::Matryoshka {
                k, levels, options, ..
            } => {
                let (scaled, mask) = self.batch(*k, options)?;
                let mut widths = levels.widths.clone();
                if widths.last() != Some(&self.recipe.d_sae) {
                    widths.push(self.recipe.d_sae);
                }
                self.fixed_k(&scaled, &mask, options, &widths, levels.own_aux)
            }
            Architecture::Gated {
                l1, frozen_decoder, ..
            } => self.gated(*l1, *frozen_decoder),
            Architecture::JumpRelu {
                bandwidth,
                l0,
                sparsity,
                pre_act,
                to_input,
                ..
            } => self.jump_relu(*bandwidth, *l0, *sparsity, *pre_act, *to_input),
        }
    }

    fn scaled(&self, options: &TopKOptions) -> T {
        if options.by_norm {
            return self.pre()?.broadcast_mul(&self.norms()?);
        }
        self.pre()
    }

    fn batch(&self, k: f64, options: &TopKOptions) -> candle_core::Result<(Tensor, Tensor)> {
        let scaled = self.scaled(options)?;
        let mask = mask_of(&scaled, |rows| {
            let flat: Vec<f64> = rows.concat();
            let kept = top(&flat, (k * rows.len() as f64) as usize, 0.0);
            kept.chunks(rows[0].len()).map(<[f64]>::to_vec).collect()
        })?;
        Ok((scaled, mask))
    }

    /// Codes in units of the norm, divided by it before decoding, as SAELens writes it down.
    fn fixed_k(
        &self,
        scaled: &Tensor,
        mask: &Tensor,
        options: &TopKOptions,
        widths: &[usize],
        own_aux: bool,
    ) -> T {
        let norms = if options.by_norm {
            self.norms()?
        } else {
            Tensor::ones(self.recipe.d_sae, DType::F64, &Device::Cpu)?
        };
        let codes = (scaled * mask)?.broadcast_div(&norms)?;
        let mut total: Option<Tensor> = None;
        let mut add = |term: Tensor| -> candle_core::Result<()> {
            total = Some(match total.take() {
                None => term,
                Some(total) => (total + term)?,
            });
            Ok(())
        };
        let mut from = 0;
        for (level, &to) in widths.iter().enumerate() {
            let inside = |l: usize| f64::from(u8::from(l < to));
            let prefix: Vec<f64> = (0..self.recipe.d_sae).map(inside).collect();
            let prefix = Tensor::new(prefix, &Device::Cpu)?;
            let out = self.decode(&codes.broadcast_mul(&prefix)?)?;
            add(Self::mse(&out, &self.y)?)?;
            if own_aux || level + 1 == widths.len() {
                let own = if own_aux {
                    from..to
                } else {
                    0..self.recipe.d_sae
                };
                let of_own = |l: &&u32| own.contains(&(**l as usize));
                let dead: Vec<u32> = self.dead.iter().filter(of_own).copied().collect();
                if !dead.is_empty() {
                    add(self.auxk(scaled, &norms, &out, &dead, options.aux)?)?;
                }
            }
            from = to;
        }
        Ok(total.unwrap())
    }

    fn auxk(
        &self,
        scaled: &Tensor,
        norms: &Tensor,
        out: &Tensor,
        dead: &[u32],
        coefficient: f64,
    ) -> T {
        let most = self.shape.d_out() / 2;
        let scale = coefficient * (dead.len() as f64 / most as f64).min(1.0);
        let mask = mask_of(scaled, |rows| {
            let of_row = |row: &Vec<f64>| {
                let only: Vec<f64> = (0..row.len())
                    .map(|l| {
                        if dead.contains(&(l as u32)) {
                            row[l]
                        } else {
                            f64::NEG_INFINITY
                        }
                    })
                    .collect();
                top(&only, most.min(dead.len()), f64::NEG_INFINITY)
            };
            rows.iter().map(of_row).collect()
        })?;
        let codes = (scaled * mask)?.broadcast_div(norms)?;
        let residual = (&self.y - out)?.detach();
        Self::mse(&codes.matmul(&self.v.w_dec)?, &residual)? * scale
    }

    fn gated(&self, l1: f64, frozen: bool) -> T {
        let [r, b_mag] = self.v.gate.as_ref().unwrap();
        let product = self.input()?.matmul(&self.v.w_enc.t()?)?;
        let gate = product.broadcast_add(&self.v.b_enc)?;
        let magnitude = product
            .broadcast_mul(&r.exp()?)?
            .broadcast_add(b_mag)?
            .relu()?;
        let codes = (magnitude * above(&gate, 0.0)?)?;
        let open = gate.relu()?;
        let (w_dec, b_dec, norms) = if frozen {
            (
                self.v.w_dec.detach(),
                self.v.b_dec.detach(),
                self.norms()?.detach(),
            )
        } else {
            (
                self.v.w_dec.as_tensor().clone(),
                self.v.b_dec.as_tensor().clone(),
                self.norms()?,
            )
        };
        let mut alone = open.matmul(&w_dec)?.broadcast_add(&b_dec)?;
        if let Some(skip) = &self.v.w_skip {
            let skip = if frozen {
                skip.detach()
            } else {
                skip.as_tensor().clone()
            };
            alone = (alone + self.x.matmul(&skip.t()?)?)?;
        }
        let penalty = (open.broadcast_mul(&norms)?.sum(1)?.mean(0)? * l1)?;
        (Self::mse(&self.decode(&codes)?, &self.y)? + penalty)? + Self::mse(&alone, &self.y)?
    }
}

/// JumpReLU by its pseudo-derivatives (Rajamanoharan et al. 2024, equations 11 and 12, with a rectangle as kernel).
impl Twin<'_> {
    /// Codes and steps `[rows, d_sae]` that have the right values, and whose autograd is the estimator: where `z` lies within
    /// half a bandwidth of `θ`, `∂code/∂θ = −θ/ε` and `∂step/∂θ = −1/ε`, elsewhere 0; `∂code/∂z` is the step, and with
    /// `to_input` (Anthropic) what `θ` feels, `z` feels with the other sign.
    fn estimated(
        &self,
        pre: &Tensor,
        bandwidth: f64,
        to_input: bool,
    ) -> candle_core::Result<[Tensor; 2]> {
        let theta = self.v.threshold.as_ref().unwrap().as_tensor();
        let beyond = pre.broadcast_sub(theta)?.detach();
        let fires = above(&beyond, 0.0)?;
        let window = (above(&beyond, -bandwidth / 2.0)? - above(&beyond, bandwidth / 2.0)?)?;
        // 0 in value, 1 in slope.
        let mut moved = theta.sub(&theta.detach())?.broadcast_as(pre.shape())?;
        if to_input {
            moved = (moved - pre.sub(&pre.detach())?)?;
        }
        let felt = ((window * moved)? / bandwidth)?;
        let codes = ((pre * &fires)? - felt.broadcast_mul(&theta.detach())?)?;
        Ok([codes, (fires - felt)?])
    }

    fn jump_relu(
        &self,
        bandwidth: f64,
        l0: f64,
        sparsity: Sparsity,
        pre_act: f64,
        to_input: bool,
    ) -> T {
        let pre = self.pre()?;
        let [codes, steps] = self.estimated(&pre, bandwidth, to_input)?;
        let by_row = match sparsity {
            Sparsity::Step => steps.sum(1)?,
            Sparsity::Target(target) => ((steps.sum(1)? - target)?.sqr()? * (2.0 / target))?,
            Sparsity::Tanh(scale) => (codes.broadcast_mul(&self.norms()?)? * scale)?
                .tanh()?
                .sum(1)?,
        };
        let loss = (Self::mse(&self.decode(&codes)?, &self.y)? + (by_row.mean(0)? * l0)?)?;
        if pre_act == 0.0 {
            return Ok(loss);
        }
        let theta = self.v.threshold.as_ref().unwrap();
        let short = theta.broadcast_sub(&pre)?.relu()?;
        let dead = |l: usize| f64::from(u8::from(self.dead.contains(&(l as u32))));
        let dead: Vec<f64> = (0..self.recipe.d_sae).map(dead).collect();
        let weight = (self.norms()? * Tensor::new(dead, &Device::Cpu)?)?;
        loss + (short.broadcast_mul(&weight)?.sum(1)?.mean(0)? * pre_act)?
    }
}

/// 1 at the `k` largest above a bound, 0 elsewhere.
fn top(row: &[f64], k: usize, bound: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..row.len()).filter(|&i| row[i] > bound).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    let mut mask = vec![0.0; row.len()];
    order.iter().take(k).for_each(|&i| mask[i] = 1.0);
    mask
}

const ROWS: usize = 12;

fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn compare(recipe: Recipe, shape: Shape) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let x = random(&mut rng, ROWS * shape.d_in);
    let y = if shape.transcoder {
        random(&mut rng, ROWS * shape.d_out())
    } else {
        x.clone()
    };
    let rows = ndarray::Array2::zeros((1, shape.d_out()));
    let mut trainer = Trainer::new(recipe.clone(), shape.clone(), rows.view(), 1.0).unwrap();
    for (name, numbers) in trainer.params.named_mut() {
        let moved = random(&mut rng, numbers.len());
        let size = if name.starts_with('W') { 0.5 } else { 0.2 };
        numbers
            .iter_mut()
            .zip(moved)
            .for_each(|(x, m)| *x += size * m);
    }
    // As a step begins: a threshold is never below 0.
    for threshold in &mut trainer.params.threshold {
        *threshold = threshold.abs();
    }
    let dead: Vec<u32> = (0..recipe.d_sae as u32).filter(|l| l % 3 == 0).collect();
    let mut threshold = trainer.threshold;
    let target = shape.transcoder.then_some(y.as_slice());
    let pass = trainer.pass(Given::of(&x, target, ROWS, &dead), &mut threshold);
    let vars = Vars::new(&trainer.params, &shape);
    let twin = Twin {
        v: &vars,
        shape: &shape,
        recipe: &recipe,
        x: var(&x, &[ROWS, shape.d_in]).detach(),
        y: var(&y, &[ROWS, shape.d_out()]).detach(),
        dead: &dead,
    };
    let loss = twin.loss().unwrap();
    let found: f64 = pass.losses.iter().map(|(_, loss)| loss).sum();
    let expected: f64 = loss.to_scalar().unwrap();
    let name = recipe.architecture.name();
    assert!(
        (found / expected - 1.0).abs() < 1e-5,
        "{name}: {found} {expected}"
    );
    let grads = loss.backward().unwrap();
    let mut pairs = vec![
        ("W_enc", &vars.w_enc, &pass.grads.w_enc),
        ("W_dec", &vars.w_dec, &pass.grads.w_dec),
        ("b_enc", &vars.b_enc, &pass.grads.b_enc),
        ("b_dec", &vars.b_dec, &pass.grads.b_dec),
    ];
    if let Some([r, b]) = &vars.gate {
        pairs.push(("r_mag", r, &pass.grads.r_mag));
        pairs.push(("b_mag", b, &pass.grads.b_mag));
    }
    if let Some(threshold) = &vars.threshold {
        pairs.push(("threshold", threshold, &pass.grads.threshold));
    }
    if let Some(skip) = &vars.w_skip {
        pairs.push(("W_skip", skip, &pass.grads.w_skip));
    }
    for (what, var, found) in pairs {
        let expected: Vec<f64> = grads
            .get(var)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let size = expected.iter().map(|g| g.abs()).fold(1e-6, f64::max);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 2e-5 * size, "{name} {what} {i}: {found} {expected}");
        }
    }
}

fn architectures() -> Vec<Architecture> {
    let options = |by_norm| TopKOptions {
        aux: 0.7,
        by_norm,
        ..TopKOptions::default()
    };
    let warmup = Warmup::default();
    let mut all = Vec::new();
    for (sparsity, pre_act) in [
        (Sparsity::Step, 0.0),
        (Sparsity::Step, 0.4),
        (Sparsity::Target(3.0), 0.0),
        (Sparsity::Tanh(1.5), 0.2),
    ] {
        for to_input in [false, true] {
            all.push(Architecture::JumpRelu {
                threshold: 0.2,
                bandwidth: 0.6,
                l0: 0.3,
                warmup,
                sparsity,
                pre_act,
                to_input,
            });
        }
    }
    for flag in [true, false] {
        all.push(Architecture::Relu {
            l1: 0.3,
            warmup,
            by_norm: flag,
        });
        all.push(Architecture::TopK {
            k: 5,
            options: options(flag),
        });
        all.push(Architecture::BatchTopK {
            k: 4.5,
            options: options(flag),
            threshold_rate: 0.01,
        });
        all.push(Architecture::Gated {
            l1: 0.3,
            warmup,
            frozen_decoder: flag,
        });
        for own_aux in [true, false] {
            all.push(Architecture::Matryoshka {
                k: 6.0,
                levels: Levels {
                    widths: vec![5, 17],
                    own_aux,
                },
                options: options(flag),
                threshold_rate: 0.01,
            });
        }
    }
    all
}

#[test]
fn autoencoders_have_the_dense_twins_gradients() {
    for architecture in architectures() {
        for centred in [true, false] {
            let recipe = Recipe {
                centred,
                init_norm: 0.8,
                ..Recipe::new(37, architecture.clone())
            };
            compare(recipe, Shape::autoencoder(19));
        }
    }
}

#[test]
fn transcoders_skips_and_crosscoders_have_them_too() {
    for architecture in architectures() {
        for (transcoder, skip, d_in, blocks) in [
            (true, false, 14, vec![19]),
            (true, true, 14, vec![19]),
            (false, false, 18, vec![8, 10]),
        ] {
            let shape = Shape {
                d_in,
                blocks,
                transcoder,
                skip,
            };
            let recipe = Recipe {
                init_norm: 0.8,
                ..Recipe::new(37, architecture.clone())
            };
            compare(recipe, shape);
        }
    }
}
