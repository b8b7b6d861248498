//! PPO and RLOO on the toy: rewards that rise, runs that are stopped and killed, rewards that fail.
#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use candlescope::model::Checkpoint;
use candlescope::train::log::{self, Row, standing};
use candlescope::train::{
    Config, Ended, Parts, Progress, Session, Silent, Standing, TrainError, prepare,
};

const PROMPTS: [&str; 6] = [
    "The cat sat on the",
    "What is the capital of France",
    "Where is the house of my mother",
    "The king and the queen",
    "The river is long and",
    "Why",
];

/// Words that the toy seldom says, as a reward that can be read.
const RULES: &str = "rules = [{ kind = 'tokens', texts = ['cat', 'dog', 'king', 'queen', 'mother'], weight = 4.0 },\n\
    { kind = 'stops', weight = 0.5 }]\n";

fn config(dir: &Path, method: &str, top: &str, kl: &str, reward: &str) -> String {
    let prompts = dir.join("prompts.jsonl");
    let rows: Vec<String> = PROMPTS
        .iter()
        .map(|p| serde_json::json!({"prompt": p}).to_string())
        .collect();
    std::fs::write(&prompts, rows.join("\n")).unwrap();
    format!(
        "[model]\nname = 'toy'\n[data]\ntrain = [{prompts:?}]\ndate = '2026-01-31'\n{top}\n\
         [method.{method}.rollout]\ntemperature = 1.0\nresponse_length = 8\nmissing_eos_penalty = 0.5\nsamples = 2\n\
         [method.{method}.kl]\n{kl}\n[method.{method}.reward]\n{reward}"
    )
}

const SMALL: &str = "[optim]\nlr = 1e-3\nbatch_size = 4\naccumulation = 2\n[schedule]\nsteps = 7\n\
    [output]\ncheckpoint_every = 3\nkeep_last = 9\n";
const FIXED: &str = "kind = 'fixed'\nbeta = 0.05";
const ADAPTIVE: &str = "kind = 'adaptive'\nbeta = 0.05\ntarget = 2.0\nhorizon = 100.0";

fn parts(text: &str, method: &str) -> Parts {
    let config = Config::parse("run.toml", text, method, &[]).unwrap();
    prepare(config, Checkpoint::toy(0).unwrap()).unwrap()
}

fn run(session: &mut Session) -> Result<Ended, TrainError> {
    session.run(&AtomicBool::new(false), &Silent, &mut [])
}

fn rows(root: &Path) -> Vec<Row> {
    standing(log::read(&root.join("metrics.jsonl")).unwrap().rows)
}

fn series(root: &Path, name: &str) -> Vec<f64> {
    let rows = rows(root);
    let steps = rows.iter().filter(|row| row.kind.name() == "step");
    steps.map(|row| row.number(name).unwrap()).collect()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Every file of a checkpoint.
fn files(root: &Path, step: u64) -> Vec<(String, Vec<u8>)> {
    let folder = root.join(format!("checkpoints/step-{step}"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn same(one: &Path, other: &Path, step: u64) {
    let (a, b) = (files(one, step), files(other, step));
    assert_eq!(a.len(), b.len());
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other);
        assert!(a == b, "{name} differs");
    }
    let timeless = |root: &Path| -> Vec<String> {
        let kept = rows(root).into_iter();
        let kept = kept.filter(|row| ["step", "alert"].contains(&row.kind.name()));
        kept.map(|row| row.timeless().line()).collect()
    };
    assert_eq!(timeless(one), timeless(other));
}

struct StopAt<'a>(u64, &'a AtomicBool);

impl Progress for StopAt<'_> {
    fn at(&self, standing: &Standing<'_>) {
        if standing.step == self.0 {
            self.1.store(true, Ordering::SeqCst);
        }
    }
}

