//! Numbers and rows in words: what a screen reader is to say of a table that it cannot see.
//!
//! Always: a number is rounded to four digits that count and has its unit; an empty cell is not said.

use crate::text::visible::{ascii_visible, visible};

/// One line of nothing but text: no character that acts, hides or reorders. Spaces at its end are cut, since they are not
/// heard.
pub(super) fn plain(text: &str, ascii: bool) -> String {
    let text = text.trim_end();
    if ascii {
        ascii_visible(text)
    } else {
        visible(text)
    }
}

/// Digits of a number that are said.
const DIGITS: i32 = 4;

/// A cell: a fraction rounded, anything else as it is.
pub(super) fn number(cell: &str) -> String {
    let fraction = cell.contains(['.', 'e']) && !cell.contains(|c: char| c.is_ascii_uppercase());
    let Some(value) = cell
        .parse::<f64>()
        .ok()
        .filter(|v| fraction && v.is_finite())
    else {
        return cell.to_owned();
    };
    if value == 0.0 {
        return "0".into();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    if !(-3..=9).contains(&before) {
        return format!("{value:.2e}");
    }
    let after = (DIGITS - before).clamp(0, 6) as usize;
    let text = format!("{value:.after$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Names of columns that end in a unit.
const UNITS: [&str; 2] = ["nats", "bytes"];

/// A row as `name: value, name: value unit`.
pub(super) fn row(headers: &[String], cells: &[String]) -> String {
    let pairs: Vec<(&str, &str)> = headers
        .iter()
        .map(String::as_str)
        .zip(cells.iter().map(String::as_str))
        .collect();
    let mut said = Vec::new();
    for (i, (header, cell)) in pairs.iter().enumerate() {
        if cell.is_empty() || *header == "unit" {
            continue;
        }
        let own = UNITS.iter().find(|unit| header.ends_with(*unit));
        let name = own.map_or(*header, |unit| {
            let name = header.trim_end_matches(unit).trim_end_matches('_');
            if name.is_empty() { header } else { name }
        });
        let beside = pairs.get(i + 1).filter(|(next, _)| *next == "unit");
        let unit = beside.map(|(_, unit)| *unit).or(own.copied());
        let unit = unit
            .filter(|unit| !unit.is_empty())
            .map_or_else(String::new, |unit| format!(" {unit}"));
        let cell = if header.contains("token") || ["top", "target"].contains(header) {
            quoted(cell)
        } else {
            number(cell)
        };
        said.push(format!("{}: {cell}{unit}", name.replace('_', " ")));
    }
    said.join(", ")
}

/// A token between quotes, so that the blanks around it are there to be found.
pub(super) fn quoted(token: &str) -> String {
    format!("\"{}\"", visible(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        for (cell, said) in [
            ("0.41234567", "0.4123"),
            ("12.0", "12"),
            ("-1234.5678", "-1235"),
            ("0.00001234", "1.23e-5"),
            ("0.00123456", "0.001235"),
            ("123456", "123456"),
            ("0.0", "0"),
            ("NaN", "NaN"),
            ("1.2.3", "1.2.3"),
            ("toy", "toy"),
        ] {
            assert_eq!(number(cell), said, "{cell}");
        }
    }

    #[test]
    fn a_row_is_names_values_and_units() {
        let row = |headers: &[&str], cells: &[&str]| {
            let all =
                |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
            super::row(&all(headers), &all(cells))
        };
        let headers = ["layer", "token", "entropy_nats", "bytes", "licence"];
        assert_eq!(
            row(&headers, &["3", " lock", "1.23456", "7", ""]),
            "layer: 3, token: \" lock\", entropy: 1.235 nats, bytes: 7 bytes"
        );
        assert_eq!(
            row(&["value", "unit", "n"], &["0.93", "fraction", "100"]),
            "value: 0.93 fraction, n: 100"
        );
    }

    #[test]
    fn nothing_acts_on_a_terminal() {
        for ascii in [false, true] {
            let text = plain("a\u{1b}[31m\u{202e}b\u{7}\nc  ", ascii);
            assert!(
                !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{text:?}"
            );
            assert!(text.ends_with('c'), "{text}");
        }
    }
}
