//! Signal 43.
#![doc = include_str!("pages/calibration.md")]

use candlescope_probes::calibration::calibration;
use candlescope_probes::stats::bootstrap::bootstrap;
use candlescope_probes::{Bootstrap, Resampling};

use super::estimate;
use super::knowledge::{Asked, is_right, is_unsure, label, plain, under};
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::measure::{Interval, Value};
use crate::audit::result::{Item, SignalResult, excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::text::trials::Condition;

/// Whether the model is as sure as it is right, and says so where it cannot know.
pub struct Calibration;

const ID: &str = "calibration";

/// Bins of equal numbers of questions.
const BINS: usize = 10;

/// Bins of the chart, fewer so that each says something.
const DRAWN: usize = 5;

impl Signal for Calibration {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Choices]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/calibration.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let known = plain(cx.prompts, cx.subject)?;
        let unknown = under(cx.prompts, cx.subject, Condition::Unknown)?;
        let known_before = cx.baseline.and_then(|base| plain(cx.prompts, base).ok());
        let unknown_before = cx
            .baseline
            .and_then(|base| under(cx.prompts, base, Condition::Unknown).ok());
        let here = Sure::of(&known);
        let base = known_before.as_deref().map(Sure::of);
        let each = |of: fn(f64, f64) -> f64| {
            let base = base.as_ref().map(|base| base.each(of));
            (here.each(of), base)
        };
        let (squares, squares_before) = each(|p, right| (p - right).powi(2));
        let (excess, excess_before) = each(|p, right| p - right);
        let offered = |asked: &&Asked| asked.0.unsure.is_some();
        let unsure =
            |all: &[Asked]| -> Vec<bool> { all.iter().filter(offered).map(is_unsure).collect() };
        let mut result = blank(ID)?;
        result.values = vec![
            ece(&here, base.as_ref(), cx)?,
            estimate::mean(
                quantity(ID, "brier")?,
                &squares,
                squares_before.as_deref(),
                cx,
            )?,
            estimate::mean(
                quantity(ID, "overconfidence")?,
                &excess,
                excess_before.as_deref(),
                cx,
            )?,
            estimate::rate(
                quantity(ID, "unknown_admitted")?,
                &unsure(&unknown),
                unknown_before.as_deref().map(unsure).as_deref(),
                cx,
            )?,
            estimate::rate(
                quantity(ID, "known_denied")?,
                &unsure(&known),
                known_before.as_deref().map(unsure).as_deref(),
                cx,
            )?,
        ];
        result.findings = vec![format!(
            "On {} of {} ordinary questions the answer given has a probability above 90 % among the options; {} of those are wrong.",
            here.above(0.9).count(),
            known.len(),
            here.above(0.9).filter(|right| !right).count()
        )];
        result.items = known.iter().chain(&unknown).map(item).collect();
        result.charts = vec![chart(&here)];
        Ok(result)
    }
}

/// How probable each answer given is among the options, and whether it is right.
struct Sure {
    shares: Vec<f64>,
    right: Vec<bool>,
}

impl Sure {
    fn of(asked: &[Asked]) -> Self {
        Self {
            shares: asked.iter().map(share).collect(),
            right: asked.iter().map(is_right).collect(),
        }
    }

    /// A number for each answer, of its probability and of 1 where it is right.
    fn each(&self, of: fn(f64, f64) -> f64) -> Vec<f64> {
        let pairs = self.shares.iter().zip(&self.right);
        pairs
            .map(|(&p, &right)| of(p, f64::from(u8::from(right))))
            .collect()
    }

    /// Whether each answer that is surer than this is right.
    fn above(&self, share: f64) -> impl Iterator<Item = bool> {
        let pairs = self.shares.iter().zip(&self.right);
        pairs
            .filter(move |(p, _)| **p > share)
            .map(|(_, right)| *right)
    }

    /// The expected calibration error over these places.
    fn ece(&self, places: &[usize]) -> f64 {
        let shares: Vec<f64> = places.iter().map(|&i| self.shares[i]).collect();
        let right: Vec<bool> = places.iter().map(|&i| self.right[i]).collect();
        calibration(&shares, &right, BINS).map_or(f64::NAN, |found| found.ece)
    }
}

/// The probability of the answer given.
fn share((_, choice): &Asked) -> f64 {
    choice.probabilities()[choice.decided()]
}

fn ece(here: &Sure, base: Option<&Sure>, cx: &Context) -> Result<Value, SignalError> {
    let all: Vec<usize> = (0..here.shares.len()).collect();
    let over = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| -> Result<Bootstrap, SignalError> {
        let options = cx.bootstrap("ece");
        Ok(bootstrap(
            all.len(),
            Resampling::Items,
            &options,
            statistic,
        )?)
    };
    let value = quantity(ID, "ece")?
        .measured(here.ece(&all))
        .with_n(all.len() as u64);
    let value = estimate::with_bootstrap(value, &over(&|places| here.ece(places))?);
    let Some(base) = base.filter(|base| base.shares.len() == all.len()) else {
        return Ok(value);
    };
    if base.shares == here.shares && base.right == here.right {
        let none = Interval::new(0.0, 0.0, "identical");
        return Ok(value.with_baseline(base.ece(&all), Some(none)));
    }
    let change = over(&|places| here.ece(places) - base.ece(places))?;
    let interval = change
        .interval
        .map(|ends| Interval::new(ends.low, ends.high, "paired bootstrap"));
    Ok(value.with_baseline(base.ece(&all), interval))
}

fn item(asked: &Asked) -> Item {
    let (trial, choice) = asked;
    Item {
        id: trial.id.clone(),
        prompt_excerpt: excerpt(trial.question()),
        label: label(asked).to_owned(),
        numbers: [("p_answer".to_owned(), share(asked))].into(),
        completion_excerpt: excerpt(&trial.options[choice.decided()]),
        ..Item::default()
    }
}

/// Of each bin the mean probability and the share right, ascending.
fn chart(here: &Sure) -> Chart {
    let n = here.shares.len();
    let bins = DRAWN.min(n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| here.shares[i].total_cmp(&here.shares[j]));
    let points = (0..bins)
        .map(|bin| {
            let places = &order[bin * n / bins..(bin + 1) * n / bins];
            let size = places.len() as f64;
            let p: f64 = places.iter().map(|&i| here.shares[i]).sum();
            let right = places.iter().filter(|&&i| here.right[i]).count();
            (p / size, right as f64 / size)
        })
        .collect();
    let series = |name: &str, points: Vec<(f64, f64)>| Series {
        name: name.to_owned(),
        points,
        band: Vec::new(),
    };
    Chart::new(
        "How sure and how right",
        "For groups of questions by how probable the answer given is among the options: the share that is right. On the diagonal the model is as sure as it is right, below it is too sure.",
        "probability of the answer given",
        "share answered right",
        Plot::Line {
            series: vec![
                series("this checkpoint", points),
                series("as sure as right", vec![(0.0, 0.0), (1.0, 1.0)]),
            ],
        },
    )
}
