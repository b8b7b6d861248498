//! What an audit of a stage is given beside its prompts: preference pairs, and the reward models it was trained by.
//!
//! Always: the pairs are those of the stage itself or of the last one before it that had any, held-out ones where there are any;
//! nothing is read where no audit asks.

use super::plan::{Plan, Stage};
use super::policies::Policies;
use super::stage::Sources;
use super::{PipelineError, folder};
use crate::audit::catalogue::Artefact;
use crate::audit::inputs::{Inputs, Judge};
use crate::audit::pairs::Preferences;
use crate::model::LoadOptions;
use crate::text::dataset::DataError;
use crate::train::Config;

/// Whether a stage learns from pairs of answers.
fn has_pairs(stage: &Stage) -> bool {
    matches!(stage.method.as_str(), "rm" | "dpo")
}

/// What the audits of `stage` are given; `config` is that of its run, which an edit does not have.
pub(super) fn inputs(
    plan: &Plan,
    (stage, config): (&Stage, Option<&Config>),
    policies: &Policies,
    sources: &Sources<'_>,
) -> Result<Inputs, PipelineError> {
    let mut inputs = Inputs::default();
    if policies.ask(Artefact::Pairs) {
        let before = plan.stages.iter().take_while(|one| one.name != stage.name);
        let last = before.filter(|one| has_pairs(one)).last();
        inputs.pairs = match (config, last) {
            (Some(config), _) if has_pairs(stage) => Some(pairs(config, stage)?),
            (_, Some(last)) => {
                let file = folder::config(sources.root, &last.name);
                let config = Config::read(&file, &last.method, &[])
                    .map_err(|e| PipelineError::train(&stage.name, e))?;
                Some(pairs(&config, stage)?)
            }
            _ => None,
        };
    }
    if policies.ask(Artefact::Reward)
        && let Some(source) = config.and_then(|config| config.method.reward())
    {
        let options = LoadOptions::default();
        let judges = source.models.iter().map(|path| Judge::open(path, &options));
        inputs.judges = judges.collect::<Result<_, _>>()?;
    }
    Ok(inputs)
}

fn pairs(config: &Config, stage: &Stage) -> Result<Preferences, PipelineError> {
    let data = &config.data;
    let files = if data.eval.is_empty() {
        &data.train
    } else {
        &data.eval
    };
    let failed = |error: DataError| PipelineError::train(&stage.name, error.into());
    let columns = data.columns.parse().map_err(failed)?;
    Preferences::read(files, &columns, data.chat).map_err(failed)
}
