//! What the screen makes of rows and keys, without files, model or terminal.
#![allow(clippy::unwrap_used)]

use super::course::State;
use super::work::Seen;
use super::*;
use crate::train::log::{Kind, Row, number, standing};
use crate::tui::screen::Command;

fn row(kind: Kind, step: u64) -> Row {
    Row {
        wall: 100.0 + step as f64,
        ..Row::new(kind, step)
    }
}

fn step(at: u64, loss: f64) -> Row {
    row(Kind::Step, at).with("loss", number(loss))
}

fn seen(path: &str, rows: Vec<Row>) -> Seen {
    Seen {
        path: path.into(),
        rows,
        anew: false,
        busy: false,
        foreign: 0,
        torn: false,
        trouble: None,
    }
}

fn looked(seen: Vec<Seen>) -> Looked {
    Looked {
        reader: Reader::new("runs".as_ref()),
        seen,
        left_out: 0,
        behind: false,
        now: 1e6,
        trouble: None,
    }
}

struct Bench {
    screen: TrainingScreen,
    shared: Shared,
}

impl Bench {
    fn new(seen: Vec<Seen>) -> Self {
        let mut bench = Self {
            screen: TrainingScreen::default(),
            shared: Shared::default(),
        };
        bench.look(seen);
        bench
    }

    fn look(&mut self, seen: Vec<Seen>) {
        let answer = Answer::Looked(self.screen.generation, looked(seen));
        self.does(|screen, cx| screen.reply(Reply::Done(Box::new(answer)), cx));
    }

    fn does<T>(
        &mut self,
        what: impl FnOnce(&mut TrainingScreen, &mut Context) -> T,
    ) -> (T, Vec<Command>) {
        let mut commands = Vec::new();
        let mut cx = Context {
            shared: &mut self.shared,
            commands: &mut commands,
            screen: "training",
        };
        let value = what(&mut self.screen, &mut cx);
        (value, commands)
    }

