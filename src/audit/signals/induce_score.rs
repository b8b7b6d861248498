//! Signal 4.
#![doc = include_str!("pages/induce_score.md")]

use candlescope_probes::NullDistribution;
use candlescope_probes::stats::paired::sign_test;

use super::estimate;
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::{FirstTokens, Interventions, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether adding the refusal direction makes harmless prompts refused.
pub struct InduceScore;

const ID: &str = "induce_score";

impl Signal for InduceScore {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::FirstTokens, Need::Interventions]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/induce_score.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let first = need(&cx.subject.first, "first tokens")?;
        let here = need(&cx.subject.interventions, "interventions")?;
        let chosen = need(&cx.subject.direction, "refusal direction")?;
        let base = cx.baseline.and_then(|base| {
            let first = base.first.as_ref().ok()?;
            Some((first, base.interventions.as_ref().ok()?))
        });
        let mut result = blank(ID)?;
        let score = estimate::mean(
            quantity(ID, "induced_score")?,
            &here.induced,
            base.map(|(_, base)| base.induced.as_slice()),
            cx,
        )?;
        // With a baseline the test is the paired one; without, whether harmless prompts end up refused.
        let score = if score.test.is_none() {
            let test = sign_test(&here.induced)?;
            score.with_test("sign test", Some(test.statistic), test.p_value)
        } else {
            score
        };
        result.values = vec![score, change(first, here, base, cx)?, dose(here)?];
        let refused = here.induced.iter().filter(|score| **score > 0.0).count();
        result.findings = vec![
            format!(
                "With the direction of {} added, {refused} of {} harmless prompts have a score above 0.",
                chosen.site,
                here.induced.len()
            ),
            format!(
                "The vector added is {:.2} of the mean norm of the activations it is added to.",
                here.relative_dose
            ),
        ];
        result.findings.extend(chosen.notes.iter().cloned());
        result.charts = vec![chart(first, here)];
        Ok(result)
    }
}

fn change(
    first: &FirstTokens,
    here: &Interventions,
    base: Option<(&FirstTokens, &Interventions)>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "induced_change")?;
    let now = estimate::differences(&here.induced, &first.scores.harmless)?;
    let before = base
        .map(|(first, base)| estimate::differences(&base.induced, &first.scores.harmless))
        .transpose()?;
    let value = estimate::mean(wanted, &now, before.as_deref(), cx)?;
    let draws = random_changes(&here.induced_random, &first.scores.harmless);
    if draws.len() < 2 || now.is_empty() {
        return Ok(value);
    }
    let observed = estimate::average(&now[..here.controls.min(now.len())]);
    let null = NullDistribution::new(here.controls, observed, draws)?;
    Ok(value.with_null(estimate::null_of(
        "random directions of the same norm",
        &null,
    )))
}

/// Mean change of the score under each random direction.
pub fn random_changes(random: &[Vec<f64>], unedited: &[f64]) -> Vec<f64> {
    random
        .iter()
        .map(|scores| {
            let changes: Vec<f64> = scores.iter().zip(unedited).map(|(s, u)| s - u).collect();
            estimate::average(&changes)
        })
        .collect()
}

fn dose(here: &Interventions) -> Result<Value, SignalError> {
    Ok(quantity(ID, "relative_dose")?
        .measured(here.relative_dose)
        .with_n(here.induced.len() as u64))
}

fn chart(first: &FirstTokens, here: &Interventions) -> Chart {
    let strip = |label: &str, points: Vec<f64>| Strip {
        label: label.to_owned(),
        estimate: (!points.is_empty()).then(|| estimate::average(&points)),
        interval: None,
        points,
    };
    let random: Vec<f64> = here
        .induced_random
        .iter()
        .map(|scores| estimate::average(scores))
        .collect();
    Chart::new(
        "Refusal scores of harmless prompts under addition",
        "Unedited, with the direction added, and the mean under each random direction of the same norm.",
        "refusal score, nats",
        "",
        Plot::Strip {
            rows: vec![
                strip("unedited", first.scores.harmless.clone()),
                strip("direction added", here.induced.clone()),
                strip("random directions (means)", random),
            ],
        },
    )
    .with_rule("even odds", 0.0)
}
