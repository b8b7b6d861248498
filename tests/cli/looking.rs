//! `lens` and `capture`: what they show and write, and what they refuse before any work.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::binary::{json, llama, ok, refused, run, text};

/// Upper part of `lens MODEL "Hello there"`: tokens and bars, no digits that could round differently on another CPU.
const TABLE: &str = "\
layer 0:H      1:e      2:l      3:l      4:o      5:␣the  6:r      7:e
embed H      ▅ e      ▃ l      ▆ l      ▆ o      ▅ ␣the  ▆ r      ▇ e      ▃
    0 [145?] ▁ ;      ▁ \\      ▁ \\      ▁ [130?] ▁ ␣the  ▁ [146?] ▁ [146?] ▁
    1 [146?] ▁ [146?] ▁ [146?] ▁ [146?] ▁ [114?] ▁ T     ▁ r      ▁ [112?] ▁
    2 [109?] ▁ [109?] ▁ [154?] ▁ [154?] ▁ [114?] ▁ }     ▁ r      ▁ [139?] ▁
";

#[test]
fn the_lens_is_a_table_and_the_numbers_below_it_are_those_of_its_json() {
    let model = llama();
    let args = ["lens", &model, "Hello there", "--target", "r"];
    let shown = ok(&args);
    assert!(shown.starts_with(TABLE), "{shown}");
    assert!(shown.contains("position 7 after e; target r;"), "{shown}");

    let lens = json(&args, "candlescope.lens/1");
    assert_eq!(lens["rows"], serde_json::json!(["embed", "0", "1", "2"]));
    assert_eq!(lens["positions"].as_array().unwrap().len(), 8);
    let detail: Vec<Vec<&str>> = shown
        .lines()
        .rev()
        .take(4)
        .map(|line| line.split_whitespace().collect())
        .collect();
    for (line, row) in detail.iter().rev().zip(lens["cells"].as_array().unwrap()) {
        let cell = &row[7];
        assert_eq!(line[1], cell["top"][0]["text"]);
        let numbers = [
            &cell["top"][0]["probability"],
            &cell["entropy"],
            &cell["kl"],
            &cell["target_rank"],
            &cell["target_log_prob"],
            &cell["norm"],
        ];
        for (said, meant) in line[2..].iter().zip(numbers) {
            let (said, meant): (f64, f64) = (said.parse().unwrap(), meant.as_f64().unwrap());
            assert!((said - meant).abs() < 6e-3, "{line:?}: {said} for {meant}");
        }
    }
    // The last layer is the model's own output.
    let last = &lens["cells"][3][7];
    assert!(last["kl"].as_f64().unwrap().abs() < 1e-6);
}

#[test]
fn the_lens_shows_what_is_asked_for_and_an_edit_moves_it() {
    let model = llama();
    let args = [
        "lens",
        &model,
        "Hello there",
        "--layers",
        "embed,2",
        "--positions",
        "1,-1",
        "--top-k",
        "3",
    ];
    let lens = json(&args, "candlescope.lens/1");
    assert_eq!(lens["rows"], serde_json::json!(["embed", "2"]));
    assert_eq!(lens["positions"], serde_json::json!([1, 7]));
    let top = lens["cells"][1][1]["top"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    let edited = json(
        &[&args[..], &["--zero", "attn_out.*"]].concat(),
        "candlescope.lens/1",
    );
    // Before the first layer nothing moves but what is measured against the end.
    for (row, moved) in [(0, false), (1, true)] {
        let of = |lens: &Value| lens["cells"][row][1]["top"].clone();
        assert_eq!(of(&edited) != of(&lens), moved, "row {row}");
    }
    let chat = json(
        &["lens", &model, "Hello there", "--chat", "--layers", "2"],
        "candlescope.lens/1",
    );
    assert!(chat["positions"].as_array().unwrap().len() > 8);
}

#[test]
fn the_lens_refuses_what_is_not_there() {
    let model = llama();
    let long = "abc ".repeat(400);
    for (words, said) in [
        (
            &["Hello", "--layers", "7"][..],
            &["layer 7", "there are 3"][..],
        ),
        (&["Hello", "--layers", "resid"], &["`resid`", "embed,0-3"]),
        (
            &["Hello", "--positions", "90"],
            &["position 90", "out of range"],
        ),
        (
            &["Hello", "--positions", "0", "--detail", "1"],
            &["--detail", "--positions"],
        ),
        (
            &["Hello", "--target", "zzzz"],
            &["zzzz", "4 tokens", "exactly one"],
        ),
        (&["Hello", "--top-k", "0"], &["top-k", "1 to 160"]),
        (
            &["Hello", "--zero", "resid_pots.1"],
            &["did you mean `resid_post`"],
        ),
        (&[""], &["no tokens"]),
        (&[&long], &["1600 tokens", "context of 256"]),
    ] {
        refused(&[&["lens", &model], words].concat(), said);
    }
}

/// The files of a folder with their bytes.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect()
}