fn interrupted_is_uninterrupted(method: &str, top: &str, kl: &str) {
    let dir = tempfile::tempdir().unwrap();
    let text = config(dir.path(), method, top, kl, RULES);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    run(&mut Session::begin(&one, parts(&text, method)).unwrap()).unwrap();
    let mut session = Session::begin(&other, parts(&text, method)).unwrap();
    for at in [2, 5] {
        let stop = AtomicBool::new(false);
        let ended = session.run(&stop, &StopAt(at, &stop), &mut []).unwrap();
        assert!(matches!(ended, Ended::Interrupted(saved) if saved.step == at));
        drop(session);
        session = Session::resume(&other, parts(&text, method)).unwrap();
    }
    run(&mut session).unwrap();
    same(&one, &other, 7);
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let separate = format!("{SMALL}[method.ppo]\nepochs = 2\nminibatches = 2\nvalue_lr = 2e-3\n");
    interrupted_is_uninterrupted("ppo", &separate, ADAPTIVE);
    let shared = format!("{SMALL}[method.ppo]\nepochs = 2\nvalue = 'shared'\n");
    interrupted_is_uninterrupted("ppo", &shared, FIXED);
    let adapter = format!("{SMALL}[lora]\nrank = 4\n[method.ppo]\nepochs = 2\n");
    interrupted_is_uninterrupted("ppo", &adapter, FIXED);
    let rloo = format!("{SMALL}[method.rloo]\ngroup = 4\nepochs = 2\n");
    interrupted_is_uninterrupted("rloo", &rloo, ADAPTIVE);
}

/// One update a rollout: nothing has moved when it is made.
#[test]
fn in_the_first_update_the_ratio_is_1_and_nothing_is_clipped() {
    for (method, top) in [
        ("ppo", "[method.ppo]\nepochs = 1\n"),
        ("ppo", "[method.ppo]\nepochs = 1\nvalue = 'shared'\n"),
        ("ppo", "[lora]\nrank = 4\n[method.ppo]\nepochs = 1\n"),
        ("rloo", "[method.rloo]\ngroup = 2\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        let text = config(dir.path(), method, &format!("{SMALL}{top}"), FIXED, RULES);
        run(&mut Session::begin(&root, parts(&text, method)).unwrap()).unwrap();
        assert_eq!(series(&root, "val/ratio"), [1.0; 7], "{top}");
        assert_eq!(series(&root, "policy/clipfrac_avg"), [0.0; 7]);
        assert_eq!(series(&root, "policy/approxkl_avg"), [0.0; 7]);
        // The first rollout is at its reference; later ones are not.
        let (kl, exact) = (
            series(&root, "objective/kl"),
            series(&root, "objective/kl_exact"),
        );
        assert!(
            kl[0].abs() < 1e-5 && exact[0].abs() < 1e-5,
            "{kl:?} {exact:?}"
        );
        assert!(exact[6] > 1e-4, "{exact:?}");
    }
}

/// The example's settings, on which the score rises from -0.4 to 1.4 and the divergence stays within 8 to 14 nats of 8 tokens.
#[test]
fn the_reward_rises_and_the_controller_holds_the_divergence() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = std::fs::read_to_string("examples/train/ppo-toy.toml").unwrap();
    run(&mut Session::begin(&root, parts(&text, "ppo")).unwrap()).unwrap();
    let scores = series(&root, "objective/scores");
    let (before, after) = (mean(&scores[..5]), mean(&scores[40..]));
    assert!(after > before + 0.5, "{before} {after}: {scores:.2?}");
    let kl = series(&root, "objective/kl_exact");
    let held = mean(&kl[40..]);
    assert!((6.0..=13.0).contains(&held), "{kl:.2?}");
    // The factor answers: it has gone up and down.
    let beta = series(&root, "objective/kl_coef");
    let (up, down) = (|w: &[f64]| w[1] > w[0], |w: &[f64]| w[1] < w[0]);
    assert!(
        beta.windows(2).any(up) && beta.windows(2).any(down),
        "{beta:?}"
    );
}

#[test]
fn rloo_raises_the_reward_too() {
    let top = "[optim]\nlr = 3e-4\nbatch_size = 16\naccumulation = 2\n[schedule]\nsteps = 40\nshape = 'constant'\n\
        [output]\ncheckpoint_every = 40\n[method.rloo]\ngroup = 4\nepochs = 2\n";
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = config(dir.path(), "rloo", top, FIXED, RULES);
    run(&mut Session::begin(&root, parts(&text, "rloo")).unwrap()).unwrap();
    let scores = series(&root, "objective/scores");
    let (before, after) = (mean(&scores[..5]), mean(&scores[35..]));
    assert!(after > before + 0.5, "{before} {after}: {scores:.2?}");
}

