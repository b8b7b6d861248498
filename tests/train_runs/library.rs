//! Runs through the library: resumed, accumulated, packed, observed, refused.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope::files::{SafetensorsFolder, TensorSource};
use candlescope::model::{Checkpoint, LoadOptions};
use candlescope::train::log::{self, Numbers};
use candlescope::train::{
    At, CheckpointObserver, Ended, Progress, Session, Silent, Standing, TrainError,
};

use crate::rows::{USUAL, config_text, course, parts, parts_of, same_end};

/// Asks to stop after a step, as Ctrl-C does.
struct StopAt<'a>(u64, &'a AtomicBool);

impl Progress for StopAt<'_> {
    fn at(&self, standing: &Standing<'_>) {
        if standing.step == self.0 {
            self.1.store(true, Ordering::SeqCst);
        }
    }
}

fn run(session: &mut Session) -> Ended {
    let stop = AtomicBool::new(false);
    session.run(&stop, &Silent, &mut []).unwrap()
}

fn whole(dir: &Path, root: &Path, more: &str) -> Ended {
    run(&mut Session::begin(root, parts(dir, more)).unwrap())
}

fn interrupted_is_uninterrupted(method: &str, more: &str) {
    let dir = tempfile::tempdir().unwrap();
    let parts = || parts_of(method, dir.path(), more);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let ended = run(&mut Session::begin(&one, parts()).unwrap());
    assert!(matches!(ended, Ended::Finished(_)));
    let mut session = Session::begin(&other, parts()).unwrap();
    for at in [2, 6, 7] {
        let stop = AtomicBool::new(false);
        let ended = session.run(&stop, &StopAt(at, &stop), &mut []).unwrap();
        assert!(matches!(ended, Ended::Interrupted(saved) if saved.step == at));
        drop(session);
        session = Session::resume(&other, parts()).unwrap();
        assert_eq!(session.parts().bench.step(), at);
    }
    assert!(matches!(run(&mut session), Ended::Finished(_)));
    same_end(&one, &other, 11);
    let report = |root: &Path| std::fs::read(root.join("report.json")).ok();
    assert_eq!(report(&one).is_some(), method == "rm");
    assert_eq!(report(&one), report(&other));
    let rows = course(&one);
    assert!(rows.len() >= 11, "{rows:?}");
    let dead = |row: &String| row.contains("dead_gradient");
    assert!(!rows.iter().any(dead), "{rows:?}");
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    interrupted_is_uninterrupted("sft", USUAL);
}

#[test]
fn a_resumed_packed_dft_run_has_them_too() {
    let more = format!("max_length = 96\n{USUAL}[method.sft]\npacking = true\nloss = \"dft\"\n");
    interrupted_is_uninterrupted("sft", &more);
}

#[test]
fn a_resumed_adapter_with_dropout_has_them_too() {
    let more = format!("{USUAL}[lora]\nrank = 4\ndropout = 0.2\n");
    interrupted_is_uninterrupted("sft", &more);
}

#[test]
fn resumed_preferences_and_rewards_have_them_too() {
    interrupted_is_uninterrupted("dpo", USUAL);
    let adapter = format!("{USUAL}[lora]\nrank = 4\n");
    interrupted_is_uninterrupted("dpo", &adapter);
    interrupted_is_uninterrupted("kto", USUAL);
    interrupted_is_uninterrupted("rm", USUAL);
    interrupted_is_uninterrupted("rm", &adapter);
}

#[test]
fn what_the_model_says_is_logged_and_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (silent, said) = (dir.path().join("silent"), dir.path().join("said"));
    whole(dir.path(), &silent, &format!("{USUAL}samples = 0\n"));
    whole(dir.path(), &said, &format!("{USUAL}samples = 2\n"));
    same_end(&silent, &said, 11);
    let samples = |root: &Path| {
        let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
        rows.into_iter()
            .filter(|row| row.kind.name() == "sample")
            .collect::<Vec<_>>()
    };
    assert!(samples(&silent).is_empty());
    let rows = samples(&said);
    // Before the first step, at each checkpoint, and at the end.
    let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
    assert_eq!(steps, [0, 0, 3, 3, 6, 6, 9, 9, 11, 11]);
    for row in &rows {
        let prompt = row.text("prompt").unwrap();
        assert!(
            prompt.starts_with("What is the name of the city"),
            "{row:?}"
        );
        assert!(
            !prompt.contains("Paris"),
            "the answer is not given: {row:?}"
        );
        assert!(row.text("completion").is_some() && row.number("length") <= Some(48.0));
    }
    let first = |at: usize| rows[at].text("prompt");
    assert!(first(0) == first(2) && first(0) != first(1));
}

