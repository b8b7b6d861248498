//! What can be done with a direction beside taking it out and adding it: the forms of intervention, with their definitions.
//!
//! In all of them h is the residual stream at one position, v the direction, v̂ = v/‖v‖, and the number is the dose as it is
//! written after `*`. Always: each position is edited alone, so batches, padding and the KV cache change nothing; and the
//! part of h outside the direction (the plane of a rotation) stays as it is. Next: `steering.rs`, which writes and reads them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SteerError;
use crate::hooks::{Edit, EditOp, PositionSelect, Selector, Vector};

/// A form of intervention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// h + α v at `resid_pre` of the layers, α times the layer's weight (activation addition, Turner et al. 2023; several
    /// layers, as in Zou et al. 2023).
    Add,
    /// h − a P h at `attn_contrib` and `mlp_contrib`, a times the layer's weight, and at `resid_pre` where no weights are given;
    /// P projects on the span of all directions given (Arditi et al. 2024, for one).
    Subspace,
    /// v̂·h becomes the number (clamping; Templeton et al. 2024 for features).
    Clamp,
    /// v̂·h becomes at most the number: activation capping.
    Cap,
    /// v̂·h becomes at least the number.
    Floor,
    /// h − a max(0, v̂·h) v̂ (one-sided ablation): what points against v stays.
    OneSided,
    /// h + (t − v̂·h) v̂ with t = v̂·o + α ‖v‖, o the origin given second, or 0: affine concept editing (Marshall, Scherlis and
    /// Belrose 2024). With the mean of one class as o, α 0 puts every prompt at that class and α 1 at the other.
    Affine,
    /// h turned in the plane of v and a second direction by so many degrees, from the first towards the second; ‖h‖ stays.
    Rotate,
    /// The same to that angle from v: P h becomes ‖P h‖ (cos θ b₁ + sin θ b₂), P the projector on the plane (Angular Steering, Vu
    /// and Nguyen 2025, at the block's input instead of after both norms). 0 turns all of it into v.
    RotateTo,
}

impl Form {
    /// Every form, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Add,
        Self::Subspace,
        Self::Clamp,
        Self::Cap,
        Self::Floor,
        Self::OneSided,
        Self::Affine,
        Self::Rotate,
        Self::RotateTo,
    ];

    /// The option's name without its dashes; `add` has the option of additions, `subspace` that of ablations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subspace => "ablate",
            Self::Clamp => "clamp",
            Self::Cap => "cap",
            Self::Floor => "floor",
            Self::OneSided => "one-sided",
            Self::Affine => "affine",
            Self::Rotate => "rotate",
            Self::RotateTo => "rotate-to",
        }
    }

    /// Whether a weight by layer makes sense: it scales what is an amount, not what is a place.
    pub fn weighted(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Subspace | Self::OneSided | Self::Rotate
        )
    }

    /// The operation at one point, of the vectors in the order given.
    ///
    /// # Errors
    /// Too few or too many vectors.
    pub fn op(self, vectors: &[Vector], dose: f64) -> Result<EditOp, SteerError> {
        let (least, most) = match self {
            Self::Subspace => (1, usize::MAX),
            Self::Affine => (1, 2),
            Self::Rotate | Self::RotateTo => (2, 2),
            _ => (1, 1),
        };
        let n = vectors.len();
        if n < least || n > most {
            return Err(SteerError::Directions {
                form: self.name(),
                expected: match (least, most) {
                    (1, 1) => "one direction",
                    (2, 2) => "two directions, DIR,DIR",
                    (1, 2) => "a direction and perhaps an origin, DIR,ORIGIN",
                    _ => "one direction or more",
                },
                found: n,
            });
        }
        let direction = vectors[0].clone();
        let between = |min: f64, max: f64| EditOp::Clamp {
            direction: Some(direction.clone()),
            min,
            max,
        };
        Ok(match self {
            Self::Add => EditOp::Add {
                vector: direction,
                alpha: dose,
            },
            Self::Subspace => EditOp::Ablate {
                directions: vectors.to_vec(),
                amount: dose,
            },
            Self::Clamp => between(dose, dose),
            Self::Cap => between(f64::from(f32::MIN), dose),
            Self::Floor => between(dose, f64::from(f32::MAX)),
            Self::OneSided => EditOp::OneSided {
                direction,
                amount: dose,
            },
            Self::Affine => {
                let length = norm(&direction);
                let origin = vectors.get(1).map_or(0.0, |o| dot(o, &direction) / length);
                EditOp::Affine {
                    target: origin + dose * length,
                    direction,
                    amount: 1.0,
                }
            }
            Self::Rotate | Self::RotateTo => EditOp::Rotate {
                directions: vectors.to_vec(),
                degrees: dose,
                to: self == Self::RotateTo,
            },
        })
    }
}

/// Which positions a steering touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// All of prompt and answer.
    #[default]
    All,
    /// The prompt only; the answer feels it through the keys and values.
    Prompt,
    /// What is generated only: the first new token is still that of the unedited model.
    Generated,
    /// The template's tokens after the instruction, and what is generated: "after the prompt" of contrastive activation
    /// addition (Rimsky et al. 2024).
    After,
}

impl Span {
    /// The edits restricted to it, for prompts that end with `tail` tokens after their instruction. Edits that name positions
    /// of their own keep them.
    #[must_use]
    pub fn restrict(self, edits: Vec<Edit>, tail: usize) -> Vec<Edit> {
        let positions = match self {
            Self::All => return edits,
            Self::Prompt => PositionSelect::Prompt,
            Self::Generated => PositionSelect::Generated,
            Self::After => PositionSelect::Tail(tail),
        };
        let restrict = |edit: Edit| match edit.select.positions {
            PositionSelect::All => {
                let select = Selector {
                    positions: positions.clone(),
                    ..edit.select.clone()
                };
                edit.on(select)
            }
            _ => edit,
        };
        edits.into_iter().map(restrict).collect()
    }
}

/// The vector `factor` times as long.
pub(super) fn times(vector: &Vector, factor: f64) -> Vector {
    let scale = |&x: &f32| (f64::from(x) * factor) as f32;
    Arc::new(vector.iter().map(scale).collect())
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

pub(super) fn norm(v: &[f32]) -> f64 {
    dot(v, v).sqrt()
}
