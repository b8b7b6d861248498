//! A run in a folder, as every command that trains takes it: its config, where it is, and whether it goes on.

use std::path::{Path, PathBuf};

use super::failure::Usage;
use crate::train::{RunFolder, folder};

/// What every run takes.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// The config; not needed to resume
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The run's folder [default: runs/NAME, after the config's file name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in that folder from its last checkpoint
    #[arg(long)]
    pub resume: bool,
    /// A value over the config's, as SECTION.KEY=VALUE; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Use what is in the cache only
    #[arg(long)]
    pub offline: bool,
}

impl RunArgs {
    /// The run's folder.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let name = self.config.as_deref().and_then(Path::file_stem);
        let name = name.ok_or_else(|| {
            Usage::new(
                "neither a config nor a run's folder was named",
                "-c run.toml begins a run; --resume --out DIR goes on with one",
            )
        })?;
        Ok(Path::new("runs").join(name))
    }

    /// The config to read: the file given, or that of the run that goes on.
    pub fn config_file(&self, root: &Path) -> anyhow::Result<PathBuf> {
        match (&self.config, self.resume) {
            (Some(path), _) => Ok(path.clone()),
            (None, true) => {
                RunFolder::open(root)?;
                Ok(root.join(folder::CONFIG))
            }
            (None, false) => Err(Usage::new(
                "no config was given",
                "-c run.toml names it; --resume goes on with the run in --out",
            )
            .into()),
        }
    }

    /// The config that the run began with, where it goes on with another file: templates are told the day of its beginning.
    pub fn begun(&self, root: &Path) -> Option<PathBuf> {
        let of_run = root.join(folder::CONFIG);
        (self.resume && self.config.is_some() && of_run.exists()).then_some(of_run)
    }
}
