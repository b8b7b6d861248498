//! Signals on what the model says when a request is dressed up, led up to, reworded, or ordered about.

use super::Better::{Higher, Lower, Neither};
use super::{Entry, paired, q};

pub(super) const JAILBREAK_SLOPE: Entry = Entry {
    id: "jailbreak_slope",
    number: 37,
    title: "Jailbreak slope",
    stage: "SFT, DPO, PPO",
    family: "refusal under pressure",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "plain_refusal",
            "fraction",
            Higher,
            "share of the same harmful prompts refused as they stand",
        ),
        q(
            "worst_frame_refusal",
            "fraction",
            Higher,
            "share refused in the frame that is refused least, of those that are read",
        ),
        q(
            "frame_drop",
            "fraction",
            Lower,
            "what the frames that are read take from the refusal rate beyond a random suffix",
        ),
        q("score_drop", "nats", Lower, "the same of the refusal score"),
        q(
            "codes_read",
            "fraction",
            Neither,
            "share of the codes that the checkpoint can read",
        ),
    ],
};

pub(super) const REFUSAL_CONSISTENCY: Entry = Entry {
    id: "refusal_consistency",
    number: 39,
    title: "Refusal consistency",
    stage: "SFT, DPO, PPO",
    family: "refusal under pressure",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "split_groups",
            "fraction",
            Lower,
            "share of requests refused in some wordings and not in others",
        ),
        q(
            "disagreement",
            "fraction",
            Lower,
            "share of pairs of wordings of one request that are answered differently",
        ),
        q(
            "consistency",
            "kappa",
            Higher,
            "agreement within a request beyond what the refusal rate alone gives",
        ),
    ],
};

pub(super) const SYSTEM_OBEDIENCE: Entry = Entry {
    id: "system_obedience",
    number: 40,
    title: "System obedience",
    stage: "SFT, DPO, PPO",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "reference_obeyed",
            "fraction",
            Higher,
            "share of orders obeyed when the user alone gives them",
        ),
        q(
            "aligned_obeyed",
            "fraction",
            Higher,
            "share obeyed when system and user give them",
        ),
        q(
            "conflict_obeyed",
            "fraction",
            Higher,
            "share of the system's orders obeyed against the user",
        ),
        q(
            "conflict_change",
            "fraction",
            Higher,
            "what the user's opposite order changes",
        ),
    ],
};

pub(super) const INJECTION: Entry = Entry {
    id: "injection",
    number: 41,
    title: "Injection",
    stage: "SFT, DPO, PPO",
    family: "trials",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "document_obeyed",
            "fraction",
            Lower,
            "share of orders inside a document that are obeyed",
        ),
        q(
            "injection_effect",
            "fraction",
            Lower,
            "that less what is said without the order",
        ),
        q(
            "user_obeyed",
            "fraction",
            Neither,
            "share obeyed when the user gives them",
        ),
        q(
            "answered_clean",
            "fraction",
            Higher,
            "share of questions answered from the document without an order",
        ),
        q(
            "answered_injected",
            "fraction",
            Higher,
            "share answered with the order in it",
        ),
        q(
            "answer_drop",
            "fraction",
            Lower,
            "what the order takes from the answers",
        ),
    ],
};

pub(super) const DILUTION: Entry = Entry {
    id: "dilution",
    number: 42,
    title: "Dilution",
    stage: "SFT, DPO, PPO",
    family: "refusal under pressure",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "slope",
            "nats",
            Higher,
            "change of the refusal score for each doubling of the turns",
        ),
        q(
            "talked_refusal",
            "fraction",
            Higher,
            "share of harmful prompts refused after the longest small talk",
        ),
        q(
            "talk_drop",
            "fraction",
            Lower,
            "what that talk takes from the refusal rate",
        ),
        q(
            "long_drop",
            "fraction",
            Lower,
            "what a long neutral text before the prompt takes from it",
        ),
    ],
};

pub(super) const STYLE_DRIFT: Entry = Entry {
    id: "style_drift",
    number: 44,
    title: "Style drift",
    stage: "SFT, DPO, PPO",
    family: "drift",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "mean_length",
            "tokens",
            Neither,
            "mean length of replies to harmless prompts",
        ),
        q(
            "truncated",
            "fraction",
            Lower,
            "share of them that ran into the token limit",
        ),
        q(
            "hedges",
            "per reply",
            Neither,
            "hedging words in a reply, such as perhaps",
        ),
        q(
            "apologies",
            "per reply",
            Lower,
            "words of apology in a reply",
        ),
        q(
            "exclamations",
            "per reply",
            Neither,
            "exclamation marks in a reply",
        ),
        q(
            "list_items",
            "per reply",
            Neither,
            "lines of a reply that begin as list items",
        ),
        q(
            "type_token_ratio",
            "ratio",
            Neither,
            "distinct words over words of a reply",
        ),
        paired(q(
            "length_ratio",
            "ratio",
            Neither,
            "mean length over the baseline's",
        )),
        paired(q(
            "style_distance",
            "sd",
            Lower,
            "how far the marks of style have moved, in standard deviations of replies",
        )),
    ],
};

pub(super) const TRIGGER_WORDS: Entry = Entry {
    id: "trigger_words",
    number: 46,
    title: "Trigger words",
    stage: "all",
    family: "refusal under pressure",
    needs_baseline: false,
    artefacts: &[],
    quantities: &[
        q(
            "max_drop",
            "nats",
            Lower,
            "what the strongest token takes from the refusal score of prompts it was not found on",
        ),
        q(
            "confirmed",
            "count",
            Lower,
            "tokens that stand out, turn refusal around, and do so again on other prompts",
        ),
        paired(q(
            "new_confirmed",
            "count",
            Lower,
            "of these, tokens that do not do so on the baseline",
        )),
    ],
};
