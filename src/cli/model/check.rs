//! `model check`: is this checkpoint sound, and is it served exactly? Without a reference it is held against itself.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    cli::{
        Outcome,
        args::ModelArgs,
        output::{Out, Table},
    },
    files::SafetensorsFolder,
    model::{
        Checkpoint,
        check::{self, TensorError},
        self_check::{self, Finding},
    },
};

/// Check a model: against itself, or against a dump from another implementation
///
/// Without --against: every tensor found and finite, tokenizer and template fit, the cached pass equals the uncached
/// one, the identities of the forward pass hold. With it: the largest relative error of each tensor of the dump. Exit
/// code 1 if anything is beyond the tolerance.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope model check smollm2-135m-instruct
  candlescope model check ./my-model --against reference.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A safetensors file with input_ids and any of logits, hidden.I, pattern.I
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The largest relative error that passes
    #[arg(long, default_value_t = self_check::TOLERANCE, value_name = "E")]
    tolerance: f64,
}

#[derive(Serialize)]
struct Compared {
    model: String,
    against: String,
    tolerance: f64,
    ok: bool,
    tensors: Vec<TensorError>,
}

#[derive(Serialize)]
struct Checked {
    model: String,
    tolerance: f64,
    ok: bool,
    checks: Vec<Finding>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    anyhow::ensure!(
        args.tolerance.is_finite() && args.tolerance >= 0.0,
        "--tolerance: expected a number from 0, found {}",
        args.tolerance
    );
    let ok = match &args.against {
        Some(file) => compare(args, file, out)?,
        None => alone(args, out)?,
    };
    Ok(if ok {
        Outcome::Done
    } else {
        Outcome::NotPassed
    })
}

fn compare(args: &Args, file: &Path, out: &Out) -> anyhow::Result<bool> {
    let dump = SafetensorsFolder::open(file)?;
    let options = args.model.how.load_options();
    // No tokenizer is needed: the dump brings token ids.
    let decoder = args.model.find(out)?.0.decoder(&options)?;
    let tensors = check::against(&decoder, &dump)?;
    // Not `<=` negated: an error that is NaN must fail.
    let ok = tensors.iter().all(|t| t.max_rel <= args.tolerance);
    let compared = Compared {
        model: args.model.model.clone(),
        against: file.display().to_string(),
        tolerance: args.tolerance,
        ok,
        tensors,
    };
    if out.json {
        out.json("candlescope.model.check/1", &compared)?;
        return Ok(ok);
    }
    let mut table = Table::new(["tensor", "point", "shape", "max rel", "max abs", ""]);
    for t in &compared.tensors {
        table.row([
            t.tensor.clone(),
            t.point.clone(),
            format!("{:?}", t.shape),
            format!("{:.2e}", t.max_rel),
            format!("{:.2e}", t.max_abs),
            mark(t.max_rel <= args.tolerance).to_owned(),
        ]);
    }
    table.print(out)?;
    let worst = compared
        .tensors
        .iter()
        .map(|t| t.max_rel)
        .fold(0.0, f64::max);
    out.line(&format!(
        "{}: largest relative error {worst:.2e}, tolerance {:.0e}",
        mark(ok),
        args.tolerance
    ))?;
    Ok(ok)
}

fn alone(args: &Args, out: &Out) -> anyhow::Result<bool> {
    let checkpoint: Checkpoint = args.model.open(out)?;
    let checks = self_check::all(&checkpoint, args.tolerance)?;
    let ok = checks.iter().all(|check| check.ok);
    let checked = Checked {
        model: args.model.model.clone(),
        tolerance: args.tolerance,
        ok,
        checks,
    };
    if out.json {
        out.json("candlescope.model.check/1", &checked)?;
        return Ok(ok);
    }
    let mut table = Table::new(["check", "", "found"]);
    for check in &checked.checks {
        table.row([
            check.name.to_owned(),
            mark(check.ok).to_owned(),
            check.found.clone(),
        ]);
    }
    table.print(out)?;
    Ok(ok)
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAILED" }
}
