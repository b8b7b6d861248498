//! The frame around every screen: tabs, model, interventions, work, keys; and what lies on top.
//!
//! Always: pure, and drawable at any size; what does not fit is left out from the right, never wrapped.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::{App, Timings};
use super::broken::Broken;
use super::cells;
use super::filter::Narrowed;
use super::keys::{self, Binding, GLOBAL};
use super::overlay::Overlay;
use super::overlay::leap::NUMBERED;
use super::panics::caught;
use super::pen;
use super::screen::{Hits, Target, View};
use super::shared::ModelState;
use super::theme::Theme;
use super::work::Lane;
use crate::model::toy;

/// Smallest size that a screen is drawn at; below it a card says so.
const SMALLEST: (u16, u16) = (30, 6);

/// From here on the header has words for the model's shape.
const ROOMY: u16 = 100;

/// Draws everything.
pub fn draw(app: &App, area: Rect, buf: &mut Buffer) -> Hits {
    let mut hits = Hits::default();
    let area = area.intersection(buf.area);
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("too small: need {}x{}", SMALLEST.0, SMALLEST.1);
        if area.height > 0 {
            pen::line(
                area,
                0,
                &cells::fit(&text, area.width.into(), app.theme.ascii),
                Style::new(),
                buf,
            );
        }
        return hits;
    }
    header(app, area, buf, &mut hits);
    let body = Rect {
        y: area.y + 2,
        height: area.height - 3,
        ..area
    };
    screen(app, area, body, buf, &mut hits);
    if app.show_timings {
        timings(app, body, buf);
    }
    match &app.overlay {
        Overlay::None => {}
        Overlay::Help(help) => help.view(&app.theme, area, buf),
        Overlay::Palette(palette) => palette.view(&app.theme, area, buf),
        Overlay::Leap(leap) => leap.view(&app.theme, area, buf),
    }
    hits
}

/// The screen and its keys; a card where it has panicked, or does so now.
fn screen(app: &App, area: Rect, body: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if let Some(broken) = app.broken() {
        broken.card(app.theme, body, buf);
        return footer(app, &[], area, buf, hits);
    }
    let screen = app.screen();
    let places = hits.count();
    let drawn = caught(|| {
        let view = View {
            shared: &app.shared,
            theme: &app.theme,
            busy: app.pending.iter().any(|p| p.screen == screen.id()),
        };
        screen.view(&view, body, buf, hits);
        if screen.takes_text() {
            typing(app, area, buf);
        } else {
            footer(app, screen.bindings(), area, buf, hits);
        }
    });
    if let Err(panic) = drawn {
        hits.forget_after(places);
        for row in body.y..area.bottom() {
            pen::clear_line(area, row - area.y, buf);
        }
        let broken = Broken {
            screen: screen.id(),
            doing: "drawing",
            panic,
        };
        broken.card(app.theme, body, buf);
        footer(app, &[], area, buf, hits);
        hits.panic = Some(broken.panic);
    }
}

/// Writes pieces from left to right while they fit.
struct Pen<'a> {
    area: Rect,
    row: u16,
    column: u16,
    buf: &'a mut Buffer,
}

impl Pen<'_> {
    fn left(&self) -> u16 {
        self.area.width.saturating_sub(self.column)
    }

    /// Where it was written, if it fitted.
    fn write(&mut self, text: &str, style: Style) -> Option<Rect> {
        let width = u16::try_from(cells::width(text)).unwrap_or(u16::MAX);
        if width > self.left() {
            return None;
        }
        let at = Rect {
            x: self.area.x + self.column,
            y: self.area.y + self.row,
            width,
            height: 1,
        };
        pen::line(at, 0, text, style, self.buf);
        self.column += width;
        Some(at)
    }
}

