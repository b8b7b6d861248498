//! The screens that look at runs: on a training run whose checkpoints are toys of different seeds, so that every number has a
//! twin in the library.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::DType;
use candlescope::compare::{Moment, MomentOptions, moment};
use candlescope::model::checkpoint::words;
use candlescope::model::{Checkpoint, LoadOptions, Opened, convert};
use candlescope::tui::app::Msg;
use candlescope::tui::export;
use candlescope::tui::script::Stage;
use candlescope::tui::shared::{ModelState, Prompt};
use candlescope::tui::theme::Theme;

use super::{press, shown, stage};

/// Seeds of the run's checkpoints.
const SEEDS: [u64; 6] = [0, 1, 2, 3, 4, 0];

/// A training run whose checkpoints are these toys, ten steps apart.
pub fn run(root: &Path, seeds: &[u64]) -> PathBuf {
    let run = root.join("first");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    for (i, seed) in seeds.iter().enumerate() {
        let opened = Opened::toy(*seed).unwrap();
        let (tokenizer, template) = words(&opened, Path::new("toy")).unwrap();
        let to = run.join(format!("checkpoints/step-{}", 10 * (i + 1)));
        let words = (&tokenizer, template.as_ref());
        convert::opened_to_folder(&opened, words, &to, DType::F32).unwrap();
    }
    fs::write(run.join("run.toml"), "").unwrap();
    run
}

/// Opens such a run on the screen that is shown.
pub fn open(stage: &mut Stage, root: &Path) -> PathBuf {
    let run = run(root, &SEEDS);
    command(stage, &format!("checkpoints {}", run.display()));
    run
}

pub fn command(stage: &mut Stage, line: &str) {
    stage.runtime.take(Msg::Command(line.to_owned()));
    stage.wait().unwrap();
}

pub fn text(stage: &Stage) -> String {
    export::text(&stage.frame())
}

/// A stage on the run, with no model open.
fn on(root: &Path, size: (u16, u16)) -> (Stage, PathBuf) {
    let mut stage = stage(Theme::dark(), size);
    stage.wait().unwrap();
    stage.runtime.app.shared.set_model(ModelState::None);
    let run = open(&mut stage, root);
    (stage, run)
}

/// Cells of the rows that are exported.
pub fn rows(stage: &Stage) -> Vec<Vec<String>> {
    let app = &stage.runtime.app;
    app.screen().data(&app.shared).unwrap().rows
}

/// What the library reads of a toy at a position.
fn twin(seed: u64, prompt: &Prompt, position: Option<usize>) -> Moment {
    let model = Checkpoint::toy(seed).unwrap();
    let ids = prompt.encode(&model).unwrap();
    let options = MomentOptions {
        position: position.unwrap_or(ids.len() - 1),
        top_k: 3,
        ..MomentOptions::default()
    };
    moment(&model.decoder, &ids, &options).unwrap()
}

pub fn close(text: &str, expected: f64) {
    let found: f64 = text.parse().unwrap();
    assert!(
        (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
        "{found} {expected}"
    );
}

#[test]
fn the_time_machine_says_what_each_checkpoint_says() {
    let dir = tempfile::tempdir().unwrap();
    let (mut stage, _) = on(dir.path(), (120, 40));
    let prompt = stage.runtime.app.shared.prompt.clone();
    // The last is looked at, the first is what all are held against, two before the last are read ahead.
    let read: Vec<String> = rows(&stage).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(read, ["1", "4", "5", "6"]);
    for row in rows(&stage) {
        let at: usize = row[0].parse().unwrap();
        let (own, first) = (
            twin(SEEDS[at - 1], &prompt, None),
            twin(SEEDS[0], &prompt, None),
        );
        assert_eq!(row[2], (10 * at).to_string());
        close(&row[5], own.top(1)[0].probability);
        close(&row[8], own.kl_from(&first).unwrap());
        close(&row[9], own.norm().unwrap());
    }
    // The last checkpoint is the first again.
    close(&rows(&stage)[3][8], 0.0);
    press(&mut stage, "left");
    assert_eq!(rows(&stage).len(), 5);
    press(&mut stage, "g");
    assert_eq!(rows(&stage).len(), 6);
    assert!(text(&stage).contains("checkpoint 1 of 6"));
    // Another place, and then another prompt.
    press(&mut stage, "b b");
    let n = rows(&stage).len();
    assert!(n == 3, "what is of before is no row: {n}");
    let place = twin(SEEDS[0], &prompt, None).log_probs.len();
    assert!(place > 0);
    let model = Checkpoint::toy(0).unwrap();
    let at = prompt.encode(&model).unwrap().len() - 3;
    close(
        &rows(&stage)[0][5],
        twin(SEEDS[0], &prompt, Some(at)).top(1)[0].probability,
    );
    press(&mut stage, "p");
    stage.line("type the red house by", ".".as_ref()).unwrap();
    press(&mut stage, "enter");
    let prompt = Prompt::user("the red house by");
    assert_eq!(stage.runtime.app.shared.prompt, prompt);
    close(
        &rows(&stage)[1][5],
        twin(SEEDS[1], &prompt, None).top(1)[0].probability,
    );
}

#[test]
fn the_time_machine_follows_a_token_and_plays_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut stage, _) = on(dir.path(), (120, 40));
    press(&mut stage, "j enter v");
    let prompt = stage.runtime.app.shared.prompt.clone();
    let id = twin(SEEDS[5], &prompt, None).top(2)[1].id;
    for row in rows(&stage) {
        let at: usize = row[0].parse().unwrap();
        let own = twin(SEEDS[at - 1], &prompt, None);
        close(&row[7], own.probability(id).unwrap());
    }
    press(&mut stage, "g space");
    let begun = Instant::now();
    while !text(&stage).contains("checkpoint 6 of 6") {
        stage.runtime.turn(Duration::from_millis(20));
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            text(&stage)
        );
    }
    stage.wait().unwrap();
    assert_eq!(rows(&stage).len(), 6);
    assert!(!text(&stage).contains("playing"));
    // Who leaves stops it.
    press(&mut stage, "g space");
    assert!(text(&stage).contains("playing"));
    stage.runtime.app.go("hooks");
    stage.runtime.app.go("time");
    assert!(!text(&stage).contains("playing"));
}

