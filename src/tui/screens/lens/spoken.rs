//! The lens in words, for a dialogue in lines: the cell under the cursor, and what each layer would say at its token.

use super::detail::settled;
use super::reading::Column;
use super::{LensScreen, Pane};
use crate::text::visible::visible;
use crate::tui::shared::Shared;

/// Tokens that are said while the cursor is in the map; in the list all are.
const LIKELIEST: usize = 8;

pub(super) fn lines(screen: &LensScreen, shared: &Shared) -> Vec<String> {
    if let Some(editor) = &screen.editor {
        return vec![format!("editing the prompt: {}", editor.field().text())];
    }
    if let Some((_, why)) = &screen.failed {
        return vec![format!("failed: {why}; r tries again")];
    }
    let (row, at) = (screen.row(shared), shared.position);
    let after = shared.tokens.get(at).map_or("", |token| &token.text);
    let mut lines = vec![format!(
        "{}, after token {at} of {} {}",
        layer(row),
        shared.tokens.len(),
        quoted(after)
    )];
    let Some((column, place)) = screen
        .held
        .columns
        .get(&at)
        .and_then(|column| Some((column, column.places.get(row)?)))
    else {
        lines.push("nothing has been computed here yet".to_owned());
        return lines;
    };
    if !column.wish.serves(&screen.wish(shared)) {
        lines.push("what follows is from before the last change".to_owned());
    }
    let base = column.base.as_ref().and_then(|base| base.get(row));
    let was = |text: Option<String>| text.map_or_else(String::new, |text| format!(", was {text}"));
    let picked = screen.pane == Pane::List;
    let most = if picked { usize::MAX } else { LIKELIEST };
    for (i, top) in place.cell.top.iter().enumerate().take(most) {
        let here = if picked && i == screen.picked {
            ", selected"
        } else {
            ""
        };
        lines.push(format!(
            "next token {}: {} {:.1} percent{here}",
            i + 1,
            quoted(screen.held.word(top.id)),
            top.probability * 100.0
        ));
    }
    let own = if screen.target.is_none() {
        "the model's own next token"
    } else {
        "followed token"
    };
    lines.push(format!(
        "{own} {}: rank {}{}, probability {:.2} percent{}, {}",
        quoted(screen.held.word(column.target)),
        place.cell.target_rank,
        was(base.map(|base| base.cell.target_rank.to_string())),
        place.cell.target_log_prob.exp() * 100.0,
        was(base.map(|base| format!("{:.2}", base.cell.target_log_prob.exp() * 100.0))),
        settled(column)
    ));
    lines.push(format!(
        "entropy {:.2} nats{}, KL from the final layer {:.2} nats{}, norm {:.1}{}",
        place.cell.entropy,
        was(base.map(|base| format!("{:.2}", base.cell.entropy))),
        place.cell.kl,
        was(base.map(|base| format!("{:.2}", base.cell.kl))),
        place.cell.norm,
        was(base.map(|base| format!("{:.1}", base.cell.norm))),
    ));
    if let Some(along) = place.along {
        let before = base.and_then(|base| base.along);
        let before = was(before.map(|along| format!("{along:+.2}")));
        let probe = screen.sources.is_probe(column.wish.along);
        let what = if probe { "probe" } else { "projection" };
        lines.push(format!("{what} {along:+.2}{before}"));
    }
    if let Some(file) = screen.sources.loaded(screen.mode) {
        lines.push(format!("{}: {}", file.name(), file.about));
    }
    lines.push(format!("likeliest by layer: {}", course(screen, column)));
    lines
}

fn layer(row: usize) -> String {
    match row.checked_sub(1) {
        None => "embedding".to_owned(),
        Some(layer) => format!("layer {layer}"),
    }
}

/// The likeliest token of each layer, layers that agree together.
fn course(screen: &LensScreen, column: &Column) -> String {
    let mut runs: Vec<(usize, usize, u32)> = Vec::new();
    for (row, place) in column.places.iter().enumerate() {
        let Some(top) = place.cell.top.first() else {
            continue;
        };
        match runs.last_mut() {
            Some((_, to, id)) if *id == top.id => *to = row,
            _ => runs.push((row, row, top.id)),
        }
    }
    let run = |(from, to, id): (usize, usize, u32)| {
        let word = quoted(screen.held.word(id));
        if from == to {
            format!("{} {word}", layer(from))
        } else {
            format!("{} to {word_to} {word}", layer(from), word_to = layer(to))
        }
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(", ")
}

fn quoted(token: &str) -> String {
    format!("\"{}\"", visible(token))
}
