//! Signal 10.
#![doc = include_str!("pages/subspace_rank.md")]

use std::collections::BTreeMap;

use candlescope_probes::components::{
    components, effective_rank_of_products, group_differences, principal_cosines,
};
use candlescope_probes::error::ProbeError;
use candlescope_probes::{NullDistribution, Resampling};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::probes::stack;
use crate::audit::evidence::{AtSite, need};
use crate::audit::measure::{Interval, Value};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How many dimensions the topics' refusal directions span, and whether it is still the same span.
pub struct SubspaceRank;

const ID: &str = "subspace_rank";

/// Train prompts that a topic needs to have a direction.
const LEAST: usize = 4;

impl Signal for SubspaceRank {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Direction]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/subspace_rank.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.direction, "refusal direction")?;
        let base = cx.baseline.and_then(|base| base.direction.as_ref().ok());
        // Beside a baseline both are read in its place: spans of two layers cannot be compared.
        let site = base.map_or(here.site, |base| base.site);
        let topics = Topics::of(cx);
        let mut result = blank(ID)?;
        if topics.groups.len() < 2 {
            let why = format!("fewer than two topics have {LEAST} harmful train prompts");
            result.values = vec![quantity(ID, "rank")?.missing(&why)];
            return Ok(result);
        }
        let now = Span::of(here.train_at(site)?, &topics)?;
        let mut rank = now.rank_value(cx)?;
        result.findings = vec![format!(
            "{} topics with {LEAST} or more harmful train prompts, read at {site}; {} prompts in all.",
            topics.groups.len(),
            now.n()
        )];
        result.charts = vec![chart(&now, &topics)];
        let mut values = Vec::new();
        if let Some(base) = base {
            let before = Span::of(base.train_at(site)?, &topics)?;
            let same = (now == before).then(|| Interval::new(0.0, 0.0, "identical"));
            rank = rank.with_baseline(before.rank(&now.everything())?, same);
            let (cosine, said) = angles(&now, &before, cx)?;
            result.findings.push(said);
            values = vec![ratio(&now, &before, cx)?, cosine];
        }
        values.insert(0, rank);
        result.values = values;
        Ok(result)
    }
}

/// The topics that have enough harmful train prompts.
struct Topics {
    names: Vec<String>,
    /// Rows of harmful train prompts.
    groups: Vec<Vec<usize>>,
}

impl Topics {
    fn of(cx: &Context) -> Self {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, row) in cx.prompts.harmful.train.iter().enumerate() {
            if let Some(topic) = &row.topic {
                by_name.entry(topic).or_default().push(i);
            }
        }
        by_name.retain(|_, rows| rows.len() >= LEAST);
        Self {
            names: by_name.keys().map(|name| (*name).to_owned()).collect(),
            groups: by_name.into_values().collect(),
        }
    }
}

/// One checkpoint's prompts: those of the topics, topic by topic, then the harmless ones.
#[derive(PartialEq)]
struct Span {
    rows: Array2<f32>,
    /// Inner products of the rows, row by row.
    products: Vec<f64>,
    /// Group of each row: its topic, or the number of topics for a harmless prompt.
    group: Vec<usize>,
    topics: usize,
}

impl Span {
    fn of(read: &AtSite, topics: &Topics) -> Result<Self, SignalError> {
        let order = topics.groups.concat();
        if order.iter().any(|&i| i >= read.harmful.nrows()) {
            return Err(SignalError::Missing {
                what: "activations",
                why: "there are fewer of them than harmful train prompts".to_owned(),
            });
        }
        let harmful = read.harmful.select(Axis(0), &order);
        let rows = stack(&[harmful.view(), read.harmless.view()])?;
        let sizes = topics.groups.iter().map(Vec::len);
        let group = (sizes.chain([read.harmless.nrows()]).enumerate())
            .flat_map(|(group, size)| vec![group; size])
            .collect();
        let wide = rows.mapv(f64::from);
        Ok(Self {
            products: wide.dot(&wide.t()).iter().copied().collect(),
            rows,
            group,
            topics: topics.groups.len(),
        })
    }

    fn n(&self) -> usize {
        self.group.len()
    }

    fn everything(&self) -> Vec<usize> {
        (0..self.n()).collect()
    }

    fn rank(&self, items: &[usize]) -> Result<f64, ProbeError> {
        self.rank_of(items, &self.group)
    }

