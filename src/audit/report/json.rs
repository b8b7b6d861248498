//! The audit as JSON: the record from which everything else can be made again.
//!
//! Always: numbers that are not finite are `null`; a text of another schema is refused by name, not half understood.

use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::super::result::{Audit, SCHEMA};
use super::ReportError;

/// The audit as indented JSON with a final newline.
pub fn render(audit: &Audit) -> Result<String, ReportError> {
    let foreign = |error: serde_json::Error| ReportError::Foreign {
        file: "audit.json".to_owned(),
        message: error.to_string(),
    };
    serde_json::to_string_pretty(audit)
        .map(|text| text + "\n")
        .map_err(foreign)
}

/// Reads what [`render`] wrote; `file` is for messages.
pub fn parse(text: &str, file: &str) -> Result<Audit, ReportError> {
    #[derive(Deserialize)]
    struct Header {
        schema: String,
    }
    let foreign = |error: serde_json::Error| ReportError::Foreign {
        file: file.to_owned(),
        message: error.to_string(),
    };
    let header: Header = serde_json::from_str(text).map_err(foreign)?;
    if header.schema != SCHEMA {
        return Err(ReportError::Schema {
            file: file.to_owned(),
            expected: SCHEMA,
            found: header.schema,
        });
    }
    serde_json::from_str(text).map_err(foreign)
}

/// The most bytes of a file that are read: many times the largest audit.
pub const LIMIT: u64 = 64 << 20;

/// Reads an audit from a file, which anybody may have written.
pub fn load(path: &Path) -> Result<Audit, ReportError> {
    let fails = |source| ReportError::Read {
        file: path.to_owned(),
        source,
    };
    let mut text = String::new();
    // The length that the system gives is no bound: a pipe or a device has none.
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text))
        .map_err(fails)?;
    if read as u64 > LIMIT {
        return Err(ReportError::TooLarge {
            file: path.to_owned(),
            limit: LIMIT,
        });
    }
    parse(&text, &path.display().to_string())
}
