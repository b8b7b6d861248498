//! The time machine in words, as a command line and as rows.
//!
//! Always: a row for each checkpoint that was read for what is shown now; numbers are whole, not rounded as on the screen.

use serde_json::json;

use super::TimeScreen;
use super::chart::number;
use super::held::Seen;
use crate::pipeline::stations::Station;
use crate::text::visible::visible;
use crate::tui::screen::Data;
use crate::tui::screens::run;
use crate::tui::shared::{Shared, quoted};

/// Next tokens that are said.
const LIKELIEST: usize = 5;

/// The checkpoint that is looked at, and what it says.
pub(super) fn spoken(screen: &TimeScreen, shared: &Shared) -> Vec<String> {
    if let Some(editor) = &screen.editor {
        return vec![format!("editing the prompt: {}", editor.field().text())];
    }
    if screen.line.typing {
        return vec!["the folder of a run is typed".to_owned()];
    }
    if let Some(line) = run::spoken(shared, "checkpoints") {
        return vec![line];
    }
    let (Some(stations), Some(station)) = (shared.run.stations(), screen.station(shared)) else {
        return Vec::new();
    };
    let verdict = station.verdict.map_or_else(String::new, |verdict| {
        format!(", its audit came to {}", verdict.word())
    });
    let mut lines = vec![format!(
        "checkpoint {} of {}: {}{verdict}",
        screen.at + 1,
        stations.all.len(),
        station.name()
    )];
    if let Some(why) = screen.trouble() {
        lines.push(format!("it cannot be read: {why}"));
        return lines;
    }
    let Some((seen, old)) = screen.here(shared) else {
        lines.push("it was not read yet".to_owned());
        return lines;
    };
    if old {
        lines.push("what follows is from before the last change".to_owned());
    }
    let token = screen
        .words
        .as_ref()
        .and_then(|w| w.tokens.get(seen.position));
    let token = token.map_or("", |token| &token.text);
    lines.push(format!(
        "after token {} \"{}\"",
        seen.position,
        visible(token)
    ));
    for (i, top) in seen.top.iter().take(LIKELIEST).enumerate() {
        lines.push(format!(
            "next token {}: \"{}\" {:.1} percent",
            i + 1,
            visible(screen.held.word(top.id)),
            top.probability * 100.0
        ));
    }
    let value = screen.value(seen).map_or("unknown".to_owned(), number);
    lines.push(format!("{}: {value}", screen.quantity_word(shared)));
    let beside = screen.beside_word(shared);
    let layers = seen.moment.layers.iter().map(|layer| {
        let word = layer.top.first().map_or("", |top| screen.held.word(top.id));
        let value = screen.beside(layer);
        let value = value.map_or_else(String::new, |value| format!(" ({value:+.2})"));
        format!("{} \"{}\"{value}", layer.row.label(), visible(word))
    });
    let layers: Vec<String> = layers.collect();
    lines.push(format!("by layer, with {beside}: {}", layers.join(", ")));
    lines
}

/// The lens on the checkpoint that is looked at.
pub(super) fn command_line(screen: &TimeScreen, shared: &Shared) -> Option<String> {
    let station = screen.station(shared)?;
    let words = screen.words.as_ref()?;
    let last = words.tokens.len().checked_sub(1)?;
    let position = screen.place.unwrap_or(last).min(last);
    let chat = words.chat && shared.prompt.raw.is_none();
    let text = shared.prompt.text();
    let guard = if text.starts_with('-') { " --" } else { "" };
    let more = if shared.prompt.turns.len() > 1 && shared.prompt.raw.is_none() {
        " # the last turn alone: the command line has no option for the turns before it"
    } else {
        ""
    };
    let path = quoted(&station.path.display().to_string());
    Some(format!(
        "candlescope lens {path} --top-k 3 --detail {position}{}{guard} {}{more}",
        if chat { " --chat" } else { "" },
        quoted(text)
    ))
}

const HEADERS: [&str; 12] = [
    "checkpoint",
    "stage",
    "step",
    "audit",
    "top",
    "probability",
    "followed",
    "followed_probability",
    "kl_from_first_nats",
    "norm",
    "refusal",
    "along",
];

pub(super) fn data(screen: &TimeScreen, shared: &Shared) -> Option<Data> {
    let stations = shared.run.stations()?;
    let wish = screen.wish(shared);
    let all = stations.all.iter().enumerate();
    let seen: Vec<(usize, &Station, &Seen)> = all
        .filter_map(|(at, station)| Some((at, station, screen.held.fresh(at, &wish)?)))
        .collect();
    let rows = seen
        .iter()
        .map(|(at, station, seen)| row(screen, *at, station, seen));
    let layers = screen.here(shared).map_or_else(Vec::new, |(seen, _)| {
        let layer = |layer: &crate::compare::Layer| {
            let tops = layer.top.iter();
            let tops = tops.map(
                |top| json!({"token": screen.held.word(top.id), "probability": top.probability}),
            );
            json!({
                "layer": layer.row.label(),
                "top": tops.collect::<Vec<_>>(),
                "norm": layer.norm,
                "refusal": layer.refusal,
                "along": layer.along,
            })
        };
        seen.moment.layers.iter().map(layer).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let station = screen.station(shared)?;
    let json = json!({
        "schema": "candlescope.time/1",
        "run": stations.root.display().to_string(),
        "checkpoint": station.name(),
        "layers": layers,
        "checkpoints": rows
            .iter()
            .map(|row| {
                let fields = HEADERS.iter().zip(row);
                let fields = fields.map(|(name, text)| ((*name).to_owned(), value(name, text)));
                serde_json::Value::Object(fields.collect())
            })
            .collect::<Vec<_>>(),
    });
    Some(Data {
        headers: HEADERS.map(String::from).into(),
        rows,
        json,
    })
}

/// A number as a number, nothing as nothing.
fn value(name: &str, text: &str) -> serde_json::Value {
    let words = ["checkpoint", "stage", "audit", "top", "followed"];
    if text.is_empty() {
        return serde_json::Value::Null;
    }
    let number = text.parse::<f64>().ok().filter(|_| !words.contains(&name));
    number.map_or_else(|| json!(text), |number| json!(number))
}

fn row(screen: &TimeScreen, at: usize, station: &Station, seen: &Seen) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let top = seen.top.first();
    let followed = screen.followed();
    vec![
        (at + 1).to_string(),
        station.stage.clone(),
        station.step.to_string(),
        station
            .verdict
            .map_or_else(String::new, |v| v.word().to_owned()),
        top.map_or_else(String::new, |top| screen.held.word(top.id).to_owned()),
        number(top.map(|top| top.probability)),
        followed.map_or_else(String::new, |id| screen.held.word(id).to_owned()),
        number(followed.and_then(|id| seen.probability(id))),
        number(seen.kl),
        number(seen.moment.norm()),
        number(seen.last().and_then(|layer| layer.refusal)),
        number(seen.last().and_then(|layer| layer.along)),
    ]
}
