//! Signal 20.
#![doc = include_str!("pages/latent_crossings.md")]

use super::{estimate, frozen};
use crate::audit::evidence::dictionary::Frozen;
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::features::FeatureError;
use crate::features::compare::counts::Became;
use crate::features::compare::{Crossings, LatentChange, signals::crossings_tested};

/// Latents that fell silent, and latents that began to speak.
pub struct LatentCrossings;

const ID: &str = "latent_crossings";
/// Latents that are listed.
const LISTED: usize = 20;

impl Signal for LatentCrossings {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Dictionary]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/latent_crossings.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = frozen::frozen(cx)?;
        let changes = changes(found)?;
        let mut result = blank(ID)?;
        for (name, of) in [
            (
                "births",
                (|c: &Crossings| c.born) as fn(&Crossings) -> usize,
            ),
            ("deaths", |c: &Crossings| c.died),
        ] {
            result
                .values
                .push(share(ID, name, found, &changes, cx, of)?);
        }
        let wanted = quantity(ID, "tested_crossings")?;
        let tested = crossings_tested(&changes).map_err(missing)?;
        result.values.push(if changes.is_empty() {
            wanted.missing(NONE_ALIVE)
        } else {
            let share = tested as f64 / changes.len() as f64;
            wanted.measured(share).with_n(changes.len() as u64)
        });
        let floors = found.floors();
        result.findings = vec![format!(
            "{} of {} latents are alive on either checkpoint: they fire in {:.4} % of {} tokens or more; silent is never.",
            changes.len(),
            found.d_sae,
            floors.alive * 100.0,
            found.tokens
        )];
        let crossed = |c: &&LatentChange| matches!(c.became, Became::Born | Became::Died);
        let listed = changes.iter().filter(crossed).take(LISTED);
        let item = |change: &LatentChange| {
            let label = if change.became == Became::Born {
                "born"
            } else {
                "died"
            };
            frozen::item(found, change, label, cx)
        };
        result.items = listed.map(item).collect();
        Ok(result)
    }
}

/// Where there is nothing to count.
pub(super) const NONE_ALIVE: &str = "no latent fires often enough on these texts to be alive";

/// The latents that are alive on either, the surest change first.
pub(super) fn changes(found: &Frozen) -> Result<Vec<LatentChange>, SignalError> {
    found.counts.changes(found.floors()).map_err(missing)
}

fn missing(error: FeatureError) -> SignalError {
    SignalError::Missing {
        what: "frozen dictionary",
        why: error.to_string(),
    }
}

/// A share of the latents that are alive, with texts resampled.
pub(super) fn share(
    id: &str,
    name: &str,
    found: &Frozen,
    changes: &[LatentChange],
    cx: &Context,
    of: fn(&Crossings) -> usize,
) -> Result<Value, SignalError> {
    let wanted = quantity(id, name)?;
    if changes.is_empty() {
        return Ok(wanted.missing(NONE_ALIVE));
    }
    let floors = found.floors();
    let statistic = |drawn: &[usize]| {
        let crossings = found.counts.crossings(drawn, floors);
        if crossings.alive == 0 {
            return f64::NAN;
        }
        of(&crossings) as f64 / crossings.alive as f64
    };
    let n = found.counts.contexts();
    let all: Vec<usize> = (0..n).collect();
    let value = wanted.measured(statistic(&all)).with_n(n as u64);
    if changes.iter().all(|change| change.contexts == [0, 0]) {
        return Ok(value.with_interval(0.0, 0.0, "identical"));
    }
    estimate::bootstrapped(value, n, cx, name, statistic)
}
