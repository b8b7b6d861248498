//! Texts for dictionaries: packed into contexts of one length, up to a number of tokens.

use std::path::PathBuf;

use jiff::civil::DateTime;

use crate::activations::{
    PackedContexts, Packing, Rows, Source, SourceInfo, TextOptions, TextRows,
};
use crate::cli::{args::ColumnName, failure::Usage, interrupt};
use crate::model::Checkpoint;
use crate::text::suites::Suite;

/// Which text.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("texts").required(true).args(["documents", "jsonl", "suite"])))]
pub struct TextArgs {
    /// Plain text: a file, or all .txt and .md files below a folder
    #[arg(long, value_name = "PATH")]
    documents: Option<PathBuf>,
    /// A file of JSON lines
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Which column of --jsonl; prompts and messages go through the chat template [default: text]
    #[arg(long, value_enum, value_name = "COLUMN")]
    column: Option<ColumnName>,
    /// A built-in prompt suite, or a suite file; each prompt is a context, through the chat template
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// Tokens of each packed context [default: what the dictionary was trained with, or 128]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Stop after this many tokens
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    tokens: usize,
}

impl TextArgs {
    /// The contexts, and what they are of. `context` and `bos` are the dictionary's own words.
    pub fn read(
        &self,
        model: &Checkpoint,
        context: Option<usize>,
        bos: Option<bool>,
    ) -> anyhow::Result<(Vec<Vec<u32>>, SourceInfo)> {
        if self.column.is_some() && self.jsonl.is_none() {
            let hint = "it names a column of --jsonl";
            return Err(Usage::new("--column: there are no columns", hint).into());
        }
        let options = TextOptions {
            chat: None,
            max_len: None,
            truncate: false,
            limit: None,
            // A template that prints a date prints the same one each time.
            now: DateTime::constant(2026, 1, 1, 0, 0, 0, 0),
        };
        if self.column.is_some() && self.jsonl.is_none() {
            let hint = "leave it out, or give the texts as --jsonl";
            return Err(Usage::new("--column is of --jsonl alone", hint).into());
        }
        if let Some(name) = &self.suite {
            let rows = TextRows::new(model, Source::Suite(Suite::named(name)?), options)?;
            let info = rows.info()?;
            return Ok((self.take(&rows)?, info));
        }
        let source = match (&self.documents, &self.jsonl) {
            (Some(path), _) => Source::Documents(path.clone()),
            (None, path) => {
                let column = self.column.unwrap_or(ColumnName::Text).column();
                Source::Jsonl(path.clone().unwrap_or_default(), column)
            }
        };
        let most = model.config().max_positions();
        let length = self.context.or(context).unwrap_or(128.min(most));
        let packing = Packing::new(length, bos, &model.tokenizer)?;
        let packed = PackedContexts::new(TextRows::new(model, source, options)?, packing)?;
        let info = packed.info()?;
        Ok((self.take(&packed)?, info))
    }

    fn take(&self, rows: &dyn Rows) -> anyhow::Result<Vec<Vec<u32>>> {
        let (mut contexts, mut tokens) = (Vec::new(), 0);
        for ids in rows.rows()? {
            interrupt::check()?;
            let ids = ids?;
            tokens += ids.len();
            contexts.push(ids);
            if tokens >= self.tokens {
                break;
            }
        }
        if contexts.is_empty() {
            let hint = "give more text, or shorter contexts with --context";
            return Err(Usage::new("the text does not fill one context", hint).into());
        }
        Ok(contexts)
    }
}
