//! Ways to make a direction out of two classes of activations.
//!
//! Always: the direction points from negative to positive, and its length is what it has to be scaled by so that an addition
//! moves the mean of the negative class, along it, as far as the mean of the positive class. For the difference of means
//! that is its own length.

use candlescope_probes::components::{components, deltas};
use candlescope_probes::direction::{split_half, split_half_of};
use candlescope_probes::{
    Direction, LogisticOptions, LogisticProbe, MassMean, Penalty, ProbeError, Reliability,
    Whitening,
};
use ndarray::{Array1, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

/// Random splits behind a split-half reliability.
const SPLITS: usize = 20;

/// C of the logistic direction: strong, because there are more channels than prompts.
const C: f64 = 0.01;

/// How a direction is made.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// μ⁺ − μ⁻ (Arditi et al. 2024; Marks and Tegmark 2023).
    #[default]
    Means,
    /// Σ⁻¹(μ⁺ − μ⁻), Σ the pooled covariance within classes, shrunk as Ledoit and Wolf do: linear discriminant analysis.
    Whitened,
    /// The first principal component of differences between the i-th prompts of both classes, not centred: the mean difference
    /// stays in.
    Pca,
    /// The weights of an L2-penalised logistic probe on raw activations.
    Logistic,
}

impl Method {
    /// All, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Means, Self::Whitened, Self::Pca, Self::Logistic];

