//! `bundle.json`: what made the bundle, of what, and the hash of every other member.
//!
//! Always: it is written in one form, and every field but the list of members repeats what `audit.json` says, so that
//! neither can be changed alone.

use serde::{Deserialize, Serialize};

use super::tar::Members;
use super::{BundleError, MANIFEST};
use crate::audit::result::{Audit, DictionaryUsed, ModelCard, PolicyId};
use crate::files::hash::sha256;

/// The version of the layout; a reader refuses another.
pub const SCHEMA: &str = "candlescope.bundle/1";

/// What `bundle.json` says.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The version of candlescope that made it.
    pub tool_version: String,
    /// Which kernels ran.
    pub numerical_path: String,
    /// Threads used; the bits do not depend on them.
    pub threads: usize,
    /// The seed of every random choice.
    pub seed: u64,
    /// The command, without paths.
    pub command: String,
    /// The checkpoint under audit.
    pub subject: ModelCard,
    /// The checkpoint it was paired with.
    pub baseline: Option<ModelCard>,
    /// The policy, and the hash of its text.
    pub policy: PolicyId,
    /// The dictionaries, and their hashes.
    pub dictionaries: Vec<DictionaryUsed>,
    /// Every other member, by name.
    pub members: Vec<Member>,
}

/// One member of the bundle.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

impl Manifest {
    /// Of an audit and the members beside the manifest itself.
    pub fn new(audit: &Audit, members: &Members) -> Self {
        let listed = members.iter().filter(|(name, _)| *name != MANIFEST);
        Self {
            schema: SCHEMA.to_owned(),
            tool_version: audit.tool_version.clone(),
            numerical_path: audit.provenance.numerical_path.clone(),
            threads: audit.provenance.threads,
            seed: audit.provenance.seed,
            command: audit.provenance.command.clone(),
            subject: audit.subject.clone(),
            baseline: audit.baseline.clone(),
            policy: audit.policy.clone(),
            dictionaries: audit.provenance.dictionaries.clone(),
            members: listed
                .map(|(name, data)| Member {
                    name: name.clone(),
                    size: data.len() as u64,
                    sha256: sha256(data),
                })
                .collect(),
        }
    }

    /// Its text.
    ///
    /// # Errors
    /// None for what [`Manifest::new`] makes.
    pub fn render(&self) -> Result<String, BundleError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| foreign(&error))?;
        Ok(text + "\n")
    }

    /// Reads what [`Manifest::render`] wrote, and nothing else.
    ///
    /// # Errors
    /// Another schema, an unknown key, or another way to write the same.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Header {
            schema: String,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(|error| foreign(&error))?;
        if header.schema != SCHEMA {
            return Err(BundleError::member(
                MANIFEST,
                "schema",
                SCHEMA,
                header.schema,
            ));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(|error| foreign(&error))?;
        if read.render()?.as_bytes() == bytes {
            Ok(read)
        } else {
            Err(BundleError::member(
                MANIFEST,
                "text",
                "the one form that candlescope writes",
                "another way to write it",
            ))
        }
    }
}

fn foreign(error: &serde_json::Error) -> BundleError {
    BundleError::member(MANIFEST, "text", "the manifest of a bundle", error)
}
