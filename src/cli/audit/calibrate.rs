//! `audit calibrate`: audits a bank of organisms, fits limits on one half, reports on the other; `audit diagnose`: what a
//! calibration says of an audit. The statistics are `crate::audit::calibrate`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::progress::Steps;
use crate::audit::calibrate::features::features;
use crate::audit::calibrate::report::{Rate, Report, report};
use crate::audit::calibrate::{Basis, Calibration, Diagnosis, Record, diagnosis, fit};
use crate::audit::policy::{self, Policy};
use crate::audit::report::json;
use crate::audit::result::Audit;
use crate::audit::runner::{self, Kept};
use crate::audit::wording::number;
use crate::cli::Outcome;
use crate::cli::args::OpenArgs;
use crate::cli::failure::Usage;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::output::{Out, Table};
use crate::files::write::write_atomic;
use crate::model::Checkpoint;
use crate::organism::make::{FILE, Made};

/// Measure how well an audit finds faults, on a bank of checkpoints whose faults are known
///
/// Every checkpoint of the bank is audited beside the model that it was made of. What clean ones do, and what each fault
/// looks like, is fitted on those with odd seeds; how often faults are found and rightly named, and clean ones suspected, is
/// reported on those with even seeds. Audits that are in the bank already are not made again.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope audit calibrate bank/ --baseline pocket --policy policy.toml --policy-out own.toml
  candlescope audit run MODEL --baseline pocket --policy own.toml")]
pub struct Args {
    /// The bank, as `organism bank` makes it
    bank: PathBuf,
    /// The model that the bank was made of
    #[arg(long, value_name = "MODEL")]
    baseline: String,
    /// A policy in TOML instead of the built-in one: which signals are asked, and how much
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the calibration here
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the policy here with the calibration in it, which then speaks in its audits: beyond what clean checkpoints do, a
    /// verdict is REVIEW at least
    #[arg(long, value_name = "FILE")]
    policy_out: Option<PathBuf>,
    #[command(flatten)]
    how: OpenArgs,
}

