//! A whole audit on a tiny model: it ends, repeats, pairs with itself without a change, and fails by name.

#![allow(clippy::unwrap_used)]

mod moved;
mod pressure;
mod prompts;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candlescope::audit::catalogue::Artefact;
use candlescope::audit::evidence::dictionary::Given;
use candlescope::audit::inputs::Inputs;
use candlescope::audit::policy::Policy;
use candlescope::audit::result::Audit;
use candlescope::audit::runner::{self, Kept, Options, Outcome, RunError};
use candlescope::audit::verdict::Verdict;
use candlescope::audit::work::{Progress, Silent, Step};
use candlescope::audit::{catalogue, report, signals};
use candlescope::features::{self, Opened};
use candlescope::hooks::{Edit, EditOp, HookPoint, Point};
use candlescope::model::{Checkpoint, LoadOptions};
use candlescope::text::suites::Suite;
use candlescope::text::trials::Trials;
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis as Side, concatenate};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn tiny() -> Checkpoint {
    Checkpoint::open(
        "tiny",
        &fixture("gguf/llama/model.gguf"),
        &LoadOptions::default(),
    )
    .unwrap()
}

fn policy() -> Policy {
    Policy::parse(
        "extends = \"default\"\n[sizes]\nfit = 12\nselect = 4\nharmful = 8\nharmless = 8\nlookalikes = 6\ntrials = 5\n\
         max_new_tokens = 6\nrandom_directions = 8\nshuffles = 20\nbootstrap = 100\nframed = 4\ntriggers = 20\n",
        "test policy",
    )
    .unwrap()
}

struct Setup {
    suites: Vec<Suite>,
    trials: Vec<Trials>,
    inputs: Inputs,
    cancel: AtomicBool,
}

impl Setup {
    fn new() -> Self {
        Self {
            suites: vec![prompts::suite()],
            trials: vec![prompts::trials(), prompts::orders()],
            inputs: Inputs::default(),
            cancel: AtomicBool::new(false),
        }
    }

    fn options<'a>(&'a self, progress: &'a dyn Progress) -> Options<'a> {
        Options {
            suites: &self.suites,
            trials: &self.trials,
            seed: Some(7),
            refusal_phrases: &[],
            command: "candlescope audit run tiny",
            dictionaries: None,
            inputs: Some(&self.inputs),
            progress,
            cancel: &self.cancel,
            kept: None,
        }
    }

    fn run(&self, subject: &Checkpoint, baseline: Option<&Checkpoint>) -> Outcome {
        runner::run(subject, baseline, &policy(), &self.options(&Silent)).unwrap()
    }
}

/// The audit as JSON without what time it is.
fn timeless(audit: &Audit) -> serde_json::Value {
    let mut audit = audit.clone();
    audit.started.clear();
    audit.seconds = 0.0;
    for signal in &mut audit.signals {
        signal.seconds = 0.0;
    }
    serde_json::to_value(&audit).unwrap()
}

#[test]
fn every_signal_is_in_the_catalogue_in_its_order_with_a_page() {
    let ids: Vec<_> = signals::ALL.iter().map(|signal| signal.id()).collect();
    let known: Vec<_> = catalogue::SIGNALS.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, known);
    for signal in signals::ALL {
        assert!(signal.page().len() > 200, "{}", signal.id());
        for quantity in catalogue::signal(signal.id()).unwrap().quantities {
            assert!(
                signal.page().contains(&format!("`{}`", quantity.name)),
                "the page of {} does not speak of {}",
                signal.id(),
                quantity.name
            );
        }
    }
}

