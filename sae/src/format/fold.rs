//! What other programs do around a dictionary, folded into its weights so that codes and reconstructions stay the same.

use ndarray::{Axis, Zip};

use crate::{Activation, Parts};

/// Folds `rescale_acts_by_decoder_norm`: latents compete, and are counted, in units of their decoder row's norm. The encoder
/// takes the norm, the decoder gives it up. A row of zeros stays silent, as its rescaled code is 0.
pub(super) fn decoder_norms(parts: &mut Parts) {
    for latent in 0..parts.decoder.nrows() {
        let mut row = parts.decoder.row_mut(latent);
        let norm = row
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt() as f32;
        if norm > 0.0 {
            row /= norm;
        }
        parts.encoder.row_mut(latent).mapv_inplace(|w| w * norm);
        parts.encoder_bias[latent] *= norm;
        if let Activation::Gated { magnitude_bias, .. } = &mut parts.activation {
            magnitude_bias[latent] *= norm;
        }
    }
}

/// Folds constant scalings: the dictionary was trained on `x · input`, and what it writes is `output` times too large.
/// Codes stay in the units of training, and so do thresholds.
pub(super) fn scales(parts: &mut Parts, input: f64, output: f64) {
    let (into, out) = (input as f32, (1.0 / output) as f32);
    parts.encoder.mapv_inplace(|w| w * into);
    parts.decoder.mapv_inplace(|w| w * out);
    parts.decoder_bias.mapv_inplace(|b| b * out);
}

/// Multiplies what each latent writes (SAELens's `scaling_factor` of before version 6).
pub(super) fn decoder_factors(parts: &mut Parts, factors: &ndarray::Array1<f32>) {
    Zip::from(parts.decoder.axis_iter_mut(Axis(0)))
        .and(factors)
        .for_each(|mut row, &f| row *= f);
}

/// Folds the bias that is taken off what is read into the encoder's.
pub(super) fn centring(parts: &mut Parts) {
    if parts.centred {
        let shift = parts.encoder.dot(&parts.decoder_bias);
        if let Activation::Gated {
            log_scale,
            magnitude_bias,
        } = &mut parts.activation
        {
            *magnitude_bias -= &(&shift * &log_scale.mapv(f32::exp));
        }
        parts.encoder_bias -= &shift;
        parts.centred = false;
    }
}

/// Where other programs take `relu(z)` where `z > θ`, a negative θ lets nothing through that 0 would not. Returns how many
/// were raised to 0.
pub(super) fn raise_thresholds(parts: &mut Parts) -> usize {
    let Activation::JumpRelu { threshold } = &mut parts.activation else {
        return 0;
    };
    let below = threshold.iter().filter(|t| **t < 0.0).count();
    threshold.mapv_inplace(|t| if t < 0.0 { 0.0 } else { t });
    below
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{About, Dictionary, Scaling, dense};
    use ndarray::{Array1, Array2, array};
    use rand::{Rng, SeedableRng};

    fn random(activation: Activation, centred: bool) -> Parts {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut values =
            |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        Parts {
            encoder: Array2::from_shape_vec((12, 5), values(60)).unwrap(),
            decoder: Array2::from_shape_vec((12, 5), values(60)).unwrap(),
            encoder_bias: Array1::from(values(12)),
            decoder_bias: Array1::from(values(5)),
            centred,
            activation,
            skip: None,
            scaling: Scaling::None,
            about: About::default(),
        }
    }

    fn gated() -> Activation {
        Activation::Gated {
            log_scale: Array1::linspace(-0.5, 0.5, 12),
            magnitude_bias: Array1::linspace(0.3, -0.3, 12),
        }
    }

    fn close(a: &Array2<f32>, b: &Array2<f32>) -> bool {
        a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-5)
    }

    #[test]
    fn norms_change_codes_by_the_norm_and_reconstructions_not_at_all() {
        let rows = array![[0.3f32, -0.7, 0.9, 0.1, -0.2], [1.0, 0.5, -0.5, 0.2, 0.4]];
        for activation in [Activation::Relu, gated()] {
            let plain = Dictionary::new(random(activation.clone(), true)).unwrap();
            let mut parts = random(activation, true);
            decoder_norms(&mut parts);
            let folded = Dictionary::new(parts).unwrap();
            let norms = plain
                .parts()
                .decoder
                .map_axis(Axis(1), |r| r.dot(&r).sqrt());
            let codes = dense(&plain.encode(rows.view()).unwrap(), 12) * &norms;
            assert!(close(
                &codes,
                &dense(&folded.encode(rows.view()).unwrap(), 12)
            ));
            let (a, b) = (
                plain.reconstruct(rows.view()),
                folded.reconstruct(rows.view()),
            );
            assert!(close(&a.unwrap(), &b.unwrap()));
        }
    }

    #[test]
    fn scaled_rows_into_the_plain_dictionary_are_rows_into_the_folded_one() {
        let rows = array![[0.3f32, -0.7, 0.9, 0.1, -0.2], [1.0, 0.5, -0.5, 0.2, 0.4]];
        for activation in [Activation::TopK { k: 3 }, gated()] {
            let plain = Dictionary::new(random(activation.clone(), true)).unwrap();
            let mut parts = random(activation, true);
            scales(&mut parts, 3.5, 3.5);
            let folded = Dictionary::new(parts).unwrap();
            let large = &rows * 3.5;
            let codes = dense(&plain.encode(large.view()).unwrap(), 12);
            assert!(close(
                &codes,
                &dense(&folded.encode(rows.view()).unwrap(), 12)
            ));
            let out = plain.reconstruct(large.view()).unwrap() / 3.5;
            assert!(close(&out, &folded.reconstruct(rows.view()).unwrap()));
        }
    }

    #[test]
    fn a_dictionary_whose_centring_is_folded_gives_the_same() {
        let rows = array![[0.3f32, -0.7, 0.9, 0.1, -0.2]];
        for activation in [Activation::Relu, gated()] {
            let plain = Dictionary::new(random(activation.clone(), true)).unwrap();
            let mut parts = random(activation, true);
            centring(&mut parts);
            let folded = Dictionary::new(parts).unwrap();
            let codes = dense(&plain.encode(rows.view()).unwrap(), 12);
            assert!(codes.iter().any(|&c| c > 0.0));
            assert!(close(
                &codes,
                &dense(&folded.encode(rows.view()).unwrap(), 12)
            ));
            let (a, b) = (
                plain.reconstruct(rows.view()),
                folded.reconstruct(rows.view()),
            );
            assert!(close(&a.unwrap(), &b.unwrap()));
        }
    }
}
