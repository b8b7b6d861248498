//! Quantities of a pipeline's audits drawn one below the other over its checkpoints, each with the place where it appears.
//!
//! Always: a quantity has appeared at the first checkpoint from which on its whole interval lies beyond the limit; a quantity
//! without an interval is judged by its estimate; a checkpoint where it was asked and could not be measured ends what appeared
//! before it, one where it was not asked (a reward model is not asked what it refuses) says nothing.

use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::PipelineError;
use super::course::{self, Along};
use super::folder::State;
use crate::audit::catalogue;
use crate::audit::measure::Value;
use crate::audit::report::svg::{Anchor, Scale, Svg, WIDTH};
use crate::audit::wording::{number, phrase};

const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 16.0;
/// Height of a panel with its title.
const PANEL: f64 = 130.0;
const TITLE: f64 = 24.0;
/// Below the last panel: names of steps and stages.
const FOOT: f64 = 46.0;

/// Which quantity to draw, and beyond what it has appeared: `SIGNAL.QUANTITY`, with `>X` or `<X` behind it for the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The signal's id.
    pub signal: String,
    /// The quantity's name.
    pub quantity: String,
    /// The limit, if one was given.
    pub limit: Option<Limit>,
}

/// A side of a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limit {
    /// The number.
    pub at: f64,
    /// True where more is beyond.
    pub above: bool,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limit) = match text.find(['>', '<']) {
            None => (text, None),
            Some(at) => {
                let (name, rest) = text.split_at(at);
                let number: f64 = rest[1..]
                    .trim()
                    .parse()
                    .map_err(|_| format!("`{}` is not a number", &rest[1..]))?;
                if !number.is_finite() {
                    return Err(format!("`{number}` is not a limit"));
                }
                let above = rest.starts_with('>');
                (name.trim(), Some(Limit { at: number, above }))
            }
        };
        let (signal, quantity) = name
            .split_once('.')
            .ok_or_else(|| format!("expected SIGNAL.QUANTITY, with >X or <X, found `{text}`"))?;
        let entry = catalogue::signal(signal).ok_or_else(|| {
            format!("no signal `{signal}`; `candlescope audit signals` lists them")
        })?;
        if entry.quantity(quantity).is_none() {
            let known: Vec<&str> = entry.quantities.iter().map(|one| one.name).collect();
            return Err(format!(
                "{signal} has no quantity `{quantity}`; it has {}",
                known.join(", ")
            ));
        }
        Ok(Self {
            signal: signal.to_owned(),
            quantity: quantity.to_owned(),
            limit,
        })
    }
}

impl Limit {
    /// Whether all of what was measured lies beyond.
    pub fn passed(self, value: &Value) -> bool {
        let Some(estimate) = value.value else {
            return false;
        };
        let (low, high) = value
            .interval
            .as_ref()
            .map_or((estimate, estimate), |ends| (ends.low, ends.high));
        if self.above {
            low > self.at
        } else {
            high < self.at
        }
    }
}

/// A quantity over the checkpoints, and where it appeared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// `SIGNAL.QUANTITY`.
    pub name: String,
    /// The limit.
    pub limit: Option<Limit>,
    /// At each checkpoint.
    pub along: Vec<Along>,
    /// Place in `along` from which on it stays beyond the limit.
    pub appears: Option<usize>,
}

/// What was wished for, read from a pipeline's audits.
///
/// # Errors
/// An audit that is gone or cannot be read.
pub fn lines(root: &Path, state: &State, wishes: &[Wish]) -> Result<Vec<Line>, PipelineError> {
    let audits = course::read(root, state)?;
    let line = |wish: &Wish| {
        let along = course::line(&audits, &wish.signal, &wish.quantity);
        Line {
            name: format!("{}.{}", wish.signal, wish.quantity),
            limit: wish.limit,
            appears: wish.limit.and_then(|limit| appears(limit, &along)),
            along,
        }
    };
    Ok(wishes.iter().map(line).collect())
}

/// The first place from which on everything lies beyond the limit.
fn appears(limit: Limit, along: &[Along]) -> Option<usize> {
    let passed = |one: &Along| one.value.as_ref().is_some_and(|value| limit.passed(value));
    let short = along.iter().rposition(|one| one.asked && !passed(one));
    let from = short.map_or(0, |at| at + 1);
    let first = along[from..].iter().position(|one| one.asked)?;
    Some(from + first)
}

