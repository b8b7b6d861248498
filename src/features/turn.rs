//! Latents turned while the model runs, everything else as it was: only what the edits change of the reconstruction is put
//! into the model.
//!
//! Written `DICTIONARY@EDIT[,EDIT…]`, each edit as in `latents.rs`; what is read and written again is the same.
//!
//! Always: the first token of a context stays as it is. It is an attention sink on which no dictionary was trained: its codes
//! mean nothing, and are so large that a changed one would break the model.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::{FeatureError, LatentEdit, Splice, open};
use crate::hooks::{Edit, PositionSelect, Selector};
use crate::model::Checkpoint;

/// Which dictionary, and what becomes of its latents.
#[derive(Debug, Clone, PartialEq)]
pub struct Turning {
    /// Its folder or file.
    pub dictionary: String,
    /// In this order; at least one.
    pub edits: Vec<LatentEdit>,
}

impl Turning {
    /// The edits of a pass; the dictionary is read from its file. `foreign` takes one that was made on another model.
    ///
    /// # Errors
    /// A dictionary that cannot be read or does not belong to this model; a latent that it lacks.
    pub fn load(&self, model: &Checkpoint, foreign: bool) -> Result<Vec<Edit>, FeatureError> {
        let opened = open(Path::new(&self.dictionary))?;
        if !foreign {
            opened.expect(model)?;
        }
        let points = [opened.read()?, opened.write()?];
        let dictionary = Arc::new(opened.dictionary);
        turned(
            &Splice::new(dictionary, &opened.name, points, model.config())?,
            &self.edits,
        )
    }
}

/// The edits of a pass in which these latents are turned and the error is kept.
///
/// # Errors
/// As [`LatentEdit::check`].
pub fn turned(splice: &Splice, edits: &[LatentEdit]) -> Result<Vec<Edit>, FeatureError> {
    let later = Selector::positions(PositionSelect::From(1));
    let splice = splice.clone().editing(edits.to_vec())?;
    Ok(splice.keeping_error().on(later).edits())
}

impl fmt::Display for Turning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edits: Vec<String> = self.edits.iter().map(ToString::to_string).collect();
        write!(f, "{}@{}", self.dictionary, edits.join(","))
    }
}

impl FromStr for Turning {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        let parts = text.rsplit_once('@').filter(|(name, _)| !name.is_empty());
        let Some((dictionary, edits)) = parts else {
            return Err(FeatureError::Edit {
                text: text.into(),
                why: "it is written DICTIONARY@EDIT[,EDIT], such as sae/@4211+12,77=0".into(),
            });
        };
        Ok(Self {
            dictionary: dictionary.into(),
            edits: edits.split(',').map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hooks::{HookPoint, Hooks, Point};
    use crate::model::{Batch, LogitsAt};
    use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling};
    use ndarray::{Array1, Array2};

    #[test]
    fn written_and_read_again() {
        for text in ["sae/@7=5", "a@b/sae@7*0,9+1.5,3:0..2"] {
            let turning: Turning = text.parse().unwrap();
            assert_eq!(turning.to_string(), text);
        }
        let turning: Turning = "a@b/sae@7*0".parse().unwrap();
        assert_eq!(turning.dictionary, "a@b/sae");
        for text in ["", "sae", "@7=5", "sae@", "sae@7=5,", "sae@7"] {
            assert!(text.parse::<Turning>().is_err(), "{text}");
        }
    }

    /// One latent that fires nowhere and writes a row of sevens.
    fn silent(d: usize) -> Dictionary {
        Dictionary::new(Parts {
            encoder: Array2::zeros((1, d)),
            decoder: Array2::from_elem((1, d), 7.0),
            encoder_bias: Array1::zeros(1),
            decoder_bias: Array1::zeros(d),
            centred: false,
            activation: Activation::Relu,
            skip: None,
            scaling: Scaling::None,
            about: About::default(),
        })
        .unwrap()
    }

    #[test]
    fn half_of_a_row_of_sevens_is_added_everywhere_but_to_the_first_token() {
        let model = Checkpoint::toy(0).unwrap();
        let at = HookPoint::new(Point::ResidPost, 1);
        let dictionary = Arc::new(silent(model.config().d_model));
        let splice = Splice::new(dictionary, "one", [at, at], model.config()).unwrap();
        let batch = Batch::single(&[20, 21, 22]).unwrap();
        let stream = |edits: Vec<Edit>| -> Vec<Vec<f32>> {
            let hooks = Hooks::new().edits(edits).capture(at);
            let out = model.decoder.forward(&batch, &hooks, LogitsAt::None);
            let rows = out.unwrap().captured[&at].squeeze(0).unwrap();
            rows.to_vec2().unwrap()
        };
        let clean = stream(Vec::new());
        let edit = "0+0.5".parse().unwrap();
        let edited = stream(turned(&splice, &[edit]).unwrap());
        for (position, (row, was)) in edited.iter().zip(&clean).enumerate() {
            for (x, was) in row.iter().zip(was) {
                let more = if position == 0 { 0.0 } else { 3.5 };
                assert!((x - was - more).abs() < 1e-5, "{position}: {was} to {x}");
            }
        }
        let beyond = turned(&splice, &["1=0".parse().unwrap()]).unwrap_err();
        assert!(beyond.to_string().contains("0 to 0"), "{beyond}");
    }
}
