//! One limit against one quantity.
//!
//! Always: a limit is decided by an interval unless the policy names the estimate itself; a quantity or an interval that
//! is not there is UNDERPOWERED, never PASS.

use super::super::catalogue;
use super::super::measure::{Interval, Value};
use super::super::policy::{Condition, Limit, On, Policy};
use super::super::result::{Audit, Check, SignalResult};
use super::super::wording;
use super::Verdict;

/// How `limit` on the quantity `name` came out; `None` when it needs a baseline and there is none.
pub fn check(
    audit: &Audit,
    signal: &SignalResult,
    name: &str,
    limit: &Limit,
    policy: &Policy,
) -> Option<Check> {
    let quantity = catalogue::signal(&signal.id).and_then(|entry| entry.quantity(name));
    let paired = limit.needs_baseline() || quantity.is_some_and(|quantity| quantity.paired);
    if paired && audit.baseline.is_none() && !policy.require_baseline {
        return None;
    }
    let unit = quantity.map_or("", |quantity| quantity.unit);
    let (verdict, reason) = decide(audit, signal, name, limit, policy);
    Some(Check {
        value: name.to_owned(),
        limit: describe(limit, unit),
        verdict,
        reason,
    })
}

/// Where a quantity lies with respect to a limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Holds,
    Unclear,
    Broken,
}

fn decide(
    audit: &Audit,
    signal: &SignalResult,
    name: &str,
    limit: &Limit,
    policy: &Policy,
) -> (Verdict, String) {
    let what = wording::phrase(name);
    let underpowered = |why: String| (Verdict::Underpowered, why);
    match conditions(audit, &limit.when) {
        Ok(true) => {}
        Ok(false) => {
            return (
                Verdict::Pass,
                format!("{what}: the limit's condition does not hold"),
            );
        }
        Err(why) => {
            return underpowered(format!(
                "{what}: the limit's condition cannot be decided: {why}"
            ));
        }
    }
    let Some(value) = signal.value(name) else {
        return underpowered(format!("{what} was not reported"));
    };
    let Some(estimate) = value.value else {
        return underpowered(format!(
            "{what} could not be measured: {}",
            value.why.as_deref().unwrap_or("no reason given")
        ));
    };
    let (point, interval) = match (&value.delta, limit.on.is_change()) {
        (_, false) => (estimate, value.interval.as_ref()),
        (Some(delta), true) => (delta.value, delta.interval.as_ref()),
        (None, true) => {
            return underpowered(format!("{what} has no paired change against the baseline"));
        }
    };
    let interval = interval.filter(|interval| interval.is_sound());
    let Some(side) = side(limit, point, interval) else {
        return underpowered(format!(
            "{what} has no interval, so it cannot be held against the limit"
        ));
    };
    let seen = sentence(value, limit, &what);
    match side {
        Side::Broken => broken(value, limit, policy, &seen),
        Side::Unclear => underpowered(format!(
            "{seen}: the interval straddles the limit{}",
            more_needed(value, limit, point, interval)
        )),
        Side::Holds => match power(value, limit) {
            Some(short) => underpowered(format!("{seen}, but {short}")),
            None => (Verdict::Pass, seen),
        },
    }
}

fn broken(value: &Value, limit: &Limit, policy: &Policy, seen: &str) -> (Verdict, String) {
    let said = limit
        .message
        .as_ref()
        .map_or_else(|| seen.to_owned(), |message| format!("{message}: {seen}"));
    if !limit.holm || limit.otherwise < Verdict::Block {
        return (limit.otherwise, said);
    }
    let adjusted = value.test.as_ref().and_then(|test| test.p_adjusted);
    match adjusted {
        Some(p) if p <= policy.alpha => (limit.otherwise, said),
        Some(p) => (
            Verdict::Review,
            format!(
                "{said}; not significant after Holm's correction (p = {})",
                wording::p_value(p)
            ),
        ),
        None => (
            Verdict::Review,
            format!("{said}; without a test to confirm it"),
        ),
    }
}

/// Where `point` and its interval lie; `None` when the limit needs an interval and there is none.
fn side(limit: &Limit, point: f64, interval: Option<&Interval>) -> Option<Side> {
    let (low, high) = match limit.on {
        On::Value | On::DeltaValue => (point, point),
        On::Bad | On::Delta => interval.map(|ends| (ends.low, ends.high))?,
        On::Low | On::DeltaLow => interval.map(|ends| (ends.low, ends.low))?,
        On::High | On::DeltaHigh => interval.map(|ends| (ends.high, ends.high))?,
    };
    let below = limit.min.map_or(Side::Holds, |min| {
        if low >= min {
            Side::Holds
        } else if high < min {
            Side::Broken
        } else {
            Side::Unclear
        }
    });
    let above = limit.max.map_or(Side::Holds, |max| {
        if high <= max {
            Side::Holds
        } else if low > max {
            Side::Broken
        } else {
            Side::Unclear
        }
    });
    Some(below.max(above))
}

