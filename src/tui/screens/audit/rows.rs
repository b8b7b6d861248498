//! The rows of the audit screen: one for each signal, and one for each that did not run.
//!
//! Always: in the order of the audit, which is that of the policy's table; nothing is decided here that the audit did not
//! decide.

use crate::audit::measure::Value;
use crate::audit::result::{Audit, Check, SignalResult, Skipped};
use crate::audit::verdict::Verdict;
use crate::audit::wording;
use crate::tui::screen::Data;

/// Which signals are shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// All, those that did not run too.
    #[default]
    All,
    /// Those whose verdict is not PASS.
    NotPassed,
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    /// A signal with its result.
    Signal(&'a SignalResult),
    /// One that did not run.
    Skipped(&'a Skipped),
}

impl<'a> Row<'a> {
    /// The signal's id.
    pub(super) fn id(self) -> &'a str {
        match self {
            Self::Signal(signal) => &signal.id,
            Self::Skipped(skipped) => &skipped.id,
        }
    }

    /// What `/` searches.
    pub(super) fn text(self) -> String {
        match self {
            Self::Signal(signal) => format!(
                "{} {} {} {} {}",
                signal.verdict.word(),
                signal.title,
                signal.id,
                quantity(signal),
                signal.reason
            ),
            Self::Skipped(skipped) => format!("not run {} {}", skipped.title, skipped.id),
        }
    }

    /// Its result.
    pub(super) fn signal(self) -> Option<&'a SignalResult> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Skipped(_) => None,
        }
    }
}

/// The rows that a filter leaves.
pub(super) fn rows(audit: &Audit, filter: Filter) -> Vec<Row<'_>> {
    let signals = audit.signals.iter();
    match filter {
        Filter::All => {
            let skipped = audit.skipped.iter().map(Row::Skipped);
            signals.map(Row::Signal).chain(skipped).collect()
        }
        Filter::NotPassed => signals
            .filter(|signal| signal.verdict != Verdict::Pass)
            .map(Row::Signal)
            .collect(),
    }
}

/// The limit that decided on the quantity that is shown; of several the one that matters most.
pub(super) fn deciding(signal: &SignalResult) -> Option<&Check> {
    let name = &signal.headline()?.name;
    let of = signal
        .checks
        .iter()
        .rev()
        .filter(|check| check.value == *name);
    of.max_by_key(|check| check.verdict)
}

/// The quantity with its estimate and interval, or why there is none.
pub(super) fn quantity(signal: &SignalResult) -> String {
    match (signal.headline(), &signal.not_evaluated) {
        (Some(value), _) => format!(
            "{} {}",
            wording::phrase(&value.name),
            wording::estimate(value)
        ),
        (None, Some(_)) => "not evaluated".to_owned(),
        (None, None) => "no quantity".to_owned(),
    }
}

/// The change of the quantity against the baseline, without its interval.
pub(super) fn change(value: Option<&Value>) -> String {
    let delta = value.and_then(|value| Some((value, value.delta.as_ref()?)));
    delta.map_or_else(String::new, |(value, delta)| {
        wording::change(&value.unit, delta.value)
    })
}

const HEADERS: [&str; 16] = [
    "verdict", "number", "id", "title", "quantity", "value", "unit", "low", "high", "level", "n",
    "baseline", "change", "limit", "reason", "seconds",
];

/// The table as rows, and the audit itself as JSON.
pub(super) fn data(audit: &Audit, rows: Vec<Row>) -> Data {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let row = |row: Row| match row {
        Row::Signal(signal) => {
            let value = signal.headline();
            let ends = value.and_then(|value| value.interval.as_ref());
            vec![
                signal.verdict.word().to_owned(),
                signal.number.to_string(),
                signal.id.clone(),
                signal.title.clone(),
                value.map_or_else(String::new, |value| value.name.clone()),
                number(value.and_then(|value| value.value)),
                value.map_or_else(String::new, |value| value.unit.clone()),
                number(ends.map(|ends| ends.low)),
                number(ends.map(|ends| ends.high)),
                number(ends.map(|ends| ends.level)),
                value
                    .and_then(|value| value.n)
                    .map_or_else(String::new, |n| n.to_string()),
                number(value.and_then(|value| value.baseline)),
                number(
                    value
                        .and_then(|value| value.delta.as_ref())
                        .map(|delta| delta.value),
                ),
                deciding(signal).map_or_else(String::new, |check| check.limit.clone()),
                signal.reason.clone(),
                signal.seconds.to_string(),
            ]
        }
        Row::Skipped(skipped) => {
            let mut row = vec![String::new(); HEADERS.len()];
            "NOT RUN".clone_into(&mut row[0]);
            row[1] = skipped.number.to_string();
            row[2].clone_from(&skipped.id);
            row[3].clone_from(&skipped.title);
            row[14].clone_from(&skipped.why);
            row
        }
    };
    Data {
        headers: HEADERS.map(String::from).into(),
        rows: rows.into_iter().map(row).collect(),
        // An audit is plain data; what could not be written would be null.
        json: serde_json::to_value(audit).unwrap_or_default(),
    }
}