/// The screens by number and name; by short names where the whole ones do not fit, but for the one that is shown. Those that
/// have no number go where even that does not fit, but for the one that is shown; how to go to them stands in their place.
fn tabs(app: &App, pen: &mut Pen, hits: &mut Hits) {
    let theme = &app.theme;
    let text = |i: usize, roomy: bool| {
        let id = app.screens[i].id();
        let number = if i < NUMBERED {
            format!("{} ", i + 1)
        } else {
            String::new()
        };
        match roomy {
            true => format!(" {number}{id} "),
            false if i == app.current => format!(" {number}{id}"),
            false => format!(" {number}{}", short(id)),
        }
    };
    let room = usize::from(pen.area.width);
    let wide = |shown: &[usize], roomy: bool| -> usize {
        shown.iter().map(|i| cells::width(&text(*i, roomy))).sum()
    };
    let mut shown: Vec<usize> = (0..app.screens.len()).collect();
    let roomy = wide(&shown, true) <= room;
    let folded = wide(&shown, roomy) > room;
    if folded {
        shown.retain(|i| *i < NUMBERED || *i == app.current);
    }
    for i in shown {
        let style = if i == app.current {
            theme.cursor()
        } else {
            theme.dim()
        };
        if let Some(at) = pen.write(&text(i, roomy), style) {
            hits.add(at, Target::Screen(app.screens[i].id()));
        }
    }
    let leap = KeyEvent::new(KeyCode::Char('\''), KeyModifiers::NONE);
    // The whole of it, or the key alone.
    let at = pen.write(if folded { " ' more" } else { " ' go" }, theme.key());
    if let Some(at) = at.or_else(|| pen.write(" '", theme.key())) {
        hits.add(at, Target::Key(leap));
    }
}

/// A screen's name in a few letters.
fn short(id: &str) -> &str {
    match id {
        "attention" => "attn",
        "generate" => "gen",
        "training" => "train",
        "directions" => "dirs",
        "features" => "feat",
        other => other,
    }
}

fn header(app: &App, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let theme = &app.theme;
    let mut pen = Pen {
        area,
        row: 0,
        column: 0,
        buf,
    };
    tabs(app, &mut pen, hits);
    let mut pen = Pen {
        area,
        row: 1,
        column: 0,
        buf: pen.buf,
    };
    pen.write(" ", theme.text());
    let name = cells::prose(app.shared.model.name(), theme.ascii);
    match &app.shared.model {
        ModelState::Ready(facts) => {
            // Of a long path the end says which it is.
            pen.write(&cells::cut_front(&name, 28, theme.ascii), theme.title());
            let config = &facts.config;
            let (layers, heads, width) = (config.n_layers, config.n_heads, config.d_model);
            let shape = if area.width < ROOMY {
                format!("  {layers}L {heads}H {width}d  ")
            } else {
                format!("  {layers} layers, {heads} heads, width {width}  ")
            };
            pen.write(&shape, theme.dim());
        }
        ModelState::Loading { .. } => {
            let text = format!("{} opening {name} ", theme.spinner(app.tick));
            pen.write(&text, theme.accent());
        }
        ModelState::Failed { .. } => {
            pen.write(&format!("{name} could not be opened "), theme.error());
        }
        ModelState::None => {
            pen.write("no model; :open NAME ", theme.dim());
        }
    }
    for chip in &app.shared.interventions {
        let style = if chip.on {
            theme.chip_on()
        } else {
            theme.chip_off()
        };
        let mark = if chip.on { "" } else { "off " };
        let label = cells::prose(&signs(&chip.label, *theme), theme.ascii);
        pen.write(
            &format!("[{mark}{}]", cells::cut(&label, 24, theme.ascii)),
            style,
        );
        pen.write(" ", theme.text());
    }
    for pending in &app.pending {
        let share = pending
            .share
            .map_or(String::new(), |s| format!(" {:.0} %", s * 100.0));
        let eta = pending
            .share
            .filter(|&s| s > 0.02 && pending.lane == Lane::Job)
            .map_or(String::new(), |s| {
                let spent = pending.since.elapsed().as_secs_f64();
                format!(", {:.0} s left", spent * (1.0 - s) / s)
            });
        let note = if pending.note.is_empty() {
            &pending.what
        } else {
            &pending.note
        };
        let text = format!("{} {note}{share}{eta} ", theme.spinner(app.tick));
        pen.write(&text, theme.accent());
    }
    // What is left of the line says what can be done about what it shows.
    if let Some(hint) = hint(app) {
        let room = usize::from(pen.left()).saturating_sub(1);
        let hint = cells::prose(hint, theme.ascii);
        if cells::width(&hint) <= room {
            pen.column += (room - cells::width(&hint)) as u16;
            pen.write(&hint, theme.dim());
        }
    }
}

