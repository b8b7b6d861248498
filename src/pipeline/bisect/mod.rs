//! Where a signal broke: the first checkpoint of a pipeline, then the first optimiser step, then the rows that pushed it.
//!
//! `asked.rs` is what is asked and what broken means, `lineage.rs` the first checkpoint by the stored audits, `replay.rs` the
//! training once more, `narrow.rs` the signal asked alone, `search.rs` the halving; `items.rs` what was answered before and
//! after, `rank.rs` the rows by what they do to it, `guilty.rs` how well that finds rows that are known, `report.rs` the files.
//!
//! ```text
//! bisect/STAGE-SIGNAL/steps.json     the audited steps, rewritten after each
//!                     ranking.json   every row of the window, and ranking.csv
//!                     roc.json       with --guilty, and roc.svg
//!                     bisect.json    what was found
//! ```
//!
//! Always: the pipeline's own files are only read; a replay is checked by hash against the weights the pipeline had.

mod asked;
mod error;
mod guilty;
mod items;
mod lineage;
mod narrow;
mod rank;
mod replay;
mod report;
mod search;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub use asked::{Rule, Target};
pub use error::BisectError;
pub use guilty::{Enriched, Guilty, Separation};
pub use lineage::Seen;
pub use rank::{Ranked, Ranking};

use super::edited;
use super::given;
use super::plan::Stage;
use super::policies::Policies;
use super::reading;
use super::stage::{self, Sources};
use super::{Models, PipelineError, Plan, State, folder};
use crate::audit::policy::Policy;
use crate::audit::runner::Kept;
use crate::audit::work;
use crate::files::lock;
use crate::train::{self, Config, RunFolder, Saved};
use narrow::Question;
use rank::Rank;
use replay::Replay;
use search::{GOOD, Narrowed, REFITS, Search};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The signal.
    pub target: Target,
    /// What counts as broken.
    pub rule: Rule,
    /// The stage to whose end the way leads; the last one that makes a model that answers.
    pub stage: Option<String>,
    /// The steps whose rows are ranked; all between the two checkpoints.
    pub window: Option<(u64, u64)>,
    /// The field and the value that mark rows known to be at fault.
    pub guilty: Option<(String, String)>,
    /// Leaves the ranking out.
    pub steps_only: bool,
    /// Keeps the replays.
    pub keep: bool,
}

/// What a search has to say while it works.
pub enum Note<'a> {
    /// A part of a stage is trained again.
    Replaying {
        /// The stage.
        stage: &'a str,
        /// From this step.
        from: u64,
        /// To this one.
        to: u64,
        /// With a checkpoint every so many.
        every: u64,
    },
    /// A checkpoint was asked.
    Audited {
        /// What was found.
        seen: &'a Seen,
    },
    /// Rows are being ranked.
    Ranking {
        /// Rows done.
        done: usize,
        /// Rows in all.
        total: usize,
    },
}

/// Who is told how far it is.
pub trait Watcher {
    /// Who is told of steps.
    fn training(&self) -> &dyn train::Progress;

    /// Who is told of an audit's progress.
    fn auditing(&self) -> &dyn work::Progress;

    /// Something was done or begins.
    fn said(&self, note: &Note<'_>);
}

/// What a search runs with.
pub struct Options<'a> {
    /// Who opens models by name.
    pub models: &'a dyn Models,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
    /// Set to true to stop; the same request goes on from there.
    pub stop: &'a AtomicBool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Signal and quantity.
    pub signal: String,
    /// What counts as broken.
    pub rule: String,
    /// The stage in which it broke.
    pub stage: String,
    /// The stored audits on the way, in their order.
    pub course: Vec<Seen>,
    /// How often it got worse among them; the first time is looked into.
    pub breaks: usize,
    /// The last good checkpoint, as it was asked again; step 0 is the model that the stage began with.
    pub good: Seen,
    /// The first bad checkpoint, as the pipeline had it.
    pub bad: Seen,
    /// The first step after which it is broken; the step before is the last good one.
    pub step: u64,
    /// Every step that was asked, by step.
    pub steps: Vec<Seen>,
    /// The rows by what they do to it.
    pub ranking: Option<Ranking>,
    /// Why there is no ranking.
    pub no_ranking: Option<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// The folder with the files of this search, below the pipeline's.
    pub folder: PathBuf,
}

