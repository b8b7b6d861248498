//! Models and programs that a run uses besides: recorded with their hashes, refused when they have changed.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candlescope::model::Checkpoint;
use candlescope::train::log::{self};
use candlescope::train::{Config, Manifest, Parts, Session, Silent, TrainError, prepare};

use crate::rows::{USUAL, config_text, parts_of};

fn run(session: &mut Session) {
    session
        .run(&AtomicBool::new(false), &Silent, &mut [])
        .unwrap();
}

/// A reward model in the last checkpoint of a run of its own.
fn judge(dir: &Path, name: &str, more: &str) -> PathBuf {
    let home = dir.join(name);
    std::fs::create_dir_all(&home).unwrap();
    let parts = parts_of("rm", &home, &format!("{USUAL}{more}"));
    run(&mut Session::begin(&home.join("run"), parts).unwrap());
    home.join("run/checkpoints/step-11")
}

const SHORT: &str =
    "[optim]\nlr = 1e-3\nbatch_size = 4\n[schedule]\nsteps = 3\n[output]\ncheckpoint_every = 1\n";

fn parts(dir: &Path, method: &str, reward: &str) -> Result<Parts, TrainError> {
    let more = format!(
        "{SHORT}[method.{method}.rollout]\nresponse_length = 6\n[method.{method}.reward]\n{reward}\n"
    );
    let text = config_text(dir, &more).replace("eval = ", "# ");
    let config = Config::parse("run.toml", &text, method, &[])?;
    prepare(config, Checkpoint::toy(0).unwrap())
}

fn refusal(root: &Path, parts: Parts) -> String {
    Session::resume(root, parts).err().unwrap().to_string()
}

#[test]
fn reward_models_are_recorded_and_another_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = judge(dir.path(), "whole", "");
    let adapter = judge(dir.path(), "adapter", "[lora]\nrank = 4\n");
    let models = |all: &[&Path]| format!("models = {all:?}\n");
    for method in ["ppo", "rloo"] {
        let root = dir.path().join(method);
        // An adapter of a reward model is a reward model; PPO's value model begins from it.
        let one = || parts(dir.path(), method, &models(&[&adapter])).unwrap();
        run(&mut Session::begin(&root, one()).unwrap());
        let manifest = Manifest::read(&root.join("manifest.json")).unwrap();
        assert_eq!(
            (manifest.models[0].role.as_str(), manifest.models.len()),
            ("reward", 1)
        );
        if method == "ppo" {
            let rows = log::read(&root.join("metrics.jsonl")).unwrap().rows;
            let warm = rows
                .iter()
                .find_map(|row| row.number("values/mean"))
                .unwrap();
            assert!(warm != 0.0);
        }
        let said = refusal(
            &root,
            parts(dir.path(), method, &models(&[&whole])).unwrap(),
        );
        assert!(
            said.contains("manifest.json: models: expected reward "),
            "{said}"
        );
        // The same model elsewhere is the same model.
        let moved = dir.path().join(format!("moved-{method}"));
        std::fs::create_dir(&moved).unwrap();
        for file in std::fs::read_dir(&adapter).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), moved.join(file.file_name())).unwrap();
        }
        Session::resume(
            &root,
            parts(dir.path(), method, &models(&[&moved])).unwrap(),
        )
        .unwrap();
    }
    // Members of an ensemble in another order are another ensemble.
    let root = dir.path().join("ensemble");
    let both = |a: &Path, b: &Path| {
        let reward = format!("{}ensemble = 'min'\n", models(&[a, b]));
        parts(dir.path(), "rloo", &reward).unwrap()
    };
    run(&mut Session::begin(&root, both(&whole, &adapter)).unwrap());
    let said = refusal(&root, both(&adapter, &whole));
    assert!(said.contains("models: expected"), "{said}");
}

#[test]
fn a_command_is_recorded_with_its_files_and_another_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("score.sh");
    std::fs::write(&script, "while read -r line; do echo 1; done\n").unwrap();
    let of = |script: &Path| {
        let reward = format!("command = {{ run = ['sh', '{}'] }}", script.display());
        parts(dir.path(), "rloo", &reward).unwrap()
    };
    let root = dir.path().join("run");
    run(&mut Session::begin(&root, of(&script)).unwrap());
    let manifest = Manifest::read(&root.join("manifest.json")).unwrap();
    let command = manifest.command.unwrap();
    assert_eq!((command.run[0].as_str(), command.files.len()), ("sh", 1));
    Session::resume(&root, of(&script)).unwrap();
    std::fs::write(&script, "while read -r line; do echo 2; done\n").unwrap();
    let said = refusal(&root, of(&script));
    assert!(
        said.contains("manifest.json: command: expected sh") && said.contains("score.sh"),
        "{said}"
    );
}

#[test]
fn paths_of_a_config_that_is_read_are_absolute_and_do_not_decide() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    let text = "[model]\nname = './models/x'\n[data]\ntrain = ['a.jsonl']\n[method.ppo]\nreference = 'b/c'\n\
        value_model = 'v'\n[method.ppo.reward]\ncommand = { run = ['./score'] }\n";
    std::fs::write(&file, text).unwrap();
    let config = Config::read(&file, "ppo", &[]).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(config.data.train, [here.join("a.jsonl")]);
    assert_eq!(
        config.model.name,
        here.join("models/x").display().to_string()
    );
    let candlescope::train::config::Method::Ppo(ppo) = &config.method else {
        panic!("{config:?}");
    };
    assert_eq!(ppo.value_model, Some(here.join("v")));
    assert_eq!(ppo.reward.command.as_ref().unwrap().dir, Some(here));
    // `b/c` is an address on the hub unless something is there.
    assert_eq!(String::from(ppo.reference.clone().unwrap()), "b/c");
    // Names of what is made in memory or known stay; what lies elsewhere is the same run.
    let sets = ["model.name=toy", "data.train=[\"b.jsonl\"]"].map(str::to_owned);
    let other = Config::read(&file, "ppo", &sets).unwrap();
    assert_eq!(other.model.name, "toy");
    assert_eq!(other.decisive(), config.decisive());
    let other = Config::read(&file, "ppo", &["optim.lr=1.0".to_owned()]).unwrap();
    assert_ne!(other.decisive(), config.decisive());
}
