//! A run as the pane shows it: what was recorded, what is being replaced, and how its latents are turned from here on.

use super::dose::Doses;
use crate::features::scope::{ChannelInfo, End, Step, Trace, Turns};
use crate::model::sample::SampleOptions;

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub trace: Trace,
    /// Texts of its tokens, hostile.
    pub texts: Vec<String>,
    /// What stood there before a change; shown dim until new steps take its place.
    pub old: Vec<(Step, String)>,
    /// The run it was branched from.
    pub parent: Option<usize>,
    /// How latents are turned for what comes next.
    pub doses: Doses,
}

impl Branch {
    /// A run of which nothing is computed.
    pub(super) fn begin(prompt: usize, sample: SampleOptions, channels: Vec<ChannelInfo>) -> Self {
        let trace = Trace {
            prompt,
            sample,
            turns: Turns::none(),
            channels,
            branched: None,
            steps: Vec::new(),
            end: None,
        };
        Self {
            trace,
            texts: Vec::new(),
            old: Vec::new(),
            parent: None,
            doses: Doses::default(),
        }
    }

    /// Its tokens so far.
    pub(super) fn len(&self) -> usize {
        self.trace.steps.len()
    }

    /// Another run from the token at `at`, with these doses.
    pub(super) fn off(&self, parent: usize, at: usize, doses: Doses) -> Self {
        let mut new = self.clone();
        new.trace.turns = new.trace.turns.with(at, doses.edits());
        new.trace.branched = Some(at);
        (new.parent, new.doses, new.old) = (Some(parent), doses, Vec::new());
        new.cut(at);
        new
    }

    /// Forgets its steps from `at` on, but shows them until others come.
    pub(super) fn cut(&mut self, at: usize) {
        self.trace.end = None;
        if at >= self.len() {
            return;
        }
        let mut all: Vec<(Step, String)> = self
            .trace
            .steps
            .iter()
            .cloned()
            .zip(self.texts.iter().cloned())
            .collect();
        all.extend(self.old.iter().skip(all.len()).cloned());
        self.old = all;
        self.trace.steps.truncate(at);
        self.texts.truncate(at);
    }

    /// Takes steps from `first` on.
    pub(super) fn put(&mut self, first: usize, new: Vec<(Step, String)>) {
        self.cut(first);
        for (step, text) in new {
            self.trace.steps.push(step);
            self.texts.push(text);
        }
    }

    /// It is over.
    pub(super) fn finish(&mut self, end: End) {
        self.trace.end = Some(end);
        self.old.clear();
    }

    /// The steps and texts to show: what is there, then what is being replaced.
    pub(super) fn shown(&self) -> usize {
        self.len().max(self.old.len())
    }

    /// A step to show, and whether it is of before a change.
    pub(super) fn step(&self, at: usize) -> Option<(&Step, bool)> {
        let now = self.trace.steps.get(at).map(|step| (step, false));
        now.or_else(|| self.old.get(at).map(|(step, _)| (step, true)))
    }

    /// A token's text.
    pub(super) fn text(&self, at: usize) -> &str {
        let now = self.texts.get(at);
        now.or_else(|| self.old.get(at).map(|(_, text)| text))
            .map_or("", String::as_str)
    }
}
