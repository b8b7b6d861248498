//! What there is to open: the models with a name, those in the cache, those in a folder of the user's.
//!
//! Always: nothing is opened and nothing goes over the network; file names and lengths are all that is read.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::built_in::BUILT_IN;
use super::fetch::{self, Cache, KNOWN};
use super::toy;

/// Entries of a folder that are looked at; what lies beyond is not a folder of models.
const MOST_ENTRIES: usize = 4096;

/// Models by name and in the cache, as `model list` shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing {
    /// The cache's folder.
    pub cache: String,
    /// Models with a short name.
    pub known: Vec<Known>,
    /// Models in the cache.
    pub cached: Vec<Cached>,
}

/// A model with a short name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Known {
    /// The name.
    pub name: String,
    /// One line.
    pub about: String,
    /// SPDX name of the licence of the weights; `-` where there is nothing to license.
    pub licence: String,
    /// Where it lies on the hub.
    pub hub: Option<String>,
    /// Usable without fetching.
    pub cached: bool,
    /// Bytes of the copy on the package index.
    pub bytes: Option<u64>,
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cached {
    /// The name under which it can be opened.
    pub name: String,
    /// The GGUF file or the folder.
    pub path: String,
    /// Where it came from.
    pub source: String,
    /// Length of all its files together.
    pub bytes: u64,
    /// Licence of the weights where it is known.
    pub licence: Option<String>,
}

/// A model in a folder of the user's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Local {
    /// Name of its file or folder.
    pub name: String,
    /// What to open.
    pub path: PathBuf,
    /// Length of its files of weights.
    pub bytes: u64,
    /// `GGUF` or `safetensors`.
    pub format: &'static str,
}

/// Models by name and in the cache.
pub fn listing(cache: &Cache) -> Listing {
    let mut known = named();
    // What needs no fetching needs no looking for, which would unpack it.
    for model in known.iter_mut().filter(|model| !model.cached) {
        model.cached = matches!(fetch::locate(&model.name, cache), Ok(Some(_)));
    }
    let cached = cache.list().into_iter().map(|model| Cached {
        name: model.name,
        path: model.path.display().to_string(),
        source: model.source,
        bytes: model.bytes,
        licence: model.licence,
    });
    Listing {
        cache: cache.root().display().to_string(),
        known,
        cached: cached.collect(),
    }
}

/// The models with a short name, before the cache was looked at.
pub fn named() -> Vec<Known> {
    let known = KNOWN.iter().map(|model| Known {
        name: model.name.to_owned(),
        about: model.about.to_owned(),
        licence: model.licence.to_owned(),
        hub: Some(format!("{}/{}", model.org, model.repo)),
        cached: false,
        bytes: Some(model.wheels.bytes),
    });
    let toy = Known {
        name: toy::NAME.to_owned(),
        about: toy::ABOUT.to_owned(),
        licence: "-".to_owned(),
        hub: None,
        cached: true,
        bytes: None,
    };
    let built_in = BUILT_IN.iter().map(|model| Known {
        name: model.name.to_owned(),
        about: model.about.to_owned(),
        licence: "MIT OR Apache-2.0".to_owned(),
        hub: None,
        cached: true,
        bytes: Some(model.bytes()),
    });
    known.chain(built_in).chain([toy]).collect()
}

/// The GGUF files of a folder and the Hugging Face folders in it, itself included, by name.
///
/// # Errors
/// A folder that cannot be read.
pub fn local(folder: &Path) -> std::io::Result<Vec<Local>> {
    let mut found: Vec<Local> = hugging_face(folder).into_iter().collect();
    for entry in std::fs::read_dir(folder)?.take(MOST_ENTRIES).flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(hugging_face(&path));
        } else if has_extension(&path, "gguf") {
            found.push(Local {
                name: name(&path),
                bytes: length(&path),
                path,
                format: "GGUF",
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A folder with a config and weights.
fn hugging_face(folder: &Path) -> Option<Local> {
    if !folder.join("config.json").is_file() {
        return None;
    }
    let entries = std::fs::read_dir(folder).ok()?.take(MOST_ENTRIES).flatten();
    let weights: Vec<u64> = entries
        .map(|entry| entry.path())
        .filter(|path| has_extension(path, "safetensors"))
        .map(|path| length(&path))
        .collect();
    (!weights.is_empty()).then(|| Local {
        name: name(folder),
        path: folder.to_path_buf(),
        bytes: weights.iter().sum(),
        format: "safetensors",
    })
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

fn name(path: &Path) -> String {
    let whole = || path.display().to_string();
    path.file_name()
        .map_or_else(whole, |name| name.to_string_lossy().into_owned())
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_gives_its_models_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("b.gguf", "12345");
        put("a/config.json", "{}");
        put("a/model-1.safetensors", "123");
        put("a/model-2.safetensors", "1234");
        put("no-weights/config.json", "{}");
        put("notes.txt", "");
        let found = local(dir.path()).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|model| (model.name.as_str(), model.bytes, model.format))
            .collect();
        assert_eq!(seen, [("a", 7, "safetensors"), ("b.gguf", 5, "GGUF")]);
        assert_eq!(local(&dir.path().join("a")).unwrap().len(), 1);
        assert!(local(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn an_empty_cache_has_no_known_model_but_those_of_this_binary() {
        let dir = tempfile::tempdir().unwrap();
        let listed = listing(&Cache::at(dir.path()));
        assert!(listed.cached.is_empty());
        let here = listed.known.iter().filter(|model| model.cached);
        let here: Vec<&str> = here.map(|model| model.name.as_str()).collect();
        let expected = BUILT_IN.iter().map(|model| model.name).chain([toy::NAME]);
        assert_eq!(here, expected.collect::<Vec<_>>());
    }
}
