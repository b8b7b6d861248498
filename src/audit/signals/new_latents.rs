//! Signal 23.
#![doc = include_str!("pages/new_latents.md")]

use candlescope_sae::diff::{Class, Presence};

use super::{estimate, frozen};
use crate::audit::evidence::need;
use crate::audit::result::{Item, SignalResult, excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::features::compare::CrossLatent;

/// Latents of a crosscoder that the baseline lacks.
pub struct NewLatents;

const ID: &str = "new_latents";
/// Latents that are listed.
const LISTED: usize = 20;

impl Signal for NewLatents {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Crosscoder]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/new_latents.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        cx.required_baseline()?;
        let found = need(&frozen::dictionaries(cx)?.crossed, "crosscoder")?;
        let fired = |l: &&CrossLatent| l.scaled.fired > 0;
        let fired: Vec<&CrossLatent> = found.latents.iter().filter(fired).collect();
        let own = |l: &CrossLatent| l.pair.class == Class::OnlySecond;
        let new = |l: &CrossLatent| own(l) && l.presence == Presence::New;
        let mut result = blank(ID)?;
        let outcomes: [(&str, &dyn Fn(&CrossLatent) -> bool); 2] =
            [("new_share", &new), ("own_share", &own)];
        for (name, outcome) in outcomes {
            let all: Vec<bool> = fired.iter().map(|latent| outcome(latent)).collect();
            let wanted = quantity(ID, name)?;
            result.values.push(if all.is_empty() {
                wanted.missing("no latent fired on these texts")
            } else {
                estimate::rate(wanted, &all, None, cx)?
            });
        }
        result.findings = vec![format!(
            "{} of {} latents fired on {} tokens; a latent counts as new where both ratios of latent scaling are below {}. \
             Intervals are over latents.",
            fired.len(),
            found.latents.len(),
            found.tokens,
            found.limit
        )];
        let listed = fired.into_iter().filter(|latent| own(latent)).take(LISTED);
        result.items = listed.map(|latent| item(latent, new(latent), cx)).collect();
        Ok(result)
    }
}

fn item(latent: &CrossLatent, new: bool, cx: &Context) -> Item {
    let example = latent.examples.first();
    let row = example.and_then(|example| cx.prompts.neutral.get(example.context));
    let mut item = Item {
        id: format!("latent {}", latent.pair.latent),
        prompt_excerpt: row.map(|row| excerpt(&row.prompt)).unwrap_or_default(),
        label: if new { "new" } else { "own" }.to_owned(),
        ..Item::default()
    };
    let numbers = [
        ("density", Some(latent.density)),
        ("nu_error", latent.scaled.nu_error),
        ("nu_rebuilt", latent.scaled.nu_rebuilt),
    ];
    for (name, number) in numbers {
        item.numbers
            .extend(number.map(|number| (name.to_owned(), number)));
    }
    item
}