/// Say what a calibration makes of an audit: whether something is wrong, and which fault it looks like
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope audit diagnose out/audit.json --calibration calibration.json")]
pub struct DiagnoseArgs {
    /// An audit.json, of the baseline and prompts that the calibration was made with
    audit: PathBuf,
    /// What `audit calibrate` wrote
    #[arg(long, value_name = "FILE")]
    calibration: PathBuf,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let (text, policy) = match &args.policy {
        Some(path) => {
            let text = policy::text_of(path)?;
            let read = Policy::parse(&text, &path.display().to_string())?;
            (text, read)
        }
        None => (DEFAULT.to_owned(), Policy::built_in()?),
    };
    if args.policy_out.is_some() && policy.calibration.is_some() {
        return Err(Usage::new(
            "the policy carries a calibration already",
            "give --policy the one that it was made of",
        )
        .into());
    }
    let bank = members(&args.bank)?;
    let baseline = args.how.open(&args.baseline, out)?;
    let weights = baseline.fingerprint()?.weights.clone();
    for (name, made) in &bank {
        if made.from_weights != weights {
            return Err(Usage::new(
                format!("{name} was made of other weights than {}", args.baseline),
                "--baseline names the model that the bank was made of",
            )
            .into());
        }
    }
    let (records, basis) = audited(args, &bank, &baseline, &policy, out)?;
    let mut calibration = fit(&records, &words_of(&bank, &args.baseline), basis)?;
    let report = report(&calibration, &records)?;
    calibration.measured = Some(report.measured());
    if let Some(path) = &args.out {
        let text = serde_json::to_string_pretty(&calibration)?;
        write_atomic(path, format!("{text}\n").as_bytes())?;
        out.note(&format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.policy_out {
        let carried = toml::to_string(&Carrying {
            calibration: &calibration,
        })?;
        let text = format!("{}\n\n{MADE}\n{carried}", text.trim_end());
        // What cannot be read again is not written.
        Policy::parse(&text, &path.display().to_string())?;
        write_atomic(path, text.as_bytes())?;
        out.note(&format!("wrote {}", path.display()));
    }
    show(&calibration, &report, out)?;
    Ok(Outcome::Done)
}

/// What the default policy is extended by where none is given.
const DEFAULT: &str = "extends = \"default\"\nname = \"default, calibrated\"";

/// What stands before a calibration in a policy.
const MADE: &str =
    "# By `candlescope audit calibrate`: what this policy's audits are known to find.";

#[derive(Serialize)]
struct Carrying<'a> {
    calibration: &'a Calibration,
}

/// A bank as reports name it.
fn words_of(bank: &[(String, Made)], baseline: &str) -> String {
    let faulty = bank.iter().filter(|(_, made)| made.order.kind.is_fault());
    let faulty = faulty.count();
    format!(
        "a bank of {} ({faulty} planted faults, {} clean twins)",
        Path::new(baseline)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy(),
        bank.len() - faulty
    )
}

/// The organisms of a bank, by name.
fn members(bank: &Path) -> anyhow::Result<Vec<(String, Made)>> {
    let mut members = Vec::new();
    for entry in std::fs::read_dir(bank)? {
        let path = entry?.path();
        let file = path.join(FILE);
        if !file.is_file() {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        members.push((
            name,
            serde_json::from_str(&std::fs::read_to_string(&file)?)?,
        ));
    }
    if members.is_empty() {
        return Err(Usage::new(
            format!("{}: no folder in it has {FILE}", bank.display()),
            "`candlescope organism bank` makes one",
        )
        .into());
    }
    members.sort_by(|a: &(String, Made), b| a.0.cmp(&b.0));
    Ok(members)
}

/// Audits what is not audited yet.
fn audited(
    args: &Args,
    bank: &[(String, Made)],
    baseline: &Checkpoint,
    policy: &Policy,
    out: &Out,
) -> anyhow::Result<(Vec<Record>, Basis)> {
    let (suites, trials) = (runner::suites_for(baseline)?, runner::trials_for(baseline)?);
    let kept = Kept::default();
    let mut records = Vec::new();
    let mut basis: Option<Basis> = None;
    for (i, (name, made)) in bank.iter().enumerate() {
        interrupt::check()?;
        let place = args
            .bank
            .join(".audits")
            .join(&policy.id.hash)
            .join(format!("{name}.json"));
        let audit: Audit = if place.is_file() {
            json::load(&place)?
        } else {
            out.note(&format!("{} of {}: {name}", i + 1, bank.len()));
            let path = args.bank.join(name);
            let subject = args.how.open(&path.display().to_string(), out)?;
            let steps = Steps::new(out);
            let outcome = runner::run(
                &subject,
                Some(baseline),
                policy,
                &runner::Options {
                    suites: &suites,
                    trials: &trials,
                    seed: None,
                    refusal_phrases: &[],
                    command: &format!("candlescope audit calibrate, {name}"),
                    dictionaries: None,
                    inputs: None,
                    progress: &steps,
                    cancel: interrupt::flag(),
                    kept: Some(&kept),
                },
            );
            steps.end();
            let outcome = outcome?;
            if outcome.interrupted {
                return Err(Interrupted.into());
            }
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            write_atomic(&place, json::render(&outcome.audit)?.as_bytes())?;
            outcome.audit
        };
        let own = Basis::of(&audit).context("an audit of the bank has no baseline")?;
        let common = basis.get_or_insert_with(|| own.clone());
        if let Some(what) = common.parted(&own) {
            return Err(Usage::new(
                format!("{} was made with {what} than the others", place.display()),
                "remove it, and it is made again",
            )
            .into());
        }
        let kind = made.order.kind;
        records.push(Record {
            name: name.clone(),
            fault: kind.is_fault().then(|| kind.name().to_owned()),
            kind: kind.name().to_owned(),
            strength: made.order.strength,
            fits: !made.order.seed.is_multiple_of(2),
            features: features(&audit),
        });
    }
    let basis = basis.context("the bank is empty")?;
    Ok((records, basis))
}

#[derive(Serialize)]
struct Shown<'a> {
    calibration: &'a Calibration,
    report: &'a Report,
}

fn show(calibration: &Calibration, report: &Report, out: &Out) -> anyhow::Result<()> {
    if out.json {
        return out.json(
            "candlescope.audit.calibrate/1",
            &Shown {
                calibration,
                report,
            },
        );
    }
    out.line(&format!(
        "an alarm is anything further than {:.2} from what {} clean checkpoints do, over {} quantities",
        calibration.threshold,
        calibration.clean,
        calibration.quantities.len()
    ))?;
    let mut rates = Table::new(["on the other half", "rate", "95 %", "of"]);
    for (name, rate) in [
        ("faults of full strength found", report.full),
        ("faults of any strength found", report.any),
        ("clean checkpoints suspected", report.false_alarms),
        ("found and named rightly", report.named),
    ] {
        let [share, ends, n] = words(rate);
        rates.row([name.to_owned(), share, ends, n]);
    }
    rates.print(out)?;
    let mut power = Table::new(["fault", "found, by strength", "called"]);
    for (kind, called) in &report.confusion {
        let found = report.power.get(kind).map_or_else(String::new, |doses| {
            let each = doses
                .iter()
                .map(|(dose, rate)| format!("{dose} %: {}/{}", rate.k, rate.n));
            each.collect::<Vec<_>>().join(", ")
        });
        let called = called.iter().map(|(name, n)| format!("{name} {n}"));
        power.row([kind.clone(), found, called.collect::<Vec<_>>().join(", ")]);
    }
    power.print(out)?;
    let mut signals = Table::new(["signal alone", "full faults", "clean"]);
    for (signal, [faults, clean]) in &report.signals {
        signals.row([
            signal.clone(),
            format!("{}/{}", faults.k, faults.n),
            format!("{}/{}", clean.k, clean.n),
        ]);
    }
    signals.print(out)?;
    Ok(())
}

fn words(rate: Rate) -> [String; 3] {
    let percent = |share| number("fraction", share);
    [
        percent(rate.share()),
        format!("[{}, {}]", percent(rate.low), percent(rate.high)),
        format!("{}/{}", rate.k, rate.n),
    ]
}

pub fn diagnose(args: &DiagnoseArgs, out: &Out) -> anyhow::Result<Outcome> {
    let audit = json::load(&args.audit)?;
    let text = std::fs::read_to_string(&args.calibration)?;
    let calibration: Calibration = serde_json::from_str(&text)?;
    if let Err(found) = calibration.check() {
        let said = format!("{} holds {found}", args.calibration.display());
        return Err(Usage::new(said, "`candlescope audit calibrate` writes one").into());
    }
    if let Some(why) = calibration.basis.silent(&audit) {
        let advice = "audit with the same baseline, prompts and seed, or calibrate again";
        return Err(
            Usage::new(format!("the calibration says nothing of it: {why}"), advice).into(),
        );
    }
    let said: Diagnosis = diagnosis::diagnose(&calibration, &features(&audit));
    if out.json {
        out.json("candlescope.audit.diagnose/1", &said)?;
    } else {
        let verdict = match said.named() {
            Some(fault) => format!("something is wrong; it looks like `{fault}`"),
            None if said.alarm => "something is wrong".to_owned(),
            None => "nothing that clean checkpoints do not do".to_owned(),
        };
        out.line(&format!(
            "{verdict}: at a distance of {:.2}, where {:.2} passes",
            said.score, said.threshold
        ))?;
        for (name, z) in &said.because {
            out.line(&format!("  {name}: {z:.1} deviations"))?;
        }
        for (fault, cosine) in said.like.iter().take(3).filter(|_| said.alarm) {
            out.line(&format!("  like {fault}: cosine {cosine:.2}"))?;
        }
    }
    Ok(if said.alarm {
        Outcome::NotPassed
    } else {
        Outcome::Done
    })
}
