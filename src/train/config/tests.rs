//! Configs that are read, and those that are refused by name.
#![allow(clippy::unwrap_used)]

use super::*;

const LEAST: &str = "[model]\nname = \"toy\"\n[data]\ntrain = [\"a.jsonl\"]\n";

fn parse(more: &str) -> Result<Config, TrainError> {
    Config::parse("run.toml", &format!("{LEAST}{more}"), "sft", &[])
}

fn refusal(more: &str) -> String {
    parse(more).unwrap_err().to_string()
}

#[test]
fn defaults_are_filled_in_and_stay() {
    let config = parse("").unwrap();
    assert_eq!(config.optim.lr, Some(2e-5));
    assert_eq!(config.schedule.epochs, Some(3.0));
    let text = config.to_toml().unwrap();
    let again = Config::parse("again", &text, "sft", &[]).unwrap();
    assert_eq!(again, config);
    assert_eq!(again.to_toml().unwrap(), text);
}

#[test]
fn unknown_keys_are_named() {
    for more in [
        "sed = 1\n",
        "[optim]\nlearning_rate = 1\n",
        "[lora]\nr = 8\n",
    ] {
        // A top-level key after a section belongs to that section; both are refused.
        let message = refusal(more);
        assert!(message.contains("run.toml: unknown field `"), "{message}");
    }
}

#[test]
fn options_without_effect_are_named() {
    let cases = [
        ("[method.dpo]\nbeta = 0.1\n", "`method.dpo` has no effect"),
        ("[alerts]\nkl = 1.0\n", "`alerts.kl` has no effect"),
        (
            "[schedule]\nsteps = 3\nepochs = 1\n",
            "`schedule.epochs` has no effect",
        ),
        (
            "[schedule]\nwarmup_steps = 3\nwarmup_ratio = 0.1\n",
            "`schedule.warmup_ratio` has",
        ),
        (
            "[schedule]\nshape = \"constant\"\nfloor = 0.1\n",
            "`schedule.floor` has no effect",
        ),
        (
            "[output]\neval_every = 5\n",
            "`output.eval_every` has no effect",
        ),
        (
            "[output]\nkeep_best = \"eval_loss\"\n",
            "`output.keep_best` has no effect",
        ),
        (
            "[output]\nbest_is_highest = true\n",
            "`output.best_is_highest` has no effect",
        ),
    ];
    for (more, expected) in cases {
        let message = refusal(more);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn values_out_of_range_are_named() {
    let cases = [
        (
            "[optim]\nlr = -1.0\n",
            "`optim.lr`: expected a rate of at least 0, found -1",
        ),
        (
            "[optim]\nlr = nan\n",
            "`optim.lr`: expected a rate of at least 0, found NaN",
        ),
        ("[optim]\nbetas = [0.9, 1.0]\n", "`optim.betas`: "),
        (
            "[optim]\nbatch_size = 0\n",
            "`optim.batch_size`: expected 1 to 65536, found 0",
        ),
        (
            "[schedule]\nsteps = 0\n",
            "`schedule.steps`: expected at least 1, found 0",
        ),
        (
            "[lora]\nrank = 0\n",
            "`lora.rank`: expected 1 to 4096, found 0",
        ),
        (
            "[output]\ncheckpoint_every = 0\n",
            "`output.checkpoint_every`: ",
        ),
    ];
    for (more, expected) in cases {
        let message = refusal(more);
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(refusal("[schedule]\nshape = \"square\"\n").contains("unknown variant `square`"));
    assert!(refusal("[optim\n").starts_with("run.toml: "));
}

#[test]
fn a_set_is_over_the_file() {
    let sets = |sets: &[&str]| -> Result<Config, TrainError> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        Config::parse("run.toml", LEAST, "sft", &sets)
    };
    let config = sets(&[
        "optim.lr=3e-4",
        "model.name = smollm2-135m-instruct",
        "data.train=[\"b.jsonl\", \"c.jsonl\"]",
        "method.sft.loss=dft",
        "lora.rank=4",
    ])
    .unwrap();
    assert_eq!(config.optim.lr, Some(3e-4));
    assert_eq!(config.model.name, "smollm2-135m-instruct");
    assert_eq!(config.data.train.len(), 2);
    assert!(matches!(&config.method, Method::Sft(sft) if sft.loss == crate::train::loss::Sft::Dft));
    assert_eq!(config.lora.unwrap().rank, Some(4));
    for wrong in ["optim.lr", "=3", "optim..lr=3", "seed.x.y=1"] {
        let refused = sets(&[wrong, "seed=1"]);
        assert!(wrong == "seed.x.y=1" || refused.is_err(), "{wrong}");
    }
    assert!(sets(&["seed=1", "seed.x=1"]).is_err());
}

#[test]
fn what_decides_the_weights_leaves_the_output_out() {
    let one = parse("[output]\nkeep_last = 5\n").unwrap();
    let other = parse("").unwrap();
    assert_eq!(one.decisive(), other.decisive());
    assert_ne!(
        parse("[optim]\nlr = 1.0\n").unwrap().decisive(),
        other.decisive()
    );
}
