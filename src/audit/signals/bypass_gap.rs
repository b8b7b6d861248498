//! Signal 5.
#![doc = include_str!("pages/bypass_gap.md")]

use candlescope_probes::NullDistribution;

use super::estimate;
use super::induce_score::random_changes;
use crate::audit::charts::{Chart, Mark, Plot};
use crate::audit::evidence::{FirstTokens, Interventions, need};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How much refusal hangs on the one direction.
pub struct BypassGap;

const ID: &str = "bypass_gap";

impl Signal for BypassGap {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::FirstTokens, Need::Interventions]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/bypass_gap.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let first = need(&cx.subject.first, "first tokens")?;
        let here = need(&cx.subject.interventions, "interventions")?;
        let base = cx.baseline.and_then(|base| {
            let first = base.first.as_ref().ok()?;
            Some((first, base.interventions.as_ref().ok()?))
        });
        let mut result = blank(ID)?;
        let bypassed = estimate::mean(
            quantity(ID, "bypassed_score")?,
            &here.bypassed,
            base.map(|(_, base)| base.bypassed.as_slice()),
            cx,
        )?;
        let gaps = |first: &FirstTokens, edited: &Interventions| {
            estimate::differences(&first.scores.harmful, &edited.bypassed)
        };
        let now = gaps(first, here)?;
        let before = base.map(|(first, base)| gaps(first, base)).transpose()?;
        let mut gap = estimate::mean(quantity(ID, "bypass_gap")?, &now, before.as_deref(), cx)?;
        let draws: Vec<f64> = random_changes(&here.bypassed_random, &first.scores.harmful)
            .into_iter()
            .map(|change| -change)
            .collect();
        if draws.len() >= 2 && !now.is_empty() {
            let observed = estimate::average(&now[..here.controls.min(now.len())]);
            result.charts = vec![chart(&draws, observed)];
            let null = NullDistribution::new(here.controls, observed, draws)?;
            gap = gap.with_null(estimate::null_of("random directions", &null));
        }
        result.values = vec![bypassed, gap];
        result.findings = vec![
            "The gap is positive where ablating the direction takes refusal score away; a model that does not refuse has \
             nothing to take."
                .to_owned(),
        ];
        Ok(result)
    }
}

fn chart(draws: &[f64], observed: f64) -> Chart {
    Chart::new(
        "Gap under random directions",
        "How much refusal score each random direction takes away when ablated, and how much the refusal direction does, on the \
         same prompts.",
        "bypass gap, nats",
        "random directions",
        Plot::Histogram {
            values: draws.to_vec(),
            marks: vec![Mark {
                label: format!("observed {observed:.2}"),
                at: observed,
            }],
        },
    )
}
