//! What can go wrong between labelled text and a probe.

use std::path::PathBuf;

use candlescope_probes::ProbeError;

use crate::files::FileError;
use crate::hooks::HookError;
use crate::model::ModelError;
use crate::steer::SteerError;
use crate::text::TextError;

/// Errors of the probing room.
#[derive(Debug, thiserror::Error)]
pub enum ProbingError {
    /// A file that cannot be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of labelled data that is not what it should be.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// Data that is too large for one sweep.
    #[error("{file}: more than {limit} {what}; split the file or sample from it")]
    TooLarge {
        /// The file.
        file: String,
        /// The most that is read.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// Labels of which one is wanted that is not there, or fewer than two.
    #[error("{data}: {what}; the labels are: {classes}")]
    Classes {
        /// Where the data came from.
        data: String,
        /// What is wrong.
        what: String,
        /// The labels there are, with their numbers.
        classes: String,
    },
    /// A split with too few items of a class.
    #[error(
        "{split} split: {found} items of class `{class}`, at least {needed} are needed; give more rows, or put them there with a `split` field"
    )]
    SplitTooSmall {
        /// Which split.
        split: &'static str,
        /// The class.
        class: String,
        /// Items there.
        found: usize,
        /// Items needed.
        needed: usize,
    },
    /// The same text, or the same group, in two splits.
    #[error(
        "{count} rows stand in one split and, with the same {what}, in another: {listed}; a score on them would be a score on training data"
    )]
    Straddle {
        /// Text or group.
        what: &'static str,
        /// How many.
        count: usize,
        /// The first of them.
        listed: String,
    },
    /// The same text under two labels.
    #[error("rows `{first}` and `{second}` have the same text and different labels")]
    Contradiction {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Rows that are not the two sides of pairs.
    #[error(
        "{what}; pairs are two rows with one `group`, a statement and its negation, of which one has the positive label"
    )]
    Pairs {
        /// What is wrong, and where.
        what: String,
    },
    /// A hook point with no activation for each token.
    #[error("{point}: {reason}; see `candlescope hooks`")]
    Point {
        /// The point.
        point: String,
        /// Why not.
        reason: String,
    },
    /// Something of a form that is not known.
    #[error("{what}: expected {expected}, found `{found}`")]
    Written {
        /// The option.
        what: &'static str,
        /// Its forms.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A prompt that lacks a position.
    #[error("row `{id}` has {tokens} tokens and no {position}")]
    NoPosition {
        /// The row.
        id: String,
        /// Its tokens.
        tokens: usize,
        /// What was asked for.
        position: String,
    },
    /// A prompt longer than the model's context.
    #[error("row `{id}` has {tokens} tokens, the model's context {n_ctx}; drop or shorten it")]
    TooLong {
        /// The row.
        id: String,
        /// Its tokens.
        tokens: usize,
        /// Positions of the model.
        n_ctx: usize,
    },
    /// More activations than may be kept.
    #[error(
        "{cells} cells of {rows} rows need {needed}, more than the {limit} allowed; read fewer points or positions, fewer rows, or raise --memory-gb"
    )]
    Memory {
        /// Points × positions.
        cells: usize,
        /// Rows of data.
        rows: usize,
        /// Bytes, in words.
        needed: String,
        /// Bytes, in words.
        limit: String,
    },
    /// An activation that is not finite.
    #[error(
        "row `{id}`: {point} is not finite; the weights are broken, or the text drives the model over the edge"
    )]
    NotFinite {
        /// The row.
        id: String,
        /// The point.
        point: String,
    },
    /// A probe of another width.
    #[error("{file}: the probe reads {expected} numbers, {point} of {model} has {found}")]
    Width {
        /// The probe's file.
        file: PathBuf,
        /// Numbers that it reads.
        expected: usize,
        /// The point.
        point: String,
        /// The model.
        model: String,
        /// Numbers there.
        found: usize,
    },
    /// One statistic of one cell.
    #[error("{cell}: {source}")]
    Cell {
        /// Which.
        cell: String,
        /// What was refused.
        source: ProbeError,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A statistic refused.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A hook refused.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A text refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model refused.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A pass was refused.
    #[error(transparent)]
    Steer(Box<SteerError>),
}

impl From<ModelError> for ProbingError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<SteerError> for ProbingError {
    fn from(error: SteerError) -> Self {
        match error {
            SteerError::Interrupted => Self::Interrupted,
            error => Self::Steer(Box::new(error)),
        }
    }
}

impl From<candle_core::Error> for ProbingError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::from(error).into()
    }
}
