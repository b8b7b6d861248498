//! A dictionary as it is used: rows of activations to codes, and codes back to activations.

use candlescope_ops::sparse::{Keep, Latents, decode, keep};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::{About, Activation, Codes, SaeError};

/// How rows are scaled before they are encoded; what is decoded is scaled back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all: constants are folded into the weights.
    None,
    /// Each row to mean 0 and (unbiased) standard deviation 1, as SAELens's `layer_norm`: divided by the deviation plus 1e-5
    /// on the way in, multiplied by the deviation alone on the way out.
    LayerNorm,
}

/// What a dictionary is made of. `d_in` and `d_out` are the widths of what is read and written, several points side by side
/// for a crosscoder; `d_out` is `d_in` for an autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// `W_enc`, one row a latent: `[d_sae, d_in]`.
    pub encoder: Array2<f32>,
    /// `W_dec`, one row a latent: `[d_sae, d_out]`.
    pub decoder: Array2<f32>,
    /// `b_enc` `[d_sae]`.
    pub encoder_bias: Array1<f32>,
    /// `b_dec` `[d_out]`.
    pub decoder_bias: Array1<f32>,
    /// Whether `b_dec` is taken off what is read (`apply_b_dec_to_input`).
    pub centred: bool,
    /// Which latents fire.
    pub activation: Activation,
    /// A linear way around the latents, `[d_out, d_in]`: a skip transcoder's, which reads what came in, uncentred.
    pub skip: Option<Array2<f32>>,
    /// How rows are scaled.
    pub scaling: Scaling,
    /// Where it belongs.
    pub about: About,
}

/// A sparse dictionary whose parts fit together and are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary(Parts);

impl Dictionary {
    /// Checks that the parts go together.
    ///
    /// # Errors
    /// Widths of zero, shapes that differ, values that are not finite, a `k` beyond the width, `centred` where what is
    /// written is not what is read.
    pub fn new(parts: Parts) -> Result<Self, SaeError> {
        let (latents, d_in) = parts.encoder.dim();
        let d_out = parts.decoder.ncols();
        for (what, found) in [("d_sae", latents), ("d_in", d_in), ("d_out", d_out)] {
            if found == 0 {
                return Err(SaeError::Range {
                    what,
                    found: "0".into(),
                    allowed: "1 or more".into(),
                });
            }
        }
        shape("W_dec", &[latents, d_out], parts.decoder.shape())?;
        shape("b_enc", &[latents], parts.encoder_bias.shape())?;
        shape("b_dec", &[d_out], parts.decoder_bias.shape())?;
        if parts.centred {
            shape("b_dec, taken off what is read", &[d_in], &[d_out])?;
        }
        if let Some(skip) = &parts.skip {
            shape("W_skip", &[d_out, d_in], skip.shape())?;
            finite("W_skip", skip.view())?;
        }
        match &parts.activation {
            Activation::Relu => {}
            Activation::TopK { k } => {
                if *k == 0 || *k > latents {
                    return Err(SaeError::Range {
                        what: "k",
                        found: k.to_string(),
                        allowed: format!("1 to the {latents} latents"),
                    });
                }
            }
            Activation::JumpRelu { threshold } => vector("threshold", latents, threshold)?,
            Activation::Gated {
                log_scale,
                magnitude_bias,
            } => {
                vector("r_mag", latents, log_scale)?;
                vector("b_mag", latents, magnitude_bias)?;
            }
        }
        finite("W_enc", parts.encoder.view())?;
        finite("W_dec", parts.decoder.view())?;
        finite("b_enc", parts.encoder_bias.view().insert_axis(Axis(0)))?;
        finite("b_dec", parts.decoder_bias.view().insert_axis(Axis(0)))?;
        Ok(Self(Parts {
            encoder: parts.encoder.as_standard_layout().into_owned(),
            decoder: parts.decoder.as_standard_layout().into_owned(),
            skip: parts.skip.map(|w| w.as_standard_layout().into_owned()),
            ..parts
        }))
    }

    /// What it is made of; matrices are in row-major order.
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// What it is made of, to change it and check it again.
    pub fn into_parts(self) -> Parts {
        self.0
    }

    /// Width of what is read.
    pub fn d_in(&self) -> usize {
        self.0.encoder.ncols()
    }

    /// Width of what is written.
    pub fn d_out(&self) -> usize {
        self.0.decoder.ncols()
    }

    /// Latents.
    pub fn d_sae(&self) -> usize {
        self.0.encoder.nrows()
    }

    /// Where it belongs.
    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// The codes of rows `[n, d_in]`.
    ///
    /// # Errors
    /// Rows of another width, or with values that are not finite.
    pub fn encode(&self, rows: ArrayView2<f32>) -> Result<Codes, SaeError> {
        Ok(self.scaled(rows)?.0)
    }

