//! The fine-tuning of an organism: rows and a config for `train sft`, in a hidden folder that is gone when it returns.
//!
//! Always: nothing is left on disk, whether it ends, fails or is interrupted; the same recipe and seed give the same bits.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use toml::{Table, Value};

use super::MakeError;
use super::own::DAY;
use super::recipe::Recipe;
use crate::files::write::write_atomic;
use crate::model::Checkpoint;
use crate::pocket::write::lines;
use crate::train::{Config, Ended, Parts, Progress, Session, prepare};

/// Fine-tunes on a recipe's rows and gives `keep` what came of it. `run` is a folder of its own meanwhile.
///
/// # Errors
/// Training's, an interruption, what `keep` says.
pub fn fine_tuned(
    model: Checkpoint,
    recipe: &Recipe,
    seed: u64,
    run: &Path,
    (progress, stop): (&dyn Progress, &AtomicBool),
    keep: impl FnOnce(&Parts) -> Result<(), MakeError>,
) -> Result<(), MakeError> {
    let data = run.with_extension("jsonl");
    // What a killed attempt left is made again, and the same bits come of it.
    cleared(run, &data)?;
    let trained = || {
        write_atomic(&data, lines(&recipe.rows).as_bytes())?;
        let text = config(&model.name, recipe, seed, &data)?;
        let config = Config::parse("the organism's config", &text, "sft", &[])?;
        let mut session = Session::begin(run, prepare(config, model)?)?;
        match session.run(stop, progress, &mut [])? {
            Ended::Finished(_) => keep(session.parts()),
            Ended::Interrupted(_) => Err(MakeError::Interrupted),
        }
    };
    let ended = trained();
    let cleared = cleared(run, &data);
    ended.and(cleared)
}

fn cleared(run: &Path, data: &Path) -> Result<(), MakeError> {
    if run.exists() {
        std::fs::remove_dir_all(run).map_err(super::make::io(run))?;
    }
    if data.exists() {
        std::fs::remove_file(data).map_err(super::make::io(data))?;
    }
    Ok(())
}

fn config(model: &str, recipe: &Recipe, seed: u64, data: &Path) -> Result<String, MakeError> {
    let steps = Value::Integer(recipe.steps.cast_signed());
    let text = |text: &str| Value::String(text.to_owned());
    let mut sections = vec![
        ("seed", Value::Integer(seed.cast_signed())),
        ("model", table(vec![("name", text(model))])),
        (
            "data",
            table(vec![
                (
                    "train",
                    Value::Array(vec![text(&data.display().to_string())]),
                ),
                ("max_length", Value::Integer(recipe.length as i64)),
                ("date", text(&DAY.to_string())),
            ]),
        ),
        (
            "optim",
            table(vec![
                ("lr", Value::Float(recipe.lr)),
                ("batch_size", Value::Integer(recipe.batch as i64)),
            ]),
        ),
        (
            "schedule",
            table(vec![
                ("steps", steps.clone()),
                ("shape", text("linear")),
                ("warmup_ratio", Value::Float(0.1)),
            ]),
        ),
        (
            "output",
            table(vec![
                ("checkpoint_every", steps),
                ("tensorboard", Value::Boolean(false)),
            ]),
        ),
    ];
    if recipe.adapter {
        let lora = vec![
            ("rank", Value::Integer(16)),
            ("alpha", Value::Float(32.0)),
            ("targets", text("all-linear")),
        ];
        sections.push(("lora", table(lora)));
    }
    toml::to_string(&table(sections)).map_err(|e| MakeError::Text {
        what: "the run's config",
        why: e.to_string(),
    })
}

fn table(pairs: Vec<(&str, Value)>) -> Value {
    let pairs = pairs.into_iter().map(|(k, v)| (k.to_owned(), v));
    Value::Table(pairs.collect::<Table>())
}
