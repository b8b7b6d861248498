//! Training data from file to ids: masks against transformers, columns and their errors, Parquet against JSON, packing and
//! sampling as properties, damaged files, and the `data` command as a user runs it.
#![allow(clippy::unwrap_used)]

mod cli;
mod columns;
mod files;
mod masks;
mod packing;
mod sample;

use candlescope::text::dataset::columns::rows;
use candlescope::text::dataset::{Columns, DataError, Dataset, table};

/// The path of a file of `tests/fixtures/data`.
fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Rows of a text in any of the formats, in a file called `f`.
fn parse(text: &str) -> Result<Dataset, DataError> {
    rows(
        &table::from_bytes("f", text.as_bytes().to_vec())?,
        &Columns::default(),
        None,
    )
}
