//! What the features screen gives to the clipboard, to files and to a dialogue in lines.

use candlescope_sae::Activation;

use super::bits::number;
use super::work::Open;
use super::{FeaturesScreen, page, turn};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// Latents that are said.
const SAID: usize = 8;
/// Examples and tokens that are said.
const FEW: usize = 3;

/// What a dictionary is, in a few parts: its name first, its format last.
pub(super) fn facts(open: &Open) -> Vec<String> {
    let dictionary = open.splice.dictionary();
    let parts = dictionary.parts();
    let kind = match &parts.activation {
        Activation::TopK { k } => format!("{}, k {k}", parts.activation.name()),
        other => other.name().to_owned(),
    };
    let (read, write) = (open.splice.read(), open.splice.write());
    let point = if read == write {
        read.to_string()
    } else {
        format!("{read} to {write}")
    };
    let widths = format!("{} latents, {} wide", dictionary.d_sae(), dictionary.d_in());
    let mut all = vec![open.name.clone(), kind, point, widths];
    if open.ask.foreign
        && let Some(model) = &open.of_model
    {
        all.push(format!("of {model}"));
    }
    all.push(open.format.clone());
    all
}

/// The words of the command line that name model and dictionary.
fn on(screen: &FeaturesScreen, shared: &Shared) -> Option<String> {
    let (open, facts) = (screen.open.as_ref()?, shared.model.facts()?);
    let path = open.ask.path.display().to_string();
    let mut line = format!("{} {}", quoted(&facts.name), quoted(&path));
    if let Some(at) = open.ask.reads {
        line += &format!(" --reads {at}");
    }
    if let Some(at) = open.ask.writes {
        line += &format!(" --writes {at}");
    }
    if open.ask.foreign {
        line += " --accept-foreign";
    }
    Some(line)
}

/// What makes a record of a latent, beside the dictionary where this screen finds it.
pub(super) fn dashboard(screen: &FeaturesScreen, shared: &Shared, latent: usize) -> Option<String> {
    let path = &screen.open.as_ref()?.ask.path;
    let folder = if path.is_dir() {
        Some(&**path)
    } else {
        path.parent()
    };
    let file = folder?.join(format!("latent-{latent}.json"));
    Some(format!(
        "candlescope sae dashboard {} --jsonl TEXTS.jsonl --latents {latent} --out latent-{latent}.html --json-out {}",
        on(screen, shared)?,
        quoted(&file.display().to_string())
    ))
}

/// The chosen latent on a text.
pub(super) fn command_line(screen: &FeaturesScreen, shared: &Shared) -> Option<String> {
    let on = on(screen, shared)?;
    let remark = "# over a text of yours; the screen reads the prompt";
    Some(match screen.chosen() {
        Some(latent) => format!("candlescope sae show {on} {latent} --jsonl TEXTS.jsonl {remark}"),
        None => format!("candlescope sae features {on} --jsonl TEXTS.jsonl {remark}"),
    })
}

/// A row for each latent of each token.
pub(super) fn data(screen: &FeaturesScreen, shared: &Shared) -> Option<Data> {
    let (open, reading) = (screen.open.as_ref()?, screen.reading.as_ref()?);
    let (mut rows, mut tokens) = (Vec::new(), Vec::new());
    for (at, piece) in reading.pieces.iter().enumerate() {
        let mut codes = Vec::new();
        for &(latent, value) in &piece.codes {
            let label = screen
                .label(latent)
                .map_or(String::new(), |(label, _)| label);
            rows.push(vec![
                at.to_string(),
                piece.id.to_string(),
                piece.text.clone(),
                piece.out.unwrap_or_default().to_owned(),
                latent.to_string(),
                value.to_string(),
                label.clone(),
            ]);
            codes.push(serde_json::json!({"latent": latent, "value": value, "label": label}));
        }
        tokens.push(serde_json::json!({
            "id": piece.id, "token": piece.text, "left_out": piece.out,
            "unexplained": piece.unexplained, "latents": codes,
        }));
    }
    let chosen = screen.chosen();
    let known = chosen.and_then(|latent| screen.records.of(latent));
    let headers = [
        "position", "id", "token", "left_out", "latent", "value", "label",
    ];
    Some(Data {
        headers: headers.map(String::from).into(),
        rows,
        json: serde_json::json!({
            "schema": "candlescope.features/1",
            "dictionary": open.ask.path,
            "reads": open.splice.read(),
            "writes": open.splice.write(),
            "old": screen.stale(shared),
            "l0": reading.l0,
            "unexplained": reading.unexplained,
            "turned": screen.turned,
            "tokens": tokens,
            "latent": chosen,
            "record": known.map(|known| &known.latent),
        }),
    })
}

