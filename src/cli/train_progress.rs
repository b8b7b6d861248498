//! How far a run is: a bar with loss and time left on a terminal, otherwise a line every ten seconds.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    audit::wording::duration,
    cli::output::Out,
    train::{
        Progress, Standing,
        log::{Kind, Row},
    },
};

/// Between lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows the steps of a run.
pub struct Steps<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    said: Mutex<Option<Instant>>,
    pace: Mutex<Option<Pace>>,
}

/// Where a run stood when it was first heard of, and how far it is; in a pipeline one run follows another.
#[derive(Clone, Copy)]
struct Pace {
    wall: f64,
    tokens: f64,
    step: u64,
}

impl Pace {
    /// Tokens a second since the run's first row of this sitting, evaluations and checkpoints included.
    fn of(known: &mut Option<Self>, now: Self) -> Option<f64> {
        let first = known
            .filter(|before| before.step <= now.step)
            .unwrap_or(now);
        *known = Some(Self {
            step: now.step,
            ..first
        });
        let rate = (now.tokens - first.tokens) / (now.wall - first.wall);
        (rate.is_finite() && rate > 0.0).then_some(rate)
    }
}

impl<'a> Steps<'a> {
    pub fn new(out: &'a Out) -> Self {
        let bar = (!out.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            out,
            bar,
            said: Mutex::new(None),
            pace: Mutex::default(),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn pace(&self, row: &Row) -> Option<String> {
        let now = Pace {
            wall: row.wall,
            tokens: row.number("num_tokens")?,
            step: row.step,
        };
        let rate = Pace::of(&mut *self.pace.lock().ok()?, now)?;
        Some(format!(", {rate:.0} tokens/s"))
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(line)),
            None => self.out.note(line),
        }
    }
}

/// The numbers of a row that fit a line.
pub fn numbers(row: &Row) -> String {
    let shown = [
        "loss",
        "fvu",
        "l0",
        "dead",
        "eval_fvu",
        "eval_l0",
        "eval_dead_share",
        "eval_loss",
        "eval_perplexity",
        "grad_norm",
        "mean_token_accuracy",
        "eval_mean_token_accuracy",
        "objective/scores",
        "objective/kl",
        "completions/mean_length",
        "eval_objective/scores",
        "eval_objective/kl",
    ];
    let parts = shown
        .iter()
        .filter_map(|name| Some(format!("{name} {:.4}", row.number(name)?)));
    parts.collect::<Vec<_>>().join(", ")
}

impl Progress for Steps<'_> {
    fn begins(&self, what: &str) {
        self.say(what);
    }

    fn at(&self, standing: &Standing<'_>) {
        if let Some(row) = standing.row.filter(|row| row.kind == Kind::Eval) {
            self.say(&format!("step {}: {}", row.step, numbers(row)));
            return;
        }
        let left = standing.left.map_or_else(String::new, |left| {
            format!(", {} left", duration(left.as_secs_f64()))
        });
        let words = standing
            .row
            .map(|row| numbers(row) + &self.pace(row).unwrap_or_default());
        let words = words.unwrap_or_default();
        if let Some(bar) = &self.bar {
            bar.set_length(standing.total);
            bar.set_position(standing.step);
            bar.set_message(format!("{words}{left}"));
            return;
        }
        let Ok(mut said) = self.said.lock() else {
            return;
        };
        if said.is_none_or(|at| at.elapsed() >= PAUSE) || standing.step == standing.total {
            *said = Some(Instant::now());
            let (step, total) = (standing.step, standing.total);
            let words = if words.is_empty() {
                words
            } else {
                format!(": {words}")
            };
            self.out
                .note(&format!("step {step} of {total}{words}{left}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_that_of_the_run_which_is_running() {
        let mut known = None;
        let mut at = |step, wall, tokens| Pace::of(&mut known, Pace { wall, tokens, step });
        assert_eq!(at(3, 100.0, 1000.0), None);
        assert_eq!(at(5, 110.0, 3000.0), Some(200.0));
        assert_eq!(at(9, 120.0, 5000.0), Some(200.0));
        // The next run of a pipeline begins from nothing.
        assert_eq!(at(1, 200.0, 50.0), None);
        assert_eq!(at(2, 210.0, 550.0), Some(50.0));
    }
}
