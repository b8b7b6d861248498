//! Values of foreign rows: short forms for messages, and `null` taken out of structures.

use minijinja::Value;
use minijinja::value::ValueKind;

/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// A value short enough for a message, with what it is.
pub(super) fn shown(value: &Value) -> String {
    let kind = match value.kind() {
        ValueKind::Undefined | ValueKind::None => return "nothing".into(),
        ValueKind::Bool => "bool",
        ValueKind::Number => "number",
        ValueKind::String => "string",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map => "object",
        _ => "value",
    };
    let text = serde_json::to_string(value).unwrap_or_default();
    let short: String = text.chars().take(SHOWN).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("the {kind} {short}{dots}")
}

/// The value without keys that hold `null`: Parquet gives every struct all keys, which templates would take for present.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pairs = keys.filter_map(|key| {
                let inner = value.get_item(&key).ok()?;
                (!inner.is_none() && !inner.is_undefined()).then(|| (key, without_nulls(&inner)))
            });
            Value::from_pairs(pairs)
        }
        ValueKind::Seq => {
            let items = value.try_iter().into_iter().flatten();
            items.map(|item| without_nulls(&item)).collect()
        }
        _ => value.clone(),
    }
}
