//! `audit run`: opens the checkpoints, applies what is to be tested, runs the audit, shows and writes it.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{bundle::Bundling, progress::Steps, show};
use crate::{
    audit::{
        evidence::dictionary::Given,
        inputs::{Inputs, Judge},
        pairs::Preferences,
        policy::{self, Policy},
        report, runner, signals,
    },
    cli::{Outcome, args::ModelArgs, edits::EditArgs, failure::Usage, interrupt, output::Out},
    features,
    model::{Checkpoint, LoadOptions},
    steer::{
        Steering,
        file::{self, DirectionFile},
        perturb::{self, LowRank},
    },
    text::{dataset::Columns, suites::Suite, trials::Trials},
    tui::shared::quoted,
};

/// Audit a checkpoint and judge it by a policy
///
/// A reward model (a score head in place of the unembedding) is asked what applies to it: probes, and with --pairs what its score
/// hangs on.
///
/// Exit code 0 when it passes, 1 when it does not (REVIEW, BLOCK or UNDERPOWERED), 2 on an error.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope audit run smollm2-135m-instruct --report out/
  candlescope audit run ./tuned --baseline ./base --report out/
  candlescope audit run ./adapter --baseline base --report out/
  candlescope audit run ./tuned --baseline ./base --dictionary sae/
  candlescope audit run ./tuned --baseline ./base --pairs held-out.jsonl
  candlescope audit run ./ppo --baseline ./sft --reward ./reward-model
  candlescope audit run ./reward-model --baseline ./sft --pairs held-out.jsonl
  candlescope audit run ./tuned --policy policy.toml --suite harmful=mine.jsonl
  candlescope audit run ./tuned --baseline ./base --bundle audit.tar --sign key")]
