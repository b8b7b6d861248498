//! Pipelines from end to end: plans that are refused, stages that follow each other, kills in every stage, where
//! a signal broke.
#![allow(clippy::unwrap_used)]

mod bisect;
mod dictionaries;
mod kills;
mod plans;
mod reward;
mod runs;
