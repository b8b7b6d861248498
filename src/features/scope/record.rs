//! Runs as they are written to files: `candlescope.sae.scope/1`.

use serde::Serialize;

use super::{Comparison, Lane, Trace};
use crate::hooks::HookPoint;

/// What it is as JSON.
pub const SCHEMA: &str = "candlescope.sae.scope/1";

/// A run and its branches.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// The model.
    pub model: &'a str,
    /// The dictionary.
    pub dictionary: &'a str,
    /// The point it reads.
    pub reads: HookPoint,
    /// The point it writes.
    pub writes: HookPoint,
    /// Which of the branches is looked at.
    pub shown: usize,
    /// The lanes, in order.
    pub lanes: Vec<Lane>,
    /// The first run, and what was branched off.
    pub branches: Vec<Run<'a>>,
    /// The shown branch against the one it came from.
    pub comparison: Option<&'a Comparison>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Run<'a> {
    /// Its tokens as text, unescaped.
    pub tokens: Vec<String>,
    /// The branch that it came from.
    pub parent: Option<usize>,
    /// What was recorded.
    pub trace: &'a Trace,
}
