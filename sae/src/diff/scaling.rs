//! Latent scaling: how much of a latent of one model the other one's rows hold (Minder et al. 2025, arXiv 2504.02922).
//!
//! A crosscoder's sparsity penalty can make a latent look exclusive that is not. For the decoder row `d` of the model in which
//! a latent is longer, and `y` of each model, `β = argmin Σ‖y − β f d‖² = Σ f⟨y, d⟩ / (Σf² ‖d‖²)` over rows. `ν = β_other /
//! β_own` for two `y`: what the model's reconstruction leaves over once this latent's own part is taken out of it (*error*),
//! which is large where the decoder shrank to nothing although the model has the concept (complete shrinkage); and the
//! reconstruction itself (*rebuilt*), which is large where other latents write the concept instead (latent decoupling). Near
//! 0 in both, the latent is new.
//!
//! The decoder's bias is taken out of the reconstruction, which the paper's code leaves in: a constant that happens to lie
//! along `d` says nothing about a concept, and here biases begin at the mean of the rows.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{dot, sides};
use crate::dictionary::shape;
use crate::{Codes, Dictionary, SaeError, Scaling};

/// Sums over rows, for every latent.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentScaling {
    sides: [Range<usize>; 2],
    /// Which of the two is the longer: 0 or 1.
    owner: Vec<usize>,
    /// `‖d‖²`.
    square: Vec<f64>,
    /// `⟨d_m, d⟩` of each model's own row.
    own: Vec<[f64; 2]>,
    fired: Vec<u64>,
    /// `Σ f²`.
    codes: Vec<f64>,
    /// `Σ f ⟨y, d⟩` of what each model's reconstruction leaves over.
    left: Vec<[f64; 2]>,
    /// The same of the reconstruction without its bias.
    rebuilt: Vec<[f64; 2]>,
}

/// What a latent's sums come to. Numbers are of the first and the second model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// Which.
    pub latent: usize,
    /// Rows in which it fired.
    pub fired: u64,
    /// The model in which its decoder row is longer: 0 or 1. The numbers are along that row.
    pub owner: usize,
    /// `β` of what is left over with this latent's own part put back; none if it never fired.
    pub beta_error: Option<[f64; 2]>,
    /// `β` of the reconstruction.
    pub beta_rebuilt: Option<[f64; 2]>,
    /// `β_other / β_own` of the error; none where the owner's is not above 0.
    pub nu_error: Option<f64>,
    /// `β_other / β_own` of the reconstruction.
    pub nu_rebuilt: Option<f64>,
}

/// Whether a latent that one model seems to lack is missing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is: both ratios are small.
    New,
    /// The other model has it and the crosscoder does not write it there: complete shrinkage.
    Shrunk,
    /// Other latents write it there: latent decoupling.
    Decoupled,
    /// Some of both.
    Both,
    /// Nothing is known: it never fired, or it does not explain its own model.
    Unknown,
}

impl Scaled {
    /// The judgement where a ratio from `limit` on counts as there.
    pub fn presence(&self, limit: f64) -> Presence {
        let (Some(error), Some(rebuilt)) = (self.nu_error, self.nu_rebuilt) else {
            return Presence::Unknown;
        };
        match (error >= limit, rebuilt >= limit) {
            (false, false) => Presence::New,
            (true, false) => Presence::Shrunk,
            (false, true) => Presence::Decoupled,
            (true, true) => Presence::Both,
        }
    }
}

impl LatentScaling {
    /// Of no rows yet, between two models of a crosscoder. `blocks` are the widths of what it reads and writes.
    ///
    /// # Errors
    /// Blocks that are not those of the dictionary, models that it lacks or of different widths; a dictionary that does not
    /// write what it reads, scales rows or has a skip.
    pub fn new(
        dictionary: &Dictionary,
        blocks: &[usize],
        pair: [usize; 2],
    ) -> Result<Self, SaeError> {
        let sides = sides(dictionary, blocks, pair)?;
        let parts = dictionary.parts();
        if parts.skip.is_some() || parts.scaling != Scaling::None {
            return Err(SaeError::Unsupported {
                what: "latent scaling of a dictionary with a skip or with scaled rows".into(),
                why: "its reconstruction is not the sum of its latents and a bias".into(),
            });
        }
        let width = [sides[1].len()];
        shape("models whose latents are scaled", &[sides[0].len()], &width)?;
        let written = [dictionary.d_out()];
        shape("rows of a crosscoder", &written, &[dictionary.d_in()])?;
        let latents = dictionary.d_sae();
        let mut new = Self {
            sides,
            owner: Vec::with_capacity(latents),
            square: Vec::with_capacity(latents),
            own: Vec::with_capacity(latents),
            fired: vec![0; latents],
            codes: vec![0.0; latents],
            left: vec![[0.0; 2]; latents],
            rebuilt: vec![[0.0; 2]; latents],
        };
        for row in parts.decoder.outer_iter() {
            let both = [0, 1].map(|m| row.slice_move(s![new.sides[m].clone()]));
            let squares = [0, 1].map(|m| dot(both[m], both[m]));
            let owner = usize::from(squares[1] > squares[0]);
            new.owner.push(owner);
            new.square.push(squares[owner]);
            new.own.push([0, 1].map(|m| dot(both[m], both[owner])));
        }
        Ok(new)
    }

