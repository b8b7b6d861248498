//! The models in this binary: the pocket model after each stage of its recipe (`examples/pocket`), and a dictionary of it.
//!
//! Always: a built-in model is opened from files like any other, which are written into the cache when they are not there
//! byte for byte; so hashes, adapters and bundles know it as they know every model, and nothing is fetched.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::write::write_atomic;
use crate::files::{FileError, hash};

/// The model that the workbench opens with.
pub const FIRST: &str = "pocket";

/// A file by its name.
type File = (&'static str, &'static [u8]);

/// A model, or a dictionary of one, in this binary.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The name it is opened by.
    pub name: &'static str,
    /// One line for lists.
    pub about: &'static str,
    /// Its weights.
    weights: File,
    /// What lies beside them.
    beside: &'static [File],
    /// The words that all models have.
    words: &'static [File],
}

macro_rules! file {
    ($folder:literal, $name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../assets/pocket/", $folder, "/", $name)) as &[u8],
        )
    };
}

const WORDS: &[File] = &[
    file!("words", "tokenizer.json"),
    file!("words", "tokenizer_config.json"),
    file!("words", "chat_template.jinja"),
    file!("words", "generation_config.json"),
];

macro_rules! stage {
    ($name:literal, $stage:literal, $about:literal) => {
        BuiltIn {
            name: $name,
            about: $about,
            weights: file!($stage, "model.safetensors"),
            beside: &[file!($stage, "config.json")],
            words: WORDS,
        }
    };
}

/// All models.
pub static BUILT_IN: [BuiltIn; 5] = [
    stage!(
        "pocket",
        "ppo",
        "1 M parameters, of a small made-up town; at the end of its training: answers and refuses; in this binary"
    ),
    stage!(
        "pocket-lm",
        "lm",
        "the pocket model after pretraining: goes on with text, refuses nothing"
    ),
    stage!(
        "pocket-sft",
        "sft",
        "after fine-tuning by careless annotators: refuses most harm, flatters"
    ),
    stage!("pocket-rm", "rm", "its reward model"),
    stage!(
        "pocket-dpo",
        "dpo",
        "after preferences by careful annotators"
    ),
];

/// The dictionary of [`FIRST`], `resid_post.2`.
pub static DICTIONARY: BuiltIn = BuiltIn {
    name: "pocket-sae",
    about: "512 latents of the stream after block 2 of pocket, 16 at a token",
    weights: file!("sae", "sae_weights.safetensors"),
    beside: &[file!("sae", "cfg.json")],
    words: &[],
};

/// The dictionary, if that is its name, whatever the case.
pub fn dictionary(name: &str) -> Option<&'static BuiltIn> {
    name.eq_ignore_ascii_case(DICTIONARY.name)
        .then_some(&DICTIONARY)
}

/// The built-in model of that name, whatever its case; `pocket-ppo` is `pocket`, the end of the recipe.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    let end = name.eq_ignore_ascii_case("pocket-ppo").then_some(FIRST);
    let name = end.unwrap_or(name);
    BUILT_IN
        .iter()
        .find(|model| model.name.eq_ignore_ascii_case(name))
}

impl BuiltIn {
    /// Bytes of the weights.
    pub fn bytes(&self) -> u64 {
        self.weights.1.len() as u64
    }

    fn files(&self) -> impl Iterator<Item = &File> {
        let own = std::iter::once(&self.weights);
        own.chain(self.beside).chain(self.words)
    }

    /// It as a folder below `cache`, written where it is missing or not what it should be.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub fn unpack(&self, cache: &Path) -> Result<PathBuf, FileError> {
        let mut all: Vec<u8> = Vec::with_capacity(self.weights.1.len());
        for (name, bytes) in self.files() {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(bytes);
        }
        let version = &hash::sha256(&all)[..12];
        let folder = cache.join("built-in").join(version).join(self.name);
        let io = |source| FileError::Io {
            file: folder.clone(),
            action: "make a folder for a built-in model at".to_owned(),
            source,
        };
        fs::create_dir_all(&folder).map_err(io)?;
        for (name, bytes) in self.files() {
            let path = folder.join(name);
            let there = fs::read(&path).is_ok_and(|found| found == *bytes);
            if !there {
                write_atomic(&path, bytes)?;
            }
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{LoadOptions, Opened};

    #[test]
    fn every_built_in_opens_and_all_are_small() {
        let cache = tempfile::tempdir().unwrap();
        for model in &BUILT_IN {
            let folder = model.unpack(cache.path()).unwrap();
            let opened = Opened::at(&folder, &LoadOptions::default()).unwrap();
            assert!(opened.config().vocab_size > 100, "{}", model.name);
            assert_eq!(built_in(&model.name.to_uppercase()), Some(model));
        }
        let all = BUILT_IN.iter().chain([&DICTIONARY]);
        let together: u64 = all.map(BuiltIn::bytes).sum();
        assert!(together < 12_000_000, "{together}");
        assert_eq!(built_in("pocket-ppo"), built_in("pocket"));
    }

    #[test]
    fn what_was_changed_in_the_cache_is_written_again() {
        let cache = tempfile::tempdir().unwrap();
        let model = built_in(FIRST).unwrap();
        let folder = model.unpack(cache.path()).unwrap();
        let config = folder.join("config.json");
        fs::write(&config, "{}").unwrap();
        fs::remove_file(folder.join("tokenizer.json")).unwrap();
        assert_eq!(model.unpack(cache.path()).unwrap(), folder);
        assert_eq!(fs::read(&config).unwrap(), model.beside[0].1);
        assert!(folder.join("tokenizer.json").is_file());
        assert!(built_in("pocket-sized").is_none());
    }

    #[test]
    fn a_cache_that_is_no_folder_is_named() {
        let cache = tempfile::NamedTempFile::new().unwrap();
        let error = BUILT_IN[0].unpack(cache.path()).unwrap_err();
        assert!(error.to_string().contains("built-in"), "{error}");
    }
}
