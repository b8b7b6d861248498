//! Opens a bundle that anybody may have written, and says what in it does not hold together.
//!
//! Always: nothing is read beyond its bound; an error means that there is no bundle to speak of, a [`Finding`] that there is
//! one and something in it was changed. Whether its numbers are true only a second audit tells: [`super::verify`].

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::manifest::Manifest;
use super::raw::{self, Prompt};
use super::{
    AUDIT, Bundle, BundleError, EVIDENCE, LIMIT, MANIFEST, MEMBERS, POLICY, PROMPTS, RUN, SOURCE,
    Settings, tar,
};
use crate::audit::policy::{self, Policy, Sizes};
use crate::audit::report::json;
use crate::audit::result::Audit;

/// Something in a bundle that does not hold.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The member it was found in.
    pub member: String,
    /// What is wrong.
    pub problem: String,
}

impl Finding {
    fn new(member: &str, problem: impl ToString) -> Self {
        Self {
            member: member.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// The bytes of a file, at most `limit` of them.
///
/// # Errors
/// The system refuses, or the file is larger.
pub fn load(path: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    // The length that the system gives is no bound: a pipe or a device has none.
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(BundleError::io(path, "read"))?;
    if read as u64 > limit {
        return Err(BundleError::TooLarge {
            file: path.to_owned(),
            what,
            limit,
        });
    }
    Ok(bytes)
}

/// The bytes of a bundle's file.
///
/// # Errors
/// As [`load`].
pub fn load_bundle(path: &Path) -> Result<Vec<u8>, BundleError> {
    load(path, LIMIT, "bundle")
}

impl Bundle {
    /// Reads the tar of a bundle.
    ///
    /// # Errors
    /// Another tar, a member that is missing, a manifest that is none.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let members = tar::read(bytes)?;
        let lacking = |kind: &&super::Kind| kind.required && !members.contains_key(kind.name);
        if let Some(kind) = MEMBERS.iter().find(lacking) {
            return Err(BundleError::member(kind.name, "file", kind.what, "nothing"));
        }
        let text = members.get(MANIFEST).map_or(&[][..], Vec::as_slice);
        let manifest = Manifest::parse(text)?;
        Ok(Self { members, manifest })
    }

    /// The audit in it.
    ///
    /// # Errors
    /// It is none.
    pub fn audit(&self) -> Result<Audit, BundleError> {
        Ok(json::parse(self.text(AUDIT)?, AUDIT)?)
    }

    /// How the audit was run.
    ///
    /// # Errors
    /// An unknown key, another schema.
    pub fn settings(&self) -> Result<Settings, BundleError> {
        let read: Settings = serde_json::from_slice(self.member(RUN))
            .map_err(|error| BundleError::member(RUN, "text", "the options of an audit", error))?;
        if read.schema == Settings::SCHEMA {
            Ok(read)
        } else {
            Err(BundleError::member(
                RUN,
                "schema",
                Settings::SCHEMA,
                read.schema,
            ))
        }
    }

    /// The policy that judged it, under the name and hash that the audit gives.
    ///
    /// # Errors
    /// It is none.
    pub fn policy(&self) -> Result<Policy, BundleError> {
        let mut policy = Policy::parse(self.text(POLICY)?, POLICY)?;
        policy.id = self.manifest.policy.clone();
        Ok(policy)
    }

    /// The policy's text as it was given.
    ///
    /// # Errors
    /// It is no text.
    pub fn source(&self) -> Result<&str, BundleError> {
        self.text(SOURCE)
    }

    fn text(&self, name: &'static str) -> Result<&str, BundleError> {
        std::str::from_utf8(self.member(name))
            .map_err(|error| BundleError::member(name, "text", "UTF-8", error))
    }

    /// Whether this program is the version that made it; another may have another default policy.
    pub fn same_version(&self) -> bool {
        self.manifest.tool_version == env!("CARGO_PKG_VERSION")
    }

    /// Everything that does not hold together.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut note = |member: &str, checked: Result<(), BundleError>| {
            findings.extend(checked.err().map(|error| Finding::new(member, error)));
        };
        note(EVIDENCE, self.check_evidence());
        note(PROMPTS, self.check_prompts());
        note(RUN, self.settings().map(|_| ()));
        match self.audit() {
            Ok(audit) => findings.extend(self.against(&audit)),
            Err(error) => note(AUDIT, Err(error)),
        }
        match self.check_policy() {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::new(POLICY, error)),
        }
        findings
    }

    /// The manifest beside the one that its members call for.
    fn against(&self, audit: &Audit) -> Vec<Finding> {
        let wanted = Manifest::new(audit, &self.members);
        let mut findings = Vec::new();
        for member in &self.manifest.members {
            let there = wanted
                .members
                .iter()
                .find(|other| other.name == member.name);
            let problem = match there {
                None => "listed in bundle.json and not there".to_owned(),
                Some(there) if there.sha256 != member.sha256 => {
                    format!(
                        "its SHA-256 is {}, bundle.json says {}",
                        there.sha256, member.sha256
                    )
                }
                Some(there) if there.size != member.size => {
                    format!(
                        "it has {} bytes, bundle.json says {}",
                        there.size, member.size
                    )
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(&member.name, problem));
        }
        let names = |manifest: &Manifest| -> Vec<String> {
            manifest
                .members
                .iter()
                .map(|member| member.name.clone())
                .collect()
        };
        let listed = names(&self.manifest);
        let unlisted = names(&wanted)
            .into_iter()
            .filter(|name| !listed.contains(name));
        findings.extend(
            unlisted.map(|name| Finding::new(&name, "there and not listed in bundle.json")),
        );
        if findings.is_empty() && self.manifest.members != wanted.members {
            findings.push(Finding::new(
                MANIFEST,
                "its members are listed twice or out of order",
            ));
        }
        let plain = |manifest: &Manifest| {
            let alone = Manifest {
                members: Vec::new(),
                ..manifest.clone()
            };
            serde_json::to_value(alone).unwrap_or_default()
        };
        let differ = super::compare::differences(MANIFEST, &plain(&self.manifest), &plain(&wanted));
        findings.extend(differ.into_iter().map(|differs| {
            let problem = format!(
                "{}: {}, audit.json says {}",
                differs.at, differs.bundle, differs.here
            );
            Finding::new(MANIFEST, problem)
        }));
        findings
    }

    fn check_evidence(&self) -> Result<(), BundleError> {
        let read: Value = serde_json::from_slice(self.member(EVIDENCE))
            .map_err(|error| BundleError::member(EVIDENCE, "text", "JSON", error))?;
        match read.get("schema") {
            Some(Value::String(schema)) if schema == raw::SCHEMA => Ok(()),
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                Err(BundleError::member(EVIDENCE, "schema", raw::SCHEMA, found))
            }
        }
    }

    fn check_prompts(&self) -> Result<(), BundleError> {
        for (i, line) in self.text(PROMPTS)?.lines().enumerate() {
            serde_json::from_str::<Prompt>(line).map_err(|error| {
                BundleError::member(PROMPTS, format!("line {}", i + 1), "a prompt's hash", error)
            })?;
        }
        Ok(())
    }

    /// Whether the policy written out is the one given, under the name and hash that the audit names.
    fn check_policy(&self) -> Result<Vec<Finding>, BundleError> {
        let (source, written) = (self.source()?, self.text(POLICY)?);
        let read = Policy::parse(written, POLICY)?;
        if !self.same_version() {
            // What it extends may have been another text then.
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        let given = Policy::parse(source, SOURCE)?;
        if given.id != self.manifest.policy {
            let problem = format!(
                "it is `{}` with hash {}, bundle.json says `{}` with {}",
                given.id.name, given.id.hash, self.manifest.policy.name, self.manifest.policy.hash
            );
            findings.push(Finding::new(SOURCE, problem));
        }
        let sizes = self.sizes(given.sizes);
        if policy::resolved(source, SOURCE, sizes)? != written {
            let problem = format!(
                "it is not {SOURCE} written out{}",
                if read.sizes == sizes {
                    ""
                } else {
                    ": its sizes are others"
                }
            );
            findings.push(Finding::new(POLICY, problem));
        }
        Ok(findings)
    }

    fn sizes(&self, given: Sizes) -> Sizes {
        match self.settings() {
            Ok(settings) if settings.quick => given.quick(),
            _ => given,
        }
    }
}
