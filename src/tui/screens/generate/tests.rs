//! Update tests with replies made by hand: no model, no thread.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::run::{Event, Happened};
use super::stream::{End, tests::token};
use super::*;
use crate::hooks::{Edit, EditOp, HookPoint, Point};
use crate::tui::keys;
use crate::tui::screen::Command;
use crate::tui::shared::{self, Intervention};
use crate::tui::theme::Theme;

/// A screen, what it sees, what it asked for.
struct Stage {
    screen: GenerateScreen,
    shared: Shared,
    commands: Vec<Command>,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self {
            screen: GenerateScreen::default(),
            shared: Shared::default(),
            commands: Vec::new(),
        };
        stage.shared.tokens = (0..4)
            .map(|id| shared::Token {
                id,
                text: format!("t{id}"),
            })
            .collect();
        stage.with(Screen::refresh);
        stage
    }

    fn with(&mut self, change: impl FnOnce(&mut GenerateScreen, &mut Context)) {
        let mut cx = Context {
            shared: &mut self.shared,
            commands: &mut self.commands,
            screen: "generate",
        };
        change(&mut self.screen, &mut cx);
    }

    /// Presses keys as the workbench would: those that are disabled do nothing.
    fn press(&mut self, keys: &str) {
        for key in keys.split(' ') {
            let key = keys::parse(key).unwrap();
            if self.screen.takes_text() {
                self.with(|screen, cx| screen.text_key(key, cx));
            } else {
                let action = keys::action(self.screen.bindings(), key).unwrap();
                if self.screen.enabled(action, &self.shared).is_ok() {
                    self.with(|screen, cx| screen.act(action, cx));
                }
            }
            self.with(Screen::refresh);
        }
    }

    fn asked(&self) -> usize {
        self.commands
            .iter()
            .filter(|c| matches!(c, Command::Ask { .. }))
            .count()
    }

    fn part(&mut self, generation: u64, side: usize, branch: usize, what: Happened) {
        let event = Event {
            generation,
            side,
            branch,
            what,
        };
        self.with(|screen, cx| screen.reply(Reply::Part(Box::new(event)), cx));
    }

    /// The answer of a side comes, as the newest order has it, and ends.
    fn answer(&mut self, side: usize, ids: &[u32]) {
        let generation = self.screen.generation;
        for (i, &id) in ids.iter().enumerate() {
            self.part(
                generation,
                side,
                0,
                Happened::Token(i, token(id, &format!(" w{id}"))),
            );
        }
        self.part(generation, side, 0, Happened::Ended(End::Stop));
    }

    fn over(&mut self) {
        let report = Report::Over {
            generation: self.screen.generation,
            failed: None,
        };
        self.with(|screen, cx| screen.reply(Reply::Done(Box::new(report)), cx));
    }

    fn intervene(&mut self) {
        let steering = Steering::addition("d@1*1").unwrap();
        let op = EditOp::Add {
            vector: Arc::new(vec![1.0, 0.0]),
            alpha: 1.0,
        };
        self.shared.intervene(|chips| {
            chips.push(Intervention {
                label: dose::label(&steering),
                options: steering.option().into(),
                edits: vec![Edit::new(HookPoint::new(Point::ResidPre, 1), op)],
                on: true,
            });
        });
        self.with(Screen::refresh);
    }

    fn ids(&self, side: usize) -> Vec<u32> {
        let shown = self.screen.sides[side].shown();
        shown.map_or_else(Vec::new, |stream| {
            stream.tokens.iter().map(|t| t.id).collect()
        })
    }

    fn text(&self, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        let theme = Theme::dark();
        let view = View {
            shared: &self.shared,
            theme: &theme,
            busy: false,
        };
        self.screen
            .view(&view, area, &mut buf, &mut Hits::default());
        let row = |y| (0..width).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn no_key_is_taken_from_the_frame() {
    for binding in KEYS {
        for key in binding.keys.split(' ') {
            let event = keys::parse(key).unwrap();
            assert_eq!(keys::action(keys::GLOBAL, event), None, "{key}");
            assert!(!matches!(
                key,
                "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9"
            ));
            assert_eq!(
                keys::action(KEYS, event),
                Some(binding.action),
                "{key} twice"
            );
        }
    }
}

#[test]
fn an_answer_comes_once_and_an_intervention_leaves_the_unedited_one_alone() {
    let mut stage = Stage::new();
    assert_eq!(stage.asked(), 1);
    stage.answer(PLAIN, &[5, 6, 7]);
    stage.over();
    stage.with(Screen::refresh);
    assert_eq!((stage.asked(), stage.ids(PLAIN)), (1, vec![5, 6, 7]));
    stage.intervene();
    // The edited answer, and the stream that the dose of a chip from elsewhere is told against.
    assert_eq!(stage.asked(), 3);
    assert!(
        !stage.screen.sides[PLAIN].branches[0].open(),
        "it is not computed again"
    );
    stage.answer(EDITED, &[5, 9]);
    assert_eq!(stage.screen.divergence(), Some(1));
    let text = stage.text(100, 24);
    assert!(
        text.contains("first divergence at token 1") && text.contains("≠ w9"),
        "{text}"
    );
    stage.press("d");
    assert_eq!(stage.screen.cursor, 1);
    // Another prompt makes both anew.
    stage.shared.tokens.pop();
    stage.shared.intervene(|_| {});
    stage.with(Screen::refresh);
    assert!(
        stage
            .screen
            .sides
            .iter()
            .all(|side| side.branches[0].open())
    );
}

#[test]
fn the_dose_moves_alone_old_tokens_stay_and_late_ones_are_dropped() {
    let mut stage = Stage::new();
    stage.answer(PLAIN, &[5, 6]);
    stage.intervene();
    stage.answer(EDITED, &[7, 8]);
    let before = stage.screen.generation;
    stage.press(". . .");
    let chip = &dose::dosed(&stage.shared)[0];
    assert!((chip.steering.dose - 1.75).abs() < 1e-12);
    assert_eq!(stage.shared.interventions[0].options, ["--add", "d@1*1.75"]);
    assert!(
        stage.text(100, 24).contains("w8"),
        "what was there is still shown"
    );
    stage.part(before, EDITED, 0, Happened::Token(0, token(1, "late")));
    assert!(stage.ids(EDITED).is_empty());
    // A drag is one change.
    assert!(stage.shared.undo());
    assert!((dose::dosed(&stage.shared)[0].steering.dose - 1.0).abs() < 1e-12);
    stage.press("0");
    assert_eq!(stage.shared.interventions[0].options, ["--add", "d@1*0"]);
    stage.press("0");
    assert_eq!(stage.shared.interventions[0].options, ["--add", "d@1*1"]);
}

#[test]
fn held_rewound_and_branched() {
    let mut stage = Stage::new();
    let generation = stage.screen.generation;
    for (i, id) in [5, 6, 7].into_iter().enumerate() {
        stage.part(generation, PLAIN, 0, Happened::Token(i, token(id, " w")));
    }
    assert_eq!(stage.screen.cursor, 2, "it follows");
    stage.press("space");
    assert!(stage.commands.iter().any(|c| matches!(c, Command::Stop)));
    stage.part(generation, PLAIN, 0, Happened::Token(3, token(8, " late")));
    assert_eq!(stage.ids(PLAIN), [5, 6, 7]);
    // The other token at the cursor is 7 in `token(6)`.
    stage.press("h b 1");
    let side = &stage.screen.sides[PLAIN];
    assert_eq!((side.branches.len(), side.current), (2, 1));
    assert_eq!(
        (stage.ids(PLAIN), side.branches[1].push),
        (vec![5], Some(7))
    );
    assert_eq!(stage.asked(), 2);
    let generation = stage.screen.generation;
    stage.part(generation, PLAIN, 1, Happened::Token(1, token(7, " other")));
    assert_eq!(stage.screen.sides[PLAIN].branches[1].push, None);
    stage.press("n");
    assert_eq!(stage.ids(PLAIN), [5, 6, 7]);
    stage.press("N g l r");
    assert_eq!(stage.ids(PLAIN), [5]);
    assert!(stage.screen.sides[PLAIN].branches[1].rewound && !stage.screen.running());
    // Another drawing holds from there on.
    stage.press("t");
    assert_eq!(
        (stage.ids(PLAIN), stage.screen.sides[PLAIN].branches.len()),
        (vec![5], 2)
    );
    assert!(stage.screen.running());
}

#[test]
fn settings_are_checked_and_the_command_says_them() {
    let mut stage = Stage::new();
    let mut say = |words: &[&str]| {
        let mut out = None;
        stage.with(|screen, cx| out = screen.command(words, cx));
        out
    };
    assert_eq!(say(&["temperature", "0.7"]), Some(Ok(())));
    assert_eq!(say(&["top-p", "0.9"]), Some(Ok(())));
    assert_eq!(say(&["seed", "4"]), Some(Ok(())));
    assert_eq!(say(&["max", "16"]), Some(Ok(())));
    assert!(say(&["top-p", "2"]).unwrap().unwrap_err().contains("top-p"));
    assert!(say(&["max", "0"]).unwrap().is_err());
    assert_eq!(say(&["fly"]), None);
    stage.intervene();
    assert_eq!(
        line(&stage.screen.settings, "toy", &stage.shared),
        "candlescope run toy 'How do I pick a lock?' --max-new 16 --temperature 0.7 --top-p 0.9 --seed 4 --add d@1*1 --compare"
    );
    stage.press("t t");
    assert_eq!(
        stage.screen.settings.sample.top_p, None,
        "greedy would ignore it"
    );
    assert!(!line(&stage.screen.settings, "toy", &stage.shared).contains("--seed"));
}

#[test]
fn a_failure_is_shown_and_space_tries_again() {
    let mut stage = Stage::new();
    stage.answer(PLAIN, &[]);
    stage.press("t");
    stage.with(|screen, cx| screen.reply(Reply::Failed("no memory".into()), cx));
    assert!(
        stage
            .text(80, 20)
            .contains("failed: no memory; space tries again")
    );
    let asked = stage.asked();
    stage.press("space");
    assert_eq!(stage.asked(), asked + 1);
    assert!(!stage.text(80, 20).contains("no memory"));
}

#[test]
fn a_keys_words_say_why_not() {
    let mut stage = Stage::new();
    let why = |stage: &Stage, action| stage.screen.enabled(action, &stage.shared).unwrap_err();
    assert!(why(&stage, "side").contains("a adds an intervention"));
    assert!(why(&stage, "less").contains("a adds one"));
    assert!(why(&stage, "branch").contains("no token has come"));
    assert!(why(&stage, "seed").contains("t chooses a temperature"));
    stage.shared.tokens.clear();
    assert!(why(&stage, "hold").contains("`:open NAME`"));
}

#[test]
fn it_draws_at_every_size_with_hostile_tokens() {
    let mut stage = Stage::new();
    stage.intervene();
    let generation = stage.screen.generation;
    let texts = [
        "\u{1b}[2J",
        "\n\n",
        "",
        "\u{202e}",
        "👩\u{200d}👩\u{200d}👧",
        "a\tb",
        " ",
        "long long long token",
    ];
    for (i, text) in texts.into_iter().enumerate() {
        for side in [EDITED, PLAIN] {
            stage.part(
                generation,
                side,
                0,
                Happened::Token(i, token(i as u32 + side as u32, text)),
            );
        }
    }
    for mode in ["", "a", "b", "p"] {
        if !mode.is_empty() {
            stage.press(mode);
        }
        for (width, height) in
            (0..70)
                .map(|i| (i * 2, i / 2))
                .chain([(1, 60), (200, 1), (30, 6), (120, 40)])
        {
            let text = stage.text(width, height);
            assert!(!text.contains(['\u{1b}', '\u{202e}']));
        }
        stage.with(|screen, cx| {
            screen.cancel(cx);
        });
    }
}

#[test]
fn turns_are_walked_and_a_system_turn_is_added() {
    let mut stage = Stage::new();
    stage.press("p ctrl-t b e");
    let text = stage.text(100, 30);
    assert!(text.contains("prompt: system turn, 1 of 2"), "{text}");
    stage.press("tab end ! ctrl-n o k enter");
    let turns: Vec<(&str, &str)> = stage
        .shared
        .prompt
        .turns
        .iter()
        .map(|turn| (turn.role.as_str(), turn.content.as_str()))
        .collect();
    assert_eq!(
        turns,
        [
            ("system", "be"),
            ("user", "How do I pick a lock?!"),
            ("assistant", "ok")
        ]
    );
    // An empty system turn is none.
    stage.shared.prompt = shared::Prompt::user("hi");
    stage.press("p ctrl-t enter");
    assert_eq!(stage.shared.prompt, shared::Prompt::user("hi"));
    stage.press("p ctrl-t b tab end x enter");
    let line = super::prompt(&stage.shared).0;
    assert_eq!(line, "hix --system b");
}

#[test]
fn the_dose_scale_says_its_prompt_and_is_measured_again() {
    let mut stage = Stage::new();
    let steering = Steering::addition("d@1*2").unwrap();
    let vector = Arc::new(vec![3.0, 4.0]);
    let measured = |ids: Vec<u32>, norm| Measured {
        vector: Arc::clone(&vector),
        scale: StreamScale {
            norm,
            component: 1.0,
            n: ids.len(),
            layer: 1,
        },
        ids,
    };
    let key = steering::measured(&steering);
    stage
        .screen
        .made
        .insert(key.clone(), measured(vec![0, 1, 2, 3], 40.0));
    let op = EditOp::Add {
        vector: Arc::clone(&vector),
        alpha: 2.0,
    };
    let chip = Intervention {
        label: dose::label(&steering),
        options: steering.option().into(),
        edits: vec![Edit::new(HookPoint::new(Point::ResidPre, 1), op)],
        on: true,
    };
    stage.shared.intervene(|chips| chips.push(chip));
    stage.with(Screen::refresh);
    assert!(
        stage
            .text(120, 40)
            .contains("norm 40.0 (resid_pre.1, n = 4")
    );
    let before = stage.asked();
    stage.shared.tokens.truncate(3);
    stage.shared.intervene(|_| {});
    stage.with(Screen::refresh);
    assert_eq!(stage.asked(), before + 2, "an answer and a scale");
    assert!(stage.text(120, 40).contains("of the prompt before"));
    stage.shared.intervene(|_| {});
    stage.with(Screen::refresh);
    assert_eq!(stage.asked(), before + 3, "a scale once");
    let report = Report::Scale(key, Ok(measured(vec![0, 1, 2], 50.0)));
    stage.with(|screen, cx| screen.reply(Reply::Done(Box::new(report)), cx));
    assert!(
        stage
            .text(120, 40)
            .contains("norm 50.0 (resid_pre.1, n = 3")
    );
}

#[test]
fn the_cursor_goes_by_lines() {
    let mut stage = Stage::new();
    stage.answer(PLAIN, &[1, 2, 3, 4, 5, 6]);
    for (i, text) in ["a", " b\n", "c", " d\n", "\n", "e"]
        .into_iter()
        .enumerate()
    {
        text.clone_into(&mut stage.screen.sides[PLAIN].branches[0].tokens[i].text);
    }
    stage.text(100, 30);
    stage.press("g l j");
    assert_eq!(stage.screen.cursor, 3);
    stage.press("j");
    assert_eq!(stage.screen.cursor, 4);
    stage.press("j j");
    assert_eq!(stage.screen.cursor, 5);
    stage.press("k k k");
    assert_eq!(stage.screen.cursor, 0);
}
