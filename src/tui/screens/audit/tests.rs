//! The audit screen driven with the made-up audit of the reports, without a model and without a terminal.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::report::json;
use crate::audit::report::tests::fake;
use crate::audit::verdict::Verdict;
use crate::hooks::{Edge, Edit, EditOp, HookPoint, Point};
use crate::model::Checkpoint;
use crate::tui::shared::{Intervention, ModelFacts, ModelState};
use crate::tui::theme::Theme;

mod running;

fn ready() -> Shared {
    let checkpoint = Arc::new(Checkpoint::toy(0).unwrap());
    let mut shared = Shared::default();
    shared.set_model(ModelState::Ready(ModelFacts {
        name: "toy".into(),
        config: checkpoint.config().clone(),
        fingerprint: None,
        chat: true,
        checkpoint,
    }));
    shared
}

struct Bench {
    screen: AuditScreen,
    shared: Shared,
}

impl Bench {
    fn new() -> Self {
        Self {
            screen: AuditScreen::default(),
            shared: ready(),
        }
    }

    fn with_audit(audit: Audit) -> Self {
        let mut bench = Self::new();
        bench.answer(Answer::Read {
            file: "a.json".into(),
            result: Ok(Arc::new(audit)),
        });
        bench
    }

    fn does<T>(
        &mut self,
        what: impl FnOnce(&mut AuditScreen, &mut Context) -> T,
    ) -> (T, Vec<Command>) {
        let mut commands = Vec::new();
        let mut cx = Context {
            shared: &mut self.shared,
            commands: &mut commands,
            screen: "audit",
        };
        let value = what(&mut self.screen, &mut cx);
        (value, commands)
    }

