//! Hooks: every point of the open model with its definition, and what a pass over the prompt leaves there.
//!
//! State and keys here, drawing in `view.rs`.

mod view;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::hooks::{HookPoint, Hooks, POINTS, PointInfo};
use crate::model::{Batch, Checkpoint, LogitsAt};
use crate::tui::filter::{Filter, Listed, step};
use crate::tui::keys::{Binding, bind};
use crate::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::{Shared, quoted};
use crate::tui::work::Ticket;

const KEYS: &[Binding] = &[
    bind("j down", "down", "point", "The next point"),
    bind("k up", "up", "point", "The point before"),
    bind("l right", "deeper", "layer", "One layer deeper"),
    bind("h left", "shallower", "layer", "One layer back"),
    bind("g home", "first", "", "The first point"),
    bind("G end", "last", "", "The last point"),
    bind(
        "enter c",
        "capture",
        "look",
        "Run the prompt and show what passes this point",
    ),
];

/// What a pass left at a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Where.
    pub at: String,
    /// Of the captured tensor.
    pub shape: Vec<usize>,
    /// Over all finite entries.
    pub mean: f64,
    /// Standard deviation over all finite entries.
    pub deviation: f64,
    /// Smallest finite entry.
    pub low: f64,
    /// Largest finite entry.
    pub high: f64,
    /// Entries that are not finite; masked scores are.
    pub not_finite: usize,
    /// Euclidean norm at each position, where positions are the second axis.
    pub norms: Vec<f32>,
}

/// The screen.
#[derive(Default)]
pub struct HooksScreen {
    selected: usize,
    seen: Option<(u64, Seen)>,
    failed: Option<String>,
    filter: Filter,
}

/// A point with what the model says about it.
struct Row {
    info: &'static PointInfo,
    shape: String,
    missing: Option<&'static str>,
}

fn rows(shared: &Shared) -> Vec<Row> {
    let Some(facts) = shared.model.facts() else {
        return Vec::new();
    };
    let row = |info: &'static PointInfo| Row {
        info,
        shape: info.shape_text(&facts.config),
        missing: info.exists.missing(&facts.config),
    };
    POINTS.iter().map(row).collect()
}

/// The rows as text.
fn texts(shared: &Shared) -> Vec<String> {
    let text = |row: Row| {
        let why = row.missing.unwrap_or_default();
        let (name, alias) = (row.info.name, row.info.alias);
        format!("{name} {} {why} {} {alias}", row.shape, row.info.definition)
    };
    rows(shared).into_iter().map(text).collect()
}

impl HooksScreen {
    /// The points that the filter leaves, by number.
    fn left(&self, shared: &Shared) -> Vec<usize> {
        if self.filter.is_empty() {
            return (0..rows(shared).len()).collect();
        }
        self.filter.left(texts(shared))
    }

    fn at(&self, shared: &Shared) -> HookPoint {
        let info = &POINTS[self.selected.min(POINTS.len() - 1)];
        HookPoint::new(info.point, if info.per_layer { shared.layer } else { 0 })
    }

    fn capture(&mut self, cx: &mut Context) {
        self.failed = None;
        let (at, edits, version) = (self.at(cx.shared), cx.shared.edits(), cx.shared.version());
        let ids: Vec<u32> = cx.shared.tokens.iter().map(|token| token.id).collect();
        cx.ask(&format!("capture {at}"), move |checkpoint, _: &Ticket| {
            seen(checkpoint, &ids, at, edits).map(|seen| (version, seen))
        });
    }
}

/// Runs the prompt up to the point.
fn seen(
    checkpoint: &Checkpoint,
    ids: &[u32],
    at: HookPoint,
    edits: Vec<crate::hooks::Edit>,
) -> Result<Seen, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let batch = Batch::single(ids).map_err(|e| words(&e))?;
    let hooks = Hooks::new().edits(edits).capture(at);
    let output = checkpoint
        .decoder
        .forward(&batch, &hooks, LogitsAt::None)
        .map_err(|e| words(&e))?;
    let tensor = output
        .captured
        .get(&at)
        .ok_or_else(|| format!("the pass did not reach {at}"))?;
    let values: Vec<f32> = tensor
        .flatten_all()
        .and_then(|t| t.to_dtype(candle_core::DType::F32)?.to_vec1())
        .map_err(|e| words(&e))?;
    let finite: Vec<f64> = values
        .iter()
        .filter(|v| v.is_finite())
        .map(|&v| f64::from(v))
        .collect();
    let n = finite.len().max(1) as f64;
    let mean = finite.iter().sum::<f64>() / n;
    let shape = tensor.dims().to_vec();
    let positions = if shape.get(1) == Some(&ids.len()) {
        ids.len()
    } else {
        0
    };
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    Ok(Seen {
        at: at.to_string(),
        mean,
        deviation: (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt(),
        low: finite.iter().copied().fold(f64::INFINITY, f64::min),
        high: finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        not_finite: values.len() - finite.len(),
        norms: match values.len().checked_div(positions) {
            Some(width @ 1..) => values.chunks(width).map(norm).collect(),
            _ => Vec::new(),
        },
        shape,
    })
}

