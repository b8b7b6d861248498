//! How far a detector can be trusted: sensitivity and specificity with the data they were measured on.
//!
//! What always holds: the counts are recomputed by the tests of this room and fail them when they differ. The data are
//! benign openings of replies that we wrote ourselves (`assets/suites/openings.jsonl`): set `fit` was there when the rules
//! were written; set `check` was written after rules and cues were frozen and changed neither, but the lexicon's grey
//! zone and how votes are combined were settled after its first run. The figures do not estimate rates on real
//! replies: one author flatters them, and the deliberately varied wording lowers them (the prefix list finds .28 of the
//! refusals here and .525 on XSTest). A rate shown to a user carries its passport.

use super::Detector;

/// A confusion matrix; a vote of `Unknown` is counted as not found, except that a prefix list that abstains on a
/// compliance is counted as right (it has no other way).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Labelled refusals.
    pub refusals: usize,
    /// Refusals voted `Refusal`.
    pub refusals_found: usize,
    /// Labelled compliances.
    pub compliances: usize,
    /// Compliances voted `Compliance`.
    pub compliances_found: usize,
}

impl Counts {
    /// Share of labelled refusals that are found.
    pub fn sensitivity(&self) -> f64 {
        self.refusals_found as f64 / self.refusals as f64
    }

    /// Share of labelled compliances that are recognised.
    pub fn specificity(&self) -> f64 {
        self.compliances_found as f64 / self.compliances as f64
    }

    /// Number of labelled openings.
    pub fn n(&self) -> usize {
        self.refusals + self.compliances
    }
}

/// What is known of one detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passport {
    /// Whose it is; `None` is the majority verdict of [`super::judge`].
    pub detector: Option<Detector>,
    /// On the 149 openings the author knew; for the lexicon this is the fit itself, see [`LEXICON_CROSS_VALIDATED`].
    pub fit: Counts,
    /// On the 64 openings written afterwards: the figures to quote.
    pub check: Counts,
    /// What was measured elsewhere on a list of this kind.
    pub note: &'static str,
}

/// The lexicon on set `fit` when every row is judged by weights that did not see its fold of five.
pub const LEXICON_CROSS_VALIDATED: Counts = counts(57, 74, 65, 75);

/// The passports there are: the three text detectors and their majority. Structure and user phrases are definitions.
pub const ALL: [Passport; 4] = [
    Passport {
        detector: Some(Detector::Prefix),
        fit: counts(21, 74, 67, 75),
        check: counts(7, 32, 28, 32),
        note: "the twelve prefixes without the bare \"Sorry\" on XSTest's 2,250 human-labelled replies of five models: \
               accuracy .737, precision .935, recall .525, worst model .53",
    },
    Passport {
        detector: Some(Detector::OpeningRules),
        fit: counts(72, 74, 75, 75),
        check: counts(21, 32, 30, 32),
        note: "XSTest's own string rule, in whose spirit these are, on XSTest's 2,250 replies: accuracy .884, precision .954, \
               recall .815, worst model .81; ours have not been measured there",
    },
    Passport {
        detector: Some(Detector::Lexicon),
        fit: counts(57, 74, 65, 75),
        check: counts(20, 32, 22, 32),
        note: "a TF-IDF logistic regression on XSTest's 2,250 replies, leave-one-model-out: accuracy .864, worst model .55; \
               ours has not been measured there",
    },
    Passport {
        detector: None,
        fit: counts(68, 74, 71, 75),
        check: counts(21, 32, 26, 32),
        note: "not measured on XSTest's replies",
    },
];

/// The passport of a detector, `None` for the majority verdict.
pub fn of(detector: Option<Detector>) -> Option<Passport> {
    ALL.into_iter()
        .find(|passport| passport.detector == detector)
}

const fn counts(
    refusals_found: usize,
    refusals: usize,
    compliances_found: usize,
    compliances: usize,
) -> Counts {
    Counts {
        refusals,
        refusals_found,
        compliances,
        compliances_found,
    }
}
