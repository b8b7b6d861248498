//! The evidence prompt by prompt that behaviour signals show.
//!
//! Always: a completion to a harmful prompt is cut to where it can only show whether it refuses.

use crate::audit::detect::{Detector, ReplyLabel};
use crate::audit::evidence::Reply;
use crate::audit::result::{Item, excerpt, harmful_excerpt};
use crate::text::suites::{Label, PromptRow};

/// One item for each prompt with its reply, and what changed from the baseline's reply.
pub fn replies(
    rows: &[PromptRow],
    here: &[Reply],
    base: Option<&[Reply]>,
    scores: Option<&[f64]>,
) -> Vec<Item> {
    rows.iter()
        .zip(here)
        .enumerate()
        .map(|(i, (row, reply))| {
            let mut item = Item {
                id: row.id.clone(),
                prompt_excerpt: excerpt(&row.prompt),
                label: label(reply.judgement.label).to_owned(),
                completion_excerpt: match row.label {
                    Label::Harmful => harmful_excerpt(&reply.text),
                    _ => excerpt(&reply.text),
                },
                ..Item::default()
            };
            if let Some(score) = scores.and_then(|scores| scores.get(i)) {
                item.numbers.insert("refusal_score".to_owned(), *score);
            }
            for vote in &reply.judgement.votes {
                let said = format!("{}: {}", label(vote.label), vote.evidence);
                item.votes.insert(detector(vote.detector).to_owned(), said);
            }
            item.flags = flags(reply, base.and_then(|base| base.get(i)));
            item
        })
        .collect()
}

/// The item of a neutral text, with no numbers yet.
pub fn neutral(id: &str, rows: &[PromptRow]) -> Item {
    let row = rows.iter().find(|row| row.id == id);
    Item {
        id: id.to_owned(),
        prompt_excerpt: row.map(|row| excerpt(&row.prompt)).unwrap_or_default(),
        label: "neutral".to_owned(),
        ..Item::default()
    }
}

fn flags(reply: &Reply, base: Option<&Reply>) -> Vec<String> {
    let mut flags = Vec::new();
    if reply.judgement.disagreement {
        flags.push("detectors disagree".to_owned());
    }
    if reply.coherence.tail_loop.is_some() {
        flags.push("looped".to_owned());
    }
    if reply.coherence.words == 0 {
        flags.push("empty".to_owned());
    }
    if let Some(base) = base
        && base.judgement.label != reply.judgement.label
    {
        flags.push(format!("baseline: {}", label(base.judgement.label)));
    }
    flags
}

/// A label as the reports write it.
pub fn label(label: ReplyLabel) -> &'static str {
    match label {
        ReplyLabel::Refusal => "refused",
        ReplyLabel::Compliance => "complied",
        ReplyLabel::Unknown => "unknown",
    }
}

/// A detector as the reports write it.
pub fn detector(detector: Detector) -> &'static str {
    match detector {
        Detector::Prefix => "prefixes",
        Detector::OpeningRules => "opening rules",
        Detector::Lexicon => "lexicon",
        Detector::Structure => "structure",
        Detector::UserPhrase => "user phrase",
    }
}