/// The lines as one drawing that stands in a file of its own.
pub fn draw(title: &str, lines: &[Line]) -> String {
    let height = PANEL * lines.len() as f64 + FOOT;
    let about: Vec<String> = lines.iter().map(words).collect();
    let mut svg = Svg::new(height, title, &about.join(" "));
    let count = lines.iter().map(|line| line.along.len()).max().unwrap_or(0);
    let step = (RIGHT - LEFT) / count.max(1) as f64;
    let x = |i: usize| LEFT + (i as f64 + 0.5) * step;
    for (i, line) in lines.iter().enumerate() {
        panel(&mut svg, line, i, PANEL * i as f64, &x);
    }
    let bottom = PANEL * lines.len() as f64;
    if let Some(line) = lines.first() {
        foot(&mut svg, line, bottom, step, &x);
    }
    svg.alone()
}

/// When a line appears, in a sentence.
pub fn words(line: &Line) -> String {
    let name = phrase(&line.name.replace('.', ": "));
    match (line.limit, line.appears) {
        (None, _) => format!("{name}."),
        (Some(limit), None) => format!(
            "{name} never stays {} {}.",
            if limit.above { "above" } else { "below" },
            limit.at
        ),
        (Some(limit), Some(at)) => format!(
            "{name} is {} {} from {} step {} on.",
            if limit.above { "above" } else { "below" },
            limit.at,
            line.along[at].stage,
            line.along[at].step
        ),
    }
}

fn panel(svg: &mut Svg, line: &Line, colour: usize, top: f64, x: &dyn Fn(usize) -> f64) {
    let (high, low) = (top + TITLE, top + PANEL - 14.0);
    let values = line.along.iter().filter_map(|one| one.value.as_ref());
    let numbers = values.flat_map(|value| {
        let ends = value.interval.as_ref();
        let ends = ends.into_iter().flat_map(|ends| [ends.low, ends.high]);
        value.value.into_iter().chain(ends)
    });
    let y = Scale::over(numbers.chain(line.limit.map(|limit| limit.at)), low, high);
    for tick in &y.ticks {
        svg.line("grid", (LEFT, y.place(*tick)), (RIGHT, y.place(*tick)));
        let at = (LEFT - 6.0, y.place(*tick) + 4.0);
        svg.text("tick", at, Anchor::End, &y.label(*tick));
    }
    if let Some(limit) = line.limit {
        let at = y.place(limit.at);
        svg.line("rule", (LEFT, at), (RIGHT, at));
    }
    let colour = colour % 6;
    let mut points = Vec::with_capacity(line.along.len());
    for (i, one) in line.along.iter().enumerate() {
        let value = one.value.as_ref();
        let Some(estimate) = value.and_then(|value| value.value) else {
            points.push((f64::NAN, f64::NAN));
            continue;
        };
        points.push((x(i), y.place(estimate)));
        if let Some(ends) = value.and_then(|value| value.interval.as_ref()) {
            svg.line(
                "whisker",
                (x(i), y.place(ends.low)),
                (x(i), y.place(ends.high)),
            );
        }
    }
    svg.path(&format!("curve s{colour}"), &points, false);
    for (one, place) in line.along.iter().zip(&points) {
        let estimate = one.value.as_ref().and_then(|value| value.value);
        if let Some(estimate) = estimate {
            let tip = format!("{} {}: {}", one.stage, one.step, number("", estimate));
            svg.dot(&format!("point s{colour}"), *place, 2.8, &tip);
        }
    }
    let mut title = phrase(&line.name.replace('.', ": "));
    if let Some(at) = line.appears {
        let (stage, step) = (&line.along[at].stage, line.along[at].step);
        title = format!("{title}, from {stage} {step} on");
        svg.line("mark", (x(at), high), (x(at), low));
    }
    svg.text("label", (LEFT, top + 16.0), Anchor::Start, &title);
}