    /// The word used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Means => "means",
            Self::Whitened => "whitened",
            Self::Pca => "pca",
            Self::Logistic => "logistic",
        }
    }

    /// The direction between activations `[n⁺, d]` and `[n⁻, d]`, without reliability.
    ///
    /// # Errors
    /// No difference, too few or broken activations, a fit that does not converge.
    pub fn direction(
        self,
        positive: ArrayView2<f32>,
        negative: ArrayView2<f32>,
    ) -> Result<Direction, ProbeError> {
        let means = Direction::difference_of_means(positive, negative)?;
        if self == Self::Means {
            return Ok(means);
        }
        let weights = self.weights(positive, negative)?;
        let difference: Array1<f64> = means.scaled().iter().map(|&v| f64::from(v)).collect();
        let length = weights.dot(&weights).sqrt();
        let along = weights.dot(&difference) / length;
        let oriented = if along < 0.0 { -weights } else { weights };
        let made = Direction::from_vector(oriented.view())?;
        Ok(Direction {
            vector: made.vector,
            norm: along.abs(),
            ..means
        })
    }

    /// How well the same direction comes back from other prompts.
    ///
    /// # Errors
    /// As [`Self::direction`], in any half; fewer than 4 prompts in a class.
    pub fn reliability(
        self,
        positive: ArrayView2<f32>,
        negative: ArrayView2<f32>,
        seed: u64,
    ) -> Result<Reliability, ProbeError> {
        if self == Self::Means {
            return split_half(positive, negative, SPLITS, 0.95, seed);
        }
        split_half_of(
            (positive, negative),
            SPLITS,
            0.95,
            seed,
            |(p, n), (x, y)| {
                let half = (x.select(Axis(0), p), y.select(Axis(0), n));
                let made = self.direction(half.0.view(), half.1.view())?;
                Ok(made.vector.iter().map(|&v| f64::from(v)).collect())
            },
        )
    }

    fn weights(
        self,
        positive: ArrayView2<f32>,
        negative: ArrayView2<f32>,
    ) -> Result<Array1<f64>, ProbeError> {
        if self == Self::Pca {
            let found = components(deltas(positive, negative).view(), 1)?;
            return Ok(found.vectors.row(0).to_owned());
        }
        let x = concatenate(Axis(0), &[positive.view(), negative.view()]).map_err(|error| {
            ProbeError::Numerical {
                what: "stacking activations",
                reason: error.to_string(),
            }
        })?;
        let mut labels = vec![true; positive.nrows()];
        labels.resize(x.nrows(), false);
        if self == Self::Whitened {
            let fitted = MassMean::fit(x.view(), &labels, Whitening::LedoitWolf)?;
            return Ok(fitted.theta.into());
        }
        let options = LogisticOptions {
            penalty: Penalty::Fixed(C),
            ..LogisticOptions::default()
        };
        let fitted = LogisticProbe::fit(x.view(), &labels, &options)?;
        Ok(fitted.raw_weights().into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::{Array2, array};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Two classes apart along a planted direction, with noise that is 20 times stronger along one axis.
    fn planted(n: usize, d: usize, apart: f32, seed: u64) -> (Array2<f32>, Array2<f32>, Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut truth: Vec<f32> = (0..d).map(|_| rng.random_range(-1.0..1.0)).collect();
        truth[0] = 0.0;
        let length = truth.iter().map(|v| v * v).sum::<f32>().sqrt();
        for v in &mut truth {
            *v /= length;
        }
        let mut class = |shift: f32| {
            Array2::from_shape_fn((n, d), |(_, j)| {
                let noise: f32 = rng.random_range(-1.0..1.0);
                noise * if j == 0 { 20.0 } else { 1.0 } + shift * truth[j]
            })
        };
        let (positive, negative) = (class(apart), class(0.0));
        (positive, negative, truth)
    }

    fn cosine(direction: &Direction, truth: &[f32]) -> f64 {
        let pairs = direction.vector.iter().zip(truth);
        pairs.map(|(a, b)| f64::from(a * b)).sum()
    }

    #[test]
    fn each_method_finds_the_planted_direction_and_points_to_the_positive_class() {
        let (positive, negative, truth) = planted(400, 12, 6.0, 3);
        for (method, least) in [
            (Method::Means, 0.9),
            (Method::Whitened, 0.99),
            (Method::Pca, 0.0),
            (Method::Logistic, 0.85),
        ] {
            let made = method.direction(positive.view(), negative.view()).unwrap();
            let found = cosine(&made, &truth);
            assert!(found > least, "{}: {found}", method.name());
        }
    }

    #[test]
    fn lengths_move_one_mean_onto_the_other_along_the_direction() {
        let (positive, negative, _) = planted(50, 6, 4.0, 5);
        let mean = |x: &Array2<f32>| x.mapv(f64::from).mean_axis(Axis(0)).unwrap();
        let difference = mean(&positive) - mean(&negative);
        for method in Method::ALL {
            let made = method.direction(positive.view(), negative.view()).unwrap();
            let unit: Array1<f64> = made.vector.iter().map(|&v| f64::from(v)).collect();
            assert!(
                (made.norm - unit.dot(&difference)).abs() < 1e-5,
                "{method:?}"
            );
            assert!(made.norm > 0.0);
        }
    }

    #[test]
    fn the_component_that_is_not_centred_keeps_the_mean_difference() {
        // Differences (3, 1), (3, −1): not centred the first component is (1, 0); centred it would be (0, 1).
        let positive = array![[3.0f32, 1.0], [3.0, -1.0]];
        let negative = array![[0.0f32, 0.0], [0.0, 0.0]];
        let made = Method::Pca
            .direction(positive.view(), negative.view())
            .unwrap();
        assert!((made.vector[0] - 1.0).abs() < 1e-6 && made.vector[1].abs() < 1e-6);
        assert!((made.norm - 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_direction_of_noise_does_not_come_back() {
        let (positive, negative, _) = planted(60, 40, 0.0, 9);
        let (far, near, _) = planted(60, 40, 8.0, 9);
        // The component that is not centred follows the loud axis, planted or not.
        for method in [Method::Means, Method::Whitened, Method::Logistic] {
            let half = |x: &Array2<f32>, y: &Array2<f32>| {
                method
                    .reliability(x.view(), y.view(), 1)
                    .unwrap()
                    .half_cosine
            };
            let (noise, real) = (half(&positive, &negative), half(&far, &near));
            assert!(
                noise.abs() < 0.6 && real > noise + 0.1,
                "{method:?} {noise} {real}"
            );
        }
    }

    #[test]
    fn equal_means_are_no_direction() {
        let x = array![[1.0f32, 2.0], [3.0, 4.0]];
        for method in Method::ALL {
            let error = method.direction(x.view(), x.view()).unwrap_err();
            assert!(
                matches!(error, ProbeError::NoDirection { .. }),
                "{method:?} {error}"
            );
        }
    }
}
