//! `probe fit --kind attention`: a probe that weighs the content's tokens itself, beside the plain mean over them.

use serde::Serialize;

use super::fit::Args;
use super::input::told;
use super::{show, show_kinds};
use crate::cli::{Outcome, failure::Usage, interrupt, output::Out};
use crate::probing::pooled::{PooledAbout, PooledFile, fit_pooled, save_pooled};
use crate::probing::{Labelled, Parts, Plan, Position, Splits, encode};
use candlescope_probes::Kind;

/// Shuffles of the training labels.
const SHUFFLES: usize = 10;

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    #[serde(flatten)]
    about: &'a PooledAbout,
}

pub fn run(args: &Args, data: &Labelled, out: &Out) -> anyhow::Result<Outcome> {
    let subject = &args.subject;
    let fitting = subject.fit.linear(Kind::Logistic)?;
    let positive = data.positive(subject.data.positive.as_deref())?;
    let splits = Splits::of(data, positive, fitting.seed)?;
    let [position @ (Position::Content | Position::Mean)] =
        subject.positions(&[Position::Content])[..]
    else {
        return Err(Usage::new(
            "--kind attention pools the tokens of one stretch",
            "--positions content (the default), or mean for all tokens",
        )
        .into());
    };
    let model = subject.model.open(out)?;
    let plan = Plan::new(&subject.points(), &[position], model.config())?;
    let encoded = encode(&model, &data.rows)?;
    let tokens = subject.read.tokens(&model, &encoded, &plan, out)?;
    let labels = data.labels(positive);
    let parts = Parts::of(&splits, &labels, &fitting)?;
    let cancel = Some(interrupt::flag());
    let found = fit_pooled(&tokens, &labels, &parts, &fitting, SHUFFLES, cancel);
    let mut found = found.map_err(told)?;
    let of = |rows: &[usize]| rows.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
    let truth = of(&parts.validation);
    let calibrated = args.calibrated(found.platt, &found.on_validation, &truth)?;
    calibrated.judge(&mut found.test, &found.on_test, &of(&parts.test))?;
    let file = PooledFile {
        about: PooledAbout {
            model: model.name.clone(),
            fingerprint: model.fingerprint()?.clone(),
            place: found.place,
            fitting,
            c: found.probe.c,
            bias: found.probe.bias,
            calibrated,
            threshold: found.threshold,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: [parts.train.len(), parts.validation.len(), parts.test.len()],
            positive: data.classes[positive].clone(),
            validation: found.validation,
            test: found.test,
            controls: found.controls,
        },
        probe: found.probe,
    };
    save_pooled(&args.out, &file)?;
    let about = &file.about;
    if out.json {
        let report = Report {
            file: args.out.display().to_string(),
            about,
        };
        out.json("candlescope.probe.attention/1", &report)?;
        return Ok(Outcome::Done);
    }
    out.line(&format!(
        "{}: attention-pooled probe at {}, `{}` scores high, C = {:.0e}; {} training rows",
        args.out.display(),
        about.place,
        about.positive,
        about.c,
        about.n[0]
    ))?;
    out.text(&show::held_out(&about.test, "its test rows"))?;
    out.text(&show_kinds::pooled_controls(&about.controls))?;
    Ok(Outcome::Done)
}