/// Steps, and the stages they belong to.
fn foot(svg: &mut Svg, line: &Line, top: f64, step: f64, x: &dyn Fn(usize) -> f64) {
    let every = (34.0 / step).ceil().max(1.0) as usize;
    let mut begun = 0;
    for (i, one) in line.along.iter().enumerate() {
        if i.is_multiple_of(every) {
            let text = one.step.to_string();
            svg.text("tick", (x(i), top + 4.0), Anchor::Middle, &text);
        }
        let last = line
            .along
            .get(i + 1)
            .is_none_or(|next| next.stage != one.stage);
        if last {
            let middle = f64::midpoint(x(begun), x(i));
            svg.text("name", (middle, top + 24.0), Anchor::Middle, &one.stage);
            if i + 1 < line.along.len() {
                let edge = x(i) + step / 2.0;
                svg.line("grid", (edge, TITLE), (edge, top + 10.0));
            }
            begun = i + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::measure::{Better, Interval};

    fn along(numbers: &[Option<(f64, f64)>]) -> Vec<Along> {
        let each = numbers.iter().enumerate().map(|(i, number)| Along {
            stage: if i < 2 { "lm" } else { "sft" }.to_owned(),
            step: i as u64,
            asked: true,
            value: number.map(|(low, high)| {
                let mut value = Value::new(
                    "score_auroc",
                    "auroc",
                    Better::Higher,
                    f64::midpoint(low, high),
                );
                value.interval = Some(Interval::new(low, high, "delong"));
                value
            }),
        });
        each.collect()
    }

    #[test]
    fn a_quantity_appears_where_it_begins_to_stay_beyond_its_limit() {
        let above = Limit {
            at: 0.7,
            above: true,
        };
        let seen = along(&[
            Some((0.8, 0.9)),
            Some((0.6, 0.8)),
            Some((0.71, 0.9)),
            Some((0.9, 1.0)),
        ]);
        assert_eq!(appears(above, &seen), Some(2));
        assert_eq!(appears(above, &seen[..2]), None);
        assert_eq!(appears(above, &seen[2..]), Some(0));
        let mut last = along(&[None, Some((0.8, 0.9)), None]);
        assert_eq!(appears(above, &last), None);
        // Where it was not asked, nothing ended and nothing appears.
        for one in &mut last {
            one.asked = one.value.is_some();
        }
        assert_eq!(appears(above, &last), Some(1));
        assert_eq!(appears(above, &last[2..]), None);
        let below = Limit {
            at: 0.65,
            above: false,
        };
        assert_eq!(
            appears(below, &along(&[Some((0.6, 0.7)), Some((0.5, 0.6))])),
            Some(1)
        );
        assert_eq!(appears(above, &[]), None);
    }

    #[test]
    fn a_wish_names_a_quantity_there_is() {
        let wish: Wish = "induce_score.induced_change>0.5".parse().unwrap();
        assert_eq!(
            (wish.signal.as_str(), wish.quantity.as_str()),
            ("induce_score", "induced_change")
        );
        assert_eq!(
            wish.limit,
            Some(Limit {
                at: 0.5,
                above: true
            })
        );
        assert_eq!(
            "induce_score.induced_change".parse::<Wish>().unwrap().limit,
            None
        );
        for (text, why) in [
            ("induce_score", "SIGNAL.QUANTITY"),
            ("inducement.score", "no signal `inducement`"),
            ("induce_score.size", "induced_change"),
            ("induce_score.induced_change>many", "`many` is not a number"),
            ("induce_score.induced_change<inf", "not a limit"),
        ] {
            let error = text.parse::<Wish>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_drawing_says_in_words_where_each_line_appears() {
        let limit = Limit {
            at: 0.7,
            above: true,
        };
        let along = along(&[Some((0.5, 0.6)), None, Some((0.8, 0.9))]);
        let line = Line {
            name: "refusal_score.score_auroc".to_owned(),
            limit: Some(limit),
            appears: appears(limit, &along),
            along,
        };
        let drawing = draw("birth", std::slice::from_ref(&line));
        assert!(drawing.starts_with("<svg xmlns="), "{drawing}");
        assert!(drawing.contains("from sft 2 on"), "{drawing}");
        assert_eq!(drawing.matches("<circle").count(), 2);
        assert!(words(&line).contains("above 0.7 from sft step 2 on"));
        let never = Line {
            appears: None,
            ..line
        };
        assert!(words(&never).contains("never stays above 0.7"));
    }
}
