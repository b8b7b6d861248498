//! The numbers that are trained; gradients and moments have the same form.

/// Weights, or what belongs to each of them. Matrices are rows of adjacent numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Params {
    /// `[d_sae, d_in]`.
    pub w_enc: Vec<f32>,
    /// `[d_sae, d_out]`.
    pub w_dec: Vec<f32>,
    /// `[d_sae]`; a gated dictionary's bias of the gate.
    pub b_enc: Vec<f32>,
    /// `[d_out]`.
    pub b_dec: Vec<f32>,
    /// JumpReLU's thresholds, `[d_sae]`, or nothing.
    pub threshold: Vec<f32>,
    /// A gated dictionary's `r_mag`, `[d_sae]`, or nothing.
    pub r_mag: Vec<f32>,
    /// A gated dictionary's `b_mag`, `[d_sae]`, or nothing.
    pub b_mag: Vec<f32>,
    /// `[d_out, d_in]`, or nothing.
    pub w_skip: Vec<f32>,
}

impl Params {
    /// As many zeros.
    pub fn zeros(&self) -> Self {
        let zeros = |of: &Vec<f32>| vec![0.0; of.len()];
        Self {
            w_enc: zeros(&self.w_enc),
            w_dec: zeros(&self.w_dec),
            b_enc: zeros(&self.b_enc),
            b_dec: zeros(&self.b_dec),
            threshold: zeros(&self.threshold),
            r_mag: zeros(&self.r_mag),
            b_mag: zeros(&self.b_mag),
            w_skip: zeros(&self.w_skip),
        }
    }

    /// The encoder and decoder of some latents.
    pub fn of(&self, latents: &[u32], d_in: usize, d_out: usize) -> Self {
        let rows = |of: &[f32], width: usize| -> Vec<f32> {
            let row = |&l: &u32| &of[l as usize * width..][..width];
            latents.iter().flat_map(row).copied().collect()
        };
        Self {
            w_enc: rows(&self.w_enc, d_in),
            w_dec: rows(&self.w_dec, d_out),
            b_enc: picked(&self.b_enc, latents),
            ..Self::default()
        }
    }

    /// Adds to the encoder and decoder of some latents what was found among them.
    pub fn add(&mut self, found: &Self, latents: &[u32], d_in: usize, d_out: usize) {
        let add = |to: &mut [f32], from: &[f32], width: usize| {
            for (&latent, from) in latents.iter().zip(from.chunks_exact(width)) {
                let to = &mut to[latent as usize * width..][..width];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        };
        add(&mut self.w_enc, &found.w_enc, d_in);
        add(&mut self.w_dec, &found.w_dec, d_out);
        add(&mut self.b_enc, &found.b_enc, 1);
    }

    /// All of them, with their names in files.
    pub fn named(&self) -> [(&'static str, &Vec<f32>); 8] {
        [
            ("W_enc", &self.w_enc),
            ("W_dec", &self.w_dec),
            ("b_enc", &self.b_enc),
            ("b_dec", &self.b_dec),
            ("threshold", &self.threshold),
            ("r_mag", &self.r_mag),
            ("b_mag", &self.b_mag),
            ("W_skip", &self.w_skip),
        ]
    }

    /// As [`Self::named`], to change.
    pub fn named_mut(&mut self) -> [(&'static str, &mut Vec<f32>); 8] {
        [
            ("W_enc", &mut self.w_enc),
            ("W_dec", &mut self.w_dec),
            ("b_enc", &mut self.b_enc),
            ("b_dec", &mut self.b_dec),
            ("threshold", &mut self.threshold),
            ("r_mag", &mut self.r_mag),
            ("b_mag", &mut self.b_mag),
            ("W_skip", &mut self.w_skip),
        ]
    }
}

/// The numbers of some latents.
pub(super) fn picked(numbers: &[f32], latents: &[u32]) -> Vec<f32> {
    latents.iter().map(|&l| numbers[l as usize]).collect()
}
