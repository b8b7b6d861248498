//! A bundle of a made-up audit: packed, read, tampered with.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use candlescope_probes::LogisticProbe;
use candlescope_probes::Score as _;
use ndarray::array;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::pack::{Parts, pack};
use super::raw::{self, Prompt, Raw};
use super::read::Finding;
use super::verify::recomputed;
use super::*;
use crate::audit::evidence::Place;
use crate::audit::evidence::probes::{Probe, Probes};
use crate::audit::policy::{DEFAULT, Policy};
use crate::audit::report::json;
use crate::audit::report::tests::fake;
use crate::audit::result::Audit;
use crate::files::Bytes;
use crate::files::safetensors::SafetensorsFile;
use crate::steer::file::DirectionFile;
use crate::text::suites::{Label, Split};

fn audit() -> Audit {
    Audit {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..fake::audit()
    }
}

fn probe(place: Place) -> Probe {
    let fitted = LogisticProbe {
        n: 4,
        n_pos: 2,
        n_neg: 2,
        weights: vec![0.5, -1.25],
        bias: 0.125,
        mean: vec![1.0, 2.0],
        scale: vec![2.0, 0.5],
        c: 0.01,
        validation: Vec::new(),
        gradient: 0.0,
    };
    Probe {
        place,
        layer: 1,
        fitted,
        validation: vec![0.5, 1.0],
        test: vec![0.5, 1.0],
        harmful: vec![1.5],
        harmless: vec![-0.5],
    }
}

fn raw() -> Raw {
    Raw {
        prompts: vec![Prompt {
            id: "p1".into(),
            label: Label::Harmful,
            split: Split::Test,
            sha256: "0".repeat(64),
        }],
        evidence: json!({"schema": raw::SCHEMA, "subject": {"first_tokens": {"harmful": [
            {"id": "p1", "refusal_score": 0.1}
        ]}}}),
        probes: Some(Probes {
            instruction: probe(Place::Instruction),
            template: probe(Place::Template),
        }),
    }
}

fn settings() -> Settings {
    Settings {
        schema: Settings::SCHEMA.into(),
        zero: vec!["mlp_out.1".into()],
        ..Settings::default()
    }
}

fn packed_with(audit: &Audit, raw: &Raw, vector: Vec<f32>) -> Bundle {
    let direction = DirectionFile {
        vector,
        ..DirectionFile::default()
    };
    pack(&Parts {
        audit,
        raw,
        direction: Some(&direction),
        policy: DEFAULT,
        sizes: Policy::built_in().unwrap().sizes,
        settings: &settings(),
    })
    .unwrap()
}

fn packed() -> Bundle {
    packed_with(&audit(), &raw(), vec![0.6, -0.8])
}

/// Everything that is wrong with these bytes, in words.
fn wrong(bytes: &[u8]) -> Vec<String> {
    match Bundle::read(bytes) {
        Err(error) => vec![error.to_string()],
        Ok(bundle) => bundle
            .findings()
            .into_iter()
            .map(|Finding { member, problem }| format!("{member}: {problem}"))
            .collect(),
    }
}

/// A bundle whose members were changed and, where `honest`, listed anew.
fn tampered(honest: bool, change: impl FnOnce(&mut tar::Members)) -> Vec<u8> {
    let mut bundle = packed();
    change(&mut bundle.members);
    if honest {
        let mut manifest = bundle.manifest.clone();
        manifest.members = Manifest::new(&audit(), &bundle.members).members;
        let text = manifest.render().unwrap();
        bundle.members.insert(MANIFEST.into(), text.into_bytes());
    }
    bundle.bytes()
}

fn replace(members: &mut tar::Members, name: &str, from: &str, to: &str) {
    let text = String::from_utf8(members[name].clone()).unwrap();
    assert!(text.contains(from), "{name}: {from}");
    members.insert(name.into(), text.replacen(from, to, 1).into_bytes());
}

