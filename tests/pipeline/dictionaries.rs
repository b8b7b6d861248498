//! Dictionaries along a pipeline: trained behind one stage, read through by the audits of the next, trained on at their ends;
//! stops, moves and searches change nothing; what does not fit is refused before anything runs.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candlescope::audit::catalogue::{Artefact, SIGNALS};
use candlescope::audit::evidence::dictionary::Given;
use candlescope::audit::policy::Policy;
use candlescope::audit::result::Audit;
use candlescope::audit::{report, runner, work};
use candlescope::features;
use candlescope::model::{Checkpoint, LoadOptions};
use candlescope::pipeline::bisect::{self, Note, Request, Rule, Target};
use candlescope::pipeline::plan::Stage;
use candlescope::pipeline::run::Begins;
use candlescope::pipeline::stations::stations;
use candlescope::pipeline::{Audited, Ended, Options, Plan, State, Watcher, run};
use candlescope::train::dictionary::{DictionaryConfig, Refit};
use candlescope::train::{self, Progress, Silent, Standing};

use crate::runs::{Folders, POLICY, finished, outcome, sitting};

/// What is asked of these checkpoints.
const ASKED: [&str; 6] = [
    "refusal_score",
    "dictionary_fvu",
    "dictionary_ce",
    "latent_crossings",
    "latent_density",
    "decoder_rotation",
];
const LM: &str = "[[stage]]\nname = 'lm'\nmethod = 'lm'\n\
    model = { new = { d_model = 32, n_layers = 2, n_heads = 2, d_mlp = 64, n_ctx = 192, tokenizer = '@world/tokenizer' } }\n\
    data = { train = ['@world/lm.jsonl'], max_length = 64 }\noptim = { batch_size = 2 }\n\
    schedule = { steps = 4 }\noutput = { checkpoint_every = 4 }\n";
const SFT: &str = "[[stage]]\nname = 'sft'\nmethod = 'sft'\nfrom = 'lm'\n\
    data = { train = ['@world/sft.jsonl'], max_length = 160, unusable = 'drop' }\noptim = { batch_size = 2 }\n\
    schedule = { steps = 2 }\noutput = { checkpoint_every = 2 }\n";
/// A dictionary on what `sft` ended with.
pub const SAE: &str = "[[stage]]\nname = 'sae'\nmethod = 'dictionary'\nfrom = 'sft'\n\
    options = { reads = ['resid_post.0'], d_sae = 48, lr = 1e-2, architecture = { kind = 'top-k', k = 4 } }\n\
    data = { path = '@world/lm.jsonl', column = 'text', context = 32, mixing = { rows = 256, keep = 0.5, batch = 4 } }\n\
    schedule = { rows = 768, batch = 64, held_out = 128 }\n\
    output = { checkpoint_every = 4, eval_every = 6, keep_last = 2 }\n";

fn dpo(name: &str, from: &str, steps: u64, every: u64) -> String {
    format!(
        "[[stage]]\nname = '{name}'\nmethod = 'dpo'\nfrom = '{from}'\n\
        data = {{ train = ['@world/pairs.jsonl'], max_length = 160 }}\noptim = {{ batch_size = 2, lr = 1e-3 }}\n\
        schedule = {{ steps = {steps} }}\noutput = {{ checkpoint_every = {every} }}\n"
    )
}

/// A plan with a world and this `[audit]`.
fn planned(dir: &Path, audit: &str, stages: &[&str]) -> Plan {
    let asked = |entry: &&candlescope::audit::catalogue::Entry| !ASKED.contains(&entry.id);
    let others = SIGNALS.iter().filter(asked);
    let off = others.map(|entry| format!("[signals.{}]\nenabled = false\n", entry.id));
    let text = off.fold(POLICY.to_owned(), |text, off| text + &off);
    let policy = dir.join("asked.toml");
    std::fs::write(&policy, text).unwrap();
    let policy = policy.display();
    let text = format!(
        "name = 'tiny'\nseed = 3\n\
        [world]\ntexts = 200\nchats = 40\npairs = 24\nprompts = 24\nheld_out = 8\nwords = 400\n\
        [audit]\ncheckpoint = '{policy}'\nend = '{policy}'\n{audit}\n{}",
        stages.concat()
    );
    Plan::parse("plan", &text).unwrap()
}

fn audit(root: &Path, state: &State, stage: &str, step: u64) -> Audit {
    let place = root.join(&state.audited(stage, step).unwrap().audit);
    report::json::load(&place).unwrap()
}

fn measured(audit: &Audit) -> Vec<&str> {
    for signal in &audit.signals {
        let (id, why) = (&signal.id, &signal.not_evaluated);
        assert_eq!(*why, None, "{id} of {}", audit.subject.name);
    }
    let each = audit.signals.iter();
    each.map(|signal| signal.id.as_str()).collect()
}

