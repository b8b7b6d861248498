//! Signal 7.
#![doc = include_str!("pages/direction_norm.md")]

use ndarray::{Array1, ArrayView2};

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::{AtSite, need};
use crate::audit::measure::{Interval, Value};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How long the refusal direction is beside the activations.
pub struct DirectionNorm;

const ID: &str = "direction_norm";

impl Signal for DirectionNorm {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Direction]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/direction_norm.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.direction, "refusal direction")?;
        let own = Share::of(here.at(here.site)?);
        let mut result = blank(ID)?;
        let mut share = own.value(
            quantity(ID, "norm_share")?.measured(own.all()),
            cx,
            "norm_share",
        )?;
        let mut bars = vec![bar("this checkpoint", &share)];
        if let Some(base) = cx.baseline.and_then(|base| base.direction.as_ref().ok()) {
            // Both are read where the baseline's direction lies: a ratio of norms from two layers says nothing.
            let now = Share::of(here.at(base.site)?);
            let before = Share::of(base.at(base.site)?);
            let ratio = ratio(&now, &before, cx)?;
            if here.site == base.site {
                let interval = if now == before {
                    Some(Interval::new(0.0, 0.0, "identical"))
                } else {
                    None
                };
                share = share.with_baseline(before.all(), interval);
            }
            let base_value = before.value(
                quantity(ID, "norm_share")?.measured(before.all()),
                cx,
                "norm_share",
            )?;
            bars.push(bar("baseline", &base_value));
            result.findings.push(format!(
                "The ratio compares both checkpoints at the baseline's place, {}.",
                base.site
            ));
            result.values = vec![share, ratio];
        } else {
            result.values = vec![share];
        }
        result.findings.push(format!(
            "Direction of {}, its length taken from test prompts; on training prompts it is {:.3}.",
            here.site, here.direction.norm
        ));
        result.charts = vec![Chart::new(
            "Norm of the direction",
            "Its length as a share of the mean length of the activations at its place.",
            "checkpoint",
            "norm share",
            Plot::Bars { bars },
        )];
        Ok(result)
    }
}

fn bar(label: &str, value: &Value) -> Bar {
    Bar {
        label: label.to_owned(),
        value: value.value.unwrap_or(f64::NAN),
        interval: value.interval.as_ref().map(|ends| (ends.low, ends.high)),
    }
}

/// What the norm share is computed from: inner products of the activations, and their norms.
#[derive(PartialEq)]
struct Share {
    /// Inner products of all prompts, harmful first, `[n, n]` row by row.
    gram: Vec<f64>,
    norms: Vec<f64>,
    positive: usize,
}

impl Share {
    fn of(read: &AtSite) -> Self {
        let rows: Vec<Array1<f64>> = wide(read.harmful.view())
            .chain(wide(read.harmless.view()))
            .collect();
        let n = rows.len();
        let mut gram = vec![0.0; n * n];
        for i in 0..n {
            for j in i..n {
                let product = rows[i].dot(&rows[j]);
                gram[i * n + j] = product;
                gram[j * n + i] = product;
            }
        }
        Self {
            norms: (0..n).map(|i| gram[i * n + i].sqrt()).collect(),
            gram,
            positive: read.harmful.nrows(),
        }
    }

    fn n(&self) -> usize {
        self.norms.len()
    }

    fn all(&self) -> f64 {
        self.share(&(0..self.n()).collect::<Vec<_>>())
    }

    /// ‖mean of the drawn harmful - mean of the drawn harmless‖ over the mean norm of the drawn.
    fn share(&self, items: &[usize]) -> f64 {
        let n = self.n();
        let mut weights = vec![0.0; n];
        let drawn = items.iter().filter(|&&i| i < self.positive).count();
        let (positive, negative) = (drawn as f64, (items.len() - drawn) as f64);
        for &i in items {
            weights[i] += if i < self.positive {
                1.0 / positive
            } else {
                -1.0 / negative
            };
        }
        let mut squared = 0.0;
        for (i, weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            let row = &self.gram[i * n..(i + 1) * n];
            squared += weight * row.iter().zip(&weights).map(|(g, w)| g * w).sum::<f64>();
        }
        let norms: f64 = items.iter().map(|&i| self.norms[i]).sum::<f64>() / items.len() as f64;
        squared.max(0.0).sqrt() / norms
    }

    fn value(&self, value: Value, cx: &Context, purpose: &str) -> Result<Value, SignalError> {
        estimate::bootstrapped(value, self.n(), cx, purpose, |items| self.share(items))
    }
}

fn wide(x: ArrayView2<'_, f32>) -> impl Iterator<Item = Array1<f64>> + '_ {
    (0..x.nrows()).map(move |i| x.row(i).mapv(f64::from))
}

fn ratio(now: &Share, before: &Share, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "norm_ratio")?;
    let n = now.n();
    if n != before.n() {
        return Ok(wanted.missing("the checkpoints were read on different prompts"));
    }
    let value = wanted.measured(now.all() / before.all());
    if now == before {
        return Ok(value.with_n(n as u64).with_interval(1.0, 1.0, "identical"));
    }
    estimate::bootstrapped(value, n, cx, "norm_ratio", |items| {
        now.share(items) / before.share(items)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::evidence::Site;
    use ndarray::array;

    #[test]
    fn the_share_by_hand() {
        // Means (3, 4) and (0, 0) apart by 5; norms 5, 5, 1, 1: mean 3.
        let read = AtSite {
            site: Site {
                layer: 0,
                from_end: Some(1),
            },
            harmful: array![[3.0, 4.0], [3.0, 4.0]],
            harmless: array![[1.0, 0.0], [-1.0, 0.0]],
        };
        assert!((Share::of(&read).all() - 5.0 / 3.0).abs() < 1e-12);
    }
}
