//! Rows from JSON: one object a line, or one array of objects.
//!
//! Always: a line is at most [`MAX_LINE`] bytes, a repeated key is refused, keys keep their order (templates print tools in
//! it), and nothing panics on foreign bytes; serde_json bounds the depth.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::Value;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::DataError;
use super::table::{At, MAX_ROWS, Place, Record};
use super::value::without_nulls;

/// The longest line, in bytes.
const MAX_LINE: usize = 64 << 20;

/// Rows of JSON lines; blank lines and a leading byte-order mark are passed over.
pub(super) fn lines(file: &Arc<str>, bytes: &[u8]) -> Result<Vec<Record>, DataError> {
    let mut rows = Vec::new();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let place = Place {
            file: Arc::clone(file),
            at: At::Line(index + 1),
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if line.len() > MAX_LINE {
            let reason = format!(
                "the line has {} bytes; at most {MAX_LINE} are read",
                line.len()
            );
            return Err(DataError::Malformed { place, reason });
        }
        let Fields(fields) =
            serde_json::from_slice(line).map_err(|error| DataError::Malformed {
                place: place.clone(),
                reason: format!("not a JSON object: {error}"),
            })?;
        rows.push(Record { place, fields });
        bounded(file, rows.len())?;
    }
    Ok(rows)
}

/// Rows of one JSON array.
pub(super) fn array(file: &Arc<str>, bytes: &[u8]) -> Result<Vec<Record>, DataError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let Rows(rows) = serde_json::from_slice(bytes).map_err(|error| DataError::Malformed {
        place: Place {
            file: Arc::clone(file),
            at: At::Line(error.line().max(1)),
        },
        reason: format!("not a JSON array of objects: {error}"),
    })?;
    bounded(file, rows.len())?;
    let row = |(index, Fields(fields)): (usize, Fields)| Record {
        place: Place {
            file: Arc::clone(file),
            at: At::Row(index + 1),
        },
        fields,
    };
    Ok(rows.into_iter().enumerate().map(row).collect())
}

pub(super) fn bounded(file: &Arc<str>, rows: usize) -> Result<(), DataError> {
    if rows as u64 <= MAX_ROWS {
        return Ok(());
    }
    Err(DataError::TooLarge {
        file: file.to_string(),
        what: "rows",
        limit: MAX_ROWS,
        found: rows as u64,
    })
}

/// A JSON object with its fields as written, without those that are `null`.
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
                let (mut pairs, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!(
                            "the key `{key}` stands there twice"
                        )));
                    }
                    if !value.is_none() {
                        pairs.push((key, without_nulls(&value)));
                    }
                }
                Ok(Fields(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

struct Rows(Vec<Fields>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Rows;
            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("a JSON array of objects")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = seq.next_element()? {
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}
