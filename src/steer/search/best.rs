//! What a search hands to a bake: amounts by layer and the direction they belong to, in a file; and which trial that is.
//!
//! Always: the file names the direction beside it by the hash of its numbers and the model it was found on by its fingerprint,
//! so amounts are never used with another direction by accident.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::hooks::Vector;
use crate::model::Fingerprint;
use crate::steer::edit::{Amounts, Ingredient};

/// The format.
const SCHEMA: &str = "candlescope.direction.amounts/1";

/// No amounts are larger: a thousand layers with two numbers each, and what stands beside them.
const MOST: u64 = 4 << 20;

/// Amounts on disk, `best.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AmountsFile {
    /// `candlescope.direction.amounts/1`
    pub schema: String,
    /// The model they were found on.
    pub made_on: Fingerprint,
    /// The direction's file, beside this one.
    pub direction: String,
    /// SHA-256 of its numbers, f32 little-endian.
    pub sha256: String,
    /// How much of it is taken out where.
    pub amounts: Amounts,
    /// Whether biases are edited too.
    pub biases: bool,
    /// The trial, as it was found: for people.
    pub found: serde_json::Value,
}

impl AmountsFile {
    /// Of a direction that is written beside it.
    pub fn new(
        made_on: Fingerprint,
        (direction, vector): (&str, &Vector),
        (amounts, biases): (Amounts, bool),
        found: serde_json::Value,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            made_on,
            direction: direction.to_owned(),
            sha256: Ingredient::new(direction, vector).sha256,
            amounts,
            biases,
            found,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// No such file, another format, amounts or a field that are none.
    pub fn read(file: &Path) -> Result<Self, SearchError> {
        let wrong = |field, expected: &str, found: String| SearchError::Amounts {
            file: file.to_path_buf(),
            field,
            expected: expected.to_owned(),
            found,
        };
        let size = std::fs::metadata(file).map(|about| about.len());
        let size = size.map_err(|e| wrong("the file", "amounts by layer", e.to_string()))?;
        if size > MOST {
            let most = format!("at most {MOST} bytes");
            return Err(wrong("the file", &most, format!("{size}")));
        }
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|e| wrong("the file", "text", e.to_string()))?;
        let read: Self = serde_json::from_str(&text).map_err(|e| {
            wrong(
                "the file",
                "what `direction optimise` writes",
                e.to_string(),
            )
        })?;
        if read.schema != SCHEMA {
            return Err(wrong("schema", SCHEMA, read.schema));
        }
        // It is joined to this file's folder: nothing but a name may stand there.
        let plain = Path::new(&read.direction)
            .file_name()
            .and_then(|n| n.to_str());
        if plain != Some(read.direction.as_str()) {
            return Err(wrong("direction", "a file's name", read.direction));
        }
        Ok(read)
    }

    /// Where the direction lies.
    pub fn direction_beside(&self, file: &Path) -> PathBuf {
        file.with_file_name(&self.direction)
    }

    /// Refuses another direction than the one they were found for.
    ///
    /// # Errors
    /// The hashes differ.
    pub fn expect(&self, file: &Path, directions: &[Vector]) -> Result<(), SearchError> {
        let hash = |vector: &Vector| Ingredient::new(&self.direction, vector).sha256;
        let found: Vec<String> = directions.iter().map(hash).collect();
        let found = found.join(" and ");
        if found == self.sha256 {
            return Ok(());
        }
        Err(SearchError::Amounts {
            file: file.to_path_buf(),
            field: "sha256 of the direction",
            expected: self.sha256.clone(),
            found,
        })
    }
}

/// Why a search hands nothing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoneFound {
    /// The unedited model refuses no more than what harmless prompts score.
    NothingToRemove,
    /// No trial refuses less than the unedited model.
    NotLowered,
    /// What some take out is less than what they cost: leaving the model alone has the smaller sum.
    TooDear,
}

impl std::fmt::Display for NoneFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NothingToRemove => {
                "the unedited model scores harmful prompts no higher than harmless ones: there is nothing to remove"
            }
            Self::NotLowered => "no trial lowers the refusal score of the unedited model",
            Self::TooDear => {
                "no trial has a sum of refusal (unedited = 1) and divergence (plain edit = 1) below 1, that of the unedited model"
            }
        })
    }
}

