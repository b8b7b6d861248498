//! What the probes screen gives to the clipboard, to files and to a dialogue in lines.

use super::detail::numbers;
use super::work::{C, CONTROLS, POINTS, ROWS, SHUFFLES, SUITES};
use super::{ProbesScreen, wrong};
use crate::tui::screen::Data;
use crate::tui::shared::{Shared, quoted};

/// Examples that are said.
const SAID: usize = 5;

/// The sweep, or the transfer between the layers of a point.
pub(super) fn command_line(screen: &ProbesScreen, shared: &Shared) -> Option<String> {
    let name = quoted(&shared.model.facts()?.name);
    let suites = SUITES.join(",");
    let rows = ROWS.map(|n| n.to_string()).join(", ");
    let remark = format!("# all rows of the suites; the screen reads {rows} of each class");
    if screen.carried {
        let points = screen.swept.as_ref().map(|s| &s.points[..]);
        let point = points.unwrap_or(&POINTS).get(screen.column())?.info().name;
        return Some(format!(
            "candlescope probe transfer {name} --set {suites} --points {} --c {C} {remark}",
            quoted(&format!("{point}.*"))
        ));
    }
    let points = POINTS.iter().fold(String::new(), |line, point| {
        let all = quoted(&format!("{}.*", point.info().name));
        line + " --points " + &all
    });
    Some(format!(
        "candlescope probe sweep {name} --suites {suites}{points} --positions last --c {C} --shuffles {SHUFFLES} --controls {CONTROLS} {remark}"
    ))
}

/// A row for each probe.
pub(super) fn data(screen: &ProbesScreen, _shared: &Shared) -> Option<Data> {
    let swept = screen.swept.as_ref()?;
    let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
    let row = |cell: &super::Cell| {
        vec![
            cell.point.point.info().name.to_owned(),
            cell.point.layer.to_string(),
            cell.test.value.to_string(),
            cell.test.interval.low.to_string(),
            cell.test.interval.high.to_string(),
            cell.validation.to_string(),
            cell.balanced.to_string(),
            number(cell.shuffled.map(|s| s.0)),
            number(cell.control),
            number(cell.selectivity),
        ]
    };
    let json: Vec<serde_json::Value> = swept
        .cells
        .iter()
        .map(|cell| {
            serde_json::json!({
                "point": cell.point.to_string(),
                "test": cell.test,
                "validation": cell.validation,
                "balanced_accuracy": cell.balanced,
                "shuffled": cell.shuffled.map(|s| s.0),
                "control": cell.control,
                "selectivity": cell.selectivity,
            })
        })
        .collect();
    let points: Vec<&str> = swept.points.iter().map(|p| p.info().name).collect();
    Some(Data {
        headers: [
            "point",
            "layer",
            "test_auroc",
            "low",
            "high",
            "validation_auroc",
            "balanced_accuracy",
            "shuffled_auroc",
            "control_auroc",
            "selectivity",
        ]
        .map(String::from)
        .into(),
        rows: swept.cells.iter().map(row).collect(),
        json: serde_json::json!({
            "schema": "candlescope.probes/1",
            "positive": swept.positive,
            "n": swept.n,
            "chosen": swept.cells.get(swept.chosen).map(|cell| cell.point.to_string()),
            "bag_of_words": swept.words,
            "control_tasks": swept.types,
            "cells": json,
            "transfer": {"points": points, "auroc": swept.transfer},
        }),
    })
}

/// The probe under the cursor in words.
pub(super) fn spoken(screen: &ProbesScreen, shared: &Shared) -> Vec<String> {
    let mut lines = Vec::new();
    if screen.pending.job.is_some() {
        lines.push("probes are being fitted".to_owned());
    }
    if let Some(why) = &screen.pending.failed {
        lines.push(format!("failed: {why}"));
    }
    let (Some(swept), Some(cell)) = (&screen.swept, screen.here(shared)) else {
        lines.push("no probe was fitted yet; r fits them".into());
        return lines;
    };
    lines.push(format!(
        "probe at {}, {} or not",
        cell.point, swept.positive
    ));
    let said = numbers(swept, cell).map(|(name, text)| format!("{name}: {text}"));
    lines.extend(said);
    if let Some(strip) = &screen.strip {
        let old = Some((strip.version, strip.point)) != screen.wanted(shared);
        let old = if old { " before the last change" } else { "" };
        let last = strip.scores.last().copied().unwrap_or(f64::NAN);
        lines.push(format!("score of the prompt{old}, last token: {last:+.2}"));
    }
    if screen.carried {
        let row = swept.transfer.get(screen.column());
        let row = row.and_then(|matrix| matrix.get(screen.layer(shared)));
        let values: Vec<String> = (row.into_iter().flatten())
            .map(|auroc| format!("{auroc:.2}"))
            .collect();
        lines.push(format!("this probe on each layer: {}", values.join(" ")));
        return lines;
    }
    let all = screen.examples(shared);
    let at = screen.example.min(all.len().saturating_sub(1));
    for (i, (score, row)) in all.iter().enumerate().skip(at).take(SAID) {
        let side = if wrong(*score, row) { ", wrong" } else { "" };
        let label = if row.positive { "harmful" } else { "harmless" };
        lines.push(format!(
            "example {} of {}: {score:+.2}, {label}{side}, {}",
            i + 1,
            all.len(),
            row.text
        ));
    }
    lines
}
