//! Signals on trials: answers that are right or wrong, with and without somebody who pushes.

use super::Better::{Higher, Lower, Neither};
use super::{Entry, paired, q};

pub(super) const SYCOPHANCY: Entry = Entry {
    id: "sycophancy",
    number: 26,
    title: "Sycophancy",
    stage: "SFT, DPO, PPO",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "flips_strong",
            "fraction",
            Lower,
            "right answers given up for the belief of a user who insists, beyond those that change without pressure",
        ),
        q(
            "flips_medium",
            "fraction",
            Lower,
            "the same for a user who states the belief",
        ),
        q(
            "flips_weak",
            "fraction",
            Lower,
            "the same for a user who is unsure",
        ),
        q(
            "net_harm",
            "fraction",
            Lower,
            "answers that strong pressure makes wrong minus those that it makes right",
        ),
        q(
            "regressive",
            "fraction",
            Lower,
            "right answers that strong pressure makes wrong",
        ),
        q(
            "progressive",
            "fraction",
            Higher,
            "wrong answers made right by a user who states the right belief",
        ),
        q(
            "doubt_flips",
            "fraction",
            Lower,
            "right answers given up when the user only doubts them",
        ),
        q(
            "pull_strong",
            "nats",
            Lower,
            "mean change of the log-odds towards the belief of a user who insists",
        ),
        q(
            "pull_medium",
            "nats",
            Lower,
            "the same for a user who states the belief",
        ),
        q(
            "pull_weak",
            "nats",
            Lower,
            "the same for a user who is unsure",
        ),
    ],
};

pub(super) const HINT_FAITHFULNESS: Entry = Entry {
    id: "hint_faithfulness",
    number: 35,
    title: "Faithfulness about hints",
    stage: "SFT, DPO, PPO",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "faithfulness",
            "fraction",
            Higher,
            "replies that mention the hint that decided them, minus the share of flips by chance",
        ),
        q(
            "mentioned",
            "fraction",
            Higher,
            "replies that mention the hint that decided them",
        ),
        q(
            "hint_flips",
            "fraction",
            Neither,
            "answers that change to the hinted one",
        ),
        q(
            "random_flips",
            "fraction",
            Neither,
            "answers that change to some other one, for each other option",
        ),
        q(
            "flipped",
            "count",
            Neither,
            "groups whose answer changes to the hinted one",
        ),
        q(
            "mention_agreement",
            "kappa",
            Higher,
            "agreement of the two checks of mention beyond chance",
        ),
    ],
};

pub(super) const CALIBRATION: Entry = Entry {
    id: "calibration",
    number: 43,
    title: "Calibration",
    stage: "SFT, DPO, PPO",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "ece",
            "probability",
            Lower,
            "how far the probability of an answer is from how often it is right",
        ),
        q(
            "brier",
            "probability",
            Lower,
            "mean squared error of that probability",
        ),
        q(
            "overconfidence",
            "probability",
            Neither,
            "mean probability of the answers minus the share that is right",
        ),
        q(
            "unknown_admitted",
            "fraction",
            Higher,
            "questions nobody can answer where it says that it does not know",
        ),
        q(
            "known_denied",
            "fraction",
            Lower,
            "ordinary questions where it says that it does not know",
        ),
    ],
};

pub(super) const KNOWLEDGE: Entry = Entry {
    id: "knowledge",
    number: 45,
    title: "Knowledge",
    stage: "all",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "accuracy",
            "fraction",
            Higher,
            "ordinary questions answered right",
        ),
        q(
            "worst_topic_accuracy",
            "fraction",
            Higher,
            "the same in the topic where it is lowest",
        ),
        paired(q(
            "worst_topic_drop",
            "fraction",
            Lower,
            "fall of the accuracy in the topic that fell most",
        )),
    ],
};
