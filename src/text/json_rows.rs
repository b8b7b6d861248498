//! Rows from JSON lines: strict, bounded, and every error names file, line and field.
//!
//! What always holds: no line longer than [`MAX_LINE`] bytes is kept in memory, an unknown or repeated field is refused
//! (a misspelt `splt` would otherwise put test rows into training), ids are unique, and nothing panics on foreign bytes.
//! Who reads: [`super::suites`], [`super::trials`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The longest line accepted, in bytes.
pub const MAX_LINE: u64 = 1 << 20;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no rows.
    #[error("{file}: the {what} is empty; expected one JSON object a line with {expected}")]
    Empty {
        /// The file.
        file: String,
        /// What it should be.
        what: &'static str,
        /// The fields that every row has.
        expected: &'static str,
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

/// What a file of rows is, for its errors.
pub(super) struct Format {
    /// What the file should be, such as `suite`.
    pub what: &'static str,
    /// The fields that every row has, for the message of an empty file.
    pub expected: &'static str,
    /// Every field there is.
    pub fields: &'static [&'static str],
}

/// Where an error happened.
pub(super) struct Place<'a> {
    /// The file.
    pub file: &'a str,
    /// Counted from 1.
    pub line: usize,
}

impl Place<'_> {
    /// The error of a line as a whole.
    pub fn line_error(&self, reason: impl Into<String>) -> RowError {
        RowError::Line {
            file: self.file.to_string(),
            line: self.line,
            reason: reason.into(),
        }
    }

    /// The error of one field.
    pub fn field_error(
        &self,
        field: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> RowError {
        RowError::Field {
            file: self.file.to_string(),
            line: self.line,
            field: field.to_string(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// The fields of one row, each taken once.
pub(super) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Any value; `null` counts as absent.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A string that is not blank.
    pub fn text(&mut self, place: &Place, name: &str) -> Result<Option<String>, RowError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(other) => {
                Err(place.field_error(name, "a string that is not blank", shown(&other)))
            }
        }
    }

    /// One word out of a closed list.
    pub fn word<T: DeserializeOwned>(
        &mut self,
        place: &Place,
        name: &str,
        words: &[&str],
    ) -> Result<Option<T>, RowError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => {
                let found = shown(&value);
                serde_json::from_value(value).map(Some).map_err(|_| {
                    place.field_error(name, format!("one of {}", words.join(", ")), found)
                })
            }
        }
    }
}

/// A value short enough for a message.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// Opens a file of rows.
pub(super) fn open(path: &Path) -> Result<BufReader<std::fs::File>, RowError> {
    std::fs::File::open(path)
        .map(BufReader::new)
        .map_err(|source| RowError::Io {
            file: path.display().to_string(),
            source,
        })
}

/// Reads every row with the line it stands on; blank lines and a leading byte-order mark are skipped.
pub(super) fn read<T>(
    format: &Format,
    file: &str,
    mut reader: impl BufRead,
    id: fn(&T) -> &str,
    row: fn(&Place, &mut Fields) -> Result<T, RowError>,
) -> Result<Vec<(usize, T)>, RowError> {
    let mut rows = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut place = Place { file, line: 0 };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        place.line += 1;
        let io = |source| RowError::Io {
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
        let row = row(&place, &mut fields(&place, format.fields, text)?)?;
        if let Some(first) = seen.insert(id(&row).to_owned(), place.line) {
            let expected = format!(
                "an id of its own (line {first} has it too; the same prompt twice needs explicit ids)"
            );
            return Err(place.field_error("id", expected, format!("`{}`", id(&row))));
        }
        rows.push((place.line, row));
    }
    if rows.is_empty() {
        Err(RowError::Empty {
            file: file.to_string(),
            what: format.what,
            expected: format.expected,
        })
    } else {
        Ok(rows)
    }
}

fn fields(place: &Place, known: &[&str], text: &str) -> Result<Fields, RowError> {
    let Pairs(pairs) = serde_json::from_str(text)
        .map_err(|error| place.line_error(format!("not a JSON object: {error}")))?;
    let mut fields = BTreeMap::new();
    for (key, value) in pairs {
        if !known.contains(&key.as_str()) {
            return Err(place.field_error(
                &key,
                format!("one of {}", known.join(", ")),
                "an unknown field",
            ));
        }
        if fields.insert(key.clone(), value).is_some() {
            return Err(place.field_error(&key, "the field once", "it twice"));
        }
    }
    Ok(Fields(fields))
}

/// A JSON object with its fields as written: a map type would hide repeated keys.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Pairs;
            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}
