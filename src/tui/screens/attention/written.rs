//! What the attention screen gives to the clipboard and to files: command lines, and the edges of the head.

use super::super::lens::twin;
use super::AttentionScreen;
use super::reading::Value;
use crate::tui::screen::Data;
use crate::tui::shared::{Intervention, Shared, quoted};

/// The pattern as `attn` prints it, with the effect of the cuts.
pub(super) fn command_line(screen: &AttentionScreen, shared: &Shared) -> Option<String> {
    let facts = shared.model.facts()?;
    let prompt = twin::prompt(shared, facts)?;
    let (layer, head) = (shared.layer, screen.head(shared));
    let mut remarks = Vec::new();
    let weighted = match screen.value {
        Value::Weighted => " --value-weighted",
        Value::Weight => "",
        Value::Score => {
            remarks.push("weights; scores are shown in the workbench only".to_owned());
            ""
        }
    };
    let edits = twin::edits(shared).unwrap_or_else(|why| {
        remarks.push(why);
        String::new()
    });
    let others = |chip: &Intervention| {
        let cut = chip
            .options
            .first()
            .is_some_and(|option| option == "--knockout");
        chip.on && !cut
    };
    if shared.interventions.iter().any(others) {
        remarks.push("the effect printed is of the cuts alone, under the other edits".to_owned());
    }
    let remarks = if remarks.is_empty() {
        String::new()
    } else {
        format!(" # {}", remarks.join("; "))
    };
    Some(format!(
        "candlescope attn {} --layer {layer} --head {head}{weighted}{edits}{}{remarks}",
        quoted(&facts.name),
        prompt.last()
    ))
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