/// The token under the cursor and its latents, or the latent whose page is shown.
pub(super) fn spoken(screen: &FeaturesScreen, shared: &Shared) -> Vec<String> {
    let mut lines = Vec::new();
    if screen.pending.job.is_some() {
        lines.push("a dictionary is being opened".to_owned());
    }
    lines.extend(
        screen
            .pending
            .failed
            .iter()
            .map(|why| format!("failed: {why}")),
    );
    let Some(open) = &screen.open else {
        lines.push("no dictionary is open; :sae PATH opens one".into());
        return lines;
    };
    lines.push(format!("dictionary {}", facts(open).join(", ")));
    lines.extend(screen.wrong.iter().cloned());
    let unread = screen.unread.as_ref();
    let unread = unread.filter(|(of, _)| Some(*of) == screen.wanted(shared));
    lines.extend(unread.map(|(_, why)| format!("the prompt was not read: {why}")));
    if let Some(&latent) = screen.page.last() {
        lines.extend(said(screen, latent));
        return lines;
    }
    let Some(reading) = &screen.reading else {
        return lines;
    };
    if screen.stale(shared) {
        lines.push("of before the last change".into());
    }
    let at = screen.position(shared);
    if let Some(piece) = reading.pieces.get(at) {
        let out = piece.out.map_or(String::new(), |why| {
            format!(", {why}: training leaves it out")
        });
        lines.push(format!("token {at} {}{out}", piece.text));
    }
    let rows = screen.rows();
    let from = screen.row().unwrap_or(0);
    for row in rows.iter().skip(from).take(SAID) {
        let label = screen
            .label(row.latent)
            .map_or(String::new(), |(label, _)| format!(", {label}"));
        let turned = turn::change(screen, row.latent).map_or(String::new(), |change| {
            format!(", turned: {}", turn::words(change))
        });
        lines.push(format!(
            "latent {}: {} here, {} over the prompt{turned}{label}",
            row.latent,
            number(row.here.into()),
            number(row.sum)
        ));
    }
    if rows.is_empty() {
        lines.push(super::acts::nothing(screen));
    }
    lines
}

/// A latent's page in words.
fn said(screen: &FeaturesScreen, latent: usize) -> Vec<String> {
    let mut lines = vec![format!("latent {latent}")];
    if let Some((label, own)) = screen.label(latent) {
        let whose = if own { "your label" } else { "label" };
        lines.push(format!("{whose}: {label}"));
    }
    if let Some(change) = turn::change(screen, latent) {
        lines.push(format!("turned: {}", turn::words(change)));
    }
    if let Some(known) = screen.records.of(latent) {
        let (of, latent) = (known.place.tally.kept, &known.latent);
        lines.push(format!(
            "fires on {:.4} % of {of} tokens, max {}",
            latent.density * 100.0,
            number(latent.max.into())
        ));
        for one in latent.top.iter().take(FEW) {
            lines.push(format!(
                "example, {}: {}",
                number(one.value.into()),
                one.tokens.concat()
            ));
        }
    } else {
        lines.push("no record of it; the page says how to make one".into());
    }
    if let Some(total) = screen.total(latent) {
        let (n, sum) = (total.places.len(), number(total.sum));
        lines.push(format!("on the prompt: {n} tokens, sum {sum}"));
    }
    if let Some(logits) = page::effects(screen, latent) {
        let few = logits.positive.iter().take(FEW);
        let tokens: Vec<&str> = few.map(|token| token.token.as_str()).collect();
        lines.push(format!("raises: {}", tokens.join(",")));
    }
    let near = page::near(screen, latent);
    let near: Vec<String> = (near.iter().take(FEW))
        .map(|(other, cosine)| format!("{other} at {cosine:.2}"))
        .collect();
    if !near.is_empty() {
        lines.push(format!("writes much as: {}", near.join(", ")));
    }
    lines
}
