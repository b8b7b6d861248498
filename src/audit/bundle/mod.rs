//! The evidence bundle of an audit: one file from which a third party checks the audit, and makes it again bit for bit.
//!
//! Always: a bundle shows no more of prompts and completions than the report does, and no path of the machine it was made
//! on; its tar has one form only; every member's hash is in `bundle.json`, and everything that `bundle.json` says can be
//! read in another member too, so a change of any byte shows. Made by [`pack`], opened by [`read`], held against a second
//! audit by [`verify`], signed by [`sign`]. The members: [`MEMBERS`].

pub mod compare;
pub mod manifest;
pub mod pack;
pub mod raw;
pub mod read;
pub mod sign;
pub mod tar;
pub mod verify;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::policy::PolicyError;
use super::report::ReportError;
use crate::files::FileError;
use crate::files::hash::sha256;
use manifest::Manifest;

/// A file of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The most bytes of it that are read.
    pub limit: u64,
    /// Whether a bundle without it is none.
    pub required: bool,
    /// What it is, for people.
    pub what: &'static str,
}

const MIB: u64 = 1 << 20;

/// The audit as the report writes it.
pub const AUDIT: &str = "audit.json";
/// What the bundle is, with the hash of every other member.
pub const MANIFEST: &str = "bundle.json";
/// The refusal direction of the checkpoint under audit.
pub const DIRECTION: &str = "direction.safetensors";
/// Numbers prompt by prompt.
pub const EVIDENCE: &str = "evidence.json";
/// The policy as it was given.
pub const SOURCE: &str = "policy.source.toml";
/// The policy with nothing left to fill in.
pub const POLICY: &str = "policy.toml";
/// The probes for harmfulness.
pub const PROBES: &str = "probes.safetensors";
/// Prompts by id and hash.
pub const PROMPTS: &str = "prompts.jsonl";
/// How the audit was run.
pub const RUN: &str = "run.json";

/// The files that a bundle may hold, in its order.
pub const MEMBERS: [Kind; 9] = [
    kind(AUDIT, 64 * MIB, true, "the audit as its report writes it"),
    kind(
        MANIFEST,
        MIB,
        true,
        "what made it, of what, and the hash of every other file",
    ),
    kind(
        DIRECTION,
        16 * MIB,
        false,
        "the refusal direction of the checkpoint under audit",
    ),
    kind(
        EVIDENCE,
        128 * MIB,
        true,
        "numbers and labels prompt by prompt",
    ),
    kind(SOURCE, MIB, true, "the policy as it was given"),
    kind(POLICY, MIB, true, "the policy with nothing left to fill in"),
    kind(PROBES, 64 * MIB, false, "the probes for harmfulness"),
    kind(
        PROMPTS,
        64 * MIB,
        true,
        "ids, labels, splits and hashes of the prompts, no texts",
    ),
    kind(RUN, MIB, true, "the options that say what was audited"),
];

const fn kind(name: &'static str, limit: u64, required: bool, what: &'static str) -> Kind {
    Kind {
        name,
        limit,
        required,
        what,
    }
}

/// The most bytes of a bundle that are read.
pub const LIMIT: u64 = 256 * MIB;

/// Why a bundle could not be made, read or signed.
#[derive(thiserror::Error, Debug)]
pub enum BundleError {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file larger than any bundle.
    #[error("{}: larger than {limit} bytes, and no {what} is; was another file meant?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The most that is read.
        limit: u64,
    },
    /// Not the tar that candlescope writes.
    #[error("not the tar of a bundle: at byte {at}: expected {expected}, found {found}")]
    Tar {
        /// Where.
        at: usize,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// A member that is not what it should be.
    #[error("{member}: {field}: expected {expected}, found {found}")]
    Member {
        /// The member.
        member: &'static str,
        /// Where in it.
        field: String,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// A key or signature that cannot be read.
    #[error("{}: expected {expected}, found {found}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// A file that is there already and is not replaced.
    #[error("{}: is there already, and {what} is never replaced; give another name, or move it away", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Writing failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The audit in it cannot be read or written.
    #[error(transparent)]
    Audit(#[from] ReportError),
    /// The policy in it cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl BundleError {
    fn io(file: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            file,
            action,
            source,
        }
    }

    fn member(
        member: &'static str,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Member {
            member,
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// A bundle in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    members: tar::Members,
    manifest: Manifest,
}

impl Bundle {
    /// The tar.
    pub fn bytes(&self) -> Vec<u8> {
        tar::write(&self.members)
    }

    /// What identifies it: SHA-256 of `bundle.json`, in hex.
    pub fn id(&self) -> String {
        sha256(self.member(MANIFEST))
    }

    /// What `bundle.json` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a member; none of one that is not there.
    pub fn member(&self, name: &str) -> &[u8] {
        self.members.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The options that say what was audited, as far as they name no file: with them and the files, the audit is made again.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Always [`Settings::SCHEMA`].
    pub schema: String,
    /// `--quick`; what it changes is in `policy.toml`.
    pub quick: bool,
    /// `--dtype bf16`.
    pub bf16: bool,
    /// `--accept-foreign-direction`.
    pub accept_foreign: bool,
    /// `--accept-config-key`.
    pub accept_config_keys: Vec<String>,
    /// `--perturb`.
    pub perturb: Option<String>,
    /// `--zero`.
    pub zero: Vec<String>,
    /// `--knockout`.
    pub knockout: Vec<String>,
    /// Options that name files, each with the last part of its path: whoever makes the audit again gives them again.
    pub files: Vec<String>,
}

impl Settings {
    /// The version of the layout.
    pub const SCHEMA: &'static str = "candlescope.bundle.run/1";
}

#[cfg(test)]
mod tests;