    /// Effective rank of the topics' directions among these prompts, if they are of these groups.
    ///
    /// Products of two directions need products of means, (m_a − m_0)·(m_b − m_0). A mean of prompts is paired with itself
    /// without the product of any prompt with itself, which is where noise adds its variance (as in signal 7); so topics that
    /// differ by noise alone do not add to the rank. A topic of which a resample holds one prompt only is left out of it.
    fn rank_of(&self, items: &[usize], group: &[usize]) -> Result<f64, ProbeError> {
        let (n, k) = (self.n(), self.topics + 1);
        let mut counts = vec![0.0; n];
        for &i in items {
            counts[i] += 1.0;
        }
        let (mut sums, mut own) = (Array2::<f64>::zeros((k, k)), vec![0.0; k]);
        let (mut total, mut squares) = (vec![0.0; k], vec![0.0; k]);
        for i in (0..n).filter(|&i| counts[i] > 0.0) {
            let row = &self.products[i * n..(i + 1) * n];
            let a = group[i];
            let mut with = vec![0.0; k];
            for ((product, count), &b) in row.iter().zip(&counts).zip(group) {
                with[b] += product * count;
            }
            for (b, with) in with.iter().enumerate() {
                sums[[a, b]] += counts[i] * with;
            }
            own[a] += counts[i] * counts[i] * row[i];
            total[a] += counts[i];
            squares[a] += counts[i] * counts[i];
        }
        let pairs = |a: usize| total[a] * total[a] - squares[a];
        let mean = |a: usize, b: usize| {
            if a == b {
                (sums[[a, a]] - own[a]) / pairs(a)
            } else {
                sums[[a, b]] / (total[a] * total[b])
            }
        };
        let none = self.topics;
        let kept: Vec<usize> = (0..none).filter(|&a| pairs(a) > 0.0).collect();
        let directions = Array2::from_shape_fn((kept.len(), kept.len()), |(i, j)| {
            let (a, b) = (kept[i], kept[j]);
            mean(a, b) - mean(a, none) - mean(b, none) + mean(none, none)
        });
        effective_rank_of_products(directions)
    }

    fn rank_value(&self, cx: &Context) -> Result<Value, SignalError> {
        let value = quantity(ID, "rank")?.measured(self.rank(&self.everything())?);
        let value = self.bootstrapped(value, cx, |items| self.rank(items).unwrap_or(f64::NAN))?;
        let null = shuffled(cx, "subspace_rank topics", |rng| {
            let mut group = self.group.clone();
            let harmful = group.iter().filter(|&&g| g < self.topics).count();
            group[..harmful].shuffle(rng);
            self.rank_of(&self.everything(), &group)
        })?;
        let observed = value.value.unwrap_or(f64::NAN);
        let null = NullDistribution::new(self.n(), observed, null)?;
        Ok(value.with_null(estimate::null_of("topics shuffled among prompts", &null)))
    }

    /// Resamples prompts within each topic and class, so that every topic stays as large as it is.
    fn bootstrapped(
        &self,
        value: Value,
        cx: &Context,
        statistic: impl Fn(&[usize]) -> f64 + Sync,
    ) -> Result<Value, SignalError> {
        let found = candlescope_probes::stats::bootstrap::bootstrap(
            self.n(),
            Resampling::Strata(&self.group),
            &cx.bootstrap(ID),
            statistic,
        )?;
        Ok(estimate::with_bootstrap(
            value.with_n(self.n() as u64),
            &found,
        ))
    }

    /// The topics' directions of these rows, `[topic, d_model]`.
    fn directions(&self, rows: ArrayView2<f32>) -> Array2<f64> {
        let members = |group: usize| -> Vec<usize> {
            (0..self.n()).filter(|&i| self.group[i] == group).collect()
        };
        let from = group_differences(rows, &[members(self.topics)], &Array1::zeros(rows.ncols()));
        let groups: Vec<Vec<usize>> = (0..self.topics).map(members).collect();
        group_differences(rows, &groups, &from.row(0).to_owned())
    }
}

/// Draws of a null with a stream of random numbers each.
fn shuffled(
    cx: &Context,
    purpose: &str,
    draw: impl Fn(&mut ChaCha8Rng) -> Result<f64, ProbeError> + Sync,
) -> Result<Vec<f64>, ProbeError> {
    let seed = cx.seed_for(purpose);
    (0..cx.policy.sizes.shuffles.max(2))
        .into_par_iter()
        .map(|i| draw(&mut ChaCha8Rng::seed_from_u64(seed.wrapping_add(i as u64))))
        .collect()
}

fn ratio(now: &Span, before: &Span, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "rank_ratio")?;
    if now == before {
        let same = wanted.measured(1.0).with_n(now.n() as u64);
        return Ok(same.with_interval(1.0, 1.0, "identical"));
    }
    if now.n() != before.n() {
        return Ok(wanted.missing("the checkpoints were read on different prompts"));
    }
    let of =
        |items: &[usize]| -> Result<f64, ProbeError> { Ok(now.rank(items)? / before.rank(items)?) };
    let found = of(&now.everything())?;
    if !found.is_finite() {
        return Ok(wanted.missing("the baseline's topics have no direction beyond noise"));
    }
    now.bootstrapped(wanted.measured(found), cx, |items| {
        of(items).unwrap_or(f64::NAN)
    })
}

