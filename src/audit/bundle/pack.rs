//! Puts a bundle together.
//!
//! Always: the same audit, evidence and settings give the same bytes.

use candlescope_probes::LogisticProbe;
use serde_json::{Map, Value, json};

use super::manifest::Manifest;
use super::raw::Raw;
use super::tar::Members;
use super::{
    AUDIT, Bundle, BundleError, DIRECTION, EVIDENCE, MANIFEST, POLICY, PROBES, PROMPTS, RUN,
    SOURCE, Settings,
};
use crate::audit::evidence::probes::Probes;
use crate::audit::policy::{self, Sizes};
use crate::audit::report::json;
use crate::audit::result::Audit;
use crate::files::write::header_bytes;
use crate::steer::file::{self, DirectionFile};

/// What goes into a bundle.
pub struct Parts<'a> {
    /// The audit, judged.
    pub audit: &'a Audit,
    /// The numbers behind it.
    pub raw: &'a Raw,
    /// The refusal direction, if one was found.
    pub direction: Option<&'a DirectionFile>,
    /// The policy's text as it was given.
    pub policy: &'a str,
    /// The sizes it was judged with.
    pub sizes: Sizes,
    /// The options that say what was audited.
    pub settings: &'a Settings,
}

/// The bundle of an audit.
///
/// # Errors
/// A policy that cannot be written out.
pub fn pack(parts: &Parts) -> Result<Bundle, BundleError> {
    let resolved = policy::resolved(parts.policy, SOURCE, parts.sizes)?;
    let mut members = Members::from([
        (AUDIT.to_owned(), json::render(parts.audit)?.into_bytes()),
        (EVIDENCE.to_owned(), pretty(EVIDENCE, &parts.raw.evidence)?),
        (SOURCE.to_owned(), parts.policy.as_bytes().to_vec()),
        (POLICY.to_owned(), resolved.into_bytes()),
        (PROMPTS.to_owned(), prompts(parts.raw)?),
        (RUN.to_owned(), pretty(RUN, parts.settings)?),
    ]);
    if let Some(direction) = parts.direction {
        members.insert(DIRECTION.to_owned(), file::bytes(direction));
    }
    if let Some(fitted) = &parts.raw.probes {
        members.insert(PROBES.to_owned(), probes(fitted));
    }
    let manifest = Manifest::new(parts.audit, &members);
    members.insert(MANIFEST.to_owned(), manifest.render()?.into_bytes());
    Ok(Bundle { members, manifest })
}

fn pretty(member: &'static str, value: &impl serde::Serialize) -> Result<Vec<u8>, BundleError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| BundleError::member(member, "text", "JSON", error))?;
    Ok((text + "\n").into_bytes())
}

fn prompts(raw: &Raw) -> Result<Vec<u8>, BundleError> {
    let mut out = Vec::new();
    for prompt in &raw.prompts {
        let line = serde_json::to_string(prompt)
            .map_err(|error| BundleError::member(PROMPTS, "text", "JSON", error))?;
        out.extend(line.into_bytes());
        out.push(b'\n');
    }
    Ok(out)
}

/// Both probes as safetensors of f64: `PLACE.weights`, `PLACE.mean`, `PLACE.scale` `[d_model]` and `PLACE.bias` `[1]`; a logit
/// is `weights · (x − mean) / scale + bias`.
fn probes(fitted: &Probes) -> Vec<u8> {
    let both = [
        ("instruction", &fitted.instruction),
        ("template", &fitted.template),
    ];
    let mut header = Map::new();
    let mut metadata = Map::new();
    metadata.insert("schema".to_owned(), json!("candlescope.audit.probes/1"));
    for (place, probe) in both {
        metadata.insert(format!("{place}.layer"), json!(probe.layer.to_string()));
        metadata.insert(format!("{place}.c"), json!(probe.fitted.c.to_string()));
    }
    header.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut data: Vec<u8> = Vec::new();
    for (place, probe) in both {
        for (name, values) in tensors(&probe.fitted) {
            let start = data.len();
            data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            let entry = json!({
                "dtype": "F64", "shape": [values.len()], "data_offsets": [start, data.len()]
            });
            header.insert(format!("{place}.{name}"), entry);
        }
    }
    [header_bytes(header), data].concat()
}

fn tensors(probe: &LogisticProbe) -> [(&'static str, &[f64]); 4] {
    [
        ("weights", &probe.weights),
        ("mean", &probe.mean),
        ("scale", &probe.scale),
        ("bias", std::slice::from_ref(&probe.bias)),
    ]
}
