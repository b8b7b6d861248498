//! `train`: post-training from a config file. The loop is `crate::train`; what it shows is `train_progress.rs`.

mod dry;

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    args::FindArgs,
    interrupt::{self, Interrupted},
    output::Out,
    reward::show,
    run_args::RunArgs,
    train_progress::Steps,
};
use crate::model::{lora::base, toy};
use crate::train::{Config, Ended, Parts, Reference, Report, Session, fresh, prepare};

/// Train a model: fine-tuning from a config file, in a run folder that can be resumed
///
/// The config has [model], [data], [optim], [schedule], [lora], [method.NAME], [alerts] and [output].
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope train sft -c run.toml --out runs/first
  candlescope train sft --resume --out runs/first")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Supervised fine-tuning on texts, messages, or prompts with completions
    ///
    /// All weights, or a LoRA adapter with a [lora] section. Ctrl-C saves a checkpoint and says how to go on; a second one
    /// leaves at once. A run that goes on gives the same bits as one that was never stopped.
    #[command(after_help = "Examples:
  candlescope train sft -c run.toml --out runs/first
  candlescope train sft -c run.toml --set optim.lr=1e-4 --dry-run
  candlescope train sft --resume --out runs/first")]
    Sft(MethodArgs),
    /// A reward model from pairs of answers (Bradley-Terry)
    ///
    /// Margins, label smoothing and centring in [method.rm]. The checkpoint is a classifier with one score. With [data] eval
    /// the run ends with a report on those pairs, report.json: accuracy, calibration, length (`reward eval` makes one for any
    /// model).
    #[command(after_help = "Examples:
  candlescope train rm -c rm.toml --out runs/rm
  candlescope train rm -c rm.toml --set method.rm.centring=0.01 --dry-run")]
    Rm(MethodArgs),
    /// Direct preference optimisation and its family, from pairs of answers
    ///
    /// [method.dpo] loss = sigmoid, sigmoid_norm, robust, hinge, ipo_mean, ipo_sum, exo_pair, nca_pair, bco_pair, aot,
    /// aot_unpaired, apo_zero, apo_down, sppo_hard, discopop, slic_hf, orpo or simpo, and its options. The reference is the model
    /// that the run begins with, or reference = "base", "adapter" or another checkpoint.
    #[command(after_help = "Examples:
  candlescope train dpo -c dpo.toml --out runs/dpo
  candlescope train dpo -c dpo.toml --set method.dpo.loss=simpo --set method.dpo.options.beta=2.5")]
    Dpo(MethodArgs),
    /// KTO: single answers that are labelled desirable or not
    ///
    /// beta, desirable_weight and undesirable_weight in [method.kto]; pairs of answers are taken as one of each.
    #[command(after_help = "Examples:
  candlescope train kto -c kto.toml --out runs/kto
  candlescope train kto --resume --out runs/kto")]
    Kto(MethodArgs),
    /// Proximal policy optimisation: answers to prompts, scored by a reward model, rules or a command
    ///
    /// Answers are drawn from the policy in [method.ppo.rollout], scored by [method.ppo.reward], held near the reference by
    /// [method.ppo.kl]; a step is a rollout with all its updates. A reward's command reads a JSON object a line (prompt,
    /// completion, tokens, ended) and answers each with a number on a line. Rewards in [method.ppo.monitor.NAME] are watched and
    /// train nothing: monitor/NAME/mean, /std, and /score_corr, the correlation with the score.
    #[command(after_help = "Examples:
  candlescope train ppo -c examples/train/ppo-toy.toml --out runs/ppo
  candlescope train ppo -c ppo.toml --set method.ppo.kl='{ kind = \"fixed\", beta = 0.1 }' --dry-run
  candlescope train ppo --resume --out runs/ppo
  # rewards, in [method.ppo.reward]:
  # models = [\"runs/rm/checkpoints/step-100\"]
  # rules = [{ kind = \"count\", text = \"Paris\", weight = 2.0 }, { kind = \"stops\" }]
  # command = { run = [\"python3\", \"score.py\"], timeout = 30 }
  # rules: count, pattern, tokens, values, repeats, distinct, length, stops")]
    Ppo(MethodArgs),
    /// REINFORCE with a leave-one-out baseline: PPO's rollouts, several answers a prompt, no value model
    ///
    /// [method.rloo] group answers to each prompt; [method.rloo.rollout], [method.rloo.reward], [method.rloo.monitor.NAME] and
    /// [method.rloo.kl] as for ppo.
    #[command(after_help = "Examples:
  candlescope train rloo -c rloo.toml --out runs/rloo
  candlescope train rloo -c rloo.toml --set method.rloo.group=4 --dry-run")]
    Rloo(MethodArgs),
    /// Language modelling on texts: a small model from nothing, or one that goes on
    ///
    /// [model] new = { family = "llama", d_model = 256, n_layers = 6, n_heads = 8, n_ctx = 512, vocab = 4096 } makes it, with
    /// a byte-level tokenizer trained on the same texts, or that of a folder (tokenizer = "DIR"). Texts are the `text` column
    /// of JSONL, JSON or Parquet, or plain .txt files.
    #[command(after_help = "Examples:
  candlescope train lm -c tiny.toml --out runs/tiny
  candlescope train lm -c tiny.toml --set optim.checkpointing=true --dry-run")]
    Lm(MethodArgs),
}