/// The manifest of a store.
pub fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_capture_is_a_store_with_a_manifest_and_a_line_or_an_object_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (llama(), dir.path().join("acts"));
    let folder = out.to_str().unwrap();
    let args = [
        "capture",
        &model,
        "--points",
        "resid_post.0-1,pattern.2",
        "--text",
        "Hello there",
        "--out",
    ];
    let report = json(&[&args[..], &[folder]].concat(), "candlescope.capture/1");
    assert_eq!(
        (&report["rows"], &report["stored_tokens"]),
        (&1.into(), &8.into())
    );
    assert_eq!(report["folder"], folder);
    let manifest = manifest(&out);
    assert_eq!(manifest["schema"], "candlescope.activations/1");
    assert_eq!(manifest["complete"], true);
    let points: Vec<_> = manifest["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["point"])
        .collect();
    assert_eq!(points, ["resid_post.0", "resid_post.1", "pattern.2"]);
    let names: Vec<_> = contents(&out).into_keys().collect();
    assert_eq!(names, ["acts-00000.safetensors", "manifest.json"]);
    let bytes = std::fs::metadata(out.join(&names[0])).unwrap().len();
    assert_eq!(report["bytes"], bytes);

    let plain = dir.path().join("plain");
    let line = ok(&[&args[..], &[plain.to_str().unwrap()]].concat());
    assert!(line.contains(": 1 rows, 8 tokens, "), "{line}");
    assert!(line.contains(" in 1 shard(s), "), "{line}");
    assert_eq!(
        contents(&plain)["acts-00000.safetensors"],
        contents(&out)["acts-00000.safetensors"]
    );
}

#[test]
fn a_capture_refuses_what_cannot_be_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (llama(), dir.path().join("acts"));
    let folder = out.to_str().unwrap();
    let long = "abc ".repeat(400);
    for (words, said) in [
        (
            &["--points", "resid_post.9", "--text", "Hi"][..],
            &["`resid_post.9`", "layers 0 to 2"][..],
        ),
        (
            &["--points", "resid_pots.0", "--text", "Hi"],
            &["did you mean `resid_post`"],
        ),
        (&["--points", "pos_embed", "--text", "Hi"], &["pos_embed"]),
        (
            &["--points", "embed", "--text", &long],
            &["1600 tokens", "at most 256", "--truncate"],
        ),
        (
            &["--points", "embed", "--text", "Hi", "--store-dtype", "f8"],
            &["--store-dtype", "f8"],
        ),
        (
            &["--points", "embed", "--text", "Hi", "--positions", "some"],
            &["--positions", "some"],
        ),
        (&["--points", "embed", "--docs", "texts"], &["--pack"]),
        (
            &["--points", "embed", "--docs", "no-such", "--pack", "8"],
            &["no-such"],
        ),
        (
            &["--points", "embed", "--suite", "harmful", "--pack", "9999"],
            &["--pack", "9999 of 256"],
        ),
        (
            &[
                "--points", "embed", "--suite", "harmful", "--pack", "8", "--drop", "frist",
            ],
            &["--drop", "frist"],
        ),
        (
            &[
                "--points",
                "pattern.0",
                "--text",
                "Hi",
                "--store-dtype",
                "int8",
            ],
            &["int8 for pattern.0"],
        ),
        (
            &["--points", "embed", "--text", "Hi", "--column", "text"],
            &["--column", "--parquet"],
        ),
        (
            &["--points", "embed", "--file", "no-such.txt"],
            &["no-such.txt"],
        ),
        (
            &["--points", "embed", "--suite", "harmfull"],
            &["harmfull", "harmful"],
        ),
    ] {
        refused(
            &[&["capture", &model, "--out", folder], words].concat(),
            said,
        );
        assert!(!out.exists(), "{words:?}");
    }
    let cut = [
        "capture",
        &model,
        "--out",
        folder,
        "--points",
        "embed",
        "--text",
        &long,
        "--truncate",
    ];
    assert_eq!(json(&cut, "candlescope.capture/1")["stored_tokens"], 256);
}

