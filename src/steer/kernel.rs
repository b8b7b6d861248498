//! How strong a steering is at each layer: a weight by layer, and where it is said so another for attention and for MLP.
//!
//! Written `12`, `3-9`, `*` (weight 1 there, 0 elsewhere), `peak(p=18,d=10,min=0.2,max=1.5)` or `list(3:0.5,4:1)`; by component
//! `attn=KERNEL+mlp=KERNEL`. Always: what is read is written again. Next: `steering.rs`, which multiplies a dose by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SteerError;
use crate::config::ModelConfig;
use crate::hooks::expand;

/// A weight for each layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// 1 at these layers, as a hook point names them.
    Layers(String),
    /// heretic's kernel: `max` at the peak, falling in a straight line to `min · max` at `distance` layers from it, 0 beyond.
    /// With `min` 0 it is a triangle.
    Peak {
        /// The layer of the peak; it may lie between two layers.
        position: f64,
        /// Layers from the peak to the end, which is included.
        distance: f64,
        /// Share of `max` that is left at the end, 0 to 1.
        min: f64,
        /// Weight at the peak.
        max: f64,
    },
    /// These weights at these layers, 0 elsewhere.
    List(Vec<(usize, f64)>),
}

impl Kernel {
    /// A triangle of height 1: 0 at `distance` from the peak.
    pub fn triangle(position: f64, distance: f64) -> Self {
        Self::Peak {
            position,
            distance,
            min: 0.0,
            max: 1.0,
        }
    }

    /// The weight of each layer, `[n_layers]`.
    ///
    /// # Errors
    /// A layer that the model lacks.
    pub fn weights(&self, config: &ModelConfig) -> Result<Vec<f64>, SteerError> {
        let n = config.n_layers;
        let mut weights = vec![0.0; n];
        match self {
            Self::Layers(layers) => {
                let points = expand(&format!("resid_pre.{layers}"), config);
                for at in points.map_err(crate::model::ModelError::from)? {
                    weights[at.layer] = 1.0;
                }
            }
            Self::Peak {
                position,
                distance,
                min,
                max,
            } => {
                for (layer, weight) in weights.iter_mut().enumerate() {
                    let away = (layer as f64 - position).abs();
                    *weight = if away > *distance {
                        0.0
                    } else if *distance == 0.0 {
                        *max
                    } else {
                        max + away / distance * (min * max - max)
                    };
                }
            }
            Self::List(list) => {
                for &(layer, weight) in list {
                    *weights
                        .get_mut(layer)
                        .ok_or(SteerError::Layer { layer, n_layers: n })? = weight;
                }
            }
        }
        Ok(weights)
    }

