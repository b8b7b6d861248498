//! Auditing a checkpoint: signals, statistics, gate, report.
