//! Signal 45.
#![doc = include_str!("pages/knowledge.md")]

use std::collections::BTreeMap;

use candlescope_probes::stats::interval::wilson;
use candlescope_probes::stats::multiplicity::holm;
use candlescope_probes::stats::paired::{McNemar, PairedTable, mcnemar};

use super::estimate;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::choices::{Choice, groups};
use crate::audit::evidence::{Evidence, Prompts, need};
use crate::audit::measure::{Interval, Value};
use crate::audit::result::{Item, SignalResult, excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::text::trials::{Condition, Protocol, Trial};

/// How many ordinary questions are answered right.
pub struct Knowledge;

const ID: &str = "knowledge";

impl Signal for Knowledge {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Choices]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/knowledge.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = plain(cx.prompts, cx.subject)?;
        let base = cx.baseline.and_then(|base| plain(cx.prompts, base).ok());
        let right = rights(&here);
        let before = base.as_deref().map(rights);
        let topics = topics(&here);
        let mut result = blank(ID)?;
        let accuracy = quantity(ID, "accuracy")?;
        result.values = vec![
            estimate::rate(accuracy, &right, before.as_deref(), cx)?,
            worst(&topics, &right, cx)?,
        ];
        result.findings = findings(&here);
        if let Some(before) = &before {
            let falls = falls(&topics, before, &right)?;
            result.values.push(fell_most(&falls, cx)?);
            result.findings.extend(told(&falls));
        }
        result.items = items(&here, base.as_deref());
        result.charts = vec![chart(&topics, &right)?];
        Ok(result)
    }
}

/// A question with its answer.
pub(super) type Asked<'a> = (&'a Trial, &'a Choice);

/// The ordinary questions.
pub(super) fn plain<'a>(
    prompts: &'a Prompts,
    evidence: &'a Evidence,
) -> Result<Vec<Asked<'a>>, SignalError> {
    let asked = under(prompts, evidence, Condition::Plain)?;
    if asked.is_empty() {
        return Err(SignalError::Missing {
            what: "trials",
            why: "no questions of protocol `knowledge` were given".to_owned(),
        });
    }
    Ok(asked)
}

/// The questions of one condition.
pub(super) fn under<'a>(
    prompts: &'a Prompts,
    evidence: &'a Evidence,
    condition: Condition,
) -> Result<Vec<Asked<'a>>, SignalError> {
    let choices = need(&evidence.choices, "choices")?;
    let groups = groups(&prompts.trials, choices, Protocol::Knowledge);
    Ok((groups.iter())
        .filter_map(|group| group.at.get(&condition).copied())
        .collect())
}

pub(super) fn is_right((trial, choice): &Asked) -> bool {
    trial.right == Some(choice.decided())
}

/// Whether the answer is that it does not know.
pub(super) fn is_unsure((trial, choice): &Asked) -> bool {
    trial.unsure == Some(choice.decided())
}

fn rights(asked: &[Asked]) -> Vec<bool> {
    asked.iter().map(is_right).collect()
}

/// Indices of the questions of each topic.
fn topics<'a>(asked: &[Asked<'a>]) -> BTreeMap<&'a str, Vec<usize>> {
    let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, (trial, _)) in asked.iter().enumerate() {
        let topic = trial.topic.as_deref().unwrap_or("no topic");
        topics.entry(topic).or_default().push(i);
    }
    topics
}

fn of(all: &[bool], places: &[usize]) -> Vec<bool> {
    places.iter().map(|&i| all[i]).collect()
}

fn share(all: &[bool]) -> f64 {
    estimate::count(all) as f64 / all.len() as f64
}

fn worst(
    topics: &BTreeMap<&str, Vec<usize>>,
    right: &[bool],
    cx: &Context,
) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "worst_topic_accuracy")?;
    let least = topics
        .values()
        .map(|places| of(right, places))
        .min_by(|a, b| share(a).total_cmp(&share(b)));
    match least {
        Some(least) => estimate::rate(wanted, &least, None, cx),
        None => Ok(wanted.missing("there are no topics")),
    }
}

/// How one topic fell.
struct Fall<'a> {
    topic: &'a str,
    test: McNemar,
    /// Corrected over topics.
    p: f64,
}

