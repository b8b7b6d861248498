//! The charts of [`super::super::charts`] drawn as SVG, and the small interval drawing of the value tables.
//!
//! Always: kinds differ by shape and dash as well as by colour, so that they can be told apart without it; rules and marks
//! are labelled in words. Shapes and scales: [`super::svg`].

use std::fmt::Write;

use super::super::charts::{Bar, Chart, Mark, Plot, Series, Strip};
use super::super::measure::Value;
use super::super::wording::number;
use super::svg::{Anchor, Scale, Svg, WIDTH};

const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 26.0;
const COLOURS: usize = 6;

/// `chart` as one SVG element.
pub fn chart(chart: &Chart) -> String {
    match &chart.plot {
        Plot::Line { series } => lines(chart, series),
        Plot::Bars { bars } => bar_chart(chart, bars),
        Plot::Histogram { values, marks } => histogram(chart, values, marks),
        Plot::Heat {
            rows,
            cols,
            cells,
            centre,
        } => heat(chart, rows, cols, cells, *centre),
        Plot::Strip { rows } => strips(chart, rows),
    }
}

fn rules(chart: &Chart) -> impl Iterator<Item = f64> + '_ {
    chart.rules.iter().map(|rule| rule.at)
}

fn lines(chart: &Chart, series: &[Series]) -> String {
    let bottom = 236.0;
    let mut svg = Svg::new(280.0, &chart.title, &chart.about);
    let x = Scale::over(
        series
            .iter()
            .flat_map(|one| one.points.iter().map(|point| point.0)),
        LEFT,
        RIGHT,
    );
    let heights = series.iter().flat_map(|one| {
        one.points
            .iter()
            .map(|point| point.1)
            .chain(one.band.iter().flat_map(|(low, high)| [*low, *high]))
    });
    let y = Scale::over(heights.chain(rules(chart)), bottom, TOP);
    horizontal_grid(&mut svg, &y);
    bottom_ticks(&mut svg, &x, bottom, false);
    names(&mut svg, chart, bottom);
    for (i, one) in series.iter().enumerate() {
        let at = |(px, py): &(f64, f64)| (x.place(*px), y.place(*py));
        if one.band.len() == one.points.len() {
            let edge = |pick: fn(&(f64, f64)) -> f64| {
                one.points
                    .iter()
                    .zip(&one.band)
                    .map(move |(point, ends)| (point.0, pick(ends)))
            };
            let low: Vec<_> = edge(|ends| ends.0).map(|point| at(&point)).collect();
            let mut area: Vec<_> = edge(|ends| ends.1).map(|point| at(&point)).collect();
            area.extend(low.into_iter().rev());
            svg.path(&format!("band s{}", i % COLOURS), &area, true);
        }
        let points: Vec<_> = one.points.iter().map(at).collect();
        svg.path(&format!("curve s{}", i % COLOURS), &points, false);
        for (place, point) in points.iter().zip(&one.points) {
            if place.0.is_finite() && place.1.is_finite() {
                let tip = format!(
                    "{}: {} at {}",
                    one.name,
                    number("", point.1),
                    number("", point.0)
                );
                svg.dot(
                    &format!("point s{}", i % COLOURS),
                    *place,
                    if points.len() > 40 { 1.6 } else { 2.6 },
                    &tip,
                );
            }
        }
    }
    horizontal_rules(&mut svg, &chart.rules, &y);
    legend(&mut svg, series.iter().map(|one| one.name.as_str()));
    svg.finish()
}

