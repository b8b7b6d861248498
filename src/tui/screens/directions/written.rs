//! What the directions screen gives to the clipboard, to files and to a dialogue in lines.

use super::DirectionsScreen;
use super::detail::{made, tried_words};
use super::work::{SIZES, TRIED, short};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// The command that makes the same directions, or that tries them.
pub(super) fn command_line(screen: &DirectionsScreen, shared: &Shared) -> Option<String> {
    let name = quoted(&shared.model.facts()?.name);
    let train = SIZES.train;
    if screen.tried.is_empty() {
        let validation = SIZES.validation;
        return Some(format!(
            "candlescope direction extract {name} --train {train} --validation {validation} --out candidates"
        ));
    }
    Some(format!(
        "candlescope direction select {name} --policy arditi --train {train} --validation {TRIED} --out refusal # drops prompts that the model judges otherwise, and reports on test prompts"
    ))
}

const HEADERS: [&str; 10] = [
    "layer",
    "position",
    "auroc",
    "reliability",
    "norm",
    "norm_over_harmless",
    "bypass",
    "induce",
    "kl_nats",
    "why_not",
];

/// A row for each direction.
pub(super) fn data(screen: &DirectionsScreen, _shared: &Shared) -> Option<Data> {
    let found = screen.found.as_ref()?;
    let rows: Vec<Vec<String>> = found
        .candidates
        .iter()
        .map(|candidate| {
            let direction = &candidate.direction;
            let tried = screen.tried.get(&(candidate.layer, candidate.where_));
            let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            vec![
                candidate.layer.to_string(),
                short(candidate.where_),
                candidate.separation.to_string(),
                number(direction.reliability.map(|r| r.full)),
                direction.norm.to_string(),
                number(direction.negative_norm.map(|n| direction.norm / n)),
                number(tried.map(|t| t.bypass.estimate)),
                number(tried.map(|t| t.induce.estimate)),
                number(tried.map(|t| t.kl.estimate)),
                tried
                    .and_then(|t| t.admissible.clone().err())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    let json: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            let fields = HEADERS.iter().zip(row);
            let value = |(name, text): (&&str, &String)| {
                let number = text.parse::<f64>().ok().filter(|_| *name != "position");
                let value = match (number, text.is_empty()) {
                    (_, true) => serde_json::Value::Null,
                    (Some(number), _) => serde_json::json!(number),
                    (None, _) => serde_json::json!(text),
                };
                ((*name).to_owned(), value)
            };
            fields.map(value).collect::<serde_json::Map<_, _>>().into()
        })
        .collect();
    let [harmful, harmless] = found.prompts.each_ref().map(Vec::len);
    Some(Data {
        headers: HEADERS.map(String::from).into(),
        rows,
        json: serde_json::json!({
            "schema": "candlescope.directions/1",
            "train": SIZES.train,
            "validation": found.judged,
            "tried_on": [harmful, harmless],
            "baseline": {"harmful": found.base[0], "harmless": found.base[1]},
            "refusal_opens_with": found.refusal.words,
            "directions": json,
        }),
    })
}

/// The place under the cursor in words.
pub(super) fn spoken(screen: &DirectionsScreen, shared: &Shared) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((_, job)) = screen.pending.job {
        lines.push(format!("now {}", job.words()));
    }
    if let Some(why) = &screen.pending.failed {
        lines.push(format!("failed: {why}"));
    }
    if let Some((live, old)) = screen.score(shared) {
        let edited = live.edited.map_or(String::new(), |edited| {
            format!(", with the interventions {edited:+.2}")
        });
        let old = if old { " (before the last change)" } else { "" };
        lines.push(format!(
            "refusal score of the prompt {:+.2}{edited}{old}",
            live.plain
        ));
    }
    let (Some(found), Some(place)) = (&screen.found, screen.place(shared)) else {
        lines.push("no direction was made yet; r makes them".into());
        return lines;
    };
    lines.push(format!(
        "layer {} of {}, position {}",
        place.0,
        found.n_layers,
        short(place.1)
    ));
    let Some(candidate) = screen.candidate(place) else {
        lines.push("no direction: both means are equal here".into());
        return lines;
    };
    let of = |(name, text): (&str, String)| format!("{name}: {text}");
    lines.extend(made(found, candidate).map(of));
    match screen.tried.get(&place) {
        Some(tried) => lines.extend(tried_words(found, tried).map(of)),
        None => lines.push("not tried yet; enter tries it".into()),
    }
    if let Some(chip) = screen.chip(shared) {
        lines.push(format!("dose {}", chip.steering.dose));
    }
    lines
}