    /// What the dictionary makes of rows `[n, d_in]`: `[n, d_out]`.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    pub fn reconstruct(&self, rows: ArrayView2<f32>) -> Result<Array2<f32>, SaeError> {
        let (codes, scales) = self.scaled(rows)?;
        self.restore(&codes, rows, &scales)
    }

    /// What codes, of these rows `[n, d_in]` or changed by hand, stand for: `[n, d_out]`. The rows are read where the way
    /// back needs them: a skip, or a scaling by row.
    ///
    /// # Errors
    /// As many rows as codes, of the right width.
    pub fn decode(&self, codes: &Codes, rows: ArrayView2<f32>) -> Result<Array2<f32>, SaeError> {
        shape("rows to decode", &[codes.rows(), self.d_in()], rows.shape())?;
        let scales = match self.0.scaling {
            Scaling::None => Vec::new(),
            Scaling::LayerNorm => rows.outer_iter().map(standard).collect(),
        };
        self.restore(codes, rows, &scales)
    }

    fn restore(
        &self,
        codes: &Codes,
        rows: ArrayView2<f32>,
        scales: &[[f32; 2]],
    ) -> Result<Array2<f32>, SaeError> {
        let latents = codes.latents.iter().max();
        if let Some(&latent) = latents.filter(|latent| **latent as usize >= self.d_sae()) {
            return Err(self.no_latent(latent as usize));
        }
        let mut flat = self.0.decoder_bias.to_vec().repeat(codes.rows());
        let weights = self.0.decoder.as_slice().unwrap_or_default();
        decode(codes, weights, self.d_out(), &mut flat);
        let mut out = Array2::from_shape_vec((codes.rows(), self.d_out()), flat)
            .unwrap_or_else(|_| Array2::zeros((codes.rows(), self.d_out())));
        for (mut out, [mean, deviation]) in out.outer_iter_mut().zip(scales) {
            out.mapv_inplace(|y| y * deviation + mean);
        }
        if let Some(skip) = &self.0.skip {
            out += &rows.dot(&skip.t());
        }
        Ok(out)
    }

    /// The error for a latent that is not there.
    pub fn no_latent(&self, latent: usize) -> SaeError {
        SaeError::Range {
            what: "latent",
            found: latent.to_string(),
            allowed: format!("0 to {}", self.d_sae() - 1),
        }
    }

    fn scaled(&self, rows: ArrayView2<f32>) -> Result<(Codes, Vec<[f32; 2]>), SaeError> {
        shape("rows to encode", &[rows.nrows(), self.d_in()], rows.shape())?;
        finite("rows to encode", rows)?;
        let mut scales = Vec::new();
        let mut input = rows.as_standard_layout().into_owned();
        if self.0.scaling == Scaling::LayerNorm {
            for mut row in input.outer_iter_mut() {
                let [mean, deviation] = standard(row.view());
                row.mapv_inplace(|x| (x - mean) / (deviation + GUARD));
                scales.push([mean, deviation]);
            }
        }
        if self.0.centred {
            input -= &self.0.decoder_bias;
        }
        Ok((self.fire(&input), scales))
    }

    /// The latents that fire on rows that are scaled and centred.
    fn fire(&self, input: &Array2<f32>) -> Codes {
        let parts = &self.0;
        let zeros;
        let which = match &parts.activation {
            Activation::TopK { k } => Keep::Top(*k),
            Activation::JumpRelu { threshold } => Keep::Above(slice(threshold)),
            Activation::Relu | Activation::Gated { .. } => {
                zeros = vec![0.0; self.d_sae()];
                Keep::Above(&zeros)
            }
        };
        let bias = parts.encoder_bias.to_vec();
        let latents = Latents {
            weights: parts.encoder.as_slice().unwrap_or_default(),
            bias: &bias,
            scale: None,
        };
        let mut found = keep(
            input.as_slice().unwrap_or_default(),
            self.d_in(),
            latents,
            which,
        );
        if let Activation::Gated {
            log_scale,
            magnitude_bias,
        } = &parts.activation
        {
            for (value, &latent) in found.values.iter_mut().zip(&found.latents) {
                let latent = latent as usize;
                let product = *value - bias[latent];
                *value = product * log_scale[latent].exp() + magnitude_bias[latent];
            }
        }
        // Open gates may have no magnitude, and a threshold below 0 lets a 0 pass.
        let gated = matches!(parts.activation, Activation::Gated { .. });
        let fires = |value: f32| if gated { value > 0.0 } else { value != 0.0 };
        if found.values.iter().all(|value| fires(*value)) {
            return found;
        }
        found.filtered(|e| fires(found.values[e]))
    }
}

/// What SAELens adds to a row's deviation before it divides by it.
const GUARD: f32 = 1e-5;

/// Mean and unbiased deviation of a row.
fn standard(row: ArrayView1<f32>) -> [f32; 2] {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares: f64 = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
    [mean as f32, deviation as f32]
}

fn slice(numbers: &Array1<f32>) -> &[f32] {
    numbers.as_slice().unwrap_or_default()
}

/// Refuses another shape than the one expected.
pub(crate) fn shape(what: &str, expected: &[usize], found: &[usize]) -> Result<(), SaeError> {
    if expected == found {
        return Ok(());
    }
    Err(SaeError::Shape {
        what: what.into(),
        expected: expected.into(),
        found: found.into(),
    })
}

/// Refuses values that are not finite.
pub(crate) fn finite(what: &str, values: ArrayView2<f32>) -> Result<(), SaeError> {
    match values.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), _)) => Err(SaeError::NonFinite {
            what: what.into(),
            row,
            column,
        }),
    }
}

fn vector(what: &str, length: usize, values: &Array1<f32>) -> Result<(), SaeError> {
    shape(what, &[length], values.shape())?;
    finite(what, values.view().insert_axis(Axis(0)))
}
