//! How probes are shown: a sweep's choice and what it beats, its table and heat map; metrics, matrices, transfers.

use std::fmt::Write as _;

use candlescope_probes::{Auroc, Interval};

use super::transfer::CarriedAt;
use crate::cli::output::Out;
use crate::hooks::HookPoint;
use crate::probing::transfer::Matrix;
use crate::probing::{CellResult, HeldOut, Labelled, Position, Sweep};

/// The whole text of a sweep.
pub fn sweep(sweep: &Sweep, data: &Labelled, out: &Out) -> String {
    let mut text = String::new();
    let cell = &sweep.cells[sweep.chosen];
    let [train, validation, test] = sweep.n;
    let _ = writeln!(
        text,
        "{} ({}), `{}` against the rest: {train} training, {validation} validation, {test} test rows; {} probes, C {}",
        data.name,
        data.counts(),
        sweep.positive,
        sweep.fitting.kind.name(),
        match sweep.fitting.c {
            _ if !sweep.fitting.kind.has_penalty() => "not used".to_owned(),
            Some(c) => format!("= {c}"),
            None => format!("by {}-fold cross-validation", sweep.fitting.folds),
        }
    );
    if sweep.near_repeats_across > 0 {
        let _ = writeln!(
            text,
            "note: {} pairs of rows in different splits have most of their words in common",
            sweep.near_repeats_across
        );
    }
    text.push('\n');
    text += &table(sweep, cell.place.position, out);
    text.push('\n');
    text += &heat(sweep, out);
    text.push('\n');
    text += &summary(sweep, cell);
    text
}

fn summary(sweep: &Sweep, cell: &CellResult) -> String {
    let mut text = format!(
        "chosen on validation: {} (AUROC {})\n  on test: AUROC {}, balanced accuracy {:.3} {}, recall {} at {} FPR{}\n",
        cell.place,
        area(&cell.validation),
        area(&cell.test.auroc),
        cell.test.balanced_accuracy.value,
        interval(&cell.test.balanced_accuracy.interval),
        rate(&cell.test.recall_at_fpr.recall),
        percent(sweep.fitting.fpr),
        if cell.test.recall_at_fpr.resolved {
            ""
        } else {
            " (too few negatives to tell this rate from 0)"
        },
    );
    if let Some(frozen) = &cell.test.frozen {
        let _ = writeln!(
            text,
            "  threshold from validation: recall {} at a false-positive rate of {}",
            rate(&frozen.recall),
            rate(&frozen.false_positives)
        );
    }
    if let Some(null) = &sweep.choice_null {
        let _ = writeln!(
            text,
            "  the same choice on {} shuffled labels: AUROC {:.3} ± {:.3}, p = {:.3}",
            null.draws, null.mean, null.sd, null.p_upper
        );
    }
    let control = match cell.control {
        Some(control) => format!(
            "AUROC {control:.3} on them (types: {})",
            sweep.control_types
        ),
        None => sweep.control_types.clone(),
    };
    let _ = writeln!(text, "  control tasks: {control}");
    for baseline in &sweep.baselines {
        if baseline.position.is_none_or(|p| p == cell.place.position) {
            let _ = writeln!(text, "  {}: AUROC {}", baseline.name, area(&baseline.auroc));
        }
    }
    let over = &sweep.over_bag_of_words;
    let _ = writeln!(
        text,
        "  over the bag of words: {:+.3} {}, paired DeLong p = {:.2e}",
        over.difference,
        interval(&over.interval),
        over.p_value
    );
    text
}

