//! The models of a finished recipe in the form in which this binary holds them: bf16, their words once.
//!
//! Always: the figures beside them are of the packed models, not of those they were rounded from; a folder that could not be
//! finished does not remain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::exam::{self, Figures};
use crate::files::write::write_atomic;
use crate::files::{FileError, hash};
use crate::model::checkpoint::words;
use crate::model::convert::{in_new_folder, opened_to_folder};
use crate::model::{Checkpoint, LoadOptions, ModelError, Opened};

/// The stages that are packed, in the order of the recipe.
pub const STAGES: [&str; 5] = ["lm", "sft", "rm", "dpo", "ppo"];
/// The file of what is known about the packed models.
pub const ABOUT: &str = "pocket.json";
/// The one among them that answers nothing.
const REWARD: &str = "rm";
/// Files of a model that all stages have alike.
const WORDS: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// What is known about the packed models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Minutes of training, and of the audits on the way.
    pub minutes: (f64, f64),
    /// Conversations of each kind in the exam.
    pub each: usize,
    /// SHA-256 of each stage's weights.
    pub weights: BTreeMap<String, String>,
    /// What each stage answered in the exam.
    pub figures: BTreeMap<String, Figures>,
}

/// Packs the models of `stages` (name and folder) into `out`, which must not exist.
///
/// # Errors
/// A model that cannot be opened or has other words than the first, something at `out`, the disk.
pub fn pack(
    stages: &[(&str, PathBuf)],
    seconds: (f64, f64),
    each: usize,
    out: &Path,
) -> Result<About, ModelError> {
    let mut about = About {
        minutes: (seconds.0 / 60.0, seconds.1 / 60.0),
        each,
        weights: BTreeMap::new(),
        figures: BTreeMap::new(),
    };
    in_new_folder(out, |folder| {
        let shared = folder.join("words");
        make(&shared)?;
        for (stage, path) in stages {
            let opened = Opened::at(path, &LoadOptions::default())?;
            let (tokenizer, template) = words(&opened, path)?;
            let place = folder.join(stage);
            opened_to_folder(
                &opened,
                (&tokenizer, template.as_ref()),
                &place,
                DType::BF16,
            )?;
            if *stage != REWARD {
                let model = Checkpoint::open(stage, &place, &LoadOptions::default())?;
                let figures = exam::figures(&exam::sit(&model, each)?);
                about.figures.insert((*stage).to_owned(), figures);
            }
            let weights = hash::sha256_file(&place.join("model.safetensors"))?;
            about.weights.insert((*stage).to_owned(), weights);
            WORDS
                .iter()
                .try_for_each(|name| share(&place.join(name), &shared.join(name)))?;
        }
        let file = folder.join(ABOUT);
        let text = serde_json::to_string_pretty(&about)
            .map_err(|e| invalid(&file, "figures", "numbers and names", e.to_string()))?;
        write_atomic(&file, format!("{text}\n").as_bytes())?;
        Ok::<(), ModelError>(())
    })?;
    Ok(about)
}

fn make(folder: &Path) -> Result<(), FileError> {
    fs::create_dir(folder).map_err(io(folder, "make"))
}

fn io(file: &Path, action: &str) -> impl FnOnce(std::io::Error) -> FileError {
    let (file, action) = (file.to_path_buf(), action.to_owned());
    move |source| FileError::Io {
        file,
        action,
        source,
    }
}

fn invalid(file: &Path, field: &str, expected: &str, found: String) -> FileError {
    FileError::Invalid {
        file: file.to_path_buf(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        found,
    }
}

/// Moves a file to where all stages share it; one that is there already must be the same.
fn share(own: &Path, shared: &Path) -> Result<(), FileError> {
    let bytes = fs::read(own).map_err(io(own, "read"))?;
    match fs::read(shared) {
        Err(_) => write_atomic(shared, &bytes)?,
        Ok(there) if there == bytes => {}
        Ok(_) => {
            let expected = "the same as those of the first stage";
            return Err(invalid(own, "words", expected, "others".to_owned()));
        }
    }
    fs::remove_file(own).map_err(io(own, "remove"))
}

/// What is known about the models in this binary.
///
/// # Errors
/// Never, as a test says.
pub fn about() -> Result<About, serde_json::Error> {
    serde_json::from_str(include_str!("../../assets/pocket/pocket.json"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::built_in::built_in;
    use crate::pocket::Kind;

    fn unpacked(stage: &str, cache: &Path) -> PathBuf {
        let name = format!("pocket-{stage}");
        built_in(&name).unwrap().unpack(cache).unwrap()
    }

    #[test]
    fn what_is_said_of_the_models_in_this_binary_is_of_these_weights() {
        let cache = tempfile::tempdir().unwrap();
        let about = about().unwrap();
        for stage in STAGES {
            let file = unpacked(stage, cache.path()).join("model.safetensors");
            assert_eq!(hash::sha256_file(&file).unwrap(), about.weights[stage]);
        }
        let sft = unpacked("sft", cache.path());
        let model = Checkpoint::open("sft", &sft, &LoadOptions::default()).unwrap();
        let cases: Vec<_> = exam::sit(&model, 4).unwrap();
        // Questions are drawn in order: four of each kind are the first four of what was kept.
        let figures = exam::figures(&cases);
        assert!(figures[&Kind::Fact].right <= about.figures["sft"][&Kind::Fact].right);
        assert_eq!(about.figures.len(), STAGES.len() - 1);
    }

    #[test]
    fn models_are_packed_and_other_words_refused() {
        let dir = tempfile::tempdir().unwrap();
        let stages = [
            ("lm", unpacked("lm", dir.path())),
            ("rm", unpacked("rm", dir.path())),
        ];
        let out = dir.path().join("packed");
        let packed = pack(&stages, (60.0, 30.0), 1, &out).unwrap();
        assert_eq!(packed.minutes, (1.0, 0.5));
        assert_eq!(packed.figures.keys().collect::<Vec<_>>(), ["lm"]);
        // What was packed once and is packed again is the same.
        let before = about().unwrap();
        assert_eq!(packed.weights["lm"], before.weights["lm"]);
        assert_eq!(packed.weights["rm"], before.weights["rm"]);
        assert!(!out.join("lm/tokenizer.json").exists());
        for name in WORDS {
            assert!(out.join("words").join(name).is_file(), "{name}");
        }
        assert!(
            pack(&stages, (0.0, 0.0), 1, &out).is_err(),
            "something is there"
        );

        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        for entry in fs::read_dir(&stages[1].1).unwrap().flatten() {
            fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
        }
        fs::write(other.join("chat_template.jinja"), "{{ messages }}").unwrap();
        let stages = [stages[0].clone(), ("rm", other)];
        let out = dir.path().join("refused");
        let error = pack(&stages, (0.0, 0.0), 1, &out).unwrap_err();
        assert!(
            error.to_string().contains("those of the first stage"),
            "{error}"
        );
        assert!(!out.exists());
    }
}
