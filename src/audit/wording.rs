//! Numbers and names as words: the same in every report and in every reason.
//!
//! Always: fractions are per cent with one decimal, other numbers have three significant digits, the minus sign is ASCII so
//! that they can be pasted, and what is missing is `n/a`.

use super::measure::{Interval, Value};
pub use crate::text::amount::parameters;

/// `value` in `unit`, without the unit's word except for per cent.
pub fn number(unit: &str, value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    match unit {
        "fraction" => format!("{:.1}%", settled(value * 100.0, 1)),
        "count" => format!("{value:.0}"),
        "auroc" | "cosine" | "kappa" | "correlation" => format!("{:.3}", settled(value, 3)),
        _ => significant(value),
    }
}

/// A difference in `unit`, with its sign; of fractions, in points.
pub fn change(unit: &str, value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    match unit {
        "fraction" => format!("{:+.1} pts", settled(value * 100.0, 1)),
        "count" => format!("{value:+.0}"),
        "auroc" | "cosine" | "kappa" | "correlation" => format!("{:+.3}", settled(value, 3)),
        _ if value > 0.0 => format!("+{}", significant(value)),
        _ => significant(value),
    }
}

/// The unit's word where the number does not carry it already.
pub fn unit(unit: &str) -> &str {
    match unit {
        "nats" => " nats",
        "sd" => " sd",
        _ => "",
    }
}

/// `[low, high]` in `unit`.
pub fn interval(unit: &str, interval: &Interval) -> String {
    let ends = if unit == "fraction" {
        [interval.low, interval.high].map(|end| format!("{:.1}", settled(end * 100.0, 1)))
    } else {
        [interval.low, interval.high].map(|end| number(unit, end))
    };
    format!("[{}, {}]", ends[0], ends[1])
}

/// The estimate, its unit and its interval: `12.0% [8.1, 17.4]`.
pub fn estimate(value: &Value) -> String {
    let Some(estimate) = value.value else {
        return "n/a".to_owned();
    };
    let mut text = format!("{}{}", number(&value.unit, estimate), unit(&value.unit));
    if let Some(ends) = &value.interval {
        text.push(' ');
        text.push_str(&interval(&value.unit, ends));
    }
    text
}

/// The change and its interval: `+2.0 pts [-1.1, 5.2]`; nothing without a baseline.
pub fn changed(value: &Value) -> String {
    let Some(delta) = &value.delta else {
        return String::new();
    };
    let mut text = change(&value.unit, delta.value);
    if let Some(ends) = &delta.interval {
        text.push(' ');
        text.push_str(&interval(&value.unit, ends));
    }
    text
}

/// A stable name as a phrase: `harmful_refusal` becomes `harmful refusal`.
pub fn phrase(name: &str) -> String {
    name.replace('_', " ")
}

/// A p value: three significant digits, `<0.001` below that.
pub fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => "n/a".to_owned(),
        p if p < 0.001 => "<0.001".to_owned(),
        p => format!("{p:.3}"),
    }
}

/// A duration in the largest units that matter: `1 h 02 min`, `3 min 07 s`, `8.4 s`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "n/a".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The beginning of a hash, enough to compare by eye.
pub fn short_hash(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Three significant digits, in scientific notation only where plain digits would not show them.
fn significant(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

/// `value`, with a zero that rounding leaves negative made plain: never `-0.0`.
fn settled(value: f64, decimals: i32) -> f64 {
    if value.abs() < 0.5 * 10f64.powi(-decimals) {
        0.0
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_would_write_them() {
        assert_eq!(number("fraction", 0.1249), "12.5%");
        assert_eq!(number("fraction", -0.0001), "0.0%");
        assert_eq!(number("auroc", 0.99961), "1.000");
        assert_eq!(number("nats", -12.345), "-12.3");
        assert_eq!(number("nats", 0.01234), "0.0123");
        assert_eq!(number("nats", 1e-7), "1.00e-7");
        assert_eq!(number("count", 3.0), "3");
        assert_eq!(number("nats", f64::NAN), "n/a");
        assert_eq!(change("fraction", -0.051), "-5.1 pts");
        assert_eq!(change("nats", 0.5), "+0.500");
        assert_eq!(change("nats", 0.0), "0");
    }

    #[test]
    fn durations_counts_and_p_values() {
        assert_eq!(
            (duration(8.44), duration(187.0), duration(3725.0)),
            ("8.4 s".into(), "3 min 07 s".into(), "1 h 02 min".into())
        );
        assert_eq!(
            (p_value(0.00001), p_value(0.0421)),
            ("<0.001".into(), "0.042".into())
        );
    }
}