pub struct Args {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// A checkpoint to pair it with, on the same prompts; for an adapter folder `base` is its base model
    #[arg(long, value_name = "MODEL")]
    baseline: Option<String>,
    /// A dictionary that was trained on the baseline or an ancestor, to read both through: signals 18 to 21
    #[arg(long, value_name = "PATH", requires = "baseline")]
    pub(super) dictionary: Option<PathBuf>,
    /// The same dictionary, trained on for a while on the checkpoint under audit: signal 22
    #[arg(long, value_name = "PATH", requires = "dictionary")]
    pub(super) refit: Option<PathBuf>,
    /// The same dictionary, trained on for as long on the baseline, to tell what the data does
    #[arg(long, value_name = "PATH", requires = "refit")]
    pub(super) refit_control: Option<PathBuf>,
    /// A crosscoder over baseline and checkpoint: signal 23
    #[arg(long, value_name = "PATH", requires = "baseline")]
    pub(super) crosscoder: Option<PathBuf>,
    /// Preference pairs, as files of training data have them: JSON lines, a JSON array or Parquet; repeatable: signal 32
    #[arg(long, value_name = "FILE")]
    pub(super) pairs: Vec<PathBuf>,
    /// The pairs' names of columns that are called otherwise, such as prompt=question,chosen=better
    #[arg(long, value_name = "LIST", requires = "pairs")]
    pub(super) pairs_columns: Option<String>,
    /// Plain strings of the pairs become a user's and an assistant's turn; without it they are taken as they are
    #[arg(long, requires = "pairs")]
    pub(super) pairs_chat: bool,
    /// A reward model, a folder as `train rm` writes it; for signal 31 of a policy that it trained, or beside a reward model under
    /// audit for signal 30; repeatable
    #[arg(long, value_name = "DIR")]
    pub(super) reward: Vec<PathBuf>,
    /// A policy in TOML instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// Prompts of yours: a suite of the built-in ones replaced, or a further one; repeatable
    #[arg(long, value_name = "NAME=FILE.jsonl")]
    pub(super) suite: Vec<String>,
    /// Trials of yours: a set of the built-in ones replaced, or a further one; repeatable
    #[arg(long, value_name = "NAME=FILE.jsonl")]
    pub(super) trials: Vec<String>,
    /// Write report.html, report.md, audit.json and junit.xml into this folder
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
    /// Seed of every random choice [default: the policy's]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Audit the model under these; the baseline stays as it is
    #[command(flatten)]
    pub(super) edits: EditArgs,
    /// Audit the model with a random low-rank change of its weights, to test the gate itself
    #[arg(long, value_name = "RANK:SCALE:SEED")]
    pub(super) perturb: Option<String>,
    /// Write the refusal direction that was found
    #[arg(long, value_name = "FILE")]
    pub(super) save_direction: Option<PathBuf>,
    /// Fewer prompts, draws and tokens: a look, not a verdict to rely on
    #[arg(long)]
    pub(super) quick: bool,
    /// Exit code 0 whatever the verdict
    #[arg(long)]
    pub(super) exit_zero: bool,
    /// Write what a third party needs to check this audit and to make it again into one file; see `audit verify`
    #[arg(long, value_name = "FILE.tar")]
    pub(super) bundle: Option<PathBuf>,
    /// Sign the bundle with this private key of `audit keygen`, into FILE.tar.sig
    #[arg(long, value_name = "KEY", requires = "bundle")]
    pub(super) sign: Option<PathBuf>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let mut policy = match &args.policy {
        Some(path) => Policy::load(path)?,
        None => Policy::built_in()?,
    };
    if args.quick {
        policy.sizes = policy.sizes.quick();
    }
    // Before minutes of work, not after.
    let bundling = Bundling::new(args)?;
    if let Some(dir) = &args.report {
        writable_folder(dir)?;
    }
    let job = Job::open(args, out)?;
    let audited = job.run(&policy, args.seed, &command(args), out)?;
    let files = match &args.report {
        Some(dir) => report::write_all(dir, &audited.audit, &signals::pages())?,
        None => Vec::new(),
    };
    show(&audited.audit, args.report.is_some(), out)?;
    tell(&audited, &files, out);
    if let Some(path) = &args.save_direction {
        save(path, &audited, &job.subject)?;
    }
    if audited.interrupted {
        return Err(interrupt::Interrupted.into());
    }
    if let Some(bundling) = bundling {
        bundling.write(&job, &policy, &audited, out)?;
    }
    Ok(match audited.audit.verdict.exit_code(args.exit_zero) {
        0 => Outcome::Done,
        _ => Outcome::NotPassed,
    })
}

/// All that an audit is made of, opened.
pub(super) struct Job {
    pub(super) subject: Checkpoint,
    pub(super) baseline: Option<Checkpoint>,
    given: Given,
    inputs: Inputs,
    suites: Vec<Suite>,
    trials: Vec<Trials>,
    perturb: Option<LowRank>,
    quick: bool,
}

impl Job {
    /// Opens what the options name.
    pub(super) fn open(args: &Args, out: &Out) -> anyhow::Result<Self> {
        let (own_suites, own_trials) = (suites(&args.suite)?, trials(&args.trials)?);
        let given = given(args)?;
        let inputs = inputs(args)?;
        let perturb = args.perturb.as_deref().map(low_rank).transpose()?;
        let subject = subject(args, perturb, out)?;
        let mut suites = runner::suites_for(&subject)?;
        suites.retain(|suite| own_suites.iter().all(|own| own.name != suite.name));
        suites.extend(own_suites);
        let mut trials = runner::trials_for(&subject)?;
        trials.retain(|set| own_trials.iter().all(|own| own.name != set.name));
        trials.extend(own_trials);
        let baseline = match &args.baseline {
            Some(model) => Some(args.model.how.open_any(&baseline(model, &subject), out)?),
            None => None,
        };
        if let (Some(dictionary), Some(baseline), false) = (
            &given.dictionary,
            &baseline,
            args.edits.accept_foreign_direction,
        ) {
            dictionary.expect(baseline)?;
        }
        Ok(Self {
            subject,
            baseline,
            given,
            inputs,
            suites,
            trials,
            perturb,
            quick: args.quick,
        })
    }

