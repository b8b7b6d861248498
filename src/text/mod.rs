//! Words in and out: tokenizer, chat template, prompt suites.

pub mod suites;