    fn act(&mut self, actions: &[&'static str]) -> Vec<Command> {
        let mut all = Vec::new();
        for action in actions {
            assert_eq!(
                self.screen.enabled(action, &self.shared),
                Ok(()),
                "{action}"
            );
            all.extend(self.does(|screen, cx| screen.act(action, cx)).1);
        }
        all
    }

    fn answer(&mut self, answer: Answer) -> Vec<Command> {
        self.does(|screen, cx| screen.reply(Reply::Done(Box::new(answer)), cx))
            .1
    }

    /// The cursor on this signal.
    fn at(&mut self, id: &str) {
        self.screen.selected = self
            .screen
            .rows()
            .iter()
            .position(|row| row.id() == id)
            .unwrap();
    }

    fn text(&self, theme: Theme, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        let view = View {
            shared: &self.shared,
            theme: &theme,
            busy: false,
        };
        self.screen
            .view(&view, area, &mut buf, &mut Hits::default());
        let row = |y| {
            (0..width)
                .map(|x| buf[(x, y)].symbol().to_owned())
                .collect::<String>()
                + "\n"
        };
        (0..height).map(row).collect()
    }

    fn shows(&self, words: &[&str]) {
        let shown = self.text(Theme::no_colour(), 100, 40);
        for word in words {
            assert!(shown.contains(word), "no `{word}` in\n{shown}");
        }
    }
}

#[test]
fn before_any_audit_a_card_says_what_to_do() {
    let bench = Bench::new();
    bench.shows(&["no audit yet", "R audits toy", ":audit FILE"]);
    assert!(
        bench
            .screen
            .enabled("drill", &bench.shared)
            .unwrap_err()
            .contains("R runs one")
    );
    assert_eq!(
        bench.screen.command_line(&bench.shared).unwrap(),
        "candlescope audit run toy"
    );
    assert!(bench.screen.data(&bench.shared).is_none());
}

#[test]
fn the_table_has_every_signal_with_glyph_word_number_interval_and_change() {
    let bench = Bench::with_audit(fake::audit());
    bench.shows(&[
        "✖ BLOCK",
        "▲ REVIEW",
        "✔ PASS",
        "? UNDERPOWERED",
        "NOT RUN",
        "harmful refusal 3.0% [1.0, 8.5]",
        "-3.0 pts",
    ]);
    let data = bench.screen.data(&bench.shared).unwrap();
    let audit = fake::audit();
    assert_eq!(data.rows.len(), audit.signals.len() + audit.skipped.len());
    assert!(data.rows.iter().all(|row| row.len() == data.headers.len()));
    let numbers: Vec<&str> = data
        .rows
        .iter()
        .take(audit.signals.len())
        .map(|row| row[1].as_str())
        .collect();
    let expected: Vec<String> = audit
        .signals
        .iter()
        .map(|signal| signal.number.to_string())
        .collect();
    assert_eq!(numbers, expected);
    assert_eq!(
        bench.screen.command_line(&bench.shared).unwrap(),
        "candlescope audit show a.json"
    );
}

#[test]
fn the_filter_leaves_what_did_not_pass_and_keeps_the_signal() {
    let mut bench = Bench::with_audit(fake::audit());
    bench.at("refusal_rate");
    bench.act(&["filter"]);
    assert!(
        bench
            .screen
            .rows()
            .iter()
            .all(|row| row.signal().unwrap().verdict != Verdict::Pass)
    );
    assert_eq!(bench.screen.row().unwrap().id(), "refusal_rate");
    let mut clean = Bench::with_audit(fake::clean());
    clean.act(&["filter"]);
    assert!(clean.screen.enabled("drill", &clean.shared).is_err());
    clean.shows(&["every signal passed"]);
}

#[test]
fn a_signal_is_drilled_into_and_left_again() {
    let mut bench = Bench::with_audit(fake::audit());
    bench.at("refusal_rate");
    bench.act(&["drill"]);
    bench.shows(&[
        "quantities (",
        "harmful refusal",
        "wilson 95 %",
        "exact McNemar",
        "limits of the policy",
    ]);
    bench.act(&["next_part"]);
    bench.shows(&[
        "Refusals by detector",
        "consensus",
        "0.0300 [0.0100, 0.0850]",
    ]);
    bench.act(&["next_part"]);
    bench.shows(&["4 prompts", "complied (", "first-token: refused"]);
    bench.act(&["last"]);
    assert_eq!(bench.screen.item, 3);
    bench.act(&["filter"]);
    assert_eq!(bench.screen.label.as_deref(), Some("complied"));
    bench.shows(&["3 prompts labelled complied", "[truncated: harmful prompt]"]);
    bench.act(&["explain"]);
    bench.shows(&["How often harmful prompts are refused"]);
    assert_eq!(
        bench.screen.command_line(&bench.shared).unwrap(),
        "candlescope audit explain refusal_rate"
    );
    for expected in [true, true, false] {
        assert_eq!(bench.does(AuditScreen::cancel).0, expected);
    }
    assert!(bench.screen.part.is_none());
}

#[test]
fn layers_of_a_profile_are_read_at_the_shared_layer() {
    let mut bench = Bench::with_audit(fake::audit());
    bench.at("refusal_score");
    bench.shared.layer = 2;
    bench.act(&["drill", "next_part", "last"]);
    bench.shows(&["Separation by layer", "at layer 2", "limit (0.700)"]);
    bench.act(&["deeper"]);
    bench.shows(&["at layer 3"]);
    bench.at("direction_cosine");
    bench.shows(&["Separation", "from 0 to"]);
}

#[test]
fn layers_are_those_of_the_record_and_findings_are_walked() {
    let mut bench = Bench::with_audit(fake::audit());
    bench.at("refusal_score");
    bench.act(&["drill", "next_part", "last"]);
    let count = bench.screen.chart().and_then(plot::layers).unwrap();
    assert_ne!(
        count,
        bench.shared.layers(),
        "another depth than the open model's"
    );
    bench.shared.layer = bench.shared.layers() - 1;
    for _ in 0..count + 2 {
        bench.act(&["deeper"]);
    }
    bench.shows(&[&format!("at layer {}", count - 1)]);
    assert!(
        bench.shared.layer < bench.shared.layers(),
        "the open model has no such layer"
    );
    let before = bench.screen.selected;
    bench.act(&["next_finding"]);
    assert_ne!(bench.screen.selected, before);
    assert_ne!(bench.screen.signal().unwrap().verdict, Verdict::Pass);
    assert_eq!(bench.screen.part, Some(Part::Charts));
}

#[test]
fn files_are_read_in_full_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.json");
    std::fs::write(&file, json::render(&fake::audit()).unwrap()).unwrap();
    let read = |path: &std::path::Path| match work::read(&path.display().to_string()) {
        Answer::Read { result, .. } => result,
        _ => unreachable!(),
    };
    assert_eq!(
        read(&file).unwrap().signals.len(),
        fake::audit().signals.len()
    );
    assert!(read(dir.path()).is_ok());
    for (text, expected) in [
        (
            "{\"schema\": \"candlescope.audit/9\"}",
            "expected `candlescope.audit/1`",
        ),
        ("not json", "is not an audit"),
        ("{\"schema\": \"candlescope.audit/1\"}", "missing field"),
    ] {
        std::fs::write(&file, text).unwrap();
        let why = read(&file).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    std::fs::File::create(&file)
        .unwrap()
        .set_len(json::LIMIT + 1)
        .unwrap();
    assert!(read(&file).unwrap_err().contains("larger than"));
    assert!(
        read(&dir.path().join("gone.json"))
            .unwrap_err()
            .contains("cannot read")
    );
    let mut bench = Bench::new();
    let (answer, wishes) = bench.does(|screen, cx| screen.command(&["out/audit.json"], cx));
    assert!(answer.unwrap().is_ok() && matches!(&wishes[..], [Command::Ask { .. }]));
    assert!(
        bench
            .does(|screen, cx| screen.command(&["nonsense"], cx))
            .0
            .is_none()
    );
}

#[test]
fn reports_are_written_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let Answer::Saved(Ok(files)) = work::save(&dir.path().join("out"), &fake::audit()) else {
        unreachable!()
    };
    assert_eq!(files.len(), 4);
    let mut bench = Bench::new();
    let refused = bench
        .does(|screen, cx| screen.command(&["save", "out"], cx))
        .0;
    assert!(refused.unwrap().unwrap_err().contains("no audit"));
}

