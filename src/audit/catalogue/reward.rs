//! Signals on reward models, and on what is trained by them.

use super::Better::{Higher, Lower, Neither};
use super::{Artefact, Entry, paired, q};

pub(super) const REWARD_LENGTH: Entry = Entry {
    id: "reward_length",
    number: 28,
    title: "Reward and length",
    stage: "RM",
    family: "reward",
    needs_baseline: false,
    artefacts: &[Artefact::Pairs],
    quantities: &[
        q(
            "length_correlation",
            "rho",
            Neither,
            "Spearman's correlation of reward and length over all answers",
        ),
        q(
            "partial_correlation",
            "rho",
            Neither,
            "the same with being preferred held constant",
        ),
        q(
            "balanced_accuracy",
            "fraction",
            Higher,
            "mean of the accuracies where the preferred answer is the longer and where it is the shorter",
        ),
        q(
            "longer_advantage",
            "fraction",
            Neither,
            "the first of these accuracies less the second",
        ),
    ],
};

pub(super) const REWARD_DIRECTIONS: Entry = Entry {
    id: "reward_directions",
    number: 29,
    title: "What the reward reads",
    stage: "RM",
    family: "reward",
    needs_baseline: false,
    artefacts: &[Artefact::Pairs],
    quantities: &[
        q(
            "refusal_effect",
            "sd",
            Lower,
            "spread of the change of rewards without the refusal direction, in deviations of the reward",
        ),
        q(
            "length_effect",
            "sd",
            Lower,
            "the same without the direction from short to long answers",
        ),
        q(
            "style_effect",
            "sd",
            Lower,
            "the largest over the directions of traits",
        ),
        q(
            "head_cosine",
            "cosine",
            Neither,
            "the largest cosine, by size, of the score head with any of these directions",
        ),
    ],
};

pub(super) const REWARD_CALIBRATION: Entry = Entry {
    id: "reward_calibration",
    number: 30,
    title: "Calibration of the reward",
    stage: "RM",
    family: "reward",
    needs_baseline: false,
    artefacts: &[Artefact::Pairs],
    quantities: &[
        q(
            "accuracy",
            "fraction",
            Higher,
            "share of pairs whose preferred answer scores higher",
        ),
        q(
            "ece",
            "fraction",
            Lower,
            "expected calibration error of the margins as log-odds",
        ),
        q(
            "mean_margin",
            "reward",
            Neither,
            "mean of the preferred answer's score less the other's",
        ),
        paired(q(
            "disagreement",
            "fraction",
            Lower,
            "share of pairs on which not all reward models prefer the same answer",
        )),
        paired(q(
            "margin_spread",
            "sd",
            Lower,
            "mean deviation over the reward models of a pair's margin, each in its own deviations",
        )),
    ],
};

pub(super) const REWARD_GAIN: Entry = Entry {
    id: "reward_gain",
    number: 31,
    title: "Reward gained apart from length",
    stage: "PPO, RLOO",
    family: "reward",
    needs_baseline: true,
    artefacts: &[Artefact::Reward],
    quantities: &[
        q(
            "gain",
            "sd",
            Neither,
            "mean reward of the replies less the baseline's, in deviations of the baseline's rewards",
        ),
        q(
            "within_length",
            "sd",
            Higher,
            "the same among replies of like length",
        ),
        q(
            "non_length_share",
            "fraction",
            Higher,
            "the second over the first: how much of the gain is not length",
        ),
        q(
            "length_change",
            "tokens",
            Neither,
            "mean length of the replies less the baseline's",
        ),
    ],
};