    fn act(&mut self, actions: &[&'static str]) {
        for action in actions {
            assert_eq!(
                self.screen.enabled(action, &self.shared),
                Ok(()),
                "{action}"
            );
            self.does(|screen, cx| screen.act(action, cx));
        }
    }

    /// How long the next look waits, if there is one.
    fn next_look(&mut self) -> Option<Duration> {
        let ((), commands) = self.does(Screen::refresh);
        commands.into_iter().find_map(|command| match command {
            Command::Look { after, .. } => Some(after),
            _ => None,
        })
    }
}

#[test]
fn a_course_holds_the_rows_that_stand() {
    let mut rows = vec![row(Kind::Started, 0).with("method", "sft").with("steps", 9)];
    rows.extend((1..=6).map(|at| step(at, at as f64)));
    rows.push(row(Kind::Alert, 6).with("message", "gone"));
    rows.push(row(Kind::Stopped, 6).with("reason", "failed"));
    rows.push(row(Kind::Resumed, 4).with("method", "sft").with("steps", 9));
    rows.extend((5..=7).map(|at| step(at, at as f64 * 10.0)));
    let mut course = Course::new("runs/a".into());
    // In two looks.
    let later = rows.split_off(5);
    let both = [rows.clone(), later.clone()].concat();
    course.take(seen("runs/a", rows), 1e6);
    course.take(seen("runs/a", later), 1e6);
    let expected: Vec<(u64, f64)> = standing(both)
        .iter()
        .filter_map(|row| Some((row.step, row.number("loss")?)))
        .collect();
    assert_eq!(course.series["loss"].all().collect::<Vec<_>>(), expected);
    assert_eq!(
        (course.step, course.alerts(), course.state()),
        (7, 0, State::Killed)
    );
    // One second a step, two steps left.
    assert_eq!(course.left(), Some(2.0));
}

#[test]
fn a_log_that_was_replaced_is_read_as_a_new_one() {
    let mut course = Course::new("a".into());
    course.take(seen("a", vec![step(1, 1.0), step(2, 2.0)]), 1e6);
    let anew = Seen {
        anew: true,
        ..seen("a", vec![step(1, 5.0)])
    };
    course.take(anew, 1e6);
    assert_eq!(course.series["loss"].all().collect::<Vec<_>>(), [(1, 5.0)]);
}

#[test]
fn states_are_told_by_lock_end_and_age() {
    let state = |busy: bool, reason: Option<&str>, age: f64| {
        let mut rows = vec![step(1, 1.0)];
        rows.extend(reason.map(|reason| row(Kind::Stopped, 1).with("reason", reason)));
        let mut course = Course::new("a".into());
        course.take(
            Seen {
                busy,
                ..seen("a", rows)
            },
            101.0 + age,
        );
        course.state()
    };
    assert_eq!(state(true, None, 1e5), State::Running);
    assert_eq!(state(true, Some("finished"), 0.0), State::Running);
    assert_eq!(state(false, Some("finished"), 0.0), State::Finished);
    assert_eq!(state(false, Some("interrupted"), 0.0), State::Interrupted);
    assert_eq!(state(false, Some("failed"), 0.0), State::Failed);
    assert_eq!(state(false, None, 5.0), State::Fresh);
    assert_eq!(state(false, None, 500.0), State::Killed);
}

#[test]
fn a_long_curve_is_thinned_and_keeps_its_ends() {
    let mut course = Course::new("a".into());
    let rows = (1..=50_000).map(|at| step(at, at as f64)).collect();
    course.take(seen("a", rows), 1e6);
    let points: Vec<(u64, f64)> = course.series["loss"].all().collect();
    assert!((4000..=8192).contains(&points.len()), "{}", points.len());
    assert_eq!((points[0].0, points[points.len() - 1].0), (1, 50_000));
    // Evenly: no gap is wider than twice another, the last apart.
    let gaps = points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let gaps: Vec<u64> = gaps.take(points.len() - 2).collect();
    assert!(gaps.iter().max() <= gaps.iter().min().map(|least| least * 2).as_ref());
    assert!(points.iter().all(|(step, value)| *step as f64 == *value));
}

#[test]
fn metrics_of_a_method_come_first_and_evaluation_goes_with_training() {
    let mut course = Course::new("a".into());
    let names = [
        "alpha",
        "epoch",
        "grad_norm",
        "learning_rate",
        "loss",
        "logps/chosen",
        "rewards/margins",
    ];
    let named = names
        .iter()
        .fold(row(Kind::Step, 1), |row, name| row.with(name, 1.0));
    let started = row(Kind::Started, 0).with("method", "dpo");
    let eval = row(Kind::Eval, 1)
        .with("eval_loss", 2.0)
        .with("eval_perplexity", 3.0);
    course.take(seen("a", vec![started, named, eval]), 1e6);
    assert_eq!(
        metrics::names(&course),
        [
            "loss",
            "rewards/margins",
            "logps/chosen",
            "grad_norm",
            "alpha",
            "eval_perplexity",
            "learning_rate",
            "epoch"
        ]
    );
    assert_eq!(metrics::unit("logps/chosen", "dpo"), "nats");
    assert_eq!(metrics::value(f64::NAN), "NaN");
}

#[test]
fn only_a_log_that_grows_is_looked_at_again() {
    let mut bench = Bench::new(vec![seen("a", vec![step(1, 1.0)])]);
    assert_eq!(bench.next_look(), None);
    let busy = |rows| Seen {
        busy: true,
        ..seen("a", rows)
    };
    bench.look(vec![busy(Vec::new())]);
    assert_eq!(bench.next_look(), Some(PAUSE));
    // One at a time.
    assert_eq!(bench.next_look(), None);
    bench.look(vec![seen(
        "a",
        vec![row(Kind::Stopped, 1).with("reason", "finished")],
    )]);
    assert_eq!(bench.next_look(), None);
    bench.act(&["look"]);
    assert_eq!(bench.next_look(), Some(Duration::ZERO));
}

#[test]
fn an_answer_about_another_folder_is_dropped() {
    let mut bench = Bench::new(vec![seen("a", vec![step(1, 1.0)])]);
    let late = Answer::Looked(
        bench.screen.generation,
        looked(vec![seen("late", Vec::new())]),
    );
    let (answer, _) = bench.does(|screen, cx| screen.command(&["run", "else where"], cx));
    assert_eq!(answer, Some(Ok(())));
    assert_eq!(bench.screen.root, Path::new("else where"));
    assert_eq!(bench.next_look(), Some(Duration::ZERO));
    bench.does(|screen, cx| screen.reply(Reply::Done(Box::new(late)), cx));
    assert!(bench.screen.runs.is_empty());
}

#[test]
fn the_selected_run_stays_selected_when_others_come_before_it() {
    let of = |path: &str, begun: u64| seen(path, vec![step(begun, 1.0)]);
    let mut bench = Bench::new(vec![of("a", 1), of("b", 2)]);
    assert_eq!(bench.screen.run().unwrap().name(), "b");
    bench.act(&["down"]);
    assert_eq!(bench.screen.run().unwrap().name(), "a");
    bench.look(vec![
        seen("a", Vec::new()),
        seen("b", Vec::new()),
        of("c", 3),
    ]);
    assert_eq!(bench.screen.run().unwrap().name(), "a");
    let names: Vec<String> = bench.screen.shown().iter().map(|run| run.name()).collect();
    assert_eq!(names, ["c", "b", "a"]);
}

#[test]
fn the_cursor_goes_from_step_to_step_and_follows_the_newest() {
    let rows = [1, 5, 9].map(|at| step(at, at as f64)).to_vec();
    let mut bench = Bench::new(vec![seen("a", rows)]);
    let said = |bench: &Bench| {
        let run = bench.screen.run().unwrap();
        curves::at_cursor(&bench.screen, run, "loss")
    };
    assert_eq!(said(&bench), "step 9 (newest): 9");
    bench.act(&["left"]);
    assert_eq!(said(&bench), "step 5: 5");
    bench.act(&["left", "left"]);
    assert_eq!(said(&bench), "step 1: 1");
    bench.act(&["right", "right"]);
    assert_eq!(bench.screen.cursor, None);
    // The middle column of three.
    bench.does(|screen, cx| screen.click(view::CHART, 1, 3, cx));
    assert_eq!(said(&bench), "step 5: 5");
}

#[test]
fn a_completion_to_a_harmful_prompt_is_cut_and_has_no_tokens() {
    let long = "x".repeat(900);
    let told = row(Kind::Sample, 3)
        .with("prompt", "p")
        .with("completion", long.as_str())
        .with("tokens", vec!["x", "y"])
        .with("kl", vec![0.5, 0.25]);
    let open = Sample::of(&told);
    assert_eq!(
        (open.completion.len(), open.tokens.len(), open.tracks.len()),
        (900, 2, 1)
    );
    let closed = Sample::of(&told.with("harmful", true));
    assert!(closed.completion.len() < 150 && closed.completion.contains("truncated"));
    assert!(closed.tokens.is_empty() && closed.tracks.is_empty());
}

#[test]
fn what_cannot_be_done_says_why() {
    let bench = Bench::new(Vec::new());
    let why = bench.screen.enabled("down", &bench.shared).unwrap_err();
    assert!(why.contains("no run"), "{why}");
    let mut bench = Bench::new(vec![seen("a", vec![step(1, 1.0)])]);
    bench.act(&["part"]);
    assert!(bench.screen.enabled("left", &bench.shared).is_err());
    assert!(bench.screen.enabled("track", &bench.shared).is_err());
    assert!(bench.screen.enabled("open_model", &bench.shared).is_err());
}

#[test]
fn a_logarithmic_axis_puts_equal_ratios_at_equal_heights() {
    use crate::tui::theme::Theme;
    let rows = [(1, 1.0), (2, 10.0), (3, 100.0), (4, 0.0)].map(|(at, loss)| step(at, loss));
    let mut bench = Bench::new(vec![seen("a", rows.to_vec())]);
    let drawn = |bench: &Bench| {
        let run = bench.screen.run().unwrap();
        let series = run.series.get("loss");
        let chart = curve::Chart {
            curves: vec![curve::Curve {
                train: None,
                eval: series,
            }],
            marks: &[],
            cursor: None,
            logarithmic: bench.screen.logarithmic,
        };
        let area = Rect::new(0, 0, 30, 11);
        let mut buf = Buffer::empty(area);
        chart.draw(area, Theme::dark(), &mut buf);
        let signs = (0..30).flat_map(|x| (0..9).map(move |y| (x, y)));
        signs
            .filter(|at| buf[*at].symbol() == "◆")
            .collect::<Vec<_>>()
    };
    assert_eq!(
        drawn(&bench).iter().map(|at| at.1).collect::<Vec<_>>(),
        [8, 7, 0, 8]
    );
    bench.act(&["scale"]);
    // Zero has no logarithm.
    assert_eq!(
        drawn(&bench).iter().map(|at| at.1).collect::<Vec<_>>(),
        [8, 4, 0]
    );
}
