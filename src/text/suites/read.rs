//! Reading a suite from JSON lines: strict, bounded, and every error names file, line and field.
//!
//! What always holds: no line longer than [`MAX_LINE`] bytes is kept in memory, an unknown or repeated field is refused
//! (a misspelt `splt` would otherwise put test rows into training), and nothing panics on foreign bytes.
//! Next: `super` for what a row means.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Label, PromptRow, Split, hex};

/// The longest line accepted, in bytes.
pub const MAX_LINE: u64 = 1 << 20;

const FIELDS: [&str; 8] = [
    "id", "prompt", "label", "split", "topic", "source", "licence", "system",
];

/// Why a suite could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// No built-in suite has this name.
    #[error("no built-in suite is called `{name}`; there are: {known}")]
    UnknownSuite {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no rows.
    #[error(
        "{file}: the suite is empty; expected one JSON object a line with `prompt` and `label`"
    )]
    Empty {
        /// The file.
        file: String,
    },
    /// A line as a whole is unusable.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// One field of a line is unusable.
    #[error("{file}:{line}: field `{field}`: expected {expected}, found {found}")]
    Field {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The field's name.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What was there.
        found: String,
    },
}

/// Where an error happened.
struct Place<'a> {
    file: &'a str,
    line: usize,
}

impl Place<'_> {
    fn line_error(&self, reason: impl Into<String>) -> SuiteError {
        SuiteError::Line {
            file: self.file.to_string(),
            line: self.line,
            reason: reason.into(),
        }
    }

    fn field_error(
        &self,
        field: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> SuiteError {
        SuiteError::Field {
            file: self.file.to_string(),
            line: self.line,
            field: field.to_string(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Reads every row; blank lines and a leading byte-order mark are skipped.
pub(super) fn rows(file: &str, mut reader: impl BufRead) -> Result<Vec<PromptRow>, SuiteError> {
    let mut rows = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut place = Place { file, line: 0 };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        place.line += 1;
        let io = |source| SuiteError::Io {
            file: file.to_string(),
            source,
        };
        if reader
            .by_ref()
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(io)?
            == 0
        {
            break;
        }
        if buffer.len() as u64 > MAX_LINE {
            return Err(place.line_error(format!("the line is longer than {MAX_LINE} bytes")));
        }
        let text = std::str::from_utf8(&buffer)
            .map_err(|error| place.line_error(format!("not UTF-8: {error}")))?;
        let text = if place.line == 1 {
            text.trim_start_matches('\u{feff}')
        } else {
            text
        };
        if text.trim().is_empty() {
            continue;
        }
        let row = row(&place, text)?;
        if let Some(first) = seen.insert(row.id.clone(), place.line) {
            let expected = format!(
                "an id of its own (line {first} has it too; the same prompt twice needs explicit ids)"
            );
            return Err(place.field_error("id", expected, format!("`{}`", row.id)));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        Err(SuiteError::Empty {
            file: file.to_string(),
        })
    } else {
        Ok(rows)
    }
}

fn row(place: &Place, text: &str) -> Result<PromptRow, SuiteError> {
    let Fields(pairs) = serde_json::from_str(text)
        .map_err(|error| place.line_error(format!("not a JSON object: {error}")))?;
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in pairs {
        if !FIELDS.contains(&key.as_str()) {
            return Err(place.field_error(
                &key,
                format!("one of {}", FIELDS.join(", ")),
                "an unknown field",
            ));
        }
        if fields.insert(key.clone(), value).is_some() {
            return Err(place.field_error(&key, "the field once", "it twice"));
        }
    }
    let prompt = text_field(place, &mut fields, "prompt")?
        .ok_or_else(|| place.field_error("prompt", "a string that is not blank", "nothing"))?;
    let label = word_field::<Label>(place, &mut fields, "label", &Label::ALL.map(Label::name))?
        .ok_or_else(|| {
            place.field_error(
                "label",
                format!("one of {}", Label::ALL.map(Label::name).join(", ")),
                "nothing",
            )
        })?;
    let split = word_field(place, &mut fields, "split", &Split::ALL.map(Split::name))?
        .unwrap_or(Split::Test);
    let system = text_field(place, &mut fields, "system")?;
    let id = text_field(place, &mut fields, "id")?
        .unwrap_or_else(|| content_id(&prompt, label, system.as_deref()));
    Ok(PromptRow {
        id,
        prompt,
        label,
        split,
        topic: text_field(place, &mut fields, "topic")?,
        source: text_field(place, &mut fields, "source")?.unwrap_or_else(|| place.file.to_string()),
        licence: text_field(place, &mut fields, "licence")?
            .unwrap_or_else(|| "unspecified".to_string()),
        system,
    })
}

/// A string that is not blank; `null` counts as absent.
fn text_field(
    place: &Place,
    fields: &mut BTreeMap<String, Value>,
    name: &str,
) -> Result<Option<String>, SuiteError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(other) => Err(place.field_error(name, "a string that is not blank", shown(&other))),
    }
}

/// One word out of a closed list.
fn word_field<T: DeserializeOwned>(
    place: &Place,
    fields: &mut BTreeMap<String, Value>,
    name: &str,
    words: &[&str],
) -> Result<Option<T>, SuiteError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let found = shown(&value);
            serde_json::from_value(value)
                .map(Some)
                .map_err(|_| place.field_error(name, format!("one of {}", words.join(", ")), found))
        }
    }
}

/// A value short enough for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// An id that stays the same when rows are added around it, so that two runs can be paired.
fn content_id(prompt: &str, label: Label, system: Option<&str>) -> String {
    let content = serde_json::json!([prompt, label.name(), system]).to_string();
    hex(&Sha256::digest(content))[..12].to_string()
}

/// A JSON object with its fields as written: a map type would hide repeated keys.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;
            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Fields(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
