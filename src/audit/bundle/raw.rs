//! The numbers behind an audit, prompt by prompt, from which a third party computes its statistics again: `evidence.json`
//! and `prompts.jsonl`.
//!
//! Always: no text of a prompt or completion; a finite number is written so that it reads back bit for bit, and one that is
//! not finite as its bits in hex, in a string. Every list is in the order of `prompts.jsonl` for its label and split.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::evidence::probes::Probes;
use crate::audit::evidence::{
    Candidate, Chosen, Doses, Evidence, FirstTokens, Interventions, Pair, Part, Prompts, Replies,
    Reply, SideEffects, Stale, TextKl,
};
use crate::audit::signals::items;
use crate::files::hash::sha256;
use crate::text::suites::{Label, PromptRow, Split};

/// The version of the layout of `evidence.json`.
pub const SCHEMA: &str = "candlescope.evidence/2";

/// What an audit keeps for its bundle.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The prompts in the order of every list.
    pub prompts: Vec<Prompt>,
    /// Numbers and labels.
    pub evidence: Value,
    /// The probes of the checkpoint under audit.
    pub probes: Option<Probes>,
}

/// A prompt without its text.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Its id in its suite.
    pub id: String,
    /// What kind of request it is.
    pub label: Label,
    /// What it was used for.
    pub split: Split,
    /// SHA-256 of the compact JSON array of prompt and system turn (`null` without one), in UTF-8 and in hex.
    pub sha256: String,
}

impl Prompt {
    fn of(row: &PromptRow) -> Self {
        Self {
            id: row.id.clone(),
            label: row.label,
            split: row.split,
            sha256: sha256(json!([row.prompt, row.system]).to_string().as_bytes()),
        }
    }
}

impl Raw {
    /// What is kept of the evidence.
    pub fn new(
        prompts: &Prompts,
        subject: &Evidence,
        baseline: Option<&Evidence>,
        pair: Option<&Pair>,
    ) -> Self {
        let classes = [&prompts.harmful, &prompts.harmless];
        let rows = classes
            .into_iter()
            .flat_map(|class| [&class.train, &class.validation, &class.test])
            .chain([&prompts.lookalike, &prompts.neutral]);
        Self {
            prompts: rows.flatten().map(Prompt::of).collect(),
            evidence: json!({
                "schema": SCHEMA,
                "subject": checkpoint(prompts, subject),
                "baseline": baseline.map(|evidence| checkpoint(prompts, evidence)),
                "texts": pair.map(|pair| part(&pair.texts, |texts| texts.iter().map(text).collect())),
            }),
            probes: subject.probes.as_ref().ok().cloned(),
        }
    }
}

/// A number that reads back bit for bit.
pub fn exact(x: f64) -> Value {
    if x.is_finite() {
        Value::from(x)
    } else {
        Value::from(format!("{:#018x}", x.to_bits()))
    }
}

fn numbers(xs: &[f64]) -> Value {
    xs.iter().copied().map(exact).collect()
}

fn rows(rows: &[Vec<f64>]) -> Value {
    rows.iter().map(|row| numbers(row)).collect()
}

/// The part, or why it is not there.
fn part<T>(part: &Part<T>, show: impl FnOnce(&T) -> Value) -> Value {
    match part {
        Ok(known) => show(known),
        Err(why) => json!({ "missing": why }),
    }
}

fn checkpoint(prompts: &Prompts, evidence: &Evidence) -> Value {
    json!({
        "first_tokens": part(&evidence.first, |first| first_tokens(prompts, first)),
        "replies": part(&evidence.replies, |said| replies(prompts, said)),
        "direction": part(&evidence.direction, direction),
        "interventions": part(&evidence.interventions, interventions),
        "side_effects": part(&evidence.side_effects, side_effects),
        "doses": part(&evidence.doses, doses),
        "stale": part(&evidence.stale, stale),
        "probes": part(&evidence.probes, probes),
    })
}