/// Who is told, and who may stop it.
#[derive(Clone, Copy)]
struct Halt<'a> {
    watcher: &'a dyn Watcher,
    stop: &'a AtomicBool,
    scratch: &'a Path,
}

impl Halt<'_> {
    fn interrupted(&self) -> BisectError {
        BisectError::Interrupted {
            path: self.scratch.to_path_buf(),
        }
    }

    fn check(&self) -> Result<(), BisectError> {
        if self.stop.load(Ordering::SeqCst) {
            Err(self.interrupted())
        } else {
            Ok(())
        }
    }
}

/// Finds where a signal broke in a pipeline's folder.
///
/// # Errors
/// A signal that is unknown, was never asked or never broke; a replay that is another training; an interruption, after which
/// the same request goes on.
pub fn bisect(root: &Path, request: &Request, options: &Options<'_>) -> Result<Found, BisectError> {
    let (plan, state) = folder::look(root)?;
    let request = &Request {
        target: match request.rule {
            Rule::Verdict => request.target,
            Rule::Below(_) | Rule::Above(_) => request.target.with_quantity(),
        },
        ..request.clone()
    };
    let last = stage_of(&plan, request.stage.as_deref())?;
    let about = (&request.target, request.rule);
    let way = lineage::stages(&plan, last);
    let course = lineage::course(root, &state, &way, about)?;
    let (good, bad) = lineage::first_break(&course, about)?;
    let bad = &course[bad];
    let Some(stage) = plan.stage(&bad.stage) else {
        return Err(unknown_stage(&plan, &bad.stage));
    };
    if stage.method == edited::METHOD {
        return Err(BisectError::Edited {
            signal: request.target.name(),
            stage: stage.name.clone(),
        });
    }
    let below = Path::new("bisect").join(format!("{}-{}", stage.name, request.target.name()));
    let scratch = root.join(&below);
    std::fs::create_dir_all(&scratch).map_err(PipelineError::io(&scratch, "make"))?;
    let held = scratch.join(".lock");
    let lock = lock::hold(&held).map_err(PipelineError::io(&held, "lock"))?;
    let _lock = lock.ok_or_else(|| BisectError::Busy {
        path: scratch.clone(),
    })?;
    let halt = Halt {
        watcher: options.watcher,
        stop: options.stop,
        scratch: &scratch,
    };
    let work = Work {
        root,
        request,
        plan: &plan,
        state: &state,
        stage,
        models: options.models,
        scratch: &scratch,
        halt,
        course: &course,
        good: &course[good],
        bad,
        below: &below,
    };
    work.run().map_err(|error| {
        // Whatever an interruption looks like from below.
        if halt.check().is_err() {
            halt.interrupted()
        } else {
            error
        }
    })
}

fn unknown_stage(plan: &Plan, found: &str) -> BisectError {
    let names: Vec<&str> = plan.stages.iter().map(|s| s.name.as_str()).collect();
    BisectError::Unknown {
        what: "stage".to_owned(),
        found: found.to_owned(),
        known: names.join(", "),
    }
}

fn stage_of<'a>(plan: &'a Plan, name: Option<&str>) -> Result<&'a Stage, BisectError> {
    let mut last = plan.stages.iter().rev();
    let found = match name {
        Some(name) => plan.stage(name),
        None => last.find(|stage| stage.is_policy()),
    };
    let stage = found.ok_or_else(|| unknown_stage(plan, name.unwrap_or_default()))?;
    if stage.is_policy() {
        return Ok(stage);
    }
    let known = plan.stages.iter().filter(|stage| stage.is_policy());
    let known: Vec<&str> = known.map(|stage| stage.name.as_str()).collect();
    Err(BisectError::NoPolicy {
        stage: stage.name.clone(),
        method: stage.method.clone(),
        known: known.join(", "),
    })
}

