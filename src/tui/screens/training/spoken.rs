//! The training screen without its drawing: in words, as a command line, as rows.
//!
//! Always: the rows are those of what is shown; numbers are whole, not rounded as on the screen.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::course::Course;
use super::metrics::{self, EVAL};
use super::{DEFAULT, Part, TrainingScreen, curves, view};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// What is under the cursor and around it.
pub(super) fn lines(screen: &TrainingScreen, _shared: &Shared) -> Vec<String> {
    let mut lines: Vec<String> = screen
        .trouble
        .iter()
        .map(|why| format!("failed: {why}"))
        .collect();
    let Some(run) = screen.run() else {
        lines.push(format!("no runs in {}", screen.root.display()));
        lines.push("`candlescope train sft -c run.toml --out runs/first` starts one".into());
        return lines;
    };
    lines.push(format!(
        "run {}: {}, {} on {}, step {} of {}",
        run.name(),
        run.state().word(),
        run.method,
        run.model,
        run.step,
        run.steps
    ));
    lines.push(view::words(run));
    if let Some(name) = screen.name(run) {
        lines.push(format!("{name}, {}", curves::at_cursor(screen, run, name)));
    }
    for name in metrics::names(run) {
        if let Some((step, value)) = run.series.get(name).and_then(|series| series.last) {
            lines.push(format!("{name} {} at step {step}", metrics::value(value)));
        }
    }
    let alerts = run
        .marks
        .iter()
        .filter(|m| m.kind == crate::train::log::Kind::Alert);
    lines.extend(alerts.map(|alert| format!("alert at step {}: {}", alert.step, alert.words)));
    lines
}

/// The command that shows the same.
pub(super) fn command(screen: &TrainingScreen) -> String {
    let path = |path: &Path| quoted(&path.to_string_lossy());
    match screen.run() {
        Some(run) if run.state().goes_on() => {
            format!("candlescope runs tail {} --follow", path(&run.path))
        }
        Some(run) => format!("candlescope runs show {}", path(&run.path)),
        None if screen.root == Path::new(DEFAULT) => "candlescope runs list".to_owned(),
        None => format!("candlescope runs list {}", path(&screen.root)),
    }
}

/// What is shown, as rows.
pub(super) fn data(screen: &TrainingScreen) -> Data {
    let Some(run) = screen.run() else {
        return of(&["run", "state", "method", "step", "steps"], Vec::new());
    };
    match screen.part {
        Part::Curves => curves(screen, run),
        Part::Samples => {
            let rows = screen.samples(run).into_iter().map(|one| {
                let score = one.score.map_or(Value::Null, number);
                vec![
                    json!(one.step),
                    score,
                    json!(one.label),
                    json!(one.prompt),
                    json!(one.completion),
                ]
            });
            of(
                &["step", "score", "label", "prompt", "completion"],
                rows.collect(),
            )
        }
        Part::Data => {
            let masked = screen.masked(run).and_then(|masked| masked.as_ref().ok());
            let rows = masked.into_iter().flatten().flat_map(|row| {
                let tokens = row.tokens.iter().flatten();
                tokens.map(|(token, target)| vec![json!(row.place), json!(token), json!(target)])
            });
            of(&["row", "token", "target"], rows.collect())
        }
        Part::Events => {
            let rows = screen
                .events(run)
                .into_iter()
                .map(|mark| vec![json!(mark.step), json!(mark.kind.name()), json!(mark.words)]);
            of(&["step", "kind", "words"], rows.collect())
        }
    }
}

/// The metric that is drawn, of both runs, in training and evaluation.
fn curves(screen: &TrainingScreen, run: &Course) -> Data {
    let mut rows = Vec::new();
    let runs = [Some(run), screen.other()].into_iter().flatten();
    if let Some(name) = screen.name(run) {
        for run in runs {
            for name in [name.to_owned(), format!("{EVAL}{name}")] {
                for (step, value) in run
                    .series
                    .get(&name)
                    .into_iter()
                    .flat_map(super::course::Series::all)
                {
                    rows.push(vec![
                        json!(run.name()),
                        json!(name),
                        json!(step),
                        number(value),
                    ]);
                }
            }
        }
    }
    of(&["run", "metric", "step", "value"], rows)
}

fn number(value: f64) -> Value {
    crate::train::log::number(value)
}

fn of(headers: &[&str], rows: Vec<Vec<Value>>) -> Data {
    let object = |row: &Vec<Value>| {
        let named = headers.iter().zip(row);
        let fields = named.map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    let json = json!({
        "schema": "candlescope.training/1",
        "rows": rows.iter().map(object).collect::<Vec<_>>(),
    });
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Data {
        headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows
            .into_iter()
            .map(|row| row.into_iter().map(text).collect())
            .collect(),
        json,
    }
}
