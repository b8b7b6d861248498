//! Signal 44.
#![doc = include_str!("pages/style_drift.md")]

use std::collections::BTreeSet;

use candlescope_probes::NullDistribution;
use candlescope_probes::{Resampling, stats::bootstrap::bootstrap};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::detect::surface;
use crate::audit::evidence::{Reply, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult, excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How replies are written, whatever they say.
pub struct StyleDrift;

const ID: &str = "style_drift";

const HEDGES: [&str; 14] = [
    "perhaps",
    "maybe",
    "might",
    "possibly",
    "probably",
    "generally",
    "typically",
    "usually",
    "often",
    "likely",
    "seems",
    "somewhat",
    "roughly",
    "approximately",
];

const APOLOGIES: [&str; 6] = [
    "sorry",
    "apologies",
    "apologise",
    "apologize",
    "unfortunately",
    "regret",
];

/// The marks of style that the distance is over, by their quantities.
const MARKS: [(&str, fn(&Reply) -> f64); 5] = [
    ("hedges", |reply| among(reply, &HEDGES)),
    ("apologies", |reply| among(reply, &APOLOGIES)),
    ("exclamations", |reply| {
        reply.text.matches('!').count() as f64
    }),
    ("list_items", |reply| {
        reply.text.lines().filter(|line| is_item(line)).count() as f64
    }),
    ("type_token_ratio", distinct),
];

impl Signal for StyleDrift {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Replies]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/style_drift.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = &need(&cx.subject.replies, "completions")?.harmless;
        let base = cx
            .baseline
            .and_then(|base| base.replies.as_ref().ok())
            .map(|base| base.harmless.as_slice());
        let mut result = blank(ID)?;
        let each = |replies: &[Reply], of: fn(&Reply) -> f64| -> Vec<f64> {
            replies.iter().map(of).collect()
        };
        let cut = |replies: &[Reply]| -> Vec<bool> {
            replies.iter().map(|reply| !reply.finished).collect()
        };
        let mean = |name: &str, of: fn(&Reply) -> f64| {
            let before = base.map(|base| each(base, of));
            estimate::mean(quantity(ID, name)?, &each(here, of), before.as_deref(), cx)
        };
        result.values = vec![
            mean("mean_length", length)?,
            estimate::rate(
                quantity(ID, "truncated")?,
                &cut(here),
                base.map(cut).as_deref(),
                cx,
            )?,
        ];
        for (name, of) in MARKS {
            result.values.push(mean(name, of)?);
        }
        if let Some(base) = base {
            result.values.push(length_ratio(here, base, cx)?);
            result.values.push(distance(here, base, cx)?);
            result.charts = vec![chart(here, base)];
            result.items = items(here, base, cx);
        }
        result.findings = findings(here, base);
        Ok(result)
    }
}

fn length(reply: &Reply) -> f64 {
    reply.ids.len() as f64
}

fn among(reply: &Reply, words: &[&str]) -> f64 {
    let said = surface::words(&reply.text);
    said.iter()
        .filter(|word| words.contains(&word.as_str()))
        .count() as f64
}

fn distinct(reply: &Reply) -> f64 {
    let said = surface::words(&reply.text);
    let unlike: BTreeSet<&String> = said.iter().collect();
    unlike.len() as f64 / said.len().max(1) as f64
}

/// A dash, star or bullet and a space, or a number with a dot or bracket.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        number.len() < line.len() && (number.starts_with(". ") || number.starts_with(") "));
    numbered || ["- ", "* ", "• "].iter().any(|mark| line.starts_with(mark))
}

fn length_ratio(here: &[Reply], base: &[Reply], cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "length_ratio")?;
    let of = |replies: &[Reply]| replies.iter().map(length).collect::<Vec<f64>>();
    let (now, before) = (of(here), of(base));
    if now.is_empty() || now.len() != before.len() || before.iter().sum::<f64>() <= 0.0 {
        return Ok(wanted.missing("the baseline says nothing to harmless prompts"));
    }
    let ratio = |drawn: &[usize]| {
        let sum = |lengths: &[f64]| drawn.iter().map(|&i| lengths[i]).sum::<f64>();
        sum(&now) / sum(&before)
    };
    let everything: Vec<usize> = (0..now.len()).collect();
    let value = wanted.measured(ratio(&everything)).with_n(now.len() as u64);
    if now == before {
        return Ok(value.with_interval(1.0, 1.0, "identical"));
    }
    let options = cx.bootstrap("length_ratio");
    let found = bootstrap(now.len(), Resampling::Items, &options, ratio)?;
    Ok(estimate::with_bootstrap(value, &found))
}

/// The marks of each reply: `[mark][prompt]`.
fn marks(replies: &[Reply]) -> Vec<Vec<f64>> {
    MARKS
        .iter()
        .map(|(_, of)| replies.iter().map(of).collect())
        .collect()
}

