//! What the lens screen gives to the clipboard and to files: the command line that shows the same, and the rows.

use super::modes::Mode;
use super::reading::{TOP, window};
use super::{LensScreen, twin};
use crate::lens::{LensRow, json};
use crate::tui::screen::Data;
use crate::tui::shared::{ModelFacts, Shared, quoted};

/// The command line; two where the unedited model is compared.
pub(super) fn command_line(screen: &LensScreen, shared: &Shared) -> Option<String> {
    let facts = shared.model.facts()?;
    let len = shared.tokens.len();
    if len == 0 {
        return None;
    }
    let mut remarks = Vec::new();
    let mut options = match screen.mode {
        Mode::Norm => " --show norm".to_owned(),
        Mode::Probe => match screen.sources.loaded(screen.mode) {
            Some(file) => format!(" --show probe --probe {} --layers '*'", quoted(&file.spec)),
            None => String::new(),
        },
        Mode::Projection => match (screen.sources.loaded(screen.mode))
            .map(|file| file.spec.as_str())
            .or_else(|| twin::direction(shared))
        {
            Some(file) => format!(" --show projection --direction {}", quoted(file)),
            None => {
                remarks.push("the direction is in no file".to_owned());
                String::new()
            }
        },
        _ => tokens(screen, shared, facts, &mut remarks),
    };
    let shown = window(len, shared.position);
    if shown.len() < len {
        options += &format!(" --positions {}-{}", shown.start, shown.end - 1);
    }
    let line = |edits: &str| -> Option<String> {
        let prompt = twin::prompt(shared, facts)?;
        Some(format!(
            "candlescope lens {}{options}{edits}{}",
            quoted(&facts.name),
            prompt.last()
        ))
    };
    let edits = twin::edits(shared).unwrap_or_else(|why| {
        remarks.push(why);
        String::new()
    });
    let mut text = line(&edits)?;
    if screen.compares(shared) {
        text = format!("{text}; {}", line("")?);
    }
    if !remarks.is_empty() {
        text += &format!(" # {}", remarks.join("; "));
    }
    Some(text)
}

/// The options for what the likeliest tokens, and numbers beside them, are of.
fn tokens(
    screen: &LensScreen,
    shared: &Shared,
    facts: &ModelFacts,
    remarks: &mut Vec<String>,
) -> String {
    let top = TOP.min(facts.config.vocab_size);
    let mut options = format!(" --top-k {top} --detail {}", shared.position);
    if let Some(id) = screen.target {
        match twin::token(&facts.checkpoint, id) {
            Some(text) => options += &format!(" --target {}", quoted(&text)),
            None => remarks.push(format!("the target is token {id}, which no text names")),
        }
    }
    options
}

/// A row for each layer and position that is shown.
pub(super) fn data(screen: &LensScreen, shared: &Shared) -> Option<Data> {
    let lens = screen.held.lens(&screen.wish(shared))?;
    let headers = [
        "layer",
        "position",
        "token",
        "top",
        "probability",
        "entropy_nats",
        "kl_final_layer_nats",
        "target",
        "target_rank",
        "target_log_prob",
        "norm",
        "projection",
        "probe_score",
    ];
    let probe = screen.mode == Mode::Probe;
    let mut rows = Vec::new();
    for (row, at) in lens.rows.iter().enumerate() {
        for (i, position) in lens.positions.iter().enumerate() {
            let cell = lens.cell(row, i);
            let place = screen.held.place(row, *position);
            let along = place.and_then(|place| place.along);
            let along = along.map_or_else(String::new, |along| along.to_string());
            let (projection, score) = if probe {
                (String::new(), along)
            } else {
                (along, String::new())
            };
            let (id, probability) = cell
                .top
                .first()
                .map_or((0, f64::NAN), |top| (top.id, top.probability));
            rows.push(vec![
                LensRow::label(*at),
                position.to_string(),
                screen.held.tokens[*position].text.clone(),
                screen.held.word(id).to_owned(),
                probability.to_string(),
                cell.entropy.to_string(),
                cell.kl.to_string(),
                screen.held.word(lens.targets[i]).to_owned(),
                cell.target_rank.to_string(),
                cell.target_log_prob.to_string(),
                cell.norm.to_string(),
                projection,
                score,
            ]);
        }
    }
    let token = |id: u32| {
        let of_text = screen.held.tokens.iter().find(|token| token.id == id);
        of_text.map_or_else(
            || screen.held.word(id).to_owned(),
            |token| token.text.clone(),
        )
    };
    Some(Data {
        headers: headers.map(String::from).into(),
        rows,
        json: json::json(&lens, token),
    })
}
