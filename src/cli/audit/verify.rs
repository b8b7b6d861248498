//! `audit verify`: a bundle checked for tampering, and held against the same audit made again.
//!
//! Always: the exit code is 0 only if everything that was asked for holds, 1 if something differs or was changed, 2 if the
//! question could not be put; without `--model` it says that nothing was recomputed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

use super::{
    bundle::{of, settings},
    run::{self, Job},
};
use crate::{
    audit::{
        bundle::{
            Bundle, Settings,
            compare::Difference,
            read::{Finding, load_bundle},
            sign::{self, PublicKey, Signature},
            verify::{Condition, another, recomputed},
        },
        result::Audit,
    },
    cli::{Outcome, failure::Usage, interrupt::Interrupted, output::Out},
    files::hash::sha256,
};

/// Check a bundle of evidence; with its model, make the audit again and compare every number
///
/// Exit code 0 when all holds, 1 when something differs or was changed, 2 on an error.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope audit verify audit.tar
  candlescope audit verify audit.tar --model ./tuned --baseline ./base --key release.pub
  candlescope audit verify audit.tar --model ./tuned -- --suite harmful=mine.jsonl")]
pub struct Args {
    /// A bundle that `audit run --bundle` wrote
    bundle: PathBuf,
    /// The checkpoint that was audited: run the audit again and compare bit by bit
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Its baseline, where it had one
    #[arg(long, value_name = "MODEL", requires = "model")]
    baseline: Option<String>,
    /// Require a signature by this key: a file of `audit keygen` that ends in .pub, or ed25519:HEX
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Where the signature is [default: the bundle's name with .sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Use what is in the cache only
    #[arg(long)]
    offline: bool,
    /// After `--`: options of `audit run` that named files when the bundle was made
    #[arg(last = true, requires = "model", value_name = "OPTIONS")]
    again: Vec<String>,
}

/// Most differences that are listed; all are counted.
const LISTED: usize = 20;

/// Most differences, and most findings, that are shown in the table.
const SHOWN: usize = 8;

/// What verification found.
#[derive(Serialize, Default)]
struct Verification {
    verified: bool,
    file: String,
    sha256: String,
    bundle: Option<Named>,
    findings: Vec<Finding>,
    signature: Signed,
    another: Vec<Difference>,
    recomputed: Option<Compared>,
}

/// What the bundle is of.
#[derive(Serialize)]
struct Named {
    id: String,
    tool_version: String,
    subject: String,
    baseline: Option<String>,
    policy: String,
    verdict: Option<&'static str>,
    members: usize,
}

/// What is known of the signature.
#[derive(Serialize, Default)]
struct Signed {
    by: Option<String>,
    problem: Option<String>,
}

/// What came out of the second audit.
#[derive(Serialize)]
struct Compared {
    differences: usize,
    signals: BTreeSet<String>,
    first: Vec<Difference>,
    conditions: Vec<Condition>,
}

/// The options of `audit run`, parsed again.
#[derive(Parser)]
#[command(name = "audit run", no_binary_name = true)]
struct Again {
    #[command(flatten)]
    args: run::Args,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let bytes = load_bundle(&args.bundle)?;
    let wanted = args.key.as_deref().map(PublicKey::named).transpose()?;
    let mut said = Verification {
        file: run::name(&args.bundle.display().to_string()),
        sha256: sha256(&bytes),
        signature: signature(args, wanted, &bytes)?,
        ..Verification::default()
    };
    match Bundle::read(&bytes) {
        Err(error) => said.findings.push(Finding {
            member: said.file.clone(),
            problem: error.to_string(),
        }),
        Ok(bundle) => {
            said.findings = bundle.findings();
            let audit = bundle.audit().ok();
            said.bundle = Some(named(&bundle, audit.as_ref()));
            if said.findings.is_empty()
                && let Some(model) = &args.model
            {
                again(args, model, &bundle, &mut said, out)?;
            }
        }
    }
    said.verified = said.findings.is_empty()
        && said.signature.problem.is_none()
        && said.another.is_empty()
        && said
            .recomputed
            .as_ref()
            .is_none_or(|compared| compared.differences == 0);
    show(&said, out)?;
    Ok(if said.verified {
        Outcome::Done
    } else {
        Outcome::NotPassed
    })
}

fn named(bundle: &Bundle, audit: Option<&Audit>) -> Named {
    let manifest = bundle.manifest();
    Named {
        id: bundle.id(),
        tool_version: manifest.tool_version.clone(),
        subject: manifest.subject.name.clone(),
        baseline: manifest.baseline.as_ref().map(|card| card.name.clone()),
        policy: manifest.policy.name.clone(),
        verdict: audit.map(|audit| audit.verdict.word()),
        members: manifest.members.len() + 1,
    }
}

/// The signature beside the bundle, if one is there or asked for.
fn signature(args: &Args, wanted: Option<PublicKey>, bytes: &[u8]) -> anyhow::Result<Signed> {
    let place = args
        .signature
        .clone()
        .unwrap_or_else(|| sign::place(&args.bundle));
    if args.signature.is_none() && !place.exists() {
        let problem = wanted.map(|key| format!("there is none, and one by {key} is required"));
        return Ok(Signed { by: None, problem });
    }
    let read = match Signature::load(&place) {
        Ok(read) => read,
        Err(error) if args.signature.is_some() && !place.exists() => return Err(error.into()),
        Err(error) => {
            let problem = Some(error.to_string());
            return Ok(Signed { by: None, problem });
        }
    };
    let other = |key: &PublicKey| *key != read.key;
    let problem = read.problem(bytes).or_else(|| {
        let wanted = wanted.filter(other)?;
        Some(format!("it is by {}, not by {wanted}", read.key))
    });
    Ok(Signed {
        by: Some(read.key.to_string()),
        problem,
    })
}

/// Makes the audit again.
fn again(
    args: &Args,
    model: &str,
    bundle: &Bundle,
    said: &mut Verification,
    out: &Out,
) -> anyhow::Result<()> {
    let then = bundle.settings()?;
    let manifest = bundle.manifest();
    match (&args.baseline, &manifest.baseline) {
        (None, Some(card)) => {
            let hint = format!("give it: --baseline {}", card.name);
            return Err(Usage::new("the audit had a baseline", hint).into());
        }
        (Some(_), None) => {
            return Err(Usage::new("the audit had no baseline", "leave --baseline out").into());
        }
        _ => {}
    }
    let options = options(args, model, &then)?;
    let policy = bundle.policy()?;
    let mut job = Job::open(&options, out)?;
    said.another = another("model", &manifest.subject, &job.subject)?;
    if let Some((card, baseline)) = manifest.baseline.as_ref().zip(job.baseline.as_ref()) {
        said.another.extend(another("baseline", card, baseline)?);
    }
    if !said.another.is_empty() {
        return Ok(());
    }
    // What they are called here is no difference.
    manifest.subject.name.clone_into(&mut job.subject.name);
    if let Some((card, baseline)) = manifest.baseline.as_ref().zip(job.baseline.as_mut()) {
        card.name.clone_into(&mut baseline.name);
    }
    let audited = job.run(&policy, Some(manifest.seed), &manifest.command, out)?;
    if audited.interrupted {
        return Err(Interrupted.into());
    }
    let second = of(&job, &policy, &audited, bundle.source()?, &then)?;
    let mut found = recomputed(bundle, &second)?;
    let differences = found.differences.len();
    found.differences.truncate(LISTED);
    said.recomputed = Some(Compared {
        differences,
        signals: found.signals,
        first: found.differences,
        conditions: found.conditions,
    });
    Ok(())
}

/// The options of the run, those of the bundle and those given again, and nothing that writes or judges otherwise.
fn options(args: &Args, model: &str, then: &Settings) -> anyhow::Result<run::Args> {
    let mut words = vec![model.to_owned()];
    words.extend(
        args.baseline
            .iter()
            .map(|name| format!("--baseline={name}")),
    );
    let flags = [
        (then.quick, "--quick"),
        (then.bf16, "--dtype=bf16"),
        (then.accept_foreign, "--accept-foreign-direction"),
        (args.offline, "--offline"),
    ];
    words.extend(
        flags
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag.to_owned()),
    );
    for (flag, specs) in [
        ("--accept-config-key", &then.accept_config_keys),
        ("--zero", &then.zero),
        ("--knockout", &then.knockout),
    ] {
        words.extend(specs.iter().map(|spec| format!("{flag}={spec}")));
    }
    words.extend(then.perturb.iter().map(|spec| format!("--perturb={spec}")));
    words.extend(args.again.iter().cloned());
    let hint = "after `--` come the options of `audit run` that say what is audited, such as --suite or --dictionary";
    let parsed = Again::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Usage::new(first.trim_start_matches("error: "), hint)
    })?;
    let options = parsed.args;
    let others = [
        ("--report", options.report.is_some()),
        ("--bundle", options.bundle.is_some()),
        ("--save-direction", options.save_direction.is_some()),
        ("--policy", options.policy.is_some()),
        ("--seed", options.seed.is_some()),
        ("--exit-zero", options.exit_zero),
    ];
    if let Some((flag, _)) = others.iter().find(|(_, set)| *set) {
        return Err(Usage::new(format!("{flag} says nothing of what is audited"), hint).into());
    }
    same_files(&then.files, &settings(&options).files)?;
    Ok(options)
}