#[test]
fn several_audits_are_kept_and_turned_through() {
    let mut bench = Bench::with_audit(fake::audit());
    bench.answer(Answer::Read {
        file: "b.json".into(),
        result: Ok(Arc::new(fake::clean())),
    });
    bench.shows(&["reference-chat", "audit 2 of 2"]);
    bench.act(&["next_part"]);
    bench.shows(&["audit 1 of 2"]);
    for _ in 0..20 {
        bench.answer(Answer::Read {
            file: "c.json".into(),
            result: Ok(Arc::new(fake::clean())),
        });
    }
    assert_eq!(bench.screen.held.len(), KEPT);
}

/// Charts that no audit makes, but a file may hold.
fn foreign() -> Audit {
    let mut audit = fake::audit();
    let wild = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 0.0, 1e-300];
    let points = |xs: &[f64]| {
        xs.iter()
            .zip(wild.iter().rev())
            .map(|(x, y)| (*x, *y))
            .collect::<Vec<_>>()
    };
    let chart = |plot| {
        Chart::new(fake::HOSTILE, fake::HOSTILE, "layer", fake::HOSTILE, plot)
            .with_rule("r", f64::NAN)
    };
    let series = |points: Vec<(f64, f64)>| Series {
        name: fake::HOSTILE.into(),
        band: points.clone(),
        points,
    };
    audit.signals[0].charts = vec![
        chart(Plot::Line {
            series: vec![
                series(points(&wild)),
                series(vec![(0.0, 0.0)]),
                series(Vec::new()),
            ],
        }),
        chart(Plot::Line { series: Vec::new() }),
        chart(Plot::Bars { bars: Vec::new() }),
        chart(Plot::Histogram {
            values: wild.to_vec(),
            marks: Vec::new(),
        }),
        chart(Plot::Histogram {
            values: vec![1.0],
            marks: Vec::new(),
        }),
        chart(Plot::Strip { rows: Vec::new() }),
        chart(Plot::Heat {
            rows: vec!["a".into(); 3],
            cols: vec!["b".into(); 700],
            cells: vec![vec![Some(1.0)]],
            centre: Some(f64::NAN),
        }),
        chart(Plot::Heat {
            rows: Vec::new(),
            cols: Vec::new(),
            cells: Vec::new(),
            centre: None,
        }),
    ];
    audit.reasons = vec![fake::HOSTILE.into(); 50];
    audit
}

