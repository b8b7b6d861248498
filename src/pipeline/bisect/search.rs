//! The step at which a signal broke: replays of ever shorter parts of a stage, each searched by halving.
//!
//! Always: what was audited is on the disk before the next checkpoint is looked at, and is not audited again; a kept audit
//! counts only for the same question (`key`) and the same weights. Halving presumes that the signal crosses once between the
//! two ends; where it goes there and back, one of the crossings is found, which is why every value that was seen is kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::narrow::Question;
use super::replay::Replay;
use super::{BisectError, Halt, Note, Rule, Seen};
use crate::files::write::write_atomic;
use crate::pipeline::PipelineError;
use crate::train::Saved;

/// What was audited.
const KEPT: &str = "steps.json";
/// The folder of the replay that leads to a good checkpoint that was retired.
pub(super) const GOOD: &str = "good";
/// The folder in which rows are ranked.
pub(super) const RANK: &str = "rank";
/// The folder of dictionaries that are trained on for a while.
pub(super) const REFITS: &str = "refits";
/// How the folders of replays begin.
const ROUND: &str = "round-";
/// The layout of that file.
const SCHEMA: &str = "candlescope.bisect.steps/1";
/// Into how many parts a replay is cut.
const PARTS: u64 = 16;
/// No file of audited steps is larger.
const MAX_BYTES: u64 = 64 << 20;

/// The audited steps of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    schema: String,
    /// What decides the numbers.
    key: String,
    /// In the order in which they were looked at.
    seen: Vec<Seen>,
}

/// The audited steps on the disk.
pub(super) struct Kept {
    path: PathBuf,
    steps: Steps,
}

impl Kept {
    /// Those of an earlier sitting with the same question. Where there are none, replays that lie there are of another
    /// question and are removed, and the question is written down before the first replay.
    /// What was found then is graded by the rule of now.
    pub fn open(scratch: &Path, key: &str, rule: Rule) -> Result<Self, BisectError> {
        let path = scratch.join(KEPT);
        let large = std::fs::metadata(&path).map_or(0, |meta| meta.len()) > MAX_BYTES;
        let text = if path.is_file() && !large {
            std::fs::read_to_string(&path).map_err(PipelineError::io(&path, "read"))?
        } else {
            String::new()
        };
        let found: Option<Steps> = serde_json::from_str(&text).ok();
        let same = found.filter(|steps| steps.schema == SCHEMA && steps.key == key);
        if let Some(mut steps) = same {
            for seen in &mut steps.seen {
                seen.grade = rule.grade(seen.verdict, seen.value.as_ref());
            }
            return Ok(Self { path, steps });
        }
        clear(scratch)?;
        let steps = Steps {
            schema: SCHEMA.to_owned(),
            key: key.to_owned(),
            seen: Vec::new(),
        };
        let kept = Self { path, steps };
        kept.write()?;
        Ok(kept)
    }

    /// All of them, by step.
    pub fn into_seen(self) -> Vec<Seen> {
        let mut seen = self.steps.seen;
        seen.sort_by_key(|seen| seen.step);
        seen
    }

    fn get(&self, step: u64) -> Option<&Seen> {
        self.steps.seen.iter().find(|seen| seen.step == step)
    }

    fn put(&mut self, seen: Seen) -> Result<(), BisectError> {
        self.steps.seen.push(seen);
        self.write()
    }

    fn write(&self) -> Result<(), BisectError> {
        let text = serde_json::to_string_pretty(&self.steps)
            .map_err(|source| BisectError::Json { what: KEPT, source })?;
        Ok(write_atomic(&self.path, format!("{text}\n").as_bytes())?)
    }
}

