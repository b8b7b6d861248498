//! A person's own labels of latents, in a small file beside the dictionary: `labels.json` in its folder, `NAME.labels.json`
//! beside a file.
//!
//! Always: they are of one dictionary, known by the hash of its decoder, and refused for another that came to lie in the same
//! place; each change reads the file anew and replaces it as a whole, so that two programs lose nothing of one another but a
//! change of the same latent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candlescope_sae::Dictionary;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FeatureError;
use crate::files::{FileError, write::write_atomic};

/// Of the file.
pub const LABELS_SCHEMA: &str = "candlescope.sae.labels/1";

/// No file of labels is larger.
const LARGEST: u64 = 16 << 20;
/// Characters of a label; a longer one is cut.
const LONGEST: usize = 200;

/// Labels by latent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    path: PathBuf,
    dictionary: String,
    by_latent: BTreeMap<usize, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: String,
    /// SHA-256 of the decoder's shape and values.
    decoder: String,
    labels: BTreeMap<usize, String>,
}

impl Labels {
    /// Those kept beside the dictionary at `path`; none where nobody has written one yet.
    ///
    /// # Errors
    /// A file that cannot be read, is no file of labels, or is of another dictionary.
    pub fn beside(path: &Path, dictionary: &Dictionary) -> Result<Self, FeatureError> {
        let mut labels = Self {
            path: place(path),
            dictionary: identity(dictionary),
            by_latent: BTreeMap::new(),
        };
        labels.by_latent = labels.read()?;
        Ok(labels)
    }

    /// Where they are kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The label of a latent.
    pub fn of(&self, latent: usize) -> Option<&str> {
        self.by_latent.get(&latent).map(String::as_str)
    }

    /// All of them, by latent.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        let labels = self.by_latent.iter();
        labels.map(|(latent, label)| (*latent, label.as_str()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_latent.len()
    }

    /// The labels with another one for a latent, written to their file; an empty text takes its label away.
    ///
    /// # Errors
    /// As for [`Self::beside`]; a folder that cannot be written to. The file is then as before.
    pub fn with(mut self, latent: usize, text: &str) -> Result<Self, FeatureError> {
        self.by_latent = self.read()?;
        let text: String = (text.trim().chars())
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect();
        if text.is_empty() {
            self.by_latent.remove(&latent);
        } else {
            self.by_latent.insert(latent, text);
        }
        let stored = Stored {
            schema: LABELS_SCHEMA.to_owned(),
            decoder: self.dictionary.clone(),
            labels: self.by_latent.clone(),
        };
        let text = serde_json::to_string_pretty(&stored)
            .map_err(|e| self.invalid("labels", "text and numbers", &e.to_string()))?;
        write_atomic(&self.path, (text + "\n").as_bytes())?;
        Ok(self)
    }

    fn read(&self) -> Result<BTreeMap<usize, String>, FeatureError> {
        let cannot = |source| FileError::Io {
            file: self.path.clone(),
            action: "read".to_owned(),
            source,
        };
        let size = match std::fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(cannot(e).into()),
        };
        if size > LARGEST {
            let expected = format!("at most {LARGEST} bytes");
            return Err(self.invalid("size", &expected, &size.to_string()));
        }
        let text = std::fs::read_to_string(&self.path).map_err(cannot)?;
        let stored: Stored = serde_json::from_str(&text)
            .map_err(|e| self.invalid("labels", LABELS_SCHEMA, &e.to_string()))?;
        if stored.schema != LABELS_SCHEMA {
            return Err(self.invalid("schema", LABELS_SCHEMA, &stored.schema));
        }
        if stored.decoder != self.dictionary {
            let expected = "that of this dictionary (move the file away to begin new labels)";
            return Err(self.invalid("decoder", expected, "another one's hash"));
        }
        Ok(stored.labels)
    }

    fn invalid(&self, field: &str, expected: &str, found: &str) -> FeatureError {
        let invalid = FileError::Invalid {
            file: self.path.clone(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        invalid.into()
    }
}

/// The file of labels for a dictionary's folder or file.
fn place(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.join("labels.json");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.labels.json"))
}

/// What tells one dictionary from another: its decoder, so that folding and other formats change nothing.
fn identity(dictionary: &Dictionary) -> String {
    let decoder = &dictionary.parts().decoder;
    let mut hasher = Sha256::new();
    hasher.update(format!("{:?}", decoder.dim()));
    for row in decoder.outer_iter() {
        let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    let digest = hasher.finalize();
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candlescope_sae::{About, Activation, Parts, Scaling};
    use ndarray::{Array1, Array2};

    fn dictionary(first: f32) -> Dictionary {
        let mut decoder = Array2::ones((3, 2));
        decoder[(0, 0)] = first;
        Dictionary::new(Parts {
            encoder: Array2::ones((3, 2)),
            decoder,
            encoder_bias: Array1::zeros(3),
            decoder_bias: Array1::zeros(2),
            centred: false,
            activation: Activation::Relu,
            skip: None,
            scaling: Scaling::None,
            about: About::default(),
        })
        .unwrap()
    }

    #[test]
    fn they_are_kept_beside_the_dictionary_and_belong_to_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let labels = Labels::beside(folder.path(), &dictionary(1.0)).unwrap();
        assert_eq!(labels.count(), 0);
        assert!(
            !labels.path().exists(),
            "nothing is written before it must be"
        );
        let labels = labels.with(2, "  locks,\u{1b} doors\n").unwrap();
        assert_eq!(labels.of(2), Some("locks, doors"));
        let again = Labels::beside(folder.path(), &dictionary(1.0)).unwrap();
        assert_eq!(again, labels);
        assert_eq!(again.iter().collect::<Vec<_>>(), [(2, "locks, doors")]);
        let error = Labels::beside(folder.path(), &dictionary(2.0)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("labels.json") && error.contains("decoder"),
            "{error}"
        );
        let none = labels.with(2, " ").unwrap();
        assert_eq!((none.of(2), none.count()), (None, 0));
    }

    #[test]
    fn a_change_from_elsewhere_is_not_lost_and_rubbish_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sae.safetensors");
        let [one, other] = [(); 2].map(|()| Labels::beside(&file, &dictionary(1.0)).unwrap());
        one.with(0, "a").unwrap();
        let both = other.with(1, "b").unwrap();
        assert_eq!([both.of(0), both.of(1)], [Some("a"), Some("b")]);
        assert!(both.path().ends_with("sae.safetensors.labels.json"));
        let kept = std::fs::read(both.path()).unwrap();
        for rubbish in [
            "",
            "{}",
            "[1]",
            r#"{"schema":"x","decoder":"","labels":{}}"#,
        ] {
            std::fs::write(both.path(), rubbish).unwrap();
            assert!(both.clone().with(2, "c").is_err(), "{rubbish}");
            assert_eq!(std::fs::read_to_string(both.path()).unwrap(), rubbish);
        }
        std::fs::write(both.path(), kept).unwrap();
        assert_eq!(both.with(2, "c").unwrap().count(), 3);
    }
}
