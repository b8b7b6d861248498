//! A policy out of its TOML, every key of which is known.

use std::collections::BTreeMap;

use super::amount;
use super::keys::Keys;
use super::{Condition, Limit, On, Policy, PolicyError, Severity, SignalPolicy, Sizes};
use crate::audit::calibrate::Calibration;
use crate::audit::catalogue;
use crate::audit::result::PolicyId;
use crate::audit::verdict::Verdict;

/// Preference pairs where a policy does not say.
const PAIRS: usize = 200;

/// The policy of a whole file with this hash.
pub fn policy(keys: &Keys, hash: String) -> Result<Policy, PolicyError> {
    keys.only(&[
        "name",
        "alpha",
        "power",
        "require_baseline",
        "seed",
        "sizes",
        "families",
        "ask",
        "signals",
        "calibration",
    ])?;
    let asked = read_asked(keys)?;
    let mut signals = BTreeMap::new();
    for (id, entry) in keys.table("signals")?.tables()? {
        let known: Vec<_> = catalogue::SIGNALS.iter().map(|signal| signal.id).collect();
        let Some(described) = catalogue::signal(&id) else {
            return Err(keys.unknown("signal", &format!("signals.{id}"), &id, &known));
        };
        let mut signal = read_signal(&entry, described)?;
        signal.enabled &= asked.as_ref().is_none_or(|asked| asked.contains(&id));
        signals.insert(id, signal);
    }
    // A signal that is asked and that nothing is said of would be asked in vain.
    if let Some(id) = asked.iter().flatten().find(|id| !signals.contains_key(*id)) {
        let expected = "signals that the policy has";
        return Err(keys.wrong("ask", expected, &format!("`{id}`, which it has not")));
    }
    Ok(Policy {
        id: PolicyId {
            name: keys.text("name")?.unwrap_or_else(|| "unnamed".to_owned()),
            hash,
        },
        alpha: keys.share("alpha")?.unwrap_or(0.05),
        power: keys.share("power")?.unwrap_or(0.8),
        require_baseline: keys.flag("require_baseline")?.unwrap_or(false),
        seed: keys.count("seed")?.unwrap_or(0),
        sizes: read_sizes(&keys.table("sizes")?)?,
        families: read_families(&keys.table("families")?)?,
        signals,
        calibration: read_calibration(keys)?.map(Box::new),
    })
}

/// Every size.
pub const SIZES: [&str; 13] = [
    "fit",
    "select",
    "harmful",
    "harmless",
    "lookalikes",
    "trials",
    "max_new_tokens",
    "random_directions",
    "shuffles",
    "bootstrap",
    "framed",
    "triggers",
    "pairs",
];

fn read_sizes(keys: &Keys) -> Result<Sizes, PolicyError> {
    keys.only(&SIZES)?;
    let size = |name: &str| -> Result<usize, PolicyError> {
        match keys.count(name)? {
            Some(count) if (1..=1_000_000).contains(&count) => Ok(count as usize),
            Some(count) => Err(keys.wrong(name, "a count from 1 to 1000000", &count.to_string())),
            None => Err(keys.wrong(
                name,
                "a count from 1 to 1000000",
                "nothing; write it, or start with extends = \"default\"",
            )),
        }
    };
    Ok(Sizes {
        fit: size("fit")?,
        select: size("select")?,
        harmful: size("harmful")?,
        harmless: size("harmless")?,
        lookalikes: size("lookalikes")?,
        trials: size("trials")?,
        max_new_tokens: size("max_new_tokens")?,
        random_directions: size("random_directions")?,
        shuffles: size("shuffles")?,
        bootstrap: size("bootstrap")?,
        framed: size("framed")?,
        triggers: size("triggers")?,
        // Policies that were written out before there were pairs have no such size.
        pairs: match keys.count("pairs")? {
            Some(_) => size("pairs")?,
            None => PAIRS,
        },
    })
}

/// What `audit calibrate --policy-out` wrote behind the policy.
fn read_calibration(keys: &Keys) -> Result<Option<Calibration>, PolicyError> {
    let Some(value) = keys.get("calibration") else {
        return Ok(None);
    };
    let wrong = |found: String| {
        let expected = "what `audit calibrate --policy-out` writes";
        keys.wrong("calibration", expected, &found)
    };
    let read: Calibration = (value.clone().try_into())
        .map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    read.check().map_err(wrong)?;
    Ok(Some(read))
}

/// The only signals that are asked, where the policy names them.
fn read_asked(keys: &Keys) -> Result<Option<Vec<String>>, PolicyError> {
    if !keys.names().iter().any(|name| name == "ask") {
        return Ok(None);
    }
    let asked = keys.texts("ask")?;
    let known: Vec<_> = catalogue::SIGNALS.iter().map(|signal| signal.id).collect();
    match asked.iter().find(|id| !known.contains(&id.as_str())) {
        Some(id) => Err(keys.unknown("signal", &keys.path("ask"), id, &known)),
        None => Ok(Some(asked)),
    }
}

