//! Activation functions of the MLP, alone or fused with the gate's product.

use candle_core::{Result, Tensor, bail};

use crate::exp;
use crate::grad::{Backward, record, tracks};
use crate::lanes::{Kernel, Lanes, run};
use crate::slope;
use crate::view::{f32_on_cpu, fill, fill_two, refuse_empty, rows};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)` (Elfwing et al. 2017), also called swish.
    Silu,
    /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`: the approximation of Hendrycks and Gimpel 2016.
    GeluTanh,
    /// `0.5 x (1 + erf(x / √2))`, exact.
    GeluErf,
    /// `max(x, 0)`, with gradient 0 at 0.
    Relu,
}

/// Applies `act` to each element; the shape is kept.
///
/// # Errors
/// An empty tensor, or a type without the arithmetic.
pub fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    refuse_empty("activation", "x", x)?;
    if !f32_on_cpu(&[x]) {
        return plain(x, act);
    }
    let y = rows(x, |values| Ok(map(values, None, act)))?;
    if tracks(x) {
        return record(&[x], x.dims(), y, Back(act));
    }
    Tensor::from_vec(y, x.dims(), x.device())
}

/// `act(gate) · up`, both of one shape.
///
/// # Errors
/// Empty tensors or shapes that differ.
pub fn gated(gate: &Tensor, up: &Tensor, act: Activation) -> Result<Tensor> {
    refuse_empty("gated", "gate", gate)?;
    if gate.dims() != up.dims() {
        bail!(
            "gated: gate {:?} and up {:?} differ in shape",
            gate.dims(),
            up.dims()
        );
    }
    if !f32_on_cpu(&[gate, up]) {
        return plain(gate, act)?.mul(up);
    }
    let y = rows(gate, |gate| rows(up, |up| Ok(map(gate, Some(up), act))))?;
    if tracks(gate) || tracks(up) {
        return record(&[gate, up], gate.dims(), y, Back(act));
    }
    Tensor::from_vec(y, gate.dims(), gate.device())
}

/// Numbers handled by one task: small enough to stay in the first cache, a multiple of every vector width so that no
/// number's arithmetic depends on where the chunk ends.
const CHUNK: usize = 1 << 12;

fn map(x: &[f32], factor: Option<&[f32]>, act: Activation) -> Vec<f32> {
    let write = |i: usize, out: *mut f32, n: usize| {
        let part = i * CHUNK..i * CHUNK + n;
        run(Map {
            x: &x[part.clone()],
            factor: factor.map(|f| &f[part]),
            act,
            out,
        });
    };
    // SAFETY: `Map` writes as many numbers as it reads.
    unsafe { fill(x.len(), CHUNK, write) }
}

/// One chunk; `out` has room for as many numbers as `x`.
struct Map<'a> {
    x: &'a [f32],
    factor: Option<&'a [f32]>,
    act: Activation,
    out: *mut f32,
}

impl Kernel for Map<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        match self.act {
            Activation::Silu => self.each(exp::silu::<V>),
            Activation::GeluTanh => self.each(exp::gelu_tanh::<V>),
            Activation::GeluErf => self.each(exp::gelu_erf::<V>),
            Activation::Relu => self.each(exp::relu::<V>),
        }
    }
}

impl Map<'_> {
    #[inline(always)]
    fn each<V: Lanes>(self, f: impl Fn(V) -> V) {
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within x, factor (same length) and out.
            unsafe {
                let load = |from: &[f32]| V::load_part_or_all(from.as_ptr().add(start), n, 0.0);
                let mut y = f(load(self.x));
                if let Some(factor) = self.factor {
                    y = y.mul(load(factor));
                }
                y.store_part_or_all(self.out.add(start), n);
            }
        }
    }
}

/// The backward of both: `dgate = dy · up · act'(gate)`, `dup = dy · act(gate)`; alone, `up` is 1.
struct Back(Activation);

impl Backward for Back {
    const NAME: &'static str = "activation";

    fn gradients(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let tensor = |values| Tensor::from_vec(values, grad.dims(), grad.device());
        let x = inputs[0];
        let Some(up) = inputs.get(1) else {
            let dx = rows(x, |x| {
                rows(grad, |dy| {
                    let write = |i: usize, out: *mut f32, n: usize| {
                        let part = i * CHUNK..i * CHUNK + n;
                        let (x, dy) = (&x[part.clone()], &dy[part]);
                        let (act, up) = (self.0, None);
                        run(MapBack {
                            x,
                            dy,
                            up,
                            act,
                            out,
                        });
                    };
                    // SAFETY: `MapBack` writes as many numbers as it reads.
                    Ok(unsafe { fill(x.len(), CHUNK, write) })
                })
            })?;
            return Ok(vec![Some(tensor(dx)?)]);
        };
        let (dx, dup) = rows(x, |x| {
            rows(up, |up| {
                rows(grad, |dy| {
                    let write = |i: usize, out: *mut f32, dup: *mut f32, n: usize| {
                        let part = i * CHUNK..i * CHUNK + n;
                        let (x, dy) = (&x[part.clone()], &dy[part.clone()]);
                        let (act, up) = (self.0, Some((&up[part], dup)));
                        run(MapBack {
                            x,
                            dy,
                            up,
                            act,
                            out,
                        });
                    };
                    // SAFETY: as above, to both places.
                    Ok(unsafe { fill_two(x.len(), CHUNK, write) })
                })
            })
        })?;
        let dx = tracks(x).then(|| tensor(dx)).transpose()?;
        Ok(vec![dx, tracks(up).then(|| tensor(dup)).transpose()?])
    }
}

/// One chunk backwards; `out`, and the place beside `up`, have room for as many numbers as `x`.
struct MapBack<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    up: Option<(&'a [f32], *mut f32)>,
    act: Activation,
    out: *mut f32,
}

impl Kernel for MapBack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Lanes>(self) {
        match self.act {
            Activation::Silu => self.each(slope::silu::<V>),
            Activation::GeluTanh => self.each(slope::gelu_tanh::<V>),
            Activation::GeluErf => self.each(slope::gelu_erf::<V>),
            Activation::Relu => self.each(slope::relu::<V>),
        }
    }
}

impl MapBack<'_> {
    /// `f` gives the function's value and slope.
    #[inline(always)]
    fn each<V: Lanes>(self, f: impl Fn(V) -> (V, V)) {
        for start in (0..self.x.len()).step_by(V::N) {
            let n = V::N.min(self.x.len() - start);
            // SAFETY: start + n stays within x and all that is as long.
            unsafe {
                let load = |from: &[f32]| V::load_part_or_all(from.as_ptr().add(start), n, 0.0);
                let (value, slope) = f(load(self.x));
                let mut dy = load(self.dy);
                if let Some((up, dup)) = self.up {
                    dy.mul(value).store_part_or_all(dup.add(start), n);
                    dy = dy.mul(load(up));
                }
                dy.mul(slope).store_part_or_all(self.out.add(start), n);
            }
        }
    }
}

/// The way of other types. Written out rather than through candle's `gelu`, whose backward has constants of six digits.
fn plain(x: &Tensor, act: Activation) -> Result<Tensor> {
    let gelu = |inner: Tensor| (x * 0.5)?.mul(&(inner + 1.0)?);
    match act {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => {
            let cubic = ((x.sqr()? * 0.044715)? + 1.0)?.mul(x)?;
            gelu((cubic * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?)
        }
        Activation::GeluErf => gelu((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?),
        // Not candle's relu: that one turns NaN into 0 and has gradient 1 at 0.
        Activation::Relu => x.le(0.0)?.where_cond(&x.zeros_like()?, x),
    }
}
