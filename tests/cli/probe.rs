//! `probe`: a sweep, a kept probe on new rows and elsewhere, and what is refused.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::binary::{json, ok, refused};

/// Rows whose class is their last word.
fn rows(folder: &Path) -> String {
    let words = ["red", "blue", "green", "house", "river", "city", "night"];
    let mut lines = String::new();
    for i in 0..120 {
        let (a, b) = (words[i % 7], words[(i * 3 + 1) % 7]);
        let (label, word) = if i * 5 % 9 < 4 {
            ("hot", "fire")
        } else {
            ("cold", "sea")
        };
        let _ = writeln!(
            lines,
            "{{\"text\": \"{a} {b} item{i} {word}\", \"label\": \"{label}\", \"topic\": \"{b}\"}}"
        );
    }
    let file = folder.join("rows.jsonl");
    std::fs::write(&file, lines).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_probe_is_swept_kept_applied_and_carried() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path());
    let data = data.as_str();
    let sweep = [
        "probe",
        "sweep",
        "toy",
        "--data",
        data,
        "--positions",
        "last,-2",
        "--positive",
        "hot",
        "--shuffles",
        "4",
    ];
    let report = json(&sweep, "candlescope.probe.sweep/1");
    assert_eq!(report["cells"].as_array().unwrap().len(), 10);
    assert_eq!(report["positive"], "hot");
    let chosen = &report["cells"][report["chosen"].as_u64().unwrap() as usize];
    assert_eq!(chosen["test"]["auroc"]["value"], 1.0);
    let shown = ok(&sweep);
    for part in [
        "test AUROC",
        "chosen on validation: resid_pre.0 at last",
        "control tasks",
        "bag of words",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let file = folder.path().join("p.safetensors");
    let file = file.to_str().unwrap();
    let fit = [
        "probe",
        "fit",
        "toy",
        "--data",
        data,
        "--points",
        "resid_post.2",
        "--positive",
        "hot",
        "--out",
        file,
    ];
    assert!(ok(&fit).contains("probe at resid_post.2 at last"));
    let eval = json(
        &["probe", "eval", "toy", "--probe", file, "--data", data],
        "candlescope.probe.eval/1",
    );
    assert!(eval["auroc"]["value"].as_f64().unwrap() > 0.99);

    let fresh = folder.path().join("new.jsonl");
    std::fs::write(
        &fresh,
        "{\"id\": \"a\", \"text\": \"green city fire\"}\n{\"text\": \"green city sea\"}\n",
    )
    .unwrap();
    let scored = ok(&[
        "probe",
        "apply",
        "toy",
        "--probe",
        file,
        "--data",
        fresh.to_str().unwrap(),
    ]);
    let scored: Vec<Value> = scored
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        (scored.len(), &scored[0]["id"], &scored[1]["id"]),
        (2, &"a".into(), &"line 2".into())
    );
    assert!(scored[0]["score"].as_f64() > scored[1]["score"].as_f64());
    assert_eq!(
        (&scored[0]["flagged"], &scored[1]["flagged"]),
        (&true.into(), &false.into())
    );

    let carried = [
        "probe",
        "transfer",
        "toy:7",
        "--set",
        data,
        "--positive",
        "hot",
        "--probe",
        file,
    ];
    let carried = json(&carried, "candlescope.probe.transfer/1");
    assert!(carried["carried"][0]["refitted"]["value"].as_f64().unwrap() > 0.99);
    let layers = [
        "probe",
        "transfer",
        "toy",
        "--set",
        data,
        "--positive",
        "hot",
        "--points",
        "resid_post.0-2",
    ];
    let layers = json(&layers, "candlescope.probe.matrix/1");
    assert_eq!(layers["auroc"].as_array().unwrap().len(), 3);
    assert!(layers["auroc"][1][1]["value"].as_f64().unwrap() > 0.99);
}

#[test]
fn a_probe_is_read_at_every_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path());
    let file = folder.path().join("p.safetensors");
    let file = file.to_str().unwrap();
    let fit = "probe fit toy --points resid_post.2 --positive hot --data";
    ok(&[
        &fit.split(' ').collect::<Vec<_>>()[..],
        &[&data, "--out", file],
    ]
    .concat());
    let one = folder.path().join("one.jsonl");
    std::fs::write(&one, "{\"text\": \"green city fire\"}\n").unwrap();
    let apply = [
        "probe",
        "apply",
        "toy",
        "--probe",
        file,
        "--data",
        one.to_str().unwrap(),
    ];
    let applied: Value = serde_json::from_str(ok(&apply).trim()).unwrap();

    let tokens = [
        "lens",
        "toy",
        "green city fire",
        "--show",
        "probe",
        "--probe",
        file,
    ];
    let read = json(&tokens, "candlescope.lens.probe/1");
    let lines = read["tokens"].as_array().unwrap();
    let last = &lines[3];
    let (there, here) = (applied["score"].as_f64(), last["score"].as_f64());
    assert!((there.unwrap() - here.unwrap()).abs() < 1e-4, "{last}");
    assert_eq!(
        (lines.len(), &read["positive"], &last["token"]),
        (4, &"hot".into(), &" fire".into())
    );
    assert!(ok(&tokens).contains("resid_post.2 at last"));
    let layers = [
        &tokens[..],
        &["--layers", "embed,1-2", "--positions", "-2,-1"],
    ]
    .concat();
    let along = json(&layers, "candlescope.lens.probe_layers/1");
    assert_eq!(along["points"][2], "resid_post.2");
    let at_home = along["scores"][2].as_array().unwrap();
    assert_eq!(
        (along["scores"].as_array().unwrap().len(), at_home.len()),
        (3, 2)
    );
    assert!(
        (at_home[1].as_f64().unwrap() - here.unwrap()).abs() < 1e-4,
        "{along}"
    );
    assert_ne!(along["scores"][1][1], along["scores"][2][1]);
    let shown = ok(&layers);
    assert!(
        shown.contains("there only") && shown.contains("resid_post.2 at last"),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_probed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = rows(folder.path());
    let file = folder.path().join("p.safetensors");
    let file = file.to_str().unwrap();
    let fit = [
        "probe",
        "fit",
        "toy",
        "--data",
        &data,
        "--points",
        "resid_post.2",
        "--out",
        file,
    ];
    ok(&fit);
    let foreign = ["probe", "eval", "toy:7", "--probe", file, "--data", &data];
    refused(&foreign, &["p.safetensors", "weights"]);

    let write = |name: &str, lines: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, lines).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let sweep =
        |file: &str, words: &[&str]| refused(&["probe", "sweep", "toy", "--data", file], words);
    let one = write(
        "one.jsonl",
        "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 1}\n",
    );
    sweep(&one, &["one class only", "1 (2)"]);
    let twice = write(
        "twice.jsonl",
        "{\"text\": \"a b\", \"label\": 1, \"split\": \"train\"}\n\
         {\"text\": \"A b!\", \"label\": 1, \"split\": \"test\"}\n\
         {\"text\": \"c\", \"label\": 0, \"split\": \"test\"}\n",
    );
    sweep(&twice, &["`line 1` (train) and `line 2` (test)"]);
    let few = write(
        "few.jsonl",
        "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0}\n",
    );
    sweep(&few, &["at least 5"]);
    let useless = [
        "probe", "sweep", "toy", "--data", &data, "--kind", "lda", "--c", "1",
    ];
    refused(&useless, &["--c has no effect", "hint: "]);
}
