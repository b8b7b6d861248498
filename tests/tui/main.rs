//! The workbench without a terminal: every screen drawn, driven and mistreated on the toy model.
#![allow(clippy::unwrap_used)]

mod course;
mod diff;
mod features;
mod filter;
mod frame;
mod generate;
mod mistreated;
mod models_full;
mod panics;
mod plain;
mod runs;
mod screens;
mod terminal;
mod training;
mod worker;

use std::sync::Arc;

use candlescope::model::Checkpoint;
use candlescope::tui::app::App;
use candlescope::tui::runtime::Opener;
use candlescope::tui::script::Stage;
use candlescope::tui::theme::Theme;

/// Opens `toy`; anything else is refused as the command line would.
fn opener() -> Opener {
    Arc::new(|name| match name {
        "toy" => Checkpoint::toy(0).map_err(|error| error.to_string()),
        _ => Err(format!(
            "{name}: no such model; `candlescope model list` shows what there is"
        )),
    })
}

fn stage(theme: Theme, size: (u16, u16)) -> Stage {
    Stage::new(App::new(theme), "toy", opener(), size).unwrap()
}

/// Shows a screen and waits for what it asks for.
fn shown(id: &str, theme: Theme, size: (u16, u16)) -> Stage {
    let mut stage = stage(theme, size);
    stage.runtime.app.go(id);
    stage.wait().unwrap();
    read(&mut stage, id);
    stage.line("f12", ".".as_ref()).unwrap();
    stage.line("f12", ".".as_ref()).unwrap();
    stage.wait().unwrap();
    stage
}

/// Has done what a screen does on request alone and in little time.
fn read(stage: &mut Stage, id: &str) {
    match id {
        "directions" | "probes" => press(stage, "r"),
        "features" => features::open(stage, tempfile::tempdir().unwrap().path()),
        "time" => {
            runs::open(stage, tempfile::tempdir().unwrap().path());
        }
        "diff" => runs::command(stage, "beside toy:1"),
        "course" => {
            course::audited(stage, tempfile::tempdir().unwrap().path());
        }
        _ => {}
    }
}

/// The names of all screens.
fn ids() -> Vec<&'static str> {
    candlescope::tui::screens::table()
        .iter()
        .map(|screen| screen.id())
        .collect()
}

/// Keys of a script.
fn press(stage: &mut Stage, line: &str) {
    stage.line(line, ".".as_ref()).unwrap();
    stage.wait().unwrap();
}
