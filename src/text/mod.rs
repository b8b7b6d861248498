//! Words in and out: tokenizer, chat template, prompt suites.