    /// Runs the audit, with the warnings that its options call for.
    pub(super) fn run(
        &self,
        policy: &Policy,
        seed: Option<u64>,
        command: &str,
        out: &Out,
    ) -> anyhow::Result<runner::Outcome> {
        let steps = Steps::new(out);
        let audited = runner::run(
            &self.subject,
            self.baseline.as_ref(),
            policy,
            &runner::Options {
                suites: &self.suites,
                trials: &self.trials,
                seed,
                refusal_phrases: &[],
                command,
                dictionaries: any(&self.given),
                inputs: Some(&self.inputs),
                progress: &steps,
                cancel: interrupt::flag(),
                kept: None,
            },
        );
        steps.end();
        let mut audited = audited?;
        if self.quick {
            audited.audit.warnings.push(policy::QUICK.to_owned());
        }
        if let Some(edit) = self.perturb {
            audited.audit.warnings.push(format!(
                "The checkpoint's weights were changed at random in memory: rank {}, scale {}, seed {}.",
                edit.rank, edit.scale, edit.seed
            ));
        }
        Ok(audited)
    }
}

/// The checkpoint under audit with what is to be tested on it.
fn subject(args: &Args, perturb: Option<LowRank>, out: &Out) -> anyhow::Result<Checkpoint> {
    let mut subject = args.model.how.open_any(&args.model.model, out)?;
    subject
        .decoder
        .set_standing_edits(args.edits.edits(&subject)?);
    if let Some(edit) = perturb {
        perturb::low_rank(&mut subject.decoder, edit)?;
    }
    Ok(subject)
}

/// The dictionaries, before any model: a file that is none is known at once.
fn given(args: &Args) -> anyhow::Result<Given> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(features::open).transpose();
    Ok(Given {
        dictionary: open(&args.dictionary)?,
        refit: open(&args.refit)?,
        control: open(&args.refit_control)?,
        crosscoder: open(&args.crosscoder)?,
    })
}

/// A reward model, or what it is instead.
fn judge(path: &Path) -> anyhow::Result<Judge> {
    let options = LoadOptions::default();
    let opened = Judge::open(path, &options);
    opened.with_context(|| {
        format!(
            "--reward {}: expected the folder of a reward model, as `train rm` writes it",
            path.display()
        )
    })
}

/// The other files, before any model too.
fn inputs(args: &Args) -> anyhow::Result<Inputs> {
    let columns: Columns = args.pairs_columns.as_deref().unwrap_or_default().parse()?;
    let read = || Preferences::read(&args.pairs, &columns, args.pairs_chat);
    Ok(Inputs {
        pairs: (!args.pairs.is_empty()).then(read).transpose()?,
        judges: args
            .reward
            .iter()
            .map(|path| judge(path))
            .collect::<Result<_, _>>()?,
        traits: None,
    })
}

fn any(given: &Given) -> Option<&Given> {
    let some = given.dictionary.is_some() || given.crosscoder.is_some();
    some.then_some(given)
}

/// The baseline's name: that of an adapter's base may be said in a word.
fn baseline(model: &str, subject: &Checkpoint) -> String {
    match subject.opened().adapted() {
        Some(adapted) if model == "base" => adapted.base_path().display().to_string(),
        _ => model.to_owned(),
    }
}

/// The user's suites; of two with one name the last counts.
fn suites(specs: &[String]) -> anyhow::Result<Vec<Suite>> {
    let mut suites: Vec<Suite> = Vec::new();
    for spec in specs {
        let (name, file) = spec.split_once('=').ok_or_else(|| {
            Usage::new(
                format!("--suite {spec}: expected NAME=FILE.jsonl"),
                format!(
                    "names of the built-in suites are {}",
                    Suite::names().join(", ")
                ),
            )
        })?;
        let mut suite = Suite::from_jsonl(Path::new(file))?;
        name.clone_into(&mut suite.name);
        suites.retain(|other| other.name != name);
        suites.push(suite);
    }
    Ok(suites)
}

