//! The training screen on hand-written run folders: at two sizes in every state, live, compared, resumed and broken.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use candlescope::tui::app::{App, Msg};
use candlescope::tui::export;
use candlescope::tui::script::Stage;
use candlescope::tui::theme::{Background, Theme, Tier};

use super::{opener, press};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];
/// A folder so long that no frame shows where temporary files of this machine lie.
const LONG: &str = "a-folder-whose-name-is-so-long-that-paths-under-it-are-cut";
/// When the runs begin: long ago, so that none counts as written to just now.
const BEGUN: f64 = 1_700_000_000.0;

/// A run's folder with this log.
fn folder(root: &Path, name: &str, log: &str) {
    let run = root.join(name);
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::write(run.join("run.toml"), "").unwrap();
    fs::write(run.join("metrics.jsonl"), log).unwrap();
}

/// A row; what stands in `more` follows the three fields that every row has.
fn row(kind: &str, step: u64, more: &str) -> String {
    let wall = BEGUN + 2.0 * step as f64;
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(",{more}")
    };
    format!("{{\"kind\":\"{kind}\",\"step\":{step},\"wall\":{wall}{more}}}\n")
}

fn described(kind: &str, step: u64, method: &str, version: &str) -> String {
    row(
        kind,
        step,
        &format!(
            "\"method\":\"{method}\",\"model\":\"toy\",\"steps\":60,\"version\":\"{version}\""
        ),
    )
}

