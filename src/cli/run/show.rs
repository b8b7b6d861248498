//! Two answers side by side where the terminal is wide enough, else one above the other.

use crate::{
    audit::report::text::{visible, wrapped},
    cli::output::{Out, width},
};

/// Columns from which two answers stand side by side.
const WIDE: usize = 80;

/// The edited answer beside the unedited one.
pub(super) fn side_by_side(edited: &str, unedited: &str, out: &Out) -> String {
    layout(edited, unedited, width(), |title| out.paint("1", title))
}

fn layout(edited: &str, unedited: &str, width: usize, strong: impl Fn(&str) -> String) -> String {
    let titles = ["unedited", "edited"];
    if width < WIDE {
        let part = |title: &str, text: &str| {
            format!("{}\n{}\n", strong(title), lines(text, width).join("\n"))
        };
        return part(titles[0], unedited) + "\n" + &part(titles[1], edited);
    }
    let column = (width - 3) / 2;
    let (left, right) = (lines(unedited, column), lines(edited, column));
    let pad = |text: &str| {
        let gap = column.saturating_sub(text.chars().count());
        format!("{text}{} │ ", " ".repeat(gap))
    };
    let gap = " ".repeat(column - titles[0].len());
    let mut text = format!("{}{gap} │ {}\n", strong(titles[0]), strong(titles[1]));
    for i in 0..left.len().max(right.len()) {
        let cell = |side: &[String]| side.get(i).cloned().unwrap_or_default();
        text += (pad(&cell(&left)) + &cell(&right)).trim_end();
        text.push('\n');
    }
    text
}

fn lines(text: &str, width: usize) -> Vec<String> {
    text.lines()
        .flat_map(|line| wrapped(&visible(line), width))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_terminals_have_two_columns() {
        let text = layout("one two", "three\nfour", 80, str::to_owned);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|row| row.split('│').map(str::trim).collect())
            .collect();
        assert_eq!(
            rows,
            [["unedited", "edited"], ["three", "one two"], ["four", ""]]
        );
        assert!(text.lines().all(|row| row.chars().count() <= 80));
    }

    #[test]
    fn narrow_terminals_have_one() {
        let text = layout("b", "a", 40, str::to_owned);
        assert_eq!(text, "unedited\na\n\nedited\nb\n");
    }
}
