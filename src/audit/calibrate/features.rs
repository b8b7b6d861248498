//! An audit as numbers: for each quantity its change against the baseline, or its value where that says the same.
//!
//! Always: a number is oriented so that more is worse, or has no orientation; beside it stands the error that comes from
//! having asked a sample of prompts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::catalogue;
use crate::audit::measure::{Better, Interval, Value};
use crate::audit::result::Audit;

/// One number of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// More is worse, unless it has two sides.
    pub value: f64,
    /// Standard error of sampling, where the audit gave an interval.
    pub error: Option<f64>,
    /// Whether less is unusual, too.
    pub two_sided: bool,
}

/// Numbers by `signal.quantity`.
pub type Features = BTreeMap<String, Feature>;

/// The numbers of an audit.
pub fn features(audit: &Audit) -> Features {
    let mut features = Features::new();
    for signal in &audit.signals {
        // What a signal says of provenance is that files differ, which all these checkpoints do.
        if signal.id == "provenance" {
            continue;
        }
        for value in &signal.values {
            if let Some(feature) = feature(&signal.id, value) {
                features.insert(format!("{}.{}", signal.id, value.name), feature);
            }
        }
    }
    features
}

fn feature(id: &str, value: &Value) -> Option<Feature> {
    let (number, interval) = match (&value.delta, value.value) {
        (Some(delta), _) => (delta.value, delta.interval.as_ref()),
        // Without a change of its own a quantity counts where the signal is about a change.
        (None, Some(number)) if of_a_pair(id) => (number, value.interval.as_ref()),
        _ => return None,
    };
    let two_sided = value.better == Better::Neither;
    let value = match value.better {
        Better::Higher => -number,
        Better::Lower | Better::Neither => number,
    };
    value.is_finite().then(|| Feature {
        value,
        error: interval.and_then(error),
        two_sided,
    })
}

fn of_a_pair(id: &str) -> bool {
    catalogue::signal(id).is_some_and(|entry| entry.needs_baseline)
}

/// Half the width of a 95 % interval in standard errors.
fn error(interval: &Interval) -> Option<f64> {
    let width = interval.high - interval.low;
    (width.is_finite() && width > 0.0).then_some(width / (2.0 * 1.959_964))
}