impl Screen for HooksScreen {
    fn id(&self) -> &'static str {
        "hooks"
    }

    fn about(&self) -> &'static str {
        "Every point of the forward pass where you may look and touch, and what passes there"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let Some(facts) = shared.model.facts() else {
            return Err("no model is open; `:open NAME` opens one".into());
        };
        let info = &POINTS[self.selected.min(POINTS.len() - 1)];
        match action {
            "capture" => match info.exists.missing(&facts.config) {
                Some(why) => Err(format!("this model has no {}: {why}", info.name)),
                None if shared.tokens.is_empty() => Err("the prompt is empty".into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        let left = self.left(cx.shared);
        match action {
            "down" => self.selected = step(&left, self.selected, 1),
            "up" => self.selected = step(&left, self.selected, -1),
            "first" => self.selected = left.first().copied().unwrap_or(self.selected),
            "last" => self.selected = left.last().copied().unwrap_or(self.selected),
            "deeper" => cx.shared.layer = (cx.shared.layer + 1).min(cx.shared.layers() - 1),
            "shallower" => cx.shared.layer = cx.shared.layer.saturating_sub(1),
            "capture" => self.capture(cx),
            _ => {}
        }
    }

    fn click(&mut self, _what: u16, _column: usize, row: usize, _cx: &mut Context) {
        self.selected = row.min(POINTS.len() - 1);
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, _cx: &mut Context) {}

    fn reply(&mut self, reply: Reply, _cx: &mut Context) {
        match reply {
            Reply::Done(value) => {
                self.seen = value.downcast::<(u64, Seen)>().ok().map(|seen| *seen);
            }
            Reply::Failed(why) => self.failed = Some(why),
            Reply::Part(_) | Reply::Cancelled => {}
        }
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        shared.model.facts().map(|_| Listed {
            name: "points",
            rows: texts(shared),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        self.filter = filter.clone();
        self.selected = step(&self.left(cx.shared), self.selected, 0);
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        self.failed.take().is_some()
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        let rows = rows(shared);
        let Some(row) = rows.get(self.selected) else {
            return Vec::new();
        };
        let at = self.at(shared);
        let mut lines = vec![
            format!(
                "point {} of {}: {at}, {}",
                self.selected + 1,
                rows.len(),
                row.shape
            ),
            row.missing.unwrap_or(row.info.definition).to_owned(),
        ];
        match (&self.failed, &self.seen) {
            (Some(why), _) => lines.push(format!("failed: {why}")),
            (None, Some((version, seen))) => {
                let old = *version != shared.version();
                lines.push(view::numbers(seen, old));
                let norms: Vec<String> =
                    seen.norms.iter().map(|norm| format!("{norm:.1}")).collect();
                if !norms.is_empty() {
                    lines.push(format!("norm by position: {}", norms.join(" ")));
                }
            }
            (None, None) => lines.push("enter runs the prompt and says what passes here".into()),
        }
        lines
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        let facts = shared.model.facts()?;
        Some(format!(
            "candlescope hooks {} --point {}",
            quoted(&facts.name),
            self.at(shared)
        ))
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        shared.model.facts()?;
        let rows: Vec<Vec<String>> = rows(shared)
            .into_iter()
            .map(|row| {
                vec![
                    row.info.name.to_string(),
                    row.shape,
                    row.missing.unwrap_or_default().to_string(),
                    row.info.definition.to_string(),
                ]
            })
            .collect();
        let json = rows
            .iter()
            .map(|row| serde_json::json!({"point": row[0], "shape": row[1], "why_not": row[2], "definition": row[3]}))
            .collect::<Vec<_>>();
        Some(Data {
            headers: ["point", "shape", "why_not", "definition"]
                .map(String::from)
                .into(),
            rows,
            json: serde_json::json!({"schema": "candlescope.hooks/1", "points": json}),
        })
    }
}
