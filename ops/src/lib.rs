//! Kernels over candle tensors: what a language model's forward pass spends its time in.
//!
//! Every function has two ways. Tensors that are not `f32`, or that are not on the CPU, go through plain candle
//! expressions: differentiable, and in `f64` throughout when the input is `f64`, which makes that way the oracle for the
//! other. `f32` on the CPU goes through a fused kernel chosen at run time for this CPU, whose result is the same bits
//! whatever the number of rayon threads. If an input tracks gradients, that result is put on candle's tape with a fused
//! backward (`grad`), and has the same bits as without; the few kernels that have no backward leave tracked tensors to
//! the plain way. No gradient is ever cut silently.
//!
//! Start with [`linear`] and [`attention`]; the vector mathematics below them is in `exp`. What training adds:
//! [`token_logprobs`] (the language-model head without its logits), [`Gradients`] and [`AdamW`].

mod activation;
mod adapted;
#[cfg_attr(not(target_arch = "x86_64"), path = "amx/absent.rs")]
mod amx;
mod attention;
mod cpu;
mod embedding;
mod exp;
mod grad;
mod head;
mod lanes;
mod linear;
mod log_sigmoid;
mod memory;
mod norm;
mod optim;
mod product;
mod project;
mod rope;
mod slope;
mod softmax;
pub mod sparse;
mod sum;
mod topk;
mod view;

pub use activation::{Activation, activation, gated};
pub use adapted::{LowRank, Mask, linear_adapted, linear_adapted_step};
pub use attention::{
    AttentionSpec, KeyLayout, attention, attention_from_pattern, attention_scores,
};
pub use cpu::cpu_features;
pub use embedding::embedding;
pub use grad::{backward, checkpoint, reshape};
pub use head::{HeadOptions, TokenLogprobs, token_kl, token_logprobs};
pub use linear::{GRADIENT_TERMS, Products, linear, linear_step, set_products};
pub use log_sigmoid::log_sigmoid;
pub use memory::fast_alloc;
pub use norm::{layer_norm, rms_norm};
pub use optim::{AdamW, AdamWOptions, Gradients, adamw_slice};
pub use project::project_out;
pub use rope::rope;
pub use softmax::{log_softmax_last_dim, logsumexp_last_dim, softmax_last_dim};
pub use sum::add;
pub use topk::top_k;
