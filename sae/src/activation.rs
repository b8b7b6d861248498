//! From pre-activations to codes: which latents fire, and how strongly.

use ndarray::Array1;

/// The rule by which a latent's pre-activation `z = w·x + b` becomes its code.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// `max(z, 0)`.
    Relu,
    /// The `k` largest of each row, then `max(z, 0)`: at most `k` latents fire (Gao et al. 2024, arXiv 2406.04093).
    TopK {
        /// Latents of a row.
        k: usize,
    },
    /// `z` where `z > θ`, else 0 (Rajamanoharan et al. 2024, arXiv 2407.14435). BatchTopK ends as this, with one θ for all.
    JumpRelu {
        /// θ `[d_sae]`.
        threshold: Array1<f32>,
    },
    /// Fires where the gate `w·x + b_gate > 0`, with strength `max(exp(r) · (w·x) + b_mag, 0)` (Rajamanoharan et al. 2024,
    /// arXiv 2404.16014). The dictionary's `b_enc` is `b_gate`.
    Gated {
        /// `r` `[d_sae]`.
        log_scale: Array1<f32>,
        /// `b_mag` `[d_sae]`.
        magnitude_bias: Array1<f32>,
    },
}

impl Activation {
    /// The name in files and on screens.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::TopK { .. } => "topk",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Gated { .. } => "gated",
        }
    }
}