#[test]
fn an_audit_runs_to_its_end_and_the_same_seed_gives_the_same() {
    let (cp, setup) = (tiny(), Setup::new());
    let first = setup.run(&cp, None);
    assert!(!first.interrupted);
    for signal in &first.audit.signals {
        assert_eq!(signal.not_evaluated, None, "{}", signal.id);
        let entry = catalogue::signal(&signal.id).unwrap();
        for quantity in entry.quantities.iter().filter(|quantity| !quantity.paired) {
            assert!(
                signal.value(quantity.name).is_some(),
                "{}.{}",
                signal.id,
                quantity.name
            );
        }
    }
    let skipped: Vec<_> = first.audit.skipped.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(
        skipped,
        [
            "direction_cosine",
            "stale_direction",
            "probe_transfer",
            "probe_recovery",
            "dictionary_fvu",
            "dictionary_ce",
            "latent_crossings",
            "latent_density",
            "decoder_rotation",
            "new_latents",
            "activation_difference",
            "trait_drift",
            "reward_length",
            "reward_directions",
            "reward_calibration",
            "reward_gain",
            "implicit_margin",
            "kl_to_baseline",
            "weight_forensics"
        ]
    );
    assert_ne!(
        first.audit.verdict,
        Verdict::Pass,
        "an untrained model cannot pass"
    );
    let second = setup.run(&cp, None);
    assert_eq!(timeless(&first.audit), timeless(&second.audit));
    let folder = tempfile::tempdir().unwrap();
    let files = report::write_all(folder.path(), &first.audit, &signals::pages()).unwrap();
    assert_eq!(files.len(), 4);
    assert_eq!(
        first.audit.provenance.suites[0].n,
        12 * 2 + 4 * 2 + 8 * 2 + 6 + 6
    );
    // Five groups of each protocol: questions, seven conditions, two.
    let used = &first.audit.provenance.suites[1];
    assert_eq!(
        (used.name.as_str(), used.n),
        ("trials: few", 5 + 5 * 7 + 5 * 2)
    );
}

#[test]
fn a_checkpoint_beside_itself_has_not_changed() {
    let (cp, other, mut setup) = (tiny(), tiny(), Setup::new());
    setup.inputs.pairs = Some(prompts::preferences());
    let audit = setup.run(&cp, Some(&other)).audit;
    for signal in &audit.signals {
        assert_eq!(signal.not_evaluated, None, "{}", signal.id);
        for value in &signal.values {
            if let Some(delta) = &value.delta {
                assert_eq!(delta.value, 0.0, "{}.{}", signal.id, value.name);
            }
            if let Some(test) = value.test.as_ref().filter(|_| value.delta.is_some()) {
                assert_eq!(test.p, 1.0, "{}.{}", signal.id, value.name);
            }
        }
    }
    let value = |id: &str, name: &str| audit.signal(id).unwrap().value(name).unwrap().clone();
    for (id, name) in [
        ("activation_difference", "relative_norm"),
        ("activation_difference", "common_share"),
        ("activation_difference", "readability"),
        ("trait_drift", "mahalanobis"),
        ("trait_drift", "largest_shift"),
        ("implicit_margin", "margin"),
        ("implicit_margin", "chosen_drift"),
        ("implicit_margin", "rejected_drift"),
        ("implicit_margin", "chosen_falls"),
        ("kl_to_baseline", "mean_kl"),
        ("kl_to_baseline", "kl_p99"),
        ("kl_to_baseline", "first_token_kl"),
        ("weight_forensics", "changed_matrices"),
        ("weight_forensics", "relative_change"),
        ("weight_forensics", "rank1_share"),
        ("weight_forensics", "suppressed_writers"),
        ("weight_forensics", "new_biases"),
        ("probe_transfer", "transfer_drop"),
        ("provenance", "mismatches"),
        ("provenance", "template_changes"),
    ] {
        assert_eq!(value(id, name).value, Some(0.0), "{id}.{name}");
    }
    let used = &audit.provenance.inputs[0];
    assert_eq!((used.artefact, used.n), (Artefact::Pairs, Some(12)));
    let ratio = value("direction_norm", "norm_ratio");
    assert_eq!(ratio.value, Some(1.0));
    assert_eq!(ratio.interval.unwrap().low, 1.0);
    assert_eq!(value("direction_cosine", "cosine").value, Some(1.0));
}

/// The furthest share of an audit that was told.
#[derive(Default)]
struct Furthest(Mutex<f64>);

impl Progress for Furthest {
    fn step(&self, step: &Step) {
        let mut furthest = self.0.lock().unwrap();
        *furthest = furthest.max(step.overall);
    }
}

