//! The diff in words, as a command line and as rows.

use serde_json::{Value, json};

use super::texts::{fired, forked};
use super::view::told;
use super::{Compared, DiffScreen};
use crate::text::visible::visible;
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// Weights that are said.
const MOVED: usize = 5;
/// Latents of a kind that are said.
const LATENTS: usize = 5;

pub(super) fn spoken(screen: &DiffScreen, shared: &Shared) -> Vec<String> {
    if let Some(editor) = &screen.editor {
        return vec![format!("editing the prompt: {}", editor.field().text())];
    }
    let mut lines = Vec::new();
    if let Some(why) = &screen.pending.failed {
        lines.push(format!("failed: {why}"));
    }
    let Some(compared) = &screen.compared else {
        lines.push(match screen.names(shared) {
            Some([first, second]) => {
                format!("from {first} to {second}: not compared yet; compare does")
            }
            None => "no other model yet; beside MODEL compares the open model with one".to_owned(),
        });
        return lines;
    };
    let [first, second] = &compared.names;
    lines.push(format!("from {first} to {second}"));
    weights(compared, &mut lines);
    if let Some(Ok(tokens)) = &compared.tokens {
        let sum: f64 = tokens.iter().map(|token| token.kl).sum();
        let mean = sum / tokens.len().max(1) as f64;
        let differ = tokens.iter().filter(|t| t.top[0].id != t.top[1].id).count();
        lines.push(format!(
            "KL after each of {} tokens: mean {mean:.4} nats; after {differ} of them the likeliest differs",
            tokens.len()
        ));
        if let Some(token) = tokens.get(screen.row.min(tokens.len().saturating_sub(1))) {
            let [a, b] = token
                .top
                .map(|top| (visible(compared.word(top.id)), top.probability));
            lines.push(format!(
                "after \"{}\": KL {:.4}, the first says \"{}\" {:.1} percent, the second \"{}\" {:.1} percent",
                visible(compared.word(token.id)),
                token.kl,
                a.0,
                a.1 * 100.0,
                b.0,
                b.1 * 100.0
            ));
        }
    }
    trouble("tokens", compared.tokens.as_ref(), &mut lines);
    if let Some(Ok(parting)) = &compared.parting {
        lines.push(forked(compared, parting.fork.as_ref()));
        for (name, ids) in ["first", "second"].into_iter().zip(&parting.answers) {
            lines.push(format!("the {name} answers: {}", answer(compared, ids)));
        }
    }
    trouble("answers", compared.parting.as_ref(), &mut lines);
    if let Some(Ok(found)) = &compared.latents {
        let crossed = &found.crossed;
        for (name, list) in [("gained", &crossed.gained), ("lost", &crossed.lost)] {
            let some: Vec<String> = list
                .iter()
                .take(LATENTS)
                .map(|latent| fired(compared, latent, true))
                .collect();
            lines.push(format!(
                "{} latents {name}: {}",
                list.len(),
                some.join(", ")
            ));
        }
    }
    trouble("latents", compared.latents.as_ref(), &mut lines);
    lines
}

fn weights(compared: &Compared, lines: &mut Vec<String>) {
    if let Some(Ok(changes)) = &compared.weights {
        let mut moved: Vec<_> = changes.iter().filter(|c| c.relative > 0.0).collect();
        moved.sort_by(|a, b| b.relative.total_cmp(&a.relative));
        lines.push(format!(
            "{} of {} weights changed",
            moved.len(),
            changes.len()
        ));
        for change in moved.iter().take(MOVED) {
            lines.push(format!("{}: {}", change.name(), told(change)));
        }
    }
    trouble("weights", compared.weights.as_ref(), lines);
}

fn trouble<T>(what: &str, part: Option<&Result<T, String>>, lines: &mut Vec<String>) {
    if let Some(Err(why)) = part {
        lines.push(format!("{what}: {why}"));
    }
}

fn answer(compared: &Compared, ids: &[u32]) -> String {
    let words: Vec<&str> = ids.iter().map(|id| compared.word(*id)).collect();
    words.concat()
}

/// The comparison of the weights, and its question of who edited them.
pub(super) fn command_line(screen: &DiffScreen, shared: &Shared) -> Option<String> {
    let open = quoted(&shared.model.facts()?.name);
    let other = quoted(&screen.other.spec()?);
    let [first, second] = if screen.swapped {
        [open, other]
    } else {
        [other, open]
    };
    Some(format!(
        "candlescope direction forensics {second} --baseline {first} # the weights; tokens and answers have no command"
    ))
}

const HEADERS: [&str; 8] = [
    "part",
    "name",
    "value",
    "unit",
    "first",
    "first_probability",
    "second",
    "second_probability",
];

pub(super) fn data(screen: &DiffScreen) -> Option<Data> {
    let compared = screen.compared.as_ref()?;
    let mut rows: Vec<[Value; 8]> = Vec::new();
    let none = || Value::Null;
    for change in compared.weights.iter().flatten().flatten() {
        // JSON has no infinity: what came from nothing has no share.
        let value = json!(change.relative.is_finite().then_some(change.relative));
        rows.push([
            json!("weights"),
            json!(change.name()),
            value,
            json!("share of the first's length"),
            none(),
            none(),
            none(),
            none(),
        ]);
    }
    for token in compared.tokens.iter().flatten().flatten() {
        let [a, b] = token.top;
        rows.push([
            json!("tokens"),
            json!(compared.word(token.id)),
            json!(token.kl.is_finite().then_some(token.kl)),
            json!("nats"),
            json!(compared.word(a.id)),
            json!(a.probability),
            json!(compared.word(b.id)),
            json!(b.probability),
        ]);
    }
    if let Some(Ok(parting)) = &compared.parting {
        let [a, b] = parting.answers.each_ref().map(|ids| answer(compared, ids));
        let fork = parting.fork.as_ref();
        rows.push([
            json!("answers"),
            json!("fork"),
            json!(fork.map(|fork| fork.at)),
            json!("tokens"),
            json!(a),
            json!(fork.map(|fork| fork.probabilities[0][0])),
            json!(b),
            json!(fork.map(|fork| fork.probabilities[1][1])),
        ]);
    }
    if let Some(Ok(found)) = &compared.latents {
        let gained = found.crossed.gained.iter().map(|latent| ("gained", latent));
        let lost = found.crossed.lost.iter().map(|latent| ("lost", latent));
        for (kind, latent) in gained.chain(lost) {
            let word = compared
                .ids
                .get(latent.position)
                .map(|id| compared.word(*id));
            rows.push([
                json!("latents"),
                json!(latent.latent.to_string()),
                json!(latent.value),
                json!(kind),
                json!(word),
                none(),
                none(),
                none(),
            ]);
        }
    }
    let object = |row: &[Value; 8]| {
        let fields = HEADERS.iter().zip(row);
        let fields = fields.map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(fields.collect())
    };
    let json = json!({
        "schema": "candlescope.diff/1",
        "first": compared.names[0],
        "second": compared.names[1],
        "rows": rows.iter().map(object).collect::<Vec<_>>(),
    });
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Some(Data {
        headers: HEADERS.map(String::from).into(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(text).collect())
            .collect(),
        json,
    })
}
