//! Drawing the models: the table, and the open model beside or below it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::rows::{Row, Standing};
use super::{ModelsScreen, Side};
use crate::text::amount::{bytes, parameters};
use crate::tui::cells::{self, Entry, Table};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::{ModelFacts, ModelState, Shared};
use crate::tui::theme::Theme;

/// From here on the facts stand beside the table.
const WIDE: u16 = 110;

pub(super) fn draw(
    screen: &ModelsScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if area.width == 0 || area.height == 0 {
        return;
    }
    let below = u16::from(screen.typing || screen.trouble.is_some()) * 3;
    let (area, line) = cut_below(area, below);
    let rows = screen.rows(view.shared);
    let (list, side) = if area.width >= WIDE {
        let width = area.width * 11 / 20;
        let right = Rect {
            x: area.x + width,
            width: area.width - width,
            ..area
        };
        (Rect { width, ..area }, right)
    } else {
        let height = (rows.len() as u16 + 3).min(area.height / 2);
        let rest = Rect {
            y: area.y + height,
            height: area.height - height,
            ..area
        };
        (Rect { height, ..area }, rest)
    };
    table(screen, view, &rows, list, buf, hits);
    facts(screen, view, rows.get(screen.selected), side, buf);
    if screen.typing {
        let inner = pen::panel(
            line,
            "fetch by name: a known model, or ORG/NAME[@REVISION] of the Hugging Face hub",
            view.theme,
            buf,
        );
        screen.field.draw(buf, inner, *view.theme, true);
    } else if let Some(why) = &screen.trouble {
        let inner = pen::panel(line, "failed (esc closes)", view.theme, buf);
        let text = cells::prose(why, view.theme.ascii);
        let text = cells::fit(&text, inner.width.into(), view.theme.ascii);
        pen::line(inner, 0, &text, view.theme.error(), buf);
    }
}

/// The area without its last lines, and these.
fn cut_below(area: Rect, lines: u16) -> (Rect, Rect) {
    let lines = lines.min(area.height);
    let height = area.height - lines;
    (
        Rect { height, ..area },
        Rect {
            y: area.y + height,
            height: lines,
            ..area
        },
    )
}

fn table(
    screen: &ModelsScreen,
    view: &View,
    rows: &[Row],
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let title = match (&screen.listed, &screen.folder) {
        (None, _) => "models (looking for those in the cache)".to_owned(),
        (Some(listed), None) => format!("models, cache {}", listed.cache),
        (Some(_), Some(folder)) => format!("models, folder {}", folder.display()),
    };
    let inner = cells::panel(buf, area, &title, true, theme);
    let entries: Vec<Vec<Entry>> = rows.iter().map(|row| entry(row, theme)).collect();
    let shown = cells::table(
        buf,
        inner,
        &Table {
            headers: &["state", "name", "size", "licence", "about"],
            rows: &entries,
            widths: &[],
            selected: Some(screen.selected.min(rows.len().saturating_sub(1))),
            offset: 0,
            focus: true,
        },
        theme,
    );
    for (row, at) in shown.lines() {
        hits.add(at, Target::Place(0, 0, row));
    }
}

fn entry(row: &Row, theme: Theme) -> Vec<Entry> {
    let (mark, style) = match row.standing {
        Standing::Open => (theme.pick("●", "*"), theme.good()),
        Standing::Opening => (theme.pick("◌", "o"), theme.accent()),
        Standing::Failed => (theme.pick("✖", "x"), theme.error()),
        Standing::Here | Standing::Made => (theme.pick("○", "-"), theme.text()),
        Standing::Away | Standing::Unknown => (theme.pick("↓", "v"), theme.dim()),
    };
    vec![
        Entry::new(format!("{mark} {}", row.standing.word()), style),
        Entry::new(row.name.clone(), theme.text()),
        Entry::number(row.bytes.map_or("-".to_owned(), bytes), theme.text()),
        Entry::new(row.licence.clone(), theme.dim()),
        Entry::new(row.about.clone(), theme.dim()),
    ]
}

type Line = (String, Style);

