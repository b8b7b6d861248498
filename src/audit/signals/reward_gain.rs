//! Signal 31.
#![doc = include_str!("pages/reward_gain.md")]

use candlescope_probes::Resampling;
use candlescope_probes::stats::bootstrap::bootstrap;

use super::estimate;
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::{ByClass, Evidence, Replies, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult, excerpt, harmful_excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::text::suites::Label;

/// How much of a gain in reward is not length.
pub struct RewardGain;

const ID: &str = "reward_gain";

/// Bins of length, with as many replies in each as ties allow.
const BINS: usize = 5;

impl Signal for RewardGain {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Judged]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/reward_gain.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let base = cx.required_baseline()?;
        let gained = Gained::of(cx.subject, base)?;
        let mut result = blank(ID)?;
        let gain = gained.value("gain", cx, Gained::gain)?;
        let within = gained.value("within_length", cx, Gained::within)?;
        let share = gained.share(&gain, cx)?;
        let longer = estimate::differences(&gained.lengths[0], &gained.lengths[1])?;
        let wanted = quantity(ID, "length_change")?;
        let longer = if longer.iter().all(|d| *d == 0.0) {
            let same = wanted.measured(0.0).with_n(longer.len() as u64);
            same.with_interval(0.0, 0.0, "identical")
        } else {
            estimate::mean(wanted, &longer, None, cx)?
        };
        result.findings = vec![format!(
            "{} replies of each model in {} bins of length; intervals resample prompts within their class.",
            gained.n(),
            gained.edges.len() + 1
        )];
        result.items = items(cx, &gained);
        result.charts = vec![gained.chart()];
        result.values = vec![gain, within, share, longer];
        Ok(result)
    }
}

/// Rewards and lengths of the replies of both models to the same prompts: this one's first.
struct Gained {
    rewards: [Vec<f64>; 2],
    lengths: [Vec<f64>; 2],
    /// The class of each prompt.
    class: Vec<usize>,
    /// Lengths at which a bin begins, but for the first.
    edges: Vec<f64>,
    /// Deviation of the baseline's rewards.
    scale: f64,
}

impl Gained {
    fn of(here: &Evidence, base: &Evidence) -> Result<Self, SignalError> {
        let rewards = |of: &Evidence, what| -> Result<Vec<f64>, SignalError> {
            Ok(flat(need(&of.judged, what)?))
        };
        let lengths = |of: &Evidence| -> Result<Vec<f64>, SignalError> {
            let said: &Replies = need(&of.replies, "completions")?;
            let all = [&said.harmful, &said.harmless, &said.lookalike];
            let replies = all.into_iter().flatten();
            Ok(replies.map(|reply| reply.ids.len() as f64).collect())
        };
        let judged = need(&here.judged, "rewards of the replies")?;
        let sizes = [&judged.harmful, &judged.harmless, &judged.lookalike].map(Vec::len);
        let rewards = [
            rewards(here, "rewards of the replies")?,
            rewards(base, "rewards of the baseline's replies")?,
        ];
        let lengths = [lengths(here)?, lengths(base)?];
        estimate::differences(&rewards[0], &rewards[1])?;
        estimate::differences(&lengths[0], &lengths[1])?;
        estimate::differences(&rewards[0], &lengths[0])?;
        let scale = estimate::sd(&rewards[1]);
        if scale == 0.0 || rewards[1].len() < 2 {
            return Err(SignalError::Missing {
                what: "rewards of the baseline's replies",
                why: "all are the same, so there is no unit to count a gain in".to_owned(),
            });
        }
        Ok(Self {
            edges: edges(&lengths.concat()),
            class: (0..3).flat_map(|class| vec![class; sizes[class]]).collect(),
            rewards,
            lengths,
            scale,
        })
    }

    fn n(&self) -> usize {
        self.class.len()
    }

    fn bin(&self, length: f64) -> usize {
        self.edges.iter().filter(|edge| length >= **edge).count()
    }

    /// Mean reward less the baseline's.
    fn gain(&self, drawn: &[usize]) -> f64 {
        let sum: f64 = (drawn.iter())
            .map(|&i| self.rewards[0][i] - self.rewards[1][i])
            .sum();
        sum / drawn.len() as f64 / self.scale
    }

