//! What all architectures share: the batch, the decoder's error, and the way back to the weights.
//!
//! The loss is the squared error summed over the width and averaged over rows, plus what the architecture adds. Gradients
//! are written out on entries: `E = ∂L/∂x̂` is `2/n · (x̂ - y)`, an entry's gradient is `E · W_dec[f]`, the decoder's is the
//! sum of `code · E`, the encoder's the sum of `∂L/∂z · x`.

use candlescope_ops::sparse::{ByLatent, Entries, decode, dots, gather};
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use super::params::Params;
use super::through::Felt;

/// A batch on its way through.
pub(super) struct Batch<'a> {
    pub params: &'a Params,
    /// What the encoder sees, `[n, d_in]`: centred where the recipe says so.
    pub input: &'a [f32],
    /// What came in, `[n, d_in]`: what a skip sees.
    pub raw: &'a [f32],
    /// What is to be reconstructed, `[n, d_out]`.
    pub target: &'a [f32],
    /// `n`.
    pub rows: usize,
    pub d_in: usize,
    pub d_out: usize,
    /// Widths of the points that are written.
    pub blocks: &'a [usize],
    /// Latents that have been silent for too long, rising.
    pub dead: &'a [u32],
    /// What else pulls at the reconstruction.
    pub felt: Option<Felt<'a>>,
}

/// What a pass finds.
pub(super) struct Pass {
    /// Named terms of the loss.
    pub losses: Vec<(&'static str, f64)>,
    pub grads: Params,
    /// The codes that fired.
    pub codes: Entries,
    /// Squared error of the reconstruction, summed over everything.
    pub squares: f64,
    /// The error of the reconstruction `x̂ - y`, `[n, d_out]`.
    pub error: Vec<f32>,
}

impl Batch<'_> {
    pub fn d_sae(&self) -> usize {
        self.params.b_enc.len()
    }

    /// `b_dec`, and what the skip adds, for every row.
    pub fn without_latents(&self) -> Vec<f32> {
        let mut out = self.params.b_dec.repeat(self.rows);
        if !self.params.w_skip.is_empty() {
            let raw = matrix(self.raw, self.d_in);
            let skip = matrix(&self.params.w_skip, self.d_in);
            let mut out = matrix_mut(&mut out, self.d_out);
            ndarray::linalg::general_mat_mul(1.0, &raw, &skip.t(), 1.0, &mut out);
        }
        out
    }

    /// `x̂ - y` of what entries decode to on top of `from`.
    pub fn error(&self, codes: &Entries, mut from: Vec<f32>, target: &[f32]) -> Vec<f32> {
        decode(codes, &self.params.w_dec, self.d_out, &mut from);
        let chunks = from.par_chunks_mut(1 << 14).zip(target.par_chunks(1 << 14));
        chunks.for_each(|(out, target)| {
            for (x, y) in out.iter_mut().zip(target) {
                *x -= y;
            }
        });
        from
    }

    /// The factor from an error to the gradient of its mean square.
    pub fn pull(&self) -> f32 {
        (2.0 / self.rows as f64) as f32
    }

    /// Adds the gradients that an error of the output has on the decoder's bias and the skip.
    pub fn back_output(&self, pull: f32, error: &[f32], grads: &mut Params) {
        let sums = column_sums(error, self.d_out);
        for (grad, sum) in grads.b_dec.iter_mut().zip(&sums) {
            *grad += pull * *sum as f32;
        }
        if !grads.w_skip.is_empty() {
            let error = matrix(error, self.d_out);
            let raw = matrix(self.raw, self.d_in);
            let mut skip = matrix_mut(&mut grads.w_skip, self.d_in);
            ndarray::linalg::general_mat_mul(pull, &error.t(), &raw, 1.0, &mut skip);
        }
    }

    /// The gradient of each entry's code under an error.
    pub fn back_codes(&self, entries: &Entries, pull: f32, error: &[f32]) -> Vec<f32> {
        let mut grads = dots(entries, error, &self.params.w_dec, self.d_out);
        grads.par_iter_mut().for_each(|grad| *grad *= pull);
        grads
    }

    /// Adds to the decoder what an error pulls, through codes.
    pub fn back_decoder(
        &self,
        by: &ByLatent,
        codes: &[f32],
        pull: f32,
        error: &[f32],
        grads: &mut Params,
    ) {
        let shares: Vec<f32> = codes.par_iter().map(|code| code * pull).collect();
        let all = 0..self.d_sae();
        gather(by, all, &shares, error, self.d_out, &mut grads.w_dec);
    }

    /// Adds to the encoder, and to the bias of its products, what the entries' pre-activations pull.
    pub fn back_encoder(&self, by: &ByLatent, pulls: &[f32], grads: &mut Params) {
        let all = 0..self.d_sae();
        gather(by, all, pulls, self.input, self.d_in, &mut grads.w_enc);
        for (grad, sum) in grads.b_enc.iter_mut().zip(by.sums(pulls)) {
            *grad += sum as f32;
        }
    }
}

/// What is taken off the input moves all pre-activations: `∂L/∂b_dec -= Σ_f (Σ ∂L/∂z_f) W_enc[f]`.
pub(super) fn back_centring(params: &Params, sums: &[f32], d_in: usize, grads: &mut Params) {
    const BAND: usize = 512;
    // A row for each band of latents, so that the sum has a fixed shape whatever the number of threads.
    let mut bands = Entries::new();
    for first in (0..sums.len()).step_by(BAND) {
        let last = (first + BAND).min(sums.len());
        bands.push((first..last).map(|l| (l as u32, sums[l])));
    }
    let mut moved = vec![0.0; bands.rows() * d_in];
    decode(&bands, &params.w_enc, d_in, &mut moved);
    for (grad, moved) in grads.b_dec.iter_mut().zip(column_sums(&moved, d_in)) {
        *grad -= moved as f32;
    }
}

/// Sums of columns, in f64, in bands of a fixed shape.
pub(super) fn column_sums(rows: &[f32], width: usize) -> Vec<f64> {
    let band = |band: &[f32]| {
        let mut sums = vec![0f64; width];
        for row in band.chunks_exact(width) {
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
        sums
    };
    let bands: Vec<Vec<f64>> = rows.par_chunks(256 * width).map(band).collect();
    bands.into_iter().fold(vec![0.0; width], |mut all, band| {
        all.iter_mut().zip(band).for_each(|(sum, x)| *sum += x);
        all
    })
}

/// Numbers as a matrix of rows.
pub(super) fn matrix(numbers: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((numbers.len() / width, width), numbers).expect("rows of this width")
}

fn matrix_mut(numbers: &mut [f32], width: usize) -> ArrayViewMut2<'_, f32> {
    let rows = numbers.len() / width;
    ArrayViewMut2::from_shape((rows, width), numbers).expect("rows of this width")
}
