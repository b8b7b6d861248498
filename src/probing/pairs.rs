//! Contrast-consistent search on labelled rows: the two rows of a group are a statement and its negation, in this order
//! whichever holds; the search sees no label but for the sign at its end.
//!
//! Always: found on the training pairs, the place chosen by AUROC over validation pairs, reported on the test pairs; beside it
//! a logistic probe of the difference between the sides, which does see labels, and permuted labels. Kept as a linear probe.

use std::collections::BTreeMap;

use candlescope_probes::calibration::{BalancedAccuracy, Platt, balanced_accuracy};
use candlescope_probes::ccs::{Ccs, CcsOptions};
use candlescope_probes::controls::label_shuffle;
use candlescope_probes::linear::ChooseC;
use candlescope_probes::roc::{auroc_value, recall_at_fpr};
use candlescope_probes::{
    Auroc, Kind, LinearProbe, NullDistribution, ProbeError, Score, auroc, linear,
};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::score::{HeldOut, judge};
use super::{Fitting, Harvest, Labelled, Place, ProbingError, Splits};

/// Permutations of the test pairs' labels.
const SHUFFLES: usize = 1000;
/// The penalty of the probe that sees labels.
const SEEING_C: f64 = 0.01;

/// What a direction is worth on pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairsAbout {
    /// Pairs (train, validation, test).
    pub n: [usize; 3],
    /// Mean loss of a training pair, and that of every start.
    pub loss: f64,
    /// The losses of all starts, in order.
    pub losses: Vec<f64>,
    /// Over test pairs: does the side that holds score higher?
    pub auroc: Auroc,
    /// Over test pairs, at one half.
    pub balanced_accuracy: BalancedAccuracy,
    /// The AUROC beside those on permuted labels.
    pub null: NullDistribution,
    /// Over test pairs, of the probe that was fitted with labels.
    pub seeing: Auroc,
}

/// A direction that was found on pairs.
pub struct PairsFit {
    /// Where it reads.
    pub place: Place,
    /// As a probe of single rows.
    pub probe: LinearProbe,
    /// Of single validation rows.
    pub platt: Platt,
    /// From the validation rows' negatives.
    pub threshold: f64,
    /// On single test rows.
    pub test: HeldOut,
    /// On pairs.
    pub pairs: PairsAbout,
}

/// Pairs of rows of one part.
struct Sides {
    first: Vec<usize>,
    second: Vec<usize>,
    /// Whether the first side holds.
    holds: Vec<bool>,
}

impl Sides {
    fn of(data: &Labelled, labels: &[bool], rows: &[usize]) -> Result<Self, ProbingError> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let wrong = |what: String| ProbingError::Pairs { what };
        for &row in rows {
            let of = &data.rows[row];
            let Some(group) = of.group.as_deref() else {
                return Err(wrong(format!("row `{}` has no `group`", of.id)));
            };
            groups.entry(group).or_default().push(row);
        }
        let mut pairs = Vec::with_capacity(groups.len());
        for (group, rows) in groups {
            let [one, two] = rows[..] else {
                return Err(wrong(format!("group `{group}` has {} rows", rows.len())));
            };
            if labels[one] == labels[two] {
                return Err(wrong(format!(
                    "the rows of group `{group}` have the same label"
                )));
            }
            pairs.push((one.min(two), one.max(two)));
        }
        pairs.sort_unstable();
        let holds: Vec<bool> = pairs.iter().map(|(first, _)| labels[*first]).collect();
        if holds.iter().all(|&h| h) || !holds.iter().any(|&h| h) {
            let which = if holds.first() == Some(&true) {
                "first"
            } else {
                "second"
            };
            return Err(wrong(format!(
                "in every pair the {which} row is the positive one, so that the side alone tells: put the statement first whether or not it holds"
            )));
        }
        Ok(Self {
            first: pairs.iter().map(|p| p.0).collect(),
            second: pairs.iter().map(|p| p.1).collect(),
            holds,
        })
    }

    /// Activations of both sides.
    fn at(&self, x: ArrayView2<f32>) -> (Array2<f32>, Array2<f32>) {
        (
            x.select(Axis(0), &self.first),
            x.select(Axis(0), &self.second),
        )
    }
}