/// Whether every condition holds, or why that cannot be said.
fn conditions(audit: &Audit, when: &[Condition]) -> Result<bool, String> {
    for condition in when {
        let name = format!(
            "{} {}",
            wording::phrase(&condition.signal),
            wording::phrase(&condition.value)
        );
        let value = audit
            .signal(&condition.signal)
            .and_then(|signal| signal.value(&condition.value));
        let found = match (value, condition.of_change) {
            (Some(value), true) => value.delta.as_ref().map(|delta| delta.value),
            (Some(value), false) => value.value,
            (None, _) => None,
        };
        let Some(estimate) = found else {
            let why = if condition.of_change {
                "has no paired change against the baseline"
            } else {
                "was not measured"
            };
            return Err(format!("{name} {why}"));
        };
        if condition.min.is_some_and(|min| estimate < min)
            || condition.max.is_some_and(|max| estimate > max)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why the sample could not have found the difference that the policy asks for; `None` when it could.
fn power(value: &Value, limit: &Limit) -> Option<String> {
    let detect = limit.detect?;
    let asked = wording::change(&value.unit, detect)
        .trim_start_matches('+')
        .to_owned();
    match value.mdd {
        Some(mdd) if mdd <= detect => None,
        Some(mdd) => {
            let least = wording::change(&value.unit, mdd)
                .trim_start_matches('+')
                .to_owned();
            Some(format!(
                "the sample could only have detected a difference of {least}, and the policy asks for {asked}"
            ))
        }
        None => Some(format!(
            "no minimum detectable difference was reported, and the policy asks for {asked}"
        )),
    }
}

/// How many observations would decide, if the estimate stayed: the interval shrinks with the root of n.
fn more_needed(value: &Value, limit: &Limit, point: f64, interval: Option<&Interval>) -> String {
    let nearest = [limit.min, limit.max]
        .into_iter()
        .flatten()
        .map(|edge| (point - edge).abs())
        .fold(f64::INFINITY, f64::min);
    let (Some(n), Some(ends)) = (value.n, interval) else {
        return String::new();
    };
    let factor = ((ends.high - ends.low) / 2.0 / nearest).powi(2);
    let needed = (n as f64 * factor * 1.1 / 10.0).ceil() * 10.0;
    if needed.is_finite() && needed > n as f64 && needed < 1e5 {
        format!("; about {needed:.0} prompts would decide")
    } else {
        String::new()
    }
}

fn sentence(value: &Value, limit: &Limit, what: &str) -> String {
    let n = value.n.map(|n| format!(" (n = {n})")).unwrap_or_default();
    let asks = format!("{}{}", bounds(limit, &value.unit), proviso(limit));
    match &value.delta {
        Some(delta) if limit.on.is_change() => {
            let interval = delta
                .interval
                .as_ref()
                .map(|ends| format!(" {}", wording::interval(&value.unit, ends)))
                .unwrap_or_default();
            format!(
                "{what} changed by {}{}{interval}{n}; the limit is {asks}",
                wording::change(&value.unit, delta.value),
                wording::unit(&value.unit)
            )
        }
        _ => format!(
            "{what} is {}{n}; the limit is {asks}",
            wording::estimate(value)
        ),
    }
}

/// `at least 50.0 %`, `0.670 to 1.50`.
fn bounds(limit: &Limit, unit: &str) -> String {
    let show = |edge: f64| {
        if limit.on.is_change() {
            wording::change(unit, edge)
        } else {
            wording::number(unit, edge)
        }
    };
    match (limit.min, limit.max) {
        (Some(min), Some(max)) => format!("{} to {}", show(min), show(max)),
        (Some(min), None) => format!("at least {}", show(min)),
        (None, Some(max)) => format!("at most {}", show(max)),
        (None, None) => "none".to_owned(),
    }
}

/// ` where refusal rate harmful refusal is at most 50.0%`: the limit's conditions, if it has any.
fn proviso(limit: &Limit) -> String {
    let conditions: Vec<_> = limit
        .when
        .iter()
        .map(|condition| {
            let quantity = catalogue::signal(&condition.signal)
                .and_then(|entry| entry.quantity(&condition.value));
            let unit = quantity.map_or("", |quantity| quantity.unit);
            let (verb, number): (_, fn(&str, f64) -> String) = if condition.of_change {
                ("changed by", wording::change)
            } else {
                ("is", wording::number)
            };
            let edge = |word: &str, edge: Option<f64>| {
                edge.map(|edge| format!("{word} {}", number(unit, edge)))
            };
            let edges: Vec<_> = [
                edge("at least", condition.min),
                edge("at most", condition.max),
            ]
            .into_iter()
            .flatten()
            .collect();
            let (signal, value) = (
                wording::phrase(&condition.signal),
                wording::phrase(&condition.value),
            );
            format!("{value} ({signal}) {verb} {}", edges.join(" and "))
        })
        .collect();
    if conditions.is_empty() {
        String::new()
    } else {
        format!(" where {}", conditions.join(" and "))
    }
}

/// The limit as a phrase: what is tested, the bound, the consequence.
fn describe(limit: &Limit, unit: &str) -> String {
    let tested = match limit.on {
        On::Bad => "interval",
        On::Value => "estimate",
        On::Low => "lower bound",
        On::High => "upper bound",
        On::Delta => "change",
        On::DeltaValue => "estimated change",
        On::DeltaLow => "lower bound of the change",
        On::DeltaHigh => "upper bound of the change",
    };
    format!(
        "{tested} {}, else {}",
        bounds(limit, unit),
        limit.otherwise.word()
    )
}
