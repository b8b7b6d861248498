//! `sae dashboard`: latents as one HTML page to click through, and as JSON.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::on::OnArgs;
use crate::cli::{
    Outcome,
    failure::Usage,
    output::{Out, bytes},
};
use crate::features::dashboard::{
    CollectOptions, DASHBOARD_SCHEMA, Dashboard, dashboard, interesting, page,
};
use crate::files::write::write_atomic;

/// Tokens over which densities are counted where latents are to be chosen by them.
const SURVEY: usize = 16_384;

/// Write one HTML page with examples, histograms, logit effects and neighbours of some latents
///
/// The page needs nothing but a browser: no network, no other file. Without --latents, latents are chosen by density over the
/// first tokens: of those that are neither dead, very rare nor dense, --count spread from the rare to the common.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae dashboard smollm2-135m-instruct sae/ --jsonl texts.jsonl --tokens 200000 --out latents.html
  candlescope sae dashboard smollm2-135m-instruct sae/ --documents text.txt --latents 1,5,9 --out three.html --json-out three.json")]
pub struct Args {
    #[command(flatten)]
    on: OnArgs,
    /// The page
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The same as JSON
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// These latents
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "count"
    )]
    latents: Vec<usize>,
    /// So many latents, chosen by density
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: usize,
    /// Top examples of each
    #[arg(long, value_name = "N", default_value_t = 20)]
    examples: usize,
    /// Of the sample of firings
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct WithSchema<'a> {
    schema: &'a str,
    #[serde(flatten)]
    dashboard: &'a Dashboard,
}

#[derive(Serialize)]
struct Written<'a> {
    page: &'a Path,
    json: Option<&'a Path>,
    latents: Vec<usize>,
    tokens: u64,
    bytes: usize,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    writable(&args.out, "--out")?;
    if let Some(path) = &args.json_out {
        writable(path, "--json-out")?;
        if *path == args.out {
            let hint = "give two files";
            return Err(Usage::new("--out and --json-out are one file", hint).into());
        }
    }
    let on = args.on.open(out)?;
    on.check(&args.latents)?;
    let options = CollectOptions {
        batch: args.on.batch,
        top: args.examples,
        seed: args.seed,
        ..CollectOptions::page(on.policy.clone())
    };
    let latents = if args.latents.is_empty() {
        let survey = on.collect(&[], &options, Some(SURVEY), out)?;
        interesting(&survey.density, args.count)
    } else {
        let mut latents = args.latents.clone();
        latents.sort_unstable();
        latents.dedup();
        latents
    };
    if latents.is_empty() {
        let hint = "give more text with --tokens, or name latents with --latents";
        return Err(Usage::new("no latent fired that could be shown", hint).into());
    }
    let collected = on.collect(&latents, &options, None, out)?;
    let names = [on.opened.name.clone(), on.policy.to_string()];
    let made = dashboard(&on.model, &on.splice, names, &collected)?;
    let html = page(&made);
    write_atomic(&args.out, html.as_bytes())?;
    if let Some(path) = &args.json_out {
        let schema = DASHBOARD_SCHEMA;
        let dashboard = &made;
        let text = serde_json::to_string(&WithSchema { schema, dashboard })?;
        write_atomic(path, text.as_bytes())?;
    }
    let written = Written {
        page: &args.out,
        json: args.json_out.as_deref(),
        latents,
        tokens: collected.tally.kept,
        bytes: html.len(),
    };
    if out.json {
        out.json("candlescope.sae.dashboard.files/1", &written)?;
        return Ok(Outcome::Done);
    }
    out.line(&format!(
        "{}: {} latents on {} tokens, {}",
        args.out.display(),
        written.latents.len(),
        written.tokens,
        bytes(html.len() as u64)
    ))?;
    if let Some(path) = &args.json_out {
        out.line(&path.display().to_string())?;
    }
    out.note("it shows excerpts of the texts; give it to nobody who must not read them");
    Ok(Outcome::Done)
}

/// Refuses before the model runs what would be refused after it.
fn writable(path: &Path, option: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let there = folder.is_none_or(Path::is_dir);
    if there && !path.is_dir() && path.file_name().is_some() {
        return Ok(());
    }
    let message = format!("{option}: {} cannot be a file", path.display());
    Err(Usage::new(message, "give a file in a folder that is there").into())
}
