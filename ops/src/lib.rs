//! Kernels over candle tensors.
