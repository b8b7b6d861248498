//! Edits: what is done to a tensor at a point. Edits are values that can be written down; only a closure cannot.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use candlescope_ops as ops;
use serde::{Deserialize, Serialize};

use super::{
    Axis, HookError, HookPoint, Pass, Point, PositionSelect, Selector,
    along::{Move, matrix, orthonormal},
    select::mask,
};
use crate::config::ModelConfig;

/// A vector along a tensor's last axis.
pub type Vector = Arc<Vec<f32>>;

/// An attention edge by logical positions; negative ones count from the row's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// The looking position.
    pub query: i64,
    /// The position looked at.
    pub key: i64,
}

/// What an edit does.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum EditOp {
    /// `x + alpha * vector`.
    Add {
        /// Along the last axis.
        vector: Vector,
        /// Dose.
        alpha: f64,
    },
    /// `x - amount * P x`, P the projector onto the span of the directions (orthonormalised here).
    Ablate {
        /// One direction, or a basis of a subspace.
        directions: Vec<Vector>,
        /// 1 removes the component.
        amount: f64,
    },
    /// `factor * x`.
    Scale {
        /// 0 is zero-ablation.
        factor: f64,
    },
    /// Each entry, or the projection on a direction, is forced into `[min, max]`.
    Clamp {
        /// Clamp the component along this unit-normalised direction instead of each entry.
        direction: Option<Vector>,
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// `x - amount * max(0, v·x) v`, v the direction at length 1: what points against it stays.
    OneSided {
        /// Normalised here.
        direction: Vector,
        /// 1 removes the positive component.
        amount: f64,
    },
    /// `x + amount * (target - v·x) v`, v the direction at length 1 (Marshall et al. 2024).
    Affine {
        /// Normalised here.
        direction: Vector,
        /// The component that x is moved to.
        target: f64,
        /// 1 goes all the way.
        amount: f64,
    },
    /// Turned in the plane of two directions, from the first towards the second; its norm stays (Vu and Nguyen 2025).
    Rotate {
        /// Two, orthonormalised here: the first keeps its direction.
        directions: Vec<Vector>,
        /// The angle.
        degrees: f64,
        /// To that angle from the first direction, wherever it stood, instead of by it.
        to: bool,
    },
    /// The vector itself, at every selected place (mean-ablation).
    Replace {
        /// Along the last axis.
        vector: Vector,
    },
    /// The entries of an earlier capture of the same shape (or with batch 1).
    #[serde(skip)]
    Patch {
        /// What to write.
        from: Tensor,
    },
    /// Queries cannot see these keys; scores only. Weights of the other keys renormalise.
    Knockout {
        /// The edges.
        edges: Vec<Edge>,
    },
    /// Any function of the tensor that keeps its shape.
    #[serde(skip)]
    Closure {
        /// For messages; also its identity towards the KV cache.
        name: String,
        /// The function.
        function: Arc<dyn Fn(&Tensor, &Pass) -> CandleResult<Tensor> + Send + Sync>,
    },
}

impl EditOp {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Ablate { .. } => "ablate",
            Self::Scale { .. } => "scale",
            Self::Clamp { .. } => "clamp",
            Self::OneSided { .. } => "one_sided",
            Self::Affine { .. } => "affine",
            Self::Rotate { .. } => "rotate",
            Self::Replace { .. } => "replace",
            Self::Patch { .. } => "patch",
            Self::Knockout { .. } => "knockout",
            Self::Closure { .. } => "closure",
        }
    }
}

impl fmt::Debug for EditOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure { name, function } => {
                write!(f, "closure({name}@{:p})", Arc::as_ptr(function))
            }
            Self::Patch { from } => write!(f, "patch({:?})", from.dims()),
            serialisable => f.write_str(&serde_json::to_string(serialisable).unwrap_or_default()),
        }
    }
}

/// An edit at a point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edit {
    /// Where.
    pub at: HookPoint,
    /// What.
    #[serde(flatten)]
    pub op: EditOp,
    /// Which entries.
    #[serde(default)]
    pub select: Selector,
}

impl Edit {
    /// An edit of the whole tensor.
    pub fn new(at: HookPoint, op: EditOp) -> Self {
        Self {
            at,
            op,
            select: Selector::all(),
        }
    }

    /// Restricted to a selection.
    pub fn on(mut self, select: Selector) -> Self {
        self.select = select;
        self
    }

