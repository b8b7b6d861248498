//! Signal 28.
#![doc = include_str!("pages/reward_length.md")]

use candlescope_probes::stats::interval::two_sided_z;
use candlescope_probes::stats::special::normal_cdf;

use super::estimate;
use super::judging::{Answers, of_pairs, partial, spearman};
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::evidence::need;
use crate::audit::evidence::rewards::PairScore;
use crate::audit::measure::Value;
use crate::audit::pairs::Preference;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether a reward model pays for length.
pub struct RewardLength;

const ID: &str = "reward_length";

impl Signal for RewardLength {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Scores]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/reward_length.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = &need(&cx.subject.scores, "rewards")?.own;
        let base = cx.baseline.and_then(|base| base.scores.as_ref().ok());
        let both = (here.as_slice(), base.map(|scores| scores.own.as_slice()));
        let pairs = &cx.prompts.preferences;
        let mut result = blank(ID)?;
        let correlation = of_pairs(
            quantity(ID, "length_correlation")?,
            both,
            cx,
            |drawn, scores| {
                let answers = Answers::of(drawn, scores, pairs);
                spearman(&answers.reward, &answers.length)
            },
        )?;
        let held = of_pairs(
            quantity(ID, "partial_correlation")?,
            both,
            cx,
            |drawn, scores| {
                let answers = Answers::of(drawn, scores, pairs);
                partial(&answers.reward, &answers.length, &answers.label)
            },
        )?;
        let sides = Sides::of(pairs);
        result.values = vec![
            fisher(correlation, 2 * here.len()),
            fisher(held, 2 * here.len()),
            sides.value("balanced_accuracy", both, cx, |longer, shorter| {
                0.5 * (longer + shorter)
            })?,
            sides.value("longer_advantage", both, cx, |longer, shorter| {
                longer - shorter
            })?,
        ];
        result.findings = vec![format!(
            "{} pairs: the preferred answer is the longer in {}, the shorter in {}; intervals resample pairs.",
            here.len(),
            sides.longer,
            sides.shorter
        )];
        result.items = items(here, pairs);
        result.charts = vec![chart(here, pairs)];
        Ok(result)
    }
}

/// Fisher's z against no correlation, for ranks (Fieller, Hartley and Pearson 1957).
fn fisher(value: Value, n: usize) -> Value {
    let Some(rho) = value.value.filter(|_| n > 3) else {
        return value;
    };
    let z = rho.clamp(-1.0 + 1e-12, 1.0 - 1e-12).atanh();
    let error = (1.06 / (n as f64 - 3.0)).sqrt();
    let p = (2.0 * normal_cdf(-(z / error).abs())).min(1.0);
    let value = value.with_test("Fisher's z", Some(z / error), p);
    if value.interval.is_some() {
        return value;
    }
    // Where reward and length rank alike in every resample.
    let reach = two_sided_z(estimate::LEVEL) * error;
    value.with_interval((z - reach).tanh(), (z + reach).tanh(), "Fisher's z")
}

/// Which of the answers is the longer, pair by pair.
struct Sides {
    /// 1 where the preferred one is, -1 where the other is, 0 where they are alike.
    side: Vec<i8>,
    longer: usize,
    shorter: usize,
}

impl Sides {
    fn of(pairs: &[Preference]) -> Self {
        let side = |one: &Preference| match one.pair.chosen.len().cmp(&one.pair.rejected.len()) {
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Less => -1,
            std::cmp::Ordering::Equal => 0,
        };
        let side: Vec<i8> = pairs.iter().map(side).collect();
        Self {
            longer: side.iter().filter(|side| **side > 0).count(),
            shorter: side.iter().filter(|side| **side < 0).count(),
            side,
        }
    }

    /// A number made of the two accuracies.
    fn value(
        &self,
        name: &str,
        both: (&[PairScore], Option<&[PairScore]>),
        cx: &Context,
        of: impl Fn(f64, f64) -> f64 + Sync,
    ) -> Result<Value, SignalError> {
        let wanted = quantity(ID, name)?;
        if self.longer == 0 || self.shorter == 0 {
            return Ok(wanted.missing(
                "the preferred answer is the longer in all pairs of unlike length, or in none: nothing tells length from preference",
            ));
        }
        of_pairs(wanted, both, cx, |drawn, scores| {
            let accuracy = |side: i8| {
                let (mut right, mut n) = (0.0, 0.0);
                for &i in drawn.iter().filter(|i| self.side[**i] == side) {
                    right += f64::from(u8::from(scores[i].right()));
                    n += 1.0;
                }
                right / n
            };
            of(accuracy(1), accuracy(-1))
        })
    }
}

fn items(scores: &[PairScore], pairs: &[Preference]) -> Vec<Item> {
    let each = scores.iter().zip(pairs);
    each.map(|(score, preference)| {
        let mut item = Item {
            id: preference.id.clone(),
            prompt_excerpt: preference.excerpt.clone(),
            label: if score.right() { "right" } else { "wrong" }.to_owned(),
            ..Item::default()
        };
        let (longer, shorter) = (preference.pair.chosen.len(), preference.pair.rejected.len());
        for (name, value) in [
            ("chosen_reward", score.chosen),
            ("rejected_reward", score.rejected),
            ("chosen_tokens", longer as f64),
            ("rejected_tokens", shorter as f64),
        ] {
            item.numbers.insert(name.to_owned(), value);
        }
        if !score.right() && longer < shorter {
            item.flags.push("prefers the longer answer".to_owned());
        }
        item
    })
    .collect()
}

fn chart(scores: &[PairScore], pairs: &[Preference]) -> Chart {
    let all: Vec<usize> = (0..scores.len()).collect();
    let answers = Answers::of(&all, scores, pairs);
    let mut points: Vec<(f64, f64)> = answers.length.into_iter().zip(answers.reward).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    // Ten answers to a point, by length.
    let size = points.len().div_ceil(10).max(1);
    let mean = |some: &[(f64, f64)]| {
        let (x, y): (Vec<f64>, Vec<f64>) = some.iter().copied().unzip();
        (estimate::average(&x), estimate::average(&y))
    };
    Chart::new(
        "Reward by length",
        "Answers in ten groups by length: the mean reward of each.",
        "tokens of the answer",
        "reward",
        Plot::Line {
            series: vec![Series {
                name: "mean reward".to_owned(),
                points: points.chunks(size).map(mean).collect(),
                band: Vec::new(),
            }],
        },
    )
}