#[test]
fn a_checkpoint_that_cannot_be_read_says_why_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), &[0, 1, 2]);
    fs::write(run.join("checkpoints/step-20/config.json"), "{}").unwrap();
    let mut stage = stage(Theme::dark(), (120, 40));
    stage.wait().unwrap();
    command(&mut stage, &format!("checkpoints {}", run.display()));
    assert_eq!(rows(&stage).len(), 2);
    press(&mut stage, "left");
    let said = text(&stage);
    assert!(said.contains("This checkpoint cannot be read"), "{said}");
    press(&mut stage, "left");
    assert!(text(&stage).contains("next tokens"));
    // A run that went on has more to look at.
    fs::remove_dir_all(run.join("checkpoints/step-20")).unwrap();
    press(&mut stage, "r");
    assert!(text(&stage).contains("checkpoint 1 of 2"));
    press(&mut stage, "end");
    assert!(text(&stage).contains("checkpoint 2 of 2"));
}

#[test]
fn what_is_no_run_is_refused_by_its_name() {
    let mut stage = shown("hooks", Theme::dark(), (100, 30));
    command(&mut stage, "checkpoints no/such/run");
    let said = text(&stage);
    for words in ["No run was opened", "no/such/run", "pipeline.toml"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(stage.runtime.app.screen().id(), "time");
    let words = stage.runtime.app.spoken().join("\n");
    assert!(words.contains("no/such/run"), "{words}");
}

#[test]
fn the_time_machine_projects_on_a_direction_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut stage, _) = on(dir.path(), (120, 40));
    assert!(rows(&stage).iter().all(|row| row[11].is_empty()));
    let d = Checkpoint::toy(0).unwrap().config().d_model;
    let vector: Vec<f32> = (0..d).map(|i| (i % 3) as f32 - 1.0).collect();
    let file = dir.path().join("direction.safetensors");
    let direction = candlescope::steer::file::DirectionFile {
        vector: vector.clone(),
        ..Default::default()
    };
    candlescope::steer::file::save(&file, &direction).unwrap();
    command(&mut stage, &format!("along {}", file.display()));
    let prompt = stage.runtime.app.shared.prompt.clone();
    let model = Checkpoint::toy(SEEDS[5]).unwrap();
    let ids = prompt.encode(&model).unwrap();
    let options = MomentOptions {
        position: ids.len() - 1,
        top_k: 1,
        direction: Some(vector),
        ..MomentOptions::default()
    };
    let own = moment(&model.decoder, &ids, &options).unwrap();
    let along = own.layers.last().unwrap().along.unwrap();
    close(rows(&stage).last().unwrap()[11].as_str(), along);
    assert!(text(&stage).contains("along"));
    command(&mut stage, "along no/such/file.safetensors");
    assert!(text(&stage).contains("no/such/file.safetensors"));
}

#[test]
fn the_run_of_a_folder_opens_with_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), &[3, 4]);
    let script = dir.path().join("keys.txt");
    fs::write(&script, "wait\ndump shown.txt\n' t\n").unwrap();
    let of = |folder: &Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_candlescope"))
            .arg("tui")
            .arg(folder)
            .args([
                "--script".as_ref(),
                script.as_os_str(),
                "--dump".as_ref(),
                dir.path().as_os_str(),
            ])
            .output()
            .unwrap()
    };
    let out = of(&run);
    assert!(out.status.success(), "{out:?}");
    let shown = fs::read_to_string(dir.path().join("shown.txt")).unwrap();
    assert!(shown.contains("first: checkpoint 2 of 2"), "{shown}");
    assert!(shown.contains("step-20  4 layers"), "{shown}");
    let _ = Checkpoint::open(
        "",
        &run.join("checkpoints/step-10"),
        &LoadOptions::default(),
    )
    .unwrap();
    // A run that has no checkpoint yet is refused by its name.
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("checkpoints")).unwrap();
    fs::write(empty.join("run.toml"), "").unwrap();
    let out = of(&empty);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        !out.status.success() && said.contains("there is none yet"),
        "{said}"
    );
}
