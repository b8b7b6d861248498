//! `probe sweep`: a probe for every layer, point and position, and what each has to beat.

use serde::Serialize;

use super::input::{SubjectArgs, told};
use super::show;
use crate::cli::{Outcome, interrupt, output::Out, progress::Bar};
use crate::model::{Fingerprint, fetch::Progress as _};
use crate::probing::{Position, Splits, Sweep, SweepOptions, sweep};

/// Fit a probe at every layer, point and position; choose on validation rows, report on test rows, with controls
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope probe sweep smollm2-135m-instruct --suites harmful,harmless --positions last,instruction-end,content
  candlescope probe sweep smollm2-135m-instruct --data rows.jsonl --points resid_post.*,z.* --kind lda --json")]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Shuffles of the labels
    #[arg(long, value_name = "N", default_value_t = 20)]
    shuffles: usize,
    /// Control tasks
    #[arg(long, value_name = "N", default_value_t = 5)]
    controls: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    fingerprint: &'a Fingerprint,
    data: &'a str,
    data_hash: &'a str,
    #[serde(flatten)]
    sweep: &'a Sweep,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let subject = &args.subject;
    let fitting = subject.fit.fitting()?;
    let data = subject.data.read()?;
    let positive = data.positive(subject.data.positive.as_deref())?;
    let splits = Splits::of(&data, positive, fitting.seed)?;
    let model = subject.model.open(out)?;
    let positions = subject.positions(&[Position::FromEnd(1), Position::InstructionEnd]);
    let (encoded, harvest) = subject.harvest(&model, &data, &positions, out)?;
    let bar = Bar::counting(out);
    bar.start("fitting probes", Some(harvest.places.len() as u64));
    let progress = |_: usize, _: usize| {
        bar.advance(1);
    };
    let options = SweepOptions {
        fitting,
        shuffles: args.shuffles,
        controls: args.controls,
        progress: Some(&progress),
        cancel: Some(interrupt::flag()),
    };
    let found = sweep(&data, positive, &splits, &encoded, &harvest, &options);
    bar.done();
    let found = found.map_err(told)?;
    if out.json {
        let report = Report {
            model: &model.name,
            fingerprint: model.fingerprint()?,
            data: &data.name,
            data_hash: &data.hash,
            sweep: &found,
        };
        out.json("candlescope.probe.sweep/1", &report)?;
        return Ok(Outcome::Done);
    }
    out.text(&show::sweep(&found, &data, out))?;
    Ok(Outcome::Done)
}
