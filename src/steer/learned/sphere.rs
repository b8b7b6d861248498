//! AdamW on orthonormal directions: each gradient is projected to the tangent space of the sphere, and after each step the rows
//! are made orthonormal again (Gram-Schmidt), as in Wollschläger et al.
//!
//! Always: all of it is in f64 and can be written down, so that a run continues to the bit. Decay would only shrink what is
//! brought back to length 1, so there is none.

use serde::{Deserialize, Serialize};

/// β of the paper.
const BETAS: [f64; 2] = [0.9, 0.98];

/// Directions with the moments of their gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sphere {
    rows: Vec<Vec<f64>>,
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
    /// The largest second moment so far (AMSGrad).
    most: Vec<Vec<f64>>,
    steps: u32,
}

impl Sphere {
    /// Of rows `[k][d_model]`, which are made orthonormal.
    pub fn new(rows: Vec<Vec<f64>>) -> Self {
        let zeros: Vec<Vec<f64>> = rows.iter().map(|row| vec![0.0; row.len()]).collect();
        let mut sphere = Self {
            rows,
            first: zeros.clone(),
            second: zeros.clone(),
            most: zeros,
            steps: 0,
        };
        sphere.orthonormalise();
        sphere
    }

    /// The directions.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// Steps so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Goes against these gradients `[k][d_model]`.
    pub fn step(&mut self, gradients: &[Vec<f64>], rate: f64) {
        self.steps += 1;
        let [b1, b2] = BETAS;
        let whole = [
            1.0 - b1.powi(self.steps as i32),
            1.0 - b2.powi(self.steps as i32),
        ];
        for (k, gradient) in gradients.iter().enumerate().take(self.rows.len()) {
            let along = dot(gradient, &self.rows[k]);
            for (i, g) in gradient.iter().enumerate() {
                let g = g - along * self.rows[k][i];
                let m = &mut self.first[k][i];
                *m = b1 * *m + (1.0 - b1) * g;
                let v = &mut self.second[k][i];
                *v = b2 * *v + (1.0 - b2) * g * g;
                let most = &mut self.most[k][i];
                *most = most.max(*v);
                let scale = (*most / whole[1]).sqrt() + 1e-8;
                self.rows[k][i] -= rate * (*m / whole[0]) / scale;
            }
        }
        self.orthonormalise();
    }

    fn orthonormalise(&mut self) {
        for k in 0..self.rows.len() {
            let (before, rest) = self.rows.split_at_mut(k);
            let Some(row) = rest.first_mut() else { return };
            // Twice, so that rounding leaves no part of the earlier ones either.
            for _ in 0..2 {
                for other in before.iter() {
                    let along = dot(other, row);
                    row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
                }
            }
            let length = dot(row, row).sqrt().max(f64::MIN_POSITIVE);
            for x in row {
                *x /= length;
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_to_the_point_of_least_value_and_stays_on_the_sphere() {
        // f(r) = -r·t on the sphere is least at t.
        let target = [0.6, 0.0, -0.8];
        let mut sphere = Sphere::new(vec![vec![5.0, 1.0, 2.0]]);
        for _ in 0..1000 {
            sphere.step(&[target.map(|t| -t).to_vec()], 1e-2);
            let row = &sphere.rows()[0];
            assert!((dot(row, row) - 1.0).abs() < 1e-12);
        }
        assert!(dot(&sphere.rows()[0], &target) > 0.999);
    }

    #[test]
    fn rows_stay_orthonormal_and_what_points_outward_moves_nothing() {
        let mut sphere = Sphere::new(vec![vec![1.0, 1.0, 0.0], vec![1.0, 0.0, 0.5]]);
        let before = sphere.clone();
        // A gradient along the row itself has no part in the tangent space.
        sphere.step(&[before.rows()[0].clone(), before.rows()[1].clone()], 0.1);
        for (a, b) in sphere.rows().iter().zip(before.rows()) {
            assert!((dot(a, b) - 1.0).abs() < 1e-6, "{a:?} {b:?}");
        }
        sphere.step(&[vec![0.3, -1.0, 2.0], vec![1.0, 1.0, 1.0]], 0.1);
        let [a, b] = [&sphere.rows()[0], &sphere.rows()[1]];
        assert!(dot(a, b).abs() < 1e-14 && (dot(b, b) - 1.0).abs() < 1e-14);
        assert!(dot(a, &before.rows()[0]) < 0.9999);
    }
}