fn skipped<'a>(audit: &'a Audit, id: &str) -> &'a str {
    let skipped = audit.skipped.iter().find(|skipped| skipped.id == id);
    &skipped.unwrap().why
}

fn artefacts(audit: &Audit) -> Vec<Artefact> {
    let each = audit.provenance.dictionaries.iter();
    each.map(|used| used.artefact).collect()
}

fn number(audit: &Audit, signal: &str, name: &str) -> f64 {
    let value = audit.signal(signal).unwrap().value(name).unwrap();
    value.value.unwrap()
}

/// Stops at a step of a stage.
struct Until<'a> {
    at: (&'a str, u64),
    stage: RefCell<String>,
    stop: &'a AtomicBool,
    silent: work::Silent,
}

impl Watcher for Until<'_> {
    fn stage(&self, stage: &Stage, _: usize, _: usize, _: Begins) {
        self.stage.borrow_mut().clone_from(&stage.name);
    }

    fn training(&self) -> &dyn Progress {
        self
    }

    fn auditing(&self) -> &dyn work::Progress {
        &self.silent
    }

    fn audited(&self, _: &Audited, _: &Audit) {}
}

impl Progress for Until<'_> {
    fn at(&self, standing: &Standing<'_>) {
        if (self.stage.borrow().as_str(), standing.step) == self.at {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// A sitting that is asked to stop after a step of a stage.
fn until(root: &Path, plan: Option<&Plan>, at: (&str, u64)) {
    let stop = AtomicBool::new(false);
    let watcher = Until {
        at,
        stage: RefCell::default(),
        stop: &stop,
        silent: work::Silent,
    };
    let options = Options {
        models: &Folders,
        watcher: &watcher,
        stop: &stop,
    };
    let ended = run(root, plan, plan.is_none(), &options).unwrap();
    assert_eq!(ended, Ended::Interrupted(at.0.to_owned()));
}

#[test]
fn a_dictionary_is_carried_along_and_a_stop_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (dpo, later) = (dpo("dpo", "sft", 2, 1), dpo("later", "dpo", 2, 2));
    let audits = "dictionary = 'sae'\nrefit = 256";
    let plan = planned(dir.path(), audits, &[LM, SFT, SAE, &dpo, &later]);
    let whole = dir.path().join("whole");
    let (ended, stages) = sitting(&whole, Some(&plan), false, None);
    let state = finished(ended);
    assert_eq!(stages[2], ("sae".to_owned(), Begins::Fresh));
    let made = state.done("sae").unwrap();
    assert_eq!(made.steps, 12);
    assert_eq!(made.model, Path::new("stages/sae/checkpoints/step-12/sae"));
    assert!(made.seconds > 0.0);
    let found = stations(&whole).unwrap();
    assert!(found.all.iter().all(|at| at.stage != "sae") && found.rewards.is_empty());

    // Before it is there, an audit says that it was given none.
    let sft = audit(&whole, &state, "sft", 2);
    assert_eq!(measured(&sft), ["refusal_score"]);
    assert!(skipped(&sft, "dictionary_fvu").starts_with("no dictionary was given"));
    // After it, a checkpoint is read through it, and at the end of a stage it is trained on.
    let middle = audit(&whole, &state, "dpo", 1);
    assert_eq!(measured(&middle), ASKED[..5]);
    assert!(skipped(&middle, "decoder_rotation").starts_with("no refit of the dictionary"));
    assert_eq!(artefacts(&middle), [Artefact::Dictionary]);
    assert_eq!(middle.provenance.dictionaries[0].reads, ["resid_post.0"]);
    let end = audit(&whole, &state, "dpo", 2);
    assert_eq!(measured(&end), ASKED);
    let all = [Artefact::Dictionary, Artefact::Refit, Artefact::Control];
    assert_eq!(artefacts(&end), all);
    assert!(number(&end, "decoder_rotation", "median_turn") > 0.0);
    alone(&whole, &state, &plan, &middle);
    refitted(&whole, &state, &end);
    // What was trained on at the end of one stage is the control of the next.
    let later = audit(&whole, &state, "later", 2);
    let hash = |audit: &Audit, i: usize| audit.provenance.dictionaries[i].hash.clone();
    assert_eq!(hash(&later, 2), hash(&end, 1));
    assert_ne!(hash(&later, 1), hash(&end, 1));

    // A file is there from the first audit on; what needs a baseline waits for one.
    let file = whole.join(&made.model);
    let audits = format!("dictionary = '{}'", file.display());
    let plan_of_file = planned(dir.path(), &audits, &[LM, SFT]);
    let root = dir.path().join("file");
    let of_file = finished(sitting(&root, Some(&plan_of_file), false, None).0);
    let first = audit(&root, &of_file, "lm", 4);
    assert_eq!(measured(&first), ["refusal_score"]);
    assert!(skipped(&first, "dictionary_fvu").contains("baseline"));
    assert_eq!(measured(&audit(&root, &of_file, "sft", 2)), ASKED[..5]);

    // Stopped inside, and as a kill would leave it: without the checkpoint of the stop.
    let parts = dir.path().join("parts");
    until(&parts, Some(&plan), ("sae", 6));
    let saved = parts.join("stages/sae/checkpoints");
    std::fs::remove_dir_all(saved.join("step-6")).unwrap();
    assert!(saved.join("step-4").is_dir());
    // Stopped again while it is trained on at the end of a stage.
    until(&parts, None, ("dpo", 3));
    assert!(!parts.join("refits/sft").exists() && !parts.join("refits/dpo").exists());
    // The policy's file is gone and the folder is somewhere else.
    std::fs::remove_file(dir.path().join("asked.toml")).unwrap();
    let moved = dir.path().join("moved");
    std::fs::rename(&parts, &moved).unwrap();
    let (ended, stages) = sitting(&moved, None, true, None);
    finished(ended);
    assert_eq!(stages[2], ("sae".to_owned(), Begins::Done));
    assert_eq!(outcome(&whole), outcome(&moved));

    searched(&moved, &end, &later);
}

/// The audit of a pipeline's checkpoint is what `audit run --dictionary` makes of it.
fn alone(root: &Path, state: &State, plan: &Plan, stored: &Audit) {
    let options = LoadOptions::default();
    let open =
        |name: &str, path: &Path| Checkpoint::open(name, &root.join(path), &options).unwrap();
    let subject = open("dpo", Path::new("stages/dpo/checkpoints/step-1"));
    let baseline = open("sft", &state.done("sft").unwrap().model);
    let policy = Policy::load(Path::new(plan.audit.end.as_deref().unwrap())).unwrap();
    let dictionary = features::open(&root.join(&state.done("sae").unwrap().model)).unwrap();
    dictionary.expect(&baseline).unwrap();
    let given = Given {
        dictionary: Some(dictionary),
        ..Given::default()
    };
    let suites = runner::suites_for(&subject).unwrap();
    let trials = runner::trials_for(&subject).unwrap();
    let found = runner::run(
        &subject,
        Some(&baseline),
        &policy,
        &runner::Options {
            suites: &suites,
            trials: &trials,
            seed: None,
            refusal_phrases: &[],
            command: "",
            dictionaries: Some(&given),
            inputs: None,
            progress: &work::Silent,
            cancel: &AtomicBool::new(false),
            kept: None,
        },
    );
    let found = found.unwrap().audit;
    for id in &ASKED[1..5] {
        let values = |audit: &Audit| audit.signal(id).unwrap().values.clone();
        assert_eq!(values(&found), values(stored), "{id}");
    }
}

/// A refit is made of the run's last state, has the same bits whoever makes it, and turns no row that it does not train.
fn refitted(root: &Path, state: &State, end: &Audit) {
    let made = root.join(&state.done("sae").unwrap().model);
    let config = DictionaryConfig::read(&root.join("stages/sae/run.toml"), &[]).unwrap();
    let model = root.join(&state.done("dpo").unwrap().model);
    let model = Checkpoint::open("dpo", &model, &LoadOptions::default()).unwrap();
    let rows = |dictionary: &Path| {
        let opened = features::open(dictionary).unwrap();
        opened.dictionary.parts().decoder.clone()
    };
    let out = root.with_file_name("again");
    let refit = |rows: u64, stop: bool| {
        let refit = Refit {
            config: &config,
            name: "sae",
            from: made.parent().unwrap(),
            rows,
        };
        refit.make(&model, &out, &AtomicBool::new(stop), &Silent)
    };
    assert!(!refit(256, true).unwrap());
    assert!(!out.exists());
    assert!(refit(256, false).unwrap());
    assert_eq!(rows(&out), rows(&root.join("refits/dpo")));
    // 1 - cos of the rows, by hand.
    let [before, after] = [rows(&made), rows(&out)];
    let mut turns: Vec<f64> = before
        .outer_iter()
        .zip(after.outer_iter())
        .map(|(a, b)| {
            let dot = |x: &ndarray::ArrayView1<f32>, y: &ndarray::ArrayView1<f32>| -> f64 {
                let each = x.iter().zip(y);
                each.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            };
            1.0 - dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        })
        .collect();
    turns.sort_by(f64::total_cmp);
    let median = turns[(0.5 * (turns.len() - 1) as f64).round() as usize];
    let stored = number(end, "decoder_rotation", "median_turn");
    assert!((median - stored).abs() < 1e-6, "{median} {stored}");
    let error = refit(63, false).unwrap_err().to_string();
    assert!(error.contains("at least one batch of 64"), "{error}");
}

/// A search asks through the same dictionary, and trains it on as the pipeline did.
fn searched(root: &Path, good: &Audit, bad: &Audit) {
    struct Quiet(RefCell<Vec<u64>>);
    impl bisect::Watcher for Quiet {
        fn training(&self) -> &dyn train::Progress {
            &Silent
        }

        fn auditing(&self) -> &dyn work::Progress {
            &work::Silent
        }

        fn said(&self, note: &Note<'_>) {
            if let Note::Audited { seen } = note {
                self.0.borrow_mut().push(seen.step);
            }
        }
    }
    let turn = |audit: &Audit| number(audit, "decoder_rotation", "median_turn");
    let limit = turn(good).midpoint(turn(bad));
    let request = Request {
        target: Target::parse("decoder_rotation.median_turn").unwrap(),
        rule: if turn(bad) > turn(good) {
            Rule::Above(limit)
        } else {
            Rule::Below(limit)
        },
        stage: None,
        window: None,
        guilty: None,
        steps_only: true,
        keep: false,
    };
    let quiet = Quiet(RefCell::default());
    let options = bisect::Options {
        models: &Folders,
        watcher: &quiet,
        stop: &AtomicBool::new(false),
    };
    let found = bisect::bisect(root, &request, &options).unwrap();
    assert_eq!(found.stage, "later");
    let value = |seen: &bisect::Seen| seen.value.as_ref().unwrap().value.unwrap();
    // Step 0 is the model that the stage before ended with.
    assert_eq!(
        (found.steps[0].step, value(&found.steps[0])),
        (0, turn(good))
    );
    let last = found.steps.iter().find(|seen| seen.step == 2).unwrap();
    assert_eq!(value(last), turn(bad));
    assert!(!root.join(&found.folder).join("refits").exists());
}

#[test]
fn a_policy_that_asks_nothing_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dpo = dpo("dpo", "sft", 2, 1);
    let audits = "dictionary = 'sae'\nrefit = 256";
    let plan = planned(dir.path(), audits, &[LM, SFT, SAE, &dpo]);
    let policy = crate::runs::policy(dir.path());
    std::fs::rename(policy, dir.path().join("asked.toml")).unwrap();
    let root = dir.path().join("run");
    let state = finished(sitting(&root, Some(&plan), false, None).0);
    let end = audit(&root, &state, "dpo", 2);
    assert_eq!(measured(&end), ["refusal_score"]);
    assert!(artefacts(&end).is_empty() && !root.join("refits").exists());
}