    /// What it makes of a tensor of its point, every entry of it.
    ///
    /// # Errors
    /// As in a pass.
    pub fn preview(&self, x: &Tensor, config: &ModelConfig) -> Result<Tensor, HookError> {
        let whole = Self::new(self.at, self.op.clone());
        let (batch, queries) = (x.dims()[0], x.dims()[1.min(x.rank() - 1)]);
        let pass = Pass {
            batch,
            queries,
            keys: queries,
            offset: 0,
            prefix: 0,
            pad: vec![0; batch],
            prompt: queries,
        };
        whole.compile(config, x.dtype())?.apply(x, &pass)
    }

    /// Feeds its identity to a hash: the KV cache compares it on every pass, so nothing is written out for it.
    pub(super) fn hash_into(&self, hasher: &mut impl Hasher) {
        self.at.hash(hasher);
        self.select.hash(hasher);
        self.op.name().hash(hasher);
        let mut number = |x: f64| x.to_bits().hash(hasher);
        match &self.op {
            EditOp::Add { alpha, .. } => number(*alpha),
            EditOp::Ablate { amount, .. } | EditOp::OneSided { amount, .. } => number(*amount),
            EditOp::Scale { factor } => number(*factor),
            EditOp::Clamp { min, max, .. } => {
                number(*min);
                number(*max);
            }
            EditOp::Affine { target, amount, .. } => {
                number(*target);
                number(*amount);
            }
            EditOp::Rotate { degrees, to, .. } => {
                number(*degrees);
                number(f64::from(u8::from(*to)));
            }
            _ => {}
        }
        let mut vector = |v: &Vector| v.iter().for_each(|x| x.to_bits().hash(hasher));
        match &self.op {
            EditOp::Add { vector: v, .. } | EditOp::Replace { vector: v } => vector(v),
            EditOp::Ablate { directions, .. } | EditOp::Rotate { directions, .. } => {
                directions.iter().for_each(vector);
            }
            EditOp::OneSided { direction, .. } | EditOp::Affine { direction, .. } => {
                vector(direction);
            }
            EditOp::Clamp { direction, .. } => direction.iter().for_each(vector),
            EditOp::Knockout { edges } => edges.hash(hasher),
            EditOp::Patch { from } => {
                // A tensor is never written after it was made, so the same one has the same values.
                format!("{:?}", from.id()).hash(hasher);
            }
            EditOp::Closure { name, function } => {
                name.hash(hasher);
                Arc::as_ptr(function).cast::<()>().hash(hasher);
            }
            EditOp::Scale { .. } => {}
        }
    }

    /// The first logical position it can touch; `None` for positions counted from the end.
    pub(super) fn first_position(&self) -> usize {
        match &self.select.positions {
            PositionSelect::All => 0,
            // Where the prompt ends is not known here.
            PositionSelect::Prompt | PositionSelect::Generated | PositionSelect::Tail(_) => 0,
            PositionSelect::From(first) => *first,
            PositionSelect::At(list) => list
                .iter()
                .map(|&p| usize::try_from(p).unwrap_or(0))
                .min()
                .unwrap_or(0),
        }
    }