/// Searches on the training pairs at every place of the harvest, and judges the best.
///
/// # Errors
/// Rows that are not pairs, a statistic that is refused, by its place.
pub fn fit_pairs(
    data: &Labelled,
    labels: &[bool],
    splits: &Splits,
    harvest: &Harvest,
    fitting: &Fitting,
) -> Result<PairsFit, ProbingError> {
    let [train, validation, test] = [&splits.train, &splits.validation, &splits.test];
    let sides = |rows: &[usize]| Sides::of(data, labels, rows);
    let (train, validation, test) = (sides(train)?, sides(validation)?, sides(test)?);
    let options = CcsOptions {
        seed: fitting.seed,
        ..CcsOptions::default()
    };
    let at = |(place, x): (&Place, &Array2<f32>)| {
        let search = || -> Result<(Ccs, f64), ProbeError> {
            let (one, two) = train.at(x.view());
            let found = Ccs::fit(one.view(), two.view(), &options)?;
            let found = found.oriented(one.view(), two.view(), &train.holds)?;
            let (one, two) = validation.at(x.view());
            let scores = found.scores(one.view(), two.view())?;
            let value = auroc_value(&scores, &validation.holds)?;
            Ok((found, value))
        };
        search().map_err(|source| ProbingError::Cell {
            cell: place.to_string(),
            source,
        })
    };
    let found = (harvest.places.par_iter().zip(&harvest.data))
        .map(at)
        .collect::<Result<Vec<_>, _>>()?;
    let better = |best: usize, i: usize| {
        if found[i].1 > found[best].1 + 1e-12 {
            i
        } else {
            best
        }
    };
    let index = (1..found.len()).fold(0, better);
    let Some((ccs, _)) = found.into_iter().nth(index) else {
        return Err(ProbingError::Written {
            what: "points",
            expected: "at least one",
            found: String::new(),
        });
    };
    let x = harvest.data[index].view();
    let (one, two) = test.at(x);
    let scores = ccs.scores(one.view(), two.view())?;
    let seeing = {
        let difference = |sides: &Sides| {
            let (one, two) = sides.at(x);
            one - two
        };
        let c = ChooseC::Fixed(SEEING_C);
        let probe = linear::fit(Kind::Logistic, difference(&train).view(), &train.holds, c)?;
        auroc(
            &probe.scores(difference(&test).view())?,
            &test.holds,
            fitting.level,
        )?
    };
    let pairs = PairsAbout {
        n: [train.holds.len(), validation.holds.len(), test.holds.len()],
        loss: ccs.loss,
        losses: ccs.losses.clone(),
        auroc: auroc(&scores, &test.holds, fitting.level)?,
        balanced_accuracy: balanced_accuracy(&scores, &test.holds, 0.5, fitting.level)?,
        null: label_shuffle(&test.holds, SHUFFLES, fitting.seed, |holds| {
            auroc_value(&scores, holds)
        })?,
        seeing,
    };
    let rows = |rows: &[usize]| x.select(Axis(0), rows);
    let probe = ccs.of_items(rows(&splits.train).view())?;
    let pick = |rows: &[usize]| rows.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
    let y = pick(&splits.validation);
    let on_validation = probe.scores(rows(&splits.validation).view())?;
    let platt = Platt::fit(&on_validation, &y)?;
    let threshold = recall_at_fpr(&on_validation, &y, fitting.fpr, fitting.level)?.threshold;
    Ok(PairsFit {
        test: judge(
            &probe.scores(rows(&splits.test).view())?,
            &pick(&splits.test),
            Some(threshold),
            Some(&platt),
            fitting.fpr,
            fitting.level,
        )?,
        place: harvest.places[index],
        probe,
        platt,
        threshold,
        pairs,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hooks::{HookPoint, Point};
    use crate::probing::{Content, Example, Position};

    /// 90 pairs; feature 0 says whether a row holds, feature 1 on which side it stands, the rest is noise.
    fn planted() -> (Labelled, Vec<bool>, Splits, Harvest) {
        let holds = |row: usize| (row / 2).is_multiple_of(3) == row.is_multiple_of(2);
        let noise = |row: usize, j: usize| ((row * 7919 + j * 104_729) % 1000) as f32 / 500.0 - 1.0;
        let rows = (0..180).map(|row| Example {
            id: row.to_string(),
            content: Content::Text(row.to_string()),
            label: Some(usize::from(holds(row))),
            group: Some((row / 2).to_string()),
            topic: None,
            split: None,
        });
        let data = Labelled {
            name: "planted".into(),
            rows: rows.collect(),
            classes: vec!["false".into(), "true".into()],
            hash: String::new(),
        };
        let x = Array2::from_shape_fn((180, 6), |(row, j)| match j {
            0 => 0.3 * noise(row, j) + if holds(row) { 1.0 } else { -1.0 },
            1 => {
                if row % 2 == 0 {
                    5.0
                } else {
                    -5.0
                }
            }
            _ => 0.5 * noise(row, j),
        });
        let splits = Splits {
            train: (0..100).collect(),
            validation: (100..140).collect(),
            test: (140..180).collect(),
            units: (0..180).map(|row| row / 2 * 2).collect(),
            given: false,
            near_repeats_across: 0,
            all_pairs: true,
        };
        let place = Place {
            point: HookPoint::new(Point::ResidPost, 1),
            position: Position::FromEnd(1),
        };
        let harvest = Harvest {
            places: vec![place],
            data: vec![x],
        };
        let labels = data.labels(1);
        (data, labels, splits, harvest)
    }

    #[test]
    fn what_holds_is_found_without_labels_and_the_side_is_not() {
        let (data, labels, splits, harvest) = planted();
        let found = fit_pairs(&data, &labels, &splits, &harvest, &Fitting::default()).unwrap();
        let pairs = &found.pairs;
        assert_eq!(pairs.n, [50, 20, 20]);
        assert!(
            pairs.auroc.value > 0.95 && pairs.balanced_accuracy.value > 0.9,
            "{pairs:?}"
        );
        assert!(pairs.null.p_upper < 0.01 && (pairs.null.mean - 0.5).abs() < 0.1);
        assert!(found.test.auroc.value > 0.95, "{:?}", found.test.auroc);
        let weights = &found.probe.weights;
        // In units of each feature's spread.
        let along: Vec<f64> = weights
            .iter()
            .zip(&found.probe.scale)
            .map(|(w, s)| w * s)
            .collect();
        assert!(
            along[0] > 0.0 && along[0] > 2.0 * along[1].abs(),
            "{along:?}"
        );
    }

    #[test]
    fn rows_that_are_no_pairs_are_named() {
        let refused = |change: &dyn Fn(&mut Labelled)| {
            let (mut data, _, splits, harvest) = planted();
            change(&mut data);
            let labels = data.labels(1);
            let found = fit_pairs(&data, &labels, &splits, &harvest, &Fitting::default());
            found.err().map(|e| e.to_string()).unwrap_or_default()
        };
        let why = refused(&|data| data.rows[3].group = None);
        assert!(why.contains("row `3` has no `group`"), "{why}");
        let why = refused(&|data| data.rows[3].group = Some("0".into()));
        assert!(why.contains("group `0` has 3 rows"), "{why}");
        let why = refused(&|data| data.rows[2].label = data.rows[3].label);
        assert!(why.contains("group `1` have the same label"), "{why}");
        let why = refused(&|data| {
            for (i, row) in data.rows.iter_mut().enumerate() {
                row.label = Some(1 - i % 2);
            }
        });
        assert!(why.contains("the first row is the positive one"), "{why}");
    }
}
