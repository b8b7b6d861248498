//! `train ... --dry-run`: the resolved config, and what the run will be.

use serde::Serialize;

use crate::{
    cli::{
        Outcome,
        output::{Out, Table, bytes},
        system,
    },
    train::{Config, Parts, Preflight},
};

#[derive(Serialize)]
struct Shown<'a> {
    config: &'a Config,
    run: &'a Preflight,
}

pub fn show(parts: &Parts, out: &Out) -> anyhow::Result<Outcome> {
    let run = Preflight::of(parts);
    if out.json {
        let config = &parts.config;
        out.json("candlescope.train.plan/1", &Shown { config, run: &run })?;
        return Ok(Outcome::Done);
    }
    out.text(&parts.config.to_toml()?)?;
    out.line("")?;
    table(&run).print(out)?;
    for warning in &run.warnings {
        out.note(&format!("note: {warning}"));
    }
    Ok(Outcome::Done)
}

fn table(run: &Preflight) -> Table {
    let mut table = Table::new(["run", ""]);
    let data = &run.data;
    let memory = &run.memory;
    let share = |part: f64| format!("{:.1}%", 100.0 * part);
    let trained = run.trained as f64 / run.parameters.max(1) as f64;
    let supervised = data.supervised as f64 / data.tokens.max(1) as f64;
    let available =
        system::available_memory().map_or(String::new(), |b| format!(", {} available", bytes(b)));
    let rows = [
        ("method", format!("{} on {}", run.method, run.model)),
        (
            "trained",
            format!(
                "{} of {} parameters ({})",
                run.trained,
                run.parameters,
                share(trained)
            ),
        ),
        (
            "rows",
            format!(
                "{} ({} for evaluation), the longest {} tokens",
                data.examples, data.eval_rows, data.longest
            ),
        ),
        (
            "tokens",
            format!(
                "{} each epoch, {} of them targets ({})",
                data.tokens,
                data.supervised,
                share(supervised)
            ),
        ),
        (
            "end trained",
            format!("in {} of the rows", share(data.end_trained)),
        ),
        (
            "steps",
            format!(
                "{} ({} an epoch, {} rows each), {} of them warm-up",
                run.steps, run.steps_per_epoch, run.rows_per_step, run.warmup_steps
            ),
        ),
        (
            "memory",
            format!(
                "about {}: weights {}, gradients {}, moments {}, activations {}{available}",
                bytes(memory.total()),
                bytes(memory.weights),
                bytes(memory.gradients),
                bytes(memory.moments),
                bytes(memory.activations)
            ),
        ),
    ];
    for (name, value) in rows {
        table.row([name.to_owned(), value]);
    }
    table
}
