//! `probe fit` beyond one direction on one vector: classes, pairs, pooled tokens, calibration; and what is refused.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::binary::{json, ok, refused};

const WORDS: [&str; 7] = ["red", "blue", "green", "house", "river", "city", "night"];

fn write(folder: &Path, name: &str, lines: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, lines).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Rows of so many classes, told by the last word or, `inside`, by a word somewhere in the middle.
fn rows(folder: &Path, classes: usize, inside: bool) -> String {
    let told = [("hot", "fire"), ("cold", "sea"), ("dry", "sand")];
    let mut lines = String::new();
    for i in 0..180 {
        let (a, b) = (WORDS[i % 7], WORDS[(i * 3 + 1) % 7]);
        let (label, word) = told[(i * 5 / 3) % classes];
        let mut text = vec![a, b, WORDS[(i * 2) % 7], WORDS[(i * 4 + 3) % 7]];
        text.insert(if inside { i % 4 } else { 4 }, word);
        let text = text.join(" ");
        let _ = writeln!(
            lines,
            "{{\"text\": \"item{i} {text}\", \"label\": \"{label}\", \"topic\": \"{b}\"}}"
        );
    }
    write(folder, "rows.jsonl", &lines)
}

fn words<'a>(line: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&line.split(' ').collect::<Vec<_>>()[..], more].concat()
}

#[test]
fn three_labels_are_told_apart_by_a_softmax_that_is_judged_and_applied() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path(), 3, false);
    let file = folder.path().join("c.safetensors");
    let file = file.to_str().unwrap();
    // Nothing but the labels asks for it.
    let fit = words(
        "probe fit toy --points resid_post.2 --data",
        &[&data, "--out", file],
    );
    let report = json(&fit, "candlescope.probe.classes/1");
    assert_eq!(report["classes"], serde_json::json!(["cold", "dry", "hot"]));
    assert!(
        report["test"]["macro_auroc"].as_f64().unwrap() > 0.99,
        "{report}"
    );
    let confusion = report["test"]["confusion"].as_array().unwrap();
    let rows: u64 = confusion
        .iter()
        .flat_map(|r| r.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(rows, report["n"][2].as_u64().unwrap());
    let controls = &report["controls"];
    assert!(
        controls["shuffled"]["mean"].as_f64().unwrap() < 0.75,
        "{controls}"
    );
    assert!(
        controls["shuffled"]["p_upper"].as_f64().unwrap() < 0.1,
        "{controls}"
    );
    assert!(controls["control"].is_number(), "{controls}");
    assert!(
        controls["bag_of_words"].as_f64().unwrap() > 0.99,
        "{controls}"
    );
    let shown = ok(&fit);
    for part in [
        "softmax probe of 3 classes",
        "(chance 0.333)",
        "called",
        "control tasks",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let eval = words("probe eval toy --probe", &[file, "--data", &data]);
    let again = json(&eval, "candlescope.probe.eval/1");
    assert!(
        again["balanced_accuracy"].as_f64().unwrap() > 0.95,
        "{again}"
    );
    let new = write(
        folder.path(),
        "new.jsonl",
        "{\"text\": \"green city fire\"}\n{\"text\": \"red house sand\"}\n",
    );
    let applied = ok(&words("probe apply toy --probe", &[file, "--data", &new]));
    let applied: Vec<Value> = applied
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        (&applied[0]["called"], &applied[1]["called"]),
        (&"hot".into(), &"dry".into())
    );
    let shares = applied[0]["probabilities"].as_object().unwrap();
    let sum: f64 = shares.values().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9 && shares.len() == 3, "{shares:?}");

    // One of them against the rest is a linear probe, as before.
    let one = words(
        "probe fit toy --positive hot --points resid_post.2 --data",
        &[&data, "--out", file],
    );
    assert_eq!(
        json(&one, "candlescope.probe.fit/1")["fitting"]["kind"],
        "logistic"
    );
    let refuse = |line: &str, more: &[&str]| {
        refused(
            &words(line, &[&["--data", &data, "--out", file], &[][..]].concat()),
            more,
        );
    };
    refuse(
        "probe fit toy --kind logistic",
        &["3 classes", "--kind softmax"],
    );
    refuse(
        "probe fit toy --kind softmax --calibrate isotonic",
        &["--calibrate has no effect"],
    );
    refuse(
        "probe fit toy --kind softmax --positive hot",
        &["--positive has no effect"],
    );
    let sweep = words("probe sweep toy --kind softmax --data", &[&data]);
    refused(&sweep, &["--kind softmax", "probe fit"]);
    ok(&fit);
    let lens = words("lens toy --show probe --probe", &[file, "fire"]);
    refused(
        &lens,
        &["candlescope.probe/1", "candlescope.probe.classes/1"],
    );
    let unknown = write(
        folder.path(),
        "unknown.jsonl",
        "{\"text\": \"a\", \"label\": \"hot\"}\n{\"text\": \"b\", \"label\": \"wet\"}\n",
    );
    let eval = words("probe eval toy --probe", &[file, "--data", &unknown]);
    refused(&eval, &["no class `wet`", "cold, dry, hot"]);
}