#[test]
fn samples_are_refused_where_nothing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let text = config_text(dir.path(), &format!("{USUAL}samples = 2\n"));
    let said = |text: &str, method: &str| {
        let config = candlescope::train::Config::parse("run.toml", text, method, &[]);
        config.err().map(|error| error.to_string())
    };
    assert_eq!(said(&text, "kto"), None);
    let rm = said(&text, "rm").unwrap();
    assert!(rm.contains("output.samples"), "{rm}");
}

fn numbers(method: &str, more: &str, name: &str) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    run(&mut Session::begin(&root, parts_of(method, dir.path(), more)).unwrap());
    let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let steps = rows.iter().filter(|row| row.kind.name() == "step");
    steps.map(|row| row.number(name).unwrap()).collect()
}

#[test]
fn preferences_begin_at_ln_2_and_grow_a_margin() {
    let steady = USUAL.replace("warmup_steps = 2", "shape = \"constant\"");
    for more in [steady.clone(), format!("{steady}[lora]\nrank = 4\n")] {
        let losses = numbers("dpo", &more, "loss");
        assert!(
            (losses[0] - std::f64::consts::LN_2).abs() < 1e-6,
            "{losses:?}"
        );
        assert!(losses[10] < losses[0], "{losses:?}");
        let margins = numbers("dpo", &more, "rewards/margins");
        assert!(margins[0].abs() < 1e-6 && margins[10] > 0.01, "{margins:?}");
    }
    // Losses without a reference, and one with the likelihood of prompts.
    for kind in ["simpo", "orpo", "slic_hf"] {
        let more = format!("{steady}[method.dpo]\nloss = \"{kind}\"\n");
        let losses = numbers("dpo", &more, "loss");
        assert!(losses[10] < losses[0], "{kind}: {losses:?}");
    }
}

#[test]
fn labelled_answers_begin_at_one_half_and_part() {
    let steady = USUAL.replace("warmup_steps = 2", "shape = \"constant\"");
    let losses = numbers("kto", &steady, "loss");
    // Policy and reference are one model: both log-ratios and the divergence are 0, and the loss is 1 - σ(0).
    assert!((losses[0] - 0.5).abs() < 1e-6, "{losses:?}");
    assert!(losses[10] < 0.5, "{losses:?}");
    let kl = numbers("kto", &steady, "kl");
    assert!(
        kl[0].abs() < 1e-6 && kl.iter().all(|kl| *kl >= 0.0),
        "{kl:?}"
    );
}

#[test]
fn a_reward_model_learns_which_answers_are_preferred() {
    let steady = USUAL.replace("warmup_steps = 2", "shape = \"constant\"");
    let accuracy = numbers("rm", &steady, "accuracy");
    assert_eq!(accuracy[10], 1.0, "{accuracy:?}");
    let margins = numbers("rm", &steady, "margin");
    assert!(margins[10] > margins[0], "{margins:?}");
}

#[test]
fn it_learns_and_logs_under_the_names_of_trl() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    whole(dir.path(), &root, USUAL);
    let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let of = |kind: &str| {
        rows.iter()
            .filter(|r| r.kind.name() == kind)
            .collect::<Vec<_>>()
    };
    let steps = of("step");
    for name in [
        "loss",
        "grad_norm",
        "learning_rate",
        "epoch",
        "num_tokens",
        "entropy",
        "mean_token_accuracy",
    ] {
        assert!(
            steps
                .iter()
                .all(|row| row.number(name).is_some_and(f64::is_finite)),
            "{name}"
        );
    }
    assert_eq!(steps[0].number("learning_rate"), Some(0.0));
    assert_eq!(steps[2].number("learning_rate"), Some(1e-3));
    let evals = of("eval");
    assert_eq!(evals.iter().map(|r| r.step).collect::<Vec<_>>(), [4, 8, 11]);
    let loss = |i: usize| evals[i].number("eval_loss").unwrap();
    assert!(loss(2) < 0.8 * loss(0), "{} {}", loss(0), loss(2));
    // Every trained tensor of the toy lives.
    assert!(of("alert").is_empty(), "{:?}", of("alert"));
    let saved: Vec<u64> = of("checkpoint").iter().map(|r| r.step).collect();
    assert_eq!(saved, [3, 6, 9, 11]);
    assert!(std::fs::read_dir(root.join("tensorboard")).unwrap().count() == 1);
    // A checkpoint is a model that opens.
    let path = root.join("checkpoints/step-11");
    let model = Checkpoint::open("it", &path, &LoadOptions::default()).unwrap();
    assert!(model.template.is_some());
}

