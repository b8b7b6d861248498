//! Signal 6.
#![doc = include_str!("pages/ablation_kl.md")]

use candlescope_probes::NullDistribution;

use super::estimate;
use crate::audit::charts::{Chart, Mark, Plot};
use crate::audit::evidence::{SideEffects, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// What ablating the direction costs on harmless prompts, beside random directions.
pub struct AblationKl;

const ID: &str = "ablation_kl";

/// An edit that changes nothing measurable has KL 0; the floor keeps its log finite.
const FLOOR: f64 = 1e-12;

impl Signal for AblationKl {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::SideEffects]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/ablation_kl.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.side_effects, "side effects")?;
        let base = cx.baseline.and_then(|base| base.side_effects.as_ref().ok());
        let mut result = blank(ID)?;
        let kl = estimate::mean(
            quantity(ID, "kl")?,
            &here.kl,
            base.map(|base| base.kl.as_slice()),
            cx,
        )?;
        let mut z = match z(here, cx)? {
            Ok(value) => value,
            Err(why) => quantity(ID, "kl_z")?.missing(&why),
        };
        if let Some(before) = base.and_then(|base| log_z(base).ok()) {
            let same = base == Some(here);
            let interval =
                same.then(|| crate::audit::measure::Interval::new(0.0, 0.0, "identical"));
            z = z.with_baseline(before, interval);
        }
        let logs = random_logs(here);
        if logs.len() >= 2 {
            result.charts = vec![chart(here, &logs)];
        }
        result.values = vec![kl, z];
        result.findings = vec![format!(
            "Compared with {} random directions drawn from the covariance of harmless activations, on {} prompts.",
            here.kl_random.len(),
            here.controls
        )];
        Ok(result)
    }
}

fn random_logs(here: &SideEffects) -> Vec<f64> {
    here.kl_random
        .iter()
        .map(|kl| estimate::average(kl).max(FLOOR).ln())
        .collect()
}

fn observed(here: &SideEffects) -> f64 {
    estimate::average(&here.kl[..here.controls.min(here.kl.len())])
        .max(FLOOR)
        .ln()
}

/// (log KL - mean of the random directions' log KL) / their standard deviation, on the same prompts.
fn log_z(here: &SideEffects) -> Result<f64, String> {
    let logs = random_logs(here);
    if logs.len() < 2 || here.kl.is_empty() {
        return Err("fewer than two random directions".to_owned());
    }
    let spread = estimate::sd(&logs);
    if spread > 0.0 {
        Ok((observed(here) - estimate::average(&logs)) / spread)
    } else {
        Err("the random directions' KLs are all the same".to_owned())
    }
}

fn z(here: &SideEffects, cx: &Context) -> Result<Result<Value, String>, SignalError> {
    let z = match log_z(here) {
        Ok(z) => z,
        Err(why) => return Ok(Err(why)),
    };
    let logs = random_logs(here);
    let null = NullDistribution::new(here.controls, observed(here), logs.clone())?;
    let (mean, spread) = (estimate::average(&logs), estimate::sd(&logs));
    // Over the prompts; the random directions are taken as they are.
    let value = quantity(ID, "kl_z")?.measured(z);
    let value = estimate::bootstrapped(
        value,
        here.controls.min(here.kl.len()),
        cx,
        "kl_z",
        |items| {
            let drawn: Vec<f64> = items.iter().map(|&i| here.kl[i]).collect();
            (estimate::average(&drawn).max(FLOOR).ln() - mean) / spread
        },
    )?;
    let mut shown = estimate::null_of("log KL of random directions", &null);
    // The value is in units of this null: its own null has mean 0 and standard deviation 1.
    shown.mean = 0.0;
    shown.sd = 1.0;
    for (_, quantile) in &mut shown.quantiles {
        *quantile = (*quantile - mean) / spread;
    }
    Ok(Ok(value.with_null(shown)))
}

fn chart(here: &SideEffects, logs: &[f64]) -> Chart {
    let at = observed(here) / std::f64::consts::LN_10;
    Chart::new(
        "KL of random directions",
        "How much ablating each random direction changes the answer to harmless prompts, and where the refusal direction lies.",
        "log10 KL, nats",
        "random directions",
        Plot::Histogram {
            values: logs
                .iter()
                .map(|log| log / std::f64::consts::LN_10)
                .collect(),
            marks: vec![Mark {
                label: format!("refusal direction, KL {:.3}", 10f64.powf(at)),
                at,
            }],
        },
    )
}
