//! `audit compare RUN`: the audits of a pipeline, checkpoints down and signals across.

use std::path::{Path, PathBuf};

use crate::audit::catalogue;
use crate::audit::report::{self, glyph};
use crate::audit::result::Audit;
use crate::audit::wording;
use crate::cli::failure::Usage;
use crate::cli::output::{Out, Table};
use crate::files::write::write_atomic;
use crate::pipeline::course::{self, Course};
use crate::pipeline::picture::{self, Wish};
use crate::pipeline::{Audited, folder};

pub(super) fn show(
    run: &Path,
    signal: Option<&str>,
    dir: Option<&PathBuf>,
    out: &Out,
) -> anyhow::Result<()> {
    let (_, state) = folder::look(run)?;
    if state.audits.is_empty() {
        return Err(Usage::new(
            format!("{} has no audits yet", run.display()),
            "[audit] in the plan says what is asked of each checkpoint",
        )
        .into());
    }
    let audits = course::read(run, &state)?;
    if let Some(dir) = dir {
        let audits: Vec<Audit> = audits.iter().map(|(_, audit)| audit.clone()).collect();
        for file in report::write_comparison(dir, &audits)? {
            out.note(&format!("wrote {}", file.display()));
        }
    }
    if let Some(id) = signal {
        return along(run, (&audits, id), out);
    }
    let course = course::of(&audits);
    if out.json {
        return out.json("candlescope.audit.course/1", &course);
    }
    whole(&course, out)
}

/// Quantities over the checkpoints as a drawing, and in words where they appear.
pub(super) fn draw(run: &Path, wishes: &[Wish], file: &Path, out: &Out) -> anyhow::Result<()> {
    let (plan, state) = folder::look(run)?;
    let lines = picture::lines(run, &state, wishes)?;
    let drawing = picture::draw(&plan.name, &lines);
    write_atomic(file, drawing.as_bytes())?;
    out.note(&format!("wrote {}", file.display()));
    if out.json {
        return out.json("candlescope.audit.picture/1", &lines);
    }
    for line in &lines {
        out.line(&picture::words(line))?;
    }
    Ok(())
}

/// Glyphs of every signal, with the numbers of the table as heads of the columns.
fn whole(course: &Course, out: &Out) -> anyhow::Result<()> {
    let entries: Vec<&catalogue::Entry> = course
        .signals
        .iter()
        .filter_map(|id| catalogue::signal(id))
        .collect();
    let mut header = vec!["checkpoint".to_owned(), "verdict".to_owned()];
    header.extend(entries.iter().map(|entry| entry.number.to_string()));
    let mut table = Table::grid(header);
    for checkpoint in &course.checkpoints {
        let mut cells = vec![
            format!("{} {}", checkpoint.stage, checkpoint.step),
            checkpoint.verdict.word().to_owned(),
        ];
        let glyphs = checkpoint.cells.iter();
        let glyphs = glyphs.map(|cell| cell.as_ref().map_or("", |cell| glyph(cell.verdict)));
        cells.extend(glyphs.map(str::to_owned));
        table.cells(&cells);
    }
    table.print(out)?;
    let mut legend = Table::new(["#", "signal", "title"]);
    for entry in entries {
        legend.row([
            entry.number.to_string(),
            entry.id.to_owned(),
            entry.title.to_owned(),
        ]);
    }
    legend.print(out)
}

/// The quantities of one signal with their intervals.
fn along(run: &Path, (audits, id): (&[(&Audited, Audit)], &str), out: &Out) -> anyhow::Result<()> {
    let quantities = course::lines(audits, id);
    if quantities.is_empty() {
        let known: Vec<&str> = course::of(audits).signals;
        return Err(Usage::new(
            format!("no audit of {} asked `{id}`", run.display()),
            format!("they asked {}", known.join(", ")),
        )
        .into());
    }
    if out.json {
        return out.json("candlescope.audit.along/1", &quantities);
    }
    let mut header = vec!["checkpoint".to_owned()];
    header.extend(quantities.iter().map(|(name, _)| wording::phrase(name)));
    let mut table = Table::grid(header);
    for (i, (audited, _)) in audits.iter().enumerate() {
        let mut cells = vec![format!("{} {}", audited.stage, audited.step)];
        for (_, line) in &quantities {
            let value = line.get(i).and_then(|along| along.value.as_ref());
            cells.push(value.map_or_else(String::new, wording::estimate));
        }
        table.cells(&cells);
    }
    table.print(out)
}
