//! Probes on disk.
