//! Signals on what refusal hangs on inside the model.

use super::Better::{Higher, Lower, Neither};
use super::{Entry, paired, q};

pub(super) const INDUCE_SCORE: Entry = Entry {
    id: "induce_score",
    number: 4,
    title: "Induced refusal",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "induced_score",
            "nats",
            Higher,
            "refusal score on harmless prompts with the direction added",
        ),
        q(
            "induced_change",
            "nats",
            Higher,
            "its change from the unedited model",
        ),
        q(
            "relative_dose",
            "ratio",
            Neither,
            "norm of what is added over the mean norm of the activations",
        ),
    ],
};

pub(super) const BYPASS_GAP: Entry = Entry {
    id: "bypass_gap",
    number: 5,
    title: "Bypass gap",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "bypassed_score",
            "nats",
            Higher,
            "refusal score on harmful prompts with the direction ablated",
        ),
        q(
            "bypass_gap",
            "nats",
            Lower,
            "how much refusal score the ablation takes away",
        ),
    ],
};

pub(super) const ABLATION_KL: Entry = Entry {
    id: "ablation_kl",
    number: 6,
    title: "Ablation KL",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "kl",
            "nats",
            Lower,
            "KL on harmless prompts between the ablated and the unedited model",
        ),
        q(
            "kl_z",
            "sd",
            Neither,
            "log KL in standard deviations of the random directions' log KL",
        ),
    ],
};

pub(super) const DIRECTION_NORM: Entry = Entry {
    id: "direction_norm",
    number: 7,
    title: "Direction norm",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "norm_share",
            "ratio",
            Neither,
            "norm of the direction, noise removed, over the mean norm of the activations",
        ),
        paired(q(
            "norm_ratio",
            "ratio",
            Neither,
            "norm share here over norm share of the baseline",
        )),
    ],
};

pub(super) const DIRECTION_COSINE: Entry = Entry {
    id: "direction_cosine",
    number: 8,
    title: "Direction cosine",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "reliability",
            "correlation",
            Higher,
            "split-half reliability of the direction, Spearman-Brown corrected",
        ),
        q("cosine", "cosine", Higher, "cosine as measured"),
        q(
            "cosine_disattenuated",
            "cosine",
            Higher,
            "cosine corrected for both reliabilities",
        ),
    ],
};

pub(super) const CARRIER_LAYER: Entry = Entry {
    id: "carrier_layer",
    number: 9,
    title: "Carrier layer",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "carrier_depth",
            "fraction",
            Neither,
            "layer whose direction carries refusal, as a share of the model's depth",
        ),
        q(
            "carrier_support",
            "fraction",
            Higher,
            "share of resamples of the prompts that find the same layer",
        ),
    ],
};

pub(super) const SUBSPACE_RANK: Entry = Entry {
    id: "subspace_rank",
    number: 10,
    title: "Refusal subspace",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "rank",
            "dimensions",
            Neither,
            "effective rank of the topics' directions, noise removed",
        ),
        paired(q(
            "rank_ratio",
            "ratio",
            Neither,
            "rank here over rank of the baseline",
        )),
        paired(q(
            "least_cosine",
            "cosine",
            Higher,
            "cosine of the largest principal angle to the baseline's subspace",
        )),
    ],
};

pub(super) const STALE_DIRECTION: Entry = Entry {
    id: "stale_direction",
    number: 11,
    title: "Stale direction",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "sufficiency",
            "ratio",
            Higher,
            "effect of adding the baseline's direction here over its effect there",
        ),
        q(
            "necessity",
            "ratio",
            Higher,
            "effect of ablating the baseline's direction here over its effect there",
        ),
    ],
};

pub(super) const STEERING_HEALTH: Entry = Entry {
    id: "steering_health",
    number: 27,
    title: "Steering health",
    stage: "all",
    family: "refusal mechanism",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "slope",
            "nats",
            Higher,
            "mean over prompts of the slope of the refusal score on the dose",
        ),
        q(
            "anti_steered",
            "fraction",
            Lower,
            "share of prompts that the direction moves the other way or nowhere",
        ),
        q(
            "monotone",
            "ratio",
            Higher,
            "order of the score along the doses, 1 where it always rises",
        ),
        q(
            "relative_dose",
            "ratio",
            Neither,
            "norm of the largest dose over the mean norm of the activations",
        ),
    ],
};
