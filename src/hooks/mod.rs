//! Where you may look and touch: the table of points, captures, edits.
//!
//! [`Hooks`] says what to capture and what to edit; the decoder compiles it against its config once a pass and calls a
//! [`Tap`] at each point. With no hooks the tap is empty and does nothing. What is captured is the value that flows on,
//! after the edits at that point. Gradients flow through captures and edits.

mod along;
mod edit;
mod error;
mod points;
mod select;
mod tap;

pub use edit::{Edge, Edit, EditOp, Vector};
pub use error::HookError;
pub use points::{Exists, HookPoint, POINTS, Point, PointInfo, Shape, expand};
pub use select::{Axis, Pass, PositionSelect, Selector};
pub use tap::{Captured, Marks, Plan, Stop, Tap, first_changed_layer};

/// How many positions of a captured tensor are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// The last `n` of the pass (rows are left-padded, so these are tokens of every row).
    Last(usize),
}

/// How many of a prompt's last tokens these edits count from its end; such tokens cannot lie in a prefix that prompts share.
pub fn tail<'a>(edits: impl IntoIterator<Item = &'a Edit>) -> usize {
    let count = |edit: &Edit| match edit.select.positions {
        PositionSelect::Tail(n) => n,
        _ => 0,
    };
    edits.into_iter().map(count).max().unwrap_or(0)
}

/// Captures and edits of one pass.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    captures: Vec<(HookPoint, Keep)>,
    edits: Vec<Edit>,
}

impl Hooks {
    /// No captures, no edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Captures a point, all positions.
    pub fn capture(self, at: HookPoint) -> Self {
        self.capture_kept(at, Keep::All)
    }

    /// Captures a point, keeping some positions.
    pub fn capture_kept(mut self, at: HookPoint, keep: Keep) -> Self {
        self.captures.push((at, keep));
        self
    }

    /// Adds an edit; edits at the same point apply in the order they were added.
    pub fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Adds several edits.
    pub fn edits(mut self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.edits.extend(edits);
        self
    }

    /// The same with these edits before its own.
    pub(crate) fn after(&self, edits: &[Edit]) -> Self {
        Self {
            captures: self.captures.clone(),
            edits: edits.iter().chain(&self.edits).cloned().collect(),
        }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.captures.is_empty() && self.edits.is_empty()
    }

    /// The edits.
    pub fn edit_list(&self) -> &[Edit] {
        &self.edits
    }

    pub(crate) fn capture_list(&self) -> &[(HookPoint, Keep)] {
        &self.captures
    }
}
