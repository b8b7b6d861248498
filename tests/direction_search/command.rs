//! `candlescope direction optimise` and `bake --amounts` as a user runs them, on the toy.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use candlescope::steer::file::{DirectionFile, load, save};
use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
    command
        .args(args)
        .env("CANDLESCOPE_OFFLINE", "1")
        .env("COLUMNS", "160");
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &[&str], word: &str) {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
    assert!(errors.contains(word), "{args:?}: {errors}");
}

/// Runs a search that finds no edit, which is exit code 1.
fn none_found(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn direction(folder: &Path, name: &str, salt: usize) -> String {
    let d = candlescope::model::Checkpoint::toy(0)
        .unwrap()
        .config()
        .d_model;
    let file = folder.join(name);
    let vector = (0..d).map(|i| ((i * 7 + salt) % 11) as f32 - 5.0).collect();
    let direction = DirectionFile {
        vector,
        ..DirectionFile::default()
    };
    save(&file, &direction).unwrap();
    file.to_str().unwrap().to_owned()
}

const SMALL: [&str; 12] = [
    "--validation",
    "4",
    "--test",
    "4",
    "--continuation",
    "3",
    "--startup",
    "4",
    "--max-new",
    "2",
    "--answers",
    "2",
];

fn optimise<'a>(direction: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let head = [
        "direction",
        "optimise",
        "toy",
        "--direction",
        direction,
        "--out",
        out,
    ];
    [&head[..], &SMALL, more].concat()
}

