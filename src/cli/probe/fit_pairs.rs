//! `probe fit --kind ccs`: a direction from pairs of a statement and its negation, found without their labels.

use candlescope_probes::Kind;

use super::fit::{Args, Calibrate, keep};
use super::input::told;
use crate::cli::{Outcome, failure::Usage, output::Out};
use crate::probing::file::{About, Calibrated, ProbeFile};
use crate::probing::pairs::fit_pairs;
use crate::probing::{Labelled, Position, Splits};

pub fn run(args: &Args, data: &Labelled, out: &Out) -> anyhow::Result<Outcome> {
    let subject = &args.subject;
    let fitting = subject.fit.linear(Kind::Ccs)?;
    if args.calibrate == Some(Calibrate::Isotonic) {
        return Err(Usage::new(
            "--calibrate isotonic: what is found on pairs has too few of them for steps",
            "leave it out for the sigmoid",
        )
        .into());
    }
    let positive = data.positive(subject.data.positive.as_deref())?;
    let splits = Splits::of(data, positive, fitting.seed)?;
    let model = subject.model.open(out)?;
    let positions = subject.positions(&[Position::FromEnd(1)]);
    let (_, harvest) = subject.harvest(&model, data, &positions, out)?;
    let labels = data.labels(positive);
    let found = fit_pairs(data, &labels, &splits, &harvest, &fitting).map_err(told)?;
    let rows = [&splits.train, &splits.validation, &splits.test];
    let file = ProbeFile {
        about: About {
            model: model.name.clone(),
            fingerprint: model.fingerprint()?.clone(),
            place: found.place,
            fitting,
            c: None,
            bias: found.probe.bias,
            calibrated: Calibrated {
                platt: found.platt,
                isotonic: None,
            },
            threshold: found.threshold,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: rows.map(Vec::len),
            positive: data.classes[positive].clone(),
            classes: data.classes.clone(),
            test: found.test,
            pairs: Some(found.pairs),
        },
        probe: found.probe,
    };
    keep(args, &file, out)
}
