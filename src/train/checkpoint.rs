//! What a checkpoint of a run carries besides the model: `trainer.safetensors` and `trainer.json`.
//!
//! Always: with the model's files this is everything that decides what the next step does, so that a run goes on bit for
//! bit. `trainer.safetensors` has the optimiser's moments in f32, `trainer.json` the counters, the random generator, the place in the data, and what the run was.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TrainError, config::undecided, manifest::read_text};
use crate::files::{
    SafetensorsFolder, TensorSource,
    write::{Planned, WriteOptions, write_atomic, write_safetensors_file},
};

/// Name of the format.
pub const SCHEMA: &str = "candlescope.trainer/1";
/// The counters.
pub const STATE: &str = "trainer.json";
/// The tensors.
pub const TENSORS: &str = "trainer.safetensors";
/// No state is larger than this.
const MAX_BYTES: u64 = 256 << 20;

/// A random generator where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngState {
    /// ChaCha's key.
    seed: [u8; 32],
    /// Its stream.
    stream: u64,
    /// Words drawn, as text since JSON has no 128 bits.
    words: String,
}

impl RngState {
    /// Of a generator.
    pub fn of(rng: &ChaCha8Rng) -> Self {
        Self {
            seed: rng.get_seed(),
            stream: rng.get_stream(),
            words: rng.get_word_pos().to_string(),
        }
    }

    /// The generator, which goes on where it stood; `None` for a state that is none.
    pub fn generator(&self) -> Option<ChaCha8Rng> {
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream(self.stream);
        rng.set_word_pos(self.words.parse().ok()?);
        Some(rng)
    }
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step of its checkpoint.
    pub step: u64,
    /// The metric's value.
    pub value: f64,
}

/// Everything of a run that is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: String,
    /// The method.
    pub method: String,
    /// The resolved config but for `[output]`, which may change between sessions.
    pub config: Value,
    /// SHA-256 over the tensors of the model that the run began with.
    pub weights: String,
    /// Steps done.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// The generator.
    pub rng: RngState,
    /// The place in the data.
    pub sampler: Value,
    /// What the method carries.
    pub state: Value,
    /// What the alerts remember.
    pub alerts: Value,
    /// The best evaluation so far.
    pub best: Option<Best>,
}

impl State {
    /// Writes it into a checkpoint's folder.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let path = folder.join(STATE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| TrainError::io(&path, "write")(std::io::Error::other(e)))?;
        Ok(write_atomic(&path, (text + "\n").as_bytes())?)
    }

    /// Reads it from one.
    ///
    /// # Errors
    /// It is not there, too long, or of another format.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(STATE);
        let text = read_text(&path, MAX_BYTES)?;
        let wrong = |found: String| TrainError::mismatch(&path, "state", SCHEMA, found);
        let state: Self = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if state.schema != SCHEMA {
            return Err(wrong(state.schema));
        }
        Ok(state)
    }

    /// Refuses to go on from a checkpoint of another run, naming the field.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`].
    pub fn expect(
        &self,
        folder: &Path,
        (method, weights, config): (&str, &str, &Value),
    ) -> Result<(), TrainError> {
        let path = folder.join(STATE);
        let texts = [
            ("method", method, self.method.as_str()),
            ("weights", weights, self.weights.as_str()),
        ];
        for (field, ours, theirs) in texts {
            if ours != theirs {
                return Err(TrainError::mismatch(&path, field, ours, theirs));
            }
        }
        let mut theirs = self.config.clone();
        undecided(&mut theirs);
        match difference(config, &theirs, "") {
            None => Ok(()),
            Some((field, ours, theirs)) => Err(TrainError::mismatch(&path, field, ours, theirs)),
        }
    }
}

/// The first place where two trees differ: its dotted path and the two values.
pub(super) fn difference(
    ours: &Value,
    theirs: &Value,
    at: &str,
) -> Option<(String, String, String)> {
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), ToString::to_string);
    let (Value::Object(a), Value::Object(b)) = (ours, theirs) else {
        return (ours != theirs).then(|| (at.to_owned(), shown(Some(ours)), shown(Some(theirs))));
    };
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().find_map(|key| {
        let at = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => difference(a, b, &at),
            (a, b) => Some((at, shown(a), shown(b))),
        }
    })
}

/// Writes the tensors of a checkpoint.
///
/// # Errors
/// The disk refuses.
pub fn write_tensors(folder: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
    // Counts of steps among them are whole numbers, which f32 holds up to 2^24.
    let plan: Vec<Planned> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()))
        .collect();
    let options = WriteOptions {
        dtype: DType::F32,
        ..WriteOptions::default()
    };
    write_safetensors_file(&folder.join(TENSORS), &plan, &options, |name| {
        Ok::<_, TrainError>(tensors[name].to_dtype(DType::F32)?)
    })?;
    Ok(())
}

/// Reads them.
///
/// # Errors
/// The file is not there or broken.
pub fn read_tensors(folder: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let file = SafetensorsFolder::open(&folder.join(TENSORS))?;
    file.names()
        .into_iter()
        .map(|name| {
            let tensor = file.load(&name, DType::F32)?;
            Ok((name, tensor))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_chacha::rand_core::RngCore;

    use super::*;

    #[test]
    fn a_generator_goes_on_where_it_stood() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..37 {
            rng.next_u32();
        }
        let json = serde_json::to_string(&RngState::of(&rng)).unwrap();
        let state: RngState = serde_json::from_str(&json).unwrap();
        let mut again = state.generator().unwrap();
        for _ in 0..100 {
            assert_eq!(rng.next_u64(), again.next_u64());
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let value = |text| serde_json::from_str::<Value>(text).unwrap();
        let ours = value(r#"{"a": {"b": 1, "c": [1, 2]}, "d": true}"#);
        assert_eq!(difference(&ours, &ours, ""), None);
        let theirs = value(r#"{"a": {"b": 1, "c": [1, 3]}, "d": true}"#);
        let expected = ("a.c".to_owned(), "[1,2]".to_owned(), "[1,3]".to_owned());
        assert_eq!(difference(&ours, &theirs, ""), Some(expected));
        let theirs = value(r#"{"a": {"b": 1, "c": [1, 2]}}"#);
        let (field, ..) = difference(&ours, &theirs, "").unwrap();
        assert_eq!(field, "d");
    }

    #[test]
    fn tensors_come_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let values = vec![0.1f32, -0.0, 1e-42, f32::MIN_POSITIVE, 3e38];
        let tensor = Tensor::new(values.clone(), &candle_core::Device::Cpu).unwrap();
        let tensors = BTreeMap::from([("m.x".to_owned(), tensor)]);
        write_tensors(dir.path(), &tensors).unwrap();
        let back = read_tensors(dir.path()).unwrap();
        let back = back["m.x"].to_vec1::<f32>().unwrap();
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
    }
}
