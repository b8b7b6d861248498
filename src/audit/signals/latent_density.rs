//! Signal 21.
#![doc = include_str!("pages/latent_density.md")]

use super::{frozen, latent_crossings};
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::measure::Null;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::features::compare::frozen::LEVEL;
use crate::features::compare::{LatentChange, ShiftNull};

/// Latents that fire more or less often.
pub struct LatentDensity;

const ID: &str = "latent_density";
/// Latents that are listed.
const LISTED: usize = 20;

impl Signal for LatentDensity {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Dictionary]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/latent_density.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = frozen::frozen(cx)?;
        let changes = latent_crossings::changes(found)?;
        let (mut result, alive) = (blank(ID)?, changes.len());
        let draws = cx.policy.sizes.shuffles.max(2);
        let null = found
            .counts
            .null(found.floors(), draws, cx.seed_for("shifted"));
        let shifted = latent_crossings::share(ID, "shifted", found, &changes, cx, |c| c.shifted)?;
        result.values.push(if alive == 0 {
            shifted
        } else {
            shifted.with_null(as_shares(&null, alive))
        });
        let wanted = quantity(ID, "changed")?;
        let sure = changes.iter().filter(|change| change.adjusted <= LEVEL);
        result.values.push(if alive == 0 {
            wanted.missing(latent_crossings::NONE_ALIVE)
        } else {
            let share = sure.clone().count() as f64 / alive as f64;
            wanted.measured(share).with_n(alive as u64)
        });
        result.findings = vec![format!(
            "{} of {alive} latents that are alive shifted; if the checkpoints change places text by text at random, {:.1} do \
             on average and {} at most in {} draws.",
            null.shifted, null.mean, null.largest, null.draws
        )];
        let item = |change: &LatentChange| {
            let label = if change.change[1] > 0.0 {
                "more"
            } else {
                "less"
            };
            frozen::item(found, change, label, cx)
        };
        result.items = sure.take(LISTED).map(item).collect();
        result.charts = vec![chart(&changes)];
        Ok(result)
    }
}

fn as_shares(null: &ShiftNull, alive: usize) -> Null {
    let alive = alive as f64;
    Null {
        kind: "checkpoints swapped by text".to_owned(),
        n: null.draws,
        mean: null.mean / alive,
        sd: null.deviation / alive,
        p: Some(null.p),
        quantiles: vec![(1.0, null.largest as f64 / alive)],
    }
}

/// Ratios of densities in their order.
fn chart(changes: &[LatentChange]) -> Chart {
    let mut ratios: Vec<f64> = changes.iter().map(|change| change.log2_ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let last = ratios.len().saturating_sub(1).max(1) as f64;
    let points = ratios.iter().enumerate();
    let points = points.map(|(i, ratio)| (i as f64 / last, *ratio)).collect();
    Chart::new(
        "Change of how often latents fire",
        "Latents that are alive, from the one that fires least to the one that fires most as against the baseline.",
        "share of the latents",
        "log2 of now over before",
        Plot::Line {
            series: vec![Series {
                name: "latents".to_owned(),
                points,
                band: Vec::new(),
            }],
        },
    )
    .with_rule("as before", 0.0)
}
