//! The oscilloscope without a terminal: on the toy, against the library's own runs.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling};
use ndarray::{Array1, Array2};

use super::work::{Told, What};
use super::*;
use crate::features::LatentEdit;
use crate::features::scope::{Limits, Trace, Turns};
use crate::hooks::HookPoint;
use crate::model::generate::Continue;
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Hits, Screen};
use crate::tui::screens::lens::desk::{Desk, clashes};
use crate::tui::theme::Theme;

/// The pane as a screen of its own.
struct Bench(ScopePane);

impl Screen for Bench {
    fn id(&self) -> &'static str {
        "features"
    }

    fn about(&self) -> &'static str {
        ""
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, _shared: &Shared) -> Result<(), String> {
        self.0.enabled(action)
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        self.0.act(action, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        self.0.refresh(cx);
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        assert!(self.0.told(&reply, cx));
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        self.0.command(words, cx)
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, _hits: &mut Hits) {
        self.0.view(view, area, buf, &label);
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        self.0.command_line(shared)
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        self.0.written(shared)
    }
}

fn label(latent: usize) -> Option<String> {
    (latent == 7).then(|| "seven \u{1b}[31m".into())
}

fn drawn(rows: usize, columns: usize, mut seed: u64) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((seed >> 33) as f32 / (1u64 << 31) as f32).mul_add(2.0, -1.0)
    })
}

fn pane(desk: &Desk, latents: &[usize]) -> ScopePane {
    let config = &desk.shared.model.facts().unwrap().config;
    let d = config.d_model;
    let dictionary = Dictionary::new(Parts {
        encoder: drawn(40, d, 1),
        decoder: drawn(40, d, 2),
        encoder_bias: Array1::zeros(40),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::TopK { k: 6 },
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    });
    let at: HookPoint = "resid_post.1".parse().unwrap();
    let splice = Splice::new(Arc::new(dictionary.unwrap()), "sae/", [at, at], config);
    ScopePane::new(splice.unwrap(), latents)
}

fn ready(latents: &[usize]) -> (Desk, Bench) {
    let desk = Desk::reading("a b c d");
    let mut pane = pane(&desk, latents);
    pane.max_new = 8;
    (desk, Bench(pane))
}

/// A run that ended.
fn done(latents: &[usize]) -> (Desk, Bench) {
    let (mut desk, mut bench) = ready(latents);
    desk.refresh(&mut bench);
    desk.work(&mut bench);
    (desk, bench)
}

fn say(desk: &mut Desk, bench: &mut Bench, words: &[&str]) -> Result<(), String> {
    desk.with(bench, |bench, cx| bench.command(words, cx))
        .unwrap()
}

/// What the library records under these turns.
fn library(desk: &Desk, pane: &ScopePane, turns: Turns) -> Trace {
    let model = &desk.shared.model.facts().unwrap().checkpoint;
    let scope = pane.scope(&desk.shared).unwrap();
    let prompt: Vec<u32> = desk.shared.tokens.iter().map(|token| token.id).collect();
    let mut recorder = scope
        .start(&model.decoder, &prompt, &pane.sample, turns)
        .unwrap();
    let limits = Limits {
        max_new: pane.max_new,
        stop: model.stop_ids(),
    };
    recorder
        .run(&model.decoder, &limits, &mut |_, _| Continue::Yes)
        .unwrap();
    recorder.trace().clone()
}

fn edits(list: &[&str]) -> Vec<LatentEdit> {
    list.iter().map(|edit| edit.parse().unwrap()).collect()
}

