//! `data`: what a file of training data is, row by row and all together, as a model's tokenizer and template see it; and data
//! that a model makes.

mod check;
mod sample;
mod show;

use std::path::Path;

use clap::{Subcommand, ValueEnum};
use jiff::civil::DateTime;

use super::{
    Outcome,
    args::{FindArgs, ModelArgs},
    failure::Usage,
    output::Out,
};
use crate::{
    model::checkpoint::words,
    text::{
        ChatTemplate, Tokenizer,
        dataset::{Columns, Dataset, EncodeOptions, Kind, Supervise, Truncation, columns, table},
    },
};

/// Look at training data before it is trained on: masks, lengths, ends, duplicates; draw some from a model
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope data check train.jsonl --model smollm2-135m-instruct
  candlescope data show train.jsonl --model smollm2-135m-instruct -n 1
  candlescope data sample toy prompts.jsonl --reward gold.toml -n 100 --out pairs.jsonl")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(check::Args),
    Show(show::Args),
    Sample(sample::Args),
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Check(args) => check::run(args, out),
        Command::Show(args) => show::run(args, out),
        Command::Sample(args) => sample::run(args, out),
    }
}

/// With whose words rows are read, and how they are encoded.
#[derive(clap::Args, Debug)]
struct How {
    /// Whose tokenizer and chat template: a folder, a .gguf file, a known name, ORG/NAME on the hub, or toy
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// The file's names of columns that are called otherwise, such as prompt=question,completion=answer
    #[arg(long, value_name = "LIST")]
    columns: Option<String>,
    /// What the rows are [default: what the first row's columns say]
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<KindName>,
    /// Plain strings become a user's and an assistant's turn; without it they are taken as they are
    #[arg(long)]
    chat: bool,
    /// Most tokens of a row, prompt and answer together [default: the model's context]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// What becomes of longer texts, messages and completions [default: keep-start]; other rows are always dropped, and
    /// counted
    #[arg(long, value_enum, value_name = "POLICY")]
    truncation: Option<TruncationName>,
    /// Which tokens are targets of the loss [default: the answer of a prompt, the assistant's turns of messages, all of a
    /// text]
    #[arg(long, value_enum, value_name = "WHICH")]
    supervise: Option<SuperviseName>,
    #[command(flatten)]
    found: FindArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindName {
    Text,
    Messages,
    Prompt,
    PromptCompletion,
    Preference,
    Unpaired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TruncationName {
    KeepStart,
    KeepEnd,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SuperviseName {
    All,
    Completion,
    Assistant,
}

/// A model's words and how rows go through them.
struct Opened {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    options: EncodeOptions,
}

impl How {
    /// Tokenizer, template and context of the model; its weights stay where they are.
    fn open(&self, out: &Out) -> anyhow::Result<Opened> {
        let model = ModelArgs {
            model: self.model.clone(),
            how: self.found.exact(),
        };
        let (opened, path) = model.find(out)?;
        let (tokenizer, template) = words(&opened, &path)?;
        let context = opened.config().max_positions();
        let max_length = self.max_length.unwrap_or(context);
        anyhow::ensure!(
            (2..=context).contains(&max_length),
            "--max-length: expected 2 to {context}, the model's context, found {max_length}"
        );
        let options = EncodeOptions {
            truncation: match self.truncation {
                None | Some(TruncationName::KeepStart) => Truncation::KeepStart,
                Some(TruncationName::KeepEnd) => Truncation::KeepEnd,
                Some(TruncationName::Drop) => Truncation::Drop,
            },
            supervise: match self.supervise {
                None => Supervise::Auto,
                Some(SuperviseName::All) => Supervise::All,
                Some(SuperviseName::Completion) => Supervise::Completion,
                Some(SuperviseName::Assistant) => Supervise::Assistant,
            },
            chat: self.chat,
            now: Some(today()),
            ..EncodeOptions::up_to(max_length)
        };
        Ok(Opened {
            tokenizer,
            template,
            options,
        })
    }

    /// The rows of a file.
    fn read(&self, file: &Path) -> anyhow::Result<Dataset> {
        let names: Columns = self.columns.as_deref().unwrap_or_default().parse()?;
        let kind = self.kind.map(|kind| match kind {
            KindName::Text => Kind::Text,
            KindName::Messages => Kind::Messages,
            KindName::Prompt => Kind::Prompt,
            KindName::PromptCompletion => Kind::PromptCompletion,
            KindName::Preference => Kind::Preference,
            KindName::Unpaired => Kind::Unpaired,
        });
        let data = columns::rows(&table::read(file)?, &names, kind)?;
        let whole = matches!(data.kind, Kind::Preference | Kind::Unpaired | Kind::Prompt);
        if whole && (self.truncation.is_some() || self.supervise.is_some()) {
            let message = format!(
                "--truncation and --supervise have no effect on {} rows",
                data.kind.name()
            );
            let hint = "they are for text, messages and prompt-completion; other rows are dropped over the limit, and whole answers are compared";
            return Err(Usage::new(message, hint).into());
        }
        Ok(data)
    }
}

/// What a template that prints a date is given: midnight of today.
fn today() -> DateTime {
    jiff::Zoned::now().date().at(0, 0, 0, 0)
}
