//! Signals on how far the model has moved, and whether it is whole.

use super::Better::{Higher, Lower, Neither};
use super::{Artefact, Entry, paired, q};

pub(super) const KL_TO_BASELINE: Entry = Entry {
    id: "kl_to_baseline",
    number: 33,
    title: "KL to the baseline",
    stage: "all",
    family: "drift",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "mean_kl",
            "nats",
            Lower,
            "mean over the tokens of neutral texts",
        ),
        q("kl_p99", "nats", Lower, "99 % quantile over those tokens"),
        q(
            "first_token_kl",
            "nats",
            Lower,
            "mean at the first token of the answer to harmless prompts",
        ),
        q(
            "later_over_first",
            "ratio",
            Neither,
            "mean over the tokens of neutral texts over that at the first token of the answer",
        ),
    ],
};

pub(super) const ACTIVATION_DIFFERENCE: Entry = Entry {
    id: "activation_difference",
    number: 24,
    title: "Activation difference",
    stage: "SFT, DPO",
    family: "drift",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "relative_norm",
            "ratio",
            Lower,
            "length of the mean change at the first tokens of neutral texts over that of the streams",
        ),
        q(
            "common_share",
            "fraction",
            Lower,
            "share of the squared change that texts have in common",
        ),
        q(
            "top_token_z",
            "sd",
            Neither,
            "mean logit of the twenty tokens that the change favours, in deviations over the vocabulary",
        ),
        q(
            "readability",
            "sd",
            Lower,
            "the same less that of random directions, in deviations of those",
        ),
    ],
};

pub(super) const TRAIT_DRIFT: Entry = Entry {
    id: "trait_drift",
    number: 25,
    title: "Drift along traits",
    stage: "all",
    family: "drift",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "mahalanobis",
            "sd",
            Lower,
            "joint length of the mean shift along all traits, in the baseline's spread over prompts",
        ),
        q(
            "largest_shift",
            "sd",
            Lower,
            "largest shift along one trait, by size",
        ),
        q(
            "least_cosine",
            "cosine",
            Higher,
            "least cosine of a trait's direction with the baseline's",
        ),
    ],
};

pub(super) const IMPLICIT_MARGIN: Entry = Entry {
    id: "implicit_margin",
    number: 32,
    title: "Implicit reward margin",
    stage: "DPO, PPO",
    family: "drift",
    needs_baseline: true,
    artefacts: &[Artefact::Pairs],
    quantities: &[
        q(
            "margin",
            "nats",
            Neither,
            "mean over pairs of what the log-ratio to the baseline gains on the rejected answer's",
        ),
        q(
            "chosen_drift",
            "nats",
            Higher,
            "mean change of the chosen answer's log-probability",
        ),
        q(
            "rejected_drift",
            "nats",
            Neither,
            "mean change of the rejected answer's log-probability",
        ),
        q(
            "prefers_chosen",
            "fraction",
            Neither,
            "share of the pairs that moved whose margin grew",
        ),
        q(
            "chosen_falls",
            "fraction",
            Lower,
            "share of pairs whose chosen answer became less probable",
        ),
    ],
};

pub(super) const COHERENCE: Entry = Entry {
    id: "coherence",
    number: 34,
    title: "Coherence and loops",
    stage: "all",
    family: "drift",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "loop_rate",
            "fraction",
            Lower,
            "share of completions that end in a repeating loop",
        ),
        q(
            "distinct_2",
            "fraction",
            Higher,
            "distinct bigrams over all bigrams",
        ),
        q(
            "truncation_rate",
            "fraction",
            Neither,
            "share of completions cut by the token limit",
        ),
        q(
            "empty_rate",
            "fraction",
            Lower,
            "share of completions with no text",
        ),
    ],
};

pub(super) const WEIGHT_FORENSICS: Entry = Entry {
    id: "weight_forensics",
    number: 36,
    title: "Weight forensics",
    stage: "all",
    family: "drift",
    needs_baseline: true,
    artefacts: &[],
    quantities: &[
        q(
            "changed_matrices",
            "fraction",
            Neither,
            "share of matrices that differ from the baseline",
        ),
        q(
            "relative_change",
            "ratio",
            Lower,
            "largest norm of a change over the norm of its matrix",
        ),
        q(
            "rank1_share",
            "fraction",
            Lower,
            "largest share of a change's energy in one rank",
        ),
        q(
            "suppressed_writers",
            "fraction",
            Lower,
            "share of writers whose output along the direction fell below a tenth",
        ),
        q(
            "new_biases",
            "count",
            Lower,
            "biases that the baseline does not have",
        ),
    ],
};

pub(super) const PROVENANCE: Entry = Entry {
    id: "provenance",
    number: 38,
    title: "Provenance",
    stage: "all",
    family: "provenance",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "mismatches",
            "count",
            Lower,
            "passes that did not repeat, and tokenizers or architectures that differ from the baseline's",
        ),
        q(
            "bad_weights",
            "count",
            Lower,
            "tensors with a weight that is not finite",
        ),
        q(
            "near_ties",
            "fraction",
            Neither,
            "share of first tokens whose two best logits are closer than 0.2",
        ),
        paired(q(
            "template_changes",
            "count",
            Lower,
            "1 when the chat template differs from the baseline's",
        )),
    ],
};