fn bar_chart(chart: &Chart, bars: &[Bar]) -> String {
    let bottom = 226.0;
    let mut svg = Svg::new(280.0, &chart.title, &chart.about);
    let heights = bars.iter().flat_map(|bar| {
        let ends = bar.interval.unwrap_or((bar.value, bar.value));
        [0.0, bar.value, ends.0, ends.1]
    });
    let y = Scale::over(heights.chain(rules(chart)), bottom, TOP);
    horizontal_grid(&mut svg, &y);
    let room = (RIGHT - LEFT) / bars.len().max(1) as f64;
    let width = (room * 0.62).min(64.0);
    let every = (bars.len() as f64 * 44.0 / (RIGHT - LEFT)).ceil().max(1.0) as usize;
    for (i, bar) in bars.iter().enumerate() {
        let middle = LEFT + (i as f64 + 0.5) * room;
        if bar.value.is_finite() {
            let (from, to) = (y.place(bar.value), y.place(0.0));
            let tip = format!("{}: {}", bar.label, number("", bar.value));
            svg.rect(
                "bar",
                (middle - width / 2.0, from.min(to)),
                (width, (from - to).abs()),
                &tip,
            );
        }
        if let Some((low, high)) = bar
            .interval
            .filter(|ends| ends.0.is_finite() && ends.1.is_finite())
        {
            svg.line("whisker", (middle, y.place(low)), (middle, y.place(high)));
            for end in [low, high] {
                svg.line(
                    "whisker",
                    (middle - 4.0, y.place(end)),
                    (middle + 4.0, y.place(end)),
                );
            }
        }
        if i % every == 0 {
            svg.text(
                "tick",
                (middle, bottom + 16.0),
                Anchor::Middle,
                &short(&bar.label, (room * every as f64 / 6.2) as usize),
            );
        }
    }
    svg.line("axis", (LEFT, y.place(0.0)), (RIGHT, y.place(0.0)));
    names(&mut svg, chart, bottom + 2.0);
    horizontal_rules(&mut svg, &chart.rules, &y);
    svg.finish()
}

fn histogram(chart: &Chart, values: &[f64], marks: &[Mark]) -> String {
    let bottom = 216.0;
    let mut svg = Svg::new(260.0, &chart.title, &chart.about);
    let all = values
        .iter()
        .copied()
        .chain(marks.iter().map(|mark| mark.at))
        .chain(rules(chart));
    let x = Scale::over(all, LEFT, RIGHT);
    let drawn: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    let bins = ((drawn.len() as f64).sqrt().ceil() as usize * 2).clamp(8, 48);
    let (low, high) = x.ends();
    let width = (high - low) / bins as f64;
    let mut counts = vec![0usize; bins];
    for value in &drawn {
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    let y = Scale::over(
        counts.iter().map(|count| *count as f64).chain([0.0, 1.0]),
        bottom,
        TOP + 34.0,
    );
    horizontal_grid(&mut svg, &y);
    for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let from = low + i as f64 * width;
        let tip = format!(
            "{count} of {} from {} to {}",
            drawn.len(),
            number("", from),
            number("", from + width)
        );
        let (left, right) = (x.place(from) + 0.5, x.place(from + width) - 0.5);
        svg.rect(
            "null",
            (left, y.place(*count as f64)),
            (right - left, bottom - y.place(*count as f64)),
            &tip,
        );
    }
    bottom_ticks(&mut svg, &x, bottom, true);
    names(&mut svg, chart, bottom);
    vertical_rules(
        &mut svg,
        &chart.rules,
        &x,
        (TOP + 34.0, bottom),
        "rule",
        30.0,
    );
    vertical_rules(&mut svg, marks, &x, (TOP + 8.0, bottom), "mark", 4.0);
    svg.finish()
}