#[test]
fn what_does_not_fit_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let refused = |audits: &str, stages: &[&str]| {
        let plan = planned(dir.path(), audits, stages);
        let error = sitting(&root, Some(&plan), false, None).0.unwrap_err();
        assert!(!root.exists(), "{error}");
        error.to_string()
    };
    let dpo = dpo("dpo", "sft", 2, 1);
    let deep = SAE.replace("resid_post.0", "resid_post.2");
    let error = refused("", &[LM, SFT, &deep]);
    assert!(
        error.contains("stage `sae`") && error.contains("resid_post") && error.contains('2'),
        "{error}"
    );
    let two = SAE.replace("['resid_post.0']", "['resid_post.0', 'resid_post.1']");
    let error = refused("dictionary = 'sae'", &[LM, SFT, &two, &dpo]);
    assert!(
        error.contains("stage `sae`") && error.contains("one hook point"),
        "{error}"
    );
    // Another lineage, whose model is wider; its audits would read through the same dictionary.
    let wide = LM
        .replace("'lm'", "'wide'")
        .replace("d_model = 32", "d_model = 64");
    let wide = wide.replace("method = 'wide'", "method = 'lm'");
    let error = refused("dictionary = 'sae'", &[LM, SFT, SAE, &wide]);
    assert!(
        error.contains("audits of stage `wide`") && error.contains("has 64"),
        "{error}"
    );
    // A file's, which reads 128 values at block 2.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pocket/sae");
    let file = format!("dictionary = '{file}'");
    let error = refused(&file, &[LM, SFT]);
    assert!(
        error.contains("audits of stage `lm`") && error.contains("layers 0 to 1"),
        "{error}"
    );
    let error = refused(&file, &[&LM.replace("n_layers = 2", "n_layers = 4"), SFT]);
    assert!(
        error.contains("reads 128 values") && error.contains("has 32"),
        "{error}"
    );
    let error = refused("dictionary = 'nowhere'", &[LM, SFT]);
    assert!(
        error.contains("`audit.dictionary`") && error.contains("nowhere"),
        "{error}"
    );
}