/// What every method takes.
#[derive(clap::Args, Debug)]
struct MethodArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Show the resolved config and what the run will be, and train nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Sft(args) => train("sft", args, out),
        Command::Rm(args) => train("rm", args, out),
        Command::Dpo(args) => train("dpo", args, out),
        Command::Kto(args) => train("kto", args, out),
        Command::Ppo(args) => train("ppo", args, out),
        Command::Rloo(args) => train("rloo", args, out),
        Command::Lm(args) => train("lm", args, out),
    }
}

#[derive(Serialize)]
struct Trained<'a> {
    method: String,
    run: String,
    steps: u64,
    checkpoint: String,
    /// On the held-out pairs of a reward model.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

fn train(method: &str, args: &MethodArgs, out: &Out) -> anyhow::Result<Outcome> {
    let root = args.run.root()?;
    let config = args.read(method, &root)?;
    let parts = args.prepare(config, out)?;
    if args.dry_run {
        return dry::show(&parts, out);
    }
    interrupt::check()?;
    let mut session = if args.run.resume {
        Session::resume(&root, parts)?
    } else {
        Session::begin(&root, parts)?
    };
    let steps = Steps::new(out);
    let ended = session.run(interrupt::flag(), &steps, &mut []);
    steps.end();
    let (saved, finished) = match ended? {
        Ended::Finished(saved) => (saved, true),
        Ended::Interrupted(saved) => (saved, false),
    };
    if !finished {
        out.note(&format!(
            "saved {}; go on with: candlescope train {method} --resume --out {}",
            saved.path.display(),
            root.display()
        ));
        return Err(Interrupted.into());
    }
    let trained = Trained {
        method: method.to_owned(),
        run: root.display().to_string(),
        steps: saved.step,
        checkpoint: saved.path.display().to_string(),
        report: session.report(),
    };
    if out.json {
        out.json("candlescope.train/1", &trained)?;
    } else {
        if let Some(report) = trained.report {
            show::table(report, out)?;
            out.note(&format!(
                "wrote {}",
                session.folder().report_path().display()
            ));
        }
        out.line(&format!(
            "{} after {} steps",
            trained.checkpoint, saved.step
        ))?;
    }
    Ok(Outcome::Done)
}

impl MethodArgs {
    fn read(&self, method: &str, root: &Path) -> anyhow::Result<Config> {
        let path = self.run.config_file(root)?;
        let mut config = Config::read(&path, method, &self.run.sets)?;
        if let Some(begun) = self.run.begun(root) {
            config.data.date = Config::read(&begun, method, &[])?.data.date;
        }
        Ok(config)
    }

    fn prepare(&self, mut config: Config, out: &Out) -> anyhow::Result<Parts> {
        if config.model.new.is_some() {
            let checkpoint = fresh(&config)?;
            return Ok(prepare(config, checkpoint)?);
        }
        let found = FindArgs {
            accept_config_key: config.model.accept_config_keys.clone(),
            base: None,
            offline: self.run.offline,
        };
        let open = found.exact();
        if let (true, Some(adapter)) = (config.model.name.is_empty(), &config.model.adapter) {
            config.model.name = base::spoken(adapter)?;
        }
        if let Some(Reference::Model(name)) = config.method.reference()
            && toy::seed(name).is_none()
        {
            // What is not here yet is fetched.
            open.path(name, out)?;
        }
        let checkpoint = open.open(&config.model.name, out)?;
        interrupt::check()?;
        Ok(prepare(config, checkpoint)?)
    }
}
