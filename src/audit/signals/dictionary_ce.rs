//! Signal 19.
#![doc = include_str!("pages/dictionary_ce.md")]

use super::frozen;
use crate::audit::evidence::need;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::features::quality::ContextSums;

/// What the model still does with the frozen dictionary in its forward pass.
pub struct DictionaryCe;

const ID: &str = "dictionary_ce";

impl Signal for DictionaryCe {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Dictionary]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/dictionary_ce.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = frozen::frozen(cx)?;
        let [before, now] = need(&found.losses, "losses with the dictionary spliced in")?;
        // Texts in which something is predicted on both.
        let both = before.iter().zip(now);
        let pairs: Vec<[ContextSums; 2]> = both
            .filter(|(a, b)| a.tokens > 0 && b.tokens > 0)
            .map(|(a, b)| [*a, *b])
            .collect();
        let sum = |model: usize, drawn: &[usize], of: &dyn Fn(&ContextSums) -> f64| {
            drawn.iter().map(|&i| of(&pairs[i][model])).sum::<f64>()
        };
        let ce = |model: usize, drawn: &[usize]| {
            let [clean, spliced, ablated] = [0, 1, 2].map(|i| sum(model, drawn, &|c| c.ce[i]));
            over(ablated - spliced, ablated - clean)
        };
        let kl = |model: usize, drawn: &[usize]| {
            let [spliced, ablated] = [0, 1].map(|i| sum(model, drawn, &|c| c.kl[i]));
            over(ablated - spliced, ablated)
        };
        let mut result = blank(ID)?;
        let statistics: [(&str, frozen::OfTexts); 2] = [("ce_recovered", &ce), ("kl_score", &kl)];
        for (name, statistic) in statistics {
            let wanted = quantity(ID, name)?;
            let value = frozen::paired(wanted, pairs.len(), cx, statistic)?;
            result.values.push(value);
        }
        let all: Vec<usize> = (0..pairs.len()).collect();
        for (model, words) in [(0, "The baseline"), (1, "This checkpoint")] {
            let tokens = sum(model, &all, &|c| c.tokens as f64);
            let [clean, spliced, ablated] =
                [0, 1, 2].map(|i| sum(model, &all, &|c| c.ce[i]) / tokens);
            result.findings.push(format!(
                "{words}: {clean:.3} nats a token, {spliced:.3} with the dictionary at {}, {ablated:.3} with zeros there.",
                found.point
            ));
        }
        Ok(result)
    }
}

/// NaN where zeros do no harm.
fn over(gain: f64, harm: f64) -> f64 {
    if harm > 0.0 { gain / harm } else { f64::NAN }
}