/// Files have other names elsewhere, but they are for the same things.
fn same_files(then: &[String], now: &[String]) -> anyhow::Result<()> {
    let purposes = |options: &[String]| -> Vec<String> {
        let purpose = |option: &String| match option.split_once('=') {
            Some((suite, _)) if option.starts_with("--suite ") => suite.to_owned(),
            _ => option.split(' ').next().unwrap_or_default().to_owned(),
        };
        let mut purposes: Vec<_> = options.iter().map(purpose).collect();
        purposes.sort();
        purposes
    };
    if purposes(then) == purposes(now) {
        return Ok(());
    }
    let said = |options: &[String]| match options {
        [] => "none".to_owned(),
        options => options.join(" "),
    };
    Err(Usage::new(
        format!(
            "options that name files: the audit was run with {}, given here {}",
            said(then),
            said(now)
        ),
        "give them after `--`, with the paths that the files have here",
    )
    .into())
}

fn show(said: &Verification, out: &Out) -> anyhow::Result<()> {
    if out.json {
        return out.json("candlescope.audit.verify/1", said);
    }
    let mut lines: Vec<[String; 2]> = Vec::new();
    let mut line = |what: &str, text: String| lines.push([what.to_owned(), text]);
    if let Some(named) = &said.bundle {
        let against = named
            .baseline
            .as_ref()
            .map_or_else(String::new, |name| format!(" beside {name}"));
        let verdict = named.verdict.unwrap_or("no verdict");
        line(
            "audit",
            format!(
                "{}{against}, policy {}, by candlescope {}: {verdict}",
                named.subject, named.policy, named.tool_version
            ),
        );
        line("id", named.id.clone());
    }
    line("integrity", integrity(said));
    for finding in said.findings.iter().take(SHOWN) {
        line("", format!("{}: {}", finding.member, finding.problem));
    }
    line(
        "signature",
        match (&said.signature.by, &said.signature.problem) {
            (_, Some(problem)) => format!("does not hold: {problem}"),
            (Some(by), None) => format!("by {by}"),
            (None, None) => "none".to_owned(),
        },
    );
    line("numbers", numbers(said));
    let first = said.recomputed.iter().flat_map(|compared| &compared.first);
    for differs in said.another.iter().chain(first).take(SHOWN) {
        line("", difference(differs));
    }
    for other in said
        .recomputed
        .iter()
        .flat_map(|compared| &compared.conditions)
    {
        line(
            "not the same",
            format!(
                "{}: {} in the bundle, {} here",
                other.what, other.bundle, other.here
            ),
        );
    }
    let mut table = super::Table::new([said.file.as_str(), conclusion(said)]);
    for row in lines {
        table.row(row);
    }
    table.print(out)
}

