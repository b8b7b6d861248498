//! `attn`, `lens --show` and the model `toy`: what they show, that text and JSON agree, and what they refuse.

use std::path::Path;

use serde_json::{Value, json as literal};

use crate::binary::{json, llama, ok, refused};

const REPEATED: &str = "red blue green red blue";

fn numbers(row: &Value) -> Vec<f64> {
    let row = row.as_array().unwrap();
    row.iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn heads_are_named_and_the_logit_is_taken_apart() {
    let report = json(&["attn", "toy", REPEATED], "candlescope.attn/1");
    let heads = report["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 16);
    for (i, kind) in [
        (0, "previous"),
        (1, "first"),
        (4, "induction"),
        (6, "current"),
        (7, "first"),
    ] {
        assert_eq!(heads[i]["kind"], kind, "{}", heads[i]);
    }
    assert_eq!(report["words"][0], "<|begin|>");
    let shares = report["attribution"]["contributions"].as_array().unwrap();
    assert_eq!(shares[0]["component"], "embed");
    assert_eq!(
        shares[1]["component"],
        literal!({"head": {"layer": 0, "head": 0}})
    );
    let sum: f64 = shares.iter().map(|c| c["logit"].as_f64().unwrap()).sum();
    let logit = report["attribution"]["logit"].as_f64().unwrap();
    assert!((sum - logit).abs() < 1e-4, "{sum} {logit}");
    assert_eq!(
        (&report["effect"], &report["patterns"]),
        (&Value::Null, &literal!([]))
    );

    let shown = ok(&["attn", "toy", REPEATED]);
    let layer: Vec<&str> = shown.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(
        (layer[0], layer[1], layer[5]),
        ("1", "ind", "self"),
        "{shown}"
    );
    assert!(
        shown.contains("logit of ␣green after the last token"),
        "{shown}"
    );
    assert!(
        shown.lines().all(|line| line.chars().count() <= 120),
        "{shown}"
    );
}

#[test]
fn a_pattern_is_rows_that_sum_to_one_and_the_table_shows_the_same() {
    let one = ["attn", "toy", REPEATED, "--layer", "1", "--head", "0"];
    let report = json(&one, "candlescope.attn/1");
    let patterns = report["patterns"].as_array().unwrap();
    assert_eq!((patterns.len(), &patterns[0]["head"]), (1, &literal!(0)));
    for row in patterns[0]["weights"].as_array().unwrap() {
        let sum: f64 = numbers(row).iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    // "blue" comes again at 5, and green, at 3, is what came after it.
    let last = numbers(&patterns[0]["weights"][5]);
    assert!(last[3] > 0.9, "{last:?}");
    let shown = ok(&one);
    let line = shown
        .lines()
        .find(|line| line.starts_with("5:␣blue"))
        .unwrap();
    let said: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(|x| x.parse().unwrap())
        .collect();
    for (said, meant) in said.iter().zip(&last) {
        assert!((said - meant).abs() < 6e-3, "{line}");
    }
    let weighted = ok(&[&one[..], &["--value-weighted"]].concat());
    assert!(weighted.contains("W_O"), "{weighted}");
    // The first token is looked at and carries nothing.
    let value = numbers(&patterns[0]["value_weighted"][2]);
    assert!(value[0] < 1e-3, "{value:?}");
    let all = json(&one[..5], "candlescope.attn/1");
    assert_eq!(all["patterns"].as_array().unwrap().len(), 4);
    assert_eq!(all["heads"].as_array().unwrap().len(), 4);
}

#[test]
fn a_cut_is_measured_against_the_same_run_without_it() {
    let cut = |spec: &str| {
        let args = ["attn", "toy", REPEATED, "--knock-out", spec];
        json(&args, "candlescope.attn/1")["effect"].clone()
    };
    let (head, edge) = (cut("1.0"), cut("1.0:-1>3"));
    for effect in [&head, &edge] {
        assert_eq!(effect["before"], head["before"]);
        assert!(effect["kl"].as_f64().unwrap() > 1.0, "{effect}");
    }
    // The same cut under both names of the option, and in another command.
    let twice = [
        "attn",
        "toy",
        REPEATED,
        "--knockout",
        "1.0",
        "--knockout",
        "1.0",
    ];
    let twice = &json(&twice, "candlescope.attn/1")["effect"];
    assert_eq!(twice["kl"], head["kl"]);
    let lens = [
        "lens",
        "toy",
        REPEATED,
        "--positions",
        "-1",
        "--layers",
        "3",
        "--knock-out",
        "1.0",
    ];
    let lens = json(&lens, "candlescope.lens/1");
    let top = &lens["cells"][0][0]["top"][0];
    assert_eq!(top["id"], head["after"][0]["id"]);
    let shown = ok(&["attn", "toy", REPEATED, "--knock-out", "1.0"]);
    assert!(shown.contains("KL(before ‖ after)"), "{shown}");
}

#[test]
fn the_probe_needs_no_prompt_and_has_a_seed() {
    let probe = |seed: &str| json(&["attn", "toy", seed], "candlescope.attn/1");
    let first = probe("--probe");
    assert_eq!(first["tokens"].as_array().unwrap().len(), 51);
    assert_eq!(first["heads"][4]["kind"], "induction");
    assert_eq!(first["tokens"], probe("--probe=0")["tokens"]);
    assert_ne!(first["tokens"], probe("--probe=1")["tokens"]);
    // A model without a first token of its own.
    ok(&["attn", &llama(), "--probe"]);
}

#[test]
fn attn_refuses_what_is_not_there() {
    for (words, said) in [
        (&[][..], &["PROMPT"][..]),
        (&[REPEATED, "--layer", "4"], &["layer 4", "there are 4"]),
        (
            &[REPEATED, "--layer", "1", "--head", "4"],
            &["--head 4", "0 to 3"],
        ),
        (&[REPEATED, "--head", "1"], &["--layer"]),
        (&[REPEATED, "--value-weighted"], &["--head"]),
        (&[REPEATED, "--probe"], &["--probe"]),
        (&[REPEATED, "--knock-out", "1.9"], &["head 9"]),
        (&[REPEATED, "--knock-out", "9.1"], &["layer", "9"]),
        (&[REPEATED, "--knock-out", "1"], &["LAYER.HEAD"]),
        (&[REPEATED, "--target", "zzz"], &["exactly one"]),
        (&["Hello"], &["at least 3 tokens"]),
    ] {
        refused(&[&["attn", "toy"], words].concat(), said);
    }
}

#[test]
fn the_lens_shows_norms_and_projections() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.safetensors");
    let mut vector = vec![0.0; 64];
    vector[0] = -2.0;
    let direction = candlescope::steer::file::DirectionFile {
        vector,
        ..Default::default()
    };
    candlescope::steer::file::save(&file, &direction).unwrap();
    let norm = ["lens", "toy", REPEATED, "--show", "norm"];
    let report = json(&norm, "candlescope.lens.stream/1");
    let lens = json(&norm[..3], "candlescope.lens/1");
    for (row, cells) in lens["cells"].as_array().unwrap().iter().enumerate() {
        for (norm, cell) in numbers(&report["norms"][row])
            .iter()
            .zip(cells.as_array().unwrap())
        {
            assert!((norm - cell["norm"].as_f64().unwrap()).abs() < 1e-9);
        }
    }
    assert_eq!(report["projections"], Value::Null);
    assert!(ok(&norm).starts_with("Euclidean norm"));

    let file = file.to_str().unwrap();
    let along = [
        "lens",
        "toy",
        REPEATED,
        "--show",
        "projection",
        "--direction",
        file,
    ];
    let report = json(&along, "candlescope.lens.stream/1");
    // Channel 0 of the toy's embeddings is 1, and the direction points against it.
    for dot in numbers(&report["projections"]["dots"][0]) {
        assert!((dot + 1.0).abs() < 1e-6, "{dot}");
    }
    for cosine in numbers(&report["projections"]["cosines"][0]) {
        assert!((cosine + 0.5f64.sqrt()).abs() < 1e-6, "{cosine}");
    }
    let shown = ok(&along);
    assert!(
        shown.contains("-1.00") && shown.contains("-0.707"),
        "{shown}"
    );

    refused(&along[..5], &["--direction"]);
    for ignored in [
        &["--direction", file][..],
        &["--top-k", "3"],
        &["--target", "red"],
        &["--detail", "0"],
    ] {
        refused(&[&norm[..], ignored].concat(), &[ignored[0], "no effect"]);
    }
    refused(
        &[&norm[..3], &along[5..]].concat(),
        &["--direction", "no effect"],
    );
    // Another model's width.
    refused(
        &[&["lens", &llama()], &along[2..]].concat(),
        &["expected 48", "found 64"],
    );
}

#[test]
fn the_toy_is_a_model_wherever_a_model_is_named() {
    let run = json(
        &["run", "toy", "Hello", "--max-new", "4"],
        "candlescope.run/1",
    );
    assert_eq!(run["model"], "toy");
    ok(&["hooks", "toy"]);
    ok(&["model", "check", "toy", "--dtype", "bf16"]);
    let info = |name: &str| json(&["model", "info", name], "candlescope.model.info/1");
    let (zero, one) = (info("toy"), info("toy:1"));
    assert_eq!(zero["fingerprint_id"], info("toy:0")["fingerprint_id"]);
    assert_ne!(zero["fingerprint_id"], one["fingerprint_id"]);
    let listed = json(&["model", "list"], "candlescope.model.list/1");
    let known = listed["known"].as_array().unwrap();
    assert!(
        known.iter().any(|model| model["name"] == "toy"),
        "{known:?}"
    );
    refused(&["model", "fetch", "toy"], &["made in memory"]);
    // A folder of that name is meant by its path.
    refused(&["hooks", "./toy"], &["./toy"]);
    refused(&["hooks", "toyy"], &["toyy", "toy"]);

    // Written out it is the same model.
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("written");
    let folder = folder.to_str().unwrap();
    ok(&["model", "convert", "toy", folder]);
    let written = info(folder);
    for field in ["weights", "tokenizer", "template", "dtype"] {
        assert_eq!(
            written["fingerprint"][field], zero["fingerprint"][field],
            "{field}"
        );
    }
    assert!(Path::new(folder).join("config.json").exists());
}
