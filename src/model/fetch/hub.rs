//! A repository of the Hugging Face hub: its list of files at one commit, of which config, tokenizer, chat template
//! and safetensors are fetched. Pickles are never read. What always holds: all files are of the same commit, and no
//! listed name leaves the model's folder. Next: `download.rs` moves the bytes.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Place, Record, RecordedFile, require_room};
use super::download::{Item, Received, download, hex};
use super::error::FetchError;
use super::http::{Web, shown};
use super::progress::Progress;

/// The list of a repository is at most this long.
const LIST_LIMIT: u64 = 32 << 20;
/// A configuration or tokenizer file without a stated length is at most this long.
const SMALL: u64 = 256 << 20;
/// The index of a sharded checkpoint.
const SHARDS: &str = "model.safetensors.index.json";

/// A repository at a revision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repo<'a> {
    pub org: &'a str,
    pub name: &'a str,
    pub revision: &'a str,
}

#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    /// Text, or a list of texts.
    #[serde(default)]
    license: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

/// Fetches, verifies and publishes the repository's files.
pub(super) fn fetch(
    web: &Web,
    endpoint: &str,
    token: Option<&str>,
    repo: Repo,
    cache: &Cache,
    place: &Place,
    progress: &dyn Progress,
) -> Result<Record, FetchError> {
    let Repo {
        org,
        name,
        revision,
    } = repo;
    let endpoint = endpoint.trim_end_matches('/');
    let address = format!(
        "{endpoint}/api/models/{org}/{name}/revision/{}?blobs=true",
        revision.replace('/', "%2F")
    );
    let (_, _, text) = web.text(
        &address,
        &[("accept", "application/json")],
        token,
        LIST_LIMIT,
    )?;
    let malformed = |reason: String| FetchError::Malformed {
        url: shown(&address),
        reason,
    };
    let listing: Listing = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let commit = listing
        .sha
        .filter(|sha| is_commit(sha))
        .ok_or_else(|| malformed("it names no commit".to_owned()))?;
    let wanted = select(&format!("{org}/{name}"), listing.siblings)?;

    // The commit is part of the name: what was fetched of another commit must not be mixed in.
    let stage = cache.stage(&format!("{}-{}", place.key, &commit[..12]))?;
    let there = |file: &Sibling| {
        std::fs::metadata(stage.join(&file.rfilename)).map_or(0, |data| data.len())
    };
    let total = wanted.iter().fold(0_u64, |sum, file| {
        sum.saturating_add(length(file).unwrap_or(0))
    });
    require_room(&stage, total.saturating_sub(wanted.iter().map(there).sum()))?;
    let mut files = Vec::new();
    for file in &wanted {
        let url = format!(
            "{endpoint}/{org}/{name}/resolve/{commit}/{}",
            file.rfilename
        );
        let bytes = length(file);
        let sha256 = file.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref());
        let item = Item {
            url: &url,
            secret: token,
            to: stage.join(&file.rfilename),
            bytes,
            sha256,
            limit: bytes.unwrap_or(SMALL),
        };
        let Received { bytes, sha256 } = download(web, &item, progress)?;
        files.push(RecordedFile {
            name: file.rfilename.clone(),
            bytes,
            sha256,
            urls: vec![shown(&url)],
        });
    }
    let record = Record {
        schema: "candlescope.source/1".to_owned(),
        name: place.name.clone(),
        source: format!("hub:{org}/{name}@{commit}"),
        sha256: digest_of_list(&files),
        bytes: files.iter().map(|file| file.bytes).sum(),
        fetched: jiff::Timestamp::now().to_string(),
        licence: listing
            .card
            .and_then(|card| card.license)
            .and_then(|licence| licence.as_str().map(str::to_owned)),
        note: None,
        files,
    };
    Cache::publish(&stage, place, &record)?;
    Ok(record)
}

/// SHA-256 of what `sha256sum` would print for the files in order of name.
fn digest_of_list(files: &[RecordedFile]) -> String {
    let mut lines: Vec<String> = files
        .iter()
        .map(|file| format!("{}  {}\n", file.sha256, file.name))
        .collect();
    lines.sort_unstable_by(|a, b| a[64..].cmp(&b[64..]));
    hex(&Sha256::digest(lines.concat()))
}

fn length(file: &Sibling) -> Option<u64> {
    file.lfs.as_ref().and_then(|lfs| lfs.size).or(file.size)
}