/// Steps of sft from one to another; the loss falls as 4 / sqrt(step), the others move too.
fn steps(from: u64, to: u64, above: f64) -> String {
    let one = |step: u64| {
        let loss = above + 4.0 / (step as f64).sqrt();
        let wave = (step % 7) as f64 / 10.0;
        let mut text = row(
            "step",
            step,
            &format!(
                "\"loss\":{loss},\"mean_token_accuracy\":{},\"entropy\":{},\"grad_norm\":{},\"learning_rate\":0.0002,\"epoch\":{},\"num_tokens\":{}",
                0.9 - loss / 8.0,
                2.0 + wave,
                1.5 + wave,
                step as f64 / 30.0,
                step * 512
            ),
        );
        if step.is_multiple_of(20) {
            text += &row("eval", step, &format!("\"eval_loss\":{}", loss + 0.3));
            text += &row(
                "checkpoint",
                step,
                &format!("\"path\":\"checkpoints/step-{step}\""),
            );
        }
        text
    };
    (from..=to).map(one).collect()
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn finished() -> String {
    let alert = row(
        "alert",
        33,
        "\"alert\":\"length_ratio\",\"message\":\"answers are 2.31 times as long as in the first 5 steps\",\"value\":2.31",
    );
    described("started", 0, "sft", VERSION)
        + &steps(1, 33, 0.0)
        + &alert
        + &steps(34, 60, 0.0)
        + &row("stopped", 60, "\"reason\":\"finished\"")
}

/// Finished, gone on with after a kill, failed, of another version with torn and foreign lines, and with samples.
fn all(root: &Path) {
    folder(root, "first", &finished());
    let resumed = described("started", 0, "sft", VERSION)
        + &steps(1, 30, 0.5)
        + &described("resumed", 20, "sft", VERSION)
        + &steps(21, 45, 0.5);
    folder(root, "resumed", &resumed);
    let message = "\"reason\":\"failed\",\"message\":\"step 12: the loss is NaN; the batch is in failed/step-12.json\"";
    let failed =
        described("started", 0, "sft", VERSION) + &steps(1, 11, 1.0) + &row("stopped", 12, message);
    folder(root, "broken", &failed);
    let old = described("started", 0, "dpo", "0.0.1")
        + "not a row\n{\"kind\":\"dreamt\",\"step\":1,\"wall\":1}\n"
        + &row(
            "step",
            1,
            "\"loss\":0.693147,\"rewards/margins\":0.0,\"logps/chosen\":-20.5,\"mystery\":\"NaN\"",
        )
        + &row(
            "step",
            2,
            "\"loss\":0.61,\"rewards/margins\":0.2,\"logps/chosen\":-21.5,\"mystery\":\"NaN\"",
        )
        + "{\"kind\":\"step\",\"st";
    folder(root, "another-version", &old);
    let tokens = "\"tokens\":[\"I\",\" like\",\" \\u001b[31m\",\" trains\",\".\"],\"kl\":[0.01,0.2,1.5,0.4,0.0],\"advantages\":[-0.5,0.1,0.9,-1.2,0.3]";
    let sampled = described("started", 0, "ppo", VERSION)
        + &row("step", 1, "\"objective/scores\":0.1,\"objective/kl\":0.0")
        + &row(
            "sample",
            1,
            &format!(
                "\"prompt\":\"What do you like?\",\"completion\":\"I like trains.\",\"score\":0.75,{tokens}"
            ),
        )
        + &row("step", 2, "\"objective/scores\":0.4,\"objective/kl\":0.3")
        + &row(
            "sample",
            2,
            &format!(
                "\"prompt\":\"How is it made?\",\"completion\":\"{}\",\"score\":-1.5,\"harmful\":true,{tokens}",
                "Step one. ".repeat(40)
            ),
        )
        + &row("stopped", 2, "\"reason\":\"interrupted\"");
    folder(root, "talks", &sampled);
}

/// The screen on a folder of runs, with no model.
fn on(root: &Path, theme: Theme, size: (u16, u16)) -> Stage {
    let mut stage = Stage::new(App::new(theme), "none", opener(), size).unwrap();
    stage.wait().unwrap();
    let app = &mut stage.runtime.app;
    app.shared
        .set_model(candlescope::tui::shared::ModelState::None);
    app.go("training");
    stage
        .runtime
        .take(Msg::Command(format!("run {}", root.display())));
    stage.wait().unwrap();
    stage
}

fn seen(stage: &mut Stage) -> String {
    stage.runtime.app.tick = 0;
    export::text(&stage.frame())
}

/// Waits until the frame says something.
fn until(stage: &mut Stage, words: &str) -> String {
    let begun = Instant::now();
    loop {
        stage.runtime.turn(Duration::from_millis(20));
        let text = export::text(&stage.frame());
        if text.contains(words) {
            return text;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no {words} in\n{text}"
        );
    }
}

/// Moves to a run of the list by its name.
fn select(stage: &mut Stage, name: &str) {
    press(stage, "/");
    press(stage, &format!("type {name}"));
    press(stage, "enter");
}

#[test]
fn every_state_at_two_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(LONG).join("runs");
    for size in SIZES {
        let at = format!("training_{}x{}", size.0, size.1);
        let mut stage = on(&dir.path().join("none"), Theme::dark(), size);
        insta::assert_snapshot!(format!("{at}_none"), seen(&mut stage));
        all(&root);
        let snap = |name: &str, run: &str, keys: &str| {
            let mut stage = on(&root, Theme::dark(), size);
            select(&mut stage, run);
            press(&mut stage, keys);
            insta::assert_snapshot!(format!("{at}_{name}"), seen(&mut stage));
        };
        snap("finished", "first", "tab h h h h h h h h");
        snap("resumed", "resumed", "");
        snap("failed", "broken", "");
        snap("version", "another-version", "tab j j");
        snap("samples", "talks", "v tab j");
        snap("harmful", "talks", "v");
        snap("events", "first", "v v v tab j j");
        snap("data_without_model", "first", "v v");
    }
}

#[test]
fn two_runs_lie_over_each_other_also_in_ascii() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(LONG).join("runs");
    all(&root);
    let ascii = Theme::new(Tier::NoColour, Background::Dark, true);
    for (name, theme) in [("dark", Theme::dark()), ("ascii", ascii)] {
        let mut stage = on(&root, theme, (120, 40));
        select(&mut stage, "resumed");
        press(&mut stage, "c esc");
        select(&mut stage, "first");
        let text = seen(&mut stage);
        assert!(!theme.ascii || text.is_ascii(), "{text}");
        insta::assert_snapshot!(format!("training_compared_{name}"), text);
    }
}