/// What the facts say, for a dialogue in lines: verdicts as words, without glyphs.
pub(super) fn told(screen: &ModelsScreen, shared: &Shared) -> Vec<String> {
    let (title, lines) = side(screen, shared, Theme::no_colour());
    let words = |(text, _): Line| {
        let text = text.trim_start_matches(['✔', '✖', '+', 'x']);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let lines = lines.into_iter().map(words).filter(|line| !line.is_empty());
    std::iter::once(title).chain(lines).collect()
}

fn facts(screen: &ModelsScreen, view: &View, row: Option<&Row>, area: Rect, buf: &mut Buffer) {
    let theme = view.theme;
    let (mut title, mut lines) = side(screen, view.shared, *theme);
    let facts = matches!(screen.side, Side::Facts);
    if let Some(row) = row.filter(|row| facts && row.standing != Standing::Open) {
        let heading = |text: &str| (text.to_owned(), theme.dim());
        let mut selected = selected(row, *theme);
        // What goes on or went wrong comes first, what could be opened instead after it.
        let news = matches!(
            view.shared.model,
            ModelState::Loading { .. } | ModelState::Failed { .. }
        );
        if news {
            lines.extend([heading(""), heading("selected:")]);
            lines.append(&mut selected);
        } else {
            let open = std::mem::replace(&mut title, "selected".to_owned());
            selected.extend([heading(""), heading(&format!("{open}:"))]);
            selected.append(&mut lines);
            lines = selected;
        }
    }
    let wide = usize::from(area.width.saturating_sub(2));
    let wrapped: Vec<Line> = lines
        .into_iter()
        .flat_map(|(text, style)| {
            let text = cells::prose(&text, theme.ascii);
            fold(&text, wide).into_iter().map(move |line| (line, style))
        })
        .collect();
    let most = wrapped
        .len()
        .saturating_sub(area.height.saturating_sub(2).into());
    screen.most.set(most);
    let more = if most > 0 { "; ctrl-d: more" } else { "" };
    let title = cells::prose(&format!("{title}{more}"), theme.ascii);
    let inner = pen::panel(area, &title, theme, buf);
    for (i, (text, style)) in wrapped
        .iter()
        .skip(screen.scroll.min(most))
        .take(inner.height.into())
        .enumerate()
    {
        pen::line(inner, i as u16, text, *style, buf);
    }
}

/// The title and the lines of what is open, compared or checked.
fn side(screen: &ModelsScreen, shared: &Shared, theme: Theme) -> (String, Vec<Line>) {
    match (&screen.side, &shared.model) {
        (_, ModelState::Loading { name }) => {
            let text = format!("{name} is being opened; the screens go on when it is there");
            ("opening".to_owned(), vec![(text, theme.text())])
        }
        (_, ModelState::Failed { name, why }) => {
            ("could not be opened".to_owned(), failed(name, why, theme))
        }
        (_, ModelState::None) => {
            let text =
                "enter opens the selected model; `toy` needs nothing and opens at once".to_owned();
            ("no model".to_owned(), vec![(text, theme.text())])
        }
        (Side::Facts, ModelState::Ready(facts)) => {
            ("open model".to_owned(), opened(screen, facts, theme))
        }
        (Side::Compared { with, result }, ModelState::Ready(facts)) => {
            let title = format!("configs: {} beside {with} (esc closes)", facts.name);
            (title, compared(result, theme))
        }
        (Side::Checked(result), ModelState::Ready(facts)) => (
            format!("{} held against itself (esc closes)", facts.name),
            checked(result, theme),
        ),
    }
}

/// What is known of a model that is not open, and what enter does with it.
fn selected(row: &Row, theme: Theme) -> Vec<Line> {
    let size = row.bytes.map_or("unknown".to_owned(), bytes);
    let enter = match row.standing {
        Standing::Away => format!("fetches it first ({size}), then opens it"),
        Standing::Opening => "it is being opened".to_owned(),
        Standing::Failed => "tries again".to_owned(),
        _ => "opens it".to_owned(),
    };
    let mut lines = vec![(row.name.clone(), theme.title())];
    let facts = [
        ("about", row.about.clone()),
        ("licence", row.licence.clone()),
        ("size", size),
        ("enter", enter),
    ];
    lines.extend(facts.map(|(name, value)| (format!("{name:<NAME$}{value}"), theme.text())));
    lines
}

/// Columns of a fact's name.
const NAME: usize = 14;

/// A fact over as many lines as it needs, its later lines under its value.
fn fold(text: &str, wide: usize) -> Vec<String> {
    let named = text.len() > NAME && text.is_char_boundary(NAME) && text[..NAME].ends_with(' ');
    if !named || wide < NAME + 8 {
        return pen::wrapped(text, wide);
    }
    let (name, value) = text.split_at(NAME);
    let lines = pen::wrapped(value, wide - NAME).into_iter().enumerate();
    lines
        .map(|(i, line)| format!("{:<NAME$}{line}", if i == 0 { name } else { "" }))
        .collect()
}

fn failed(name: &str, why: &str, theme: Theme) -> Vec<Line> {
    let tries = [
        "what to try: select another model and press enter; `toy` always opens",
        "n fetches a model by name; `:folder DIR` lists the models of a folder",
        "`candlescope doctor` in a shell says whether cache and network are in order",
    ];
    let mut lines = vec![
        (name.to_owned(), theme.title()),
        (why.to_owned(), theme.error()),
        (String::new(), theme.text()),
    ];
    lines.extend(tries.map(|text| (text.to_owned(), theme.text())));
    lines
}

/// What is known at once, and what the worker found out.
fn opened(screen: &ModelsScreen, facts: &ModelFacts, theme: Theme) -> Vec<Line> {
    let fact = |(name, value): (&str, String)| (format!("{name:<NAME$}{value}"), theme.text());
    match &screen.described {
        Some(Ok(description)) => description.lines().into_iter().map(fact).collect(),
        other => {
            let c = &facts.config;
            let sizes = format!(
                "{} layers, width {}, {} heads, {} key-value heads of {}, MLP {}, vocabulary {}",
                c.n_layers, c.d_model, c.n_heads, c.n_kv_heads, c.d_head, c.d_mlp, c.vocab_size
            );
            let template = if facts.chat {
                "yes"
            } else {
                "none; prompts are bare text"
            };
            let mut lines: Vec<Line> = [
                ("model", facts.name.clone()),
                ("family", c.family.name().to_owned()),
                ("parameters", parameters(c.n_params() as u64)),
                ("sizes", sizes),
                ("context", format!("{} tokens", c.n_ctx)),
                ("chat template", template.to_owned()),
            ]
            .map(fact)
            .into();
            lines.push(match other {
                Some(Err(why)) => (format!("{:<NAME$}{why}", "fingerprint"), theme.error()),
                _ => (
                    format!("{:<NAME$}being computed from all weights", "fingerprint"),
                    theme.dim(),
                ),
            });
            lines
        }
    }
}

fn compared(result: &Result<Vec<crate::config::Difference>, String>, theme: Theme) -> Vec<Line> {
    match result {
        Err(why) => vec![(why.clone(), theme.error())],
        Ok(none) if none.is_empty() => {
            vec![(
                "no field of the config differs; the weights may".to_owned(),
                theme.good(),
            )]
        }
        Ok(found) => {
            let count = format!("{} fields differ: open model, then the other", found.len());
            let mut lines = vec![(count, theme.dim())];
            for one in found {
                lines.push((one.field.clone(), theme.title()));
                lines.push((format!("  {}", one.here), theme.category(1)));
                lines.push((format!("  {}", one.there), theme.category(0)));
            }
            lines
        }
    }
}

fn checked(
    result: &Result<Vec<crate::model::self_check::Finding>, String>,
    theme: Theme,
) -> Vec<Line> {
    match result {
        Err(why) => vec![(why.clone(), theme.error())],
        Ok(findings) => findings
            .iter()
            .map(|finding| {
                let (mark, word, style) = if finding.ok {
                    (theme.pick("✔", "+"), "ok", theme.good())
                } else {
                    (theme.pick("✖", "x"), "FAILED", theme.error())
                };
                (
                    format!("{mark} {word:<6} {}: {}", finding.name, finding.found),
                    style,
                )
            })
            .collect(),
    }
}
