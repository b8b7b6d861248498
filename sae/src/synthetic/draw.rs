//! Drawing rows. A row hangs on the seed, the batch's number and its own number in the batch, and on nothing else: a run can
//! go on at any batch, and a longer batch begins with the rows of a shorter one.

use ndarray::Array2;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Planted;
use super::random::{fill_normal, normal_cdf, normals, of_row};
use crate::Codes;

impl Planted {
    /// Rows `[rows, d]` of a batch, and the features that fired in each with their strengths.
    pub fn batch(&self, number: u64, rows: usize) -> (Array2<f32>, Codes) {
        let mut out = Array2::zeros((rows, self.spec.d));
        let each: Vec<_> = out.outer_iter_mut().collect();
        let drawn: Vec<Vec<(u32, f32)>> = each
            .into_par_iter()
            .enumerate()
            .map(|(row, mut out)| {
                let mut rng = of_row(self.spec.seed, number, row);
                let fired = self.fire(&mut rng);
                if self.spec.noise > 0.0 {
                    let mut noise = vec![0.0; self.spec.d];
                    fill_normal(&mut rng, self.spec.noise as f32, &mut noise);
                    for (x, e) in out.iter_mut().zip(noise) {
                        *x = e;
                    }
                }
                out += &self.bias;
                for &(feature, strength) in &fired {
                    out.scaled_add(strength, &self.directions.row(feature as usize));
                }
                fired
            })
            .collect();
        let mut truth = Codes::new();
        for row in drawn {
            truth.push(row);
        }
        (out, truth)
    }

    /// The features of a row, in rising order, with their strengths.
    fn fire(&self, rng: &mut ChaCha8Rng) -> Vec<(u32, f32)> {
        let common: Vec<f64> = (0..self.loadings.ncols())
            .map(|_| normals(rng)[0])
            .collect();
        let mut strengths = vec![0.0_f32; self.spec.features];
        // A parent stands before its children, so its own strength is known when they are asked.
        for feature in 0..self.spec.features {
            let roll = self.roll(feature, &common, rng);
            let gated = self.parents[feature].is_none_or(|parent| strengths[parent] > 0.0);
            if gated && roll < self.chances[feature] {
                let deviation = self.spec.strength_deviation;
                let strength = self.strengths[feature] + deviation * normals(rng)[0];
                strengths[feature] = strength.max(0.0) as f32;
            }
        }
        if let Some(trees) = self.spec.trees.filter(|trees| trees.exclusive) {
            self.keep_one_sibling(trees.children, &mut strengths, rng);
        }
        let fired = strengths.into_iter().enumerate().filter(|(_, s)| *s > 0.0);
        fired.map(|(feature, s)| (feature as u32, s)).collect()
    }

    /// A number from 0 to 1, uniform for each feature by itself; of features that hang together, together.
    fn roll(&self, feature: usize, common: &[f64], rng: &mut ChaCha8Rng) -> f64 {
        let Some(correlation) = self.spec.correlation else {
            return rng.random();
        };
        let loadings = self.loadings.row(feature);
        let shared: f64 = loadings.iter().zip(common).map(|(l, c)| l * c).sum();
        let own = (1.0 - correlation.common).sqrt() * normals(rng)[0];
        1.0 - normal_cdf(shared + own)
    }

    /// Silences all but one of the siblings that fired, and what stands below the silenced.
    fn keep_one_sibling(&self, children: usize, strengths: &mut [f32], rng: &mut ChaCha8Rng) {
        let mut first = self
            .parents
            .iter()
            .position(Option::is_some)
            .unwrap_or(usize::MAX);
        while first < strengths.len() && self.parents[first].is_some() {
            let siblings = first..(first + children).min(strengths.len());
            for feature in siblings.clone() {
                if self.parents[feature].is_some_and(|parent| strengths[parent] == 0.0) {
                    strengths[feature] = 0.0;
                }
            }
            let firing: Vec<usize> = siblings.filter(|&f| strengths[f] > 0.0).collect();
            if firing.len() > 1 {
                let kept = firing[rng.random_range(0..firing.len())];
                firing
                    .into_iter()
                    .filter(|&f| f != kept)
                    .for_each(|f| strengths[f] = 0.0);
            }
            first += children;
        }
    }
}
