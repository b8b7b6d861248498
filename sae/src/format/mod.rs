//! Dictionaries in every format the field uses: [`read`] recognises and reads them, [`write_saelens`] writes the one that
//! others read. One file a format; `tensors.rs` and `config.rs` are what they all stand on, `fold.rs` is where foreign
//! conventions become weights.
//!
//! Everything foreign is untrusted: lengths are checked against the file before memory is taken, no code is ever executed,
//! and what cannot be served exactly is refused with its name and what to try.

mod circuit_tracer;
mod config;
mod dictionary_learning;
mod dtype;
mod fold;
mod found;
mod gemma_scope;
mod llama_scope;
mod names;
mod npz;
mod pickle;
mod qwen_scope;
mod saelens;
mod saelens_old;
mod saelens_write;
mod safetensors;
mod save;
mod sparsify;
mod tensors;
mod torch;

use std::path::Path;

pub use found::{Format, Found};
pub use saelens_write::write_saelens;

use crate::{Dictionary, Parts, SaeError};

/// Reads the dictionary in a folder or file, whatever its format.
///
/// # Errors
/// Nothing that is recognised, a file that does not hold what its format asks for, or a dictionary that cannot be served
/// exactly; each names the file.
pub fn read(path: &Path) -> Result<(Dictionary, Found), SaeError> {
    read_as(found::detect(path)?, path)
}

/// Reads the dictionary in a folder or file whose format is known.
///
/// # Errors
/// As for [`read`].
pub fn read_as(format: Format, path: &Path) -> Result<(Dictionary, Found), SaeError> {
    match format {
        Format::SaeLens => saelens::read(path),
        Format::DictionaryLearning => dictionary_learning::read(path),
        Format::Sparsify => sparsify::read(path),
        Format::GemmaScope => gemma_scope::read_npz(path),
        Format::GemmaScope2 => gemma_scope::read_safetensors(path),
        Format::LlamaScope => llama_scope::read(path),
        Format::QwenScope => qwen_scope::read(path),
        Format::CircuitTracer => circuit_tracer::read(path),
    }
}

/// A file that does not hold what its format asks for.
fn refusal(file: &Path, message: String) -> SaeError {
    SaeError::File {
        file: file.to_owned(),
        message,
    }
}

/// Something that no dictionary here computes exactly.
fn unsupported(file: &Path, what: &str, why: &str) -> SaeError {
    SaeError::Unsupported {
        what: format!("{}: {what}", file.display()),
        why: why.to_owned(),
    }
}

/// A dictionary of parts from a file; what does not fit is told with the file's name.
fn assemble(file: &Path, mut parts: Parts, found: &mut Found) -> Result<Dictionary, SaeError> {
    let raised = fold::raise_thresholds(&mut parts);
    if raised > 0 {
        found.note(format!(
            "{raised} thresholds below 0 were set to 0: the source takes relu(z), so nothing changes"
        ));
    }
    Dictionary::new(parts).map_err(|e| refusal(file, e.to_string()))
}
