//! Linear probes, directions, their statistics and controls.
