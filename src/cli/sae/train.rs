//! `sae train`: dictionaries on a model's activations, from a config file. The run is `crate::train::dictionary`.

use std::path::Path;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::cli::{
    Outcome,
    args::FindArgs,
    capture::announce_facts,
    interrupt::{self, Interrupted},
    output::{Out, Table, bytes},
    run_args::RunArgs,
    train_progress::Steps,
};
use crate::train::dictionary::{Begun, DictionaryConfig, Finished, Watch, train};
use crate::train::log::Row;
use crate::train::{Progress, Standing};

/// Train dictionaries on a model's activations, in a run folder that can be resumed
///
/// Activations are harvested while training goes on, through a buffer that mixes contexts, or read from a store of
/// `capture --pack`; all dictionaries of the config are trained from the same rows. Ctrl-C saves a checkpoint and says how to
/// go on; a run that goes on gives the same bits as one that was never stopped. A checkpoint holds each dictionary in
/// SAELens's format. The config has [model], [data], [schedule], [dictionary.NAME] and [output].
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:
  candlescope sae train -c examples/sae/smollm2.toml --out runs/sae
  candlescope sae train -c sae.toml --set schedule.rows=500000 --set dictionary.k32.lr=1e-3
  candlescope sae train --resume --out runs/sae
  # architectures: { kind = \"top-k\", k = 32 }, { kind = \"batch-top-k\", k = 32 },
  # { kind = \"matryoshka\", k = 32, levels = { widths = [1024, 4096] } }, { kind = \"relu\", l1 = 5 },
  # { kind = \"jump-relu\", l0 = 1 }, { kind = \"gated\", l1 = 5 }")]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Trained<'a> {
    run: String,
    checkpoint: String,
    steps: u64,
    rows: u64,
    data_ended: bool,
    dictionaries: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    name: &'a str,
    folder: String,
    eval_l0: Option<f64>,
    eval_fvu: Option<f64>,
    eval_dead_share: Option<f64>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let root = args.run.root()?;
    let config = args.read(&root)?;
    let found = FindArgs {
        accept_config_key: config.model.accept_config_keys.clone(),
        base: None,
        offline: args.run.offline,
    };
    let checkpoint = found.exact().open(&config.model.name, out)?;
    interrupt::check()?;
    let shown = Shown {
        out,
        steps: Steps::new(out),
    };
    let ended = train(
        &config,
        &checkpoint,
        &root,
        args.run.resume,
        interrupt::flag(),
        &shown,
    );
    shown.steps.end();
    let ended = ended?;
    if !ended.finished {
        out.note(&format!(
            "saved {}; go on with: candlescope sae train --resume --out {}",
            ended.saved.path.display(),
            root.display()
        ));
        return Err(Interrupted.into());
    }
    tell(&ended, &root, out)?;
    Ok(Outcome::Done)
}

fn tell(ended: &Finished, root: &Path, out: &Out) -> anyhow::Result<()> {
    let one = |(name, numbers): &'_ (String, crate::train::log::Numbers)| {
        let folder = ended.saved.path.join(name).display().to_string();
        (
            folder,
            ["eval_l0", "eval_fvu", "eval_dead_share"].map(|key| numbers.get(key)),
        )
    };
    let all = || ended.evaluated.iter().map(|of| (of.0.as_str(), one(of)));
    if out.json {
        let dictionaries = all()
            .map(|(name, (folder, [l0, fvu, dead]))| One {
                name,
                folder,
                eval_l0: l0,
                eval_fvu: fvu,
                eval_dead_share: dead,
            })
            .collect();
        return out.json(
            "candlescope.sae-train/1",
            &Trained {
                run: root.display().to_string(),
                checkpoint: ended.saved.path.display().to_string(),
                steps: ended.saved.step,
                rows: ended.rows,
                data_ended: ended.data_ended,
                dictionaries,
            },
        );
    }
    if ended.data_ended {
        out.note("the data ended before all rows were reached; give more text, or fewer rows");
    }
    let mut table = Table::new(["dictionary", "L0", "FVU", "dead", "folder"]);
    for (name, (folder, numbers)) in all() {
        let [l0, fvu, dead] = numbers.map(|n| n.unwrap_or(f64::NAN));
        table.row([
            name.to_owned(),
            format!("{l0:.1}"),
            format!("{fvu:.4}"),
            format!("{:.1} %", dead * 100.0),
            folder,
        ]);
    }
    table.print(out)?;
    out.note("on the rows held out; candlescope sae eval measures what the model loses with it");
    Ok(())
}

struct Shown<'a> {
    out: &'a Out,
    steps: Steps<'a>,
}

impl Watch for Shown<'_> {
    fn begins(&self, begun: &Begun) {
        if let Some(facts) = &begun.facts {
            announce_facts(facts, self.out);
        }
        if let (Some(rate), Some(shared)) = (begun.harvest_rate, begun.shared) {
            self.out.note(&format!(
                "{rate:.0} tokens/s through the model; {:.0} % of a batch meet another row of their context",
                shared * 100.0
            ));
        }
        let [steps, done] = begun.steps;
        self.out.note(&format!(
            "weights, gradients and moments take {}; {} of {steps} steps to do",
            bytes(begun.memory),
            steps - done
        ));
    }

    fn at(&self, step: u64, total: u64, left: Option<Duration>, row: Option<&Row>) {
        self.steps.at(&Standing {
            step,
            total,
            left,
            row,
        });
    }
}

impl Args {
    fn read(&self, root: &Path) -> anyhow::Result<DictionaryConfig> {
        let path = self.run.config_file(root)?;
        let mut config = DictionaryConfig::read(&path, &self.run.sets)?;
        if let Some(begun) = self.run.begun(root) {
            config.data.date = DictionaryConfig::read(&begun, &[])?.data.date;
        }
        Ok(config)
    }
}
