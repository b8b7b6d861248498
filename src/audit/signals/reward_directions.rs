//! Signal 29.
#![doc = include_str!("pages/reward_directions.md")]

use candlescope_probes::NullDistribution;

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::need;
use crate::audit::evidence::rewards::{LENGTH, REFUSAL, Reading, RewardDirections as Found};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Which directions a reward hangs on.
pub struct RewardDirections;

const ID: &str = "reward_directions";

impl Signal for RewardDirections {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::RewardDirections]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/reward_directions.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = need(&cx.subject.reward_directions, "reward directions")?;
        let scale = estimate::sd(&found.rewards);
        if scale == 0.0 {
            return Err(SignalError::Missing {
                what: "rewards",
                why: "all answers have the same".to_owned(),
            });
        }
        let mut result = blank(ID)?;
        let style = |reading: &&Reading| ![REFUSAL, LENGTH].contains(&reading.name.as_str());
        let spread = |reading: &Reading| estimate::sd(&reading.changes);
        let largest =
            (found.named.iter().filter(style)).max_by(|a, b| spread(a).total_cmp(&spread(b)));
        let named = |name: &str| found.named.iter().find(|reading| reading.name == name);
        result.values = vec![
            effect("refusal_effect", named(REFUSAL), found, scale, cx)?,
            effect("length_effect", named(LENGTH), found, scale, cx)?,
            effect("style_effect", largest, found, scale, cx)?,
            cosine(found)?,
        ];
        result.findings = findings(found, largest, scale);
        result.items = found
            .named
            .iter()
            .map(|one| item(one, found, scale))
            .collect();
        result.charts = vec![chart(found, scale)];
        Ok(result)
    }
}

/// The spread of the changes over answers, in deviations of the reward; a shift of all rewards alike changes no preference.
fn effect(
    name: &str,
    reading: Option<&Reading>,
    found: &Found,
    scale: f64,
    cx: &Context,
) -> Result<Value, SignalError> {
    let wanted = quantity(ID, name)?;
    let Some(reading) = reading else {
        return Ok(wanted.missing("there is no such direction; the findings say why"));
    };
    let n = reading.changes.len();
    let observed = estimate::sd(&reading.changes) / scale;
    let value = wanted.measured(observed);
    let value = if reading.changes.iter().all(|change| *change == 0.0) {
        value.with_n(n as u64).with_interval(0.0, 0.0, "identical")
    } else {
        estimate::bootstrapped(value, n, cx, name, |drawn| {
            let changes: Vec<f64> = drawn.iter().map(|&i| reading.changes[i]).collect();
            estimate::sd(&changes) / scale
        })?
    };
    if found.random.len() < 2 {
        return Ok(value);
    }
    let draws = found
        .random
        .iter()
        .map(|changes| estimate::sd(changes) / scale);
    let null = NullDistribution::new(n, observed, draws.collect())?;
    Ok(value.with_null(estimate::null_of("random directions", &null)))
}

fn cosine(found: &Found) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "head_cosine")?;
    let cosines = found.named.iter().map(|reading| reading.head_cosine);
    Ok(match cosines.max_by(|a, b| a.abs().total_cmp(&b.abs())) {
        Some(largest) => wanted.measured(largest),
        None => wanted.missing("there are no directions; the findings say why"),
    })
}

fn findings(found: &Found, largest: Option<&Reading>, scale: f64) -> Vec<String> {
    let mut said = vec![format!(
        "Directions fitted at the input of layer {}; effects on {} answers that nothing was fitted on.",
        found.layer,
        found.rewards.len()
    )];
    said.extend(largest.map(|reading| {
        format!(
            "The trait that moves rewards most is `{}`: {:.2} deviations.",
            reading.name,
            estimate::sd(&reading.changes) / scale
        )
    }));
    said.extend((found.missing.iter()).map(|why| format!("Without a direction of {why}.")));
    said
}

fn item(reading: &Reading, found: &Found, scale: f64) -> Item {
    let mut item = Item {
        id: reading.name.clone(),
        label: "direction".to_owned(),
        ..Item::default()
    };
    // Preferred answers come first, then the others.
    let half = found.rewards.len() / 2;
    let prefers = |with: &dyn Fn(usize) -> f64, pair: usize| with(pair) > with(half + pair);
    let plain = |i: usize| found.rewards[i];
    let without = |i: usize| found.rewards[i] + reading.changes[i];
    let flips = (0..half)
        .filter(|&pair| prefers(&plain, pair) != prefers(&without, pair))
        .count();
    for (name, value) in [
        ("head_cosine", reading.head_cosine),
        ("mean_change", estimate::average(&reading.changes) / scale),
        ("effect", estimate::sd(&reading.changes) / scale),
        ("preferences_flipped", flips as f64 / half.max(1) as f64),
    ] {
        item.numbers.insert(name.to_owned(), value);
    }
    item
}

fn chart(found: &Found, scale: f64) -> Chart {
    let bar = |reading: &Reading| Bar {
        label: reading.name.clone(),
        value: estimate::sd(&reading.changes) / scale,
        interval: None,
    };
    let chart = Chart::new(
        "What the reward loses without a direction",
        "One bar for each direction: the spread of the change of rewards when it is taken out, in deviations of the reward.",
        "direction",
        "effect, sd of the reward",
        Plot::Bars {
            bars: found.named.iter().map(bar).collect(),
        },
    );
    let random: Vec<f64> = (found.random.iter())
        .map(|changes| estimate::sd(changes) / scale)
        .collect();
    if random.is_empty() {
        chart
    } else {
        chart.with_rule("mean of random directions", estimate::average(&random))
    }
}
