//! A trainer between two batches, as bytes: a safetensors file of weights, moments and counters, with the rest in its header.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::batch_topk::Threshold;
use super::params::Params;
use super::recipe::{Recipe, Shape};
use super::trainer::Trainer;
use crate::SaeError;

const SCHEMA: &str = "candlescope.sae-trainer/1";

/// What is no tensor. Floats that a step reads are kept as bits, so that nothing is lost on the way through text.
#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    recipe: Recipe,
    shape: Shape,
    step: u64,
    rows: u64,
    scale: u32,
    threshold_average: u64,
    threshold_last: u32,
    threshold_batches: u64,
}

fn broken(message: impl Into<String>) -> SaeError {
    SaeError::Unsupported {
        what: "this trainer's state".into(),
        why: message.into(),
    }
}

impl Trainer {
    /// Everything that the next step hangs on.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SaeError> {
        let header = Header {
            schema: SCHEMA.into(),
            recipe: self.recipe.clone(),
            shape: self.shape.clone(),
            step: self.step,
            rows: self.rows,
            scale: self.scale.to_bits(),
            threshold_average: self.threshold.average.to_bits(),
            threshold_last: self.threshold.last.to_bits(),
            threshold_batches: self.threshold.batches,
        };
        let header = serde_json::to_string(&header).map_err(|e| broken(e.to_string()))?;
        let bytes =
            |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let [first, second] = &self.moments;
        let parts = [("", &self.params), ("first.", first), ("second.", second)];
        let mut named: Vec<(String, Dtype, usize, Vec<u8>)> = Vec::new();
        for (prefix, params) in parts {
            for (name, numbers) in params.named() {
                if !numbers.is_empty() {
                    named.push((
                        format!("{prefix}{name}"),
                        Dtype::F32,
                        numbers.len(),
                        bytes(numbers),
                    ));
                }
            }
        }
        let silent: Vec<u8> = self.silent.iter().flat_map(|x| x.to_le_bytes()).collect();
        named.push(("silent".into(), Dtype::U64, self.silent.len(), silent));
        let views = named.iter().map(|(name, dtype, count, bytes)| {
            TensorView::new(*dtype, vec![*count], bytes).map(|view| (name.as_str(), view))
        });
        let views = views
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| broken(e.to_string()))?;
        let about = HashMap::from([("trainer".to_string(), header)]);
        serialize(views, Some(about)).map_err(|e| broken(e.to_string()))
    }

    /// The trainer that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are no such state, or whose parts do not go together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SaeError> {
        let (_, about) = SafeTensors::read_metadata(bytes).map_err(|e| broken(e.to_string()))?;
        let header = about.metadata().as_ref().and_then(|m| m.get("trainer"));
        let header = header.ok_or_else(|| broken("the header has no `trainer`"))?;
        let header: Header = serde_json::from_str(header).map_err(|e| broken(e.to_string()))?;
        if header.schema != SCHEMA {
            return Err(broken(format!(
                "expected {SCHEMA}, found {}",
                header.schema
            )));
        }
        header.recipe.check(&header.shape)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| broken(e.to_string()))?;
        let empty = ndarray::Array2::zeros((0, header.shape.d_out()));
        let scale = f32::from_bits(header.scale);
        let mut trainer = Self::new(header.recipe, header.shape, empty.view(), scale)?;
        let [first, second] = &mut trainer.moments;
        let parts = [
            ("", &mut trainer.params),
            ("first.", first),
            ("second.", second),
        ];
        for (prefix, params) in parts {
            read(&tensors, prefix, params)?;
        }
        let silent = tensors
            .tensor("silent")
            .map_err(|e| broken(e.to_string()))?;
        if silent.dtype() != Dtype::U64 || silent.shape() != [trainer.silent.len()] {
            return Err(broken("`silent` has another type or length"));
        }
        for (silent, bytes) in trainer.silent.iter_mut().zip(silent.data().as_chunks().0) {
            *silent = u64::from_le_bytes(*bytes);
        }
        trainer.threshold = Threshold {
            average: f64::from_bits(header.threshold_average),
            last: f32::from_bits(header.threshold_last),
            batches: header.threshold_batches,
        };
        trainer.step = header.step;
        trainer.rows = header.rows;
        Ok(trainer)
    }
}

fn read(tensors: &SafeTensors, prefix: &str, params: &mut Params) -> Result<(), SaeError> {
    for (name, numbers) in params.named_mut() {
        if numbers.is_empty() {
            continue;
        }
        let name = format!("{prefix}{name}");
        let found = tensors
            .tensor(&name)
            .map_err(|e| broken(format!("{name}: {e}")))?;
        if found.dtype() != Dtype::F32 || found.shape() != [numbers.len()] {
            return Err(broken(format!(
                "{name}: expected {} numbers of f32, found {:?} {:?}",
                numbers.len(),
                found.dtype(),
                found.shape()
            )));
        }
        for (number, bytes) in numbers.iter_mut().zip(found.data().as_chunks().0) {
            *number = f32::from_le_bytes(*bytes);
        }
    }
    Ok(())
}
