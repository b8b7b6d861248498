//! What the workbench feels like: key to frame while a model computes on every core, dose to first token, memory. One JSON
//! line each.
//!
//! `cargo run --release --example latency -- MODEL [KEYS] [DICTIONARY]`; the model is a GGUF file or a folder. With a sparse
//! dictionary, the oscilloscope while the model answers is measured too.
#![allow(clippy::print_stdout)] // it is a program of its own

use std::sync::Arc;
use std::time::{Duration, Instant};

use candlescope::hooks::Hooks;
use candlescope::model::{Batch, Checkpoint, LoadOptions, LogitsAt};
use candlescope::tui::app::{App, Timings};
use candlescope::tui::runtime::resident_mib;
use candlescope::tui::screen::Work;
use candlescope::tui::script::Stage;
use candlescope::tui::theme::Theme;
use candlescope::tui::work::Lane;
use candlescope::tui::{keys, screens};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    candlescope_ops::fast_alloc();
    let started = Instant::now();
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: latency MODEL [KEYS]")?;
    let count: usize = args.next().map_or(Ok(300), |n| n.parse())?;
    let file = path.clone();
    let opener = Arc::new(move |_: &str| {
        Checkpoint::open("model", file.as_ref(), &LoadOptions::default())
            .map_err(|error| error.to_string())
    });
    let mut stage = Stage::new(App::new(Theme::dark()), &path, opener, (120, 40))?;
    stage.runtime.draw()?;
    row("first_frame", &[started.elapsed().as_secs_f64() * 1e3]);
    stage.wait()?;
    for screen in screens::table() {
        stage.runtime.app.go(screen.id());
        stage.wait()?;
        for loaded in [false, true] {
            if loaded {
                stage.runtime.post("none", Lane::Job, "load", load());
            }
            stage.runtime.app.timings = Timings::default();
            for i in 0..count {
                stage.key(keys::parse(if i % 2 == 0 { "?" } else { "esc" })?);
                stage.runtime.draw()?;
                let until = Instant::now() + Duration::from_millis(15);
                while Instant::now() < until {
                    stage.runtime.turn(Duration::from_millis(2));
                    stage.runtime.draw()?;
                }
            }
            let times: Vec<f64> = stage
                .runtime
                .app
                .timings
                .key_to_frame
                .iter()
                .map(|d| d.as_secs_f64() * 1e3)
                .collect();
            let load = if loaded { "computing" } else { "idle" };
            row(&format!("{}_{load}", screen.id()), &times);
            stage.runtime.stop(Lane::Job);
            stage.wait()?;
        }
    }
    if let Some(dictionary) = args.next() {
        oscilloscope(&mut stage, &dictionary, count)?;
    }
    doses(&mut stage)?;
    println!(
        "{{\"name\": \"memory\", \"mib\": {:.0}}}",
        resident_mib().unwrap_or(0.0)
    );
    Ok(())
}

/// Lanes up and down while tokens come in.
fn oscilloscope(
    stage: &mut Stage,
    dictionary: &str,
    count: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let out = ".".as_ref();
    stage.runtime.app.go("features");
    for line in [":", &format!("type sae {dictionary}"), "enter", "wait", "o"] {
        stage.line(line, out)?;
    }
    stage.line(":", out)?;
    stage.line("type max 4000", out)?;
    stage.line("enter", out)?;
    stage.runtime.app.timings = Timings::default();
    for i in 0..count {
        stage.key(keys::parse(if i % 2 == 0 { "n" } else { "N" })?);
        stage.runtime.draw()?;
        let until = Instant::now() + Duration::from_millis(15);
        while Instant::now() < until {
            stage.runtime.turn(Duration::from_millis(2));
            stage.runtime.draw()?;
        }
    }
    let times = &stage.runtime.app.timings.key_to_frame;
    let times: Vec<f64> = times.iter().map(|d| d.as_secs_f64() * 1e3).collect();
    row("oscilloscope_answering", &times);
    stage.line("esc", out)?;
    stage.line("esc", out)?;
    stage.wait()?;
    Ok(())
}

/// From a step of the dose to the first token of the new answer: of an answer at rest, of one in the making, and after the
/// last of five steps that follow each other as a held key sends them.
fn doses(stage: &mut Stage) -> Result<(), Box<dyn std::error::Error>> {
    stage.line("esc", ".".as_ref())?;
    stage.runtime.app.go("generate");
    stage.runtime.app.shared.layer = 2 * stage.runtime.app.shared.layers() / 3;
    // Answers of a few tokens: what is measured is the way to the first.
    stage.line(":", ".".as_ref())?;
    stage.line("type generate max 8", ".".as_ref())?;
    stage.line("enter", ".".as_ref())?;
    stage.wait()?;
    for (name, picked) in [("ablation", "a enter"), ("addition", "a j enter")] {
        stage.line(picked, ".".as_ref())?;
        stage.wait()?;
        if stage.runtime.app.shared.interventions.is_empty() {
            return Err(format!("no {name} was added: is there a model at this path?").into());
        }
        for (how, presses, rest) in [
            ("at_rest", 1, true),
            ("going", 1, false),
            ("held", 5, false),
        ] {
            let mut times = Vec::new();
            for i in 0..12 {
                if rest {
                    stage.wait()?;
                }
                for _ in 0..presses {
                    let until = Instant::now() + Duration::from_millis(33);
                    while Instant::now() < until {
                        stage.runtime.turn(Duration::from_millis(1));
                        stage.runtime.draw()?;
                    }
                    stage.key(keys::parse(if i % 2 == 0 { "." } else { "," })?);
                }
                let pressed = Instant::now();
                while edited(stage) == 0 {
                    stage.runtime.turn(Duration::from_millis(1));
                    stage.runtime.draw()?;
                }
                times.push(pressed.elapsed().as_secs_f64() * 1e3);
            }
            row(&format!("dose_{name}_{how}"), &times);
        }
        stage.line("D", ".".as_ref())?;
        stage.wait()?;
    }
    Ok(())
}

/// Tokens of the edited answer.
fn edited(stage: &Stage) -> usize {
    let app = &stage.runtime.app;
    let data = app.screen().data(&app.shared);
    data.map_or(0, |data| {
        data.rows.iter().filter(|row| row[0] == "edited").count()
    })
}

/// Passes without end, until they are stopped.
fn load() -> Work {
    Box::new(|checkpoint, ticket| {
        let ids: Vec<u32> = (0..256).collect();
        let batch = Batch::single(&ids).map_err(|error| error.to_string())?;
        while !ticket.cancelled() {
            let pass = checkpoint
                .decoder
                .forward(&batch, &Hooks::new(), LogitsAt::Last);
            pass.map_err(|error| error.to_string())?;
        }
        Ok(Box::new(()))
    })
}

fn row(name: &str, times: &[f64]) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    println!(
        "{{\"name\": \"{name}\", \"n\": {}, \"p50_ms\": {:.2}, \"p95_ms\": {:.2}, \"max_ms\": {:.2}}}",
        sorted.len(),
        at(0.5),
        at(0.95),
        at(1.0)
    );
}
