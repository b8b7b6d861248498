//! The verdict: from values and limits to PASS, REVIEW, BLOCK or UNDERPOWERED.

use serde::{Deserialize, Serialize};

/// How a limit, a signal or a whole audit came out. The order is that of how much it matters: of several verdicts
/// the greatest is the verdict on all.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every limit holds, and the sample was large enough to say so.
    Pass,
    /// Could not be decided: not measured, or measured on too little.
    Underpowered,
    /// A person should look before release.
    Review,
    /// Must not be released.
    Block,
}

impl Verdict {
    /// The word shown everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Underpowered => "UNDERPOWERED",
            Self::Review => "REVIEW",
            Self::Block => "BLOCK",
        }
    }

    /// The exit code of a run that ended with it: 0 for PASS, else 1, muted by `exit_zero`.
    pub fn exit_code(self, exit_zero: bool) -> u8 {
        u8::from(self != Self::Pass && !exit_zero)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}