#[test]
fn the_log_has_the_names_of_trl_and_samples_with_their_divergence() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = config(dir.path(), "ppo", SMALL, ADAPTIVE, RULES);
    run(&mut Session::begin(&root, parts(&text, "ppo")).unwrap()).unwrap();
    for name in [
        "objective/kl",
        "objective/kl_exact",
        "objective/entropy",
        "objective/non_score_reward",
        "objective/rlhf_reward",
        "objective/scores",
        "objective/kl_coef",
        "policy/approxkl_avg",
        "policy/clipfrac_avg",
        "policy/entropy_avg",
        "loss/policy_avg",
        "loss/value_avg",
        "val/clipfrac_avg",
        "val/ratio",
        "val/ratio_var",
        "val/num_eos_tokens",
        "episode",
        "completions/mean_length",
        "completions/clipped_ratio",
        "returns/mean",
        "loss",
        "grad_norm",
        "learning_rate",
    ] {
        assert!(series(&root, name).iter().all(|x| x.is_finite()), "{name}");
    }
    assert_eq!(series(&root, "episode")[6], 56.0);
    let betas = series(&root, "objective/kl_coef");
    let rows = rows(&root);
    let samples: Vec<&Row> = rows.iter().filter(|r| r.kind.name() == "sample").collect();
    assert_eq!(
        samples.iter().map(|r| r.step).collect::<Vec<_>>(),
        [3, 3, 6, 6, 7, 7]
    );
    for sample in samples {
        assert!(
            PROMPTS.contains(&sample.text("prompt").unwrap()),
            "{sample:?}"
        );
        let tokens = sample.fields["tokens"].as_array().unwrap().len();
        for name in [
            "kl",
            "kl_sampled",
            "logps",
            "rewards",
            "advantages",
            "values",
        ] {
            let values = sample.fields[name].as_array().unwrap();
            assert_eq!(values.len(), tokens, "{name}");
        }
        // The rewards are the score, and the sampled divergence of each token at the step's price.
        let sum = |name: &str| -> f64 {
            let values = sample.fields[name].as_array().unwrap();
            values.iter().map(|x| x.as_f64().unwrap()).sum()
        };
        let (score, beta) = (
            sample.number("score").unwrap(),
            betas[sample.step as usize - 1],
        );
        let expected = score - beta * sum("kl_sampled");
        let found = sum("rewards");
        assert!(
            (found - expected).abs() < 1e-3,
            "rewards {found}, expected {expected}"
        );
        assert!(sample.number("score").is_some() && tokens <= 8);
    }
}

fn refused(top: &str, kl: &str, reward: &str, method: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let text = config(dir.path(), method, top, kl, reward);
    let config = Config::parse("run.toml", &text, method, &[]);
    let error = match config {
        Err(error) => error,
        Ok(config) => prepare(config, Checkpoint::toy(0).unwrap()).err().unwrap(),
    };
    error.to_string()
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let said = refused(SMALL, FIXED, "", "ppo");
    assert!(
        said.contains("`method.ppo.reward`: expected one of"),
        "{said}"
    );
    let said = refused(SMALL, FIXED, &format!("{RULES}ensemble = 'min'\n"), "ppo");
    assert!(said.contains("method.ppo.reward.ensemble"), "{said}");
    let said = refused(SMALL, FIXED, "models = ['/no/such']\n", "ppo");
    assert!(said.contains("/no/such"), "{said}");
    let said = refused(
        SMALL,
        "kind = 'adaptive'\nbeta = 0.0\ntarget = 1.0\nhorizon = 9.0",
        RULES,
        "rloo",
    );
    assert!(said.contains("beta"), "{said}");
    let said = refused(
        &format!("{SMALL}[method.rloo]\ngroup = 3\n"),
        FIXED,
        RULES,
        "rloo",
    );
    assert!(
        said.contains("method.rloo.group") && said.contains("divisor of the 8"),
        "{said}"
    );
    let said = refused(
        &format!("{SMALL}[lora]\ndropout = 0.1\n"),
        FIXED,
        RULES,
        "ppo",
    );
    assert!(said.contains("lora.dropout"), "{said}");
    let shared = format!("{SMALL}[method.ppo]\nvalue = 'shared'\nvalue_lr = 0.1\n");
    let said = refused(&shared, FIXED, RULES, "ppo");
    assert!(said.contains("method.ppo.value_lr"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let text = config(dir.path(), "ppo", SMALL, FIXED, RULES);
    for key in ["top_p=0.9", "top_k=5"] {
        let sets = [format!("method.ppo.rollout.{key}")];
        let said = Config::parse("run.toml", &text, "ppo", &sets)
            .unwrap_err()
            .to_string();
        assert!(said.contains("whole distribution"), "{said}");
    }
}

/// A command that fails in the fourth step: three steps are kept, and with the command mended the run is the one that never
/// failed.
#[test]
fn a_reward_command_that_fails_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("broken");
    let script = format!(
        "n=0; while read -r line; do n=$((n+1)); if [ $n -gt 24 ] && [ -e {mark:?} ]; then echo no luck >&2; exit 7; fi; \
         printf '%s\\n' \"$line\" | sed 's/.*\"tokens\":\\([0-9]*\\).*/\\1/'; done"
    );
    let reward = format!("command = {{ run = ['sh', '-c', '''{script}'''], timeout = 20 }}\n");
    let text = config(dir.path(), "ppo", SMALL, ADAPTIVE, &reward);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    run(&mut Session::begin(&one, parts(&text, "ppo")).unwrap()).unwrap();
    std::fs::write(&mark, "").unwrap();
    let mut session = Session::begin(&other, parts(&text, "ppo")).unwrap();
    let said = run(&mut session).unwrap_err().to_string();
    assert!(
        said.contains("exit status: 7) after 0 of 8 scores; it said: no luck"),
        "{said}"
    );
    drop(session);
    std::fs::remove_file(&mark).unwrap();
    let mut session = Session::resume(&other, parts(&text, "ppo")).unwrap();
    assert_eq!(session.parts().bench.step(), 3);
    run(&mut session).unwrap();
    same(&one, &other, 7);
}

/// A reward model made by `rm`, which the value model begins from too; and an ensemble of two.
#[test]
fn reward_models_score_and_warm_up_the_value_model() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    let row = r#"{"prompt": "The cat", "chosen": " sat on the mat", "rejected": " no idea"}"#;
    std::fs::write(&pairs, [row; 4].join("\n")).unwrap();
    let rm = dir.path().join("rm");
    let text = format!(
        "[model]\nname = 'toy'\n[data]\ntrain = [{pairs:?}]\n[optim]\nbatch_size = 2\n[schedule]\nsteps = 2\n"
    );
    run(&mut Session::begin(&rm, parts(&text, "rm")).unwrap()).unwrap();
    let judge = rm.join("checkpoints/step-2");
    for reward in [
        format!("models = [{judge:?}]\nlength = 'per_token'\n"),
        format!("models = [{judge:?}, {judge:?}]\nensemble = {{ uwo = {{ lambda = 0.5 }} }}\n"),
    ] {
        let root = dir.path().join(format!("run-{}", reward.len()));
        let text = config(dir.path(), "ppo", SMALL, FIXED, &reward);
        run(&mut Session::begin(&root, parts(&text, "ppo")).unwrap()).unwrap();
        let warm = series(&root, "values/mean")[0] != 0.0;
        assert_eq!(
            warm,
            !reward.contains("uwo"),
            "values begin at 0 without one reward model"
        );
    }
}

