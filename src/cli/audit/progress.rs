//! How far an audit is: one bar over all its stages on a terminal, otherwise a line every ten seconds.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    audit::{
        report::text::visible,
        wording::duration,
        work::{Progress, Step},
    },
    cli::output::Out,
};

/// Between lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows the steps of an audit.
pub(in crate::cli) struct Steps<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    said: Mutex<Option<Instant>>,
}

impl<'a> Steps<'a> {
    pub(in crate::cli) fn new(out: &'a Out) -> Self {
        let bar = (!out.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            out,
            bar,
            said: Mutex::new(None),
        }
    }

    /// Takes the bar away.
    pub(in crate::cli) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn words(step: &Step) -> String {
    let count = match step.total {
        0 => String::new(),
        total => format!(" {}/{total}", step.done),
    };
    let left = step.eta.map_or_else(String::new, |eta| {
        format!(", {} left", duration(eta.as_secs_f64()))
    });
    format!(
        "{}: {}{count}{left}",
        visible(step.checkpoint),
        visible(step.stage)
    )
}

impl Progress for Steps<'_> {
    fn step(&self, step: &Step) {
        if let Some(bar) = &self.bar {
            bar.set_position((step.overall * 1000.0) as u64);
            bar.set_message(words(step));
            return;
        }
        let Ok(mut said) = self.said.lock() else {
            return;
        };
        if said.is_none_or(|at| at.elapsed() >= PAUSE) {
            *said = Some(Instant::now());
            self.out
                .note(&format!("{:>3.0}% {}", step.overall * 100.0, words(step)));
        }
    }
}
