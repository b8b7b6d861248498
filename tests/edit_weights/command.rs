//! `candlescope direction` as a user runs it, on the toy.

use std::path::Path;
use std::process::{Command, Output};

use candlescope::steer::file::{DirectionFile, save};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(args)
        .env("CANDLESCOPE_OFFLINE", "1")
        .env("COLUMNS", "140")
        .output()
        .unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A direction file of this width.
fn direction(folder: &Path, name: &str, vector: Vec<f32>) -> String {
    let file = folder.join(name);
    let direction = DirectionFile {
        vector,
        ..DirectionFile::default()
    };
    save(&file, &direction).unwrap();
    file.to_str().unwrap().to_owned()
}

fn width() -> usize {
    let info: Value = serde_json::from_str(&ok(&["model", "info", "toy", "--json"])).unwrap();
    let text = info.to_string();
    let at = text.find("\"d_model\":").unwrap() + "\"d_model\":".len();
    let digits: String = text[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

#[test]
fn a_baked_toy_is_certified_reopened_and_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let d = width();
    let r: Vec<f32> = (0..d).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
    let file = direction(folder.path(), "d.safetensors", r);
    let out = folder.path().join("baked");
    let out = out.to_str().unwrap();
    let text = ok(&[
        "direction",
        "bake",
        "toy",
        "--direction",
        &file,
        "--out",
        out,
        "--json",
    ]);
    let baked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(baked["schema"], "candlescope.direction.bake/1");
    assert_eq!(baked["certificate"]["outcome"], "removed");
    let same = &baked["certificate"]["logits"]["same_edit"]["relative"];
    assert!(same.as_f64().unwrap() < 1e-5, "{same}");
    let note: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(out).join("edit.json")).unwrap())
            .unwrap();
    assert_eq!(note["schema"], "candlescope.edit/1");
    assert!(
        note["purpose"]
            .as_str()
            .unwrap()
            .contains("not a model to deploy")
    );
    ok(&["model", "check", out]);
    let text = ok(&[
        "direction",
        "forensics",
        out,
        "--baseline",
        "toy",
        "--direction",
        &file,
        "--json",
    ]);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["schema"], "candlescope.direction.forensics/1");
    assert_eq!(found["verdict"], "abliteration", "{}", found["says"]);
    let shown = ok(&["direction", "forensics", out, "--baseline", "toy"]);
    assert!(
        shown.contains("abliteration:") && shown.contains("orthogonalised"),
        "{shown}"
    );
    // The folder is there now.
    let told = refused(&[
        "direction",
        "bake",
        "toy",
        "--direction",
        &file,
        "--out",
        out,
    ]);
    assert!(told.contains("is there already"), "{told}");
}

#[test]
fn an_adapter_says_what_it_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let d = width();
    let file = direction(
        folder.path(),
        "d.safetensors",
        (0..d).map(|i| i as f32).collect(),
    );
    let out = folder.path().join("adapter");
    let out = out.to_str().unwrap();
    let order = [
        "direction",
        "bake",
        "toy",
        "--direction",
        &file,
        "--out",
        out,
        "--adapter",
    ];
    let told = refused(&order);
    assert!(told.contains("--no-embedding"), "{told}");
    assert!(!Path::new(out).exists(), "nothing half-written");
    let whole = [&order[..], &["--no-embedding", "--no-bias"]].concat();
    let text = ok(&whole);
    assert!(
        text.contains("certificate:") && text.contains("the same edit by hook"),
        "{text}"
    );
    ok(&["model", "check", out]);
}

#[test]
fn a_direction_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let d = width();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let bake = |file: &str, more: &[&str]| {
        refused(
            &[
                &[
                    "direction",
                    "bake",
                    "toy",
                    "--direction",
                    file,
                    "--out",
                    out,
                ],
                more,
            ]
            .concat(),
        )
    };
    let narrow = direction(folder.path(), "n.safetensors", vec![1.0; d - 1]);
    assert!(bake(&narrow, &[]).contains(&format!("expected {d} numbers")));
    let zero = direction(folder.path(), "z.safetensors", vec![0.0; d]);
    assert!(bake(&zero, &[]).contains("length is zero"));
    let good = direction(folder.path(), "g.safetensors", vec![1.0; d]);
    assert!(bake(&good, &["--strength", "0"]).contains("--strength"));
    assert!(bake(&good, &["--layers", "0..99"]).contains("--layers 0..99"));
    assert!(bake(&good, &["--project-out", &good]).contains("nothing is left"));
    assert!(bake(&good, &["--direction", &good]).contains("direction 1 lies in the span"));
    assert!(!Path::new(out).exists());
}