/// Removes the replays of a search.
pub(super) fn clear(scratch: &Path) -> Result<(), BisectError> {
    let entries = std::fs::read_dir(scratch).map_err(PipelineError::io(scratch, "list"))?;
    for entry in entries {
        let path = entry.map_err(PipelineError::io(scratch, "list"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(ROUND) || name == GOOD || name == RANK || name == REFITS {
            std::fs::remove_dir_all(&path).map_err(PipelineError::io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// A search in one stage.
pub(super) struct Search<'a> {
    /// What replays it.
    pub replay: &'a Replay<'a>,
    /// What is asked.
    pub question: &'a Question<'a>,
    /// What is known already.
    pub kept: Kept,
    /// Who is told, and who may stop it.
    pub halt: Halt<'a>,
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub(super) struct Narrowed {
    /// The first step that is not good; the one before it is.
    pub bad: u64,
    /// The checkpoint of the bad end that the search began with.
    pub end: Saved,
}

impl Search<'_> {
    /// Audits a step, unless it was.
    pub fn look(&mut self, step: u64, path: &Path) -> Result<Seen, BisectError> {
        let stage = self.replay.stage.name.as_str();
        if let Some(known) = self.kept.get(step) {
            return Ok(known.clone());
        }
        let seen = self.question.ask((stage, step), path)?;
        self.kept.put(seen.clone())?;
        self.halt.watcher.said(&Note::Audited { seen: &seen });
        Ok(seen)
    }

    /// Searches between a good checkpoint (of a step, or the model that the stage began with) and a bad one of the pipeline.
    pub fn run(
        &mut self,
        (good, from): (u64, Option<Saved>),
        bad: &Seen,
        base: u8,
    ) -> Result<Narrowed, BisectError> {
        let (mut low, mut high) = (good, bad.step);
        let (mut from, mut end) = (from, None);
        let mut round = 0;
        while end.is_none() || high - low > 1 {
            round += 1;
            let place = self.replay.scratch.join(format!("{ROUND}{round}"));
            let every = ((high - low) / PARTS).max(1);
            let saved = self.replay.run(&place, from.as_ref(), (high, every))?;
            let last = saved.iter().find(|saved| saved.step == high);
            let last = last.cloned().ok_or_else(|| self.halt.interrupted())?;
            if end.is_none() {
                // Nothing that a replay of another training says would be of this one.
                self.expect_same(&last, bad, base)?;
                end = Some(last.clone());
            }
            let mut points: Vec<Saved> = saved
                .into_iter()
                .filter(|at| at.step > low && at.step < high && at.step.is_multiple_of(every))
                .collect();
            points.push(last);
            let (before, at) = self.halve(&points, base)?;
            if let Some(before) = before {
                low = before.step;
                from = Some(before);
            }
            high = at.step;
        }
        let end = end.ok_or_else(|| self.halt.interrupted())?;
        Ok(Narrowed { bad: high, end })
    }

    /// The two neighbours among ascending points between which it breaks; the last point is bad, and what lies before the first
    /// is good (`None`).
    fn halve(&mut self, points: &[Saved], base: u8) -> Result<(Option<Saved>, Saved), BisectError> {
        // Places in `points`, with 0 for what lies before them.
        let (mut low, mut high) = (0, points.len());
        while high - low > 1 {
            let middle = low.midpoint(high);
            let point = &points[middle - 1];
            if self.look(point.step, &point.path)?.grade > base {
                high = middle;
            } else {
                low = middle;
            }
        }
        let good = (low > 0).then(|| points[low - 1].clone());
        Ok((good, points[high - 1].clone()))
    }

    /// Refuses a replay that did not end with the pipeline's weights, and an end that is not bad when it is asked alone.
    fn expect_same(&mut self, end: &Saved, bad: &Seen, base: u8) -> Result<(), BisectError> {
        let seen = self.look(end.step, &end.path)?;
        if seen.weights != bad.weights {
            return Err(BisectError::Differs {
                stage: seen.stage,
                step: end.step,
                expected: bad.weights.clone(),
                found: seen.weights,
            });
        }
        if seen.grade <= base {
            return Err(BisectError::BadEnd {
                checkpoint: seen.name(),
                signal: self.question.target.name(),
                found: seen.words(),
                stored: bad.words(),
            });
        }
        Ok(())
    }
}