    /// Takes in rows `[n, d_in]`, the models side by side. Returns their codes and what comes out.
    ///
    /// # Errors
    /// As [`Dictionary::encode`]; another dictionary than the sums are of.
    pub fn add(
        &mut self,
        dictionary: &Dictionary,
        rows: ArrayView2<f32>,
    ) -> Result<(Codes, ndarray::Array2<f32>), SaeError> {
        shape(
            "latents of the crosscoder",
            &[self.fired.len()],
            &[dictionary.d_sae()],
        )?;
        let codes = dictionary.encode(rows)?;
        let out = dictionary.decode(&codes, rows)?;
        let found: Vec<Vec<[[f64; 2]; 2]>> = (0..codes.rows())
            .into_par_iter()
            .map(|i| {
                let (x, y) = (rows.row(i), out.row(i));
                let latents = codes.row(i).0.iter();
                let along = |&latent: &u32| self.along(latent as usize, [x, y], dictionary);
                latents.map(along).collect()
            })
            .collect();
        // One thread, in the order of the rows: the sums are the same bits whatever the number of threads.
        for (i, found) in found.iter().enumerate() {
            let (latents, values) = codes.row(i);
            for ((&latent, &f), [left, rebuilt]) in latents.iter().zip(values).zip(found) {
                let (latent, f) = (latent as usize, f64::from(f));
                self.fired[latent] += 1;
                self.codes[latent] += f * f;
                for m in 0..2 {
                    self.left[latent][m] += f * left[m];
                    self.rebuilt[latent][m] += f * rebuilt[m];
                }
            }
        }
        Ok((codes, out))
    }

    /// `⟨x − x̂, d⟩` and `⟨x̂ − b, d⟩` of both models.
    fn along(
        &self,
        latent: usize,
        [x, y]: [ArrayView1<f32>; 2],
        dictionary: &Dictionary,
    ) -> [[f64; 2]; 2] {
        let parts = dictionary.parts();
        let of = |m: usize| s![self.sides[m].clone()];
        let row = parts.decoder.row(latent);
        let d = row.slice(of(self.owner[latent]));
        let each = |m: usize| {
            let (x, y, b) = (
                x.slice_move(of(m)),
                y.slice_move(of(m)),
                parts.decoder_bias.slice(of(m)),
            );
            let (mut left, mut rebuilt) = (0.0, 0.0);
            for (((x, y), b), d) in x.iter().zip(&y).zip(&b).zip(&d) {
                let [x, y, b, d] = [*x, *y, *b, *d].map(f64::from);
                left += (x - y) * d;
                rebuilt += (y - b) * d;
            }
            [left, rebuilt]
        };
        let [first, second] = [each(0), each(1)];
        [[first[0], second[0]], [first[1], second[1]]]
    }

    /// What a latent's sums come to.
    ///
    /// # Errors
    /// A latent that is not there.
    pub fn of(&self, latent: usize) -> Result<Scaled, SaeError> {
        let Some(&fired) = self.fired.get(latent) else {
            return Err(SaeError::Range {
                what: "latent",
                found: latent.to_string(),
                allowed: format!("0 to {}", self.fired.len().saturating_sub(1)),
            });
        };
        let owner = self.owner[latent];
        let (codes, square) = (self.codes[latent], self.square[latent]);
        let known = codes > 0.0 && square > 0.0;
        let beta = |sums: [f64; 2]| sums.map(|sum| sum / (codes * square));
        // Its own part, f · d_m, is put back into what its model leaves over.
        let own = self.own[latent].map(|product| product / square);
        let error = known.then(|| {
            let left = beta(self.left[latent]);
            [left[0] + own[0], left[1] + own[1]]
        });
        let rebuilt = known.then(|| beta(self.rebuilt[latent]));
        let ratio = |beta: [f64; 2]| (beta[owner] > 0.0).then(|| beta[1 - owner] / beta[owner]);
        Ok(Scaled {
            latent,
            fired,
            owner,
            beta_error: error,
            beta_rebuilt: rebuilt,
            nu_error: error.and_then(ratio),
            nu_rebuilt: rebuilt.and_then(ratio),
        })
    }

    /// All latents, in order.
    pub fn all(&self) -> Vec<Scaled> {
        let all = 0..self.fired.len();
        all.filter_map(|latent| self.of(latent).ok()).collect()
    }
}
