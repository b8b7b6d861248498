//! The few latents that fired in each row.

use ndarray::Array2;

/// Codes of some rows: for each row the latents that are not 0, in rising order, with their values.
pub type Codes = candlescope_ops::sparse::Entries;

/// All of the codes, `[rows, d_sae]`.
pub fn dense(codes: &Codes, d_sae: usize) -> Array2<f32> {
    let mut dense = Array2::zeros((codes.rows(), d_sae));
    for row in 0..codes.rows() {
        let (latents, values) = codes.row(row);
        for (&latent, &value) in latents.iter().zip(values) {
            dense[(row, latent as usize)] = value;
        }
    }
    dense
}
