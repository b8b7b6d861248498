//! `pipeline`: stages of training with an audit after each checkpoint. The work is `crate::pipeline`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{
    Outcome,
    args::FindArgs,
    audit::progress::Steps as AuditSteps,
    failure::Usage,
    interrupt::{self, Interrupted},
    output::{Out, Table},
    train_progress::Steps,
};
use crate::audit::result::Audit;
use crate::audit::verdict::Verdict;
use crate::audit::wording::duration;
use crate::model::Checkpoint;
use crate::pipeline::plan::{React, Stage};
use crate::pipeline::run::{Begins, OpenError};
use crate::pipeline::{
    Audited, Ended, Models, Options, Plan, State, Watcher, folder, run as carry_out,
};

/// Train in stages, and audit every checkpoint on the way
///
/// A plan is a TOML file with a list of stages (lm, sft, rm, dpo, kto, ppo, rloo, edit, dictionary). A stage begins `from` an
/// earlier one, and names what others made with an @, as @rm for a reward model.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope pipeline run examples/pocket/pipeline.toml --out runs/pocket
  candlescope pipeline run --resume --out runs/pocket
  candlescope pipeline show runs/pocket")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Carry out a plan in a new folder, or go on with one
    ///
    /// After each checkpoint the model is audited by [audit] checkpoint, at a stage's end by [audit] end; on_block and
    /// on_review say what a verdict does: halt, warn or go_on. [audit] dictionary names a dictionary stage, through which the
    /// audits of the stages behind it read, or a file; [audit] refit trains it on at each stage's end. Ctrl-C saves
    /// and says how to go on; a kill loses the steps since the last checkpoint and no bit more.
    #[command(after_help = "Examples:
  candlescope pipeline run plan.toml --out runs/plan
  candlescope pipeline run --resume --out runs/plan")]
    Run(RunArgs),
    /// What a pipeline has done: stages, verdicts, time
    #[command(after_help = "Example:\n  candlescope pipeline show runs/pocket --json")]
    Show {
        /// The pipeline's folder
        run: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct RunArgs {
    /// The plan; not needed to resume
    plan: Option<PathBuf>,
    /// The pipeline's folder [default: runs/NAME, after the plan's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the pipeline in that folder
    #[arg(long)]
    resume: bool,
    /// Use what is in the cache only
    #[arg(long)]
    offline: bool,
    /// Exit with 0 whatever the verdicts are
    #[arg(long)]
    exit_zero: bool,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Run(args) => begin(args, out),
        Command::Show { run } => {
            let (plan, state) = folder::look(run)?;
            show(&plan, &state, run, out)?;
            Ok(Outcome::Done)
        }
    }
}

fn begin(args: &RunArgs, out: &Out) -> anyhow::Result<Outcome> {
    let plan = args.plan.as_deref().map(Plan::read).transpose()?;
    let root = match (&args.out, &plan) {
        (Some(out), _) => out.clone(),
        (None, Some(plan)) => Path::new("runs").join(&plan.name),
        (None, None) => {
            return Err(Usage::new(
                "neither a plan nor a pipeline's folder was named",
                "`pipeline run plan.toml` begins one; `--resume --out DIR` goes on with one",
            )
            .into());
        }
    };
    if plan.is_none() && !args.resume {
        return Err(Usage::new(
            "no plan was given",
            "`pipeline run plan.toml` begins one; `--resume` goes on with the one in --out",
        )
        .into());
    }
    let opener = Opener::new(args.offline, out);
    let shown = Shown {
        out,
        training: Steps::new(out),
        auditing: AuditSteps::new(out),
    };
    let options = Options {
        models: &opener,
        watcher: &shown,
        stop: interrupt::flag(),
    };
    let ended = carry_out(&root, plan.as_ref(), args.resume, &options);
    shown.training.end();
    shown.auditing.end();
    let again = format!(
        "go on with: candlescope pipeline run --resume --out {}",
        root.display()
    );
    match ended? {
        Ended::Finished(state) => {
            let (plan, _) = folder::look(&root)?;
            show(&plan, &state, &root, out)?;
            let worst = state.audits.iter().map(|audited| audited.verdict).max();
            Ok(match worst {
                Some(Verdict::Block) if plan.audit.on_block != React::GoOn && !args.exit_zero => {
                    Outcome::NotPassed
                }
                _ => Outcome::Done,
            })
        }
        Ended::Interrupted(stage) => {
            out.note(&format!("stopped in stage {stage}; {again}"));
            Err(Interrupted.into())
        }
        Ended::Halted(audited) => {
            out.note(&format!(
                "halted by the audit of {} step {}: {}; see {}; {again}",
                audited.stage,
                audited.step,
                audited.verdict.word(),
                root.join(&audited.audit).display()
            ));
            Ok(if args.exit_zero {
                Outcome::Done
            } else {
                Outcome::NotPassed
            })
        }
    }
}

