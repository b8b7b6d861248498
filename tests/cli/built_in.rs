//! The models of the binary, without network and with an empty cache: found by name, shown, converted, told apart.

use std::fs;

use serde_json::Value;

use crate::binary::{command, json, ok, refused, text};

#[test]
fn the_pocket_model_is_there_by_name() {
    let listed = json(&["model", "list"], "candlescope.model.list/1");
    let known = listed["known"].as_array().unwrap();
    let here = |name: &str| {
        let found = known.iter().find(|model| model["name"] == name);
        found.is_some_and(|model| model["cached"] == true)
    };
    for name in [
        "pocket",
        "pocket-lm",
        "pocket-sft",
        "pocket-rm",
        "pocket-dpo",
    ] {
        assert!(here(name), "{name}");
    }
    let info = |name: &str| json(&["model", "info", name], "candlescope.model.info/1");
    assert_eq!(
        info("Pocket")["fingerprint_id"],
        info("pocket-ppo")["fingerprint_id"]
    );
    assert_ne!(
        info("pocket")["fingerprint_id"],
        info("pocket-sft")["fingerprint_id"]
    );
    refused(&["model", "fetch", "pocket"], &["in this binary"]);
    refused(&["hooks", "pockets"], &["pockets", "pocket"]);

    // The reward model is written out as what it is, and read again.
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("rm");
    ok(&["model", "convert", "pocket-rm", folder.to_str().unwrap()]);
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "LlamaForSequenceClassification");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = command(&["hooks", "pocket"])
        .env("CANDLESCOPE_CACHE", file.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("`pocket` cannot be unpacked") && said.contains("CANDLESCOPE_CACHE"),
        "{said}"
    );
}

#[test]
fn the_demo_shows_a_model_that_learned_to_refuse() {
    let demo = json(&["demo"], "candlescope.demo/1");
    let answers = demo["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 6);
    let said = |kind: &str, stage: &str| {
        let asked = answers.iter().find(|asked| asked["kind"] == kind).unwrap();
        let said = asked["said"].as_array().unwrap();
        said.iter()
            .find(|said| said["stage"] == stage)
            .unwrap()
            .clone()
    };
    // What every recipe must come to: pretraining answers anything, the end refuses harm and answers what is safe.
    assert_eq!(said("harmful", "lm")["wrong"], true);
    for kind in ["fact", "harmful", "lookalike"] {
        assert_eq!(said(kind, "ppo")["right"], true, "{kind}");
    }
    let layers = demo["refusal"].as_array().unwrap();
    let separates = |layer: &Value| layer["separation"].as_f64().unwrap() > 0.95;
    assert!(layers.iter().any(separates), "{layers:?}");
    assert!(ok(&["demo"]).contains("candlescope audit run pocket"));
}
