//! What a search can try: a point of the unit cube, and the edit that it stands for.
//!
//! The numbers are those of heretic 1.4, whose search this is after: for attention and for the MLP each a peak, its place, the
//! share that is left at its end, and the distance to there ([`Kernel::Peak`]); the direction is one, or lies between the
//! candidates of two neighbouring layers. Embeddings are left alone. Always: a point gives the same edit on every machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::config::ModelConfig;
use crate::hooks::Vector;
use crate::steer::edit::{Amounts, Basis, WeightEdit};
use crate::steer::{Kernel, SteerError};

/// Directions of several layers that belong together: read in one way at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Such as `means.-1`.
    pub name: String,
    /// Layer and direction `[d_model]`, layers ascending; a single one is the direction.
    pub directions: Vec<(usize, Vector)>,
}

impl Series {
    /// One direction, of no layer in particular.
    pub fn one(name: &str, direction: Vector) -> Self {
        Self {
            name: name.to_owned(),
            directions: vec![(0, direction)],
        }
    }

    /// The direction at a layer, of length 1; between two layers that of their unit vectors' weighted sum.
    fn at(&self, layer: f64) -> Result<Vector, SearchError> {
        let unit = |vector: &Vector| -> Result<Vec<f64>, SearchError> {
            Ok(Basis::new(std::slice::from_ref(vector))?.rows().concat())
        };
        let narrow =
            |wide: Vec<f64>| -> Vector { Arc::new(wide.into_iter().map(|x| x as f32).collect()) };
        let after = self.directions.partition_point(|(l, _)| *l as f64 <= layer);
        let (low, high) = (
            after.saturating_sub(1),
            after.min(self.directions.len() - 1),
        );
        let [(from, a), (to, b)] = [&self.directions[low], &self.directions[high]];
        let share = if from == to {
            0.0
        } else {
            (layer - *from as f64) / (*to as f64 - *from as f64)
        };
        if share <= 0.0 {
            return Ok(narrow(unit(a)?));
        }
        let mixed = unit(a)?.into_iter().zip(unit(b)?);
        let mixed = mixed.map(|(a, b)| (1.0 - share) * a + share * b);
        Ok(narrow(unit(&narrow(mixed.collect()))?))
    }
}

/// A trial's place: numbers from 0 to 1, in the order of [`Space::names`], and which series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// One for each number of the space.
    pub unit: Vec<f64>,
    /// Index of the series.
    pub series: usize,
}

/// What a point stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The series of its direction.
    pub series: String,
    /// The layer of its direction, perhaps between two; `None` where there is one direction.
    pub layer: Option<f64>,
    /// Amounts of attention outputs.
    pub attn: Kernel,
    /// Amounts of MLP outputs.
    pub mlp: Kernel,
}

/// The numbers of a kernel, in order.
const KERNEL: [&str; 4] = ["max", "position", "min", "distance"];

/// What can be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    series: Vec<Series>,
    /// Least and largest of each number: attention's kernel, the MLP's, the layer of the direction.
    ranges: Vec<[f64; 2]>,
}

impl Space {
    /// Of a model and its directions.
    ///
    /// # Errors
    /// No direction, one of another width or of length zero.
    pub fn new(series: Vec<Series>, config: &ModelConfig) -> Result<Self, SearchError> {
        let count = series.iter().map(|s| s.directions.len()).min().unwrap_or(0);
        if count == 0 {
            return Err(SteerError::TooFew {
                what: "directions of a series to search over",
                needed: 1,
                found: 0,
            }
            .into());
        }
        for (_, direction) in series.iter().flat_map(|s| &s.directions) {
            // Refuses what no edit could be made of, before anything is run.
            let basis = Basis::new(std::slice::from_ref(direction))?;
            if basis.width() != config.d_model {
                return Err(SearchError::Setting {
                    field: "the width of a direction",
                    expected: "the model's",
                    found: basis.width().to_string(),
                });
            }
        }
        let last = config.n_layers.saturating_sub(1) as f64;
        let kernel = |max: [f64; 2]| {
            let distance = [1.0, (0.6 * last).max(1.0)];
            [max, [0.6 * last, last], [0.0, 1.0], distance]
        };
        // Below 0 the MLP is left alone: it can be switched off (heretic's issue 202).
        let mut ranges = [kernel([0.8, 1.5]), kernel([-0.25, 1.5])].concat();
        if series.iter().any(|s| s.directions.len() > 1) {
            ranges.push([0.4 * last, 0.9 * last]);
        }
        Ok(Self { series, ranges })
    }

    /// Numbers of a point.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Never: a kernel has numbers.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The series.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// What the numbers of a point are, each with its range.
    pub fn names(&self) -> Vec<(String, [f64; 2])> {
        let of = |part: &'static str| KERNEL.map(|name| format!("{part}_{name}"));
        let names = of("attn").into_iter().chain(of("mlp"));
        let names = names.chain(std::iter::once("direction_layer".to_owned()));
        names.zip(self.ranges.iter().copied()).collect()
    }

    /// The plain edit, all of the direction out of every block: where a search begins.
    pub fn uniform(&self) -> Point {
        let kernel = |max: [f64; 2]| [(1.0 - max[0]) / (max[1] - max[0]), 0.0, 1.0, 1.0];
        let mut unit = [kernel(self.ranges[0]), kernel(self.ranges[4])].concat();
        unit.resize(self.len(), 0.5);
        Point { unit, series: 0 }
    }

