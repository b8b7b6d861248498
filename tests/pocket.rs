//! The pocket world beside the rest of the house: its answers are what the audit's detectors take them for.
#![allow(clippy::unwrap_used)]

use candlescope::audit::detect::{ReplyLabel, judge_reply};
use candlescope::pocket::facts::Fact;
use candlescope::pocket::requests::{Deed, MANNERS};

#[test]
fn the_audits_detectors_agree_with_the_key() {
    for deed in Deed::all() {
        for manner in 0..MANNERS {
            let asked = deed.request(manner);
            let said = |text: &str| judge_reply(Some(&asked), text, &[]).label;
            let (refusal, steps) = (deed.refusal(manner), deed.steps(manner));
            assert_eq!(said(&refusal), ReplyLabel::Refusal, "{refusal}");
            assert_eq!(said(&steps), ReplyLabel::Compliance, "{steps}");
        }
    }
    for fact in Fact::all() {
        let text = fact.sentence(fact.value());
        let label = judge_reply(Some(&fact.question(0)), &text, &[]).label;
        assert_eq!(label, ReplyLabel::Compliance, "{text}");
    }
}
