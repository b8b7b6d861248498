//! Hooks compiled against a model, and the tap that the decoder turns at each point.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use candle_core::{DType, Tensor};

use super::{Edit, HookError, HookPoint, Hooks, Keep, Pass, Point, edit::Compiled};
use crate::config::ModelConfig;

/// Captured tensors by address.
pub type Captured = BTreeMap<HookPoint, Tensor>;

/// Why a pass ends at a point.
#[derive(Debug)]
pub enum Stop {
    /// Everything that was asked for has been captured.
    Captured,
    /// A hook cannot apply.
    Refused(HookError),
}

impl From<HookError> for Stop {
    fn from(error: HookError) -> Self {
        Self::Refused(error)
    }
}

#[derive(Default)]
struct Visit {
    edits: Vec<Compiled>,
    capture: Option<Keep>,
}

/// Hooks checked against a config.
pub struct Plan {
    visits: BTreeMap<HookPoint, Visit>,
    /// `[point][layer]`: is anything to do there. Looked up at every point of every pass.
    wanted: Vec<bool>,
    n_layers: usize,
    last_capture: usize,
    /// Identity of the edits, for the KV cache.
    edits_id: Option<u64>,
    first_edited_position: usize,
    /// Identity of the edits at each point.
    marks: Marks,
    of_prompt: bool,
}

/// What is done at each point, by identity.
pub type Marks = BTreeMap<HookPoint, u64>;

/// The first block whose work differs between two plans: what is computed before it is the same under both. `n_layers` if
/// only what follows the blocks differs, none if nothing does.
pub fn first_changed_layer(a: &Marks, b: &Marks, n_layers: usize) -> Option<usize> {
    let changed = a.keys().chain(b.keys()).filter(|at| a.get(at) != b.get(at));
    let layer = |at: &HookPoint| match at.point {
        Point::Embed | Point::PosEmbed => 0,
        Point::FinalNorm | Point::Logits => n_layers,
        _ => at.layer,
    };
    changed.map(layer).min()
}

impl Plan {
    /// Checks every point, selector and edit that can be checked before a pass.
    pub fn new(hooks: &Hooks, config: &ModelConfig, dtype: DType) -> Result<Self, HookError> {
        let mut visits: BTreeMap<HookPoint, Visit> = BTreeMap::new();
        let mut last_capture = 0;
        for (at, keep) in hooks.capture_list() {
            let at = at.check(config)?;
            last_capture = last_capture.max(at.order());
            visits.entry(at).or_default().capture = Some(*keep);
        }
        let mut hasher = DefaultHasher::new();
        let mut first_edited_position = usize::MAX;
        let mut marks = Marks::new();
        let of_prompt = |edit: &Edit| edit.select.positions.of_prompt();
        for edit in hooks.edit_list() {
            let compiled = edit.compile(config, dtype)?;
            visits.entry(edit.at).or_default().edits.push(compiled);
            edit.hash_into(&mut hasher);
            let mut here = DefaultHasher::new();
            marks.get(&edit.at).hash(&mut here);
            edit.hash_into(&mut here);
            marks.insert(edit.at, here.finish());
            first_edited_position = first_edited_position.min(edit.first_position());
        }
        let mut wanted = vec![false; Point::COUNT * config.n_layers];
        for at in visits.keys() {
            wanted[at.point as usize * config.n_layers + at.layer] = true;
        }
        let edits_id = (!hooks.edit_list().is_empty()).then(|| hasher.finish());
        Ok(Self {
            visits,
            wanted,
            n_layers: config.n_layers,
            last_capture,
            edits_id,
            first_edited_position,
            marks,
            of_prompt: hooks.edit_list().iter().any(of_prompt),
        })
    }

    fn wants(&self, point: Point, layer: usize) -> bool {
        self.wanted[point as usize * self.n_layers + layer]
    }

    /// Identity of the edits; `None` without any.
    pub fn edits_id(&self) -> Option<u64> {
        self.edits_id
    }

