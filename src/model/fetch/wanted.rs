//! What a person means by the name of a model: a path, a known short name, a model in this binary, or an
//! address on the hub.
//! A known short name wins over a file of the same name in the current folder; `./NAME` means the file.
//! Next: `mod.rs` turns what is wanted into a path.

use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::known::{KNOWN, KnownModel, known};
use crate::model::built_in::{BUILT_IN, BuiltIn, built_in};
use crate::model::toy;

/// What a model's name stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A file or folder on this machine.
    Path(PathBuf),
    /// A model of the table in `known.rs`.
    Known(&'static KnownModel),
    /// A model in this binary.
    BuiltIn(&'static BuiltIn),
    /// A repository on the Hugging Face hub.
    Hub {
        /// Organisation or user.
        org: String,
        /// Repository.
        name: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl std::fmt::Display for Wanted {
    /// The text that `parse` reads back as the same.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Known(model) => f.write_str(model.name),
            Self::BuiltIn(model) => f.write_str(model.name),
            Self::Hub {
                org,
                name,
                revision,
            } if revision == "main" => write!(f, "{org}/{name}"),
            Self::Hub {
                org,
                name,
                revision,
            } => write!(f, "{org}/{name}@{revision}"),
        }
    }
}

impl Wanted {
    /// Reads `smollm2-135m-instruct`, `org/name`, `org/name@revision` or a path.
    pub fn parse(spec: &str) -> Result<Self, FetchError> {
        if let Some(model) = known(spec) {
            return Ok(Self::Known(model));
        }
        if let Some(model) = built_in(spec) {
            return Ok(Self::BuiltIn(model));
        }
        if !spec.is_empty() && (looks_like_path(spec) || Path::new(spec).exists()) {
            return Ok(Self::Path(PathBuf::from(spec)));
        }
        if spec.contains('/') {
            return hub_address(spec);
        }
        Err(FetchError::UnknownName {
            spec: spec.to_owned(),
            near: near_names(spec, names()),
            known: names().collect(),
        })
    }
}

/// Short names, those that need no network among them: whoever opens models looks for these first.
fn names() -> impl Iterator<Item = &'static str> {
    let known = KNOWN.iter().map(|model| model.name);
    let built_in = BUILT_IN.iter().map(|model| model.name);
    known.chain(built_in).chain([toy::NAME])
}

/// Whether the text can only be a path, so that a missing file is reported as such and not looked up on the hub.
fn looks_like_path(spec: &str) -> bool {
    let extension = Path::new(spec)
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    spec.starts_with(['/', '.', '~', '\\'])
        || spec.ends_with('/')
        || spec.contains('\\')
        || extension.eq_ignore_ascii_case("gguf")
        || extension.eq_ignore_ascii_case("safetensors")
        || spec.bytes().filter(|b| *b == b'/').count() > 1 && !spec.contains('@')
}

fn hub_address(spec: &str) -> Result<Wanted, FetchError> {
    let bad = |reason| FetchError::BadAddress {
        spec: spec.to_owned(),
        reason,
    };
    let (repo, revision) = match spec.split_once('@') {
        Some((repo, revision)) => (repo, revision),
        None => (spec, "main"),
    };
    let Some((org, name)) = repo.split_once('/') else {
        return Err(bad("there is no slash between organisation and name"));
    };
    for part in [org, name] {
        if !is_plain(part) {
            return Err(bad(
                "names have letters, digits, `.`, `_` and `-` only, at most 96, and no `..` or `--`",
            ));
        }
    }
    let parts = revision.split('/');
    if revision.len() > 96 || parts.clone().count() > 4 || !parts.clone().all(is_plain) {
        return Err(bad("the revision is not a branch, tag or commit"));
    }
    Ok(Wanted::Hub {
        org: org.to_owned(),
        name: name.to_owned(),
        revision: revision.to_owned(),
    })
}

/// The hub's rule for names, which also makes them safe as folder names. `--` is excluded there, so it can separate.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 96
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
        && !part.contains("..")
        && !part.contains("--")
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Names that begin with, contain or are a few letters away from `spec`, at most three.
pub(super) fn near_names<'a>(spec: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let spec = spec.to_lowercase();
    if spec.is_empty() || spec.len() > 200 {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let away = edit_distance(&spec, &lower);
            let inside = spec.len() >= 3 && lower.contains(&spec);
            (inside || away <= lower.len() / 3).then_some((away, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Levenshtein's distance in bytes, one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(org: &str, name: &str, revision: &str) -> Wanted {
        Wanted::Hub {
            org: org.into(),
            name: name.into(),
            revision: revision.into(),
        }
    }

    #[test]
    fn the_three_kinds_are_told_apart() {
        assert!(
            matches!(Wanted::parse("SmolLM2-135M-Instruct").unwrap(), Wanted::Known(m) if m.org == "HuggingFaceTB")
        );
        assert_eq!(
            Wanted::parse("org/name").unwrap(),
            hub("org", "name", "main")
        );
        assert_eq!(
            Wanted::parse("Qwen/Qwen2.5-0.5B@refs/pr/1").unwrap(),
            hub("Qwen", "Qwen2.5-0.5B", "refs/pr/1")
        );
        for path in [
            "./smollm2-135m-instruct",
            "a/b/c",
            "missing.gguf",
            "org/name.safetensors",
            "../x",
            "/tmp/x",
            "dir/",
        ] {
            assert_eq!(
                Wanted::parse(path).unwrap(),
                Wanted::Path(PathBuf::from(path)),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for spec in [
            "org/name@v1.0",
            "org/name",
            "smollm2-135m-instruct",
            "./x.gguf",
        ] {
            let wanted = Wanted::parse(spec).unwrap();
            assert_eq!(
                (
                    wanted.to_string().as_str(),
                    Wanted::parse(&wanted.to_string()).unwrap()
                ),
                (spec, wanted)
            );
        }
    }

    #[test]
    fn addresses_that_could_leave_the_cache_are_refused() {
        for spec in [
            "org/name@../../etc",
            "org/na--me",
            "org/name@",
            "org/..",
            "or g/name",
            "org/n?x=1",
            "org/a/b@main",
            "org/name@a@b",
        ] {
            assert!(
                matches!(Wanted::parse(spec), Err(FetchError::BadAddress { .. })),
                "{spec}"
            );
        }
    }

    #[test]
    fn a_slip_of_the_finger_gets_a_suggestion() {
        let text = Wanted::parse("smolm2-135m-instuct")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("did you mean smollm2-135m-instruct?"),
            "{text}"
        );
        let text = Wanted::parse("qwen").unwrap_err().to_string();
        assert!(
            text.contains("did you mean qwen2.5-coder-0.5b-instruct?"),
            "{text}"
        );
        assert!(
            !Wanted::parse("llama")
                .unwrap_err()
                .to_string()
                .contains("did you mean")
        );
        assert!(Wanted::parse("").is_err());
    }

    /// The textbook example: kitten and sitting are three edits apart.
    #[test]
    fn edit_distance_matches_the_textbook() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }
}