    /// Checks what can be checked before a pass and prepares the constants.
    pub(super) fn compile(
        &self,
        config: &ModelConfig,
        dtype: DType,
    ) -> Result<Compiled, HookError> {
        let at = self.at.check(config)?;
        let dims = at.point.info().dims(config, 1, 1, 1);
        let width = dims[dims.len() - 1];
        let attention = matches!(at.point, Point::AttnScores | Point::Pattern);
        let refuse = |why| HookError::EditPoint {
            at: at.to_string(),
            edit: self.op.name(),
            why,
        };
        let value = |what: String| HookError::EditValue {
            at: at.to_string(),
            edit: self.op.name(),
            what,
        };
        let finite = |x: f64, what: &str| {
            if x.is_finite() {
                Ok(())
            } else {
                Err(value(format!("{what} must be finite, found {x}")))
            }
        };
        if let (Axis::Only(heads), 3..) = (&self.select.heads, dims.len()) {
            let size = if attention {
                dims[1]
            } else {
                dims[2.min(dims.len() - 1)]
            };
            if let (4, Some(&head)) = (dims.len(), heads.iter().find(|&&h| h >= size)) {
                return Err(HookError::OutOfRange {
                    at: at.to_string(),
                    axis: "head",
                    index: head as i64,
                    size,
                });
            }
        }
        let vector = |v: &Vector| -> Result<Tensor, HookError> {
            if attention {
                return Err(refuse(
                    "scores and patterns have no fixed last axis; use scale, patch, knockout or a closure",
                ));
            }
            if v.len() != width {
                return Err(HookError::EditShape {
                    at: at.to_string(),
                    edit: self.op.name(),
                    expected: format!("a vector of {width}"),
                    found: vec![v.len()],
                });
            }
            if v.iter().any(|x| !x.is_finite()) {
                return Err(value("the vector has an entry that is not finite".into()));
            }
            tensor(v, dtype).map_err(|source| HookError::Candle {
                at: at.to_string(),
                source,
            })
        };
        let basis = |directions: &[Vector]| -> Result<Tensor, HookError> {
            for direction in directions {
                vector(direction)?;
            }
            let rows = orthonormal(directions).map_err(&value)?;
            matrix(&rows, width, dtype).map_err(|source| HookError::Candle {
                at: at.to_string(),
                source,
            })
        };
        let along = |directions: &[Vector], how| Ok(Ready::Along(basis(directions)?, how));
        let ready = match &self.op {
            EditOp::Add { vector: v, alpha } => {
                finite(*alpha, "alpha")?;
                Ready::Add(vector(v)?, *alpha)
            }
            EditOp::Ablate { directions, amount } => {
                finite(*amount, "amount")?;
                Ready::Ablate(basis(directions)?, *amount)
            }
            EditOp::OneSided { direction, amount } => {
                finite(*amount, "amount")?;
                along(std::slice::from_ref(direction), Move::OneSided(*amount))?
            }
            EditOp::Affine {
                direction,
                target,
                amount,
            } => {
                finite(*target, "target")?;
                finite(*amount, "amount")?;
                let direction = std::slice::from_ref(direction);
                along(direction, Move::Affine(*target, *amount))?
            }
            EditOp::Rotate {
                directions,
                degrees,
                to,
            } => {
                finite(*degrees, "degrees")?;
                if directions.len() != 2 {
                    let found = directions.len();
                    return Err(value(format!(
                        "a plane has 2 directions, {found} are given"
                    )));
                }
                let angle = degrees.to_radians();
                let how = if *to { Move::To } else { Move::By };
                along(directions, how(angle))?
            }
            EditOp::Scale { factor } => {
                finite(*factor, "factor")?;
                if at.point == Point::AttnScores {
                    return Err(refuse(
                        "masked scores are -inf and cannot be scaled; scale the pattern or q instead",
                    ));
                }
                Ready::Scale(*factor)
            }
            EditOp::Clamp {
                direction,
                min,
                max,
            } => {
                finite(*min, "min")?;
                finite(*max, "max")?;
                if min > max {
                    return Err(value(format!("min {min} is above max {max}")));
                }
                if at.point == Point::AttnScores {
                    return Err(refuse(
                        "clamping would lift the causal mask; use knockout or a closure",
                    ));
                }
                match direction {
                    None => Ready::Clamp(*min, *max),
                    Some(d) => along(std::slice::from_ref(d), Move::Clamp(*min, *max))?,
                }
            }
            EditOp::Replace { vector: v } => Ready::Replace(vector(v)?),
            EditOp::Patch { from } => {
                Ready::Patch(from.to_dtype(dtype).map_err(|source| HookError::Candle {
                    at: at.to_string(),
                    source,
                })?)
            }
            EditOp::Knockout { edges } => {
                if at.point != Point::AttnScores {
                    return Err(refuse("attention edges are cut at attn_scores"));
                }
                if edges.is_empty() {
                    return Err(value("no edges given".into()));
                }
                Ready::Knockout(edges.clone())
            }
            EditOp::Closure { function, .. } => Ready::Closure(function.clone()),
        };
        Ok(Compiled {
            at,
            ready,
            select: self.select.clone(),
            edit: self.op.name(),
        })
    }
}

type Function = Arc<dyn Fn(&Tensor, &Pass) -> CandleResult<Tensor> + Send + Sync>;

/// An edit with its constants as tensors.
pub(super) struct Compiled {
    at: HookPoint,
    ready: Ready,
    select: Selector,
    edit: &'static str,
}

enum Ready {
    Add(Tensor, f64),
    /// Orthonormal rows `[k, width]`.
    Ablate(Tensor, f64),
    Scale(f64),
    Clamp(f64, f64),
    /// Orthonormal rows `[k, width]`.
    Along(Tensor, Move),
    Replace(Tensor),
    Patch(Tensor),
    Knockout(Vec<Edge>),
    Closure(Function),
}