/// The cells of one position.
fn table(sweep: &Sweep, position: Position, out: &Out) -> String {
    let head = [
        "point",
        "C",
        "validation",
        "test AUROC",
        "",
        "bal. acc",
        "recall",
        "",
        "ECE",
        "shuffled 95 %",
        "control",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for (i, cell) in sweep.cells.iter().enumerate() {
        if cell.place.position != position {
            continue;
        }
        let null = cell.null.as_ref().map_or_else(String::new, |n| {
            let at = |p: f64| {
                n.quantiles
                    .iter()
                    .find(|q| q.0 == p)
                    .map_or(f64::NAN, |q| q.1)
            };
            format!("{:.2}-{:.2}", at(0.025), at(0.975))
        });
        let mark = if i == sweep.chosen { "*" } else { "" };
        rows.push([
            format!("{}{mark}", cell.place.point),
            cell.c.map_or_else(String::new, |c| format!("{c:.0e}")),
            format!("{:.3}", cell.validation.value),
            format!("{:.3}", cell.test.auroc.value),
            interval(&cell.test.auroc.interval),
            format!("{:.3}", cell.test.balanced_accuracy.value),
            format!("{:.2}", cell.test.recall_at_fpr.recall.rate),
            interval(&cell.test.recall_at_fpr.recall.interval),
            cell.test
                .calibration
                .map_or_else(String::new, |c| format!("{:.3}", c.ece)),
            null,
            cell.control.map_or_else(String::new, |c| format!("{c:.3}")),
        ]);
    }
    let mut text = format!(
        "position {position}; recall at {} false positives; * chosen on validation; shuffled and control at C = {}\n",
        percent(sweep.fitting.fpr),
        sweep.fitting.null_c
    );
    text += &lines(&rows, out);
    text
}

/// Test AUROC of every cell, points down, positions across.
fn heat(sweep: &Sweep, out: &Out) -> String {
    let (mut points, mut positions): (Vec<HookPoint>, Vec<Position>) = (Vec::new(), Vec::new());
    for cell in &sweep.cells {
        if !points.contains(&cell.place.point) {
            points.push(cell.place.point);
        }
        if !positions.contains(&cell.place.position) {
            positions.push(cell.place.position);
        }
    }
    let wide = points
        .iter()
        .map(|p| p.to_string().len())
        .max()
        .unwrap_or(0);
    let across = positions
        .iter()
        .map(|p| p.to_string().len())
        .max()
        .unwrap_or(0)
        .max(7);
    let mut text = format!("test AUROC\n{:wide$}", "");
    for position in &positions {
        let _ = write!(text, "  {:<across$}", position.to_string());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for point in &points {
        let _ = write!(text, "{:wide$}", point.to_string());
        for position in &positions {
            let found = sweep
                .cells
                .iter()
                .find(|c| c.place.point == *point && c.place.position == *position);
            let shown = found.map_or_else(String::new, |c| {
                let value = c.test.auroc.value;
                let cell = format!("{} {value:.3}", shade(value));
                out.paint(colour(value), &format!("{cell:<across$}"))
            });
            let _ = write!(text, "  {shown}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A block for an AUROC, from light (chance) to full.
fn shade(value: f64) -> char {
    let level = ((value - 0.5) * 10.0).floor().clamp(0.0, 4.0) as usize;
    [' ', '░', '▒', '▓', '█'][level]
}

fn colour(value: f64) -> &'static str {
    match value {
        v if v < 0.6 => "2",
        v if v < 0.9 => "0",
        _ => "1",
    }
}

/// Columns in line, the header bold.
fn lines<const N: usize>(rows: &[[String; N]], out: &Out) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        text += &if i == 0 {
            out.paint("1", line)
        } else {
            line.to_owned()
        };
        text.push('\n');
    }
    text
}

/// `0.953 [0.92, 0.97]`.
pub fn area(auroc: &Auroc) -> String {
    format!("{:.3} {}", auroc.value, interval(&auroc.interval))
}

fn rate(p: &candlescope_probes::Proportion) -> String {
    format!("{:.2} {}", p.rate, interval(&p.interval))
}

/// `[0.92, 0.97]`.
pub fn interval(interval: &Interval) -> String {
    format!("[{:.2}, {:.2}]", interval.low, interval.high)
}

fn percent(share: f64) -> String {
    format!("{} %", share * 100.0)
}

/// The metrics of one probe.
pub fn held_out(found: &HeldOut, what: &str) -> String {
    let mut text = format!(
        "on {what}: AUROC {}, balanced accuracy {:.3} {}\n  recall {} at {} false positives{}\n",
        area(&found.auroc),
        found.balanced_accuracy.value,
        interval(&found.balanced_accuracy.interval),
        rate(&found.recall_at_fpr.recall),
        percent(found.recall_at_fpr.target),
        if found.recall_at_fpr.resolved {
            ""
        } else {
            " (too few negatives to tell this rate from 0)"
        },
    );
    if let Some(frozen) = &found.frozen {
        let _ = writeln!(
            text,
            "  at its own threshold: recall {}, false-positive rate {}",
            rate(&frozen.recall),
            rate(&frozen.false_positives)
        );
    }
    if let Some(calibration) = &found.calibration {
        let _ = writeln!(
            text,
            "  calibration error {:.3} over {} bins, Brier score {:.3}",
            calibration.ece, calibration.bins, calibration.brier
        );
    }
    text
}

/// Probe of the row on the test rows of the column.
pub fn matrix(found: &Matrix, out: &Out) -> String {
    let first = found.from.iter().map(String::len).max().unwrap_or(0).max(5);
    let wide = found.to.iter().map(String::len).max().unwrap_or(0).max(7);
    let mut head = format!("{:first$}", "AUROC");
    for to in &found.to {
        let _ = write!(head, "  {to:<wide$}");
    }
    let mut text = format!(
        "probe of the row, fitted there, on the test rows of the column\n{}\n",
        out.paint("1", head.trim_end())
    );
    for (from, row) in found.from.iter().zip(&found.auroc) {
        let mut line = format!("{from:first$}");
        for cell in row {
            let shown = format!("{} {:.3}", shade(cell.value), cell.value);
            let _ = write!(line, "  {shown:<wide$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Probes of one checkpoint on another.
pub fn carried(from: &str, to: &str, carried: &[CarriedAt], out: &Out) -> String {
    let head = [
        "place",
        "frozen",
        "",
        "re-aligned",
        "",
        "refitted",
        "",
        "gap",
        "",
        "p",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for CarriedAt { place, carried: c } in carried {
        rows.push([
            place.to_string(),
            format!("{:.3}", c.frozen.value),
            interval(&c.frozen.interval),
            format!("{:.3}", c.realigned.value),
            interval(&c.realigned.interval),
            format!("{:.3}", c.refitted.value),
            interval(&c.refitted.interval),
            format!("{:+.3}", c.gap.difference),
            interval(&c.gap.interval),
            format!("{:.3}", c.gap.p_value),
        ]);
    }
    format!(
        "probes of {from} on {to}; gap: refitted minus re-aligned (paired DeLong)\n{}",
        lines(&rows, out)
    )
}
