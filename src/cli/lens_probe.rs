//! `lens --show probe`: a probe's score at every token, at its own layer or along all of them.

use std::path::Path;

use serde::Serialize;

use super::{Outcome, lens, output::Out};
use crate::{
    hooks::Edit,
    lens::{LensRow, Positions, StreamOptions, grid::Grid, stream_lens},
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

#[derive(Serialize)]
struct Layers<'a> {
    model: &'a str,
    probe: String,
    place: String,
    positive: &'a str,
    points: Vec<String>,
    positions: &'a [usize],
    tokens: Vec<String>,
    /// `[point][position]`
    scores: &'a [Vec<f64>],
}

/// A probe that reads this model.
pub fn load(file: &Path, model: &Checkpoint, foreign: bool) -> anyhow::Result<ProbeFile> {
    let probe = probing::file::load(file)?;
    probe.fits(file, model, foreign)?;
    Ok(probe)
}

/// Scores the stream at these layers and positions with the probe's weights and shows them.
pub fn layers(
    model: &Checkpoint,
    (file, probe): (&Path, &ProbeFile),
    (ids, positions): (&[u32], Positions),
    (rows, edits): (Vec<LensRow>, &[Edit]),
    out: &Out,
) -> anyhow::Result<Outcome> {
    probe.in_stream()?;
    let weights = &probe.probe.weights;
    let length = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    let options = StreamOptions {
        positions,
        rows,
        direction: Some(weights.iter().map(|&w| w as f32).collect()),
    };
    let lens = stream_lens(&model.decoder, ids, &options, edits)?;
    let dots = lens.projections.as_ref().map_or(&[][..], |p| &p.dots[..]);
    let score = |dot: &f64| length * dot + probe.probe.bias;
    let scores: Vec<Vec<f64>> = (dots.iter())
        .map(|row| row.iter().map(score).collect())
        .collect();
    let about = &probe.about;
    if out.json {
        let report = Layers {
            model: &model.name,
            probe: file.display().to_string(),
            place: about.place.to_string(),
            positive: &about.positive,
            points: lens.rows.iter().map(|r| r.point().to_string()).collect(),
            positions: &lens.positions,
            tokens: (lens.tokens.iter())
                .map(|&id| model.tokenizer.token(id))
                .collect(),
            scores: &scores,
        };
        out.json("candlescope.lens.probe_layers/1", &report)?;
        return Ok(Outcome::Done);
    }
    let heading = |(p, &id): (&usize, &u32)| format!("{p}:{}", lens::label(model, id));
    let headings = lens.positions.iter().zip(&lens.tokens).map(heading);
    let mut grid = Grid::new("layer", headings);
    for (row, scores) in lens.rows.iter().zip(&scores) {
        let cells = scores.iter().map(|s| format!("{s:.2}")).collect();
        grid.row(row.label(), cells);
    }
    out.line(&format!(
        "probe for `{}`, fitted on {}; the same weights on the stream after each layer, called above {:.2} there only",
        about.positive, about.place, about.threshold
    ))?;
    out.text(&grid.draw(super::output::width()))?;
    Ok(Outcome::Done)
}

/// Scores the tokens at these positions and shows them.
pub fn run(
    model: &Checkpoint,
    (file, probe): (&Path, &ProbeFile),
    (ids, positions): (&[u32], Positions),
    edits: &[Edit],
    out: &Out,
) -> anyhow::Result<Outcome> {
    let scores = probing::token_scores(&model.decoder, ids, probe, edits)?;
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
        show(model, probe, ids, &lines, out)?;
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