#[test]
fn what_is_packed_is_read_and_holds() {
    let bundle = packed();
    let bytes = bundle.bytes();
    assert_eq!(bytes, packed().bytes());
    assert_eq!(wrong(&bytes), [""; 0]);
    let read = Bundle::read(&bytes).unwrap();
    assert_eq!(read, bundle);
    // As text: a NaN in it is not equal to itself.
    let text = json::render(&read.audit().unwrap()).unwrap();
    assert!(text == json::render(&audit()).unwrap());
    assert_eq!(read.settings().unwrap(), settings());
    assert_eq!(read.policy().unwrap(), Policy::built_in().unwrap());
    let listed: Vec<_> = read
        .manifest()
        .members
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    let all: Vec<_> = MEMBERS
        .iter()
        .map(|kind| kind.name)
        .filter(|name| *name != MANIFEST)
        .collect();
    assert_eq!(listed, all);
    for member in &read.manifest().members {
        assert_eq!(member.sha256, sha256(read.member(&member.name)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_byte_can_change_unseen(at in any::<prop::sample::Index>(), mask in 1u8..) {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = BYTES.get_or_init(|| packed().bytes()).clone();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        prop_assert!(!wrong(&bytes).is_empty(), "byte {at} ^ {mask:#04x}");
    }
}

#[test]
fn no_byte_of_the_manifest_can_change_unseen() {
    let bundle = packed();
    let bytes = bundle.bytes();
    let text = bundle.member(MANIFEST);
    let start = bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    for at in (start..start + text.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(!wrong(&changed).is_empty(), "byte {at}");
    }
}

#[test]
fn a_changed_member_is_named() {
    let (from, to) = ("\"refusal_score\": 0.1", "\"refusal_score\": 0.2");
    let bytes = tampered(false, |members| replace(members, EVIDENCE, from, to));
    let found = wrong(&bytes);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("evidence.json: its SHA-256 is"),
        "{found:?}"
    );
    for (name, words) in [
        (
            DIRECTION,
            "direction.safetensors: listed in bundle.json and not there",
        ),
        (PROMPTS, "prompts.jsonl: file: expected ids, labels"),
    ] {
        let bytes = tampered(false, |members| drop(members.remove(name)));
        assert!(wrong(&bytes)[0].contains(words), "{:?}", wrong(&bytes));
    }
}

#[test]
fn a_manifest_that_does_not_fit_its_members_is_named() {
    let threads = |members: &mut tar::Members| {
        let text = String::from_utf8(members[MANIFEST].clone()).unwrap();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let other = Manifest {
            seed: manifest.seed + 1,
            ..manifest
        };
        members.insert(MANIFEST.into(), other.render().unwrap().into_bytes());
    };
    let found = wrong(&tampered(false, threads));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("bundle.json: seed:"), "{found:?}");
    let spaced = tampered(false, |members| {
        replace(members, MANIFEST, "{\n  \"schema\"", "{\n   \"schema\"");
    });
    assert!(
        wrong(&spaced)[0].contains("the one form"),
        "{:?}",
        wrong(&spaced)
    );
    let later = tampered(false, |members| {
        replace(members, MANIFEST, "bundle/1", "bundle/2");
    });
    assert!(
        wrong(&later)[0].contains("candlescope.bundle/2"),
        "{:?}",
        wrong(&later)
    );
}

#[test]
fn another_policy_under_the_same_name_is_found_even_where_the_hashes_fit() {
    let softer = tampered(true, |members| {
        replace(members, POLICY, "alpha = 0.05", "alpha = 0.2");
    });
    let found = wrong(&softer);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("policy.toml: it is not policy.source.toml written out"),
        "{found:?}"
    );
    let both = tampered(true, |members| {
        replace(members, SOURCE, "alpha = 0.05", "alpha = 0.2");
        replace(members, POLICY, "alpha = 0.05", "alpha = 0.2");
    });
    let found = wrong(&both);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("policy.source.toml: it is `default` with hash"),
        "{found:?}"
    );
    let smaller = tampered(true, |members| {
        replace(members, POLICY, "harmful = ", "harmful = 1");
    });
    assert!(
        wrong(&smaller)[0].contains("its sizes are others"),
        "{:?}",
        wrong(&smaller)
    );
}