/// A chip's label with the signs that chips begin with as this terminal shows them.
fn signs(label: &str, theme: Theme) -> String {
    let shown = [('⊘', 'x'), ('⊖', '-'), ('⊕', '+'), ('×', '*'), ('→', '>')];
    let ascii = |c: char| shown.iter().find(|(sign, _)| *sign == c).map_or(c, |s| s.1);
    if theme.ascii {
        label.chars().map(ascii).collect()
    } else {
        label.to_owned()
    }
}

/// A hint beside the model: how its interventions are taken back, or that its words mean nothing.
fn hint(app: &App) -> Option<&'static str> {
    let chips = &app.shared.interventions;
    if chips.iter().any(|chip| chip.on) {
        return Some("X off  D drop  z undo");
    }
    if !chips.is_empty() {
        return Some("X on  D drop  z undo");
    }
    let toy =
        matches!(&app.shared.model, ModelState::Ready(facts) if toy::seed(&facts.name).is_some());
    toy.then_some("a toy that knows no language; models has real ones")
}

/// A notice takes the footer while it is shown.
fn notice(app: &App, area: Rect, buf: &mut Buffer) -> bool {
    let Some(notice) = &app.notice else {
        return false;
    };
    let text = cells::prose(&notice.text, app.theme.ascii);
    let text = cells::fit(&text, area.width.into(), app.theme.ascii);
    pen::line(area, area.height - 1, &text, app.theme.accent(), buf);
    true
}

/// The footer while every key is text.
fn typing(app: &App, area: Rect, buf: &mut Buffer) {
    if notice(app, area, buf) {
        return;
    }
    let mut pen = Pen {
        area,
        row: area.height - 1,
        column: 0,
        buf,
    };
    for (key, word) in [("enter", "take it"), ("esc", "leave it")] {
        pen.write(&format!(" {key}"), app.theme.key());
        pen.write(&format!(" {word} "), app.theme.dim());
    }
}

/// What the list is narrowed to, and how to be done with that.
fn filter(app: &App, narrowed: &Narrowed, pen: &mut Pen) {
    let theme = &app.theme;
    let text = cells::prose(&narrowed.text, theme.ascii);
    let text = cells::fit(&text, cells::width(&text).min(40), theme.ascii);
    let cursor = if app.filtering {
        theme.pick("▏", "|")
    } else {
        ""
    };
    let dot = theme.pick("·", "-");
    let (left, of) = (narrowed.left, narrowed.of);
    pen.write(
        &format!(" filter: {text}{cursor} {dot} {left} of {of} "),
        theme.accent(),
    );
    let keys = if app.filtering {
        &[("enter", "keeps it"), ("esc", "shows all")][..]
    } else {
        &[("esc", "shows all")]
    };
    for (key, word) in keys {
        pen.write(&format!(" {key}"), theme.key());
        pen.write(&format!(" {word} "), theme.dim());
    }
}

