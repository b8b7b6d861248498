//! Signal 25.
#![doc = include_str!("pages/trait_drift.md")]

use candlescope_probes::{NullDistribution, direction};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::states::Traits;
use crate::audit::evidence::{Evidence, Place, Use, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How far the model has moved along directions of traits.
pub struct TraitDrift;

const ID: &str = "trait_drift";

impl Signal for TraitDrift {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Activations, Need::Traits]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/trait_drift.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let base = cx.required_baseline()?;
        let traits = need(&base.traits, "the baseline's traits")?;
        let drift = Drift::of(cx.subject, base, traits)?;
        let mut result = blank(ID)?;
        let own = cx.subject.traits.as_ref().ok();
        result.values = vec![
            distance(&drift, cx)?,
            largest(&drift, cx)?,
            rotation(traits, own)?,
        ];
        result.findings = vec![format!(
            "{} traits at the input of layer {}, {} harmless prompts; intervals resample prompts.",
            traits.all.len(),
            traits.layer,
            drift.n
        )];
        let z = drift.shifts(&drift.everything());
        result.items = items(traits, own, &z);
        result.charts = vec![chart(traits, &z)];
        Ok(result)
    }
}

/// Projections of both models' states on the baseline's directions, prompt by prompt.
struct Drift {
    n: usize,
    /// The baseline's, `[trait][prompt]`.
    there: Vec<Vec<f64>>,
    /// Subject minus baseline, `[trait][prompt]`.
    moved: Vec<Vec<f64>>,
    /// Deviations of the baseline's over prompts.
    spread: Vec<f64>,
    /// Factor of the shrunk covariance of the baseline's, in these deviations.
    factor: Vec<Vec<f64>>,
}

impl Drift {
    fn of(here: &Evidence, base: &Evidence, traits: &Traits) -> Result<Self, SignalError> {
        let states = |of: &Evidence| -> Result<Vec<Vec<f64>>, SignalError> {
            let activations = need(&of.activations, "activations")?;
            let [_, harmless] = activations.at(Use::Test, Place::Template, traits.layer)?;
            let project = |vector: &[f32]| -> Vec<f64> {
                let rows = harmless.rows().into_iter();
                let product = |row: ndarray::ArrayView1<f32>| -> f64 {
                    let products = row.iter().zip(vector);
                    products.map(|(x, v)| f64::from(*x) * f64::from(*v)).sum()
                };
                rows.map(product).collect()
            };
            Ok(traits.all.iter().map(|one| project(&one.vector)).collect())
        };
        let (now, there) = (states(here)?, states(base)?);
        let moved = now.iter().zip(&there);
        let moved: Vec<Vec<f64>> = moved
            .map(|(now, there)| estimate::differences(now, there))
            .collect::<Result<_, _>>()?;
        let n = there.first().map_or(0, Vec::len);
        let spread: Vec<f64> = there.iter().map(|values| estimate::sd(values)).collect();
        if n < 4 || spread.iter().any(|sd| sd.is_nan() || *sd <= 0.0) {
            return Err(SignalError::Missing {
                what: "the baseline's spread over prompts",
                why: format!("{n} harmless prompts do not vary along every trait"),
            });
        }
        let factor = cholesky(&shrunk(&there, &spread)).ok_or_else(|| SignalError::Missing {
            what: "the covariance of traits",
            why: "it cannot be inverted".to_owned(),
        })?;
        Ok(Self {
            n,
            there,
            moved,
            spread,
            factor,
        })
    }

    fn everything(&self) -> Vec<usize> {
        (0..self.n).collect()
    }

    /// The mean move along each trait, in deviations of the baseline over prompts.
    fn shifts(&self, drawn: &[usize]) -> Vec<f64> {
        let mean =
            |moved: &Vec<f64>| drawn.iter().map(|&i| moved[i]).sum::<f64>() / drawn.len() as f64;
        let means = self.moved.iter().map(mean);
        means
            .zip(&self.spread)
            .map(|(mean, sd)| mean / sd)
            .collect()
    }

    /// Mahalanobis' length of shifts.
    fn length(&self, shifts: &[f64]) -> f64 {
        let mut solved: Vec<f64> = Vec::with_capacity(shifts.len());
        for (i, shift) in shifts.iter().enumerate() {
            let row = &self.factor[i];
            let before: f64 = row.iter().zip(&solved).map(|(a, b)| a * b).sum();
            solved.push((shift - before) / row[i]);
        }
        solved.iter().map(|x| x * x).sum::<f64>().sqrt()
    }

    fn still(&self) -> bool {
        self.moved.iter().flatten().all(|moved| *moved == 0.0)
    }
}

/// The correlation of projections, shrunk to no correlation by as many pseudo-prompts as there are traits.
fn shrunk(values: &[Vec<f64>], spread: &[f64]) -> Vec<Vec<f64>> {
    let (k, n) = (values.len(), values[0].len());
    let keep = n as f64 / (n + k) as f64;
    let means: Vec<f64> = values
        .iter()
        .map(|values| estimate::average(values))
        .collect();
    let correlation = |a: usize, b: usize| {
        let products = values[a].iter().zip(&values[b]);
        let sum: f64 = products.map(|(x, y)| (x - means[a]) * (y - means[b])).sum();
        sum / (n as f64 - 1.0) / (spread[a] * spread[b])
    };
    (0..k)
        .map(|a| {
            (0..k)
                .map(|b| {
                    if a == b {
                        1.0
                    } else {
                        keep * correlation(a, b)
                    }
                })
                .collect()
        })
        .collect()
}