/// The user's sets of trials, in the same way.
fn trials(specs: &[String]) -> anyhow::Result<Vec<Trials>> {
    let mut sets: Vec<Trials> = Vec::new();
    for spec in specs {
        let (name, file) = spec.split_once('=').ok_or_else(|| {
            Usage::new(
                format!("--trials {spec}: expected NAME=FILE.jsonl"),
                format!(
                    "names of the built-in sets are {}",
                    Trials::names().join(", ")
                ),
            )
        })?;
        let mut set = Trials::from_jsonl(Path::new(file))?;
        name.clone_into(&mut set.name);
        sets.retain(|other| other.name != name);
        sets.push(set);
    }
    Ok(sets)
}

fn low_rank(spec: &str) -> anyhow::Result<LowRank> {
    let malformed = || {
        Usage::new(
            format!("--perturb {spec}: expected RANK:SCALE:SEED"),
            "for example 4:0.05:1, a change of rank 4 and a twentieth of each matrix's norm",
        )
    };
    let parts: Vec<&str> = spec.split(':').collect();
    let [rank, scale, seed] = parts[..] else {
        return Err(malformed().into());
    };
    let edit = LowRank {
        rank: rank.parse().map_err(|_| malformed())?,
        scale: scale.parse().map_err(|_| malformed())?,
        seed: seed.parse().map_err(|_| malformed())?,
    };
    if !(1..=1024).contains(&edit.rank) || !edit.scale.is_finite() || edit.scale < 0.0 {
        return Err(malformed().into());
    }
    Ok(edit)
}

/// Makes the folder and a file in it, so that a report that cannot be written is known before the work.
fn writable_folder(dir: &Path) -> anyhow::Result<()> {
    let fails = |source| report::ReportError::Write {
        file: dir.to_path_buf(),
        source,
    };
    let fresh = !dir.exists();
    std::fs::create_dir_all(dir).map_err(fails)?;
    let probe = dir.join(format!(".probe.{}", std::process::id()));
    let made = std::fs::write(&probe, b"");
    // Neither removal can fail in a way that matters here: an empty file or folder of ours is left at worst.
    let _ = std::fs::remove_file(&probe);
    if fresh {
        let _ = std::fs::remove_dir(dir);
    }
    made.map_err(fails)?;
    Ok(())
}

/// Where the report lies and what took the time.
fn tell(audited: &runner::Outcome, files: &[PathBuf], out: &Out) {
    if let Some(first) = files.first() {
        let all: Vec<String> = files
            .iter()
            .filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let dir = first.parent().unwrap_or(Path::new("."));
        out.note(&format!("{}: {}", dir.display(), all.join(", ")));
    }
    let stages: Vec<String> = audited
        .stages
        .iter()
        .filter(|stage| stage.seconds >= 0.05)
        .map(|stage| format!("{} {:.1} s", stage.stage, stage.seconds))
        .collect();
    out.note(&format!(
        "{:.1} s: {}",
        audited.audit.seconds,
        stages.join(", ")
    ));
}

fn save(path: &Path, audited: &runner::Outcome, subject: &Checkpoint) -> anyhow::Result<()> {
    let direction = direction(audited, subject)?.ok_or_else(|| {
        Usage::new(
            "--save-direction: no direction was found",
            "the report says why, under the signals that need one",
        )
    })?;
    Ok(file::save(path, &direction)?)
}

/// The direction that was found, with what it was found on.
pub(super) fn direction(
    audited: &runner::Outcome,
    subject: &Checkpoint,
) -> anyhow::Result<Option<DirectionFile>> {
    let Some(chosen) = &audited.direction else {
        return Ok(None);
    };
    Ok(Some(DirectionFile {
        vector: chosen.direction.scaled(),
        fingerprint: Some(subject.fingerprint()?.clone()),
        layer: Some(chosen.site.layer),
        position: chosen.site.from_end.map(|n| -(n as i64)),
        norm: Some(chosen.direction.norm),
        method: Some("means".to_owned()),
        reliability: chosen.direction.reliability.map(|r| r.full),
        ..DirectionFile::default()
    }))
}