fn heat(
    chart: &Chart,
    rows: &[String],
    cols: &[String],
    cells: &[Vec<Option<f64>>],
    centre: Option<f64>,
) -> String {
    let left = 96.0;
    let size = (RIGHT - left - 56.0) / cols.len().max(1) as f64;
    let high = (300.0 / rows.len().max(1) as f64).clamp(7.0, 24.0);
    let bottom = TOP + high * rows.len() as f64;
    let mut svg = Svg::new(bottom + 48.0, &chart.title, &chart.about);
    let numbers = || {
        cells
            .iter()
            .flatten()
            .flatten()
            .copied()
            .filter(|cell| cell.is_finite())
    };
    let low = numbers().fold(f64::INFINITY, f64::min);
    let top = numbers().fold(f64::NEG_INFINITY, f64::max);
    let shade = |cell: f64| match centre {
        Some(centre) => {
            diverging((cell - centre) / (top - centre).max(centre - low).max(f64::MIN_POSITIVE))
        }
        None => sequential((cell - low) / (top - low).max(f64::MIN_POSITIVE)),
    };
    let (row_step, col_step) = (
        (11.0 / high).ceil() as usize,
        (34.0 / size).ceil().max(1.0) as usize,
    );
    for (r, name) in rows.iter().enumerate() {
        let y = bottom - (r + 1) as f64 * high;
        if r % row_step == 0 {
            svg.text(
                "tick",
                (left - 6.0, y + high / 2.0 + 3.5),
                Anchor::End,
                &short(name, 14),
            );
        }
        for (c, col) in cols.iter().enumerate() {
            let place = (left + c as f64 * size, y);
            match cells
                .get(r)
                .and_then(|row| row.get(c))
                .copied()
                .flatten()
                .filter(|cell| cell.is_finite())
            {
                Some(cell) => svg.cell(
                    &shade(cell),
                    place,
                    (size, high),
                    &format!("{name}, {col}: {}", number("", cell)),
                ),
                None => svg.rect(
                    "void",
                    place,
                    (size, high),
                    &format!("{name}, {col}: not measured"),
                ),
            }
        }
    }
    for (c, col) in cols.iter().enumerate().step_by(col_step) {
        let middle = left + (c as f64 + 0.5) * size;
        svg.text(
            "tick",
            (middle, bottom + 15.0),
            Anchor::Middle,
            &short(col, (size * col_step as f64 / 6.2) as usize),
        );
    }
    svg.text(
        "name",
        (f64::midpoint(left, RIGHT - 56.0), bottom + 36.0),
        Anchor::Middle,
        &chart.x_label,
    );
    svg.upward((14.0, f64::midpoint(TOP, bottom)), &chart.y_label);
    if low <= top {
        colour_bar(&mut svg, (low, top), bottom, shade);
    }
    svg.finish()
}

fn colour_bar(svg: &mut Svg, (low, top): (f64, f64), bottom: f64, shade: impl Fn(f64) -> String) {
    let (x, steps) = (RIGHT - 42.0, 24);
    let part = (bottom - TOP) / f64::from(steps);
    for i in 0..steps {
        let at = low + (top - low) * (f64::from(i) + 0.5) / f64::from(steps);
        svg.cell(
            &shade(at),
            (x, bottom - f64::from(i + 1) * part),
            (10.0, part + 0.4),
            "",
        );
    }
    svg.text(
        "tick",
        (x + 14.0, TOP + 9.0),
        Anchor::Start,
        &number("", top),
    );
    svg.text("tick", (x + 14.0, bottom), Anchor::Start, &number("", low));
}