/// Weights after one step of plain size: no clipping, so that a wrong scale would show.
fn weights_after_one(dir: &Path, name: &str, more: &str) -> (Vec<(String, Vec<f32>)>, f64) {
    let root = dir.join(name);
    whole(dir, &root, more);
    let folder = SafetensorsFolder::open(&root.join("checkpoints/step-1")).unwrap();
    let load = |name: &String| {
        let tensor = folder.load(name, candle_core::DType::F32).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    let weights = folder
        .names()
        .iter()
        .map(|n| (n.clone(), load(n)))
        .collect();
    let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let norm = rows.iter().find_map(|row| row.number("grad_norm")).unwrap();
    (weights, norm)
}

fn near(one: &[(String, Vec<f32>)], other: &[(String, Vec<f32>)], most: f32) {
    for ((name, a), (_, b)) in one.iter().zip(other) {
        let worst = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= most, "{name}: {worst}");
    }
}

#[test]
fn four_passes_of_one_row_are_one_of_four() {
    let dir = tempfile::tempdir().unwrap();
    let of = |optim: &str| {
        // Eps far above the gradients makes Adam's step proportional to them, so that a wrong scale shows.
        format!(
            "[optim]\nlr = 1e-2\neps = 10.0\nmax_grad_norm = 0.0\n{optim}\n[schedule]\nsteps = 1\nshape = \"constant\"\n"
        )
    };
    let (one, norm) = weights_after_one(dir.path(), "one", &of("batch_size = 4"));
    let (four, norms) =
        weights_after_one(dir.path(), "four", &of("batch_size = 1\naccumulation = 4"));
    assert!((norm - norms).abs() <= 1e-5 * norm, "{norm} {norms}");
    near(&one, &four, 1e-6);
    let (other, _) = weights_after_one(dir.path(), "other", &of("batch_size = 3"));
    let moved = one.iter().zip(&other).any(|((_, a), (_, b))| a != b);
    assert!(moved, "the comparison sees nothing");
}

#[test]
fn packed_rows_train_as_rows_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let of = |packing: bool| {
        format!(
            "max_length = 96\n[optim]\nlr = 1e-2\neps = 10.0\nbatch_size = 64\n[schedule]\nsteps = 1\nshape = \"constant\"\n\
             [method.sft]\npacking = {packing}\n"
        )
    };
    let (packed, norm) = weights_after_one(dir.path(), "packed", &of(true));
    let (single, norms) = weights_after_one(dir.path(), "single", &of(false));
    assert!((norm - norms).abs() <= 1e-5 * norm, "{norm} {norms}");
    near(&packed, &single, 1e-6);
}

struct Watch(Rc<RefCell<Vec<u64>>>);

impl CheckpointObserver for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn checkpoint(
        &mut self,
        at: &At<'_>,
    ) -> Result<Numbers, Box<dyn std::error::Error + Send + Sync>> {
        assert!(at.path.join("trainer.json").exists());
        // The model in memory is the one on disk.
        let folder = SafetensorsFolder::open(at.path)?;
        let saved = folder.load("model.norm.weight", candle_core::DType::F32)?;
        let gain = &at.model.weights().final_norm.gain;
        assert_eq!(gain.to_vec1::<f32>()?, saved.to_vec1::<f32>()?);
        self.0.borrow_mut().push(at.step);
        let mut numbers = Numbers::new();
        numbers.set("watch/steps", at.step as f64);
        Ok(numbers)
    }
}

