//! Signal 27.
#![doc = include_str!("pages/steering_health.md")]

use candlescope_probes::NullDistribution;
use candlescope_probes::stats::paired::sign_test;

use super::estimate;
use super::induce_score::random_changes;
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::evidence::{Doses, Evidence, FirstTokens, Interventions, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::steer::{Aim, Health, health};

/// Whether the refusal direction steers every prompt the same way, and at what dose.
pub struct SteeringHealth;

const ID: &str = "steering_health";

impl Signal for SteeringHealth {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::FirstTokens, Need::Interventions, Need::Doses]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/steering_health.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let doses = need(&cx.subject.doses, "steering doses")?;
        let here = need(&cx.subject.interventions, "interventions")?;
        let first = need(&cx.subject.first, "first tokens")?;
        let own = steered(doses)?;
        let base = cx
            .baseline
            .and_then(|base| of(base).transpose())
            .transpose()?;
        let before = base.as_ref().map(|base| base.slopes.as_slice());
        let mut slope = estimate::mean(quantity(ID, "slope")?, &own.slopes, before, cx)?;
        if slope.test.is_none() {
            let test = sign_test(&own.slopes)?;
            slope = slope.with_test("sign test", Some(test.statistic), test.p_value);
        }
        let slope = with_null(slope, &own, here, first)?;
        let before = base.as_ref().map(|base| against(&base.slopes));
        let anti = estimate::rate(
            quantity(ID, "anti_steered")?,
            &against(&own.slopes),
            before.as_deref(),
            cx,
        )?;
        let largest = doses.doses.iter().copied().fold(0.0, f64::max);
        let n = own.slopes.len() as u64;
        let mut result = blank(ID)?;
        result.values = vec![
            slope,
            anti,
            quantity(ID, "monotone")?.measured(own.monotone).with_n(n),
            (quantity(ID, "relative_dose")?.measured(largest * here.relative_dose)).with_n(n),
        ];
        result.findings = vec![format!(
            "Doses {:?} of the direction at its own length, added on {n} harmless test prompts; {} go the other way or nowhere.",
            doses.doses, own.anti_steered.successes
        )];
        result.charts = vec![chart(doses)];
        Ok(result)
    }
}

fn steered(doses: &Doses) -> Result<Health, SignalError> {
    health(&doses.doses, &doses.scores, Aim::Up).map_err(|error| SignalError::Missing {
        what: "steering doses",
        why: error.to_string(),
    })
}

fn of(evidence: &Evidence) -> Result<Option<Health>, SignalError> {
    evidence.doses.as_ref().ok().map(steered).transpose()
}

/// Prompts whose score does not rise with the dose.
fn against(slopes: &[f64]) -> Vec<bool> {
    slopes.iter().map(|slope| *slope <= 0.0).collect()
}

/// What random directions of the same length change at dose 1: a slope from two doses, on the prompts they were tried on.
fn with_null(
    value: Value,
    own: &Health,
    here: &Interventions,
    first: &FirstTokens,
) -> Result<Value, SignalError> {
    let draws = random_changes(&here.induced_random, &first.scores.harmless);
    if draws.len() < 2 || value.value.is_none() {
        return Ok(value);
    }
    let observed = estimate::average(&own.slopes[..here.controls.min(own.slopes.len())]);
    let null = NullDistribution::new(here.controls, observed, draws)?;
    let kind = "random directions of the same norm";
    Ok(value.with_null(estimate::null_of(kind, &null)))
}

fn chart(doses: &Doses) -> Chart {
    let quartiles = |scores: &Vec<f64>| {
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
            sorted.get(place).copied().unwrap_or(f64::NAN)
        };
        (at(0.25), at(0.75))
    };
    let points = doses.doses.iter().zip(&doses.scores);
    Chart::new(
        "Refusal score by dose",
        "Mean over harmless test prompts with the direction added; the band holds the middle half of them.",
        "dose",
        "refusal score, nats",
        Plot::Line {
            series: vec![Series {
                name: "this checkpoint".to_owned(),
                points: points.map(|(dose, scores)| (*dose, estimate::average(scores))).collect(),
                band: doses.scores.iter().map(quartiles).collect(),
            }],
        },
    )
    .with_rule("even odds", 0.0)
}