/// Opens models as every command does, fetching what is not here.
pub(super) struct Opener<'a> {
    find: FindArgs,
    out: &'a Out,
}

impl<'a> Opener<'a> {
    /// From the cache alone, or from the net as well.
    pub(super) fn new(offline: bool, out: &'a Out) -> Self {
        let find = FindArgs {
            accept_config_key: Vec::new(),
            base: None,
            offline,
        };
        Self { find, out }
    }
}

impl Models for Opener<'_> {
    fn open(&self, name: &str) -> Result<Checkpoint, OpenError> {
        Ok(self.find.exact().open(name, self.out)?)
    }
}

/// Says on the terminal how far it is.
struct Shown<'a> {
    out: &'a Out,
    training: Steps<'a>,
    auditing: AuditSteps<'a>,
}

impl Watcher for Shown<'_> {
    fn stage(&self, stage: &Stage, at: usize, of: usize, begins: Begins) {
        let how = match begins {
            Begins::Fresh => "begins",
            Begins::Resumed => "goes on",
            Begins::Done => "is done",
        };
        self.out.note(&format!(
            "stage {at} of {of}: {} ({}) {how}",
            stage.name, stage.method
        ));
    }

    fn training(&self) -> &dyn crate::train::Progress {
        &self.training
    }

    fn auditing(&self) -> &dyn crate::audit::work::Progress {
        &self.auditing
    }

    fn audited(&self, audited: &Audited, audit: &Audit) {
        let why = audit.reasons.first().map_or("", String::as_str);
        self.out.note(&format!(
            "{} step {}: {} in {}{}{why}",
            audited.stage,
            audited.step,
            audited.verdict.word(),
            duration(audited.seconds),
            if why.is_empty() { "" } else { "; " },
        ));
    }
}

#[derive(Serialize)]
struct Shows<'a> {
    run: String,
    plan: &'a Plan,
    state: &'a State,
    /// Seconds of training and of audits.
    training_seconds: f64,
    audit_seconds: f64,
}

fn show(plan: &Plan, state: &State, root: &Path, out: &Out) -> anyhow::Result<()> {
    let (training, auditing) = state.seconds();
    if out.json {
        return out.json(
            "candlescope.pipeline.show/1",
            &Shows {
                run: root.display().to_string(),
                plan,
                state,
                training_seconds: training,
                audit_seconds: auditing,
            },
        );
    }
    let mut table = Table::new(["stage", "method", "steps", "training", "audits", "verdicts"]);
    for stage in &plan.stages {
        let audits: Vec<&Audited> = state
            .audits
            .iter()
            .filter(|audited| audited.stage == stage.name)
            .collect();
        let verdicts: Vec<&str> = audits.iter().map(|a| a.verdict.word()).collect();
        let done = state.done(&stage.name);
        table.row([
            stage.name.clone(),
            stage.method.clone(),
            done.map_or_else(|| "not done".to_owned(), |done| done.steps.to_string()),
            done.map_or_else(String::new, |done| duration(done.seconds)),
            // A sum of nothing is minus zero.
            duration(audits.iter().map(|a| a.seconds).sum::<f64>() + 0.0),
            verdicts.join(" "),
        ]);
    }
    table.print(out)?;
    let share = 100.0 * auditing / (training + auditing).max(f64::MIN_POSITIVE);
    out.line(&format!(
        "training {}, audits {} ({share:.0} % of both)",
        duration(training),
        duration(auditing)
    ))?;
    Ok(())
}
