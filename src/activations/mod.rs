//! Harvesting activations from a model onto disk, streamed and bounded in memory.
