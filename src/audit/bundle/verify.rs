//! A bundle held against the same audit made again.
//!
//! Always: everything is compared bit for bit but times, the names that files have on one machine, and the conditions of the
//! run (version, threads, kernels), which are told beside the result and decide nothing.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::compare::{Difference, differences};
use super::{AUDIT, Bundle, BundleError, DIRECTION, EVIDENCE, PROBES, PROMPTS};
use crate::audit::result::ModelCard;
use crate::model::{Checkpoint, ModelError};

/// A circumstance that was another here.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub what: &'static str,
    /// In the bundle.
    pub bundle: String,
    /// Here.
    pub here: String,
}

/// What a second audit says of a bundle.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Recomputed {
    /// Every value that came out otherwise: what was audited first, then quantities, items, raw numbers, and last what is
    /// made of them.
    pub differences: Vec<Difference>,
    /// The signals of which a quantity or an item came out otherwise.
    pub signals: BTreeSet<String>,
    /// What was not as when the bundle was made.
    pub conditions: Vec<Condition>,
}

/// How a checkpoint differs from a card; empty where it is the same one.
///
/// # Errors
/// The weights cannot be read.
pub fn another(
    member: &str,
    card: &ModelCard,
    checkpoint: &Checkpoint,
) -> Result<Vec<Difference>, ModelError> {
    let here = checkpoint.fingerprint()?;
    let without = || "none".to_owned();
    let template = Some(&here.template).filter(|hash| !hash.is_empty());
    let pairs = [
        ("weights", card.weights_hash.clone(), here.weights.clone()),
        (
            "tokenizer",
            card.tokenizer_hash.clone(),
            here.tokenizer.clone(),
        ),
        (
            "chat template",
            card.template_hash.clone().unwrap_or_else(without),
            template.cloned().unwrap_or_else(without),
        ),
        ("forward pass", card.fingerprint.clone(), here.id()),
    ];
    let others = pairs.into_iter().filter(|(_, bundle, here)| bundle != here);
    Ok(others
        .map(|(at, bundle, here)| Difference {
            member: member.to_owned(),
            at: at.to_owned(),
            bundle,
            here,
        })
        .collect())
}

/// A bundle beside the one that the second audit makes.
///
/// # Errors
/// A member that cannot be read.
pub fn recomputed(bundle: &Bundle, again: &Bundle) -> Result<Recomputed, BundleError> {
    let mut found = Vec::new();
    for name in [AUDIT, EVIDENCE, PROMPTS] {
        let (left, right) = (value(bundle, name)?, value(again, name)?);
        found.extend(differences(name, &left, &right));
    }
    for name in [DIRECTION, PROBES] {
        found.extend(tensors(name, bundle.member(name), again.member(name)));
    }
    found.sort_by_key(rank);
    Ok(Recomputed {
        signals: found
            .iter()
            .filter_map(measured)
            .map(str::to_owned)
            .collect(),
        differences: found,
        conditions: conditions(bundle, again),
    })
}

/// The signal whose quantity or item a difference lies in.
fn measured(differs: &Difference) -> Option<&str> {
    let rest = differs.at.strip_prefix("signals[")?;
    let (id, rest) = rest.split_once(']')?;
    let part = rest.starts_with(".values[") || rest.starts_with(".items[");
    (part && differs.member == AUDIT).then_some(id)
}

/// What a reader wants to know first.
fn rank(differs: &Difference) -> u8 {
    let input = ["subject", "baseline", "policy", "provenance"];
    match differs.member.as_str() {
        PROMPTS => 0,
        AUDIT if input.iter().any(|key| differs.at.starts_with(key)) => 0,
        AUDIT if measured(differs).is_none() => 6,
        AUDIT if differs.at.contains("].values[") => 1,
        AUDIT => 2,
        EVIDENCE => 3,
        DIRECTION => 4,
        _ => 5,
    }
}

fn conditions(bundle: &Bundle, again: &Bundle) -> Vec<Condition> {
    let (then, now) = (bundle.manifest(), again.manifest());
    [
        ("candlescope", &then.tool_version, &now.tool_version),
        ("kernels", &then.numerical_path, &now.numerical_path),
        (
            "threads",
            &then.threads.to_string(),
            &now.threads.to_string(),
        ),
    ]
    .into_iter()
    .filter(|(_, then, now)| then != now)
    .map(|(what, then, now)| Condition {
        what,
        bundle: then.clone(),
        here: now.clone(),
    })
    .collect()
}

/// A member as JSON, without what may differ between two runs.
fn value(bundle: &Bundle, name: &'static str) -> Result<Value, BundleError> {
    let foreign = |error| BundleError::member(name, "text", "JSON", error);
    if name == PROMPTS {
        let lines = serde_json::Deserializer::from_slice(bundle.member(name)).into_iter::<Value>();
        return lines.collect::<Result<_, _>>().map_err(foreign);
    }
    let mut read = serde_json::from_slice(bundle.member(name)).map_err(foreign)?;
    if name == AUDIT {
        timeless(&mut read);
    }
    Ok(read)
}

/// Takes out times, names of files, and what [`conditions`] tells.
fn timeless(audit: &mut Value) {
    for (place, key) in [
        ("", "started"),
        ("", "seconds"),
        ("", "tool_version"),
        ("/subject", "path_name"),
        ("/baseline", "path_name"),
        ("/provenance", "threads"),
        ("/provenance", "numerical_path"),
    ] {
        remove(audit.pointer_mut(place), key);
    }
    for (place, key) in [
        ("/signals", "seconds"),
        ("/provenance/detectors", "version"),
        ("/provenance/dictionaries", "name"),
        ("/provenance/inputs", "name"),
    ] {
        let entries = audit.pointer_mut(place).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            remove(Some(entry), key);
        }
    }
}

fn remove(from: Option<&mut Value>, key: &str) {
    if let Some(map) = from.and_then(Value::as_object_mut) {
        map.remove(key);
    }
}

/// Two safetensors files: their headers as JSON, then their data number by number.
fn tensors(name: &str, bundle: &[u8], again: &[u8]) -> Vec<Difference> {
    if bundle == again {
        return Vec::new();
    }
    let whole = |at: String, bundle: String, here: String| Difference {
        member: name.to_owned(),
        at,
        bundle,
        here,
    };
    let (Some((left, left_data)), Some((right, right_data))) = (header(bundle), header(again))
    else {
        let said = |bytes: &[u8]| match bytes.len() {
            0 => "nothing".to_owned(),
            n => format!("{n} bytes"),
        };
        return vec![whole("file".to_owned(), said(bundle), said(again))];
    };
    let mut found = differences(name, &left, &right);
    if left_data.len() == right_data.len() {
        let width = if name == PROBES { 8 } else { 4 };
        let pairs = left_data
            .chunks(width)
            .zip(right_data.chunks(width))
            .enumerate();
        let differ = pairs.filter(|(_, (left, right))| left != right);
        found.extend(
            differ.map(|(i, (left, right))| {
                whole(format!("number {i}"), number(left), number(right))
            }),
        );
    }
    found
}

/// A little-endian f32 or f64 in words.
fn number(bytes: &[u8]) -> String {
    match (<[u8; 4]>::try_from(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(four), _) => f32::from_le_bytes(four).to_string(),
        (_, Ok(eight)) => f64::from_le_bytes(eight).to_string(),
        _ => format!("{bytes:02x?}"),
    }
}

/// Header and data of a safetensors file.
fn header(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, data) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(header).ok()?, data))
}
