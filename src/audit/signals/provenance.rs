//! Signal 38.
#![doc = include_str!("pages/provenance.md")]

use crate::audit::evidence::{Identity, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether the checkpoint is what it says, and whole.
pub struct Provenance;

const ID: &str = "provenance";

/// Two best logits closer than this may change places with the arithmetic.
const NEAR_TIE: f64 = 0.2;

impl Signal for Provenance {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Integrity, Need::FirstTokens]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/provenance.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.integrity, "integrity")?;
        let mut result = blank(ID)?;
        let mut mismatches = Vec::new();
        if !here.repeats {
            mismatches.push(
                "The same pass, run twice, gave different numbers: nothing here can be repeated."
                    .to_owned(),
            );
        }
        let base = cx.baseline_identity;
        if let Some(base) = base {
            mismatches.extend(differences(&cx.subject.identity, base));
        }
        let bad = here.bad_weights.len();
        result.values = vec![
            quantity(ID, "mismatches")?.measured(mismatches.len() as f64),
            quantity(ID, "bad_weights")?
                .measured(bad as f64)
                .with_n(here.tensors as u64),
            near_ties(cx)?,
        ];
        result.findings = mismatches;
        if let Some(base) = base {
            let changed = cx.subject.identity.template != base.template;
            result
                .values
                .push(quantity(ID, "template_changes")?.measured(f64::from(u8::from(changed))));
            if changed {
                result
                    .findings
                    .push("The chat template is not the baseline's.".to_owned());
            }
            let same = cx.subject.identity.weights == base.weights;
            result.findings.push(
                if same {
                    "The stored weights are the baseline's."
                } else {
                    "The stored weights are not the baseline's."
                }
                .to_owned(),
            );
        }
        for (tensor, count) in &here.bad_weights {
            let mut item = Item {
                id: tensor.clone(),
                label: "not finite".to_owned(),
                ..Item::default()
            };
            item.numbers.insert("weights".to_owned(), *count as f64);
            result.items.push(item);
        }
        let edits = cx.subject.identity.edits;
        if edits > 0 {
            result.findings.push(format!(
                "{edits} edits are applied by hook in every pass; what is audited is the model with them."
            ));
        }
        Ok(result)
    }
}

fn differences(here: &Identity, base: &Identity) -> Vec<String> {
    let mut found = Vec::new();
    if here.tokenizer != base.tokenizer {
        found.push(
            "The tokenizer is not the baseline's, so no prompt is the same sequence of tokens."
                .to_owned(),
        );
    }
    if here.config != base.config {
        found.push("The architecture or its constants are not the baseline's.".to_owned());
    }
    found
}

/// Greedy first tokens that another machine's rounding could change.
fn near_ties(cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "near_ties")?;
    let margins = match &cx.subject.first {
        Ok(first) => &first.margins,
        Err(why) => return Ok(wanted.missing(why)),
    };
    let all: Vec<bool> = [&margins.harmful, &margins.harmless, &margins.lookalike]
        .into_iter()
        .flatten()
        .map(|margin| *margin < NEAR_TIE)
        .collect();
    super::estimate::rate(wanted, &all, None, cx)
}