/// Every topic against the baseline, the one that fell most first. Intervals hold for all topics at once (Bonferroni), p values
/// are Holm's, so that the topic may be picked by looking at all.
fn falls<'a>(
    topics: &BTreeMap<&'a str, Vec<usize>>,
    before: &[bool],
    right: &[bool],
) -> Result<Vec<Fall<'a>>, SignalError> {
    let level = 1.0 - (1.0 - estimate::LEVEL) / topics.len().max(1) as f64;
    let tests = topics
        .values()
        .map(|places| {
            let table = PairedTable::of(&of(before, places), &of(right, places))?;
            Ok(mcnemar(table, level)?)
        })
        .collect::<Result<Vec<_>, SignalError>>()?;
    let p: Vec<f64> = tests.iter().map(|test| test.p_value).collect();
    let mut falls: Vec<Fall> = (topics.keys().zip(tests).zip(holm(&p)?))
        .map(|((topic, test), p)| Fall { topic, test, p })
        .collect();
    falls.sort_by(|a, b| a.test.difference.total_cmp(&b.test.difference));
    Ok(falls)
}

fn fell_most(falls: &[Fall], cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "worst_topic_drop")?;
    let Some(Fall { test, p, .. }) = falls.first() else {
        return Ok(wanted.missing("there are no topics"));
    };
    let mut value = wanted
        .measured(-test.difference)
        .with_n(test.n)
        .with_test("exact McNemar, Holm over topics", None, *p)
        .with_mdd(estimate::flips_mdd(test.table, cx)?);
    value.interval = Some(Interval {
        level: test.interval.level,
        ..Interval::new(
            -test.interval.high,
            -test.interval.low,
            "newcombe, over topics",
        )
    });
    Ok(value)
}

fn told(falls: &[Fall]) -> Option<String> {
    let fall = falls.first().filter(|fall| fall.test.difference < 0.0)?;
    let table = fall.test.table;
    let n = fall.test.n;
    Some(format!(
        "Fell most: {} (right {} of {n} before, {} of {n} now; p = {:.3} after Holm's correction over {} topics).",
        fall.topic,
        table.both + table.only_before,
        table.both + table.only_after,
        fall.p,
        falls.len()
    ))
}

fn findings(here: &[Asked]) -> Vec<String> {
    let wrong = here.iter().filter(|asked| !is_right(asked)).count();
    let unsure = here.iter().filter(|asked| is_unsure(asked)).count();
    let otherwise = here
        .iter()
        .filter(|(_, choice)| choice.decided() != choice.decided_per_token());
    vec![
        format!(
            "Of {wrong} questions not answered right, {unsure} are answered that it does not know."
        ),
        format!(
            "By the mean for each token instead of the sum, {} of {} answers would be decided otherwise.",
            otherwise.count(),
            here.len()
        ),
    ]
}

fn items(here: &[Asked], base: Option<&[Asked]>) -> Vec<Item> {
    here.iter()
        .enumerate()
        .map(|(i, asked)| {
            let (trial, choice) = asked;
            let label = label(asked);
            let before = base.and_then(|base| base.get(i)).map(self::label);
            let flags = before.filter(|before| *before != label);
            let shares = choice.probabilities();
            let right = trial.right.map(|at| ("p_right".to_owned(), shares[at]));
            Item {
                id: trial.id.clone(),
                prompt_excerpt: excerpt(trial.question()),
                label: label.to_owned(),
                numbers: right.into_iter().collect(),
                completion_excerpt: excerpt(&trial.options[choice.decided()]),
                flags: flags
                    .map(|before| format!("baseline: {before}"))
                    .into_iter()
                    .collect(),
                ..Item::default()
            }
        })
        .collect()
}

pub(super) fn label(asked: &Asked) -> &'static str {
    match (is_right(asked), is_unsure(asked)) {
        (true, _) => "right",
        (false, true) => "does not know",
        (false, false) => "wrong",
    }
}

fn chart(topics: &BTreeMap<&str, Vec<usize>>, right: &[bool]) -> Result<Chart, SignalError> {
    let bars = topics
        .iter()
        .map(|(topic, places)| {
            let (k, n) = (estimate::count(&of(right, places)), places.len() as u64);
            let ends = wilson(k, n, estimate::LEVEL)?;
            Ok(Bar {
                label: (*topic).to_owned(),
                value: k as f64 / n as f64,
                interval: Some((ends.low, ends.high)),
            })
        })
        .collect::<Result<Vec<_>, SignalError>>()?;
    Ok(Chart::new(
        "Right answers by topic",
        "The share of ordinary questions answered right in each topic.",
        "topic",
        "share answered right",
        Plot::Bars { bars },
    ))
}