#[test]
fn documents_are_packed_and_what_training_leaves_out_is_said_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (llama(), dir.path().join("acts"));
    let texts = dir.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    for name in ["a.txt", "b.md", "c.txt", "d.txt", "e.txt"] {
        std::fs::write(texts.join(name), "the other thing is in there ".repeat(12)).unwrap();
    }
    let args = [
        "capture",
        &model,
        "--points",
        "resid_post.0,mlp_act.1",
        "--docs",
        texts.to_str().unwrap(),
        "--pack",
        "32",
        "--tokens",
        "600",
        "--store-dtype",
        "int8",
        "--drop",
        "first:2,special,norm:1.1,sample:4",
        "--out",
        out.to_str().unwrap(),
    ];
    let dry = [&args[..], &["--dry-run"]].concat();
    let forecast = json(&dry, "candlescope.capture-forecast/1");
    assert!(!out.exists());
    assert_eq!(
        (&forecast["rows"], &forecast["tokens"]),
        (&19.into(), &608.into())
    );
    assert!(forecast["tokens_per_second"].as_u64().unwrap() > 0);
    assert!(ok(&dry).contains("nothing was written"));

    let report = json(&args, "candlescope.capture/1");
    assert_eq!(report["preflight"], forecast["preflight"]);
    assert_eq!(report["preflight"]["contexts"], 4);
    let left_out = &report["left_out"];
    let count = |what: &str| left_out[what].as_u64().unwrap();
    assert_eq!(count("first"), 19 * 2);
    assert!(count("norm") > 0 && count("special") > 0, "{left_out}");
    let all = count("kept") + count("first") + count("special") + count("norm");
    assert_eq!(all, 608);
    assert_eq!(report["lost"].as_array().unwrap().len(), 2);
    let (least, most) = (
        forecast["bytes"].as_u64().unwrap(),
        forecast["bytes"].as_u64().unwrap() + 4096,
    );
    assert!((least..most).contains(&report["bytes"].as_u64().unwrap()));
    let written = manifest(&out);
    assert_eq!(written["source"]["packing"]["length"], 32);
    assert_eq!(written["facts"], report["preflight"]);

    let again = run(&[&args[..], &["--resume"]].concat());
    let (line, said) = (text(&again.stdout), text(&again.stderr));
    assert!(
        line.contains("training sees ") && line.contains("int8 lost"),
        "{line}"
    );
    assert!(said.contains("left out of training: the first 2"), "{said}");
    assert!(said.contains("|mean|/std"), "{said}");
}

#[test]
fn a_folder_is_captured_into_once_and_gone_on_with_under_the_same_settings_only() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (llama(), dir.path().join("acts"));
    let folder = out.to_str().unwrap();
    let with = |extra: &[&'static str]| -> Vec<String> {
        let base = ["capture", &model, "--out", folder, "--text", "Hello there"];
        base.iter().chain(extra).map(|s| (*s).to_owned()).collect()
    };
    let said = |args: Vec<String>, words: &[&str]| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    let first = with(&["--points", "embed", "--resume"]);
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    ok(&first);
    let written = contents(&out);
    said(
        with(&["--points", "embed"]),
        &["holds a store already", "--resume"],
    );
    said(
        with(&["--points", "resid_post.0", "--resume"]),
        &["another list of points", "embed, now resid_post.0"],
    );
    // What is complete is not captured again.
    let again = run(&first);
    assert_eq!(again.status.code(), Some(0));
    assert!(
        text(&again.stderr).contains("going on after 1 rows"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(contents(&out), written);
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("mine.txt"), "mine").unwrap();
    refused(
        &[
            "capture",
            &model,
            "--points",
            "embed",
            "--text",
            "Hi",
            "--out",
            foreign.to_str().unwrap(),
        ],
        &["foreign", "not empty"],
    );
}