/// The lower factor of a symmetric matrix; `None` where it is not positive.
fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    let mut lower = vec![vec![0.0; n]; n];
    for (i, row) in matrix.iter().enumerate() {
        for (j, value) in row.iter().enumerate().take(i + 1) {
            let before: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
            let rest = value - before;
            lower[i][j] = if i == j {
                (rest > 0.0).then(|| rest.sqrt())?
            } else {
                rest / lower[j][j]
            };
        }
    }
    Some(lower)
}

fn distance(drift: &Drift, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "mahalanobis")?;
    if drift.still() {
        return Ok(nothing(wanted.measured(0.0), drift.n));
    }
    let observed = drift.length(&drift.shifts(&drift.everything()));
    let value = wanted.measured(observed);
    let value = estimate::bootstrapped(value, drift.n, cx, "mahalanobis", |drawn| {
        drift.length(&drift.shifts(drawn))
    })?;
    let value = estimate::or_alike(value);
    // How far two random halves of the prompts lie apart on the baseline itself.
    let mut rng = ChaCha8Rng::seed_from_u64(cx.seed_for("halves"));
    let mut order = drift.everything();
    let draws = (0..cx.policy.sizes.shuffles.max(2)).map(|_| {
        order.shuffle(&mut rng);
        let (one, other) = order.split_at(drift.n / 2);
        let mean = |values: &[f64], half: &[usize]| {
            half.iter().map(|&i| values[i]).sum::<f64>() / half.len() as f64
        };
        let apart: Vec<f64> = (drift.there.iter().zip(&drift.spread))
            .map(|(values, sd)| (mean(values, one) - mean(values, other)) / sd)
            .collect();
        drift.length(&apart)
    });
    let null = NullDistribution::new(drift.n, observed, draws.collect())?;
    let null = estimate::null_of("random halves of the baseline's prompts", &null);
    Ok(value.with_null(null))
}

fn largest(drift: &Drift, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "largest_shift")?;
    if drift.still() {
        return Ok(nothing(wanted.measured(0.0), drift.n));
    }
    let of = |drawn: &[usize]| {
        let sizes = drift.shifts(drawn).into_iter().map(f64::abs);
        sizes.fold(0.0, f64::max)
    };
    let value = wanted.measured(of(&drift.everything()));
    let value = estimate::bootstrapped(value, drift.n, cx, "largest_shift", of)?;
    Ok(estimate::or_alike(value))
}

fn nothing(value: Value, n: usize) -> Value {
    let value = value.with_n(n as u64);
    value.with_interval(0.0, 0.0, "identical")
}

/// The least cosine of a trait's direction here with the baseline's.
fn rotation(traits: &Traits, own: Option<&Traits>) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "least_cosine")?;
    let Some(own) = own else {
        return Ok(wanted.missing("this checkpoint's own directions were not fitted"));
    };
    let mut least: Option<f64> = None;
    for (one, other) in paired(traits, own) {
        let cosine = if one == other {
            1.0
        } else {
            direction::cosine(one, other)?
        };
        least = Some(least.map_or(cosine, |known| known.min(cosine)));
    }
    Ok(match least {
        Some(cosine) => wanted.measured(cosine),
        None => wanted.missing("no trait has a direction on both checkpoints"),
    })
}

fn paired<'a>(traits: &'a Traits, own: &'a Traits) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    traits.all.iter().filter_map(|one| {
        let other = own.all.iter().find(|other| other.name == one.name)?;
        Some((one.vector.as_slice(), other.vector.as_slice()))
    })
}

fn items(traits: &Traits, own: Option<&Traits>, shifts: &[f64]) -> Vec<Item> {
    let each = traits.all.iter().zip(shifts);
    each.map(|(one, shift)| {
        let mut item = Item {
            id: one.name.clone(),
            label: "trait".to_owned(),
            ..Item::default()
        };
        item.numbers.insert("shift".to_owned(), *shift);
        let pairs = one.pairs as f64;
        item.numbers.insert("pairs".to_owned(), pairs);
        let other = own.and_then(|own| own.all.iter().find(|other| other.name == one.name));
        if let Some(cosine) =
            other.and_then(|other| direction::cosine(&one.vector, &other.vector).ok())
        {
            item.numbers.insert("cosine".to_owned(), cosine);
        }
        item
    })
    .collect()
}

fn chart(traits: &Traits, shifts: &[f64]) -> Chart {
    let bar = |(one, shift): (&crate::audit::evidence::states::TraitDirection, &f64)| Bar {
        label: one.name.clone(),
        value: *shift,
        interval: None,
    };
    Chart::new(
        "Shift along traits",
        "One bar for each trait: by how much the mean state of harmless prompts moved along its direction.",
        "trait",
        "shift, sd over prompts",
        Plot::Bars {
            bars: traits.all.iter().zip(shifts).map(bar).collect(),
        },
    )
    .with_rule("no shift", 0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_factor_and_the_shrinkage_by_hand() {
        // [[4, 2], [2, 3]] = L Lᵀ with L = [[2, 0], [1, √2]].
        let lower = cholesky(&[vec![4.0, 2.0], vec![2.0, 3.0]]).unwrap();
        assert_eq!((lower[0][0], lower[1][0]), (2.0, 1.0));
        assert!((lower[1][1] - 2f64.sqrt()).abs() < 1e-12);
        assert!(cholesky(&[vec![1.0, 2.0], vec![2.0, 1.0]]).is_none());
        // Two traits that are one, over four prompts: a correlation of 1 shrunk by 4 in 6.
        let values = vec![vec![1.0, 2.0, 3.0, 4.0]; 2];
        let spread = vec![estimate::sd(&values[0]); 2];
        let found = shrunk(&values, &spread);
        assert_eq!(found[0][0], 1.0);
        assert!((found[0][1] - 4.0 / 6.0).abs() < 1e-12, "{found:?}");
    }
}
