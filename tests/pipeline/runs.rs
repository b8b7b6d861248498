//! A small plan through the library: every method once, audits after each checkpoint, the folder it leaves.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope::audit::result::Audit;
use candlescope::audit::verdict::Verdict;
use candlescope::model::{Checkpoint, LoadOptions};
use candlescope::pipeline::plan::Stage;
use candlescope::pipeline::run::{Begins, OpenError};
use candlescope::pipeline::{
    Audited, Ended, Models, Options, PipelineError, PipelineFolder, Plan, State, Watcher, course,
    folder, run,
};
use candlescope::train;

/// One signal alone, on few prompts: the test is of the pipeline.
pub const POLICY: &str = "extends = 'default'\nname = 'least'\n\
    [sizes]\nfit = 4\nselect = 2\nharmful = 4\nharmless = 4\nlookalikes = 4\nmax_new_tokens = 4\n\
    random_directions = 32\nshuffles = 20\nbootstrap = 200\n";

/// Every signal of the default policy but the refusal score.
pub fn policy(dir: &Path) -> PathBuf {
    let mut text = POLICY.to_owned();
    for entry in candlescope::audit::catalogue::SIGNALS {
        if entry.id != "refusal_score" {
            text.push_str(&format!("[signals.{}]\nenabled = false\n", entry.id));
        }
    }
    let path = dir.join("least.toml");
    std::fs::write(&path, text).unwrap();
    path
}

pub fn plan(dir: &Path, on_block: &str) -> String {
    let policy = policy(dir).display().to_string();
    format!(
        "name = 'tiny'\nseed = 3\n\
        [world]\ntexts = 200\nchats = 40\npairs = 24\nprompts = 24\nheld_out = 8\nwords = 400\n\
        [audit]\ncheckpoint = '{policy}'\nend = '{policy}'\non_block = '{on_block}'\n\
        [[stage]]\nname = 'lm'\nmethod = 'lm'\n\
        model = {{ new = {{ d_model = 32, n_layers = 2, n_heads = 2, d_mlp = 64, n_ctx = 192, tokenizer = '@world/tokenizer' }} }}\n\
        data = {{ train = ['@world/lm.jsonl'], max_length = 64 }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 4 }}\noutput = {{ checkpoint_every = 2 }}\n\
        [[stage]]\nname = 'sft'\nmethod = 'sft'\nfrom = 'lm'\nlora = {{ rank = 2 }}\n\
        data = {{ train = ['@world/sft.jsonl'], max_length = 160, unusable = 'drop' }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 4 }}\noutput = {{ checkpoint_every = 2 }}\n\
        [[stage]]\nname = 'rm'\nmethod = 'rm'\nfrom = 'sft'\n\
        data = {{ train = ['@world/pairs.jsonl'], max_length = 160 }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 3 }}\noutput = {{ checkpoint_every = 3 }}\n\
        [[stage]]\nname = 'dpo'\nmethod = 'dpo'\nfrom = 'sft'\nbaseline = 'lm'\n\
        data = {{ train = ['@world/pairs.jsonl'], max_length = 160 }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 3 }}\noutput = {{ checkpoint_every = 3 }}\n\
        [[stage]]\nname = 'ppo'\nmethod = 'ppo'\nfrom = 'dpo'\n\
        options = {{ epochs = 1, rollout = {{ response_length = 4, batch = 4 }}, reward = {{ models = ['@rm'] }} }}\n\
        data = {{ train = ['@world/prompts.jsonl'], max_length = 160 }}\noptim = {{ batch_size = 4 }}\n\
        schedule = {{ steps = 2 }}\noutput = {{ checkpoint_every = 1 }}\n\
        [[stage]]\nname = 'rounded'\nmethod = 'edit'\nfrom = 'dpo'\noptions = {{ kind = 'quantised', strength = 0.5 }}\n"
    )
}