/// A file's name without its path; another word as it is.
pub(super) fn name(spec: &str) -> String {
    let path = Path::new(spec);
    match path.file_name() {
        Some(name) if path.exists() => name.to_string_lossy().into_owned(),
        _ => spec.to_owned(),
    }
}

/// A steering option with the name of its file instead of its path.
pub(super) fn without_folder(words: [String; 2]) -> [String; 2] {
    let named = Steering::from_option(&words).map(|steering| steering.without_folder().option());
    named.unwrap_or(words)
}

/// Turned latents with the name of their dictionary instead of its path.
pub(super) fn turned(spec: &str) -> String {
    match spec.rsplit_once('@') {
        Some((dictionary, edits)) => format!("{}@{edits}", name(dictionary)),
        None => spec.to_owned(),
    }
}

/// The command again, with names of files instead of their paths: it goes into the report.
fn command(args: &Args) -> String {
    let mut words = vec!["candlescope audit run".to_owned(), name(&args.model.model)];
    let mut option = |flag: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("{flag} {value}")));
    };
    let path = |path: &PathBuf| name(&path.display().to_string());
    option("--baseline", args.baseline.as_deref().map(name));
    option("--dictionary", args.dictionary.as_ref().map(path));
    option("--refit", args.refit.as_ref().map(path));
    option("--refit-control", args.refit_control.as_ref().map(path));
    option("--crosscoder", args.crosscoder.as_ref().map(path));
    for file in &args.pairs {
        option("--pairs", Some(path(file)));
    }
    option("--pairs-columns", args.pairs_columns.clone());
    for folder in &args.reward {
        option("--reward", Some(path(folder)));
    }
    option("--policy", args.policy.as_ref().map(path));
    for (flag, specs) in [("--suite", &args.suite), ("--trials", &args.trials)] {
        for spec in specs {
            let (key, file) = spec.split_once('=').unwrap_or((spec, ""));
            option(flag, Some(format!("{key}={}", name(file))));
        }
    }
    option("--seed", args.seed.map(|seed| seed.to_string()));
    for [flag, spec] in args.edits.steerings().into_iter().map(without_folder) {
        option(&flag, Some(quoted(&spec)));
    }
    for spec in &args.edits.latents {
        option("--latents", Some(quoted(&turned(spec))));
    }
    for (flag, specs) in [
        ("--zero", &args.edits.zero),
        ("--knockout", &args.edits.knockout),
    ] {
        for spec in specs {
            option(flag, Some(quoted(spec)));
        }
    }
    for file in &args.edits.edit {
        option("--edit", Some(path(file)));
    }
    option("--perturb", args.perturb.clone());
    option("--base", args.model.how.found.base.as_deref().map(name));
    let dtype = (args.model.how.dtype == crate::cli::args::Dtype::Bf16).then(|| "bf16".to_owned());
    option("--dtype", dtype);
    if args.edits.accept_foreign_direction {
        words.push("--accept-foreign".to_owned());
    }
    if args.pairs_chat {
        words.push("--pairs-chat".to_owned());
    }
    if args.quick {
        words.push("--quick".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_perturbation_has_three_parts() {
        let edit = low_rank("4:0.05:1").unwrap();
        assert_eq!((edit.rank, edit.scale, edit.seed), (4, 0.05, 1));
        for wrong in [
            "4:0.05",
            "0:0.05:1",
            "4:nan:1",
            "4:-1:1",
            "4:0.05:1:2",
            "a:b:c",
        ] {
            assert!(low_rank(wrong).is_err(), "{wrong}");
        }
    }
}