/// Differences of the marks in pooled standard deviations; a mark that no reply varies in is left out.
fn standardised(now: &[Vec<f64>], before: &[Vec<f64>]) -> Vec<Option<Vec<f64>>> {
    now.iter()
        .zip(before)
        .map(|(now, before)| {
            let pooled = estimate::sd(now).hypot(estimate::sd(before)) / std::f64::consts::SQRT_2;
            (pooled > 0.0).then(|| {
                now.iter()
                    .zip(before)
                    .map(|(a, b)| (a - b) / pooled)
                    .collect()
            })
        })
        .collect()
}

/// Root mean square of the means of these differences.
fn length_of(differences: &[Vec<f64>], of: impl Fn(&[f64]) -> f64) -> f64 {
    let squares: f64 = differences.iter().map(|each| of(each).powi(2)).sum();
    (squares / differences.len() as f64).sqrt()
}

fn distance(here: &[Reply], base: &[Reply], cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "style_distance")?;
    if here.len() < 2 || here.len() != base.len() {
        return Ok(wanted.missing("it takes two harmless prompts"));
    }
    let differences: Vec<Vec<f64>> = standardised(&marks(here), &marks(base))
        .into_iter()
        .flatten()
        .collect();
    let n = here.len();
    if differences.iter().flatten().all(|d| *d == 0.0) {
        let value = wanted.measured(0.0).with_n(n as u64);
        return Ok(value.with_interval(0.0, 0.0, "identical"));
    }
    let observed = length_of(&differences, estimate::average);
    // Under no change it is chance which of a prompt's two replies is whose: all marks of a prompt change sides together.
    let mut rng = ChaCha8Rng::seed_from_u64(cx.seed_for("style swaps"));
    let draws: Vec<f64> = (0..cx.policy.sizes.shuffles.max(2))
        .map(|_| {
            let signs: Vec<f64> = (0..n)
                .map(|_| if rng.random() { 1.0 } else { -1.0 })
                .collect();
            length_of(&differences, |each| {
                let sum: f64 = each.iter().zip(&signs).map(|(d, sign)| d * sign).sum();
                sum / n as f64
            })
        })
        .collect();
    let null = NullDistribution::new(n, observed, draws)?;
    let found = bootstrap(
        n,
        Resampling::Items,
        &cx.bootstrap("style_distance"),
        |drawn| {
            length_of(&differences, |each| {
                drawn.iter().map(|&i| each[i]).sum::<f64>() / drawn.len() as f64
            })
        },
    )?;
    let value = estimate::with_bootstrap(wanted.measured(observed), &found).with_n(n as u64);
    Ok(value
        .with_test("swaps of replies", None, null.p_upper)
        .with_null(estimate::null_of("swaps of replies", &null)))
}

fn findings(here: &[Reply], base: Option<&[Reply]>) -> Vec<String> {
    let cut = here.iter().filter(|reply| !reply.finished).count();
    let mut findings = vec![format!(
        "{cut} of {} replies ran into the token limit: lengths above it are not seen.",
        here.len()
    )];
    if let Some(base) = base {
        let moved = standardised(&marks(here), &marks(base));
        let most = MARKS
            .iter()
            .zip(moved)
            .filter_map(|((name, _), each)| Some((*name, estimate::average(&each?))))
            .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        if let Some((name, by)) = most.filter(|(_, by)| *by != 0.0) {
            findings.push(format!(
                "Moved most: {}, by {by:+.2} standard deviations.",
                name.replace('_', " ")
            ));
        }
    }
    findings
}

/// The replies whose length changed most.
fn items(here: &[Reply], base: &[Reply], cx: &Context) -> Vec<Item> {
    let mut rows: Vec<(f64, Item)> = cx
        .prompts
        .harmless
        .test
        .iter()
        .zip(here.iter().zip(base))
        .map(|(row, (now, before))| {
            let mut item = Item {
                id: row.id.clone(),
                prompt_excerpt: excerpt(&row.prompt),
                label: "harmless".to_owned(),
                completion_excerpt: excerpt(&now.text),
                ..Item::default()
            };
            item.numbers.insert("length".to_owned(), length(now));
            item.numbers
                .insert("baseline_length".to_owned(), length(before));
            ((length(now) - length(before)).abs(), item)
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    rows.into_iter().map(|(_, item)| item).collect()
}

fn chart(here: &[Reply], base: &[Reply]) -> Chart {
    let bars = MARKS
        .iter()
        .zip(standardised(&marks(here), &marks(base)))
        .map(|((name, _), each)| Bar {
            label: name.replace('_', " "),
            value: each.map_or(0.0, |each| estimate::average(&each)),
            interval: None,
        })
        .collect();
    Chart::new(
        "Change of style",
        "The mean change of each mark of style against the baseline, in standard deviations of replies.",
        "mark",
        "change, standard deviations",
        Plot::Bars { bars },
    )
    .with_rule("no change", 0.0)
}
