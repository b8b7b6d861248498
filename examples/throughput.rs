//! How fast a checkpoint runs here: prefill, decode, memory. One JSON line for each measurement, so that the lines can
//! stand beside those of another program on the same work.
//!
//! `cargo run --release --example throughput -- path/to/model.gguf [RUNS] [f32|bf16] [f32|bf16x6|bf16x3|bf16]`

use std::time::Instant;

use candlescope::activations::{Harvest, StoreError};
use candlescope::hooks::{HookPoint, Hooks, Point};
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, ModelError, Opened};
use candlescope_ops::{Products, set_products};

/// Harvesting for dictionaries beside the same pass without hooks: all layers, the last residual stream, one half way up.
fn harvest(model: &Decoder, text: &[u32], runs: usize) -> Result<(), Box<dyn std::error::Error>> {
    let contexts: Vec<Vec<u32>> = text.chunks(128).map(<[u32]>::to_vec).collect();
    let batch = Batch::new(&contexts)?;
    let plain = timed(runs, || {
        let pass = model.forward(&batch, &Hooks::new(), LogitsAt::None);
        pass.map(drop)
    })?;
    row("prefill_8x128_no_logits", &plain, text.len());
    let last = model.config().n_layers - 1;
    for (name, layer) in [("last", last), ("half", last / 2)] {
        let at = HookPoint::new(Point::ResidPost, layer);
        let harvest = Harvest::new(model, &[at])?;
        let times = timed(runs, || match harvest.pass(&contexts, 0) {
            Ok(_) => Ok(()),
            Err(StoreError::Model(error)) => Err(error),
            Err(_) => Err(ModelError::Empty {
                what: "the harvest failed",
            }),
        })?;
        row(&format!("harvest_8x128_{name}"), &times, text.len());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    candlescope_ops::fast_alloc();
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or("usage: throughput MODEL [RUNS] [f32|bf16] [f32|bf16x6|bf16x3|bf16]")?;
    let runs: usize = args.next().map_or(Ok(7), |n| n.parse())?;
    let mut options = LoadOptions::default();
    if args.next().as_deref() == Some("bf16") {
        options.dtype = candle_core::DType::BF16;
    }
    match args.next().as_deref() {
        None | Some("bf16x6") => {}
        Some("f32") => set_products(Products::F32),
        Some("bf16x3") => set_products(Products::split(2)),
        Some("bf16") => set_products(Products::split(1)),
        Some(other) => return Err(format!("unknown products {other}").into()),
    }
    let start = Clock::start();
    let model = Opened::at(path.as_ref(), &options)?.decoder(&options)?;
    row("load", &[start.read()], 0);

    let vocab = model.config().vocab_size as u32;
    let text: Vec<u32> = (0..1024u32)
        .map(|i| (i * 7919 + i * i * 31) % vocab)
        .collect();
    let eight: Vec<&[u32]> = text.chunks(128).collect();
    for (name, rows) in [
        ("prefill_1x512", vec![&text[..512]]),
        ("prefill_8x128", eight),
    ] {
        let batch = Batch::new(&rows)?;
        let tokens = batch.rows() * batch.len();
        for (suffix, logits) in [
            ("all_logits", LogitsAt::All),
            ("last_logit", LogitsAt::Last),
        ] {
            let times = timed(runs, || {
                model.forward(&batch, &Hooks::new(), logits).map(drop)
            })?;
            row(&format!("{name}_{suffix}"), &times, tokens);
        }
    }
    harvest(&model, &text, runs)?;
    decode(&model, &text[..39], 128, 1, runs.min(5))?;
    decode(&model, &text[..39], 64, 16, runs.min(3))?;
    Ok(())
}

/// `new` tokens after a prompt, for so many equal rows.
fn decode(
    model: &Decoder,
    prompt: &[u32],
    new: usize,
    rows: usize,
    runs: usize,
) -> Result<(), ModelError> {
    let prompts = vec![prompt; rows];
    let options = GenerateOptions {
        max_new: new,
        ..GenerateOptions::default()
    };
    let times = timed(runs, || {
        generate(model, &prompts, &options, &Hooks::new(), &mut |_, _| {
            Continue::Yes
        })
        .map(drop)
    })?;
    row(&format!("generate_{rows}x{new}"), &times, rows * new);
    Ok(())
}

fn timed(
    runs: usize,
    mut work: impl FnMut() -> Result<(), ModelError>,
) -> Result<Vec<Spent>, ModelError> {
    work()?;
    let once = |_| {
        let start = Clock::start();
        work().map(|()| start.read())
    };
    (0..runs).map(once).collect()
}

/// Wall time, and the CPU time of all threads beside it: on a busy machine the second is the one to compare.
struct Spent {
    wall: f64,
    cpu: f64,
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn read(&self) -> Spent {
        Spent {
            wall: self.0.elapsed().as_secs_f64(),
            cpu: cpu_seconds() - self.1,
        }
    }
}

#[allow(clippy::print_stdout)]
fn row(name: &str, times: &[Spent], tokens: usize) {
    let median = |of: fn(&Spent) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let (wall, cpu) = (median(|t| t.wall), median(|t| t.cpu));
    let rate = if tokens == 0 {
        0.0
    } else {
        tokens as f64 / wall
    };
    let peak = peak_rss_mb();
    println!(
        "{{\"name\": \"{name}\", \"median_s\": {wall:.4}, \"median_cpu_s\": {cpu:.4}, \"runs\": {}, \"tok_s\": {rate:.1}, \"peak_rss_mb\": {peak:.0}}}",
        times.len()
    );
}

/// User and system time of this process, in hundredths of a second as Linux counts them.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    fields.get(11..13).map_or(0.0, |t| (t[0] + t[1]) / 100.0)
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}
