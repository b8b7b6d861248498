//! The checkpoints of a run in their order: of a pipeline all stages after each other, of one training run its own.
//!
//! Always: a checkpoint that is named here is whole (training renames it into place); a reward model is left out, since it
//! says no next token, and a dictionary, which is no model; what was audited has its verdict beside it. Nothing is locked and nothing is written: a run that goes
//! on is looked at as it stands.

use std::path::{Path, PathBuf};

use super::PipelineError;
use super::folder;
use crate::audit::verdict::Verdict;
use crate::model::LoraAdapter;
use crate::train::{Manifest, RunFolder};

/// A checkpoint of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// The stage; empty in a single training run.
    pub stage: String,
    /// Its step.
    pub step: u64,
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// What its audit came to, where it was audited.
    pub verdict: Option<Verdict>,
}

impl Station {
    /// `sft step 40`, or `step 40`.
    pub fn name(&self) -> String {
        if self.stage.is_empty() {
            format!("step {}", self.step)
        } else {
            format!("{} step {}", self.stage, self.step)
        }
    }
}

/// The checkpoints of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stations {
    /// The run's folder.
    pub root: PathBuf,
    /// Whether it is a pipeline's.
    pub pipeline: bool,
    /// In the order in which they were made; at least one.
    pub all: Vec<Station>,
    /// Stages that make reward models, which are left out.
    pub rewards: Vec<String>,
}

/// The checkpoints of a pipeline's folder or of a training run's.
///
/// # Errors
/// A folder that is neither, a run without a checkpoint, a run of a reward model.
pub fn stations(root: &Path) -> Result<Stations, PipelineError> {
    let pipeline = folder::is_pipeline(root);
    let (all, rewards) = if pipeline {
        of_pipeline(root)?
    } else {
        of_run(root)?
    };
    if all.is_empty() {
        let expected = if rewards.is_empty() {
            "a checkpoint; there is none yet"
        } else {
            "a model that says a next token; there are reward models alone"
        };
        return Err(PipelineError::NoStation {
            path: root.to_path_buf(),
            expected,
        });
    }
    Ok(Stations {
        root: root.to_path_buf(),
        pipeline,
        all,
        rewards,
    })
}

type Found = (Vec<Station>, Vec<String>);

fn of_pipeline(root: &Path) -> Result<Found, PipelineError> {
    let (plan, state) = folder::look(root)?;
    let (mut all, mut rewards) = (Vec::new(), Vec::new());
    for stage in &plan.stages {
        // A stage that has not begun has no folder.
        let Ok(run) = RunFolder::open(&folder::run(root, &stage.name)) else {
            continue;
        };
        if stage.is_dictionary() {
            continue;
        }
        if !stage.is_policy() {
            rewards.push(stage.name.clone());
            continue;
        }
        for mut station in whole(&run, &stage.name)? {
            let audited = state.audited(&stage.name, station.step);
            station.verdict = audited.map(|audited| audited.verdict);
            all.push(station);
        }
    }
    Ok((all, rewards))
}

fn of_run(root: &Path) -> Result<Found, PipelineError> {
    let run = RunFolder::open(root).map_err(|_| PipelineError::NoRun {
        path: root.to_path_buf(),
    })?;
    // A run that was killed before its manifest has no checkpoint either.
    let rewards = Manifest::read(&run.manifest_path()).is_ok_and(|m| m.method == "rm");
    if rewards {
        return Ok((Vec::new(), vec![String::new()]));
    }
    Ok((whole(&run, "")?, Vec::new()))
}

/// The checkpoints of a run that hold a model or an adapter.
fn whole(run: &RunFolder, stage: &str) -> Result<Vec<Station>, PipelineError> {
    let failed = |source| PipelineError::train(stage, source);
    let saved = run.checkpoints().map_err(failed)?.into_iter();
    let model = |path: &Path| path.join("config.json").is_file() || LoraAdapter::is_in(path);
    Ok(saved
        .filter(|saved| model(&saved.path))
        .map(|saved| Station {
            stage: stage.to_owned(),
            step: saved.step,
            path: saved.path,
            verdict: None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    /// A training run with these steps; a folder without a model among them.
    fn run(root: &Path, steps: &[u64]) {
        for step in steps {
            let path = root.join(format!("checkpoints/step-{step}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("config.json"), "{}").unwrap();
        }
        fs::create_dir_all(root.join("checkpoints/step-7")).unwrap();
        fs::write(root.join("run.toml"), "").unwrap();
    }

    fn names(found: &Stations) -> Vec<String> {
        found.all.iter().map(Station::name).collect()
    }

    #[test]
    fn a_run_has_its_steps_and_a_pipeline_its_stages_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let lone = dir.path().join("lone");
        run(&lone, &[10, 2]);
        let found = stations(&lone).unwrap();
        assert_eq!(names(&found), ["step 2", "step 10"]);
        assert!(!found.pipeline);

        let root = dir.path().join("pipeline");
        let stage = |name: &str, method: &str, more: &str| {
            format!(
                "[[stage]]\nname = '{name}'\nmethod = '{method}'\n{more}data = {{ train = ['a.jsonl'] }}\n"
            )
        };
        let plan = "name = 'p'\nseed = 1\n".to_owned()
            + &stage("sft", "sft", "model = { name = 'toy' }\n")
            + &stage("rm", "rm", "from = 'sft'\n")
            + &stage("dpo", "dpo", "from = 'sft'\n")
            + &stage("later", "dpo", "from = 'dpo'\n");
        let plan = super::super::Plan::parse("plan", &plan).unwrap();
        let held = super::super::PipelineFolder::create(&root, &plan).unwrap();
        assert!(
            stations(&root)
                .unwrap_err()
                .to_string()
                .contains("there is none yet")
        );
        run(&folder::run(&root, "dpo"), &[1]);
        run(&folder::run(&root, "rm"), &[3]);
        run(&folder::run(&root, "sft"), &[4, 2]);
        let (_, mut state) = folder::look(&root).unwrap();
        state.audits.push(folder::Audited {
            stage: "sft".into(),
            step: 4,
            verdict: Verdict::Review,
            audit: "audits/sft/step-4/audit.json".into(),
            seconds: 1.0,
        });
        held.write_state(&state).unwrap();
        let found = stations(&root).unwrap();
        assert_eq!(names(&found), ["sft step 2", "sft step 4", "dpo step 1"]);
        assert_eq!(
            (found.pipeline, found.rewards.as_slice()),
            (true, &["rm".to_owned()][..])
        );
        let verdicts: Vec<_> = found.all.iter().map(|at| at.verdict).collect();
        assert_eq!(verdicts, [None, Some(Verdict::Review), None]);
    }

    #[test]
    fn what_is_no_run_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("nowhere")] {
            let said = stations(&path).unwrap_err().to_string();
            assert!(
                said.contains("pipeline.toml") && said.contains("run.toml"),
                "{said}"
            );
            assert!(said.starts_with(&path.display().to_string()), "{said}");
        }
        let root = dir.path().join("empty");
        run(&root, &[]);
        let said = stations(&root).unwrap_err().to_string();
        assert!(said.contains("there is none yet"), "{said}");
    }
}
