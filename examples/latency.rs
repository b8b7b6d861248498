//! What the workbench feels like while a model computes on every core: key to frame, drawing, memory. One JSON line each.
//!
//! `cargo run --release --example latency -- MODEL [KEYS]`; the model is a GGUF file or a folder.
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
    println!(
        "{{\"name\": \"memory\", \"mib\": {:.0}}}",
        resident_mib().unwrap_or(0.0)
    );
    Ok(())
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
