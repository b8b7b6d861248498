//! What the attention screen gives to the clipboard and to files: command lines, and the edges of the head.

use super::super::lens::twin;
use super::AttentionScreen;
use super::reading::{TOP, Value};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// The pattern as `capture` writes it; under interventions, which `capture` does not take, the next token with and without
/// them.
pub(super) fn command_line(screen: &AttentionScreen, shared: &Shared) -> Option<String> {
    let facts = shared.model.facts()?;
    let prompt = twin::prompt(shared, facts)?;
    let (name, layer) = (quoted(&facts.name), shared.layer);
    if !shared.interventions.iter().any(|chip| chip.on) {
        let text = quoted(&format!("--text={}", prompt.text));
        let chat = if prompt.chat { " --chat" } else { "" };
        let points = if screen.value == Value::Score {
            "attn_scores"
        } else {
            "pattern"
        };
        return Some(format!(
            "candlescope capture {name} --points {points}.{layer}{chat} {text} --out {points}-{layer}"
        ));
    }
    let last = shared.layers() - 1;
    let line = |edits: &str| {
        let top = TOP.min(facts.config.vocab_size);
        let options = format!("--positions last --layers {last} --top-k {top}");
        format!("candlescope lens {name} {options}{edits}{}", prompt.last())
    };
    Some(match twin::edits(shared) {
        Ok(edits) => format!("{}; {}", line(&edits), line("")),
        Err(why) => format!("{} # {why}", line("")),
    })
}

/// A row for each edge of the head.
pub(super) fn data(screen: &AttentionScreen, shared: &Shared) -> Option<Data> {
    let layer = screen
        .layer
        .as_ref()
        .filter(|layer| layer.serves(&screen.wish(shared)))?;
    let head = screen.head(shared).min(layer.heads.saturating_sub(1));
    let n = layer.tokens.len();
    let mut rows = Vec::new();
    for query in 0..n {
        for key in 0..=query {
            let number = |value| layer.value(value, head, query, key).to_string();
            rows.push(vec![
                layer.wish.layer.to_string(),
                head.to_string(),
                query.to_string(),
                layer.tokens[query].text.clone(),
                key.to_string(),
                layer.tokens[key].text.clone(),
                number(Value::Weight),
                number(Value::Weighted),
            ]);
        }
    }
    let pattern: Vec<Vec<f32>> = (0..n)
        .map(|query| layer.row(Value::Weight, head, query))
        .collect();
    let tokens: Vec<&str> = layer
        .tokens
        .iter()
        .map(|token| token.text.as_str())
        .collect();
    Some(Data {
        headers: [
            "layer",
            "head",
            "query",
            "query_token",
            "key",
            "key_token",
            "weight",
            "value_weighted",
        ]
        .map(String::from)
        .into(),
        rows,
        json: serde_json::json!({
            "schema": "candlescope.attention/1",
            "layer": layer.wish.layer,
            "head": head,
            "tokens": tokens,
            "pattern": pattern,
            "heads": layer.kinds,
            "effect": screen.effect(shared).map(|changed| &changed.effect),
        }),
    })
}