/// Which of a front is handed on: refusal as a share of the unedited model's and KL as a share of the plain edit's, the
/// smallest sum; of those whose answers loop at most `slack` oftener than the unedited model's, unless none does.
///
/// `front` holds refusal, KL and the share of loops where answers were read; `unit` is the unedited model's refusal and the
/// plain edit's KL. The unedited model's own sum is 1: what is not below that is no find.
///
/// # Errors
/// Why none is.
pub fn choose(
    front: &[([f64; 2], Option<f64>)],
    unit: [f64; 2],
    (loops, slack): (f64, f64),
) -> Result<usize, NoneFound> {
    if unit[0] <= 0.0 {
        return Err(NoneFound::NothingToRemove);
    }
    let divergence = if unit[1] > 0.0 { unit[1] } else { 1.0 };
    let cost = |[refusal, kl]: [f64; 2]| refusal / unit[0] + kl / divergence;
    let found = |(_, (values, _)): &(usize, &([f64; 2], Option<f64>))| cost(*values) < 1.0;
    let open: Vec<_> = front.iter().enumerate().filter(found).collect();
    let sound = |share: Option<f64>| share.is_none_or(|share| share <= loops + slack);
    let any = open.iter().any(|(_, (_, share))| sound(*share));
    let sound = (open.iter()).filter(|(_, (_, share))| !any || sound(*share));
    let best = sound.min_by(|(_, (a, _)), (_, (b, _))| cost(*a).total_cmp(&cost(*b)));
    best.map(|(index, _)| *index).ok_or_else(|| {
        if front.iter().any(|([refusal, _], _)| *refusal < unit[0]) {
            NoneFound::TooDear
        } else {
            NoneFound::NotLowered
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    fn sample() -> AmountsFile {
        let made_on = Fingerprint {
            weights: "w".into(),
            tokenizer: "t".into(),
            template: String::new(),
            config: "c".into(),
            dtype: "f32".into(),
        };
        let amounts = Amounts {
            embed: 0.0,
            attn: vec![0.1, 1.0 / 3.0],
            mlp: vec![1.2, 0.0],
        };
        let vector: Vector = Arc::new(vec![0.6, -0.8]);
        let beside = ("best.safetensors", &vector);
        AmountsFile::new(made_on, beside, (amounts, true), serde_json::json!(1))
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("best.json");
        let write = |amounts: &AmountsFile| {
            std::fs::write(&file, serde_json::to_string(amounts).unwrap()).unwrap();
            AmountsFile::read(&file).map_err(|e| e.to_string())
        };
        assert_eq!(write(&sample()).unwrap(), sample());
        let beside = sample().direction_beside(&file);
        assert_eq!(beside, folder.path().join("best.safetensors"));
        for (field, bad) in [
            (
                "schema",
                AmountsFile {
                    schema: "x".into(),
                    ..sample()
                },
            ),
            (
                "a file's name",
                AmountsFile {
                    direction: "../d".into(),
                    ..sample()
                },
            ),
        ] {
            let error = write(&bad).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
        std::fs::write(&file, "{}").unwrap();
        let error = AmountsFile::read(&file).unwrap_err().to_string();
        assert!(error.contains("direction optimise"), "{error}");
        sample()
            .expect(&file, &[Arc::new(vec![0.6, -0.8])])
            .unwrap();
        let other = sample().expect(&file, &[Arc::new(vec![0.6, 0.8])]);
        assert!(other.unwrap_err().to_string().contains("sha256"));
    }

    #[test]
    fn the_smallest_sum_of_shares_is_chosen_among_the_sound() {
        // Shares of (10, 2): 0.1 + 0.5, 0.5 + 0.25, 0.8 + 0.05.
        let front = [([1.0, 1.0], None), ([5.0, 0.5], None), ([8.0, 0.1], None)];
        assert_eq!(choose(&front, [10.0, 2.0], (0.0, 0.05)), Ok(0));
        let loops = [Some(0.5), Some(0.5), Some(0.0)];
        let front: Vec<_> = front.iter().zip(loops).map(|((v, _), l)| (*v, l)).collect();
        assert_eq!(choose(&front, [10.0, 2.0], (0.0, 0.05)), Ok(2));
        assert_eq!(choose(&front, [10.0, 2.0], (0.5, 0.05)), Ok(0));
        // What is sound but no find does not keep out what is one.
        let front = [([1.0, 1.0], Some(0.5)), ([9.9, 0.1], Some(0.0))];
        assert_eq!(choose(&front, [10.0, 2.0], (0.0, 0.05)), Ok(0));
    }

    #[test]
    fn where_leaving_the_model_alone_is_best_nothing_is_found() {
        let among = |front: &[[f64; 2]], unit: [f64; 2]| {
            let front: Vec<_> = front.iter().map(|v| (*v, None)).collect();
            choose(&front, unit, (0.0, 0.05))
        };
        assert_eq!(among(&[], [1.0, 1.0]), Err(NoneFound::NotLowered));
        let higher = [[10.0, 0.01], [12.0, 0.0]];
        assert_eq!(among(&higher, [10.0, 2.0]), Err(NoneFound::NotLowered));
        // 0.9 + 0.2 and, exactly, 0.5 + 0.5.
        let dear = [[9.0, 0.4], [5.0, 1.0]];
        assert_eq!(among(&dear, [10.0, 2.0]), Err(NoneFound::TooDear));
        let nothing = Err(NoneFound::NothingToRemove);
        assert_eq!(among(&[[0.0, 0.0]], [0.0, 2.0]), nothing);
    }
}
