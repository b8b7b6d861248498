//! What an audit is run with, and how far one is that was asked for.
//!
//! Always: the command an order gives makes the same audit: model, baseline, sizes and interventions. An intervention that
//! names positions of the workbench's prompt means nothing on other prompts, and is refused.

use std::path::Path;
use std::time::Duration;

use crate::hooks::{Edit, EditOp, PositionSelect};
use crate::steer::Steering;
use crate::tui::shared::{Intervention, Shared, quoted};

/// What an audit is run with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// What the user called the model.
    pub model: String,
    /// What it is paired with.
    pub baseline: Option<String>,
    /// Less of everything.
    pub quick: bool,
    /// The interventions it is run under, as the chips say them; none for the checkpoint as it is stored.
    pub under: Vec<String>,
    /// The same as options of the command line.
    pub options: Vec<String>,
}

impl Order {
    /// The command that does the same.
    pub(super) fn command(&self) -> String {
        let mut line = format!("candlescope audit run {}", quoted(&self.model));
        if let Some(baseline) = &self.baseline {
            line += &format!(" --baseline {}", quoted(baseline));
        }
        for option in &self.options {
            line += &format!(" {}", quoted(option));
        }
        if self.quick {
            line += " --quick";
        }
        line
    }

    /// The order as a report names it: no folder of this machine.
    pub(super) fn without_paths(&self) -> Self {
        let name = |spec: &String| {
            let path = Path::new(spec);
            match path.file_name() {
                Some(name) if path.exists() => name.to_string_lossy().into_owned(),
                _ => spec.clone(),
            }
        };
        let mut options = self.options.clone();
        for pair in 0..options.len().saturating_sub(1) {
            if let Some(steering) = Steering::from_option(&options[pair..pair + 2]) {
                options.splice(pair..pair + 2, steering.without_folder().option());
            }
        }
        Self {
            model: name(&self.model),
            baseline: self.baseline.as_ref().map(name),
            options,
            ..self.clone()
        }
    }

    /// ` under ⊖ contrast:12 ×1`, or ` as it is stored`.
    pub(super) fn subject(&self) -> String {
        if self.under.is_empty() {
            " as it is stored".to_owned()
        } else {
            format!(" under {}", self.under.join(", "))
        }
    }
}

/// An audit that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Running {
    /// The jobs before it are not done.
    Waiting,
    /// It waits no more, and was not begun: the queue has yet to say so.
    Withdrawn,
    /// Begun.
    Working(Stand),
    /// It ends as soon as it can.
    Stopping,
}

/// How far an audit is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stand {
    /// Share of the whole, 0 to 1.
    pub share: f64,
    /// What is being measured of which checkpoint, with its count.
    pub stage: String,
    /// Since it began.
    pub spent: Duration,
    /// Left, once there is something to estimate it from.
    pub left: Option<Duration>,
}

/// The interventions that are on.
pub(super) fn on(shared: &Shared) -> Vec<&Intervention> {
    let chips = shared.interventions.iter();
    chips.filter(|chip| chip.on).collect()
}

/// The first intervention that names positions of the prompt.
pub(super) fn of_this_prompt(shared: &Shared) -> Option<&Intervention> {
    let named = |edit: &Edit| {
        matches!(edit.op, EditOp::Knockout { .. } | EditOp::Patch { .. })
            || edit.select.positions != PositionSelect::All
    };
    on(shared)
        .into_iter()
        .find(|chip| chip.edits.iter().any(named))
}