#[test]
fn it_draws_every_part_at_any_size_in_every_theme() {
    let themes = [
        Theme::dark(),
        Theme::no_colour(),
        Theme {
            ascii: true,
            ..Theme::no_colour()
        },
    ];
    for audit in [fake::audit(), foreign()] {
        let mut bench = Bench::with_audit(audit);
        let signals = bench.screen.rows().len();
        for selected in 0..signals {
            bench.screen.selected = selected;
            for part in [
                None,
                Some(Part::Quantities),
                Some(Part::Charts),
                Some(Part::Prompts),
            ] {
                bench.screen.part = part.filter(|_| bench.screen.signal().is_some());
                let charts = bench
                    .screen
                    .signal()
                    .map_or(1, |signal| signal.charts.len().max(1));
                for chart in 0..charts {
                    bench.screen.chart = chart;
                    bench.screen.explaining = chart % 2 == 1 && part.is_none();
                    for (width, height) in [
                        (0, 0),
                        (1, 1),
                        (5, 30),
                        (30, 3),
                        (30, 6),
                        (80, 21),
                        (120, 37),
                        (200, 57),
                    ] {
                        for theme in themes {
                            let shown = bench.text(theme, width, height);
                            assert!(!shown.contains(['\u{1b}', '\u{202e}', '\0']), "{shown}");
                            assert!(!theme.ascii || shown.is_ascii(), "{shown}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn words_narrow_the_signals_and_apart_from_them_the_prompts() {
    let mut bench = Bench::with_audit(fake::audit());
    let list = bench.screen.list(&bench.shared).unwrap();
    assert_eq!(
        (list.name, list.rows.len()),
        ("signals", bench.screen.rows().len())
    );
    // The last signal that has prompts, by its own name.
    let audit = fake::audit();
    let signal = audit.signals.iter().rfind(|s| !s.items.is_empty()).unwrap();
    bench.at(&signal.id);
    let words = Words::new(&signal.id.to_uppercase());
    bench.does(|screen, cx| screen.narrow("signals", &words, cx));
    assert!(bench.screen.rows().len() < list.rows.len());
    assert_eq!(
        bench.screen.row().unwrap().id(),
        signal.id,
        "it stays under the cursor"
    );
    let rows = bench.screen.data(&bench.shared).unwrap().rows;
    assert_eq!(
        rows.len(),
        bench.screen.rows().len(),
        "files hold what is shown"
    );
    bench.screen.part = Some(Part::Prompts);
    let list = bench.screen.list(&bench.shared).unwrap();
    assert_eq!(
        (list.name, list.rows.len()),
        ("prompts", signal.items.len())
    );
    let id = &signal.items.last().unwrap().id;
    let of_item = Words::new(id);
    bench.does(|screen, cx| screen.narrow("prompts", &of_item, cx));
    let left = bench.screen.prompts(signal);
    assert!(left.iter().any(|item| item.id == *id), "{id}");
    bench.does(|screen, cx| screen.narrow("prompts", &Words::new("no-such-word"), cx));
    bench.shows(&["no prompt holds these words"]);
    bench.screen.part = None;
    bench.does(|screen, cx| screen.narrow("signals", &Words::new("no-such-word"), cx));
    bench.shows(&["no signal holds these words"]);
    assert!(bench.screen.enabled("drill", &bench.shared).is_err());
}
