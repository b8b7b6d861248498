//! Charts as data: what a signal wants drawn, with no idea of how.
//!
//! Always: a chart has a title, a sentence for those who cannot see it, labelled axes, and numbers only. Points that
//! are not finite are gaps. The renderers draw: [`super::report`] as SVG in HTML, other formats leave them out.

use serde::{Deserialize, Serialize};

use super::measure::null;

/// One chart.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Chart {
    /// Short title, shown above.
    pub title: String,
    /// What is to be seen in it, in one sentence; read out instead of the picture.
    pub about: String,
    /// Horizontal axis, with its unit.
    pub x_label: String,
    /// Vertical axis, with its unit.
    pub y_label: String,
    /// Reference lines: a limit, zero, the null's mean. On the value axis (vertical for [`Plot::Line`] and
    /// [`Plot::Bars`], horizontal for [`Plot::Histogram`] and [`Plot::Strip`]; a heat map has none).
    #[serde(default)]
    pub rules: Vec<Mark>,
    /// The kind of chart and its numbers.
    pub plot: Plot,
}

/// A labelled place on the value axis.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it is.
    pub label: String,
    /// Where it is.
    #[serde(deserialize_with = "null::real")]
    pub at: f64,
}

/// The kinds of chart.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Plot {
    /// Curves, such as a layer profile.
    Line {
        /// The curves.
        series: Vec<Series>,
    },
    /// One bar each, with an optional interval.
    Bars {
        /// The bars, drawn in this order.
        bars: Vec<Bar>,
    },
    /// The draws of a null distribution, and where the observed values lie.
    Histogram {
        /// The draws.
        #[serde(deserialize_with = "null::reals")]
        values: Vec<f64>,
        /// The observed values.
        marks: Vec<Mark>,
    },
    /// A table of cells, such as layer by position. The first row is drawn at the bottom, so that later layers are higher.
    Heat {
        /// Names of the rows.
        rows: Vec<String>,
        /// Names of the columns.
        cols: Vec<String>,
        /// `cells[row][col]`; `None` is a cell without a number.
        cells: Vec<Vec<Option<f64>>>,
        /// The value with a neutral colour, for a scale that diverges from it; `None` for a scale from low to high.
        centre: Option<f64>,
    },
    /// Rows of dots with an estimate and its interval.
    Strip {
        /// The rows, drawn from the top.
        rows: Vec<Strip>,
    },
}

/// One curve.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// `(x, y)`, ascending in x.
    #[serde(deserialize_with = "null::pairs")]
    pub points: Vec<(f64, f64)>,
    /// `(low, high)` for each point; empty for none.
    #[serde(default, deserialize_with = "null::pairs")]
    pub band: Vec<(f64, f64)>,
}

/// One bar.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its name on the axis.
    pub label: String,
    /// Its height.
    #[serde(deserialize_with = "null::real")]
    pub value: f64,
    /// `(low, high)`.
    pub interval: Option<(f64, f64)>,
}

/// One row of dots.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Strip {
    /// Its name on the axis.
    pub label: String,
    /// One dot for each observation; may be empty.
    #[serde(default, deserialize_with = "null::reals")]
    pub points: Vec<f64>,
    /// The summary, drawn larger.
    pub estimate: Option<f64>,
    /// `(low, high)` of the summary.
    pub interval: Option<(f64, f64)>,
}

impl Strip {
    /// Dots with their mean; none of nothing.
    pub fn mean(label: &str, points: &[f64]) -> Self {
        let mean = points.iter().sum::<f64>() / points.len() as f64;
        Self {
            label: label.to_owned(),
            estimate: (!points.is_empty()).then_some(mean),
            interval: None,
            points: points.to_vec(),
        }
    }
}

impl Chart {
    /// A chart with no reference lines yet.
    pub fn new(title: &str, about: &str, x_label: &str, y_label: &str, plot: Plot) -> Self {
        Self {
            title: title.to_owned(),
            about: about.to_owned(),
            x_label: x_label.to_owned(),
            y_label: y_label.to_owned(),
            rules: Vec::new(),
            plot,
        }
    }

    /// With a reference line at `at`.
    pub fn with_rule(mut self, label: &str, at: f64) -> Self {
        self.rules.push(Mark {
            label: label.to_owned(),
            at,
        });
        self
    }
}
