//! `direction bake`: a checkpoint whose weights no longer write along a direction, with a certificate of what is left.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::optimise;
use crate::{
    cli::{
        Outcome,
        args::FindArgs,
        edits,
        failure::Usage,
        interrupt,
        model::convert::Stored,
        output::{Out, Table},
    },
    hooks::{Vector, expand},
    model::Checkpoint,
    steer::{
        edit::{
            Amounts, Basis, Certificate, EditError, Form, Ingredient, Left, LogitDifference, NOTE,
            Order, PURPOSE, Through, Tied, WeightEdit, save,
        },
        encode_all,
        search::AmountsFile,
    },
    text::suites::{Label, PromptRow, Split, Suite},
};

/// Take a direction out of the weights of a model, exactly, and certify what is left
///
/// Every weight that writes to the residual stream loses what it writes along the direction: embeddings of tokens and
/// positions, attention outputs, MLP outputs and their biases; under post-norms (Gemma 2 and 3, OLMo 2) against the gain
/// times the direction, which the usual edit leaves out. The certificate is measured on what was read back from the new
/// folder: the length of what each matrix still writes along the direction, and the largest difference in logits between
/// these weights and the same edit by hook. Such an edit is there to measure how much of a behaviour hangs on one
/// direction; the result is no model to deploy.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction bake smollm2-135m-instruct --direction refusal.safetensors --out baked/
  candlescope direction bake ./model --direction refusal.safetensors --adapter --no-embedding --out adapter/
  candlescope direction bake ./model --direction d.safetensors --layers 8..20 --strength 0.8 --out baked/ --json
  candlescope direction bake ./model --amounts search/best.json --out baked/")]
pub struct Args {
    /// A folder, a .gguf file, a known name (see `candlescope model list`) or ORG/NAME on the Hugging Face hub
    checkpoint: String,
    /// What to take out: a safetensors file with a vector `direction`, FILE:TENSOR, or contrast:LAYER; repeatable, for a
    /// subspace
    #[arg(long, required_unless_present = "amounts", value_name = "DIR")]
    direction: Vec<String>,
    /// Amounts by layer that `direction optimise` found (its best.json), with the direction beside that file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["strength", "layers", "no_embedding", "no_bias", "norm_preserving", "project_out"])]
    amounts: Option<PathBuf>,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Write a PEFT adapter beside the checkpoint instead of a full one; it cannot hold embeddings or biases
    #[arg(long, conflicts_with_all = ["norm_preserving", "stored"])]
    adapter: bool,
    /// How much of it: 1 all, 0.5 half, above 1 reverses it
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "L",
        allow_hyphen_values = true
    )]
    strength: f64,
    /// Only the blocks A to B, both included, and no embedding [default: all, and the embeddings]
    #[arg(long, value_name = "A..B")]
    layers: Option<String>,
    /// Leave the embeddings as they are
    #[arg(long)]
    no_embedding: bool,
    /// Leave biases as they are
    #[arg(long)]
    no_bias: bool,
    /// Give written vectors their old lengths back, in their new directions; the direction stays out
    #[arg(long)]
    norm_preserving: bool,
    /// Make the direction orthogonal to this one first, such as the mean of harmless prompts; named like --direction,
    /// repeatable
    #[arg(long, value_name = "DIR")]
    project_out: Vec<String>,
    /// What becomes of an unembedding that is the embedding: untie (it keeps its unedited copy) or refuse
    #[arg(long, value_enum, default_value = "untie", value_name = "HOW")]
    tied: TiedArg,
    /// Built-in prompts on which weights and hook are compared, half of them harmful; 0 for none
    #[arg(long, default_value_t = 8, value_name = "N")]
    prompts: usize,
    /// Use a direction that was made on another model, or on this one before a change
    #[arg(long)]
    accept_foreign_direction: bool,
    #[command(flatten)]
    found: FindArgs,
    /// What weights are written in: f32, f16 or bf16; below f32 rounding brings some of the direction back, and the
    /// certificate says how much
    #[arg(
        long = "dtype",
        value_enum,
        default_value = "f32",
        value_name = "DTYPE",
        hide_possible_values = true
    )]
    stored: Stored,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TiedArg {
    Untie,
    Refuse,
}

