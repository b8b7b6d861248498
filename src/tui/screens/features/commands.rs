//! What can be typed after `:` on the features screen.

use std::path::PathBuf;

use super::rows::Sort;
use super::work::{self, Answer, Ask, Told};
use super::{FeaturesScreen, Job, acts, texts, turn};
use crate::features::LatentEdit;
use crate::tui::screen::Context;

/// For completion.
pub(super) const COMMANDS: &[&str] = &[
    "sae PATH",
    "dictionary PATH",
    "record FILE",
    "texts FILE",
    "latent N",
    "label TEXT",
    "turn LATENT+AMOUNT",
    "sort strength|sum|density|number",
];

const NONE: &str = "no dictionary is open; `:sae PATH` opens one";

/// Obeys a command; none if it is not one of this screen.
pub(super) fn command(
    screen: &mut FeaturesScreen,
    words: &[&str],
    cx: &mut Context,
) -> Option<Result<(), String>> {
    let (&name, rest) = words.split_first()?;
    Some(match name {
        "sae" | "dictionary" => open(screen, rest, cx),
        "record" => record(screen, &rest.join(" "), cx),
        "texts" => follow(screen, &rest.join(" "), cx),
        "latent" => latent(screen, rest).map(|latent| acts::open_page(screen, latent)),
        "label" => label(screen, &rest.join(" "), cx),
        "turn" => turned(screen, rest, cx),
        "sort" => sort(screen, rest),
        _ => return None,
    })
}

/// `PATH`, with the options that the command line has for it.
fn asked(words: &[&str]) -> Result<Ask, String> {
    let (mut ask, mut path) = (Ask::default(), Vec::new());
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let mut point = || {
            let text = words.next().copied().unwrap_or_default();
            let point = text.parse().map(Some);
            point.map_err(|e: crate::hooks::HookError| format!("{word}: {e}"))
        };
        match word {
            "--accept-foreign" => ask.foreign = true,
            "--reads" => ask.reads = point()?,
            "--writes" => ask.writes = point()?,
            _ => path.push(word),
        }
    }
    let path = path.join(" ");
    if path.is_empty() {
        return Err("sae: expected a dictionary's folder or file".into());
    }
    ask.path = homed(&path);
    Ok(ask)
}

/// `~/` is the user's own folder, as in a shell.
fn homed(path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn open(screen: &mut FeaturesScreen, words: &[&str], cx: &mut Context) -> Result<(), String> {
    let Some(facts) = cx.shared.model.facts() else {
        return Err("no model is open; `:open NAME` opens one".into());
    };
    waits(screen)?;
    let ask = asked(words)?;
    // It may be asked for before the screen has seen the model.
    screen.model = std::sync::Arc::as_ptr(&facts.checkpoint) as usize;
    let model = screen.model;
    let number = screen.pending.begin(|number| (number, Job::Open));
    cx.job("dictionary", move |checkpoint, ticket| {
        Ok(Told {
            model,
            job: Some((number, Job::Open)),
            answer: work::opening(checkpoint, ticket, ask, number),
        })
    });
    Ok(())
}

/// Refuses a job beside the one that runs.
fn waits(screen: &FeaturesScreen) -> Result<(), String> {
    match screen.pending.job {
        Some((_, job)) => Err(format!("{}; esc stops that", job.words())),
        None => Ok(()),
    }
}

impl Job {
    /// What it does.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Open => "a dictionary is being opened",
            Self::Read => "latents are being followed over a text",
        }
    }
}

/// Follows the latent of the page, or those of the list, over a text.
fn follow(screen: &mut FeaturesScreen, file: &str, cx: &mut Context) -> Result<(), String> {
    let open = screen.open.clone().ok_or(NONE)?;
    waits(screen)?;
    if file.is_empty() {
        return Err("texts: expected a file: plain text, or lines of JSON with `text`".into());
    }
    let listed = screen.rows().iter().map(|row| row.latent);
    let latents: Vec<usize> = match screen.page.last() {
        Some(latent) => vec![*latent],
        None => listed.take(texts::FOLLOWED).collect(),
    };
    if latents.is_empty() {
        return Err("texts: no latent is listed; `:latent N` goes to one".into());
    }
    let (file, model, records) = (homed(file), screen.model, screen.records.clone());
    let number = screen.pending.begin(|number| (number, Job::Read));
    cx.job("latents over a text", move |checkpoint, ticket| {
        Ok(Told {
            model,
            job: Some((number, Job::Read)),
            answer: texts::read(checkpoint, ticket, &open, &latents, (file, records)),
        })
    });
    Ok(())
}

fn record(screen: &FeaturesScreen, file: &str, cx: &mut Context) -> Result<(), String> {
    let open = screen.open.clone().ok_or(NONE)?;
    if file.is_empty() {
        return Err("record: expected a file that `sae dashboard --json-out` wrote".into());
    }
    let (file, mut records, model) = (homed(file), screen.records.clone(), screen.model);
    cx.look("records of latents", std::time::Duration::ZERO, move || {
        let read = records.read(&file, &open.splice);
        Ok(Told {
            model,
            job: None,
            answer: Answer::Records(open.number, read.map(|n| (records, n))),
        })
    });
    Ok(())
}

/// Looks again at what lies beside the dictionary.
pub(super) fn look_again(screen: &FeaturesScreen, cx: &mut Context) {
    let (Some(open), model) = (screen.open.clone(), screen.model) else {
        return;
    };
    cx.look("records beside it", std::time::Duration::ZERO, move || {
        let beside = work::beside(&open.ask.path, &open.splice);
        Ok(Told {
            model,
            job: None,
            answer: Answer::Beside(open.number, Box::new(beside)),
        })
    });
}

/// The latent that a word names.
fn latent(screen: &FeaturesScreen, words: &[&str]) -> Result<usize, String> {
    let open = screen.open.as_ref().ok_or(NONE)?;
    let last = open.splice.dictionary().d_sae() - 1;
    let found = match words {
        [number] => number.parse().ok().filter(|latent| *latent <= last),
        _ => None,
    };
    found.ok_or_else(|| format!("latent: expected a number from 0 to {last}"))
}

fn label(screen: &mut FeaturesScreen, text: &str, cx: &mut Context) -> Result<(), String> {
    screen.open.as_ref().ok_or(NONE)?;
    let chosen = screen.chosen();
    let latent = chosen.ok_or("label: no latent is chosen; `:latent N` goes to one")?;
    screen.write_label(latent, text, cx);
    Ok(())
}

fn turned(screen: &mut FeaturesScreen, words: &[&str], cx: &mut Context) -> Result<(), String> {
    screen.open.as_ref().ok_or(NONE)?;
    let text = words.join("");
    if let Ok(latent) = text.parse() {
        turn::set(screen, latent, None, cx);
        return Ok(());
    }
    let LatentEdit { latent, change } = text.parse().map_err(|e| format!("{e}"))?;
    turn::set(screen, latent, Some(change), cx);
    Ok(())
}

fn sort(screen: &mut FeaturesScreen, words: &[&str]) -> Result<(), String> {
    let found = Sort::ALL.into_iter().find(|one| words == [one.name()]);
    let names = Sort::ALL.map(Sort::name).join(", ");
    let sort = found.ok_or_else(|| format!("sort: expected one of {names}"))?;
    screen.sorts.0[screen.scope as usize] = sort;
    Ok(())
}