    fn number(&self, point: &Point, index: usize) -> f64 {
        let ([low, high], share) = (self.ranges[index], point.unit[index]);
        low * (1.0 - share) + high * share
    }

    fn kernel(&self, point: &Point, first: usize) -> Kernel {
        Kernel::Peak {
            max: self.number(point, first).max(0.0),
            position: self.number(point, first + 1),
            min: self.number(point, first + 2).clamp(0.0, 1.0),
            distance: self.number(point, first + 3),
        }
    }

    /// What a point stands for.
    ///
    /// # Errors
    /// A point of another space.
    pub fn plan(&self, point: &Point) -> Result<Plan, SearchError> {
        let series = self.series.get(point.series);
        let (Some(series), true) = (series, point.unit.len() == self.len()) else {
            return Err(SearchError::Setting {
                field: "a trial's point",
                expected: "one of this space",
                found: format!("{} numbers, series {}", point.unit.len(), point.series),
            });
        };
        let many = series.directions.len() > 1;
        let last = series.directions.len() - 1;
        let layers = [series.directions[0].0, series.directions[last].0].map(|l| l as f64);
        Ok(Plan {
            series: series.name.clone(),
            layer: many.then(|| self.number(point, 8).clamp(layers[0], layers[1])),
            attn: self.kernel(point, 0),
            mlp: self.kernel(point, 4),
        })
    }

    /// The direction of a point, of length 1.
    ///
    /// # Errors
    /// As [`Self::plan`]; two neighbours that point against each other.
    pub fn direction(&self, point: &Point) -> Result<Vector, SearchError> {
        let plan = self.plan(point)?;
        let series = &self.series[point.series];
        series.at(plan.layer.unwrap_or(series.directions[0].0 as f64))
    }

    /// The edit of a point.
    ///
    /// # Errors
    /// As [`Self::direction`].
    pub fn edit(&self, point: &Point, config: &ModelConfig) -> Result<WeightEdit, SearchError> {
        let plan = self.plan(point)?;
        let basis = Basis::new(&[self.direction(point)?])?;
        let mut edit = WeightEdit::new(basis, config);
        edit.amounts = Amounts {
            embed: 0.0,
            attn: plan.attn.weights(config)?,
            mlp: plan.mlp.weights(config)?,
        };
        Ok(edit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;

    fn config(n_layers: usize) -> ModelConfig {
        let toy = Checkpoint::toy(0).unwrap().config().clone();
        ModelConfig {
            n_layers,
            d_model: 2,
            ..toy
        }
    }

    fn vector(a: f32, b: f32) -> Vector {
        Arc::new(vec![a, b])
    }

    #[test]
    fn between_two_layers_lies_their_mean_of_unit_length() {
        let series = Series {
            name: "s".into(),
            directions: vec![(2, vector(3.0, 0.0)), (4, vector(0.0, 0.5))],
        };
        let half = 0.5f32.sqrt();
        for (layer, expected) in [
            (2.0, [1.0, 0.0]),
            (4.0, [0.0, 1.0]),
            (3.0, [half, half]),
            // (3/4, 1/4) / √10 · 4
            (2.5, [3.0 / 10f32.sqrt(), 1.0 / 10f32.sqrt()]),
        ] {
            let found = series.at(layer).unwrap();
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-6, "{layer}: {found:?}");
            }
        }
    }

    #[test]
    fn the_first_point_is_the_whole_direction_out_of_every_block() {
        for n in [1, 2, 4, 30] {
            let config = config(n);
            let series = Series::one("d", vector(1.0, 2.0));
            let space = Space::new(vec![series], &config).unwrap();
            assert_eq!(space.len(), 8);
            let edit = space.edit(&space.uniform(), &config).unwrap();
            for amount in edit.amounts.attn.iter().chain(&edit.amounts.mlp) {
                assert!((amount - 1.0).abs() < 1e-12, "{n}: {amount}");
            }
            assert_eq!(edit.amounts.embed, 0.0);
        }
    }

    #[test]
    fn a_negative_peak_leaves_the_mlp_alone_and_corners_are_the_ranges_ends() {
        let config = config(11);
        let series = Series {
            name: "s".into(),
            directions: vec![(1, vector(1.0, 0.0)), (5, vector(0.0, 1.0))],
        };
        let space = Space::new(vec![series], &config).unwrap();
        let mut point = Point {
            unit: vec![0.0; 9],
            series: 0,
        };
        let plan = space.plan(&point).unwrap();
        // L' = 10: peak from 6, distance from 1, direction from layer 4.
        let peak = |max, position, min, distance| Kernel::Peak {
            position,
            distance,
            min,
            max,
        };
        assert_eq!(plan.attn, peak(0.8, 6.0, 0.0, 1.0));
        assert_eq!(plan.mlp, peak(0.0, 6.0, 0.0, 1.0));
        assert_eq!(plan.layer, Some(4.0));
        point.unit = vec![1.0; 9];
        let plan = space.plan(&point).unwrap();
        assert_eq!(plan.attn, peak(1.5, 10.0, 1.0, 6.0));
        // The range ends at 9, the series at 5.
        assert_eq!(plan.layer, Some(5.0));
        point.series = 1;
        assert!(space.plan(&point).is_err());
    }
}