fn key(desk: &mut Desk, bench: &mut Bench, key: &str) -> bool {
    let event = key_names::parse(key).unwrap();
    let mut cx = Context {
        screen: "features",
        shared: &mut desk.shared,
        commands: &mut desk.commands,
    };
    bench.0.key(event, &mut cx)
}

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn it_begins_by_itself_and_shows_what_the_library_records() {
    let (mut desk, mut bench) = ready(&[]);
    assert!(desk.draw(&bench, 80, 20).contains("being read"));
    desk.refresh(&mut bench);
    assert_eq!(desk.asks(), 1);
    assert!(bench.0.running());
    desk.work(&mut bench);
    let expected = library(&desk, &bench.0, Turns::none());
    let branch = bench.0.branch().unwrap();
    assert_eq!(
        (&branch.trace, branch.texts.len()),
        (&expected, expected.steps.len())
    );
    assert!(!bench.0.running());
    // Lanes for the strongest latents, the cursor at the end, the values there.
    assert!(bench.0.lanes.len() >= LANES && bench.0.lanes.contains(&Lane::Surprise));
    assert_eq!(bench.0.cursor, expected.steps.len() - 1);
    let shown = desk.draw(&bench, 100, 24);
    let latent = bench.0.latent().unwrap();
    let value = written::number(expected.steps.last().unwrap().code(latent).into());
    let line = shown
        .lines()
        .find(|line| line.contains(&format!("latent {latent} ")));
    assert!(line.unwrap().contains(&value), "{value}\n{shown}");
    for word in [
        "sae at resid_post.1",
        "greedy",
        "▲",
        "strongest:",
        "no latent is turned",
    ] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
}

#[test]
fn what_is_turned_at_the_newest_token_holds_from_the_next_on() {
    let (mut desk, mut bench) = ready(&[7]);
    desk.refresh(&mut bench);
    // As the first steps come: the prompt and two tokens, then a pause.
    let whole = library(&desk, &bench.0, Turns::none());
    let texts = |from: usize, to: usize| {
        whole.steps[from..to]
            .iter()
            .map(|s| (s.clone(), String::new()))
            .collect()
    };
    let prompt = whole.prompt;
    let told = Told {
        generation: bench.0.generation,
        what: What::Steps(0, 0, texts(0, prompt + 2)),
    };
    desk.reply(&mut bench, Reply::Part(Box::new(told)));
    assert_eq!(bench.0.cursor, prompt + 1);
    desk.commands.clear();
    assert!(key(&mut desk, &mut bench, "+"));
    assert!(key(&mut desk, &mut bench, "+"));
    // Each step is an order that replaces the one before; no key computed anything.
    assert_eq!(
        (desk.asks(), bench.0.branch().unwrap().len()),
        (2, prompt + 2)
    );
    desk.work(&mut bench);
    let unit = dose::unit(&bench.0.branch().unwrap().trace, 7);
    let turns = Turns::none().with(prompt + 2, edits(&[&format!("7+{}", 2.0 * unit)]));
    assert_eq!(
        bench.0.branch().unwrap().trace,
        library(&desk, &bench.0, turns)
    );
    assert!(desk.draw(&bench, 100, 24).contains("◆"));
}

#[test]
fn a_branch_is_taken_at_the_cursor_and_compared_with_where_it_came_from() {
    let (mut desk, mut bench) = done(&[7]);
    let trunk = bench.0.branch().unwrap().trace.clone();
    for _ in 0..4 {
        desk.press(&mut bench, "left");
    }
    let at = trunk.steps.len() - 5;
    assert_eq!((bench.0.cursor, bench.0.follows), (at, false));
    desk.press(&mut bench, "w");
    for _ in 0..60 {
        desk.press(&mut bench, "+");
    }
    assert!(desk.said().contains("b branches"));
    assert_eq!((desk.asks(), &bench.0.branch().unwrap().trace), (0, &trunk));
    desk.press(&mut bench, "b");
    // What is being replaced stays in sight.
    assert_eq!(bench.0.branch().unwrap().shown(), trunk.steps.len());
    desk.work(&mut bench);
    let branch = bench.0.branch().unwrap();
    let held = 64.0 * dose::unit(&trunk, 7);
    let turns = Turns::none().with(at, edits(&[&format!("7={held}")]));
    let expected = library(&desk, &bench.0, turns);
    assert_eq!(branch.trace.steps, expected.steps);
    assert_eq!((branch.trace.branched, branch.parent), (Some(at), Some(0)));
    assert_eq!(bench.0.branches[0].trace, trunk);
    desk.press(&mut bench, "c");
    desk.work(&mut bench);
    let scope = bench.0.scope(&desk.shared).unwrap();
    let model = &desk.shared.model.facts().unwrap().checkpoint;
    let found = bench.0.compared.clone().unwrap();
    assert_eq!(
        found.kl,
        scope.kl(&model.decoder, &trunk, &expected).unwrap()
    );
    assert!(found.kl[..at].iter().all(|kl| *kl == 0.0) && found.kl[at] > 0.0);
    assert!(found.diverges.is_some(), "held at {held} it says the same");
    let shown = desk.draw(&bench, 100, 24);
    for word in [
        "branch 2 of 2, from branch 1",
        "parent",
        "KL to parent",
        "other tokens from",
        "7 held at",
    ] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
    desk.press(&mut bench, "d");
    assert_eq!(Some(bench.0.cursor), found.diverges);
    assert!(desk.draw(&bench, 100, 24).contains("≠"));
    // Back to the first, which has no parent.
    desk.press(&mut bench, "<");
    assert_eq!((bench.0.current, &bench.0.compared), (0, &None));
    assert_eq!(desk.asks(), 0);
}

