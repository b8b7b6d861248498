//! Auditing a checkpoint: signals, statistics, gate, report.

pub mod detect;
