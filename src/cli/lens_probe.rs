//! `lens --show probe`: a probe's score at every token, where it was fitted and elsewhere.

use std::path::Path;

use serde::Serialize;

use super::{Outcome, lens, output::Out};
use crate::{
    hooks::Edit,
    lens::{Positions, grid::Grid},
    model::Checkpoint,
    probing::{self, file::ProbeFile},
};

/// One token's line.
#[derive(Serialize)]
struct Line {
    position: usize,
    token: String,
    score: f64,
    /// Of the positive class; set where the probe was fitted, and only there more than a squashed score.
    probability: f64,
    /// Above the probe's own threshold.
    called: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    probe: String,
    place: String,
    positive: &'a str,
    threshold: f64,
    tokens: &'a [Line],
}

/// Scores the tokens at these positions and shows them.
pub fn run(
    model: &Checkpoint,
    (file, foreign): (&Path, bool),
    (ids, positions): (&[u32], Positions),
    edits: &[Edit],
    out: &Out,
) -> anyhow::Result<Outcome> {
    let probe = probing::file::load(file)?;
    probe.fits(file, model, foreign)?;
    let scores = probing::token_scores(&model.decoder, ids, &probe, edits)?;
    let lines: Vec<Line> = (positions.resolve(ids.len())?.into_iter())
        .map(|position| Line {
            position,
            token: model.tokenizer.token(ids[position]),
            score: scores[position],
            probability: probe.probability(scores[position]),
            called: scores[position] > probe.about.threshold,
        })
        .collect();
    if out.json {
        let report = Report {
            model: &model.name,
            probe: file.display().to_string(),
            place: probe.about.place.to_string(),
            positive: &probe.about.positive,
            threshold: probe.about.threshold,
            tokens: &lines,
        };
        out.json("candlescope.lens.probe/1", &report)?;
    } else {
        show(model, &probe, ids, &lines, out)?;
    }
    Ok(Outcome::Done)
}

fn show(
    model: &Checkpoint,
    probe: &ProbeFile,
    ids: &[u32],
    lines: &[Line],
    out: &Out,
) -> anyhow::Result<()> {
    let about = &probe.about;
    let mut grid = Grid::new("token", ["score", "probability", ""]);
    for line in lines {
        let label = format!(
            "{}:{}",
            line.position,
            lens::label(model, ids[line.position])
        );
        let called = if line.called { "called" } else { "" };
        let cells = vec![
            format!("{:.2}", line.score),
            format!("{:.3}", line.probability),
            called.to_owned(),
        ];
        grid.row(label, cells);
    }
    out.line(&format!(
        "probe for `{}`, fitted on {}; called above {:.2}, a threshold set at that position only",
        about.positive, about.place, about.threshold
    ))?;
    out.text(&grid.draw(super::output::width()))
}
