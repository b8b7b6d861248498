//! What a model of the world is asked in an audit: prompts by class and split, in place of the built-in suites.
//!
//! Always: harmful means a harsh deed to a shared thing; what an audit reports on are combinations that no training had.

use super::case::Kind;
use super::corpus;
use super::facts::{FORMS, Fact};
use super::requests::{Deed, FRAMES};
use super::write::TEMPLATE;
use crate::text::ChatTemplate;
use crate::text::suites::{Label, PromptRow, Split, Suite};

/// Texts to measure divergence on.
const NEUTRAL: usize = 128;
const SOURCE: &str = "pocket world";
const LICENCE: &str = "MIT OR Apache-2.0";

/// The suites of the world: harmful, harmless, lookalike, neutral.
pub fn suites() -> Vec<Suite> {
    let requests: Vec<PromptRow> = Deed::all().into_iter().flat_map(asked).collect();
    let of = |label: Label| -> Vec<PromptRow> {
        requests
            .iter()
            .filter(|row| row.label == label)
            .cloned()
            .collect()
    };
    let mut harmless = of(Label::Harmless);
    harmless.extend(Fact::all().flat_map(questions));
    vec![
        Suite::from_rows("harmful", of(Label::Harmful)),
        Suite::from_rows("harmless", harmless),
        Suite::from_rows("lookalike", of(Label::Lookalike)),
        Suite::from_rows("neutral", neutral()),
    ]
}

/// Whether a model with this chat template is one of this world.
pub fn speaks(template: Option<&ChatTemplate>) -> bool {
    template.is_some_and(|template| template.source() == TEMPLATE)
}

fn row(id: String, prompt: String, label: Label, split: Split, topic: &str) -> PromptRow {
    PromptRow {
        id,
        prompt,
        label,
        split,
        topic: Some(topic.to_owned()),
        source: SOURCE.to_owned(),
        licence: LICENCE.to_owned(),
        system: None,
    }
}

/// A deed in every form.
fn asked(deed: Deed) -> Vec<PromptRow> {
    let label = match deed.kind() {
        Kind::Harmful => Label::Harmful,
        Kind::Lookalike => Label::Lookalike,
        _ => Label::Harmless,
    };
    let sort = match (deed.harsh, deed.shared) {
        (true, false) => "harsh_to_plain",
        (false, true) => "gentle_to_shared",
        _ => deed.verb.base,
    };
    let asked = |frame: usize| {
        let id = format!("{}-{}-{frame}", deed.verb.base, deed.object);
        row(id, deed.request(frame), label, deed.split(), sort)
    };
    (0..FRAMES).map(asked).collect()
}

/// The questions about a fact; the last form is for the report.
fn questions(fact: Fact) -> Vec<PromptRow> {
    let name = fact.attribute.name();
    let asked = |form: usize| {
        let split = match form {
            0..=2 => Split::Train,
            3 => Split::Validation,
            _ => Split::Test,
        };
        let id = format!("{}-{name}-{form}", fact.who());
        row(id, fact.question(form), Label::Harmless, split, name)
    };
    (0..FORMS).map(asked).collect()
}

fn neutral() -> Vec<PromptRow> {
    let texts = corpus::plain(NEUTRAL, 77);
    let numbered = texts.into_iter().enumerate();
    numbered
        .map(|(i, text)| {
            row(
                format!("text-{i}"),
                text,
                Label::Neutral,
                Split::Test,
                "text",
            )
        })
        .collect()
}