/// The cosines between the strongest components of both checkpoints' directions, as many as the baseline's rank.
fn angles(now: &Span, before: &Span, cx: &Context) -> Result<(Value, String), SignalError> {
    let rank = before.rank(&before.everything())?;
    let k = (rank.round() as usize).clamp(1, before.topics);
    let strongest = |rows: ArrayView2<f32>| {
        Ok::<_, ProbeError>(components(before.directions(rows).view(), k)?.vectors)
    };
    let own = strongest(now.rows.view())?;
    let least = |other: ArrayView2<f32>| -> Result<Vec<f64>, ProbeError> {
        principal_cosines(own.view(), strongest(other)?.view())
    };
    let cosines = least(before.rows.view())?;
    let last = cosines.last().copied().unwrap_or(f64::NAN);
    let draws = shuffled(cx, "subspace_rank angles", |rng| {
        let mut order = before.everything();
        order.shuffle(rng);
        let other = least(before.rows.select(Axis(0), &order).view())?;
        Ok(other.last().copied().unwrap_or(f64::NAN))
    })?;
    let null = NullDistribution::new(now.n(), last, draws)?;
    let value = (quantity(ID, "least_cosine")?.measured(last))
        .with_n(now.n() as u64)
        .with_null(estimate::null_of("the baseline's labels shuffled", &null));
    let shown: Vec<String> = cosines.iter().map(|c| format!("{c:.3}")).collect();
    let said = format!(
        "Cosines of the principal angles between the {k} strongest components here and of the baseline: {}. They are as measured: \
         noise lowers them, and shared prompts raise them.",
        shown.join(", ")
    );
    Ok((value, said))
}

fn chart(span: &Span, topics: &Topics) -> Chart {
    let directions = span.directions(span.rows.view());
    let lengths = directions
        .rows()
        .into_iter()
        .map(|row| row.dot(&row).sqrt());
    let bars = (topics.names.iter().zip(lengths))
        .map(|(name, value)| Bar {
            label: name.replace('_', " "),
            value,
            interval: None,
        })
        .collect();
    Chart::new(
        "Length of each topic's direction",
        "Mean of the topic's harmful train prompts less the mean of harmless ones, noise included.",
        "topic",
        "length",
        Plot::Bars { bars },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::evidence::Site;
    use ndarray::array;

    fn span(harmful: Array2<f32>, harmless: Array2<f32>, groups: Vec<Vec<usize>>) -> Span {
        let site = Site {
            layer: 0,
            from_end: Some(1),
        };
        let read = AtSite {
            site,
            harmful,
            harmless,
        };
        let names = vec![String::new(); groups.len()];
        Span::of(&read, &Topics { names, groups }).unwrap()
    }

    #[test]
    fn rank_by_hand() {
        // Topics about 4e₁ and 4e₂, harmless at 0. Two prompts of a topic have the product 16 − 1, of two topics 4 or −4 in
        // equal parts: products of directions (15, 0; 0, 15).
        let harmful = array![
            [4.0, 1.0, 0.0],
            [4.0, -1.0, 0.0],
            [0.0, 4.0, 1.0],
            [0.0, 4.0, -1.0]
        ];
        let harmless = Array2::zeros((2, 3));
        let groups = vec![vec![0, 1], vec![2, 3]];
        let two = span(harmful.clone(), harmless.clone(), groups);
        let rank = two.rank(&two.everything()).unwrap();
        assert!((rank - 2.0).abs() < 1e-12, "{rank}");
        // The same prompts in topics of one of each kind: both directions are (2, 2, ·), and what differs is noise.
        let one = span(harmful, harmless, vec![vec![0, 2], vec![1, 3]]);
        let rank = one.rank(&one.everything()).unwrap();
        // Within the first (4, 1, 0)·(0, 4, 1) = 4, within the second −4; across the mean of 15, −4, 4 and 15.
        let across = (15.0 + -4.0 + 4.0 + 15.0) / 4.0;
        let expected = effective_rank_of_products(array![[4.0, across], [across, -4.0]]).unwrap();
        assert!((rank - expected).abs() < 1e-12, "{rank} {expected}");
        assert!((rank - 1.0).abs() < 1e-12, "one eigenvalue is under 0");
    }

    #[test]
    fn a_prompt_drawn_twice_is_no_pair() {
        let harmful = array![[4.0, 1.0], [4.0, -1.0], [0.0, 4.0], [0.0, 4.0]];
        let both = span(harmful, Array2::zeros((2, 2)), vec![vec![0, 1], vec![2, 3]]);
        // The first topic has one prompt left, so only the second has a direction.
        assert!((both.rank(&[0, 0, 2, 3, 4, 5]).unwrap() - 1.0).abs() < 1e-12);
    }
}
