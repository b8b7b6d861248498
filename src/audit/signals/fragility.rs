//! Signal 17.
#![doc = include_str!("pages/fragility.md")]

use candlescope_probes::fragility::fragility;
use candlescope_probes::{Fragility, FragilityOptions};

use super::estimate;
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::evidence::probes::split;
use crate::audit::evidence::{Evidence, Use, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How much noise the probe withstands.
pub struct ProbeFragility;

const ID: &str = "fragility";

impl Signal for ProbeFragility {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Activations, Need::Probes]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/fragility.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let options = FragilityOptions {
            relative: true,
            seed: cx.seed_for(ID),
            ..FragilityOptions::default()
        };
        let here = noisy(cx.subject, &options)?;
        let base = cx.baseline.and_then(|base| noisy(base, &options).ok());
        let steps = |of: &Fragility| withstood(of, &options.grid);
        let mut result = blank(ID)?;
        let before = base.as_ref().map(steps);
        let counted = estimate::mean(
            quantity(ID, "noise_steps")?,
            &steps(&here),
            before.as_deref(),
            cx,
        )?;
        result.values = vec![star(&here, base.as_ref())?, counted];
        result.findings = vec![format!(
            "{} draws of noise on {} test prompts; accuracy without noise is {:.3}. A noise of 1 is as large as the spread of the \
             activations, {:.3} for each feature.",
            options.seeds, here.n, here.clean, here.unit
        )];
        result.charts = vec![chart(&here, base.as_ref(), options.floor)];
        Ok(result)
    }
}

/// The probe at the last instruction token, on test prompts with noise.
fn noisy(of: &Evidence, options: &FragilityOptions) -> Result<Fragility, SignalError> {
    let probe = &need(&of.probes, "probes")?.instruction;
    let activations = need(&of.activations, "activations")?;
    let (test, labels) = split(activations, Use::Test, probe.place, probe.layer)?;
    Ok(fragility(&probe.fitted, test.view(), &labels, options)?)
}

/// Levels of the grid that each draw withstands before the first at which accuracy is under the floor.
fn withstood(found: &Fragility, grid: &[f64]) -> Vec<f64> {
    let under = |star: f64| grid.iter().filter(|sigma| **sigma < star).count();
    let steps = |star: &Option<f64>| star.map_or(grid.len(), under) as f64;
    found.per_seed.iter().map(steps).collect()
}

fn star(here: &Fragility, base: Option<&Fragility>) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "sigma_star")?;
    let Some(sigma) = here.sigma_star else {
        return Ok(wanted.missing("the probe withstands every level of noise that was tried"));
    };
    let mut value = wanted.measured(sigma).with_n(here.n as u64);
    let seeds: Option<Vec<f64>> = here.per_seed.iter().copied().collect();
    if let Some(seeds) = seeds {
        let low = seeds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = seeds.iter().copied().fold(0.0, f64::max);
        value = value.with_interval(low, high, "range over draws of noise");
    }
    Ok(match base.and_then(|base| base.sigma_star) {
        Some(before) => value.with_baseline(before, None),
        None => value,
    })
}

fn chart(here: &Fragility, base: Option<&Fragility>, floor: f64) -> Chart {
    let series = |name: &str, found: &Fragility| Series {
        name: name.to_owned(),
        points: (found.levels.iter())
            .map(|level| (level.sigma.log10(), level.mean))
            .collect(),
        band: (found.levels.iter())
            .map(|level| (level.mean - level.sd, level.mean + level.sd))
            .collect(),
    };
    let mut all = vec![series("this checkpoint", here)];
    all.extend(base.map(|base| series("baseline", base)));
    Chart::new(
        "Accuracy under noise",
        "Mean accuracy on test prompts as normal noise of growing size is added to the activations; the band is one standard deviation.",
        "log10 of the noise over the spread of the activations",
        "accuracy",
        Plot::Line { series: all },
    )
    .with_rule("floor", floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand() {
        let found = Fragility {
            n: 4,
            clean: 1.0,
            unit: 1.0,
            levels: Vec::new(),
            per_seed: vec![Some(0.1), Some(1.0), None],
            sigma_star: Some(1.0),
        };
        // Under 0.1 there is no level, under 1 there are two; nothing of the grid breaks the third.
        assert_eq!(withstood(&found, &[0.1, 0.3, 1.0, 3.0]), [0.0, 2.0, 4.0]);
    }
}
