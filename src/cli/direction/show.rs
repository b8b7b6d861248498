//! `direction show`: what a direction's file says of itself.

use serde::Serialize;

use super::select::effects;
use crate::{
    audit::effect::Effect,
    cli::{
        Outcome,
        output::{Out, Table},
    },
    steer::file,
};

/// Show where a direction came from and what it was measured to do
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope direction show refusal/direction.safetensors")]
pub struct Args {
    /// A safetensors file with a vector `direction`, or FILE:TENSOR
    file: String,
}

#[derive(Serialize)]
struct Shown {
    file: String,
    width: usize,
    /// Measured, whatever the file says.
    norm: f64,
    layer: Option<usize>,
    position: Option<i64>,
    method: Option<String>,
    reliability: Option<f64>,
    prompts: Option<String>,
    made_on: Option<crate::model::Fingerprint>,
    effect: Option<serde_json::Value>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let (path, tensor) = file::parse(&args.file);
    let read = file::load(&path, tensor)?;
    let squares = read.vector.iter().map(|&x| f64::from(x).powi(2));
    let shown = Shown {
        file: args.file.clone(),
        width: read.vector.len(),
        norm: squares.sum::<f64>().sqrt(),
        layer: read.layer,
        position: read.position,
        method: read.method,
        reliability: read.reliability,
        prompts: read.prompts,
        made_on: read.fingerprint,
        effect: read.scores,
    };
    if out.json {
        out.json("candlescope.direction.show/1", &shown)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["", "value"]);
    let unsaid = || "the file does not say".to_owned();
    let place = |layer: usize| format!("resid_pre.{layer}");
    table.row(["width".into(), shown.width.to_string()]);
    table.row(["norm".into(), format!("{:.4}", shown.norm)]);
    table.row(["read at".into(), shown.layer.map_or_else(unsaid, place)]);
    table.row([
        "position".into(),
        shown.position.map_or_else(unsaid, |at| at.to_string()),
    ]);
    table.row(["method".into(), shown.method.clone().unwrap_or_else(unsaid)]);
    table.row([
        "reliability".into(),
        shown.reliability.map_or_else(unsaid, |r| format!("{r:.3}")),
    ]);
    table.row([
        "prompts".into(),
        shown.prompts.clone().unwrap_or_else(unsaid),
    ]);
    let model = shown.made_on.as_ref().map(|f| f.weights.clone());
    table.row(["weights".into(), model.unwrap_or_else(unsaid)]);
    table.print(out)?;
    let effect = shown.effect.as_ref();
    if let Some(effect) = effect.and_then(|e| serde_json::from_value::<Effect>(e.clone()).ok()) {
        out.line("")?;
        effects(&effect, out)?;
    }
    Ok(Outcome::Done)
}
