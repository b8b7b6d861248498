//! Which prompts a command runs: words on the command line, or rows of a suite.

use clap::ValueEnum;

use crate::cli::failure::Usage;
use crate::text::suites::{Label, PromptRow, Split, Suite};

/// Prompts from the command line or a suite.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct PromptArgs {
    /// What to answer; repeatable
    #[arg(value_name = "PROMPT", conflicts_with = "suite")]
    pub prompts: Vec<String>,
    /// Prompts of a built-in suite (harmful, harmless, lookalike, neutral) or a suite file; repeatable
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Which part of a suite
    #[arg(long, value_enum, default_value = "test", value_name = "SPLIT")]
    pub split: SplitArg,
    /// Most prompts of each suite
    #[arg(short, default_value_t = 32, value_name = "N")]
    pub n: usize,
    /// Draws the prompts
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

/// The parts of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SplitArg {
    /// For fitting
    Train,
    /// For choosing
    Validation,
    /// For reporting
    Test,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Train => Self::Train,
            SplitArg::Validation => Self::Validation,
            SplitArg::Test => Self::Test,
        }
    }
}

impl PromptArgs {
    /// The rows; words of the command line are labelled neutral, since nobody said what they are.
    pub fn rows(&self) -> anyhow::Result<Vec<PromptRow>> {
        if self.suite.is_empty() {
            if self.prompts.is_empty() {
                let hint = "give one or several as arguments, or --suite harmless";
                return Err(Usage::new("no prompts", hint).into());
            }
            let row = |(i, prompt): (usize, &String)| PromptRow {
                id: format!("prompt-{}", i + 1),
                prompt: prompt.clone(),
                label: Label::Neutral,
                split: Split::Test,
                topic: None,
                source: "command line".into(),
                licence: "unspecified".into(),
                system: None,
            };
            return Ok(self.prompts.iter().enumerate().map(row).collect());
        }
        let mut rows = Vec::new();
        for name in &self.suite {
            rows.extend(drawn(name, self.split.into(), self.n, self.seed)?);
        }
        Ok(rows)
    }
}

/// At most `n` rows of a split of a suite.
pub(super) fn drawn(
    name: &str,
    split: Split,
    n: usize,
    seed: u64,
) -> anyhow::Result<Vec<PromptRow>> {
    let suite = Suite::named(name)?;
    let rows = suite.filter(None, Some(split)).sample(n, seed).rows;
    if rows.is_empty() {
        let what = format!("suite `{name}` has no rows of split `{}`", split.name());
        let hint = "rows of a file say their `split` (train, validation or test); without it they are test";
        return Err(Usage::new(what, hint).into());
    }
    Ok(rows)
}