#[test]
fn steps_can_stand_in_for_the_sigmoid_and_noise_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path(), 2, false);
    let file = folder.path().join("p.safetensors");
    let file = file.to_str().unwrap();
    let fit = words(
        "probe fit toy --points resid_post.2 --positive hot --calibrate isotonic --data",
        &[&data, "--out", file],
    );
    let report = json(&fit, "candlescope.probe.fit/1");
    let steps = report["isotonic"]["probabilities"].as_array().unwrap();
    let steps: Vec<f64> = steps.iter().map(|p| p.as_f64().unwrap()).collect();
    assert!(
        steps.windows(2).all(|w| w[0] <= w[1]) && steps.len() > 1,
        "{steps:?}"
    );
    assert!(report["platt"]["a"].as_f64().unwrap() > 0.0);
    // Separable: the steps are 0 and 1, which no sigmoid reaches.
    assert_eq!((steps[0], steps[steps.len() - 1]), (0.0, 1.0));
    let new = write(
        folder.path(),
        "new.jsonl",
        "{\"text\": \"green city fire\"}\n",
    );
    let applied = ok(&words("probe apply toy --probe", &[file, "--data", &new]));
    let applied: Value = serde_json::from_str(applied.trim()).unwrap();
    assert!(applied["probability"].as_f64().unwrap() > 0.5, "{applied}");
    let eval = words("probe eval toy --probe", &[file, "--data", &data]);
    let found = json(&eval, "candlescope.probe.eval/1");
    assert!(
        found["calibration"]["ece"].as_f64().unwrap() < 0.02,
        "{found}"
    );
    let noise = &found["fragility"];
    let levels = noise["levels"].as_array().unwrap();
    let at = |i: usize| levels[i]["mean"].as_f64().unwrap();
    assert!(
        levels.len() == 7 && noise["clean"].as_f64().unwrap() > 0.95,
        "{noise}"
    );
    assert!(at(0) > 0.9 && at(6) < 0.65, "{noise}");
    assert!(noise["sigma_star"].as_f64().unwrap() >= 0.3, "{noise}");
    assert!(ok(&eval).contains("noise (1 is the spread of the activations"));
    refused(
        &words(
            "probe fit toy --calibrate temperature --out p --data",
            &[&data],
        ),
        &["temperature", "isotonic"],
    );
}

