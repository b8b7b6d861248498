//! The policies of a pipeline's audits: read from where the plan says when it is begun, and from the pipeline's folder ever after.
//!
//! Always: what a checkpoint was audited by lies in the folder, so neither the working directory, nor a file that was changed
//! since, nor another version's built-in policy changes what a pipeline that goes on asks.

use std::path::{Path, PathBuf};

use super::PipelineError;
use super::folder;
use super::plan::Auditing;
use crate::audit::catalogue::{self, Artefact};
use crate::audit::policy::{self, Policy, PolicyError};
use crate::files::write::write_atomic;

/// The name of the built-in policy.
const DEFAULT: &str = "default";

/// The policies of a pipeline, read before anything runs.
#[derive(Debug, Clone)]
pub struct Policies {
    /// After each checkpoint.
    pub checkpoint: Option<Policy>,
    /// At a stage's end.
    pub end: Option<Policy>,
}

/// Their texts with the keys of the plan that name them.
pub(super) struct Texts(Vec<(&'static str, String)>);

/// The keys of the plan with what they name.
fn named(auditing: &Auditing) -> impl Iterator<Item = (&'static str, &str)> {
    let both = [("checkpoint", &auditing.checkpoint), ("end", &auditing.end)];
    both.into_iter()
        .filter_map(|(key, name)| Some((key, name.as_deref()?)))
}

/// Where a pipeline's folder keeps a policy.
fn place(root: &Path, key: &str) -> PathBuf {
    folder::policies(root).join(format!("{key}.toml"))
}

impl Texts {
    /// What the plan names.
    ///
    /// # Errors
    /// A file that is not there, or is no policy: an unknown signal, a limit without a meaning.
    pub fn read(auditing: &Auditing) -> Result<Self, PipelineError> {
        let each = named(auditing).map(|(key, name)| {
            let text = if name == DEFAULT {
                policy::DEFAULT.to_owned()
            } else {
                policy::text_of(Path::new(name))?
            };
            Policy::parse(&text, name)?;
            Ok((key, text))
        });
        Ok(Self(each.collect::<Result<_, PolicyError>>()?))
    }

    /// Writes them into a pipeline's folder.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, root: &Path) -> Result<(), PipelineError> {
        folder::make(&folder::policies(root))?;
        for (key, text) in &self.0 {
            write_atomic(&place(root, key), text.as_bytes())?;
        }
        Ok(())
    }
}

impl Policies {
    /// Those of a pipeline's folder; of one that was begun before folders had them, what its plan names.
    ///
    /// # Errors
    /// A file that is not there, or is no policy.
    pub fn of(root: &Path, auditing: &Auditing) -> Result<Self, PipelineError> {
        let mut found = Self {
            checkpoint: None,
            end: None,
        };
        for (key, name) in named(auditing) {
            let kept = place(root, key);
            let policy = match name {
                _ if kept.is_file() => Policy::load(&kept)?,
                DEFAULT => Policy::built_in()?,
                path => Policy::load(Path::new(path))?,
            };
            let at = if key == "end" {
                &mut found.end
            } else {
                &mut found.checkpoint
            };
            *at = Some(policy);
        }
        Ok(found)
    }

    /// Whether any of them has a signal that reads this.
    pub fn ask(&self, artefact: Artefact) -> bool {
        let mut both = [&self.checkpoint, &self.end].into_iter().flatten();
        both.any(|policy| asks(policy, artefact))
    }
}

/// Whether a policy has a signal that reads this.
pub(super) fn asks(policy: &Policy, artefact: Artefact) -> bool {
    let reads = |entry: &&catalogue::Entry| entry.artefacts.contains(&artefact);
    let mut readers = catalogue::SIGNALS.iter().filter(reads);
    readers.any(|entry| policy.enabled(entry.id).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_kept_is_read_wherever_the_file_went() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, "extends = 'default'\nname = 'mine'\n").unwrap();
        let auditing = Auditing {
            checkpoint: Some(file.display().to_string()),
            ..Auditing::default()
        };
        let root = dir.path().join("run");
        // A folder of before: what the plan names.
        let named = Policies::of(&root, &auditing).unwrap();
        assert_eq!(named.checkpoint.as_ref().unwrap().id.name, "mine");
        Texts::read(&auditing).unwrap().write(&root).unwrap();
        std::fs::remove_file(&file).unwrap();
        let error = Texts::read(&auditing).err().unwrap().to_string();
        assert!(error.contains("mine.toml"), "{error}");
        let moved = dir.path().join("moved");
        std::fs::rename(&root, &moved).unwrap();
        let kept = Policies::of(&moved, &auditing).unwrap();
        // By name, hash and content.
        assert_eq!(kept.checkpoint, named.checkpoint);
        assert_eq!(kept.end, Some(Policy::built_in().unwrap()));
        assert!(Policies::of(&root, &auditing).is_err());
    }

    #[test]
    fn a_policy_asks_for_what_its_signals_read() {
        let policy = |more: &str| {
            let text = format!("name = 'x'\nextends = 'default'\n{more}");
            Policy::parse(&text, "x").unwrap()
        };
        assert!(asks(&policy(""), Artefact::Dictionary));
        assert!(asks(&policy(""), Artefact::Refit));
        let none = policy("[signals.decoder_rotation]\nenabled = false\n");
        assert!(asks(&none, Artefact::Dictionary) && !asks(&none, Artefact::Refit));
    }
}