fn read_families(keys: &Keys) -> Result<BTreeMap<String, Vec<String>>, PolicyError> {
    let mut families = BTreeMap::new();
    let mut placed: BTreeMap<String, String> = BTreeMap::new();
    let known: Vec<_> = catalogue::SIGNALS.iter().map(|signal| signal.id).collect();
    for name in keys.names() {
        let ids = keys.texts(&name)?;
        for id in &ids {
            if !known.contains(&id.as_str()) {
                return Err(keys.unknown("signal", &keys.path(&name), id, &known));
            }
            if let Some(other) = placed.insert(id.clone(), name.clone()) {
                let found = format!("`{id}`, which is also in `{other}`");
                return Err(keys.wrong(&name, "signals that are in no other family", &found));
            }
        }
        families.insert(name, ids);
    }
    Ok(families)
}

fn read_signal(keys: &Keys, described: &catalogue::Entry) -> Result<SignalPolicy, PolicyError> {
    keys.only(&["enabled", "severity", "limits"])?;
    let severity = keys
        .choice("severity", SEVERITY)?
        .unwrap_or(Severity::Review);
    let mut limits = BTreeMap::new();
    let all = keys.table("limits")?;
    for name in all.names() {
        let Some(quantity) = described.quantity(&name) else {
            let known: Vec<_> = (described.quantities.iter())
                .map(|quantity| quantity.name)
                .collect();
            return Err(keys.unknown("quantity", &all.path(&name), &name, &known));
        };
        let read: Result<Vec<_>, _> = all
            .one_or_many(&name)?
            .iter()
            .map(|limit| read_limit(limit, severity, quantity.unit))
            .collect();
        limits.insert(name, read?);
    }
    Ok(SignalPolicy {
        enabled: keys.flag("enabled")?.unwrap_or(true),
        severity,
        limits,
    })
}

const SEVERITY: &[(&str, Severity)] = &[
    ("block", Severity::Block),
    ("review", Severity::Review),
    ("info", Severity::Info),
];

const ON: &[(&str, On)] = &[
    ("value", On::Value),
    ("low", On::Low),
    ("high", On::High),
    ("delta", On::Delta),
    ("delta_value", On::DeltaValue),
    ("delta_low", On::DeltaLow),
    ("delta_high", On::DeltaHigh),
];

const OTHERWISE: &[(&str, Verdict)] = &[("block", Verdict::Block), ("review", Verdict::Review)];

fn read_limit(keys: &Keys, severity: Severity, unit: &str) -> Result<Limit, PolicyError> {
    keys.only(&[
        "min", "max", "on", "else", "detect", "holm", "when", "message",
    ])?;
    let limit = Limit {
        min: amount::number(keys, "min", unit)?,
        max: amount::number(keys, "max", unit)?,
        on: keys.choice("on", ON)?.unwrap_or(On::Bad),
        otherwise: keys.choice("else", OTHERWISE)?.unwrap_or(match severity {
            Severity::Block => Verdict::Block,
            Severity::Review | Severity::Info => Verdict::Review,
        }),
        detect: amount::number(keys, "detect", unit)?,
        holm: keys.flag("holm")?.unwrap_or(false),
        when: read_conditions(&keys.table("when")?)?,
        message: keys.text("message")?,
    };
    match (limit.min, limit.max) {
        (None, None) => Err(keys.wrong("min", "given, or `max`", "neither")),
        (Some(min), Some(max)) if min > max => {
            Err(keys.wrong("min", "at most `max`", &format!("{min} over {max}")))
        }
        (Some(_), Some(_))
            if matches!(limit.on, On::Low | On::High | On::DeltaLow | On::DeltaHigh) =>
        {
            Err(keys.wrong(
                "on",
                "left out, \"value\", \"delta\" or \"delta_value\" beside both `min` and `max`",
                "one end of the interval",
            ))
        }
        _ if limit.detect.is_some_and(|detect| detect <= 0.0) => {
            Err(keys.wrong("detect", "above 0", "0 or less"))
        }
        _ => Ok(limit),
    }
}

fn read_conditions(keys: &Keys) -> Result<Vec<Condition>, PolicyError> {
    let mut conditions = Vec::new();
    for (name, range) in keys.tables()? {
        let known = |(signal, value): (&str, &str)| {
            let quantity = catalogue::signal(signal)?.quantity(value)?;
            Some((signal.to_owned(), quantity))
        };
        let Some((signal, quantity)) = name.split_once('.').and_then(known) else {
            let all: Vec<String> = (catalogue::SIGNALS.iter())
                .flat_map(|signal| {
                    let quantities = signal.quantities.iter();
                    quantities.map(|quantity| format!("{}.{}", signal.id, quantity.name))
                })
                .collect();
            let known: Vec<_> = all.iter().map(String::as_str).collect();
            return Err(keys.unknown("quantity", &keys.path(&name), &name, &known));
        };
        range.only(&["min", "max", "on"])?;
        conditions.push(Condition {
            signal,
            value: quantity.name.to_owned(),
            of_change: range
                .choice("on", &[("value", false), ("delta_value", true)])?
                .unwrap_or(false),
            min: amount::number(&range, "min", quantity.unit)?,
            max: amount::number(&range, "max", quantity.unit)?,
        });
    }
    Ok(conditions)
}