#[test]
fn ablation_is_taken_back_and_ways_change_what_a_step_is() {
    let (mut desk, mut bench) = done(&[7]);
    let wanted = |bench: &Bench| -> Vec<String> {
        let edits = bench.0.branch().unwrap().doses.edits();
        edits.iter().map(ToString::to_string).collect()
    };
    desk.press(&mut bench, "a");
    assert_eq!(wanted(&bench), ["7=0"]);
    desk.press(&mut bench, "a");
    assert!(wanted(&bench).is_empty());
    let unit = dose::unit(&bench.0.branch().unwrap().trace, 7);
    desk.press(&mut bench, "-");
    assert_eq!(wanted(&bench), [format!("7-{unit}")]);
    desk.press(&mut bench, "w");
    desk.press(&mut bench, "w");
    assert_eq!(wanted(&bench), ["7*0.75"]);
    desk.press(&mut bench, "0");
    assert!(wanted(&bench).is_empty());
    // A lane that is no latent says why not.
    desk.press(&mut bench, "f");
    bench.0.lane = 0;
    assert!(key(&mut desk, &mut bench, "+"));
    assert!(desk.said().contains("no latent"), "{}", desk.said());
}

#[test]
fn esc_stops_then_lets_go_and_what_is_late_is_dropped() {
    let (mut desk, mut bench) = ready(&[]);
    desk.refresh(&mut bench);
    let old = bench.0.generation;
    assert!(key(&mut desk, &mut bench, "esc"));
    assert!(matches!(desk.commands.last(), Some(Command::Say(_))));
    assert!(desk.commands.iter().any(|c| matches!(c, Command::Stop)));
    let late = Told {
        generation: old,
        what: What::Ended(0, crate::features::scope::End::Stop),
    };
    desk.reply(&mut bench, Reply::Part(Box::new(late)));
    assert_eq!(bench.0.branch().unwrap().trace.end, None);
    assert!(!key(&mut desk, &mut bench, "esc"), "the screen closes it");
    desk.reply(&mut bench, Reply::Cancelled);
    desk.commands.clear();
    desk.press(&mut bench, "space");
    desk.work(&mut bench);
    assert!(bench.0.branch().unwrap().trace.end.is_some());
    // Not its own: other payloads, and ends of what it did not ask for.
    let mut cx = Context {
        screen: "features",
        shared: &mut desk.shared,
        commands: &mut desk.commands,
    };
    assert!(!bench.0.told(&Reply::Done(Box::new(5u8)), &mut cx));
    assert!(!bench.0.told(&Reply::Cancelled, &mut cx));
}

