//! Tensor files: safetensors folders and GGUF, read with bounds and written atomically.