#[test]
fn tokens_are_pooled_by_attention_beside_their_plain_mean() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path(), 2, true);
    let file = folder.path().join("a.safetensors");
    let file = file.to_str().unwrap();
    let fit = words(
        "probe fit toy --kind attention --c 1 --points resid_pre.0 --positive hot --data",
        &[&data, "--out", file],
    );
    let report = json(&fit, "candlescope.probe.attention/1");
    assert_eq!(report["place"]["position"], "content");
    assert!(
        report["test"]["auroc"]["value"].as_f64().unwrap() > 0.95,
        "{report}"
    );
    let controls = &report["controls"];
    assert!(
        controls["shuffled"]["mean"].as_f64().unwrap() < 0.75,
        "{controls}"
    );
    assert!(
        controls["mean_pooled"]["value"].is_number()
            && controls["over_mean"]["p_value"].is_number()
    );
    assert!(ok(&fit).contains("the plain mean over the same tokens"));
    let eval = words("probe eval toy --probe", &[file, "--data", &data]);
    let found = json(&eval, "candlescope.probe.eval/1");
    assert!(found["auroc"]["value"].as_f64().unwrap() > 0.95 && found["fragility"].is_null());
    let new = write(
        folder.path(),
        "new.jsonl",
        "{\"text\": \"green fire city\"}\n{\"text\": \"green sea city\"}\n",
    );
    let applied = ok(&words("probe apply toy --probe", &[file, "--data", &new]));
    let applied: Vec<Value> = applied
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(
        applied[0]["score"].as_f64() > applied[1]["score"].as_f64(),
        "{applied:?}"
    );
    let last = words(
        "probe fit toy --kind attention --positions last --out a --data",
        &[&data],
    );
    refused(&last, &["pools the tokens", "--positions content"]);
    refused(
        &words("probe eval toy:7 --probe", &[file, "--data", &data]),
        &["a.safetensors", "weights"],
    );
}

#[test]
fn pairs_are_searched_without_labels_and_other_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for i in 0..120 {
        let word = WORDS[(i * 3 + 1) % 7];
        let (holds, said) = (i * 5 % 9 < 4, ["fire", "sea"][usize::from(i * 5 % 9 < 4)]);
        for (answer, label) in [("yes", holds), ("no", !holds)] {
            let _ = writeln!(
                lines,
                "{{\"text\": \"item{i} {word} {said} {answer}\", \"label\": {label}, \"group\": {i}}}"
            );
        }
    }
    let data = write(folder.path(), "pairs.jsonl", &lines);
    let file = folder.path().join("p.safetensors");
    let file = file.to_str().unwrap();
    let fit = words(
        "probe fit toy --kind ccs --points resid_post.2 --data",
        &[&data, "--out", file],
    );
    let report = json(&fit, "candlescope.probe.fit/1");
    let pairs = &report["pairs"];
    let n: u64 = pairs["n"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!((n, pairs["losses"].as_array().unwrap().len()), (120, 10));
    assert_eq!(report["fitting"]["kind"], "ccs");
    assert!(pairs["seeing"]["value"].as_f64().unwrap() > 0.9, "{pairs}");
    assert!(ok(&fit).contains("which sees the labels"));
    // Kept as a linear probe: other commands read it.
    json(
        &words("probe eval toy --probe", &[file, "--data", &data]),
        "candlescope.probe.eval/1",
    );
    let alone = rows(folder.path(), 2, false);
    let fit = |data: &str, part: &str| {
        refused(
            &words("probe fit toy --kind ccs --out p --data", &[data]),
            &[part, "pairs"],
        );
    };
    fit(&alone, "no `group`");
    // The positive side always first: "yes" alone would tell.
    let mut sides = String::new();
    for i in 0..60 {
        for (answer, label) in [("yes", true), ("no", false)] {
            let word = WORDS[(i * 3 + 1) % 7];
            let _ = writeln!(
                sides,
                "{{\"text\": \"item{i} {word} {answer}\", \"label\": {label}, \"group\": {i}}}"
            );
        }
    }
    fit(
        &write(folder.path(), "sides.jsonl", &sides),
        "the first row is the positive one",
    );
    refused(
        &words("probe sweep toy --kind ccs --data", &[&data]),
        &["--kind ccs", "probe fit"],
    );
}

#[test]
fn without_rows_both_ways_to_give_them_are_named() {
    for command in ["sweep", "fit --out p", "eval --probe p"] {
        let line = format!("probe {command} toy");
        refused(&words(&line, &[]), &["--data", "--suites"]);
    }
    let both = words("probe sweep toy --suites harmful,harmless --data x", &[]);
    refused(&both, &["cannot be used with"]);
}