#[test]
fn lanes_of_files_and_numbers_and_what_is_wrong_with_them() {
    let (mut desk, mut bench) = done(&[]);
    assert!(
        say(&mut desk, &mut bench, &["latent", "40"])
            .unwrap_err()
            .contains("0 to 39")
    );
    say(&mut desk, &mut bench, &["latent", "12"]).unwrap();
    assert_eq!(bench.0.latent(), Some(12));
    assert!(say(&mut desk, &mut bench, &["probe", "/nowhere/p.safetensors"]).is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hot.safetensors");
    let mut vector = vec![0.0; desk.shared.model.facts().unwrap().config.d_model];
    vector[3] = 2.0;
    let direction = crate::steer::file::DirectionFile {
        vector,
        ..Default::default()
    };
    crate::steer::file::save(&file, &direction).unwrap();
    let spec = file.to_str().unwrap();
    say(&mut desk, &mut bench, &["direction", spec]).unwrap();
    desk.work(&mut bench);
    assert_eq!(
        bench.0.branch().unwrap().trace,
        library(&desk, &bench.0, Turns::none())
    );
    assert_eq!(
        bench.0.branch().unwrap().trace.channels[0].at.to_string(),
        "resid_post.1"
    );
    assert!(desk.draw(&bench, 100, 24).contains("hot"));
    // A file of another model is refused once the worker has the hashes.
    let other = crate::steer::file::DirectionFile {
        fingerprint: Some(Checkpoint::toy(1).unwrap().fingerprint().unwrap().clone()),
        ..direction
    };
    let foreign = folder.path().join("foreign.safetensors");
    crate::steer::file::save(&foreign, &other).unwrap();
    let (mut away, mut beside) = done(&[]);
    say(
        &mut away,
        &mut beside,
        &["direction", foreign.to_str().unwrap()],
    )
    .unwrap();
    away.work(&mut beside);
    let why = beside.0.failed.clone().unwrap();
    assert!(
        why.contains("foreign.safetensors") && why.contains("weights"),
        "{why}"
    );
    assert!(
        say(&mut desk, &mut bench, &["temperature", "-1"])
            .unwrap_err()
            .contains("temperature")
    );
    for words in [["max", "12"], ["temperature", "1"], ["seed", "5"]] {
        say(&mut desk, &mut bench, &words).unwrap();
    }
    desk.work(&mut bench);
    assert_eq!(
        bench.0.branch().unwrap().trace,
        library(&desk, &bench.0, Turns::none())
    );
}

#[test]
fn it_is_written_and_said_and_the_command_line_has_the_turns() {
    let (mut desk, mut bench) = done(&[7]);
    for press in ["left", "left", "a", "b"] {
        desk.press(&mut bench, press);
    }
    desk.work(&mut bench);
    let at = bench.0.branch().unwrap().trace.branched.unwrap();
    let line = bench.command_line(&desk.shared).unwrap();
    assert!(
        line.starts_with("candlescope sae scope toy sae/ --raw 'a b c d' --max-new 8"),
        "{line}"
    );
    assert!(
        line.contains(&format!("--turn 7=0@{at}")) && line.contains("--latent 7"),
        "{line}"
    );
    let data = bench.data(&desk.shared).unwrap();
    assert_eq!(
        data.headers[..5],
        ["position", "token", "part", "-log p", "latent 7"]
    );
    assert_eq!(data.rows.len(), bench.0.branch().unwrap().len());
    assert_eq!(data.rows[at][4], "0");
    assert_eq!(data.json["schema"], crate::features::scope::SCHEMA);
    assert_eq!(data.json["branches"][1]["trace"]["turns"][0]["from"], at);
    let spoken = bench.0.spoken(&label).join("\n");
    assert!(
        spoken.contains(&format!("from token {at} turned: 7 silent")),
        "{spoken}"
    );
    assert!(spoken.contains("latent 7 (seven"), "{spoken}");
}

#[test]
fn it_is_drawn_at_every_size_and_nothing_hostile_reaches_a_cell() {
    let (mut desk, mut bench) = done(&[7, 3]);
    for press in ["left", "left", "a", "b"] {
        desk.press(&mut bench, press);
    }
    desk.work(&mut bench);
    desk.press(&mut bench, "c");
    bench.0.branches[1].texts[0] = "\u{1b}[31m\u{202e}x".into();
    for comparing in [true, false] {
        bench.0.comparing = comparing;
        for theme in [
            Theme::dark(),
            Theme {
                ascii: true,
                ..Theme::no_colour()
            },
        ] {
            for (width, height) in
                (0..40u16).flat_map(|h| [0, 1, 7, 33, 69, 70, 140].map(|w| (w, h)))
            {
                let area = Rect::new(0, 0, width, height);
                let mut buf = Buffer::empty(area);
                let view = View {
                    shared: &desk.shared,
                    theme: &theme,
                    busy: false,
                };
                bench.view(&view, area, &mut buf, &mut Hits::default());
                let text: String = buf
                    .content()
                    .iter()
                    .map(ratatui::buffer::Cell::symbol)
                    .collect();
                assert!(!text.contains(['\u{1b}', '\u{202e}']), "{width}x{height}");
                assert!(!theme.ascii || text.is_ascii(), "{width}x{height}: {text}");
            }
        }
    }
}
