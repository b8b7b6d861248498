//! A limit's number, in the unit of what it limits.
//!
//! Always: a bare number is in the unit of its quantity, and one that this unit cannot hold is refused (50 where shares are
//! fractions of one); a number that names its unit ("50 %", "0.5 nats") is refused where the quantity has another.

use toml::Value;

use super::PolicyError;
use super::keys::Keys;

/// The number under `key`, in `unit`.
pub(super) fn number(keys: &Keys, key: &str, unit: &str) -> Result<Option<f64>, PolicyError> {
    let refused = |found: String| Err(keys.wrong(key, &expected(unit), &found));
    let number = match keys.get(key) {
        Some(Value::String(text)) => match named(text, unit) {
            Some(number) => Some(number),
            None => return refused(format!("{text:?}")),
        },
        _ => keys.number(key)?,
    };
    match number {
        Some(number) if number.abs() > most(unit) => refused(number.to_string()),
        other => Ok(other),
    }
}

/// The number of a text like "0.5 nats"; `None` where it is none, or not in `unit`.
fn named(text: &str, unit: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))?;
    let (number, word) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    match word.trim() {
        "%" | "points" if unit == "fraction" => Some(number / 100.0),
        word => (word == unit).then_some(number),
    }
}

/// The furthest from nothing that a value in `unit`, or a change of one, can lie.
fn most(unit: &str) -> f64 {
    match unit {
        "fraction" | "probability" | "auroc" | "cosine" | "kappa" | "correlation" | "rho" => 1.0,
        "1 - cosine" => 2.0,
        _ => f64::INFINITY,
    }
}

fn expected(unit: &str) -> String {
    match (unit, most(unit)) {
        ("fraction", _) => "a fraction of one, or in per cent like \"50 %\"".to_owned(),
        (_, most) if most.is_finite() => format!("in its unit ({unit}), at most {most} either way"),
        _ => format!("a number in its unit ({unit})"),
    }
}
