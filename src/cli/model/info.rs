//! `model info`: what a checkpoint is, without loading its weights.

use crate::{
    cli::{Outcome, args::ModelArgs, output::Out},
    model::describe::Description,
};

/// Describe a model: family, sizes, stored tensors, positions, tokenizer, fingerprint, memory
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope model info smollm2-135m-instruct
  candlescope model info ./my-model --json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let (opened, path) = args.model.find(out)?;
    let weights = args.model.how.load_options().dtype;
    let info = Description::of(&args.model.model, &path, &opened, weights)?;
    if out.json {
        out.json("candlescope.model.info/1", &info)?;
    } else {
        for (name, value) in info.lines() {
            out.line(&format!(
                "{name:<14}{}",
                crate::audit::report::text::visible(&value)
            ))?;
        }
    }
    Ok(Outcome::Done)
}
