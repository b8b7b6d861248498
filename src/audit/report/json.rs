//! The audit as JSON: the record from which everything else can be made again.
//!
//! Always: numbers that are not finite are `null`; a text of another schema is refused by name, not half understood.

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

/// Reads an audit from a file.
pub fn load(path: &Path) -> Result<Audit, ReportError> {
    let text = std::fs::read_to_string(path).map_err(|source| ReportError::Read {
        file: path.to_owned(),
        source,
    })?;
    parse(&text, &path.display().to_string())
}
