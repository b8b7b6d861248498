//! `sae export`: a dictionary of a run, or any other, as a folder that SAELens 6 loads.

use std::path::PathBuf;

use super::rewrite::{rewrite, show};
use crate::cli::{Outcome, output::Out};
use crate::features;

/// Write a dictionary as a folder that SAELens loads, and say what was folded
///
/// What SAELens has no architecture for is refused by name: transcoders with TopK or gates, thresholds below 0.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae export runs/sae/checkpoints/step-4000/k32 --out k32/
  # in Python: SAE.load_from_disk(\"k32\")")]
pub struct Args {
    /// A dictionary's folder or file
    dictionary: PathBuf,
    /// A new folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let opened = features::open(&args.dictionary)?;
    let done = rewrite(&opened, &args.out)?;
    if out.json {
        out.json("candlescope.sae.export/1", &done)?;
    } else {
        show(&done, out)?;
    }
    Ok(Outcome::Done)
}
