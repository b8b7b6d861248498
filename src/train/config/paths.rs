//! Paths of a config: made absolute when it is read, and left out of what decides a run.
//!
//! Always: what lies at a path counts, not the path; the manifest has the hash of each of these files and models.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, Method};
use crate::model::{fetch::Wanted, toy};
use crate::train::{TrainError, reference::Reference, scorer::RewardSource};

fn absolute(path: &mut PathBuf) -> Result<(), TrainError> {
    *path = std::path::absolute(&*path).map_err(TrainError::io(path, "find the folder of"))?;
    Ok(())
}

/// A model's name may be a path.
fn absolute_name(name: &mut String) -> Result<(), TrainError> {
    if toy::seed(name).is_none()
        && let Ok(Wanted::Path(mut path)) = Wanted::parse(name)
    {
        absolute(&mut path)?;
        if let Some(text) = path.to_str() {
            text.clone_into(name);
        }
    }
    Ok(())
}

fn absolute_reward(reward: &mut RewardSource) -> Result<(), TrainError> {
    reward.models.iter_mut().try_for_each(absolute)?;
    if let Some(ask) = &mut reward.command {
        absolute(ask.dir.get_or_insert_with(|| Path::new(".").to_path_buf()))?;
    }
    Ok(())
}

impl Config {
    /// Makes every path absolute.
    pub(super) fn anchor(&mut self) -> Result<(), TrainError> {
        let data = self.data.train.iter_mut().chain(&mut self.data.eval);
        let new = self
            .model
            .new
            .as_mut()
            .and_then(|new| new.tokenizer.as_mut());
        data.chain(new)
            .chain(&mut self.model.adapter)
            .try_for_each(absolute)?;
        absolute_name(&mut self.model.name)?;
        if let Some(Reference::Model(name)) = self.method.reference_mut() {
            absolute_name(name)?;
        }
        match &mut self.method {
            Method::Ppo(ppo) => {
                ppo.value_model.iter_mut().try_for_each(absolute)?;
                absolute_reward(&mut ppo.reward)
            }
            Method::Rloo(rloo) => absolute_reward(&mut rloo.reward),
            _ => Ok(()),
        }
    }
}

impl Method {
    pub(super) fn reference_mut(&mut self) -> Option<&mut Reference> {
        match self {
            Self::Dpo(dpo) => dpo.reference.as_mut(),
            Self::Kto(kto) => kto.reference.as_mut(),
            Self::Ppo(ppo) => ppo.reference.as_mut(),
            Self::Rloo(rloo) => rloo.reference.as_mut(),
            Self::Sft(_) | Self::Rm(_) | Self::Lm(_) => None,
        }
    }
}

/// Leaves out of a config what may differ between the sessions of a run.
pub(in crate::train) fn undecided(config: &mut Value) {
    let mut remove = |section: &str, keys: &[&str]| {
        if let Some(map) = config.pointer_mut(section).and_then(Value::as_object_mut) {
            for key in keys {
                map.remove(*key);
            }
        }
    };
    remove("", &["output", "alerts"]);
    remove("/data", &["train", "eval"]);
    remove("/model", &["name", "adapter"]);
    remove("/model/new", &["tokenizer"]);
    for method in ["/method/ppo", "/method/rloo"] {
        remove(method, &["value_model"]);
        remove(&format!("{method}/reward"), &["models"]);
        remove(&format!("{method}/reward/command"), &["dir"]);
    }
    for method in ["dpo", "kto", "ppo", "rloo"] {
        let reference = config.pointer_mut(&format!("/method/{method}/reference"));
        if let Some(Value::String(name)) = reference
            && matches!(Reference::from(name.clone()), Reference::Model(_))
        {
            "another checkpoint".clone_into(name);
        }
    }
}
