//! What can be wrong with training data, by file, row and column, with what to try.
//!
//! Errors with a [`Reason`] are about one row that is read well but is of no use; the policy for such rows may be to count
//! them instead ([`super::Unusable`]). All others end the reading.

use std::io;

use serde::{Deserialize, Serialize};

use super::table::Place;
use crate::text::TextError;

/// Why a row that is read well cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is longer than the limit, and the policy is to drop such rows.
    OverLimit,
    /// No token of it is a target of the loss.
    NothingSupervised,
    /// The prompt alone fills the limit, so that cutting leaves no target.
    PromptTooLong,
    /// Chosen and rejected are the same.
    SameAnswers,
    /// An answer without words.
    EmptyAnswer,
}

impl Reason {
    /// In words, for tables: "rows …".
    pub fn words(self) -> &'static str {
        match self {
            Self::OverLimit => "longer than the limit",
            Self::NothingSupervised => "without a supervised token",
            Self::PromptTooLong => "with a prompt that fills the limit",
            Self::SameAnswers => "with chosen equal to rejected",
            Self::EmptyAnswer => "with an empty answer",
        }
    }
}

/// An error of training data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// More than is read from one file.
    #[error("{file}: {what}: at most {limit} are read, found {found}; split the file")]
    TooLarge {
        /// The file.
        file: String,
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What was found, or the first number beyond the bound.
        found: u64,
    },
    /// The file has no rows.
    #[error(
        "{file}: the file has no rows; expected JSON objects, one a line or in one array, or Parquet rows"
    )]
    Empty {
        /// The file.
        file: String,
    },
    /// A file that should be plain text.
    #[error("{file}: expected UTF-8 text, found byte {byte} that is none")]
    NotText {
        /// The file.
        file: String,
        /// The first byte that is none, counted from 0.
        byte: u64,
    },
    /// A folder in which nothing is read.
    #[error("{file}: no plain text in it; files of a folder are read if they end in .txt or .md")]
    NoText {
        /// The folder.
        file: String,
    },
    /// A row that is no JSON object.
    #[error("{place}: {reason}")]
    Malformed {
        /// The row.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// A Parquet file that does not hold together.
    #[error("{file}: not a readable Parquet file: {reason}; fetch or write it again")]
    Parquet {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A Parquet column in a compression that is not read.
    #[error(
        "{file}: column `{column}` is compressed with {codec}; expected one of {expected}; write the file again with \
         snappy, or as JSON lines"
    )]
    Codec {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its compression.
        codec: String,
        /// What is read.
        expected: &'static str,
    },
    /// The first row has the columns of no kind of training data.
    #[error(
        "{place}: no known set of columns; expected {expected}; found {found}; columns of other names are given as \
         --columns prompt=THEIRS,completion=THEIRS"
    )]
    UnknownColumns {
        /// The row.
        place: Place,
        /// The sets there are.
        expected: String,
        /// The columns of the row.
        found: String,
    },
    /// A row without a column that its kind needs.
    #[error(
        "{place}: the row has no `{column}`; expected {expected} ({kind}); found {found}; give the file one kind of rows"
    )]
    MissingColumn {
        /// The row.
        place: Place,
        /// What is missing.
        column: String,
        /// What the kind needs.
        expected: String,
        /// The kind.
        kind: &'static str,
        /// The columns of the row.
        found: String,
    },
    /// A column that holds something else.
    #[error("{place}: column `{column}`: expected {expected}, found {found}")]
    Field {
        /// The row.
        place: Place,
        /// The column's name in the file.
        column: String,
        /// What would have been accepted.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// A renaming of columns that cannot be meant.
    #[error("--columns: {found}; expected NAME=THEIRS with NAME one of {expected}")]
    Columns {
        /// What is wrong.
        found: String,
        /// The names.
        expected: String,
    },
    /// Rows of another kind than the method needs.
    #[error("{file}: {method} needs {expected}; the rows are {found}")]
    Kind {
        /// The file.
        file: String,
        /// What was asked for.
        method: &'static str,
        /// The kinds that would do.
        expected: &'static str,
        /// The kind there is.
        found: &'static str,
    },
    /// Conversations, and a model without a chat template.
    #[error(
        "{place}: the row is a conversation and the model has no chat template; take an instruction-tuned model, or rows of \
         plain strings"
    )]
    NoTemplate {
        /// The row.
        place: Place,
    },
    /// The template or the tokenizer refused the row.
    #[error("{place}: {source}")]
    Text {
        /// The row.
        place: Place,
        /// What they said.
        source: TextError,
    },
    /// The template writes earlier turns another way once later ones follow.
    #[error(
        "{place}: the chat template is not prefix-preserving: with turn {turn} ({role}) the text of the turns before it \
         changes, from {before:?} to {after:?}; masks would be guesses, so it is refused; train on the last answer only \
         (columns prompt and completion), or give the model a template that keeps earlier turns as they were"
    )]
    NotPrefixPreserving {
        /// The row.
        place: Place,
        /// The turn, counted from 1, whose presence changes what came before.
        turn: usize,
        /// Its role.
        role: String,
        /// Where the texts part: without the turn.
        before: String,
        /// Where the texts part: with it.
        after: String,
    },
    /// The template's `{% generation %}` marks cannot be followed.
    #[error("{place}: the generation marks of the chat template cannot be followed: {reason}")]
    Marks {
        /// The row.
        place: Place,
        /// Why.
        reason: &'static str,
    },
    /// No token of a row is a target of the loss.
    #[error("{place}: none of {tokens} tokens is supervised: {why}")]
    NothingSupervised {
        /// The row.
        place: Place,
        /// Tokens of the row.
        tokens: usize,
        /// Why, and what to try.
        why: &'static str,
    },
    /// Cutting to the limit leaves no target.
    #[error(
        "{place}: the prompt has {prompt} of {tokens} tokens and the limit is {limit}, so no target is left; raise \
         max_length (if the context allows), or drop such rows (truncation keep_end, or drop)"
    )]
    PromptTooLong {
        /// The row.
        place: Place,
        /// Tokens before the first target.
        prompt: usize,
        /// Tokens of the row.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// A row over the limit, where such rows are dropped.
    #[error("{place}: {tokens} tokens, the limit is {limit}")]
    OverLimit {
        /// The row.
        place: Place,
        /// Its tokens, of the longer answer where there are two.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// Nothing to prefer.
    #[error("{place}: chosen and rejected are the same; there is nothing to learn from the row")]
    SameAnswers {
        /// The row.
        place: Place,
    },
    /// An answer without words.
    #[error("{place}: column `{column}` is empty; an answer needs words")]
    EmptyAnswer {
        /// The row.
        place: Place,
        /// The column.
        column: &'static str,
    },
    /// All rows were dropped.
    #[error("{file}: none of {rows} rows can be trained on: {dropped}")]
    NothingLeft {
        /// The file.
        file: String,
        /// Rows read.
        rows: usize,
        /// What was dropped, with the first place of each reason.
        dropped: String,
    },
    /// A document longer than the row it is to be packed into.
    #[error(
        "packing: example {example} has {tokens} tokens, the rows have {limit}; encode with that limit"
    )]
    TooLongToPack {
        /// Index of the example.
        example: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens of a packed row.
        limit: usize,
    },
}

impl DataError {
    /// Whether it is about one row that may be counted and left out instead.
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::OverLimit { .. } => Reason::OverLimit,
            Self::NothingSupervised { .. } => Reason::NothingSupervised,
            Self::PromptTooLong { .. } => Reason::PromptTooLong,
            Self::SameAnswers { .. } => Reason::SameAnswers,
            Self::EmptyAnswer { .. } => Reason::EmptyAnswer,
            _ => return None,
        })
    }
}
