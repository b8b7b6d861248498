//! `audit export`: an audit in the words of others.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    audit::{
        bundle::{Bundle, read::load_bundle},
        report::{card, card::BundleName, inspect, json},
        result::Audit,
    },
    cli::{failure::Usage, output::Out},
    files::{hash::sha256, write::write_atomic},
};

/// Write an audit as a log of Inspect, or as a section of a model card
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope audit export out/audit.json --to inspect --out log.json
  candlescope audit export audit.tar --to card >> README.md")]
pub struct Args {
    /// An audit.json, or a bundle of `audit run --bundle`
    audit: PathBuf,
    /// What to write
    #[arg(long, value_enum, value_name = "FORM")]
    to: Form,
    /// Where to [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What an audit can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// An evaluation log of inspect_ai, JSON, version 2
    Inspect,
    /// A section of a model card, Markdown
    Card,
}

#[derive(Serialize)]
struct Exported {
    form: String,
    file: Option<String>,
    text: Option<String>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<()> {
    let (audit, bundle) = load(&args.audit)?;
    let text = match args.to {
        Form::Inspect => inspect::render(&audit, bundle.as_ref().map(|named| named.id.as_str()))?,
        Form::Card => card::render(&audit, bundle.as_ref()),
    };
    if let Some(path) = &args.out {
        write_atomic(path, text.as_bytes())?;
    }
    if out.json {
        let form = args.to.to_possible_value();
        let exported = Exported {
            form: form
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default(),
            file: args.out.as_ref().map(|path| path.display().to_string()),
            text: args.out.is_none().then_some(text),
        };
        return out.json("candlescope.audit.export/1", &exported);
    }
    match &args.out {
        Some(path) => {
            out.note(&format!("written: {}", path.display()));
            Ok(())
        }
        None => out.text(&text),
    }
}

/// The audit of a report or of a bundle; a bundle must hold.
fn load(path: &Path) -> anyhow::Result<(Audit, Option<BundleName>)> {
    let bytes = load_bundle(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok((json::load(path)?, None));
    }
    let bundle = Bundle::read(&bytes).map_err(|error| {
        Usage::new(
            format!("{}: {error}", path.display()),
            "give an audit.json of `audit run --report` or a bundle of `audit run --bundle`",
        )
    })?;
    if let Some(finding) = bundle.findings().into_iter().next() {
        return Err(Usage::new(
            format!(
                "{}: {}: {}",
                path.display(),
                finding.member,
                finding.problem
            ),
            "`candlescope audit verify` lists everything that does not hold",
        )
        .into());
    }
    let file = path.file_name().unwrap_or(path.as_os_str());
    let named = BundleName {
        file: file.to_string_lossy().into_owned(),
        id: bundle.id(),
        sha256: sha256(&bytes),
    };
    Ok((bundle.audit()?, Some(named)))
}
