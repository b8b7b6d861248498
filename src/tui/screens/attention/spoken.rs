//! Attention in words, for a dialogue in lines: the head, where its query looks, all heads by kind, what the cuts change.

use super::reading::{Layer, Value};
use super::{AttentionScreen, view};
use crate::text::visible::visible;
use crate::tui::shared::Shared;

/// Keys that are said of a query.
const KEYS: usize = 8;

pub(super) fn lines(screen: &AttentionScreen, shared: &Shared) -> Vec<String> {
    if let Some((_, why)) = &screen.failed {
        return vec![format!("failed: {why}; r tries again")];
    }
    let Some(layer) = &screen.layer else {
        return vec!["nothing has been computed yet".to_owned()];
    };
    let mut lines = Vec::new();
    if !layer.serves(&screen.wish(shared)) {
        lines.push("what follows is from before the last change".to_owned());
    }
    let head = screen.head(shared).min(layer.heads.saturating_sub(1));
    lines.push(format!(
        "layer {}, head {head} of {}{}",
        layer.wish.layer,
        layer.heads,
        screen.kind(head).map_or_else(String::new, |kind| format!(
            ": {} {:.2}, mean entropy {:.2} nats",
            kind.kind.label(),
            kind.scores.kind().1,
            kind.scores.entropy
        ))
    ));
    lines.extend(looks(screen, shared, layer, head));
    if let Some(heads) = heads(screen, shared, layer) {
        lines.push(heads);
    }
    if let Some(changed) = screen.effect(shared) {
        let changes = changed.effect.changes.iter().take(KEYS).map(|change| {
            let word = changed.words.get(&change.id).map_or("", String::as_str);
            format!(
                "{} {:.1} to {:.1} percent",
                quoted(word),
                change.before * 100.0,
                change.after * 100.0
            )
        });
        lines.push(format!(
            "interventions change the next token: KL without to with {:.4} nats; {}",
            changed.effect.kl,
            changes.collect::<Vec<_>>().join(", ")
        ));
    }
    lines
}

/// Where the query looks, the largest number first.
fn looks(screen: &AttentionScreen, shared: &Shared, layer: &Layer, head: usize) -> Option<String> {
    let query = shared.position.min(layer.tokens.len().checked_sub(1)?);
    let value = match screen.value {
        Value::Score if layer.scores.is_empty() => Value::Weight,
        value => value,
    };
    let row = layer.row(value, head, query);
    let mut order: Vec<usize> = (0..row.len()).filter(|key| row[*key].is_finite()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
    let word = |at: usize| quoted(&layer.tokens[at].text);
    let keys = order.iter().take(KEYS);
    let keys = keys.map(|key| format!("{key} {} {:.3}", word(*key), row[*key]));
    Some(format!(
        "query {query} {} looks at keys, by {}: {}",
        word(query),
        view::words(value),
        keys.collect::<Vec<_>>().join(", ")
    ))
}

/// Every head with its kind, or with what it would change where that was asked for.
fn heads(screen: &AttentionScreen, shared: &Shared, layer: &Layer) -> Option<String> {
    if let Some(kl) = screen.impacts(shared).filter(|_| screen.wants_impact) {
        let each = kl
            .iter()
            .enumerate()
            .map(|(head, kl)| format!("{head} {kl:.3}"));
        let each = each.collect::<Vec<_>>().join(", ");
        return Some(format!(
            "heads, KL of the next token in nats if cut: {each}"
        ));
    }
    let each = (0..layer.heads).map(|head| {
        let kind = screen.kind(head)?;
        let score = kind.scores.kind().1;
        Some(format!("{head} {} {score:.2}", kind.kind.label()))
    });
    let each = each.collect::<Option<Vec<_>>>()?;
    Some(format!("heads: {}", each.join(", ")))
}

fn quoted(token: &str) -> String {
    format!("\"{}\"", visible(token))
}