#[test]
fn foreign_members_of_known_names_are_refused_by_name() {
    for (name, text, words) in [
        (
            RUN,
            "{}",
            "run.json: text: expected the options of an audit",
        ),
        (
            EVIDENCE,
            "{}",
            "evidence.json: schema: expected candlescope.evidence/2, found nothing",
        ),
        (EVIDENCE, "[", "evidence.json: text: expected JSON"),
        (PROMPTS, "{\"id\": 1}\n", "prompts.jsonl: line 1"),
        (AUDIT, "{\"schema\": \"x\"}", "has schema `x`"),
        (POLICY, "alpha = 2", "policy.toml"),
    ] {
        let bytes = tampered(true, |members| {
            members.insert(name.into(), text.into());
        });
        let found = wrong(&bytes);
        assert!(
            found.iter().any(|line| line.contains(words)),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_second_audit_is_compared_but_for_times_and_conditions() {
    let bundle = packed();
    let mut later = audit();
    later.started = "2027-01-01T00:00:00Z".into();
    later.seconds = 1.0;
    later.signals[0].seconds = 2.0;
    later.subject.path_name = "elsewhere".into();
    later.provenance.threads += 1;
    later.provenance.numerical_path = "f32 on another CPU".into();
    let found = recomputed(&bundle, &packed_with(&later, &raw(), vec![0.6, -0.8])).unwrap();
    assert_eq!(found.differences, []);
    let what: Vec<_> = found
        .conditions
        .iter()
        .map(|condition| condition.what)
        .collect();
    assert_eq!(what, ["kernels", "threads"]);

    let x = 0.1f64;
    let mut other = raw();
    let number = &mut other.evidence["subject"]["first_tokens"]["harmful"][0]["refusal_score"];
    *number = Value::from(f64::from_bits(x.to_bits() + 1));
    if let Some(probes) = &mut other.probes {
        probes.template.fitted.bias = 0.25;
    }
    let mut changed = audit();
    let signal = changed
        .signals
        .iter_mut()
        .find(|signal| !signal.values.is_empty())
        .unwrap();
    signal.values[0].value = Some(0.5);
    let at = format!(
        "signals[{}].values[{}].value",
        signal.id, signal.values[0].name
    );
    let signal = signal.id.clone();
    let found = recomputed(&bundle, &packed_with(&changed, &other, vec![0.6, 0.8])).unwrap();
    let places: Vec<_> = found
        .differences
        .iter()
        .map(|d| format!("{}: {}", d.member, d.at))
        .collect();
    assert_eq!(
        places,
        [
            format!("audit.json: {at}"),
            "evidence.json: subject.first_tokens.harmful[p1].refusal_score".to_owned(),
            "direction.safetensors: number 1".to_owned(),
            "probes.safetensors: number 13".to_owned(),
        ]
    );
    assert_eq!(found.differences[3].here, "0.25");
    assert_eq!(found.signals.iter().collect::<Vec<_>>(), [&signal]);

    // The inputs first, the verdict last.
    let mut reseeded = changed;
    reseeded.provenance.seed += 1;
    reseeded.reasons.push("another".into());
    let found = recomputed(&bundle, &packed_with(&reseeded, &raw(), vec![0.6, -0.8])).unwrap();
    let places: Vec<_> = found.differences.iter().map(|d| d.at.as_str()).collect();
    let last = format!("reasons[{}]", audit().reasons.len());
    assert_eq!(places, ["provenance.seed", at.as_str(), last.as_str()]);
}

/// A third party's logit, from the file alone, is the one that the probe gives.
#[test]
fn probes_can_be_applied_from_their_file() {
    let bundle = packed();
    let bytes = Bytes::Owned(bundle.member(PROBES).to_vec());
    let file = SafetensorsFile::from_bytes(Path::new(PROBES), bytes).unwrap();
    let tensor = |name: &str| -> Vec<f64> {
        let name = format!("instruction.{name}");
        file.load(&name, candle_core::DType::F64)
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    let (weights, mean, scale, bias) = (
        tensor("weights"),
        tensor("mean"),
        tensor("scale"),
        tensor("bias"),
    );
    let x = [3.0, -1.0];
    let logit: f64 = (0..2)
        .map(|i| weights[i] * (x[i] - mean[i]) / scale[i])
        .sum::<f64>()
        + bias[0];
    // 0.5 · (3 − 1)/2 − 1.25 · (−1 − 2)/0.5 + 0.125
    assert_eq!(logit, 8.125);
    let expected = probe(Place::Instruction)
        .fitted
        .scores(array![[3.0f32, -1.0]].view())
        .unwrap();
    assert_eq!(expected, [logit]);
}