#[test]
fn observers_see_every_checkpoint_with_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut session = Session::begin(&root, parts(dir.path(), USUAL)).unwrap();
    let stop = AtomicBool::new(false);
    let mut observers: Vec<Box<dyn CheckpointObserver>> = vec![Box::new(Watch(Rc::clone(&seen)))];
    session.run(&stop, &Silent, &mut observers).unwrap();
    assert_eq!(*seen.borrow(), [3, 6, 9, 11]);
    let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let told: Vec<f64> = rows
        .iter()
        .filter_map(|row| row.number("watch/steps"))
        .collect();
    assert_eq!(told, [3.0, 6.0, 9.0, 11.0]);
}

#[test]
fn the_best_checkpoint_is_kept_beside_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    // A rate that destroys what the first steps learn.
    let more = "[optim]\nlr = 0.3\nbatch_size = 4\n[schedule]\nsteps = 6\nwarmup_steps = 5\n\
        [output]\ncheckpoint_every = 1\nkeep_last = 1\nkeep_best = \"eval_loss\"\n";
    let mut session = Session::begin(&root, parts(dir.path(), more)).unwrap();
    run(&mut session);
    let kept: Vec<u64> = session
        .folder()
        .checkpoints()
        .unwrap()
        .iter()
        .map(|s| s.step)
        .collect();
    let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let evals = rows
        .iter()
        .filter_map(|r| Some((r.step, r.number("eval_loss")?)));
    let best = evals.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    assert!(best < 6);
    assert_eq!(kept, [best, 6]);
}

#[test]
fn a_loss_that_is_no_number_stops_before_it_does_harm() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let more = "[optim]\nlr = 1e30\nbatch_size = 2\n[schedule]\nsteps = 5\nshape = \"constant\"\n\
        [output]\ncheckpoint_every = 1\n";
    let mut session = Session::begin(&root, parts(dir.path(), more)).unwrap();
    let stop = AtomicBool::new(false);
    let error = session.run(&stop, &Silent, &mut []).unwrap_err();
    let TrainError::NotFinite { step, rows, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*step, rows.len()), (2, 2));
    assert!(
        rows.iter().all(|row| row.contains("train.jsonl:")),
        "{rows:?}"
    );
    let batch = std::fs::read_to_string(root.join("failed/step-2.json")).unwrap();
    assert!(
        batch.contains("\"supervised\"") && batch.contains(&rows[0]),
        "{batch}"
    );
    let log = log::read(&root.join("metrics.jsonl")).unwrap().rows;
    let alert = log
        .iter()
        .find(|row| row.text("alert") == Some("not_finite"))
        .unwrap();
    assert_eq!(alert.fields["rows"].as_array().unwrap().len(), 2);
    assert_eq!(log.last().unwrap().text("reason"), Some("failed"));
}

#[test]
fn another_config_model_or_data_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    whole(dir.path(), &root, USUAL);
    let refusal = |more: &str| {
        let Err(error) = Session::resume(&root, parts(dir.path(), more)) else {
            panic!("it went on");
        };
        error.to_string()
    };
    let message = refusal(&USUAL.replace("lr = 1e-3", "lr = 2e-3"));
    assert!(
        message.contains("step-11") && message.contains("optim.lr: expected 0.002, found 0.001"),
        "{message}"
    );
    // What is written when may change.
    Session::resume(
        &root,
        parts(dir.path(), &USUAL.replace("keep_last = 9", "keep_last = 8")),
    )
    .unwrap();
    let text = config_text(dir.path(), USUAL).replace("\"toy\"", "\"toy:1\"");
    let config = candlescope::train::Config::parse("run.toml", &text, "sft", &[]).unwrap();
    let other = candlescope::model::Checkpoint::toy(1).unwrap();
    let parts_of_other = candlescope::train::prepare(config, other).unwrap();
    let error = Session::resume(&root, parts_of_other)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("manifest.json: weights: expected"),
        "{error}"
    );
    let path = dir.path().join("train.jsonl");
    let rows = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, rows.replace("Paris", "Rome")).unwrap();
    let message = refusal(USUAL);
    assert!(
        message.contains("manifest.json: data: expected") && message.contains("train.jsonl"),
        "{message}"
    );
}