#[test]
fn what_is_kept_of_a_baseline_changes_no_number() {
    let (cp, setup) = (tiny(), Setup::new());
    let mut policy = policy();
    for (id, signal) in &mut policy.signals {
        signal.enabled =
            ["refusal_score", "direction_cosine", "kl_to_baseline"].contains(&id.as_str());
    }
    let kept = Kept::default();
    let audit = |seed: u64, kept: Option<&Kept>| {
        let furthest = Furthest::default();
        let options = Options {
            seed: Some(seed),
            kept,
            ..setup.options(&furthest)
        };
        let outcome = runner::run(&cp, Some(&cp), &policy, &options).unwrap();
        let passes = outcome.stages.len();
        let told = *furthest.0.lock().unwrap();
        ((timeless(&outcome.audit), told), passes)
    };
    let ((fresh, furthest), whole) = audit(7, None);
    assert_eq!(audit(7, Some(&kept)).0.0, fresh);
    let ((again, told), fewer) = audit(7, Some(&kept));
    assert_eq!(again, fresh);
    // What is known already is no work to come.
    assert!(
        told > 0.9 * furthest,
        "at its end it was said to be at {told}, {furthest} where all was asked"
    );
    assert!(
        fewer < whole,
        "the baseline was not asked again: {fewer} of {whole}"
    );
    // Another seed asks something else, and what was kept is no answer to it.
    assert_eq!(audit(8, Some(&kept)).0.0, audit(8, None).0.0);
}

#[test]
fn an_edit_that_stands_is_in_every_pass_and_changes_what_is_measured() {
    let (mut cp, other, setup) = (tiny(), tiny(), Setup::new());
    let at = HookPoint::new(Point::ResidPre, 1);
    let vector = Arc::new((0..cp.config().d_model).map(|i| (i % 3) as f32).collect());
    cp.decoder
        .set_standing_edits(vec![Edit::new(at, EditOp::Add { vector, alpha: 2.0 })]);
    let audit = setup.run(&cp, Some(&other)).audit;
    let value = |id: &str, name: &str| {
        audit
            .signal(id)
            .unwrap()
            .value(name)
            .unwrap()
            .value
            .unwrap()
    };
    assert!(value("kl_to_baseline", "mean_kl") > 1e-3);
    assert_eq!(value("weight_forensics", "changed_matrices"), 0.0);
    let findings = audit.signal("weight_forensics").unwrap().findings.join(" ");
    assert!(findings.contains("applied by hook"), "{findings}");
}

#[test]
fn weights_pulled_away_from_one_direction_are_noticed() {
    let (mut cp, other, setup) = (tiny(), tiny(), Setup::new());
    let weight = cp.decoder.weights().layers[0].down.weight.clone();
    let (rows, cols) = weight.dims2().unwrap();
    let outer = candle_core::Tensor::from_vec(
        (0..rows * cols)
            .map(|i| ((i / cols) % 5) as f32 * ((i % cols) % 7) as f32 * 1e-2)
            .collect::<Vec<_>>(),
        (rows, cols),
        &candle_core::Device::Cpu,
    )
    .unwrap();
    cp.decoder.weights_mut().layers[0].down.weight = (weight + outer).unwrap();
    let audit = setup.run(&cp, Some(&other)).audit;
    let forensics = audit.signal("weight_forensics").unwrap();
    assert!(forensics.value("rank1_share").unwrap().value.unwrap() > 0.999);
    assert_eq!(forensics.items.len(), 1);
    assert_eq!(forensics.items[0].id, "layers.0.down");
}

