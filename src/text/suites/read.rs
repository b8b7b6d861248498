//! What a suite's rows hold, read by [`crate::text::json_rows`].
//!
//! Next: `super` for what a row means.

use std::io::BufRead;

use sha2::{Digest, Sha256};

use super::{Label, PromptRow, Split, hex};
use crate::text::json_rows::{self, Fields, Format, Place, RowError};

const FORMAT: Format = Format {
    what: "suite",
    expected: "`prompt` and `label`",
    fields: &[
        "id", "prompt", "label", "split", "topic", "source", "licence", "system",
    ],
};

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
    /// The file cannot be read, or a row of it.
    #[error(transparent)]
    Rows(#[from] RowError),
}

/// Reads every row.
pub(super) fn rows(file: &str, reader: impl BufRead) -> Result<Vec<PromptRow>, RowError> {
    let rows = json_rows::read(&FORMAT, file, reader, |row: &PromptRow| &row.id, row)?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(place: &Place, fields: &mut Fields) -> Result<PromptRow, RowError> {
    let prompt = fields
        .text(place, "prompt")?
        .ok_or_else(|| place.field_error("prompt", "a string that is not blank", "nothing"))?;
    let labels = Label::ALL.map(Label::name);
    let label = fields
        .word::<Label>(place, "label", &labels)?
        .ok_or_else(|| {
            place.field_error("label", format!("one of {}", labels.join(", ")), "nothing")
        })?;
    let split = fields
        .word(place, "split", &Split::ALL.map(Split::name))?
        .unwrap_or(Split::Test);
    let system = fields.text(place, "system")?;
    let id = fields
        .text(place, "id")?
        .unwrap_or_else(|| content_id(&prompt, label, system.as_deref()));
    Ok(PromptRow {
        id,
        prompt,
        label,
        split,
        topic: fields.text(place, "topic")?,
        source: fields
            .text(place, "source")?
            .unwrap_or_else(|| place.file.to_string()),
        licence: fields
            .text(place, "licence")?
            .unwrap_or_else(|| "unspecified".to_string()),
        system,
    })
}

/// An id that stays the same when rows are added around it, so that two runs can be paired.
fn content_id(prompt: &str, label: Label, system: Option<&str>) -> String {
    let content = serde_json::json!([prompt, label.name(), system]).to_string();
    hex(&Sha256::digest(content))[..12].to_string()
}