#[test]
fn what_is_found_is_baked_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let file = direction(folder.path(), "d.safetensors", 3);
    let out = folder.path().join("search");
    let out = out.to_str().unwrap();
    let text = ok(&optimise(&file, out, &["--trials", "8", "--json"]));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["schema"], "candlescope.direction.optimise/1");
    assert_eq!(report["trials"], 8);
    let front = report["front"].as_array().unwrap();
    let chosen = &front[report["chosen"].as_u64().unwrap() as usize];
    for part in ["validation", "test"] {
        assert!(chosen[part]["kl"].as_f64().unwrap() >= 0.0, "{part}");
        assert!(chosen[part]["score_interval"].is_array(), "{part}");
    }
    let amounts = Path::new(out).join("best.json");
    let best: Value = serde_json::from_str(&std::fs::read_to_string(&amounts).unwrap()).unwrap();
    assert_eq!(best["found"]["trial"], chosen["trial"]);
    let found = load(&Path::new(out).join("best.safetensors"), "direction").unwrap();
    assert!(found.fingerprint.is_some());

    let amounts = amounts.to_str().unwrap();
    let baked = folder.path().join("baked");
    let baked = baked.to_str().unwrap();
    let bake = [
        "direction",
        "bake",
        "toy",
        "--amounts",
        amounts,
        "--out",
        baked,
    ];
    let text = ok(&[&bake[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&text).unwrap();
    let logits = &report["certificate"]["logits"];
    let same = logits["same_edit"]["relative"].as_f64().unwrap();
    assert!(same < 1e-5, "{same}");
    assert!(logits["unedited"]["relative"].as_f64().unwrap() > 1e-3);
    let note = std::fs::read_to_string(Path::new(baked).join("edit.json")).unwrap();
    let note: Value = serde_json::from_str(&note).unwrap();
    assert_eq!(note["amounts"], best["amounts"]);
    assert_eq!(note["directions"][0]["sha256"], best["sha256"]);

    // The table, and the search goes on where it is asked for more.
    let shown = ok(&optimise(&file, out, &["--trials", "9"]));
    assert!(
        shown.contains("9 trials") && shown.contains("not a model to deploy"),
        "{shown}"
    );

    let other = direction(folder.path(), "other.safetensors", 4);
    let refuse = |more: &[&str], word: &str| {
        let out = folder.path().join("none");
        let head = ["direction", "bake", "toy", "--out", out.to_str().unwrap()];
        refused(&[&head[..], more].concat(), word);
    };
    refuse(
        &["--amounts", amounts, "--direction", &other],
        "sha256 of the direction",
    );
    refuse(&["--amounts", amounts, "--strength", "0.5"], "--strength");
    refuse(&["--amounts", &file], "direction optimise");
    refuse(&[], "--direction");
    let elsewhere = [
        "direction",
        "bake",
        "toy:7",
        "--amounts",
        amounts,
        "--out",
        "unused",
    ];
    refused(&elsewhere, "weights");
}

#[test]
fn where_no_edit_is_worth_its_damage_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = direction(folder.path(), "d.safetensors", 3);
    let out = folder.path().join("search");
    std::fs::create_dir(&out).unwrap();
    // Of a search that ended otherwise: a bake would take it.
    std::fs::write(out.join("best.json"), "{}").unwrap();
    let out = out.to_str().unwrap();
    // Of two trials one is the plain edit, whose divergence is the unit of cost.
    let args = optimise(&file, out, &["--trials", "2"]);
    let shown = none_found(&args);
    assert!(shown.contains("none found: no trial"), "{shown}");
    assert!(!shown.contains("best.json"), "{shown}");
    // The unedited model and the plain edit stand in the table, with test numbers too.
    let row = |name: &str| {
        let row = shown.lines().find(|line| line.starts_with(name));
        row.unwrap_or_else(|| panic!("{name}: {shown}")).to_owned()
    };
    assert!(row("unedited").contains("0.0000"));
    let plain = row("0 (plain)");
    assert!(!plain.contains(" - "), "{plain}");
    let text = none_found(&[&args[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["chosen"].is_null(), "{}", report["chosen"]);
    let why = report["none_found"].as_str().unwrap();
    assert!(["not_lowered", "too_dear"].contains(&why), "{why}");
    assert!(report["plain"]["test"]["kl"].as_f64().unwrap() > 0.0);
    assert!(!Path::new(out).join("best.json").exists());
    assert!(Path::new(out).join("optimise.json").exists());
}

#[test]
fn a_killed_search_goes_on_with_the_same_trials() {
    let folder = tempfile::tempdir().unwrap();
    let file = direction(folder.path(), "d.safetensors", 3);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (whole, killed) = (at("whole"), at("killed"));
    ok(&optimise(&file, &whole, &["--trials", "14"]));
    let args = optimise(&file, &killed, &["--trials", "14"]);
    let mut child = command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = Path::new(&killed).join("trials.jsonl");
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    let began = Instant::now();
    while lines() < 5 && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!((5..15).contains(&lines()), "{}", lines());
    ok(&args);
    let read = |folder: &str, name: &str| std::fs::read(Path::new(folder).join(name)).unwrap();
    for name in [
        "trials.jsonl",
        "best.json",
        "best.safetensors",
        "optimise.json",
    ] {
        assert_eq!(read(&killed, name), read(&whole, name), "{name}");
    }
}

#[test]
fn what_cannot_be_searched_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = direction(folder.path(), "d.safetensors", 3);
    let out = folder.path().join("search");
    let out = out.to_str().unwrap();
    let head = ["direction", "optimise", "toy", "--out", out];
    refused(&head, "--direction");
    refused(
        &[&head[..], &["--candidates", out]].concat(),
        "candidates.safetensors",
    );
    refused(
        &optimise(&file, out, &["--trials", "0"]),
        "--trials: expected 1 to 10000, found 0",
    );
    refused(
        &optimise(&file, out, &["--suite", "nowhere.jsonl"]),
        "nowhere.jsonl",
    );
    none_found(&optimise(&file, out, &["--trials", "2"]));
    refused(&optimise(&file, out, &["--seed", "1"]), "other");
    let other = direction(folder.path(), "other.safetensors", 4);
    refused(&optimise(&other, out, &[]), "other settings");
    let help = ok(&["direction", "optimise", "--help"]);
    assert!(help.contains("measure of robustness"), "{help}");
}

#[test]
fn candidates_on_disk_are_searched_between_layers() {
    let folder = tempfile::tempdir().unwrap();
    let candidates = folder.path().join("candidates");
    let candidates = candidates.to_str().unwrap();
    ok(&[
        "direction",
        "extract",
        "toy",
        "--out",
        candidates,
        "--train",
        "8",
        "--validation",
        "4",
        "--test",
        "4",
    ]);
    let out = folder.path().join("search");
    let out = out.to_str().unwrap();
    let head = [
        "direction",
        "optimise",
        "toy",
        "--candidates",
        candidates,
        "--out",
        out,
    ];
    let text = ok(&[&head[..], &SMALL, &["--trials", "6", "--json"]].concat());
    let report: Value = serde_json::from_str(&text).unwrap();
    let row = &report["front"][0];
    assert!(row["layer"].is_number(), "{row}");
    assert!(
        row["series"].as_str().unwrap().starts_with("means."),
        "{row}"
    );
}