/// Remembers what it was told.
struct Quiet<'a> {
    training: train::Silent,
    auditing: candlescope::audit::work::Silent,
    stages: RefCell<Vec<(String, Begins)>>,
    /// Set once this many audits were made.
    stop_after: Option<(usize, &'a AtomicBool)>,
    audits: RefCell<usize>,
}

/// Opens folders alone.
pub struct Folders;

impl Models for Folders {
    fn open(&self, name: &str) -> Result<Checkpoint, OpenError> {
        Ok(Checkpoint::open(
            name,
            Path::new(name),
            &LoadOptions::default(),
        )?)
    }
}

impl Watcher for Quiet<'_> {
    fn stage(&self, stage: &Stage, _: usize, _: usize, begins: Begins) {
        self.stages.borrow_mut().push((stage.name.clone(), begins));
    }

    fn training(&self) -> &dyn train::Progress {
        &self.training
    }

    fn auditing(&self) -> &dyn candlescope::audit::work::Progress {
        &self.auditing
    }

    fn audited(&self, _: &Audited, _: &Audit) {
        *self.audits.borrow_mut() += 1;
        if let Some((after, flag)) = self.stop_after
            && *self.audits.borrow() == after
        {
            flag.store(true, Ordering::SeqCst);
        }
    }
}

pub fn sitting(
    root: &Path,
    plan: Option<&Plan>,
    resume: bool,
    stop_after: Option<usize>,
) -> (Result<Ended, PipelineError>, Vec<(String, Begins)>) {
    let flag = AtomicBool::new(false);
    let quiet = Quiet {
        training: train::Silent,
        auditing: candlescope::audit::work::Silent,
        stages: RefCell::default(),
        stop_after: stop_after.map(|n| (n, &flag)),
        audits: RefCell::default(),
    };
    let options = Options {
        models: &Folders,
        watcher: &quiet,
        stop: &flag,
    };
    let ended = run(root, plan, resume, &options);
    let stages = quiet.stages.borrow().clone();
    (ended, stages)
}

pub fn finished(ended: Result<Ended, PipelineError>) -> State {
    match ended.unwrap() {
        Ended::Finished(state) => state,
        other => panic!("{other:?}"),
    }
}

/// What must be equal however often a pipeline was stopped: models and audits, but for times.
pub fn outcome(root: &Path) -> Vec<String> {
    let (_, state) = folder::look(root).unwrap();
    let done = state.done.iter().map(|done| {
        format!(
            "{} {} {} {}",
            done.stage,
            done.steps,
            done.model.display(),
            done.weights
        )
    });
    let audits = state.audits.iter().map(|audited| {
        let mut audit = candlescope::audit::report::json::load(&root.join(&audited.audit)).unwrap();
        audit.seconds = 0.0;
        audit.started = String::new();
        for signal in &mut audit.signals {
            signal.seconds = 0.0;
        }
        format!("{} {} {audit:?}", audited.stage, audited.step)
    });
    done.chain(audits).collect()
}

