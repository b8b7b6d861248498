//! Signals of a dictionary that was trained before and is put, frozen, on both checkpoints; of its refit; of a crosscoder.

use super::Artefact::{Crosscoder, Dictionary, Refit};
use super::Better::{Higher, Lower, Neither};
use super::{Entry, q};

pub(super) const DICTIONARY_FVU: Entry = Entry {
    id: "dictionary_fvu",
    number: 18,
    title: "Fit of a frozen dictionary",
    stage: "all",
    family: "dictionary",
    needs_baseline: true,
    artefacts: &[Dictionary],
    quantities: &[
        q(
            "fvu_ratio",
            "ratio",
            Lower,
            "fraction of variance unexplained on this checkpoint over that on the baseline",
        ),
        q(
            "fvu",
            "fraction",
            Lower,
            "fraction of variance unexplained on this checkpoint",
        ),
    ],
};

pub(super) const DICTIONARY_CE: Entry = Entry {
    id: "dictionary_ce",
    number: 19,
    title: "Loss with the dictionary spliced in",
    stage: "all",
    family: "dictionary",
    needs_baseline: true,
    artefacts: &[Dictionary],
    quantities: &[
        q(
            "ce_recovered",
            "fraction",
            Higher,
            "share of what zeros in the point's place cost that the reconstruction gives back, in cross-entropy",
        ),
        q(
            "kl_score",
            "fraction",
            Higher,
            "the same in divergence from the unedited pass",
        ),
    ],
};

pub(super) const LATENT_CROSSINGS: Entry = Entry {
    id: "latent_crossings",
    number: 20,
    title: "Births and deaths of latents",
    stage: "all",
    family: "dictionary",
    needs_baseline: true,
    artefacts: &[Dictionary],
    quantities: &[
        q(
            "births",
            "fraction",
            Neither,
            "latents silent on the baseline and alive here, over latents alive on either",
        ),
        q(
            "deaths",
            "fraction",
            Neither,
            "latents alive on the baseline and silent here, over the same",
        ),
        q(
            "tested_crossings",
            "fraction",
            Neither,
            "those of both whose rates differ by a Poisson test, adjusted over all latents that are alive",
        ),
    ],
};

pub(super) const LATENT_DENSITY: Entry = Entry {
    id: "latent_density",
    number: 21,
    title: "How often latents fire",
    stage: "all",
    family: "dictionary",
    needs_baseline: true,
    artefacts: &[Dictionary],
    quantities: &[
        q(
            "shifted",
            "fraction",
            Neither,
            "latents that fire at least twice or half as often, over latents alive on either",
        ),
        q(
            "changed",
            "fraction",
            Neither,
            "latents that changed by a sign test over texts, adjusted, over the same",
        ),
    ],
};

pub(super) const DECODER_ROTATION: Entry = Entry {
    id: "decoder_rotation",
    number: 22,
    title: "Decoder rows turned by a refit",
    stage: "all",
    family: "dictionary",
    needs_baseline: false,
    artefacts: &[Dictionary, Refit],
    quantities: &[
        q(
            "median_turn",
            "1 - cosine",
            Lower,
            "of a latent's decoder row before and after the refit, median over latents",
        ),
        q(
            "largest_turns",
            "1 - cosine",
            Lower,
            "the same, 99 % quantile over latents",
        ),
        q(
            "median_excess",
            "1 - cosine",
            Lower,
            "turn by the refit here minus turn by the refit on the baseline, median over latents",
        ),
        q(
            "largest_excesses",
            "1 - cosine",
            Lower,
            "the same, 99 % quantile over latents",
        ),
    ],
};

pub(super) const NEW_LATENTS: Entry = Entry {
    id: "new_latents",
    number: 23,
    title: "Latents that only this checkpoint has",
    stage: "all",
    family: "dictionary",
    needs_baseline: true,
    artefacts: &[Crosscoder],
    quantities: &[
        q(
            "new_share",
            "fraction",
            Neither,
            "latents of this checkpoint alone that latent scaling does not find in the baseline, over latents that fired",
        ),
        q(
            "own_share",
            "fraction",
            Neither,
            "latents of this checkpoint alone by their decoder norms, over the same",
        ),
    ],
};
