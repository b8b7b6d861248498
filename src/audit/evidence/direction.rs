//! The refusal direction of a checkpoint: fitted on train prompts, chosen on validation prompts, read on test prompts.

use super::gather::Gather;
use super::{AtSite, Candidate, Chosen, Part, Site};
use crate::steer::{
    self, EncodedPrompt, KlLimit, Ledger, Measures, RefusalTokens, Residuals, Scored,
    SelectionPolicy, SteerError, Validation, Where,
};

/// What is kept between stages.
pub(super) struct Read {
    /// Train and validation prompts at every place that a direction may be read at: `[class][split]`.
    pub(super) places: [[Residuals; 2]; 2],
}

impl Read {
    /// Train prompts at a site; `None` where it was not read.
    fn train(&self, site: Site) -> Option<AtSite> {
        let at = |class: &[Residuals; 2]| {
            let found = class[0].find(site.layer, place(site))?;
            Some(found.to_owned())
        };
        let [harmful, harmless] = &self.places;
        Some(AtSite {
            site,
            harmful: at(harmful)?,
            harmless: at(harmless)?,
        })
    }
}

/// The measures of each candidate in the order tried, for the signals that resample them.
#[derive(Default)]
struct Kept(Vec<Measures>);

impl Ledger for Kept {
    fn known(&self, _: &steer::Candidate) -> Option<Measures> {
        None
    }

    fn note(&mut self, measures: &Measures) -> Result<(), SteerError> {
        self.0.push(measures.clone());
        Ok(())
    }

    fn random(&self) -> Option<Vec<f64>> {
        None
    }

    fn note_random(&mut self, _: &[f64]) -> Result<(), SteerError> {
        Ok(())
    }
}

/// Chooses the direction on validation prompts.
pub(super) fn choose(
    gather: &Gather,
    read: &Read,
    tokens: &RefusalTokens,
) -> Part<(Chosen, Scored)> {
    let [harmful, harmless] = &read.places;
    let candidates = steer::candidates(
        &harmful[0],
        &harmless[0],
        &harmful[1],
        &harmless[1],
        gather.seed,
    )
    .map_err(|error| error.to_string())?;
    let mut policy = SelectionPolicy::default_();
    policy.seed = gather.seed;
    policy.bootstrap.seed = gather.seed;
    // The z that is reported comes from test prompts and all of the policy's directions (signal 6); here it only screens.
    let random = gather.policy.sizes.random_directions.clamp(8, 16);
    if let KlLimit::Random { directions, .. } = &mut policy.kl {
        *directions = random;
    }
    let validation = Validation {
        harmful: &gather.encoded.harmful[1],
        harmless: &gather.encoded.harmless[1],
    };
    let tried = policy
        .screen
        .unwrap_or(candidates.len())
        .min(candidates.len());
    let (n_harmful, n_harmless) = (validation.harmful.len(), validation.harmless.len());
    let total = (1 + tried) * n_harmful + (1 + 2 * tried + random) * n_harmless;
    gather.work.stage("direction", total, |work| {
        let mut kept = Kept::default();
        let selection = work.run(total, |options| {
            let notes = &mut kept;
            steer::select_noting(
                gather.cp,
                validation,
                &candidates,
                tokens,
                &policy,
                options,
                notes,
            )
        })?;
        let chosen = &selection.chosen.candidate;
        let site = site(chosen.layer, chosen.where_);
        let mut notes = Vec::new();
        notes.extend(
            selection.reason.as_ref().map(|why| {
                format!("No direction passed the selection on validation prompts: {why}.")
            }),
        );
        let mut sites = vec![site];
        let other = gather.reference.map(|chosen| chosen.site);
        sites.extend(other.filter(|other| *other != site));
        let chosen = Chosen {
            direction: chosen.direction.clone(),
            site,
            candidates: (selection.all.iter().zip(kept.0))
                .map(|(scored, measures)| candidate(scored, measures.bypass))
                .collect(),
            notes,
            n_layers: gather.cp.config().n_layers,
            test: at_sites(gather, &sites)?,
            train: sites.iter().filter_map(|at| read.train(*at)).collect(),
        };
        Ok((chosen, selection.chosen))
    })
}

/// The test prompts at these sites.
fn at_sites(gather: &Gather, sites: &[Site]) -> Part<Vec<AtSite>> {
    let read = |prompts: &[EncodedPrompt], site: &Site| {
        let place = place(*site);
        gather
            .work
            .quiet(|options| steer::residuals(gather.cp, prompts, &[site.layer], &[place], options))
            .map(|read| read.at(0, 0).to_owned())
    };
    sites
        .iter()
        .map(|site| {
            Ok(AtSite {
                site: *site,
                harmful: read(&gather.encoded.harmful[2], site)?,
                harmless: read(&gather.encoded.harmless[2], site)?,
            })
        })
        .collect()
}

fn site(layer: usize, place: Where) -> Site {
    Site {
        layer,
        from_end: match place {
            Where::InstructionEnd => None,
            Where::FromEnd(k) => Some(k),
        },
    }
}

/// Where in a prompt a site lies.
pub(super) fn place(site: Site) -> Where {
    site.from_end.map_or(Where::InstructionEnd, Where::FromEnd)
}

fn candidate(scored: &Scored, bypassed: Vec<f64>) -> Candidate {
    Candidate {
        admissible: scored.admissible.is_ok(),
        bypassed,
        site: site(scored.candidate.layer, scored.candidate.where_),
        bypass: scored.bypass.estimate,
        induce: scored.induce.estimate,
        kl: scored.kl.estimate,
    }
}