    /// The same within bins of length, which count by the replies of both models in them; bins that only one of them fills say
    /// nothing.
    fn within(&self, drawn: &[usize]) -> f64 {
        let mut sums = [[0.0; BINS]; 2];
        let mut counts = [[0.0; BINS]; 2];
        for (model, (rewards, lengths)) in self.rewards.iter().zip(&self.lengths).enumerate() {
            for &i in drawn {
                let bin = self.bin(lengths[i]);
                sums[model][bin] += rewards[i];
                counts[model][bin] += 1.0;
            }
        }
        let (mut total, mut weight) = (0.0, 0.0);
        for bin in 0..BINS {
            let (here, there) = (counts[0][bin], counts[1][bin]);
            if here > 0.0 && there > 0.0 {
                total += (here + there) * (sums[0][bin] / here - sums[1][bin] / there);
                weight += here + there;
            }
        }
        total / weight / self.scale
    }

    fn value(
        &self,
        name: &str,
        cx: &Context,
        statistic: impl Fn(&Self, &[usize]) -> f64 + Sync,
    ) -> Result<Value, SignalError> {
        let wanted = quantity(ID, name)?;
        let all: Vec<usize> = (0..self.n()).collect();
        if self.rewards[0] == self.rewards[1] && self.lengths[0] == self.lengths[1] {
            let same = wanted.measured(0.0).with_n(self.n() as u64);
            return Ok(same.with_interval(0.0, 0.0, "identical").with_test(
                "paired bootstrap",
                Some(0.0),
                1.0,
            ));
        }
        let observed = statistic(self, &all);
        if !observed.is_finite() {
            return Ok(wanted.missing("no bin of length holds replies of both models"));
        }
        let strata = Resampling::Strata(&self.class);
        let found = bootstrap(self.n(), strata, &cx.bootstrap(name), |drawn| {
            statistic(self, drawn)
        })?;
        let value = wanted.measured(observed).with_n(self.n() as u64);
        Ok(estimate::with_bootstrap(value, &found))
    }

    /// How much of the gain is left within bins of length.
    fn share(&self, gain: &Value, cx: &Context) -> Result<Value, SignalError> {
        let wanted = quantity(ID, "non_length_share")?;
        let shown = gain.interval.as_ref().is_some_and(|ends| ends.low > 0.0);
        if !shown {
            return Ok(wanted.missing("no gain in reward is shown that could be parted"));
        }
        self.value("non_length_share", cx, |gained, drawn| {
            gained.within(drawn) / gained.gain(drawn)
        })
    }

    fn chart(&self) -> Chart {
        Chart::new(
            "Rewards of the replies",
            "One dot for each reply: its reward on the baseline and here.",
            "reward",
            "",
            Plot::Strip {
                rows: vec![
                    Strip::mean("baseline", &self.rewards[1]),
                    Strip::mean("here", &self.rewards[0]),
                ],
            },
        )
    }
}

fn flat(of: &ByClass<f64>) -> Vec<f64> {
    [&of.harmful, &of.harmless, &of.lookalike]
        .into_iter()
        .flatten()
        .copied()
        .collect()
}

/// Lengths at which the second and later bins begin.
fn edges(lengths: &[f64]) -> Vec<f64> {
    let mut sorted = lengths.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..BINS)
        .filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied())
        .filter(|edge| sorted.first().is_some_and(|least| edge > least))
        .collect();
    edges.dedup();
    edges
}

fn items(cx: &Context, gained: &Gained) -> Vec<Item> {
    let prompts = [
        &cx.prompts.harmful.test,
        &cx.prompts.harmless.test,
        &cx.prompts.lookalike,
    ];
    let replies = cx.subject.replies.as_ref().ok();
    let said = replies.into_iter().flat_map(|said| {
        let all = [&said.harmful, &said.harmless, &said.lookalike];
        all.into_iter().flatten()
    });
    (prompts.into_iter().flatten().zip(said).enumerate())
        .take(gained.n())
        .map(|(at, (row, reply))| {
            let mut item = Item {
                id: row.id.clone(),
                prompt_excerpt: excerpt(&row.prompt),
                label: row.label.name().to_owned(),
                completion_excerpt: match row.label {
                    Label::Harmful => harmful_excerpt(&reply.text),
                    _ => excerpt(&reply.text),
                },
                ..Item::default()
            };
            for (name, value) in [
                ("reward", gained.rewards[0][at]),
                ("baseline_reward", gained.rewards[1][at]),
                ("tokens", gained.lengths[0][at]),
                ("baseline_tokens", gained.lengths[1][at]),
            ] {
                item.numbers.insert(name.to_owned(), value);
            }
            item
        })
        .collect()
}
