//! `probe fit --kind softmax`: one probe for all classes, with a table of which class is called which.

use serde::Serialize;

use super::fit::Args;
use super::input::told;
use super::show_kinds as show;
use crate::cli::{Outcome, interrupt, output::Out};
use crate::probing::class_file::{ClassAbout, ClassFile, save_classes};
use crate::probing::classes::{ClassFitting, fit_classes};
use crate::probing::{Labelled, Position, Splits};

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    #[serde(flatten)]
    about: &'a ClassAbout,
}

pub fn run(args: &Args, data: &Labelled, out: &Out) -> anyhow::Result<Outcome> {
    args.no_calibration("softmax")?;
    let subject = &args.subject;
    let fitting = ClassFitting {
        c: subject.fit.c,
        seed: subject.fit.seed,
        ..ClassFitting::default()
    };
    let splits = Splits::of_classes(data, fitting.seed)?;
    let model = subject.model.open(out)?;
    let positions = subject.positions(&[Position::FromEnd(1)]);
    let (encoded, harvest) = subject.harvest(&model, data, &positions, out)?;
    let cancel = Some(interrupt::flag());
    let found = fit_classes(data, &splits, &encoded, &harvest, &fitting, cancel);
    let found = found.map_err(told)?;
    let file = ClassFile {
        about: ClassAbout {
            model: model.name.clone(),
            fingerprint: model.fingerprint()?.clone(),
            place: found.place,
            fitting,
            c: found.probe.c,
            data: data.name.clone(),
            data_hash: data.hash.clone(),
            n: found.n,
            classes: data.classes.clone(),
            validation: found.validation,
            test: found.test,
            controls: found.controls,
        },
        probe: found.probe,
    };
    save_classes(&args.out, &file)?;
    let about = &file.about;
    if out.json {
        let report = Report {
            file: args.out.display().to_string(),
            about,
        };
        out.json("candlescope.probe.classes/1", &report)?;
        return Ok(Outcome::Done);
    }
    out.line(&format!(
        "{}: softmax probe of {} classes at {}, C = {:.0e}; {} training rows",
        args.out.display(),
        about.classes.len(),
        about.place,
        about.c,
        about.n[0]
    ))?;
    out.text(&show::classified(&about.test, "its test rows", out))?;
    out.text(&show::class_controls(&about.controls))?;
    Ok(Outcome::Done)
}