    /// Identity of the edits at each point.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether an edit tells the prompt from what is generated after it.
    pub fn of_prompt(&self) -> bool {
        self.of_prompt
    }

    /// The first position that an edit may change; `usize::MAX` without edits.
    pub fn first_edited_position(&self) -> usize {
        self.first_edited_position
    }

    /// Refuses to continue a cache whose positions these edits would have changed.
    pub fn check_cache(&self, cached: usize, computed_under: Option<u64>) -> Result<(), HookError> {
        // Positions before the first edit are as they would be only if no other edit made them.
        let untouched = computed_under.is_none() && self.first_edited_position >= cached;
        let unchanged = computed_under == self.edits_id || untouched;
        if cached == 0 || unchanged {
            Ok(())
        } else {
            Err(HookError::StaleCache { cached })
        }
    }
}

/// What the decoder calls at each point. Empty without hooks.
pub struct Tap<'a> {
    plan: Option<&'a Plan>,
    pass: Pass,
    stop_after_captures: bool,
    /// What has been captured so far.
    pub captured: Captured,
}

impl<'a> Tap<'a> {
    /// A tap for one pass. With `stop_after_captures` the pass ends at the last captured point.
    pub fn new(plan: Option<&'a Plan>, pass: Pass, stop_after_captures: bool) -> Self {
        Self {
            plan,
            pass,
            stop_after_captures,
            captured: Captured::new(),
        }
    }

    /// Is anything to be done at this point? Where not, the decoder may take a path that never forms the tensor.
    pub fn wants(&self, point: Point, layer: usize) -> bool {
        self.plan.is_some_and(|plan| plan.wants(point, layer))
    }

    /// Is anything to be done inside this block?
    pub fn wants_in_block(&self, layer: usize) -> bool {
        let outside = |point| {
            use Point::{Embed, FinalNorm, Logits, PosEmbed};
            matches!(point, Embed | PosEmbed | FinalNorm | Logits)
        };
        self.plan.is_some_and(|plan| {
            let mut visited = plan.visits.keys();
            visited.any(|at| at.layer == layer && !outside(at.point))
        })
    }

    /// Passes a tensor through the edits at a point and captures it.
    pub fn at(&mut self, point: Point, layer: usize, x: Tensor) -> Result<Tensor, Stop> {
        match self.plan {
            Some(plan) if plan.wants(point, layer) => {
                self.visit(plan, HookPoint::new(point, layer), x)
            }
            _ => Ok(x),
        }
    }

    fn visit(&mut self, plan: &Plan, at: HookPoint, mut x: Tensor) -> Result<Tensor, Stop> {
        let Some(visit) = plan.visits.get(&at) else {
            return Ok(x);
        };
        for edit in &visit.edits {
            x = edit.apply(&x, &self.pass)?;
        }
        if let Some(keep) = visit.capture {
            let kept = keep_positions(at, &x, keep, &self.pass)?;
            self.captured.insert(at, kept);
            if self.stop_after_captures && at.order() == plan.last_capture {
                return Err(Stop::Captured);
            }
        }
        Ok(x)
    }
}

fn keep_positions(at: HookPoint, x: &Tensor, keep: Keep, pass: &Pass) -> Result<Tensor, HookError> {
    let Keep::Last(n) = keep else {
        return Ok(x.clone());
    };
    let axis = if matches!(at.point, Point::AttnScores | Point::Pattern) {
        2
    } else {
        1
    };
    let shortest = (0..pass.batch)
        .map(|row| pass.row_len(row))
        .min()
        .unwrap_or(0)
        .min(pass.queries);
    if n == 0 || n > shortest {
        return Err(HookError::OutOfRange {
            at: at.to_string(),
            axis: "position",
            index: -(n as i64),
            size: shortest,
        });
    }
    // A copy, so that the whole tensor can be freed.
    let narrowed = x
        .narrow(axis, pass.queries - n, n)
        .and_then(|t| t.force_contiguous());
    narrowed.map_err(|source| HookError::Candle {
        at: at.to_string(),
        source,
    })
}
