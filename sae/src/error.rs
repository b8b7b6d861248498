//! What can go wrong in this crate, with the thing named, what was expected and what was found.

use std::path::PathBuf;

use thiserror::Error;

/// Everything this crate can refuse.
#[derive(Debug, Error)]
pub enum SaeError {
    /// An array of the wrong shape.
    #[error("{what}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The array.
        what: String,
        /// What was expected.
        expected: Vec<usize>,
        /// What came in.
        found: Vec<usize>,
    },
    /// An option or a count outside its range.
    #[error("{what}: {found} is outside {allowed}")]
    Range {
        /// The option.
        what: &'static str,
        /// What came in.
        found: String,
        /// The range in words.
        allowed: String,
    },
    /// A NaN or an infinity.
    #[error("{what}: a value that is not finite, at row {row}, column {column}")]
    NonFinite {
        /// Which array.
        what: String,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
    },
    /// A file that does not hold what its format asks for.
    #[error("{}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The system refused to read or write.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// Something this program cannot serve exactly.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what to try.
        why: String,
    },
}