fn integrity(said: &Verification) -> String {
    match (said.findings.len(), &said.bundle) {
        (0, Some(named)) => format!("whole: {} files, every hash holds", named.members),
        (0, None) => "not checked".to_owned(),
        (1, _) => "broken in 1 place".to_owned(),
        (n, _) => format!("broken in {n} places"),
    }
}

fn numbers(said: &Verification) -> String {
    if !said.another.is_empty() {
        return "not recomputed: this is another model than the one that was audited".to_owned();
    }
    match &said.recomputed {
        None if said.findings.is_empty() => {
            "nothing was recomputed; give --model to make the audit again".to_owned()
        }
        None => "nothing was recomputed, because the bundle is broken".to_owned(),
        Some(compared) => match compared.differences {
            0 => "the same to the bit, all of them, made again here".to_owned(),
            n => {
                let count = if n == 1 {
                    "1 differs".to_owned()
                } else {
                    format!("{n} differ")
                };
                let signals: Vec<_> = compared.signals.iter().map(String::as_str).collect();
                let signals = match signals.as_slice() {
                    [] => "no quantity among them".to_owned(),
                    ids => format!("in quantities and items of {}", ids.join(", ")),
                };
                format!("{count} from what was made again here; {signals}; first:")
            }
        },
    }
}

fn difference(differs: &Difference) -> String {
    format!(
        "{}: {}: {} in the bundle, {} here",
        differs.member, differs.at, differs.bundle, differs.here
    )
}

fn conclusion(said: &Verification) -> &'static str {
    match (said.verified, &said.recomputed) {
        (true, Some(_)) => "VERIFIED",
        (true, None) => "WHOLE, NOT RECOMPUTED",
        (false, _) => "NOT VERIFIED",
    }
}