fn strips(chart: &Chart, rows: &[Strip]) -> String {
    let left = 150.0;
    let high = 30.0;
    let top = TOP + 14.0;
    let bottom = top + high * rows.len() as f64;
    let mut svg = Svg::new(bottom + 46.0, &chart.title, &chart.about);
    let all = rows.iter().flat_map(|row| {
        let ends = row.interval.map(|ends| [ends.0, ends.1]);
        row.points
            .iter()
            .copied()
            .chain(row.estimate)
            .chain(ends.into_iter().flatten())
    });
    let x = Scale::over(all.chain(rules(chart)), left, RIGHT);
    for tick in &x.ticks {
        svg.line("grid", (x.place(*tick), top), (x.place(*tick), bottom));
    }
    vertical_rules(&mut svg, &chart.rules, &x, (top - 4.0, bottom), "rule", 4.0);
    for (i, row) in rows.iter().enumerate() {
        let y = top + (i as f64 + 0.5) * high;
        svg.text(
            "label",
            (left - 10.0, y + 4.0),
            Anchor::End,
            &short(&row.label, 24),
        );
        for (k, point) in row
            .points
            .iter()
            .enumerate()
            .filter(|(_, point)| point.is_finite())
        {
            // A fixed pattern of small shifts keeps equal values apart without a random number.
            let shift = ((k * 7) % 11) as f64 - 5.0;
            svg.dot("grain", (x.place(*point), y + shift * 1.1), 2.0, "");
        }
        if let Some((low, up)) = row
            .interval
            .filter(|ends| ends.0.is_finite() && ends.1.is_finite())
        {
            svg.line("span", (x.place(low), y), (x.place(up), y));
        }
        if let Some(estimate) = row.estimate.filter(|estimate| estimate.is_finite()) {
            svg.dot(
                "estimate",
                (x.place(estimate), y),
                5.0,
                &format!("{}: {}", row.label, number("", estimate)),
            );
        }
    }
    bottom_ticks(&mut svg, &x, bottom, true);
    svg.text(
        "name",
        (f64::midpoint(left, RIGHT), bottom + 36.0),
        Anchor::Middle,
        &chart.x_label,
    );
    svg.finish()
}

/// The estimate, interval, null and baseline of a value that lies between 0 and 1, on one short line; empty for others.
pub fn interval(value: &Value) -> String {
    let Some(estimate) = value
        .value
        .filter(|estimate| (-1e-9..=1.000001).contains(estimate))
    else {
        return String::new();
    };
    if !matches!(
        value.unit.as_str(),
        "fraction" | "auroc" | "kappa" | "cosine" | "correlation"
    ) {
        return String::new();
    }
    let place = |at: f64| 6.0 + 108.0 * at.clamp(0.0, 1.0);
    let mut svg = String::from(
        "<svg class=\"mini\" viewBox=\"0 0 120 18\" aria-hidden=\"true\"><line class=\"axis\" x1=\"6\" y1=\"9\" x2=\"114\" y2=\"9\"/>",
    );
    for at in [0.0, 0.5, 1.0] {
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{0:.1}\" y1=\"6\" x2=\"{0:.1}\" y2=\"12\"/>",
            place(at)
        );
    }
    if let Some(null) = value
        .null
        .as_ref()
        .filter(|null| null.mean.is_finite() && null.sd.is_finite())
    {
        let (low, high) = (
            place(null.mean - 2.0 * null.sd),
            place(null.mean + 2.0 * null.sd),
        );
        let _ = write!(
            svg,
            "<rect class=\"null\" x=\"{low:.1}\" y=\"3\" width=\"{:.1}\" height=\"12\"/>",
            (high - low).max(1.0)
        );
    }
    if let Some(ends) = &value.interval {
        let _ = write!(
            svg,
            "<line class=\"span\" x1=\"{:.1}\" y1=\"9\" x2=\"{:.1}\" y2=\"9\"/>",
            place(ends.low),
            place(ends.high)
        );
    }
    if let Some(baseline) = value.baseline.filter(|baseline| baseline.is_finite()) {
        let _ = write!(
            svg,
            "<circle class=\"hollow\" cx=\"{:.1}\" cy=\"9\" r=\"4\"/>",
            place(baseline)
        );
    }
    svg + &format!(
        "<circle class=\"estimate\" cx=\"{:.1}\" cy=\"9\" r=\"3.6\"/></svg>",
        place(estimate)
    )
}

fn horizontal_grid(svg: &mut Svg, y: &Scale) {
    for tick in &y.ticks {
        svg.line("grid", (LEFT, y.place(*tick)), (RIGHT, y.place(*tick)));
        svg.text(
            "tick",
            (LEFT - 7.0, y.place(*tick) + 3.5),
            Anchor::End,
            &y.label(*tick),
        );
    }
}

