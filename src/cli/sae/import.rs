//! `sae import`: a dictionary in any known format becomes one in SAELens's, which everything else here reads.

use std::path::PathBuf;

use candlescope_sae::format::{self, Format};

use super::rewrite::{rewrite, show};
use crate::cli::{Outcome, output::Out};
use crate::features::{self, Opened};

/// Turn a dictionary in any known format into SAELens's, and say what was folded
///
/// Known are SAELens (6 and older), dictionary_learning, sparsify, Gemma Scope 1 and 2, Llama Scope, Qwen Scope and
/// circuit-tracer's transcoders. Pickled files are read without executing anything.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae import layer_12/width_16k/average_l0_82/params.npz --out sae/
  candlescope sae import downloaded/ --format dictionary-learning --out sae/ --json")]
pub struct Args {
    /// Its folder or file
    source: PathBuf,
    /// A new folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Its format, where its names do not tell: saelens, dictionary-learning, sparsify, gemma-scope, gemma-scope-2,
    /// llama-scope, qwen-scope or circuit-tracer
    #[arg(long, value_name = "NAME")]
    format: Option<Format>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let opened = match args.format {
        None => features::open(&args.source)?,
        Some(format) => {
            let (dictionary, found) = format::read_as(format, &args.source)?;
            Opened {
                name: args.source.display().to_string(),
                dictionary,
                found,
            }
        }
    };
    let done = rewrite(&opened, &args.out)?;
    if out.json {
        out.json("candlescope.sae.import/1", &done)?;
    } else {
        show(&done, out)?;
    }
    Ok(Outcome::Done)
}
