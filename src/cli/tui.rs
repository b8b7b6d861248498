//! `tui`: the workbench; also what `candlescope` alone does in a terminal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::{
    Outcome,
    args::{OpenArgs, When},
    output::Out,
};
use crate::model::fetch::Cache;
use crate::pipeline::{folder::is_pipeline, stations::stations};
use crate::train::RunFolder;
use crate::tui::{
    app::App,
    background::worth_asking,
    log, panics,
    plain::{Manner, Plain},
    runtime::{self, Opener},
    script::{self, Stage},
    shared::RunState,
    theme::Theme,
};

/// Open the workbench in the terminal
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope tui smollm2-135m-instruct
  candlescope tui smollm2-135m-instruct --plain
  candlescope tui runs/pocket
  candlescope tui pocket --script keys.txt --size 120x40 --dump out/")]
pub struct Args {
    /// A folder, a .gguf file, a known name or ORG/NAME; `pocket` is a tiny model of this binary. The folder of a pipeline or of a
    /// training run opens with its last checkpoint, in the time machine
    #[arg(default_value = crate::model::built_in::FIRST)]
    model: String,
    #[command(flatten)]
    how: OpenArgs,
    /// Drive it with the keys in this file instead of a terminal
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// A dialogue in plain lines instead of a screen, for screen readers and pipes: no escapes, no boxes; type `help`
    #[arg(long, conflicts_with_all = ["script", "theme"])]
    plain: bool,
    /// Size of the screen that a script draws
    #[arg(long, value_name = "WxH", default_value = "120x40")]
    size: String,
    /// Where the script's dumps, and exports, go [default: the current folder]
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Colours: dark, light, 16, none, ascii [default: what the terminal shows]
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

pub fn run(args: &Args, out: &Out, started: Instant) -> anyhow::Result<Outcome> {
    let theme = match &args.theme {
        Some(name) => Theme::named(name).with_context(|| {
            format!(
                "--theme: no theme `{name}`; there are {}",
                Theme::names().join(", ")
            )
        })?,
        // What a script draws goes into files, whatever this terminal shows.
        None if args.script.is_some() => Theme::dark(),
        None => Theme::detect(&|name| std::env::var(name).ok(), utf8()),
    };
    let how = args.how.clone();
    let opener: Opener = Arc::new(move |name| {
        // The terminal belongs to the frames: no progress of the command line's.
        let quiet = Out::new(false, When::Never, true);
        how.open(name, &quiet).map_err(|error| format!("{error:#}"))
    });
    panics::watch();
    let mut app = App::new(theme);
    let model = named(&args.model, &mut app)?;
    if let Ok(cache) = Cache::new() {
        log::to(cache.root().join("workbench.log"));
    }
    if args.plain {
        return plain(args, &model, app, opener);
    }
    let Some(file) = &args.script else {
        let env = |name: &str| std::env::var(name).ok();
        let ask = args.theme.is_none() && worth_asking(&env);
        runtime::in_terminal(app, &model, opener, started, ask)?;
        return Ok(Outcome::Done);
    };
    let size = script::size(&args.size).map_err(|why| anyhow::anyhow!("--{why}"))?;
    let folder = args.dump.clone().unwrap_or_else(|| PathBuf::from("."));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let lines = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut stage = Stage::new(app, &model, opener, size)?;
    stage.runtime.export_to(folder.clone());
    stage.wait()?;
    for (i, line) in lines.lines().enumerate() {
        stage
            .line(line, &folder)
            .with_context(|| format!("{}:{}", file.display(), i + 1))?;
    }
    stage.wait()?;
    out.line(&crate::tui::export::text(&stage.frame()))?;
    Ok(Outcome::Done)
}

/// The model that is opened. A run's folder is no model's: the run is opened beside its last checkpoint.
fn named(name: &str, app: &mut App) -> anyhow::Result<String> {
    let path = Path::new(name);
    if !is_pipeline(path) && RunFolder::open(path).is_err() {
        return Ok(name.to_owned());
    }
    let run = stations(path)?;
    let last = run.all.last().map(|last| last.path.display().to_string());
    app.shared.run = RunState::Ready(Arc::new(run));
    app.go("time");
    Ok(last.unwrap_or_else(|| name.to_owned()))
}

/// The dialogue in plain lines on the standard streams.
fn plain(args: &Args, model: &str, app: App, opener: Opener) -> anyhow::Result<Outcome> {
    use std::io::IsTerminal;
    let manner = Manner {
        ascii: !utf8(),
        prompt: std::io::stdin().is_terminal(),
    };
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let mut dialogue = Plain::new(app, model, opener, input, output, manner)?;
    if let Some(folder) = &args.dump {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        dialogue.export_to(folder.clone());
    }
    dialogue.run()?;
    Ok(Outcome::Done)
}

/// Whether the locale can show more than ASCII.
fn utf8() -> bool {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value: &String| !value.is_empty())
    };
    set("LC_ALL")
        .or_else(|| set("LC_CTYPE"))
        .or_else(|| set("LANG"))
        .is_none_or(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
}
