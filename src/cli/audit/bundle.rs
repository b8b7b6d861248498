//! `audit run --bundle`: the evidence of an audit into one file, signed where a key was given.
//!
//! Always: that file and key can be used is known before the work; an interrupted audit leaves no bundle.

use std::path::{Path, PathBuf};

use super::run::{self, Job};
use crate::{
    audit::{
        bundle::{
            Bundle, Settings,
            pack::{Parts, pack},
            sign::{self, SecretKey},
        },
        policy::{self, Policy},
        runner,
    },
    cli::{args::Dtype, failure::Usage, output::Out},
    files::write::write_atomic,
};

/// A bundle to be written.
pub(super) struct Bundling {
    path: PathBuf,
    key: Option<SecretKey>,
    source: String,
    settings: Settings,
}

impl Bundling {
    /// The bundle that the options ask for.
    pub(super) fn new(args: &run::Args) -> anyhow::Result<Option<Self>> {
        let Some(path) = &args.bundle else {
            return Ok(None);
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(Usage::new(
                format!("--bundle {}: no file can be written there", path.display()),
                "give the name of a file in a folder that is there",
            )
            .into());
        }
        let signature = sign::place(path);
        if args.sign.is_none() && signature.exists() {
            return Err(Usage::new(
                format!(
                    "{}: a signature of another bundle is there",
                    signature.display()
                ),
                "sign this one too (--sign KEY), give another name, or move the signature away",
            )
            .into());
        }
        Ok(Some(Self {
            path: path.clone(),
            key: args.sign.as_deref().map(SecretKey::load).transpose()?,
            source: match &args.policy {
                Some(path) => policy::text_of(path)?,
                None => policy::DEFAULT.to_owned(),
            },
            settings: settings(args),
        }))
    }

    /// Writes it, and its signature.
    pub(super) fn write(
        &self,
        job: &Job,
        policy: &Policy,
        audited: &runner::Outcome,
        out: &Out,
    ) -> anyhow::Result<()> {
        let bundle = of(job, policy, audited, &self.source, &self.settings)?;
        let bytes = bundle.bytes();
        write_atomic(&self.path, &bytes)?;
        out.note(&format!("{}: bundle {}", self.path.display(), bundle.id()));
        if let Some(key) = &self.key {
            signed(&self.path, &bytes, key, out)?;
        }
        Ok(())
    }
}

/// The bundle of an audit that was run.
pub(super) fn of(
    job: &Job,
    policy: &Policy,
    audited: &runner::Outcome,
    source: &str,
    settings: &Settings,
) -> anyhow::Result<Bundle> {
    let direction = run::direction(audited, &job.subject)?;
    Ok(pack(&Parts {
        audit: &audited.audit,
        raw: &audited.raw,
        direction: direction.as_ref(),
        policy: source,
        sizes: policy.sizes,
        settings,
    })?)
}

/// Writes the signature of a bundle's bytes beside its file.
pub(super) fn signed(
    bundle: &Path,
    bytes: &[u8],
    key: &SecretKey,
    out: &Out,
) -> anyhow::Result<PathBuf> {
    let place = sign::place(bundle);
    write_atomic(&place, key.sign(bytes).render().as_bytes())?;
    out.note(&format!("{}: signed by {}", place.display(), key.public()));
    Ok(place)
}

/// The options that say what is audited.
pub(super) fn settings(args: &run::Args) -> Settings {
    let mut files = Vec::new();
    let mut option = |flag: &str, spec: Option<String>| {
        files.extend(spec.map(|spec| format!("{flag} {}", run::name(&spec))));
    };
    let path = |path: &PathBuf| path.display().to_string();
    for (flag, specs) in [("--suite", &args.suite), ("--trials", &args.trials)] {
        for spec in specs {
            let (key, file) = spec.split_once('=').unwrap_or((spec, ""));
            option(flag, Some(format!("{key}={}", run::name(file))));
        }
    }
    option("--dictionary", args.dictionary.as_ref().map(path));
    option("--refit", args.refit.as_ref().map(path));
    option("--refit-control", args.refit_control.as_ref().map(path));
    option("--crosscoder", args.crosscoder.as_ref().map(path));
    for file in &args.pairs {
        option("--pairs", Some(path(file)));
    }
    option("--pairs-columns", args.pairs_columns.clone());
    option("--pairs-chat", args.pairs_chat.then(String::new));
    for folder in &args.reward {
        option("--reward", Some(path(folder)));
    }
    option("--base", args.model.how.found.base.clone());
    for spec in &args.edits.latents {
        option("--latents", Some(run::turned(spec)));
    }
    for file in &args.edits.edit {
        option("--edit", Some(path(file)));
    }
    for [flag, spec] in args.edits.steerings().into_iter().map(run::without_folder) {
        option(&flag, Some(spec));
    }
    Settings {
        schema: Settings::SCHEMA.to_owned(),
        quick: args.quick,
        bf16: args.model.how.dtype == Dtype::Bf16,
        accept_foreign: args.edits.accept_foreign_direction,
        accept_config_keys: args.model.how.found.accept_config_key.clone(),
        perturb: args.perturb.clone(),
        zero: args.edits.zero.clone(),
        knockout: args.edits.knockout.clone(),
        files,
    }
}
