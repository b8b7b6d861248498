//! Pipelines from end to end: plans that are refused, stages that follow each other, kills in every stage.
#![allow(clippy::unwrap_used)]

mod kills;
mod plans;
mod reward;
mod runs;