fn is_commit(sha: &str) -> bool {
    (40..=64).contains(&sha.len()) && sha.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The files to fetch, small ones first so that a wrong repository is noticed early.
fn select(repo: &str, siblings: Vec<Sibling>) -> Result<Vec<Sibling>, FetchError> {
    if let Some(bad) = siblings.iter().find(|file| !is_safe(&file.rfilename)) {
        return Err(FetchError::UnsafeName {
            repo: repo.to_owned(),
            name: bad.rfilename.clone(),
        });
    }
    let has = |name: &str| siblings.iter().any(|file| file.rfilename == name);
    // Repositories often hold the same weights twice (`consolidated.safetensors`), so the standard names come first.
    let (sharded, single) = (has(SHARDS), has("model.safetensors"));
    let is_weight = |name: &str| {
        name.ends_with(".safetensors")
            && if sharded {
                name.starts_with("model-")
            } else {
                !single || name == "model.safetensors"
            }
    };
    let top = |name: &str| !name.contains('/');
    if !siblings
        .iter()
        .any(|file| top(&file.rfilename) && is_weight(&file.rfilename))
    {
        let weights = [
            ".bin",
            ".pt",
            ".pth",
            ".ckpt",
            ".h5",
            ".msgpack",
            ".gguf",
            ".onnx",
            ".safetensors",
        ];
        let looks = |name: &str| weights.iter().any(|end| name.ends_with(end));
        let found = siblings
            .into_iter()
            .map(|file| file.rfilename)
            .filter(|name| looks(name))
            .collect();
        return Err(FetchError::NoSafetensors {
            repo: repo.to_owned(),
            found,
        });
    }
    let mut wanted: Vec<Sibling> = siblings
        .into_iter()
        .filter(|file| {
            top(&file.rfilename) && (is_weight(&file.rfilename) || is_small(&file.rfilename))
        })
        .collect();
    wanted.sort_by(|a, b| {
        let rank = |file: &Sibling| file.rfilename.ends_with(".safetensors");
        (rank(a), &a.rfilename).cmp(&(rank(b), &b.rfilename))
    });
    wanted.dedup_by(|a, b| a.rfilename == b.rfilename);
    Ok(wanted)
}

/// Configuration, tokenizer and template.
fn is_small(name: &str) -> bool {
    matches!(
        name,
        "config.json" | "generation_config.json" | "special_tokens_map.json" | SHARDS
    ) || name.starts_with("tokenizer")
        && Path::new(name).extension().is_some_and(|end| end == "json")
        || name.starts_with("chat_template")
}

/// A relative name of plain parts. Names with other characters exist on no model repository we know; refusing is
/// safer than guessing what a file system makes of them.
fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 512
        && !name.contains(['\\', ':', '\0'])
        && !name.chars().any(char::is_control)
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pick(names: &[&str]) -> Result<Vec<String>, FetchError> {
        let siblings = names
            .iter()
            .map(|name| Sibling {
                rfilename: (*name).into(),
                size: None,
                lfs: None,
            })
            .collect();
        Ok(select("o/n", siblings)?
            .into_iter()
            .map(|file| file.rfilename)
            .collect())
    }

    #[test]
    fn one_copy_of_the_weights_and_no_pickle_is_chosen() {
        let names = [
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "tokenizer.py",
        ];
        assert_eq!(
            pick(&names).unwrap(),
            [
                "chat_template.jinja",
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors"
            ]
        );
        let sharded = [
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            SHARDS,
            "extra.safetensors",
        ];
        assert_eq!(
            pick(&sharded).unwrap(),
            [
                SHARDS,
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors"
            ]
        );
        assert!(matches!(pick(&["config.json", "pytorch_model.bin"]),
            Err(FetchError::NoSafetensors { found, .. }) if found == ["pytorch_model.bin"]));
    }

    #[test]
    fn names_that_could_escape_are_refused_even_if_they_would_be_skipped() {
        for bad in [
            "../model.safetensors",
            "a/../../x.md",
            "/etc/passwd",
            "a\\b",
            "C:x",
            "",
            "a//b",
            "x\n.json",
        ] {
            assert!(
                matches!(
                    pick(&["model.safetensors", bad]),
                    Err(FetchError::UnsafeName { .. })
                ),
                "{bad:?}"
            );
        }
    }
}
