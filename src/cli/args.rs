//! What commands share: the flags that every command takes, and how a model is named and opened.

use std::path::PathBuf;

use anyhow::Context;
use candle_core::DType;
use candlescope_ops::{Products, set_products};
use clap::{Args, ValueEnum};

use super::{output::Out, progress::Bar};
use crate::activations::Column;
use crate::model::{
    Checkpoint, LoadOptions, LoraAdapter, Opened,
    fetch::{self, Cache},
    lora, toy,
};

/// Flags that every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// Print one JSON object with a `schema` field instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour in tables and errors
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub color: When,
    /// No progress, no notes
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to compute with; the result does not depend on them [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// How products with weights are computed where the CPU has AMX (elsewhere always f32)
    #[arg(long, global = true, value_name = "HOW", default_value = "bf16x6")]
    pub products: ProductsArg,
}

/// A column of a JSONL or Parquet file, which also says what its rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColumnName {
    /// A string, as it is
    Text,
    /// A string, a user's turn; `system` beside it is a system turn
    Prompt,
    /// A list of objects with role and content
    Messages,
}

impl ColumnName {
    /// What the reader calls it.
    pub fn column(self) -> Column {
        match self {
            Self::Text => Column::Text,
            Self::Prompt => Column::Prompt,
            Self::Messages => Column::Messages,
        }
    }
}

/// How products are computed on AMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProductsArg {
    /// By vectors of f32
    F32,
    /// By tiles of bf16, each number split in three: as exact as f32; in two for gradients, within some 4e-6
    Bf16x6,
    /// By tiles of bf16, each number split in two: within some 4e-6
    Bf16x3,
    /// By tiles of bf16, each number rounded
    Bf16,
}

impl From<ProductsArg> for Products {
    fn from(how: ProductsArg) -> Self {
        match how {
            ProductsArg::F32 => Self::F32,
            ProductsArg::Bf16x6 => Self::split(3),
            ProductsArg::Bf16x3 => Self::split(2),
            ProductsArg::Bf16 => Self::split(1),
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    /// Where a command's results and notes go.
    pub fn out(&self) -> Out {
        Out::new(self.json, self.color, self.quiet)
    }

    /// Chooses the kernels and sizes the thread pool.
    pub fn start(&self) -> anyhow::Result<()> {
        set_products(self.products.into());
        let Some(threads) = self.threads else {
            return Ok(());
        };
        anyhow::ensure!(
            (1..=4096).contains(&threads),
            "--threads: expected 1 to 4096, found {threads}"
        );
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start the threads")
    }
}

/// Which model, and how it is opened. For commands on one model.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// A folder (of a model, or of a LoRA adapter), a .gguf file, a known name (see `candlescope model list`), ORG/NAME on the
    /// Hugging Face hub, or toy, a tiny model made in memory
    pub model: String,
    /// How to open it.
    #[command(flatten)]
    pub how: OpenArgs,
}

/// How models are opened.
#[derive(Args, Clone, Debug)]
pub struct OpenArgs {
    /// What matrices are kept in, f32 or bf16 (half the memory, rounded); arithmetic is f32
    #[arg(
        long,
        value_enum,
        default_value = "f32",
        value_name = "DTYPE",
        hide_possible_values = true
    )]
    pub dtype: Dtype,
    /// Where it is.
    #[command(flatten)]
    pub found: FindArgs,
}

/// How models are found and read, whatever their weights are kept in.
#[derive(Args, Clone, Debug, Default)]
pub struct FindArgs {
    /// A config key that candlescope does not know and that you know not to change the forward pass; repeatable
    #[arg(long, value_name = "KEY")]
    pub accept_config_key: Vec<String>,
    /// The base model of an adapter folder, instead of the one that its config names
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Use what is in the cache only
    #[arg(long)]
    pub offline: bool,
}

impl FindArgs {
    /// With weights in f32.
    pub fn exact(&self) -> OpenArgs {
        OpenArgs {
            dtype: Dtype::F32,
            found: self.clone(),
        }
    }
}

/// The dtypes a model can be kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// Exact
    F32,
    /// Half the memory
    Bf16,
}

impl ModelArgs {
    /// Finds the model, fetching a named one on first use, and opens it.
    pub fn open(&self, out: &Out) -> anyhow::Result<Checkpoint> {
        self.how.open(&self.model, out)
    }

    /// Finds the model, fetching a named one on first use; config and tensors without the weights in place, and where it
    /// lies.
    pub fn find(&self, out: &Out) -> anyhow::Result<(Opened, PathBuf)> {
        if let Some(seed) = toy::seed(&self.model) {
            return Ok((Opened::toy(seed)?, PathBuf::from(&self.model)));
        }
        let path = self.how.path(&self.model, out)?;
        Ok((Opened::at(&path, &self.how.load_options())?, path))
    }
}

impl OpenArgs {
    /// As [`ModelArgs::open`], for a further model.
    pub fn open(&self, model: &str, out: &Out) -> anyhow::Result<Checkpoint> {
        if let Some(seed) = toy::seed(model) {
            return Ok(Checkpoint::toy_as(seed, &self.load_options())?);
        }
        let path = self.path(model, out)?;
        Ok(Checkpoint::open(model, &path, &self.load_options())?)
    }

    /// As [`Self::open`], where a reward model may lie too.
    pub fn open_any(&self, model: &str, out: &Out) -> anyhow::Result<Checkpoint> {
        if toy::seed(model).is_some() {
            return self.open(model, out);
        }
        let path = self.path(model, out)?;
        Ok(Checkpoint::open_any(model, &path, &self.load_options())?)
    }

    /// Where a model lies, fetched on first use; and the base of an adapter with it.
    pub fn path(&self, model: &str, out: &Out) -> anyhow::Result<PathBuf> {
        let cache = Cache::new()?;
        let bar = Bar::new(out);
        let path = fetch::resolve(model, &cache, !self.found.offline, &bar)?;
        if LoraAdapter::is_in(&path)
            && let Some(base) = lora::base::wanted(&path, self.found.base.as_deref())?
        {
            fetch::resolve(&base, &cache, !self.found.offline, &bar)
                .with_context(|| format!("the base model `{base}` of {}", path.display()))?;
        }
        Ok(path)
    }

    /// For the library.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            dtype: match self.dtype {
                Dtype::F32 => DType::F32,
                Dtype::Bf16 => DType::BF16,
            },
            accept_config_keys: self.found.accept_config_key.clone(),
            base: self.found.base.clone(),
        }
    }
}