/// The keys: of the screen first, then those that mean the same everywhere.
fn footer(app: &App, own: &[Binding], area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    if !app.filtering && notice(app, area, buf) {
        return;
    }
    let theme = &app.theme;
    let row = area.height - 1;
    let mut pen = Pen {
        area,
        row,
        column: 0,
        buf,
    };
    if app.broken().is_none()
        && let Some(narrowed) = app.narrowed()
    {
        filter(app, &narrowed, &mut pen);
        if app.filtering {
            return;
        }
    }
    let groups = groups(app, own);
    // The way to all the others is never what does not fit.
    let (help, shown): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(|g| g.word == "help");
    let reserved: usize = help.iter().map(|group| group.width()).sum();
    for group in shown {
        if group.width() + reserved > pen.left().into() {
            break;
        }
        key_group(group, *theme, &mut pen, hits);
    }
    for group in help {
        key_group(group, *theme, &mut pen, hits);
    }
}

/// Keys that are shown with one word.
struct Group {
    keys: Vec<&'static str>,
    word: &'static str,
    can: bool,
}

impl Group {
    fn width(&self) -> usize {
        let keys: usize = self.keys.iter().map(|key| cells::width(key) + 1).sum();
        keys + cells::width(self.word) + 2
    }
}

/// What the footer shows: of neighbours with the same word both keys, `h/l token`, since one alone is half the truth.
fn groups(app: &App, own: &[Binding]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for binding in own.iter().chain(GLOBAL).filter(|b| !b.short.is_empty()) {
        let first = binding.keys.split(' ').next().unwrap_or_default();
        let can = GLOBAL.iter().any(|b| b.action == binding.action)
            || app.screen().enabled(binding.action, &app.shared).is_ok();
        match groups.last_mut().filter(|last| last.word == binding.short) {
            Some(last) => {
                last.keys.push(first);
                last.can |= can;
            }
            None => groups.push(Group {
                keys: vec![first],
                word: binding.short,
                can,
            }),
        }
    }
    groups
}

fn key_group(group: &Group, theme: Theme, pen: &mut Pen, hits: &mut Hits) {
    let style = if group.can { theme.key() } else { theme.dim() };
    let from = pen.column;
    for (i, key) in group.keys.iter().enumerate() {
        pen.write(if i == 0 { " " } else { "/" }, theme.dim());
        if let (Some(at), Ok(key)) = (pen.write(key, style), keys::parse(key)) {
            hits.add(at, Target::Key(key));
        }
    }
    pen.write(&format!(" {} ", group.word), theme.dim());
    if let ([only], true) = (group.keys.as_slice(), pen.column > from)
        && let Ok(key) = keys::parse(only)
    {
        let at = Rect {
            x: pen.area.x + from,
            y: pen.area.y + pen.row,
            width: pen.column - from,
            height: 1,
        };
        hits.add(at, Target::Key(key));
    }
}

fn timings(app: &App, area: Rect, buf: &mut Buffer) {
    let t = &app.timings;
    let pair = |list| {
        let show = |q| Timings::quantile(list, q).map_or("-".to_string(), |ms| format!("{ms:.2}"));
        format!(
            "p50 {} ms, p95 {} ms, n = {}",
            show(0.5),
            show(0.95),
            list.len()
        )
    };
    let first = t
        .first_frame
        .map_or("-".into(), |d| format!("{:.0} ms", d.as_secs_f64() * 1e3));
    let memory =
        crate::tui::runtime::resident_mib().map_or("-".into(), |mib| format!("{mib:.0} MiB"));
    let lines = [
        format!("key to frame  {}", pair(&t.key_to_frame)),
        format!("drawing       {}", pair(&t.draw)),
        format!("first frame   {first} after start"),
        format!("frames        {}", t.frames),
        format!("memory        {memory}"),
    ];
    let at = cells::popup(area, 58, lines.len() as u16 + 2);
    let inner = pen::panel(at, "timings", &app.theme, buf);
    for (i, text) in lines.iter().enumerate() {
        let text = cells::fit(text, inner.width.into(), app.theme.ascii);
        pen::line(inner, i as u16, &text, app.theme.text(), buf);
    }
}
