//! How probes of other kinds than one direction on one vector are shown: classes, pairs, pooled tokens; and noise.

use std::fmt::Write as _;

use candlescope_probes::{Fragility, NullDistribution};

use super::show::{area, interval};
use crate::cli::output::Out;
use crate::lens::grid::Grid;
use crate::probing::classes::{ClassControls, Classified};
use crate::probing::pairs::PairsAbout;
use crate::probing::pooled::PooledControls;

/// Class by class, and which was called which.
pub fn classified(found: &Classified, what: &str, out: &Out) -> String {
    let mut text = format!(
        "on {what}: macro AUROC {:.3}, balanced accuracy {:.3} {} (chance {:.3})\n\n",
        found.macro_auroc,
        found.balanced_accuracy,
        interval(&found.balanced_interval),
        1.0 / found.classes.len() as f64
    );
    let mut scores = Grid::new("class", ["AUROC", "", "recall", ""]);
    for class in &found.classes {
        let cells = vec![
            format!("{:.3}", class.auroc.value),
            interval(&class.auroc.interval),
            format!("{:.2}", class.recall.rate),
            interval(&class.recall.interval),
        ];
        scores.row(class.class.clone(), cells);
    }
    text += &scores.draw(crate::cli::output::width());
    let _ = writeln!(
        text,
        "\n{}",
        out.paint("1", "rows of the class on the left, called")
    );
    let names = found.classes.iter().map(|c| c.class.as_str());
    let mut called = Grid::new("", names);
    for (class, row) in found.classes.iter().zip(&found.confusion) {
        called.row(
            class.class.clone(),
            row.iter().map(u64::to_string).collect(),
        );
    }
    text += &called.draw(crate::cli::output::width());
    text.push('\n');
    text
}

/// What a softmax probe has to beat.
pub fn class_controls(found: &ClassControls) -> String {
    let mut text = shuffled(found.shuffled.as_ref(), "macro AUROC");
    let control = found.control.map_or_else(
        || found.control_types.clone(),
        |c| {
            format!(
                "macro AUROC {c:.3} on them (types: {})",
                found.control_types
            )
        },
    );
    let _ = writeln!(text, "  control tasks: {control}");
    let _ = writeln!(
        text,
        "  bag of words: macro AUROC {:.3}",
        found.bag_of_words
    );
    let _ = writeln!(text, "  length: macro AUROC {:.3}", found.length);
    text
}

fn shuffled(null: Option<&NullDistribution>, what: &str) -> String {
    let Some(null) = null else {
        return String::new();
    };
    format!(
        "  on {} shuffles of the training labels: {what} {:.3} ± {:.3}, p = {:.3}\n",
        null.draws, null.mean, null.sd, null.p_upper
    )
}

/// What a direction is worth on pairs.
pub fn pairs(found: &PairsAbout) -> String {
    let low = found.losses.iter().copied().fold(f64::INFINITY, f64::min);
    let high = found.losses.iter().copied().fold(0.0, f64::max);
    format!(
        "on {} test pairs: AUROC {}, balanced accuracy {:.3} {}, permuted labels p = {:.3}\n  a logistic probe of the difference, which sees the labels: AUROC {}\n  loss of a training pair {:.4}; of {} starts {low:.4} to {high:.4}\n",
        found.n[2],
        area(&found.auroc),
        found.balanced_accuracy.value,
        interval(&found.balanced_accuracy.interval),
        found.null.p_upper,
        area(&found.seeing),
        found.loss,
        found.losses.len(),
    )
}

/// What an attention-pooled probe has to beat.
pub fn pooled_controls(found: &PooledControls) -> String {
    format!(
        "  the plain mean over the same tokens: AUROC {}; attention over it {:+.3} {}, paired DeLong p = {:.2e}\n{}",
        area(&found.mean_pooled),
        found.over_mean.difference,
        interval(&found.over_mean.interval),
        found.over_mean.p_value,
        shuffled(found.shuffled.as_ref(), "AUROC")
    )
}

/// How much noise a probe withstands.
pub fn fragility(found: &Fragility, floor: f64) -> String {
    let star = match found.sigma_star {
        Some(sigma) => format!("falls under {floor} at {sigma}"),
        None => format!("stays above {floor} at every level"),
    };
    let levels: Vec<String> = (found.levels.iter())
        .map(|level| format!("{} {:.2}", level.sigma, level.mean))
        .collect();
    format!(
        "  noise (1 is the spread of the activations, {:.3}): accuracy {:.3} without, {star}; {}\n",
        found.unit,
        found.clean,
        levels.join(", ")
    )
}
