//! `direction forensics`: what was done to a checkpoint's weights, told from the weights alone.

use serde::Serialize;

use crate::{
    cli::{
        Outcome,
        args::ModelArgs,
        edits, interrupt,
        output::{Out, Table},
    },
    steer::edit::{
        Basis,
        forensics::{Forensics, Kind, MatrixFinding, RANDOM, forensics},
    },
};

/// Look for somebody's edit in a checkpoint: abliteration, rank-one edits, adapters, rounding
///
/// Each matrix is compared with the baseline's: how the change's energy spreads over singular values, whether the matrix
/// took its own output along one direction away (the mark of an orthogonalisation, whatever the direction), whether the
/// writers agree on that direction, and how much less they write along it than along 32 random ones. Post-norm gains are
/// taken into account. The words are resemblances; the numbers behind them are in the table and in --json.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction forensics ./suspect --baseline smollm2-135m-instruct
  candlescope direction forensics ./suspect --baseline ./original --direction refusal.safetensors --json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The checkpoint it is said to come from
    #[arg(long, value_name = "MODEL")]
    baseline: String,
    /// Look along this direction of the baseline: a safetensors file with a vector `direction`, FILE:TENSOR, or
    /// contrast:LAYER [default: the one that is found]
    #[arg(long, value_name = "DIR")]
    direction: Option<String>,
    /// Use a direction that was made on another model than the baseline
    #[arg(long, requires = "direction")]
    accept_foreign_direction: bool,
    /// Draws the random directions
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// List every matrix, not only the changed ones
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    model: &'a str,
    baseline: &'a str,
    direction: Option<&'a str>,
    #[serde(flatten)]
    forensics: &'a Forensics,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let subject = args.model.open(out)?;
    // The base that was named belongs to the suspect.
    let mut how = args.model.how.clone();
    how.found.base = None;
    let baseline = how.open(&args.baseline, out)?;
    let direction = match &args.direction {
        None => None,
        Some(spec) => {
            let vector = edits::direction(spec, &baseline, args.accept_foreign_direction)?;
            Some(Basis::new(&[vector])?)
        }
    };
    interrupt::check()?;
    let found = forensics(
        &subject.decoder,
        &baseline.decoder,
        direction.as_ref(),
        args.seed,
    )?;
    if out.json {
        let found = Found {
            model: &args.model.model,
            baseline: &args.baseline,
            direction: args.direction.as_deref(),
            forensics: &found,
        };
        out.json("candlescope.direction.forensics/1", &found)?;
    } else {
        show(args, &found, out)?;
    }
    Ok(Outcome::Done)
}

fn show(args: &Args, found: &Forensics, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "change", "size", "rank-1", "rank", "gone", "along", "matrix",
    ]);
    let listed = found
        .matrices
        .iter()
        .filter(|m| args.all || m.kind != Kind::Unchanged);
    let mut rows = 0;
    for matrix in listed {
        table.row(cells(matrix));
        rows += 1;
    }
    if rows > 0 {
        table.print(out)?;
        out.line(&format!("{LEGEND} (least of {RANDOM} random ones)\n"))?;
    }
    out.line(&format!("{}: {}", found.verdict.describe(), found.says))?;
    if let Some(common) = &found.common {
        let within = common.within_layers.map_or_else(String::new, |x| {
            format!("; attention with MLP of a layer {x:.2}")
        });
        out.line(&format!(
            "leading directions of {} writers: agreement {:.2}, with post-norm gains left out {:.2}{within}",
            common.writers, common.agreement, common.without_gains
        ))?;
    }
    if let Some(cosine) = found.cosine {
        out.line(&format!(
            "cosine of the found direction with the given one: {cosine:.3}"
        ))?;
    }
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    out.line(&format!(
        "embedding changed: {}; untied: {}; new biases: {}; changed gains and biases: {}",
        yes(found.embedding_changed),
        yes(found.untied),
        found.new_biases.len(),
        found.changed_vectors.len()
    ))
}

/// What the columns are.
const LEGEND: &str = "size: of the change beside the matrix; rank-1: share of its energy in one singular value; rank: as many \
equal ones; gone: share of the matrix's own output along the change's leading direction; along: output along the direction \
beside the baseline's";

fn cells(matrix: &MatrixFinding) -> [String; 7] {
    let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"));
    let spectrum = matrix.spectrum.as_ref();
    let along = matrix.along.map_or_else(
        || "-".to_owned(),
        |along| format!("{:.2} ({:.2})", along.ratio, along.least_random),
    );
    [
        matrix.kind.describe().to_owned(),
        format!("{:.0e}", matrix.relative),
        number(spectrum.map(|s| s.rank1_share)),
        spectrum.map_or_else(|| "-".to_owned(), |s| format!("{:.0}", s.effective_rank)),
        number(matrix.strength),
        along,
        matrix.name.clone(),
    ]
}