    fn parse(text: &str) -> Option<Self> {
        let inside = |name: &str| {
            text.strip_prefix(name)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        if let Some(list) = inside("list") {
            let pair = |part: &str| {
                let (layer, weight) = part.split_once(':')?;
                Some((layer.trim().parse().ok()?, number(weight)?))
            };
            return list
                .split(',')
                .map(pair)
                .collect::<Option<_>>()
                .map(Self::List);
        }
        if let Some(list) = inside("peak") {
            return Self::peak(list);
        }
        let plain = |c: char| c.is_ascii_digit() || matches!(c, '*' | '-' | ',');
        (!text.is_empty() && text.chars().all(plain)).then(|| Self::Layers(text.to_owned()))
    }

    fn peak(list: &str) -> Option<Self> {
        let (mut position, mut distance, mut min, mut max) = (None, None, 0.0, 1.0);
        for part in list.split(',') {
            let (key, value) = part.split_once('=')?;
            let value = number(value)?;
            match key.trim() {
                "p" => position = Some(value),
                "d" if value >= 0.0 => distance = Some(value),
                "min" if (0.0..=1.0).contains(&value) => min = value,
                "max" => max = value,
                _ => return None,
            }
        }
        Some(Self::Peak {
            position: position?,
            distance: distance?,
            min,
            max,
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers(layers) => f.write_str(layers),
            Self::Peak {
                position,
                distance,
                min,
                max,
            } => write!(f, "peak(p={position},d={distance},min={min},max={max})"),
            Self::List(list) => {
                let parts: Vec<String> = list.iter().map(|(l, w)| format!("{l}:{w}")).collect();
                write!(f, "list({})", parts.join(","))
            }
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|x: &f64| x.is_finite())
}

/// A kernel for the whole stream, or one for each of the two that write into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// The same for both.
    Both(Kernel),
    /// One each, none for no edit.
    Apart {
        /// What attention adds.
        attn: Option<Kernel>,
        /// What the MLP adds.
        mlp: Option<Kernel>,
    },
}

impl FromStr for Kernels {
    type Err = SteerError;

    fn from_str(text: &str) -> Result<Self, SteerError> {
        let malformed = || SteerError::Written {
            expected: "layers (12, 3-9, *), peak(p=LAYER,d=LAYERS[,min=SHARE][,max=WEIGHT]), list(LAYER:WEIGHT,…), or \
                       attn=…+mlp=… of these",
            example: "--ablate 'direction.safetensors@attn=peak(p=18,d=10,min=0.2)+mlp=12-20*1'",
        };
        if let Some(kernel) = Kernel::parse(text) {
            return Ok(Self::Both(kernel));
        }
        let (mut attn, mut mlp) = (None, None);
        for part in text.split('+') {
            let (name, kernel) = part.split_once('=').ok_or_else(malformed)?;
            let place = match name.trim() {
                "attn" => &mut attn,
                "mlp" => &mut mlp,
                _ => return Err(malformed()),
            };
            let kernel = Kernel::parse(kernel).ok_or_else(malformed)?;
            if place.replace(kernel).is_some() {
                return Err(malformed());
            }
        }
        Ok(Self::Apart { attn, mlp })
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both(kernel) => kernel.fmt(f),
            Self::Apart { attn, mlp } => {
                let part = |name: &str, kernel: &Option<Kernel>| {
                    kernel.as_ref().map(|kernel| format!("{name}={kernel}"))
                };
                let parts: Vec<String> = [part("attn", attn), part("mlp", mlp)]
                    .into_iter()
                    .flatten()
                    .collect();
                f.write_str(&parts.join("+"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Checkpoint;

    fn weights(text: &str) -> Vec<f64> {
        let config = ModelConfig {
            n_layers: 6,
            ..Checkpoint::toy(0).unwrap().config().clone()
        };
        match text.parse::<Kernels>().unwrap() {
            Kernels::Both(kernel) => kernel.weights(&config).unwrap(),
            Kernels::Apart { .. } => panic!(),
        }
    }

    #[test]
    fn by_hand() {
        assert_eq!(weights("2"), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights("1-2,5"), [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(weights("list(0:-1,3:0.5)"), [-1.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        // heretic: max + |l - p| / D · (min·max − max), 0 beyond D.
        assert_eq!(
            weights("peak(p=3,d=2,min=0.5,max=1.5)"),
            [0.0, 0.75, 1.125, 1.5, 1.125, 0.75]
        );
        assert_eq!(weights("peak(p=2.5,d=1)"), [0.0, 0.0, 0.5, 0.5, 0.0, 0.0]);
        assert_eq!(weights("peak(p=4,d=0)"), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_read_is_written_again_and_the_rest_is_refused() {
        for text in [
            "*",
            "3-9",
            "peak(p=18,d=10,min=0.2,max=1.5)",
            "list(3:0.5,4:1)",
            "attn=peak(p=3,d=2,min=0,max=1)+mlp=4",
            "mlp=list(1:-0.5)",
        ] {
            assert_eq!(text.parse::<Kernels>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "x",
            "peak(3,4)",
            "peak(p=1)",
            "peak(p=1,d=-1)",
            "peak(p=1,d=1,min=2)",
            "list(1)",
            "attn=1+attn=2",
            "head=3",
            "peak(p=nan,d=1)",
        ] {
            let error = text.parse::<Kernels>().unwrap_err().to_string();
            assert!(error.contains("peak(p=LAYER"), "{text}: {error}");
        }
    }
}
