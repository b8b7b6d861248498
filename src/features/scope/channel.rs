//! What is read beside the latents: probe scores and projections on directions, at every token.
//!
//! Always: a channel reads the point that it names, after all edits there. A probe's threshold was set at its own position;
//! at other tokens its score says what it would say there.

use std::sync::Arc;

use candlescope_probes::{Direction, LinearProbe, Score};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::features::FeatureError;
use crate::hooks::{HookPoint, Shape};
use crate::probing::file::ProbeFile;

/// What a channel is, without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// Where it reads.
    pub at: HookPoint,
    /// What it reads.
    pub kind: ChannelKind,
    /// A probe's own threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// What a channel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A probe's score, before any threshold or sigmoid.
    Probe,
    /// The component along a direction, at length 1.
    Direction,
}

/// A probe or a direction, ready to read.
#[derive(Debug, Clone)]
pub struct Channel {
    info: ChannelInfo,
    reader: Arc<Reader>,
}

#[derive(Debug)]
enum Reader {
    Probe(LinearProbe),
    Direction(Direction),
}

impl Channel {
    /// A probe at its own point.
    pub fn probe(name: &str, file: &ProbeFile) -> Self {
        Self {
            info: ChannelInfo {
                name: name.to_owned(),
                at: file.about.place.point,
                kind: ChannelKind::Probe,
                threshold: Some(file.about.threshold),
            },
            reader: Arc::new(Reader::Probe(file.probe.clone())),
        }
    }

    /// The component along a vector of any length above 0.
    ///
    /// # Errors
    /// A vector without a length.
    pub fn direction(name: &str, at: HookPoint, vector: &[f32]) -> Result<Self, FeatureError> {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let length = length.sqrt();
        if !length.is_finite() || length == 0.0 {
            let what = format!("the direction {name} has length {length} and points nowhere");
            return Err(FeatureError::Nothing { what });
        }
        let unit = vector.iter().map(|x| (f64::from(*x) / length) as f32);
        let direction = Direction {
            vector: unit.collect(),
            norm: length,
            layer: None,
            position: None,
            n_pos: 0,
            n_neg: 0,
            negative_norm: None,
            reliability: None,
        };
        Ok(Self {
            info: ChannelInfo {
                name: name.to_owned(),
                at,
                kind: ChannelKind::Direction,
                threshold: None,
            },
            reader: Arc::new(Reader::Direction(direction)),
        })
    }

    /// What it is.
    pub fn info(&self) -> &ChannelInfo {
        &self.info
    }

    /// Refuses a point that the model lacks or that has no row for each token, and another width.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<(), FeatureError> {
        let at = self.info.at;
        let info = at.check(config)?.point.info();
        let (artefact, side) = (self.info.name.clone(), "reads");
        if info.shape == Shape::Attention {
            let why = format!("{at} is about pairs of tokens and has no row for each");
            return Err(FeatureError::Place {
                artefact,
                side,
                why,
            });
        }
        let expected = info.dims(config, 1, 1, 1)[2..].iter().product();
        let found = match &*self.reader {
            Reader::Probe(probe) => probe.weights.len(),
            Reader::Direction(direction) => direction.vector.len(),
        };
        if found == expected {
            return Ok(());
        }
        Err(FeatureError::Width {
            artefact,
            side,
            at,
            expected,
            found,
        })
    }

    /// Its value for rows `[n, width]` of its point.
    pub(super) fn read(&self, rows: ArrayView2<f32>) -> Result<Vec<f64>, FeatureError> {
        Ok(match &*self.reader {
            Reader::Probe(probe) => probe.scores(rows)?,
            Reader::Direction(direction) => direction.project(rows)?,
        })
    }
}