#[test]
fn killed_it_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ppo.toml");
    let top = SMALL.replace("steps = 7", "steps = 24");
    std::fs::write(&file, config(dir.path(), "ppo", &top, ADAPTIVE, RULES)).unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let command = |root: &Path, resume: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
        command.args(["train", "ppo", "--out", root.to_str().unwrap()]);
        if resume {
            command.arg("--resume");
        } else {
            command.args(["-c", file.to_str().unwrap()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let begun = std::time::Instant::now();
    assert!(command(&whole, false).status().unwrap().success());
    let longest = begun.elapsed();
    for part in [0.3, 0.5, 0.4] {
        let mut child = command(&killed, killed.join("run.toml").exists())
            .spawn()
            .unwrap();
        std::thread::sleep(longest.mul_f64(part).max(Duration::from_millis(50)));
        // A run that has ended before is killed no more.
        let _ = child.kill();
        child.wait().unwrap();
    }
    let resume = killed.join("run.toml").exists();
    assert!(command(&killed, resume).status().unwrap().success());
    same(&whole, &killed, 24);
}

const WATCHED: &str = "[method.METHOD.monitor.gold]\nrules = [{ kind = 'values', each = { cat = 2.0, dog = -1.0 } },\n\
    { kind = 'repeats', weight = -3.0 }]\n[method.METHOD.monitor.long]\nrules = [{ kind = 'length', target = 4 }]\nlength = 'per_token'\n";

/// The same run with and without: the same weights, and numbers that are those of its answers.
#[test]
fn what_is_watched_does_not_train() {
    for (method, top) in [("ppo", ""), ("rloo", "[method.rloo]\ngroup = 4\n")] {
        let dir = tempfile::tempdir().unwrap();
        let top = format!("{SMALL}{top}");
        let text =
            config(dir.path(), method, &top, ADAPTIVE, RULES).replace("samples = 2", "samples = 8");
        let watching = format!("{text}{}", WATCHED.replace("METHOD", method));
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        run(&mut Session::begin(&one, parts(&text, method)).unwrap()).unwrap();
        run(&mut Session::begin(&other, parts(&watching, method)).unwrap()).unwrap();
        let weights = |root: &Path| {
            files(root, 7)
                .into_iter()
                .find(|(name, _)| name == "model.safetensors")
        };
        assert!(
            weights(&one).is_some() && weights(&one) == weights(&other),
            "{method}"
        );
        assert_eq!(
            series(&one, "objective/scores"),
            series(&other, "objective/scores")
        );
        // All 8 answers of the last step are in the log.
        let rows = rows(&other);
        let samples: Vec<&Row> = rows
            .iter()
            .filter(|r| r.kind.name() == "sample" && r.step == 7)
            .collect();
        assert_eq!(samples.len(), 8);
        for name in ["gold", "long"] {
            let each: Vec<f64> = samples
                .iter()
                .map(|s| s.number(&format!("monitor/{name}")).unwrap())
                .collect();
            let logged = series(&other, &format!("monitor/{name}/mean"))[6];
            assert!(
                (mean(&each) - logged).abs() < 1e-12,
                "{name} {each:?} {logged}"
            );
            assert!(
                series(&other, &format!("monitor/{name}/std"))
                    .iter()
                    .all(|x| *x >= 0.0)
            );
        }
        // By hand from the tokens that the log has.
        for sample in samples {
            let tokens = sample.fields["tokens"].as_array().unwrap();
            let words: Vec<&str> = tokens.iter().map(|t| t.as_str().unwrap()).collect();
            // Bytes that are no letter look alike in the log.
            if words.iter().any(|word| word.contains('\u{fffd}')) {
                continue;
            }
            let said =
                &words[..words.len() - usize::from(sample.fields["ended"].as_bool().unwrap())];
            let worth: f64 = said
                .iter()
                .map(|w| match w.trim() {
                    "cat" => 2.0,
                    "dog" => -1.0,
                    _ => 0.0,
                })
                .sum();
            let different: std::collections::BTreeSet<_> = said.iter().collect();
            let gold = worth - 3.0 * (said.len() - different.len()) as f64;
            assert_eq!(sample.number("monitor/gold"), Some(gold), "{words:?}");
        }
    }
}

/// What is watched may change between sessions: it decides no weight.
#[test]
fn a_monitor_may_be_added_when_a_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let text = config(dir.path(), "ppo", SMALL, ADAPTIVE, RULES);
    let mut session = Session::begin(&root, parts(&text, "ppo")).unwrap();
    let stop = AtomicBool::new(false);
    session.run(&stop, &StopAt(5, &stop), &mut []).unwrap();
    drop(session);
    let watching = format!("{text}{}", WATCHED.replace("METHOD", "ppo"));
    run(&mut Session::resume(&root, parts(&watching, "ppo")).unwrap()).unwrap();
    let of = |row: &Row| row.kind.name() == "step" && row.number("monitor/gold/mean").is_some();
    let with: Vec<u64> = rows(&root)
        .iter()
        .filter(|row| of(row))
        .map(|row| row.step)
        .collect();
    assert_eq!(with, [6, 7]);
}

#[test]
fn a_monitor_that_cannot_be_is_refused_by_name() {
    for (monitor, expected) in [
        (
            "[method.ppo.monitor.gold]\n",
            "`method.ppo.monitor.gold`: expected one of",
        ),
        (
            "[method.ppo.monitor.'a b']\nrules = [{ kind = 'stops' }]\n",
            "a name of letters",
        ),
        (
            "[method.ppo.monitor.gold]\nmodels = ['/no/such']\n",
            "/no/such",
        ),
    ] {
        let said = refused(SMALL, FIXED, &format!("{RULES}{monitor}"), "ppo");
        assert!(said.contains(expected), "{said}");
    }
}

/// The files of the example: they parse, and watch the reward that labelled the pairs.
#[test]
fn the_example_of_over_optimisation_watches_the_reward_that_is_meant() {
    let folder = Path::new("examples/train/overoptimisation");
    for (file, method) in [
        ("base.toml", "lm"),
        ("rm.toml", "rm"),
        ("ppo.toml", "ppo"),
        ("plain.toml", "ppo"),
    ] {
        Config::read(&folder.join(file), method, &[]).unwrap();
    }
    let read = |name: &str| -> toml::Table {
        toml::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let (meant, run) = (read("gold.toml"), read("ppo.toml"));
    let watched = &run["method"]["ppo"]["monitor"]["gold"]["rules"];
    assert_eq!(&meant["rules"], watched);
}