#[derive(Serialize)]
struct Baked<'a> {
    checkpoint: &'a str,
    folder: String,
    form: &'static str,
    purpose: &'static str,
    files: &'a [String],
    certificate: &'a Certificate,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    args.check()?;
    let checkpoint = args.found.exact().open(&args.checkpoint, out)?;
    let found = args.found_amounts(&checkpoint)?;
    let (directions, from) = args.vectors(&args.named(found.as_ref()), &checkpoint)?;
    let (kept, projected_out) = args.vectors(&args.project_out, &checkpoint)?;
    let basis = Basis::projected(&directions, &kept)?;
    let mut edit = args.edit(basis, &checkpoint)?;
    if let (Some(found), Some(file)) = (found, &args.amounts) {
        found.expect(file, &directions).map_err(optimise::advised)?;
        (edit.amounts, edit.biases) = (found.amounts, found.biases);
    }
    let prompts = prompts(args.prompts, &checkpoint)?;
    let form = if args.adapter {
        Form::Adapter
    } else {
        Form::Checkpoint(args.stored.dtype().0)
    };
    interrupt::check()?;
    let order = Order {
        edit: &edit,
        form,
        directions: &from,
        projected_out: &projected_out,
        prompts: &prompts,
    };
    let saved = save(&checkpoint, &order, &args.out).map_err(advised)?;
    let baked = Baked {
        checkpoint: &args.checkpoint,
        folder: args.out.display().to_string(),
        form: if args.adapter {
            "adapter"
        } else {
            "checkpoint"
        },
        purpose: PURPOSE,
        files: &saved.files,
        certificate: &saved.certificate,
    };
    if out.json {
        out.json("candlescope.direction.bake/1", &baked)?;
    } else {
        show(&baked, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    /// What can be refused before anything is loaded.
    fn check(&self) -> anyhow::Result<()> {
        if !self.strength.is_finite() || self.strength == 0.0 {
            return Err(Usage::new(
                format!(
                    "--strength: expected a number other than 0, found {}",
                    self.strength
                ),
                "1 takes the direction out whole",
            )
            .into());
        }
        if self.out.symlink_metadata().is_ok() {
            return Err(Usage::new(
                format!("{} is there already", self.out.display()),
                "give --out a path where nothing is yet",
            )
            .into());
        }
        Ok(())
    }

    /// Those of a file, for this checkpoint.
    fn found_amounts(&self, checkpoint: &Checkpoint) -> anyhow::Result<Option<AmountsFile>> {
        let Some(file) = &self.amounts else {
            return Ok(None);
        };
        let found = AmountsFile::read(file).map_err(optimise::advised)?;
        if !self.accept_foreign_direction {
            let artefact = file.display().to_string();
            checkpoint
                .fingerprint()?
                .expect(&found.made_on, &artefact)?;
        }
        Ok(Some(found))
    }

    /// The directions, or the one that lies beside the amounts.
    fn named(&self, found: Option<&AmountsFile>) -> Vec<String> {
        match (found, &self.amounts) {
            (Some(found), Some(file)) if self.direction.is_empty() => {
                vec![found.direction_beside(file).display().to_string()]
            }
            _ => self.direction.clone(),
        }
    }

    fn vectors(
        &self,
        specs: &[String],
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<(Vec<Vector>, Vec<Ingredient>)> {
        let mut vectors = Vec::new();
        for spec in specs {
            let vector = edits::direction(spec, checkpoint, self.accept_foreign_direction)?;
            vectors.push(vector);
        }
        let named = specs.iter().zip(&vectors);
        let from = named.map(|(spec, vector)| Ingredient::new(spec, vector));
        let from = from.collect();
        Ok((vectors, from))
    }

    fn edit(&self, basis: Basis, checkpoint: &Checkpoint) -> anyhow::Result<WeightEdit> {
        let config = checkpoint.config();
        let mut amounts = match &self.layers {
            None => Amounts::uniform(config, self.strength),
            Some(layers) => {
                let points = expand(
                    &format!("attn_contrib.{}", layers.replace("..", "-")),
                    config,
                );
                let points = points.map_err(|error| {
                    Usage::new(
                        format!("--layers {layers}: {error}"),
                        "for example `--layers 8..20`, both included",
                    )
                })?;
                let layers: Vec<usize> = points.iter().map(|at| at.layer).collect();
                Amounts::of_layers(config, &layers, self.strength)
            }
        };
        if self.no_embedding {
            amounts.embed = 0.0;
        }
        Ok(WeightEdit {
            basis,
            amounts,
            biases: !self.no_bias,
            keep_norms: self.norm_preserving,
            tied: match self.tied {
                TiedArg::Untie => Tied::Untie,
                TiedArg::Refuse => Tied::Refuse,
            },
        })
    }
}

/// With a hint where there is one.
fn advised(error: EditError) -> anyhow::Error {
    match error {
        EditError::Tied { .. } => Usage::new(
            error.to_string(),
            "leave out `--tied refuse`, or add --no-embedding",
        )
        .into(),
        EditError::NotInAdapter { instead, .. } => Usage::new(error.to_string(), instead).into(),
        EditError::Model(inner) => anyhow::Error::new(*inner),
        other => other.into(),
    }
}

/// Test prompts of the built-in suites as tokens, harmful and harmless in turn.
fn prompts(n: usize, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Vec<u32>>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut rows: Vec<PromptRow> = Vec::new();
    let classes = [("harmful", Label::Harmful), ("harmless", Label::Harmless)];
    for (i, (name, label)) in classes.into_iter().enumerate() {
        let suite = Suite::builtin(name)?.filter(Some(label), Some(Split::Test));
        let wanted = (n + 1 - i) / 2;
        anyhow::ensure!(
            wanted <= suite.rows.len(),
            "--prompts: expected at most {} (twice the test prompts of the suite `{name}`), found {n}",
            2 * suite.rows.len()
        );
        rows.extend(suite.sample(wanted, 0).rows);
    }
    let rows: Vec<&PromptRow> = rows.iter().collect();
    let encoded = encode_all(checkpoint, &rows)?;
    Ok(encoded.into_iter().map(|prompt| prompt.ids).collect())
}

fn show(baked: &Baked, out: &Out) -> anyhow::Result<()> {
    let certificate = baked.certificate;
    let mut table = Table::new(["left", "after", "before", "bias left", "through", "weight"]);
    for writer in &certificate.writers {
        table.row([
            format!("{:.1e}", writer.left),
            format!("{:.1e}", writer.after),
            format!("{:.3}", writer.before),
            bias_left(writer),
            writer.through.describe().to_owned(),
            writer.name.clone(),
        ]);
    }
    table.print(out)?;
    if certificate
        .writers
        .iter()
        .any(|w| w.through != Through::Direct)
    {
        out.line(
            "\nUnder a post-norm these are lengths along the gain times the direction: what comes out along it is 0 iff they are.",
        )?;
    }
    out.line(&format!("\ncertificate: {}", certificate.says))?;
    if let Some(logits) = &certificate.logits {
        for line in lines(logits) {
            out.line(&line)?;
        }
    }
    out.line(&format!("{}: {}", baked.folder, baked.files.join(", ")))?;
    out.line(&format!("{PURPOSE} ({NOTE} says so too)"))
}

fn bias_left(writer: &Left) -> String {
    let biases = [writer.bias, writer.norm_bias].into_iter().flatten();
    let shown: Vec<String> = biases
        .map(|[before, after]| {
            let share = if after == 0.0 { 0.0 } else { after / before };
            format!("{share:.1e}")
        })
        .collect();
    if shown.is_empty() {
        "-".to_owned()
    } else {
        shown.join(", ")
    }
}

fn lines(logits: &LogitDifference) -> Vec<String> {
    let line = |what: &str, gap: &crate::steer::edit::Gap| {
        format!(
            "  {what:<28} {:.2e}, {:.1e} of the largest; the same likeliest token at {:.1} % of positions",
            gap.max_abs,
            gap.relative,
            100.0 * gap.same_top
        )
    };
    let mut lines = vec![format!(
        "largest difference of logits over {} prompts, {} positions, between these weights and",
        logits.prompts, logits.tokens
    )];
    lines.extend(
        logits
            .same_edit
            .as_ref()
            .map(|gap| line("the same edit by hook", gap)),
    );
    lines.push(line("ablation by hook (--ablate)", &logits.ablation));
    lines.push(line("the unedited model", &logits.unedited));
    lines
}