/// What the signals of dictionaries read: a latent for what is above 0 in each channel, the rest is its error.
fn half(d: usize, reads: &[&str]) -> Opened {
    let blocks = reads.len();
    let one = Array2::<f32>::eye(d);
    let wide = concatenate(Side(1), &vec![one.view(); blocks]).unwrap();
    let dictionary = Dictionary::new(Parts {
        encoder: &wide / blocks as f32,
        decoder: wide,
        encoder_bias: Array1::zeros(d),
        decoder_bias: Array1::zeros(d * blocks),
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About {
            reads: reads.iter().map(|name| (*name).to_owned()).collect(),
            ..About::default()
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("half");
    format::write_saelens(&dictionary.unwrap(), &at, None).unwrap();
    features::open(&at).unwrap()
}

fn given(d: usize) -> Given {
    let dictionary = half(d, &["resid_pre.1"]);
    Given {
        refit: Some(dictionary.clone()),
        control: Some(dictionary.clone()),
        dictionary: Some(dictionary),
        crosscoder: Some(half(d, &["resid_pre.1@0", "resid_pre.1@1"])),
    }
}

/// The ids of the signals that read dictionaries, and the default policy with no others.
fn of_dictionaries() -> (Vec<&'static str>, Policy) {
    let mut text = "extends = \"default\"\n[sizes]\nshuffles = 20\nbootstrap = 100\n".to_owned();
    let mut ids = Vec::new();
    for entry in catalogue::SIGNALS {
        let others = [Artefact::Pairs, Artefact::Reward];
        let mut files = entry.artefacts.iter();
        if files.all(|file| others.contains(file)) {
            text += &format!("[signals.{}]\nenabled = false\n", entry.id);
        } else {
            ids.push(entry.id);
        }
    }
    (ids, Policy::parse(&text, "test policy").unwrap())
}

fn through_dictionaries(subject: &Checkpoint, baseline: &Checkpoint) -> Audit {
    let (setup, (_, policy)) = (Setup::new(), of_dictionaries());
    let given = given(subject.config().d_model);
    let options = Options {
        dictionaries: Some(&given),
        ..setup.options(&Silent)
    };
    runner::run(subject, Some(baseline), &policy, &options)
        .unwrap()
        .audit
}

#[test]
fn dictionaries_say_nothing_of_a_checkpoint_beside_itself() {
    let audit = through_dictionaries(&tiny(), &tiny());
    let (ids, _) = of_dictionaries();
    let found: Vec<&str> = audit.signals.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(found, ids);
    for signal in &audit.signals {
        assert_eq!(signal.not_evaluated, None, "{}", signal.id);
        assert_eq!(
            signal.verdict,
            Verdict::Pass,
            "{}: {}",
            signal.id,
            signal.reason
        );
        for value in &signal.values {
            let still = match value.name.as_str() {
                "fvu_ratio" => Some(1.0),
                "fvu" | "ce_recovered" | "kl_score" => value.baseline,
                _ => Some(0.0),
            };
            assert_eq!(value.value, still, "{}.{}", signal.id, value.name);
        }
    }
    let used: Vec<_> = audit
        .provenance
        .dictionaries
        .iter()
        .map(|used| used.d_sae)
        .collect();
    let d = tiny().config().d_model;
    assert_eq!(used, [d; 4]);
}

#[test]
fn a_channel_that_is_taken_away_is_a_death_and_no_birth() {
    let mut cp = tiny();
    let d = cp.config().d_model;
    let channel = (0..d).map(|i| f32::from(u8::from(i == 3))).collect();
    let edit = EditOp::Ablate {
        directions: vec![Arc::new(channel)],
        amount: 1.0,
    };
    let at = HookPoint::new(Point::ResidPost, 0);
    cp.decoder.set_standing_edits(vec![Edit::new(at, edit)]);
    let audit = through_dictionaries(&cp, &tiny());
    let number = |id: &str, name: &str| {
        let value = audit.signal(id).unwrap().value(name).unwrap();
        value
            .value
            .unwrap_or_else(|| panic!("{id}.{name}: {:?}", value.why))
    };
    let crossings = audit.signal("latent_crossings").unwrap();
    let listed: Vec<_> = crossings
        .items
        .iter()
        .map(|i| (i.id.as_str(), i.label.as_str()))
        .collect();
    assert_eq!(listed, [("latent 3", "died")]);
    assert_eq!(number("latent_crossings", "births"), 0.0);
    let deaths = number("latent_crossings", "deaths");
    assert!(deaths > 0.0 && deaths <= 2.0 / d as f64, "{deaths}");
    assert_eq!(number("latent_density", "shifted"), deaths);
    assert_ne!(number("dictionary_fvu", "fvu_ratio"), 1.0);
    assert_eq!(number("decoder_rotation", "largest_turns"), 0.0);
    assert_eq!(number("new_latents", "new_share"), 0.0);
}

#[test]
fn without_dictionaries_their_signals_are_left_out_by_name() {
    let (setup, (ids, policy)) = (Setup::new(), of_dictionaries());
    let run = |options: &Options| {
        runner::run(&tiny(), Some(&tiny()), &policy, options)
            .unwrap()
            .audit
    };
    let audit = run(&setup.options(&Silent));
    for id in ids {
        let why = &audit.skipped.iter().find(|s| s.id == id).unwrap().why;
        assert!(
            why.starts_with("no ") && why.contains("try --"),
            "{id}: {why}"
        );
    }
    // A dictionary of another width is no pass.
    let wrong = Given {
        dictionary: Some(half(5, &["resid_pre.1"])),
        ..Given::default()
    };
    let audit = run(&Options {
        dictionaries: Some(&wrong),
        ..setup.options(&Silent)
    });
    let fvu = audit.signal("dictionary_fvu").unwrap();
    assert_eq!(fvu.verdict, Verdict::Underpowered);
    assert!(fvu.reason.contains("5 values"), "{}", fvu.reason);
}

struct StopAt(usize, AtomicUsize, Arc<AtomicBool>);

impl Progress for StopAt {
    fn step(&self, step: &Step) {
        assert!((0.0..=1.0).contains(&step.overall) && step.done <= step.total.max(step.done));
        if self.1.fetch_add(1, Ordering::Relaxed) == self.0 {
            self.2.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_interrupted_audit_reports_what_it_has_and_passes_nothing_else() {
    let (cp, setup) = (tiny(), Setup::new());
    let cancel = Arc::new(AtomicBool::new(false));
    let stop = StopAt(6, AtomicUsize::new(0), cancel.clone());
    let options = Options {
        cancel: &cancel,
        ..setup.options(&stop)
    };
    let outcome = runner::run(&cp, None, &policy(), &options).unwrap();
    assert!(outcome.interrupted);
    let missing: Vec<_> = outcome
        .audit
        .signals
        .iter()
        .filter(|signal| signal.not_evaluated.is_some())
        .collect();
    assert!(!missing.is_empty());
    assert!(
        missing
            .iter()
            .all(|signal| signal.verdict == Verdict::Underpowered)
    );
    assert!(
        outcome
            .audit
            .warnings
            .iter()
            .any(|warning| warning.contains("Interrupted"))
    );
}

#[test]
fn a_suite_without_harmful_prompts_is_refused_by_name() {
    let (cp, mut setup) = (tiny(), Setup::new());
    setup.suites =
        vec![setup.suites[0].filter(Some(candlescope::text::suites::Label::Harmless), None)];
    let error = runner::run(&cp, None, &policy(), &setup.options(&Silent))
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            RunError::Empty {
                label: "harmful",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_model_without_a_chat_template_is_audited_on_bare_text() {
    let (mut cp, setup) = (tiny(), Setup::new());
    cp.template = None;
    let audit = setup.run(&cp, None).audit;
    assert!(
        audit
            .warnings
            .iter()
            .any(|warning| warning.contains("no chat template"))
    );
    for signal in &audit.signals {
        assert_eq!(signal.not_evaluated, None, "{}", signal.id);
    }
}

#[test]
fn without_trials_their_signals_are_not_evaluated_and_never_pass() {
    let mut setup = Setup::new();
    setup.trials.clear();
    let audit = setup.run(&tiny(), None).audit;
    for id in [
        "sycophancy",
        "hint_faithfulness",
        "calibration",
        "knowledge",
    ] {
        let signal = audit.signal(id).unwrap();
        let why = signal.not_evaluated.as_deref().unwrap();
        assert!(why.contains("trials"), "{id}: {why}");
        assert_eq!(signal.verdict, Verdict::Underpowered, "{id}");
    }
}

#[test]
fn a_vector_that_stands_on_the_model_changes_its_choices() {
    let (mut cp, other, setup) = (tiny(), tiny(), Setup::new());
    let at = HookPoint::new(Point::ResidPre, 1);
    let vector = Arc::new((0..cp.config().d_model).map(|i| (i % 3) as f32).collect());
    cp.decoder
        .set_standing_edits(vec![Edit::new(at, EditOp::Add { vector, alpha: 2.0 })]);
    let audit = setup.run(&cp, Some(&other)).audit;
    let brier = audit.signal("calibration").unwrap().value("brier").unwrap();
    assert_ne!(brier.delta.as_ref().unwrap().value, 0.0);
}
