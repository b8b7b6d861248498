//! How long work is shown on stderr: a bar on a terminal, otherwise one line every ten seconds.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Out, bytes, to_stderr};
use crate::{
    audit::{report::text::visible, wording::duration},
    model::fetch::Progress,
};

/// Between lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows a transfer, or any work that is counted.
pub struct Bar {
    shown: Shown,
    in_bytes: bool,
    now: Mutex<Option<Step>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Bars,
    Lines,
    Nothing,
}

struct Step {
    what: String,
    total: Option<u64>,
    done: u64,
    began: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// The time that is left, at the pace so far.
    fn left(&self) -> Option<Duration> {
        let todo = self.total?.checked_sub(self.done)?;
        (self.done > 0).then(|| self.began.elapsed().mul_f64(todo as f64 / self.done as f64))
    }
}

impl Bar {
    /// A bar for bytes.
    pub fn new(out: &Out) -> Self {
        let shown = match (out.quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bars,
            (false, false) => Shown::Lines,
        };
        Self {
            shown,
            in_bytes: true,
            now: Mutex::new(None),
        }
    }

    /// A bar for things that are counted, such as prompts.
    pub fn counting(out: &Out) -> Self {
        Self {
            in_bytes: false,
            ..Self::new(out)
        }
    }

    fn bar(&self, what: &str, total: Option<u64>) -> ProgressBar {
        let amount = match (self.in_bytes, total) {
            (true, Some(_)) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (true, None) => "{spinner} {bytes} {bytes_per_sec}",
            (false, Some(_)) => "{bar:30} {pos}/{len} {eta}",
            (false, None) => "{spinner} {pos}",
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} {amount}")) {
            bar.set_style(style);
        }
        bar.set_message(visible(what));
        bar
    }

    fn line(&self, step: &Step) -> String {
        let show = |n: u64| {
            if self.in_bytes {
                bytes(n)
            } else {
                n.to_string()
            }
        };
        let total = step
            .total
            .map_or_else(String::new, |t| format!(" of {}", show(t)));
        let left = step.left().map_or_else(String::new, |left| {
            format!(", {} left", duration(left.as_secs_f64()))
        });
        format!(
            "{}: {}{total}{left}\n",
            visible(&step.what),
            show(step.done)
        )
    }

    /// The work turns out to be so much in all.
    pub fn expect(&self, total: u64) {
        let Ok(mut now) = self.now.lock() else { return };
        let Some(step) = now.as_mut() else { return };
        step.total = Some(total);
        if let Some(bar) = &step.bar {
            bar.set_length(total);
        }
    }
}

impl Progress for Bar {
    fn start(&self, what: &str, total: Option<u64>) {
        let bar = (self.shown == Shown::Bars).then(|| self.bar(what, total));
        let step = Step {
            what: what.to_owned(),
            total,
            done: 0,
            began: Instant::now(),
            said: Instant::now(),
            bar,
        };
        let Ok(mut now) = self.now.lock() else { return };
        if let Some(Step { bar: Some(bar), .. }) = now.take() {
            bar.finish_and_clear();
        }
        if self.shown == Shown::Lines {
            to_stderr(&format!("{}\n", visible(what)));
        }
        *now = Some(step);
    }

    fn advance(&self, more: u64) {
        let Ok(mut now) = self.now.lock() else { return };
        let Some(step) = now.as_mut() else { return };
        step.done += more;
        if let Some(bar) = &step.bar {
            bar.set_position(step.done);
        }
        if self.shown == Shown::Lines && step.said.elapsed() >= PAUSE {
            step.said = Instant::now();
            to_stderr(&self.line(step));
        }
    }

    fn note(&self, line: &str) {
        let line = visible(line);
        let Ok(now) = self.now.lock() else { return };
        match (self.shown, now.as_ref().and_then(|step| step.bar.as_ref())) {
            (Shown::Nothing, _) => {}
            (_, Some(bar)) => bar.suspend(|| to_stderr(&format!("{line}\n"))),
            (_, None) => to_stderr(&format!("{line}\n")),
        }
    }

    fn done(&self) {
        let Ok(mut now) = self.now.lock() else { return };
        if let Some(Step { bar: Some(bar), .. }) = now.take() {
            bar.finish_and_clear();
        }
    }
}
