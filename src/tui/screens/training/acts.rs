//! What the keys and the mouse do in the training screen.
//!
//! Always: an action that [`TrainingScreen::allowed`] refuses does nothing if it comes all the same.

use crate::tui::screen::{Command, Context};
use crate::tui::shared::Shared;

use super::course::{Course, Series};
use super::metrics::EVAL;
use super::{Part, TrainingScreen, metrics, view};

/// Lines of a page.
const PAGE: usize = 5;

impl TrainingScreen {
    /// Whether an action can be done now; why not, if it cannot.
    pub(super) fn allowed(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let run = self
            .run()
            .ok_or("there is no run here; o opens another folder");
        match action {
            "open" | "look" => Ok(()),
            "left" | "right" | "far_left" | "far_right" | "follow" | "scale" => {
                let run = run?;
                if self.part != Part::Curves {
                    return Err("this is for curves; v shows them".into());
                }
                self.name(run)
                    .map(|_| ())
                    .ok_or_else(|| "no metric is shown".into())
            }
            "track" => {
                let sample = self
                    .samples(run?)
                    .get(self.rows[0])
                    .map_or(0, |s| s.tracks.len());
                if self.part == Part::Samples && sample > 1 {
                    return Ok(());
                }
                Err("there is no other quantity at tokens here".into())
            }
            "open_model" => {
                let model = &run?.model;
                if model.is_empty() {
                    return Err("the log does not name the run's model".into());
                }
                if shared
                    .model
                    .facts()
                    .is_some_and(|facts| facts.name == *model)
                {
                    return Err("it is open".into());
                }
                Ok(())
            }
            _ => run.map(|_| ()).map_err(Into::into),
        }
    }

    pub(super) fn does(&mut self, action: &'static str, cx: &mut Context) {
        match action {
            "down" => self.step(1),
            "up" => self.step(-1),
            "first" => self.step(isize::MIN),
            "last" => self.step(isize::MAX),
            "focus" => self.inside = !self.inside,
            "enter" => self.inside = true,
            "part" => self.turn(1),
            "part_back" => self.turn(Part::ALL.len() - 1),
            "left" => self.shift(-1),
            "right" => self.shift(1),
            "far_left" => self.shift(-10),
            "far_right" => self.shift(10),
            "follow" => self.cursor = None,
            "scale" => self.logarithmic = !self.logarithmic,
            "compare" => self.compare(cx),
            "track" => self.track += 1,
            "open" => self.typing = true,
            "open_model" => {
                if let Some(run) = self.run() {
                    cx.commands.push(Command::Open(run.model.clone()));
                }
            }
            "look" => self.due = true,
            "page_down" => self.scroll = (self.scroll + PAGE).min(self.most.get()),
            "page_up" => self.scroll = self.scroll.min(self.most.get()).saturating_sub(PAGE),
            _ => {}
        }
    }

    /// By so many rows in the list that has the keys.
    fn step(&mut self, by: isize) {
        let to =
            |at: usize, count: usize| at.saturating_add_signed(by).min(count.saturating_sub(1));
        if !self.inside {
            let at = to(self.at(), self.shown().len());
            return self.select(at);
        }
        if let Some(run) = self.run() {
            let at = to(self.row(run), self.count(run));
            self.pick(at);
        }
    }

    /// The run at this place of the list.
    fn select(&mut self, at: usize) {
        let path = self.shown().get(at).map(|run| run.path.clone());
        if path.is_some() && path != self.selected {
            self.selected = path;
            (self.rows, self.scroll, self.cursor) = ([0; 3], 0, None);
        }
    }

    /// The row at this place of the part's list.
    fn pick(&mut self, at: usize) {
        let Some(run) = self.run() else { return };
        match self.part {
            Part::Curves => self.metric = self.names(run).get(at).map(|name| (*name).to_owned()),
            Part::Samples => self.rows[0] = at,
            Part::Data => self.rows[1] = at,
            Part::Events => self.rows[2] = at,
        }
        self.scroll = 0;
    }

    fn turn(&mut self, by: usize) {
        let at = Part::ALL.iter().position(|part| *part == self.part);
        self.part = Part::ALL[(at.unwrap_or(0) + by) % Part::ALL.len()];
        self.scroll = 0;
    }

    /// The cursor by one logged step, or by tenths of a tenth of them all.
    fn shift(&mut self, by: i32) {
        let Some(run) = self.run() else { return };
        let steps: Vec<u64> = stations(run, self.name(run));
        let Some(last) = steps.len().checked_sub(1) else {
            return;
        };
        let at = self.cursor.map_or(last, |step| {
            steps.partition_point(|one| *one <= step).saturating_sub(1)
        });
        let far = if by.abs() > 1 {
            (steps.len() / 10).max(1)
        } else {
            1
        };
        let to = if by < 0 {
            at.saturating_sub(far)
        } else {
            (at + far).min(last)
        };
        // At the newest step it goes along with the run.
        self.cursor = (to < last).then(|| steps[to]);
    }

    fn compare(&mut self, cx: &mut Context) {
        let path = self.run().map(|run| run.path.clone());
        if self.compared == path {
            self.compared = None;
            return cx.say("no run is compared with");
        }
        let name = self.run().map_or_else(String::new, Course::name);
        self.compared = path;
        cx.say(format!(
            "{name} is kept: its curves are drawn in dots under those of the run you select"
        ));
    }

    /// `:metric NAME`
    pub(super) fn choose(&mut self, name: &str) -> Result<(), String> {
        let run = self.run().ok_or("metric: there is no run here")?;
        let names = metrics::names(run);
        if !names.contains(&name) {
            return Err(format!("metric: expected one of {}", names.join(", ")));
        }
        self.metric = Some(name.to_owned());
        self.part = Part::Curves;
        Ok(())
    }

    pub(super) fn clicked(&mut self, what: u16, column: usize, row: usize) {
        match what {
            view::RUNS => {
                self.inside = false;
                self.select(row);
            }
            view::PARTS => {
                if let Some(part) = Part::ALL.get(row) {
                    (self.part, self.scroll) = (*part, 0);
                }
            }
            view::ROWS => {
                self.inside = true;
                self.pick(row);
            }
            // The column of so many: the nearest step.
            view::CHART => {
                let (first, last) = self.ends();
                let wide = row.max(2) - 1;
                let part = column as f64 / wide as f64;
                let step = first as f64 + part * last.saturating_sub(first) as f64;
                self.cursor = Some(step.round() as u64);
            }
            _ => {}
        }
    }

    /// First and last step of the chart.
    fn ends(&self) -> (u64, u64) {
        let Some(run) = self.run() else {
            return (0, 0);
        };
        let name = self.name(run);
        let runs = [Some(run), self.other()];
        let steps: Vec<u64> = runs
            .into_iter()
            .flatten()
            .flat_map(|run| stations(run, name))
            .collect();
        (
            steps.iter().copied().min().unwrap_or(0),
            steps.iter().copied().max().unwrap_or(0),
        )
    }
}

/// The steps at which a metric has a value.
pub(super) fn stations(run: &Course, name: Option<&str>) -> Vec<u64> {
    let Some(name) = name else {
        return Vec::new();
    };
    let series = [
        run.series.get(name),
        run.series.get(&format!("{EVAL}{name}")),
    ];
    let all = series.into_iter().flatten().flat_map(Series::all);
    let mut steps: Vec<u64> = all.map(|(step, _)| step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}
