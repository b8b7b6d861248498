//! `hooks`: the table of points, as this model has them.

use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    output::{Out, Table},
};
use crate::{
    config::ModelConfig,
    hooks::{HookPoint, POINTS, PointInfo},
};

/// List the hook points of a model: where you may look and touch
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope hooks smollm2-135m-instruct\n  candlescope hooks smollm2-135m-instruct --point resid_post"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Only this point: its name, with or without a layer, or its TransformerLens name
    #[arg(long, value_name = "POINT")]
    point: Option<String>,
}

#[derive(Serialize)]
struct Row {
    point: &'static str,
    address: String,
    shape: String,
    transformer_lens: Option<&'static str>,
    exists: bool,
    why_not: Option<&'static str>,
    note: Option<&'static str>,
    definition: &'static str,
}

#[derive(Serialize)]
struct Listing {
    model: String,
    family: &'static str,
    n_layers: usize,
    points: Vec<Row>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let (opened, _) = args.model.find(out)?;
    let config = opened.config();
    let points: Vec<Row> = match &args.point {
        None => POINTS.iter().map(|info| row(info, config)).collect(),
        Some(name) => vec![row(named(name, config)?, config)],
    };
    let listing = Listing {
        model: args.model.model.clone(),
        family: config.family.name(),
        n_layers: config.n_layers,
        points,
    };
    if out.json {
        out.json("candlescope.hooks/1", &listing)?;
    } else {
        show(&listing, out)?;
    }
    Ok(Outcome::Done)
}

/// A point by name; with a layer, that layer must exist in this model.
fn named(name: &str, config: &ModelConfig) -> anyhow::Result<&'static PointInfo> {
    if let Some(info) = POINTS.iter().find(|info| info.name == name) {
        return Ok(info);
    }
    let at: HookPoint = name.parse()?;
    if at.point.info().exists.missing(config).is_none() {
        at.check(config)?;
    }
    Ok(at.point.info())
}

fn row(info: &'static PointInfo, config: &ModelConfig) -> Row {
    let why_not = info.exists.missing(config);
    let last = config.n_layers - 1;
    Row {
        point: info.name,
        address: if info.per_layer {
            format!("{}.0 to .{last}", info.name)
        } else {
            info.name.to_owned()
        },
        shape: info.shape_text(config),
        transformer_lens: (!info.alias.is_empty()).then_some(info.alias),
        exists: why_not.is_none(),
        why_not,
        note: info.note(config),
        definition: info.definition,
    }
}

fn show(listing: &Listing, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new(["point", "shape", "TransformerLens", "what it is"]);
    for row in &listing.points {
        let what = match (row.why_not, row.note) {
            (Some(why), _) => format!("not in this model: {why}"),
            (None, Some(note)) => format!("{} ({note})", row.definition),
            (None, None) => row.definition.to_owned(),
        };
        table.row([
            row.address.clone(),
            if row.exists {
                row.shape.clone()
            } else {
                "-".into()
            },
            row.transformer_lens.unwrap_or("-").to_owned(),
            what,
        ]);
    }
    table.print(out)
}
