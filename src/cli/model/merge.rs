//! `model merge`: an adapter folder with its base as one model.

use std::path::PathBuf;

use candle_core::DType;

use super::convert::{Stored, Written};
use crate::{
    cli::{Outcome, args::FindArgs, failure::Usage, interrupt, output::Out},
    model::{LoraAdapter, Opened, checkpoint::words, convert},
};

/// Write a LoRA adapter and its base as one model: a Hugging Face folder that needs neither
///
/// The adapter is added to the weights in f32, which are rounded once. An adapter of a reward model becomes a classifier with
/// one score. The folder appears whole or not at all; an existing one is refused.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope model merge runs/sft/checkpoints/step-200 --out merged/
  candlescope model merge ./adapter --base smollm2-135m-instruct --out merged/")]
pub struct Args {
    /// The adapter's folder, as `train` and PEFT write it
    adapter: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
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

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    if !LoraAdapter::is_in(&args.adapter) {
        return Err(Usage::new(
            format!(
                "{} is no adapter: it has no adapter_config.json",
                args.adapter.display()
            ),
            "`candlescope model convert` writes a whole model in another format",
        )
        .into());
    }
    let how = args.found.exact();
    let name = args.adapter.display().to_string();
    let path = how.path(&name, out)?;
    let (dtype, stored) = args.stored.dtype();
    let opened = Opened::at(&path, &how.load_options())?;
    interrupt::check()?;
    let files = merged(&opened, args, dtype)?;
    let written = Written {
        model: name,
        folder: args.out.display().to_string(),
        dtype: stored,
        files,
    };
    written.show("candlescope.model.merge/1", out)
}

fn merged(opened: &Opened, args: &Args, dtype: DType) -> anyhow::Result<Vec<String>> {
    let (tokenizer, template) = words(opened, &args.adapter)?;
    Ok(convert::opened_to_folder(
        opened,
        (&tokenizer, template.as_ref()),
        &args.out,
        dtype,
    )?)
}