/// A search whose checkpoint is known.
struct Work<'a> {
    root: &'a Path,
    request: &'a Request,
    plan: &'a Plan,
    state: &'a State,
    stage: &'a Stage,
    models: &'a dyn Models,
    scratch: &'a Path,
    halt: Halt<'a>,
    course: &'a [Seen],
    good: &'a Seen,
    bad: &'a Seen,
    below: &'a Path,
}

impl Work<'_> {
    fn sources(&self) -> Sources<'_> {
        Sources {
            root: self.root,
            state: self.state,
        }
    }

    fn run(&self) -> Result<Found, BisectError> {
        let policy = self.policy()?;
        let file = folder::config(self.root, &self.stage.name);
        let config = Config::read(&file, &self.stage.method, &[]);
        let config = config.map_err(|source| BisectError::train(&self.stage.name)(source))?;
        let policies = Policies::of(self.root, &self.plan.audit)?;
        let asked = (self.stage, Some(&config));
        let question = Question {
            target: &self.request.target,
            rule: self.request.rule,
            policy: narrow::narrowed(&policy, self.request.target.signal.id),
            baseline: stage::baseline(self.plan, self.stage, &self.sources(), self.models)?,
            inputs: given::inputs(self.plan, asked, &policies, &self.sources())?,
            reading: reading::of(self.plan, self.stage, &policies, &self.sources())?,
            refits: self.scratch.join(REFITS),
            kept: Kept::default(),
            halt: self.halt,
        };
        let replay = Replay {
            plan: self.plan,
            stage: self.stage,
            sources: self.sources(),
            models: self.models,
            scratch: self.scratch.to_path_buf(),
            halt: self.halt,
        };
        let step = self.good_step();
        let (target, rule) = (&self.request.target, self.request.rule);
        let key = format!(
            "{} step {step} to {} ({}), {} by {}",
            self.stage.name,
            self.bad.step,
            self.bad.weights,
            target.name(),
            self.bad.policy,
        );
        let mut search = Search {
            replay: &replay,
            question: &question,
            kept: search::Kept::open(self.scratch, &key, rule)?,
            halt: self.halt,
        };
        let from = self.good_checkpoint(&replay, step)?;
        let path = match &from {
            Some(saved) => saved.path.clone(),
            None => self.beginning()?,
        };
        let good = search.look(step, &path)?;
        self.expect_good(&good)?;
        let narrowed = search.run((step, from.clone()), self.bad, good.grade)?;
        let steps = search.kept.into_seen();
        let (ranking, no_ranking) = if self.request.steps_only {
            (None, Some("it was not asked for".to_owned()))
        } else {
            let ends = (path.as_path(), narrowed.end.path.as_path());
            match self.rank(&replay, &policy, (step, from.as_ref()), ends, &good)? {
                Ok(ranking) => (Some(ranking), None),
                Err(why) => (None, Some(why)),
            }
        };
        let found = Found {
            signal: target.name(),
            rule: rule.words(target),
            stage: self.stage.name.clone(),
            course: self.course.to_vec(),
            breaks: lineage::breaks(self.course),
            notes: self.notes(&steps, &narrowed),
            good,
            bad: self.bad.clone(),
            step: narrowed.bad,
            steps,
            ranking,
            no_ranking,
            folder: self.below.to_path_buf(),
        };
        report::write(self.scratch, &found)?;
        if !self.request.keep {
            search::clear(self.scratch)?;
        }
        Ok(found)
    }

    /// The policy that the bad checkpoint was asked by.
    fn policy(&self) -> Result<Policy, BisectError> {
        let Policies { checkpoint, end } = Policies::of(self.root, &self.plan.audit)?;
        let both = [checkpoint, end].into_iter().flatten();
        let mut same = both.filter(|policy| policy.id.hash == self.bad.policy);
        same.next().ok_or_else(|| BisectError::Policy {
            checkpoint: self.bad.name(),
            hash: self.bad.policy.clone(),
        })
    }

    /// The step of the good end; 0 where the stage begins with a good model.
    fn good_step(&self) -> u64 {
        if self.good.stage == self.stage.name {
            self.good.step
        } else {
            0
        }
    }

    /// The good checkpoint: the stored one, or, where it was retired, made again from the one before it.
    fn good_checkpoint(
        &self,
        replay: &Replay<'_>,
        step: u64,
    ) -> Result<Option<Saved>, BisectError> {
        if step == 0 {
            return Ok(None);
        }
        let failed = |source| BisectError::train(&self.stage.name)(source);
        let stored = RunFolder::open(&folder::run(self.root, &self.stage.name));
        let mut stored = stored.and_then(|run| run.checkpoints()).map_err(failed)?;
        stored.retain(|saved| saved.step <= step);
        let last = stored.pop();
        if last.as_ref().is_some_and(|saved| saved.step == step) {
            return Ok(last);
        }
        let place = self.scratch.join(GOOD);
        let saved = replay.run(&place, last.as_ref(), (step, step))?;
        Ok(saved.into_iter().find(|saved| saved.step == step))
    }

    /// The model that the stage began with.
    fn beginning(&self) -> Result<PathBuf, BisectError> {
        let from = self.stage.from.as_deref().unwrap_or_default();
        Ok(self.sources().model(from, &self.stage.name)?)
    }

    /// Refuses a good end that is other weights than the pipeline's, or is as bad as the bad one.
    fn expect_good(&self, good: &Seen) -> Result<(), BisectError> {
        let own = self.good.stage == self.stage.name;
        if own && good.weights != self.good.weights {
            return Err(BisectError::Differs {
                stage: good.stage.clone(),
                step: good.step,
                expected: self.good.weights.clone(),
                found: good.weights.clone(),
            });
        }
        if good.grade < self.bad.grade {
            return Ok(());
        }
        let why = if own {
            "its own audit was by another policy, so the two verdicts say nothing of a break between them"
        } else {
            "it broke in a stage before, after the last checkpoint that was audited there; [audit] `end` audits the ends of \
             stages"
        };
        Err(BisectError::GoodEnd {
            checkpoint: good.name(),
            bad: self.bad.name(),
            found: good.words(),
            why: why.to_owned(),
        })
    }

    fn rank(
        &self,
        replay: &Replay<'_>,
        policy: &Policy,
        (step, from): (u64, Option<&Saved>),
        ends: (&Path, &Path),
        good: &Seen,
    ) -> Result<Result<Ranking, String>, BisectError> {
        let window = self.request.window.unwrap_or((step + 1, self.bad.step));
        if window.0 < 1 || window.0 > window.1 || window.1 > self.bad.step {
            return Err(BisectError::Window {
                found: format!("{}..{}", window.0, window.1),
                stage: self.stage.name.clone(),
                from: 1,
                to: self.bad.step,
            });
        }
        let rank = Rank {
            target: &self.request.target,
            policy,
            replay,
            from,
            ends,
            window,
            rises: rises(good, self.bad),
            guilty: self.request.guilty.as_ref(),
            halt: self.halt,
        };
        rank.run()
    }

    fn notes(&self, steps: &[Seen], narrowed: &Narrowed) -> Vec<String> {
        let mut notes = Vec::new();
        let times = lineage::breaks(self.course);
        if times > 1 {
            notes.push(format!(
                "Between stored checkpoints it got worse {times} times; this is the first of them."
            ));
        }
        let grades: Vec<bool> = steps.iter().map(|s| s.step >= narrowed.bad).collect();
        let base = steps.first().map_or(0, |seen| seen.grade);
        let seen: Vec<bool> = steps.iter().map(|s| s.grade > base).collect();
        if grades != seen {
            notes.push(
                "It crosses more than once among the steps that were asked, and halving finds one of the crossings; see the \
                 values."
                    .to_owned(),
            );
        }
        let again = steps.iter().find(|seen| seen.step == self.bad.step);
        let number = |seen: &Seen| seen.value.as_ref().and_then(|value| value.value);
        if again.is_some_and(|again| number(again) != number(self.bad)) {
            notes.push(
                "The stored audit of the bad checkpoint has another number than the same question has now; it was made by \
                 another version, or shows another quantity."
                    .to_owned(),
            );
        }
        notes
    }
}

/// Whether the number rose from the good end to the bad one.
fn rises(good: &Seen, bad: &Seen) -> bool {
    let number = |seen: &Seen| seen.value.as_ref().and_then(|value| value.value);
    number(bad) > number(good)
}
