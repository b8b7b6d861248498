//! `model convert`: the checkpoint as a Hugging Face folder.

use std::path::PathBuf;

use candle_core::DType;
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    cli::{
        Outcome,
        args::{FindArgs, ModelArgs},
        interrupt,
        output::Out,
    },
    model::{checkpoint, convert},
};

/// Write a model as a Hugging Face folder: config, safetensors, tokenizer, chat template
///
/// A quantised GGUF is dequantised, an adapter merged, a reward model stays one. The folder appears whole or not at all; an existing one is refused.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  candlescope model convert smollm2-135m-instruct smollm2-f32/")]
pub struct Args {
    /// A folder, a .gguf file, a known name (see `candlescope model list`) or ORG/NAME on the Hugging Face hub
    model: String,
    /// The folder to make
    out: PathBuf,
    #[command(flatten)]
    found: FindArgs,
    /// What weights are written in: f32, f16 or bf16
    #[arg(
        long = "dtype",
        value_enum,
        default_value = "f32",
        value_name = "DTYPE",
        hide_possible_values = true
    )]
    stored: Stored,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Stored {
    F32,
    F16,
    Bf16,
}

#[derive(Serialize)]
pub(super) struct Written {
    pub model: String,
    pub folder: String,
    pub dtype: &'static str,
    pub files: Vec<String>,
}

impl Stored {
    /// What is written, and its name.
    pub(in crate::cli) fn dtype(self) -> (DType, &'static str) {
        match self {
            Self::F32 => (DType::F32, "f32"),
            Self::F16 => (DType::F16, "f16"),
            Self::Bf16 => (DType::BF16, "bf16"),
        }
    }
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    // Weights are read in f32, so that they are rounded once at most.
    let model = ModelArgs {
        model: args.model.clone(),
        how: args.found.exact(),
    };
    let (opened, path) = model.find(out)?;
    let (tokenizer, template) = checkpoint::words(&opened, &path)?;
    let (dtype, name) = args.stored.dtype();
    interrupt::check()?;
    let words = (&tokenizer, template.as_ref());
    let files = convert::opened_to_folder(&opened, words, &args.out, dtype)?;
    let written = Written {
        model: args.model.clone(),
        folder: args.out.display().to_string(),
        dtype: name,
        files,
    };
    written.show("candlescope.model.convert/1", out)
}

impl Written {
    pub(super) fn show(&self, schema: &str, out: &Out) -> anyhow::Result<Outcome> {
        if out.json {
            out.json(schema, self)?;
        } else {
            out.line(&format!("{}: {}", self.folder, self.files.join(", ")))?;
        }
        Ok(Outcome::Done)
    }
}
