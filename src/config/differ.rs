//! Two configs side by side: the fields that differ.

use serde_json::Value;

use super::ModelConfig;

/// A field that two configs have different values for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name; of layers with the number of the first that differs, `layers.3.window`.
    pub field: String,
    /// In the first config.
    pub here: String,
    /// In the second config.
    pub there: String,
}

/// Every field of the decoder's config that differs, in order of name; of layers only the first that does.
pub fn differences(here: &ModelConfig, there: &ModelConfig) -> Vec<Difference> {
    let (here, there) = (fields(here), fields(there));
    let mut names: Vec<&String> = here.iter().chain(&there).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let value = |of: &[(String, String)], name: &str| {
        of.iter()
            .find(|(field, _)| field == name)
            .map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let mut found: Vec<Difference> = Vec::new();
    for name in names {
        let (here, there) = (value(&here, name), value(&there, name));
        let layer = |field: &str| {
            field
                .strip_prefix("layers.")
                .map(|rest| rest.split('.').nth(1).map(str::to_owned))
        };
        let said = layer(name).is_some() && found.iter().any(|d| layer(&d.field) == layer(name));
        if here != there && !said {
            found.push(Difference {
                field: name.clone(),
                here,
                there,
            });
        }
    }
    found
}

/// Leaves of the config as text, by dotted name.
fn fields(config: &ModelConfig) -> Vec<(String, String)> {
    let mut out = Vec::new();
    // A config is plain data, so that writing it cannot fail; if it did there would be nothing to compare.
    flatten(
        "",
        &serde_json::to_value(config).unwrap_or(Value::Null),
        &mut out,
    );
    out
}

fn flatten(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}.{key}")
        }
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flatten(&below(key), value, out)),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter()
                .enumerate()
                .for_each(|(i, value)| flatten(&below(&i.to_string()), value, out));
        }
        Value::String(text) => out.push((name.to_owned(), text.clone())),
        Value::Null => out.push((name.to_owned(), "none".to_owned())),
        other => out.push((name.to_owned(), other.to_string())),
    }
}
