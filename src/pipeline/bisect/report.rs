//! The files of a search: what was found, every ranked row as JSON and CSV, the ROC curves as points and as a drawing.
//!
//! Always: a file is written whole; the drawing carries its own style, so that it can be shown by itself.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::{BisectError, Found, Guilty, Ranked, Ranking};
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::report::draw;
use crate::files::write::write_atomic;
use crate::pipeline::PipelineError;

/// What was found.
const FOUND: &str = "bisect.json";
/// Every row.
const RANKING: &str = "ranking.json";
/// The same as a table.
const TABLE: &str = "ranking.csv";
/// The curves.
const ROC: &str = "roc.json";
/// The curves drawn.
const DRAWN: &str = "roc.svg";
/// The layout of the JSON files.
const SCHEMA: &str = "candlescope.bisect/1";

/// Colours and strokes of the drawing, which in a page come from the page.
const STYLE: &str = "<style>text{font:12px sans-serif;fill:#444}line,path{stroke:#ccc;fill:none}.curve{stroke-width:2}\
.curve.s0{stroke:#2f6f9f}.curve.s1{stroke:#b5651d;stroke-dasharray:6 3}.curve.s2{stroke:#4c8c4a;stroke-dasharray:2 3}\
.curve.s3{stroke:#999;stroke-dasharray:1 4}.point{fill:none}</style>";

#[derive(Serialize)]
struct Marked<'a, T: Serialize> {
    schema: &'static str,
    #[serde(flatten)]
    content: &'a T,
}

/// Writes all of them; those of an earlier search that are not written again go.
pub(super) fn write(scratch: &Path, found: &Found) -> Result<(), BisectError> {
    for name in [RANKING, TABLE, ROC, DRAWN] {
        let path = scratch.join(name);
        if path.exists() {
            std::fs::remove_file(&path).map_err(PipelineError::io(&path, "remove"))?;
        }
    }
    if let Some(ranking) = &found.ranking {
        json(scratch, RANKING, ranking)?;
        write_atomic(&scratch.join(TABLE), table(ranking).as_bytes())?;
        if let Some(guilty) = &ranking.guilty {
            json(scratch, ROC, guilty)?;
            write_atomic(&scratch.join(DRAWN), drawing(guilty).as_bytes())?;
        }
    }
    json(scratch, FOUND, found)
}

fn json<T: Serialize>(scratch: &Path, name: &'static str, content: &T) -> Result<(), BisectError> {
    let marked = Marked {
        schema: SCHEMA,
        content,
    };
    let text = serde_json::to_string_pretty(&marked)
        .map_err(|source| BisectError::Json { what: name, source })?;
    Ok(write_atomic(
        &scratch.join(name),
        format!("{text}\n").as_bytes(),
    )?)
}

/// The rows as comma-separated values (RFC 4180).
fn table(ranking: &Ranking) -> String {
    let mut text =
        "rank,row,steps,push,cosine,gradient,loss,projection,guilty,prompt,answer\r\n".to_owned();
    for (at, row) in ranking.rows.iter().enumerate() {
        let Ranked {
            row: place,
            steps,
            push,
            cosine,
            gradient,
            loss,
            projection,
            prompt,
            answer,
            guilty,
        } = row;
        let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
        let projection = projection.map_or_else(String::new, |x| x.to_string());
        let guilty = guilty.map_or("", |guilty| if guilty { "1" } else { "0" });
        let _ = write!(
            text,
            "{},{},{},{push},{cosine},{gradient},{loss},{projection},{guilty},{},{}\r\n",
            at + 1,
            quoted(place),
            steps.join(" "),
            quoted(prompt),
            quoted(answer),
        );
    }
    text
}

/// A text as one field; one that a table would take for a formula begins with an apostrophe.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if formula { "'" } else { "" };
    format!("\"{mark}{}\"", text.replace('"', "\"\""))
}

/// The curves of all scores, with chance.
fn drawing(guilty: &Guilty) -> String {
    let mut series: Vec<Series> = guilty
        .scores
        .iter()
        .map(|score| Series {
            name: format!("{} {:.3}", score.score, score.auroc.value),
            points: score.roc.clone(),
            band: Vec::new(),
        })
        .collect();
    series.push(Series {
        name: "chance".to_owned(),
        points: vec![(0.0, 0.0), (1.0, 1.0)],
        band: Vec::new(),
    });
    let about = format!(
        "Share of the {} rows with {} found, against the share of the other rows that stand before them.",
        guilty.marked, guilty.mark
    );
    let chart = Chart::new(
        "Rows at fault by rank",
        &about,
        "share of the other rows",
        "share of the marked rows",
        Plot::Line { series },
    );
    let drawn = draw::chart(&chart);
    // In a page the drawing belongs to it; by itself it says what it is, and how it looks.
    let named = drawn.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    match named.find('>') {
        Some(end) => format!("{}{STYLE}{}\n", &named[..=end], &named[end + 1..]),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_one_field_and_no_formula() {
        assert_eq!(quoted("a \"b\", c\n"), "\"a \"\"b\"\", c\n\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
    }
}