fn bottom_ticks(svg: &mut Svg, x: &Scale, bottom: f64, axis: bool) {
    for tick in &x.ticks {
        svg.line(
            "axis",
            (x.place(*tick), bottom),
            (x.place(*tick), bottom + 4.0),
        );
        svg.text(
            "tick",
            (x.place(*tick), bottom + 16.0),
            Anchor::Middle,
            &x.label(*tick),
        );
    }
    if axis {
        let (low, high) = x.ends();
        svg.line("axis", (x.place(low), bottom), (x.place(high), bottom));
    }
}

fn names(svg: &mut Svg, chart: &Chart, bottom: f64) {
    svg.text(
        "name",
        (f64::midpoint(LEFT, RIGHT), bottom + 36.0),
        Anchor::Middle,
        &chart.x_label,
    );
    svg.upward((14.0, f64::midpoint(TOP, bottom)), &chart.y_label);
}

fn horizontal_rules(svg: &mut Svg, rules: &[Mark], y: &Scale) {
    for rule in rules.iter().filter(|rule| rule.at.is_finite()) {
        svg.line("rule", (LEFT, y.place(rule.at)), (RIGHT, y.place(rule.at)));
        svg.text(
            "ruled",
            (RIGHT - 4.0, y.place(rule.at) - 5.0),
            Anchor::End,
            &rule.label,
        );
    }
}

fn vertical_rules(
    svg: &mut Svg,
    rules: &[Mark],
    x: &Scale,
    (top, bottom): (f64, f64),
    class: &str,
    drop: f64,
) {
    for (i, rule) in rules.iter().filter(|rule| rule.at.is_finite()).enumerate() {
        let at = x.place(rule.at);
        svg.line(class, (at, top), (at, bottom));
        let (anchor, shift) = if at > f64::midpoint(LEFT, RIGHT) {
            (Anchor::End, -5.0)
        } else {
            (Anchor::Start, 5.0)
        };
        let label = if class == "mark" { "marked" } else { "ruled" };
        svg.text(
            label,
            (at + shift, top + drop + 13.0 * i as f64),
            anchor,
            &rule.label,
        );
    }
}

fn legend<'a>(svg: &mut Svg, names: impl Iterator<Item = &'a str>) {
    let mut x = LEFT;
    for (i, name) in names.enumerate() {
        let name = short(name, 32);
        svg.line(
            &format!("curve s{}", i % COLOURS),
            (x, 11.0),
            (x + 22.0, 11.0),
        );
        svg.text("label", (x + 28.0, 15.0), Anchor::Start, &name);
        x += 46.0 + 6.6 * name.chars().count() as f64;
    }
}

/// `text` in at most `most` characters.
fn short(text: &str, most: usize) -> String {
    let most = most.max(3);
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

/// From light to dark over `t` in 0 to 1; lightness falls evenly, so it survives grey print and colour blindness.
fn sequential(t: f64) -> String {
    const STOPS: [[f64; 3]; 5] = [
        [253.0, 245.0, 214.0],
        [199.0, 220.0, 180.0],
        [92.0, 172.0, 170.0],
        [36.0, 104.0, 145.0],
        [18.0, 38.0, 84.0],
    ];
    blend(&STOPS, t)
}

/// From blue over near white to orange, `t` in -1 to 1.
fn diverging(t: f64) -> String {
    const STOPS: [[f64; 3]; 5] = [
        [5.0, 82.0, 140.0],
        [118.0, 176.0, 213.0],
        [245.0, 244.0, 240.0],
        [240.0, 165.0, 96.0],
        [179.0, 78.0, 0.0],
    ];
    blend(&STOPS, f64::midpoint(t, 1.0))
}

fn blend(stops: &[[f64; 3]; 5], t: f64) -> String {
    let at = t.clamp(0.0, 1.0) * 4.0;
    let i = (at as usize).min(3);
    let mix = |k: usize| stops[i][k] + (stops[i + 1][k] - stops[i][k]) * (at - i as f64);
    format!(
        "#{:02x}{:02x}{:02x}",
        mix(0).round() as u8,
        mix(1).round() as u8,
        mix(2).round() as u8
    )
}