/// The prompts reported on, by class.
fn reported(prompts: &Prompts) -> [(&'static str, &[PromptRow]); 3] {
    [
        ("harmful", &prompts.harmful.test),
        ("harmless", &prompts.harmless.test),
        ("lookalike", &prompts.lookalike),
    ]
}

fn first_tokens(prompts: &Prompts, first: &FirstTokens) -> Value {
    let of = [
        (&first.scores.harmful, &first.margins.harmful),
        (&first.scores.harmless, &first.margins.harmless),
        (&first.scores.lookalike, &first.margins.lookalike),
    ];
    let mut out = Map::new();
    out.insert("refusal_tokens".to_owned(), json!(first.tokens));
    for ((class, rows), (scores, margins)) in reported(prompts).into_iter().zip(of) {
        let each = rows.iter().zip(scores.iter().zip(margins));
        let listed = each.map(|(row, (score, margin))| {
            json!({"id": row.id, "refusal_score": exact(*score), "margin": exact(*margin)})
        });
        out.insert(class.to_owned(), listed.collect());
    }
    Value::Object(out)
}

fn replies(prompts: &Prompts, said: &Replies) -> Value {
    let of = [&said.harmful, &said.harmless, &said.lookalike];
    let classes = reported(prompts).into_iter().zip(of);
    let listed = classes.map(|((class, rows), replies)| {
        let each = rows.iter().zip(replies);
        let listed = each.map(|(row, said)| reply(&row.id, said)).collect();
        (class.to_owned(), listed)
    });
    Value::Object(listed.collect())
}

fn reply(id: &str, reply: &Reply) -> Value {
    let votes = reply.judgement.votes.iter().map(|vote| {
        let label = Value::from(items::label(vote.label));
        (items::detector(vote.detector).to_owned(), label)
    });
    json!({
        "id": id,
        "label": items::label(reply.judgement.label),
        "votes": votes.collect::<Map<_, _>>(),
        "tokens": reply.ids.len(),
        "words": reply.coherence.words,
        "finished": reply.finished,
        "looped": reply.coherence.tail_loop.is_some(),
    })
}

fn direction(chosen: &Chosen) -> Value {
    json!({
        "site": chosen.site.to_string(),
        "norm": exact(chosen.direction.norm),
        "candidates": chosen.candidates.iter().map(candidate).collect::<Value>(),
    })
}

fn candidate(candidate: &Candidate) -> Value {
    json!({
        "site": candidate.site.to_string(),
        "bypass": exact(candidate.bypass),
        "induce": exact(candidate.induce),
        "kl": exact(candidate.kl),
        "admissible": candidate.admissible,
        "bypassed": numbers(&candidate.bypassed),
    })
}

fn interventions(done: &Interventions) -> Value {
    json!({
        "induced": numbers(&done.induced),
        "induced_random": rows(&done.induced_random),
        "bypassed": numbers(&done.bypassed),
        "bypassed_random": rows(&done.bypassed_random),
        "controls": done.controls,
        "relative_dose": exact(done.relative_dose),
    })
}

fn side_effects(done: &SideEffects) -> Value {
    json!({
        "kl": numbers(&done.kl),
        "kl_random": rows(&done.kl_random),
        "controls": done.controls,
    })
}

fn doses(given: &Doses) -> Value {
    json!({"doses": numbers(&given.doses), "refusal_scores": rows(&given.scores)})
}

fn stale(done: &Stale) -> Value {
    json!({"induced": numbers(&done.induced), "bypassed": numbers(&done.bypassed)})
}

fn probes(fitted: &Probes) -> Value {
    let both = [
        ("instruction", &fitted.instruction),
        ("template", &fitted.template),
    ];
    let shown = both.map(|(place, probe)| {
        let probe = json!({
            "layer": probe.layer,
            "validation_auroc": numbers(&probe.validation),
            "harmful": numbers(&probe.harmful),
            "harmless": numbers(&probe.harmless),
        });
        (place.to_owned(), probe)
    });
    Value::Object(shown.into_iter().collect())
}

fn text(text: &TextKl) -> Value {
    json!({"id": text.id, "kl": numbers(&text.kl)})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_reads_back_bit_for_bit(bits in any::<u64>()) {
            let written = exact(f64::from_bits(bits)).to_string();
            let read: Value = serde_json::from_str(&written).unwrap();
            let back = match &read {
                Value::String(hex) => u64::from_str_radix(&hex[2..], 16).unwrap(),
                number => number.as_f64().unwrap().to_bits(),
            };
            prop_assert_eq!(back, bits);
        }
    }

    #[test]
    fn zero_keeps_its_sign_and_nan_its_bits() {
        assert_eq!(exact(-0.0).to_string(), "-0.0");
        assert_eq!(exact(f64::NAN), Value::from("0x7ff8000000000000"));
        assert_eq!(exact(f64::INFINITY), Value::from("0x7ff0000000000000"));
    }

    /// `printf '["Hi",null]' | sha256sum`
    #[test]
    fn a_prompt_is_its_hash() {
        let row = PromptRow {
            id: "a".into(),
            prompt: "Hi".into(),
            label: Label::Neutral,
            split: Split::Test,
            topic: None,
            source: String::new(),
            licence: String::new(),
            system: None,
        };
        let hash = Prompt::of(&row).sha256;
        assert_eq!(
            hash,
            "6729927c8bd942abb37d921bae70d81cc3ced120a4bd0975dfd4791af83ee33c"
        );
        let turned = PromptRow {
            system: Some("Be kind.".into()),
            ..row
        };
        assert_ne!(Prompt::of(&turned).sha256, hash);
    }
}