#[test]
fn stages_follow_each_other_and_a_stop_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::parse("plan", &plan(dir.path(), "go_on")).unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let (ended, stages) = sitting(&whole, Some(&plan), false, None);
    let state = finished(ended);
    let names: Vec<&str> = state.done.iter().map(|done| done.stage.as_str()).collect();
    assert_eq!(names, ["lm", "sft", "rm", "dpo", "ppo", "rounded"]);
    assert!(stages.iter().all(|(_, begins)| *begins == Begins::Fresh));
    let audited: Vec<(&str, u64)> = state
        .audits
        .iter()
        .map(|audited| (audited.stage.as_str(), audited.step))
        .collect();
    let expected = [
        ("lm", 2),
        ("lm", 4),
        ("sft", 2),
        ("sft", 4),
        ("dpo", 3),
        ("ppo", 1),
        ("ppo", 2),
        ("rounded", 0),
    ];
    assert_eq!(audited, expected);
    // An edit is paired with the stage that was edited, and is another model.
    let place = whole.join(&state.audited("rounded", 0).unwrap().audit);
    let audit = candlescope::audit::report::json::load(&place).unwrap();
    assert_eq!(audit.baseline.as_ref().unwrap().name, "dpo");
    let weights = |stage: &str| &state.done(stage).unwrap().weights;
    assert_ne!(weights("rounded"), weights("dpo"));
    // An adapter is merged for what comes after it.
    assert_eq!(
        state.done("sft").unwrap().model,
        PathBuf::from("models/sft")
    );
    // Numbers of the audits stand in the stage's log.
    let log = std::fs::read_to_string(whole.join("stages/lm/metrics.jsonl")).unwrap();
    assert!(log.contains("audit/refusal_score.score_auroc"), "{log}");
    // The audit of dpo is paired with what the plan says.
    let place = whole.join(&state.audited("dpo", 3).unwrap().audit);
    let audit = candlescope::audit::report::json::load(&place).unwrap();
    assert_eq!(audit.baseline.as_ref().unwrap().name, "lm");

    // The audits as one course, and one signal along it.
    let course = course::course(&whole, &state).unwrap();
    assert_eq!(course.signals, ["refusal_score"]);
    let places = course
        .checkpoints
        .iter()
        .map(|at| (at.stage.as_str(), at.step));
    assert_eq!(places.collect::<Vec<_>>(), expected);
    let audits = course::read(&whole, &state).unwrap();
    let along = course::lines(&audits, "refusal_score");
    let (name, line) = &along[0];
    assert_eq!(
        (name.as_str(), line.len()),
        ("harmful_score", expected.len())
    );
    let last = audit.signal("refusal_score").unwrap();
    let dpo = line.iter().find(|at| at.stage == "dpo").unwrap();
    assert_eq!(dpo.value.as_ref(), last.value("harmful_score"));
    assert!(course::lines(&audits, "sycophancy").is_empty());

    let (ended, _) = sitting(&parts, Some(&plan), false, Some(1));
    assert_eq!(ended.unwrap(), Ended::Interrupted("lm".to_owned()));
    let (ended, _) = sitting(&parts, None, true, Some(3));
    assert!(matches!(ended.unwrap(), Ended::Interrupted(_)));
    let (ended, stages) = sitting(&parts, Some(&plan), true, None);
    finished(ended);
    assert_eq!(stages[0], ("lm".to_owned(), Begins::Done));
    assert_eq!(outcome(&whole), outcome(&parts));
    // Done is done: nothing is trained or audited again.
    let (ended, stages) = sitting(&parts, None, true, None);
    finished(ended);
    assert!(stages.iter().all(|(_, begins)| *begins == Begins::Done));
}

#[test]
fn a_stage_that_begins_with_a_given_model_is_held_against_it() {
    let dir = tempfile::tempdir().unwrap();
    let whole = plan(dir.path(), "go_on");
    let (head, stages) = whole.split_once("[[stage]]").unwrap();
    let (lm, _) = stages.split_once("[[stage]]").unwrap();
    let root = dir.path().join("lm");
    let plan = Plan::parse("plan", &format!("{head}[[stage]]{lm}")).unwrap();
    let state = finished(sitting(&root, Some(&plan), false, None).0);
    let given = root.join(&state.done("lm").unwrap().model);

    let tune = format!(
        "{head}[[stage]]\nname = 'tune'\nmethod = 'sft'\nmodel = {{ name = '{}' }}\n\
        data = {{ train = ['@world/sft.jsonl'], max_length = 160, unusable = 'drop' }}\noptim = {{ batch_size = 2 }}\n\
        schedule = {{ steps = 2 }}\n",
        given.display()
    );
    let root = dir.path().join("tune");
    let plan = Plan::parse("plan", &tune).unwrap();
    let state = finished(sitting(&root, Some(&plan), false, None).0);
    let place = root.join(&state.audited("tune", 2).unwrap().audit);
    let audit = candlescope::audit::report::json::load(&place).unwrap();
    let given = Folders.open(&given.display().to_string()).unwrap();
    assert_eq!(
        audit.baseline.unwrap().weights_hash,
        given.fingerprint().unwrap().weights
    );
    let score = &audit.signals[0].values[0];
    assert_ne!(score.delta.as_ref().unwrap().value, 0.0);
}

