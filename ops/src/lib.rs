//! Kernels over candle tensors: what a language model's forward pass spends its time in.
//!
//! Every function has two ways. Tensors that track gradients, that are not `f32`, or that are not on the CPU go through
//! plain candle expressions: differentiable, and in `f64` throughout when the input is `f64`, which makes that way the
//! oracle for the other. Everything else goes through a fused `f32` kernel chosen at run time for this CPU, whose result
//! is the same bits whatever the number of rayon threads. A fused kernel never touches a tensor that tracks gradients,
//! so no gradient is ever cut silently.
//!
//! Start with [`linear`] and [`attention`]; the vector mathematics below them is in `exp`.

mod activation;
#[cfg_attr(not(target_arch = "x86_64"), path = "amx/absent.rs")]
mod amx;
mod attention;
mod cpu;
mod exp;
mod lanes;
mod linear;
mod memory;
mod norm;
mod product;
mod project;
mod rope;
mod softmax;
mod sum;
mod topk;
mod view;

pub use activation::{Activation, activation, gated};
pub use attention::{
    AttentionSpec, KeyLayout, attention, attention_from_pattern, attention_scores,
};
pub use cpu::cpu_features;
pub use linear::{Products, linear, linear_step, set_products};
pub use memory::fast_alloc;
pub use norm::{layer_norm, rms_norm};
pub use project::project_out;
pub use rope::rope;
pub use softmax::{log_softmax_last_dim, logsumexp_last_dim, softmax_last_dim};
pub use sum::add;
pub use topk::top_k;