#[test]
fn a_run_is_followed_while_it_is_written_and_no_longer_than_that() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runs");
    folder(
        &root,
        "live",
        &(described("started", 0, "sft", VERSION) + &steps(1, 20, 0.0)),
    );
    let lock = fs::File::create(root.join("live/.lock")).unwrap();
    lock.try_lock().unwrap();
    let mut stage = on(&root, Theme::dark(), (80, 24));
    let text = seen(&mut stage);
    // 2 s a step.
    assert!(
        text.contains("running") && text.contains("about 1 min 20 s left"),
        "{text}"
    );
    insta::assert_snapshot!("training_80x24_live", text);
    let command = stage.runtime.app.command_line().unwrap();
    assert!(command.starts_with("candlescope runs tail ") && command.ends_with("live --follow"));
    // A line comes in two pieces.
    let log = root.join("live/metrics.jsonl");
    let more = steps(21, 40, 0.0);
    let (half, rest) = more.split_at(40);
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.clone() + half).unwrap();
    stage.runtime.turn(Duration::from_millis(700));
    fs::write(&log, text + half + rest).unwrap();
    until(&mut stage, "40/60");
    // Not while another screen is shown.
    stage.runtime.app.go("models");
    let end = row("stopped", 40, "\"reason\":\"interrupted\"");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text + &end).unwrap();
    drop(lock);
    stage.runtime.app.go("training");
    let text = until(&mut stage, "interrupted");
    assert!(
        text.contains("candlescope train sft --resume --out"),
        "{text}"
    );
    // Nothing waits for a file any more: no message comes within twice the pause.
    let before = stage.runtime.app.tick;
    stage.runtime.app.dirty = false;
    stage.runtime.turn(Duration::from_millis(1100));
    assert!(!stage.runtime.app.dirty && stage.runtime.app.tick <= before + 1);
}

#[test]
fn targets_of_the_data_are_shown_with_the_runs_model() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runs");
    let data = dir.path().join("train.jsonl");
    fs::write(&data, "{\"prompt\":\"one two\",\"completion\":\" three\"}\n{\"prompt\":\"a\",\"completion\":\" b c\"}\n").unwrap();
    folder(&root, "first", &finished());
    let config = format!(
        "[model]\nname = \"toy\"\n[data]\ntrain = [{:?}]\n[method.sft]\n",
        data.display().to_string()
    );
    fs::write(root.join("first/run.toml"), config).unwrap();
    let mut stage = on(&root, Theme::dark(), (120, 40));
    press(&mut stage, "v v");
    press(&mut stage, "O");
    let text = until(&mut stage, "targets of the loss");
    assert!(text.contains("train.jsonl:1"), "{text}");
    let text = text.split("underlined").nth(1).unwrap();
    assert!(text.contains('[') && text.contains(']'), "{text}");
    let data = stage.runtime.app.data().unwrap();
    assert_eq!(data.headers, ["row", "token", "target"]);
    let targets = data.rows.iter().filter(|row| row[2] == "true").count();
    assert!(targets > 0 && targets < data.rows.len());
}

#[test]
fn the_rows_are_those_of_the_shown_metric() {
    let dir = tempfile::tempdir().unwrap();
    all(dir.path());
    let mut stage = on(dir.path(), Theme::dark(), (120, 40));
    select(&mut stage, "resumed");
    stage.runtime.take(Msg::Command("metric loss".into()));
    let data = stage.runtime.app.data().unwrap();
    assert_eq!(data.headers, ["run", "metric", "step", "value"]);
    // Steps 21 to 30 were done again: each stands once.
    let steps: Vec<&str> = data
        .rows
        .iter()
        .filter(|r| r[1] == "loss")
        .map(|r| r[2].as_str())
        .collect();
    let expected: Vec<String> = (1..=45).map(|step| step.to_string()).collect();
    assert_eq!(steps, expected);
    assert_eq!(data.rows.iter().filter(|r| r[1] == "eval_loss").count(), 2);
    let command = stage.runtime.app.command_line().unwrap();
    assert!(
        command.starts_with("candlescope runs show ") && command.ends_with("resumed"),
        "{command}"
    );
}