#[test]
fn a_verdict_halts_and_a_resume_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = plan(dir.path(), "halt");
    // A score that no untrained model reaches.
    let strict = std::fs::read_to_string(dir.path().join("least.toml")).unwrap();
    let strict = strict
        + "[signals.refusal_score]\nseverity = 'block'\n\
           [signals.refusal_score.limits.score_auroc]\nmin = 0.999\non = 'value'\nelse = 'block'\n";
    std::fs::write(dir.path().join("least.toml"), strict).unwrap();
    text.truncate(text.find("[[stage]]\nname = 'rm'").unwrap());
    let plan = Plan::parse("plan", &text).unwrap();
    let root = dir.path().join("run");
    let mut resume = false;
    for expected in [("lm", 2), ("lm", 4), ("sft", 2), ("sft", 4)] {
        let given = (!resume).then_some(&plan);
        let (ended, _) = sitting(&root, given, resume, None);
        let Ended::Halted(audited) = ended.unwrap() else {
            panic!("it goes on after {expected:?}");
        };
        assert_eq!((audited.stage.as_str(), audited.step), expected);
        assert_eq!(audited.verdict, Verdict::Block);
        resume = true;
    }
    let (ended, _) = sitting(&root, None, true, None);
    assert_eq!(finished(ended).audits.len(), 4);
}

#[test]
fn folders_and_plans_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = plan(dir.path(), "go_on");
    text.truncate(text.find("[[stage]]\nname = 'sft'").unwrap());
    let plan = Plan::parse("plan", &text).unwrap();
    let root = dir.path().join("run");
    let refused = |plan: Option<&Plan>, resume: bool| {
        sitting(&root, plan, resume, None)
            .0
            .unwrap_err()
            .to_string()
    };
    assert!(refused(None, true).contains("not a pipeline's folder"));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("mine.txt"), "x").unwrap();
    assert!(refused(Some(&plan), false).contains("holds `mine.txt`"));
    std::fs::remove_file(root.join("mine.txt")).unwrap();

    let held = PipelineFolder::create(&root, &plan).unwrap();
    assert!(refused(None, true).contains("another process"));
    drop(held);
    assert!(refused(Some(&plan), false).contains("go on with `--resume`"));
    let other = Plan::parse("plan", &text.replace("seed = 3", "seed = 4")).unwrap();
    let error = refused(Some(&other), true);
    assert!(
        error.contains("seed = 3") && error.contains("seed = 4"),
        "{error}"
    );

    // A checkpoint that vanishes under a stage that needs it.
    let more = "[[stage]]\nname = 'b'\nmethod = 'sft'\nfrom = 'lm'\ndata = { train = ['@world/sft.jsonl'], max_length = 160 }\n";
    let two = Plan::parse("plan", &format!("{text}{more}")).unwrap();
    let root = dir.path().join("two");
    let (ended, _) = sitting(&root, Some(&two), false, Some(2));
    assert_eq!(ended.unwrap(), Ended::Interrupted("b".to_owned()));
    let (_, state) = folder::look(&root).unwrap();
    let model = root.join(&state.done("lm").unwrap().model);
    std::fs::remove_dir_all(&model).unwrap();
    let error = sitting(&root, None, true, None).0.unwrap_err().to_string();
    assert!(
        error.contains("stage `b`") && error.contains("no model is there"),
        "{error}"
    );
}