impl Compiled {
    /// The edited tensor; same shape.
    pub(super) fn apply(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, HookError> {
        let candle = |source| HookError::Candle {
            at: self.at.to_string(),
            source,
        };
        let shape = |expected: String, found: &Tensor| HookError::EditShape {
            at: self.at.to_string(),
            edit: self.edit,
            expected,
            found: found.dims().to_vec(),
        };
        let edited = match &self.ready {
            Ready::Add(v, alpha) => (v * *alpha).and_then(|v| x.broadcast_add(&v)),
            Ready::Ablate(basis, amount) => ops::project_out(x, basis, *amount),
            Ready::Scale(factor) => x.affine(*factor, 0.0),
            Ready::Clamp(min, max) => x.clamp(*min, *max),
            Ready::Along(basis, how) => how.apply(x, basis),
            Ready::Replace(v) => v.broadcast_as(x.shape()).and_then(|v| v.contiguous()),
            Ready::Patch(from) => {
                let fits = from.rank() == x.rank()
                    && from.dims()[1..] == x.dims()[1..]
                    && (from.dims()[0] == 1 || from.dims()[0] == x.dims()[0]);
                if !fits {
                    return Err(shape(
                        format!("the shape of this pass, {:?}, or with batch 1", x.dims()),
                        from,
                    ));
                }
                from.broadcast_as(x.shape()).and_then(|v| v.contiguous())
            }
            Ready::Knockout(edges) => return self.knock_out(x, edges, pass),
            Ready::Closure(function) => {
                let y = function(x, pass).map_err(candle)?;
                if y.dims() != x.dims() {
                    return Err(shape(
                        format!("a closure that keeps the shape {:?}", x.dims()),
                        &y,
                    ));
                }
                Ok(y)
            }
        }
        .map_err(candle)?;
        match mask(self.at, &self.select, pass, x.dims())? {
            None => Ok(edited),
            Some(mask) => mask.where_cond(&edited, x).map_err(candle),
        }
    }

    fn knock_out(&self, x: &Tensor, edges: &[Edge], pass: &Pass) -> Result<Tensor, HookError> {
        let mut cut = vec![0u8; pass.batch * pass.queries * pass.keys];
        for row in 0..pass.batch {
            let len = pass.row_len(row) as i64;
            let resolve = |p: i64, axis| {
                let position = if p < 0 { len + p } else { p };
                if (0..len).contains(&position) || (p >= 0 && pass.offset > 0) {
                    return Ok(position);
                }
                Err(HookError::OutOfRange {
                    at: self.at.to_string(),
                    axis,
                    index: p,
                    size: len as usize,
                })
            };
            for edge in edges {
                let (query, key) = (resolve(edge.query, "query")?, resolve(edge.key, "key")?);
                if key > query {
                    let what =
                        format!("edge {query}->{key} looks ahead; a causal model has no such edge");
                    return Err(HookError::EditValue {
                        at: self.at.to_string(),
                        edit: self.edit,
                        what,
                    });
                }
                let slot = pass.slot(row, query as usize);
                if slot < pass.offset || query >= len {
                    continue; // the query belongs to another pass over this cache
                }
                let key = pass.slot(row, key as usize);
                cut[(row * pass.queries + slot - pass.offset) * pass.keys + key] = 1;
            }
        }
        let candle = |source| HookError::Candle {
            at: self.at.to_string(),
            source,
        };
        let build = |mask: Option<Tensor>| -> CandleResult<Tensor> {
            let cut =
                Tensor::from_vec(cut, (pass.batch, 1, pass.queries, pass.keys), &Device::Cpu)?;
            let mut cut = cut.broadcast_as(x.shape())?;
            if let Some(mask) = mask {
                cut = cut.mul(&mask)?;
            }
            let never = Tensor::full(f32::NEG_INFINITY, (), &Device::Cpu)?
                .to_dtype(x.dtype())?
                .broadcast_as(x.shape())?;
            cut.where_cond(&never, x)
        };
        build(mask(self.at, &self.select, pass, x.dims())?).map_err(candle)
    }
}

fn tensor(v: &[f32], dtype: DType) -> CandleResult<Tensor> {
    Tensor::from_slice(v, v.len(), &Device::Cpu)?.to_dtype(dtype)
}
