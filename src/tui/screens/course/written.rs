//! The course in words, as a command line and as rows: a row for each cell that was asked.

use serde_json::{Value, json};

use super::CourseScreen;
use super::view::cell_words;
use crate::tui::screen::Data;
use crate::tui::screens::run;
use crate::tui::shared::{Shared, quoted};
use crate::tui::theme::Theme;

pub(super) fn spoken(screen: &CourseScreen, shared: &Shared) -> Vec<String> {
    if screen.reason.typing {
        return vec!["the reason of a waiver is typed".to_owned()];
    }
    if let Some(line) = run::spoken(shared, "audits") {
        return vec![line];
    }
    if let Some(why) = screen.trouble() {
        return vec![why.to_owned()];
    }
    let Some(audits) = screen.audits() else {
        return vec!["the audits are being read".to_owned()];
    };
    let mut lines = vec![format!(
        "{} audits, {} signals",
        audits.course.checkpoints.len(),
        audits.course.signals.len()
    )];
    if let Some((checkpoint, _)) = screen.place() {
        let (left, waived) = screen.left(checkpoint);
        let waived = match waived {
            0 => String::new(),
            n => format!(", {n} waived, as it was {}", checkpoint.verdict.word()),
        };
        lines.push(format!(
            "checkpoint {} step {}: {}{waived}",
            checkpoint.stage,
            checkpoint.step,
            left.word()
        ));
    }
    // Marks are for eyes; the words beside them say the same.
    let words = cell_words(
        screen,
        Theme {
            ascii: true,
            ..Theme::no_colour()
        },
    );
    lines.push(words.title);
    lines.extend(words.lines.into_iter().map(|(text, _)| text));
    lines
}

/// The same as a table of the command line.
pub(super) fn command_line(screen: &CourseScreen) -> Option<String> {
    let root = quoted(&screen.run.as_ref()?.root.display().to_string());
    let audits = screen.audits()?;
    let signal = screen.place().map_or_else(String::new, |(_, signal)| {
        format!(
            "; candlescope audit compare {root} --signal {}",
            audits.course.signals[signal]
        )
    });
    Some(format!("candlescope audit compare {root}{signal}"))
}

const HEADERS: [&str; 13] = [
    "stage",
    "step",
    "checkpoint_verdict",
    "signal",
    "verdict",
    "quantity",
    "value",
    "unit",
    "low",
    "high",
    "reason",
    "waived",
    "waived_by",
];

pub(super) fn data(screen: &CourseScreen) -> Option<Data> {
    let audits = screen.audits()?;
    let shown = screen.shown();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for checkpoint in &audits.course.checkpoints {
        for signal in &shown {
            let Some(cell) = &checkpoint.cells[*signal] else {
                continue;
            };
            let value = cell.value.as_ref();
            let ends = value.and_then(|value| value.interval.as_ref());
            let waiver = screen.waiver(checkpoint, *signal);
            let (left, _) = screen.left(checkpoint);
            rows.push(vec![
                json!(checkpoint.stage),
                json!(checkpoint.step),
                json!(left.word()),
                json!(audits.course.signals[*signal]),
                json!(cell.verdict.word()),
                json!(value.map(|value| &value.name)),
                json!(value.and_then(|value| value.value)),
                json!(value.map(|value| &value.unit)),
                json!(ends.map(|ends| ends.low)),
                json!(ends.map(|ends| ends.high)),
                json!(cell.reason),
                json!(waiver.map(|waiver| &waiver.reason)),
                json!(waiver.and_then(|waiver| waiver.author.as_ref())),
            ]);
        }
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let object = |row: &Vec<Value>| {
        let fields = HEADERS.iter().zip(row);
        let fields = fields.map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(fields.collect())
    };
    Some(Data {
        headers: HEADERS.map(String::from).into(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(text).collect())
            .collect(),
        json: json!({
            "schema": "candlescope.course/1",
            "cells": rows.iter().map(object).collect::<Vec<_>>(),
        }),
    })
}
