//! What lies on top while something is written or picked: the prompt, an intervention, another token.
//!
//! Always: pure, and drawable at any size.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::picker::{ENTRIES, Picker};
use super::{GenerateScreen, Mode, acts};
use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::View;
use crate::tui::screens::lens::editor::Editor;

pub(super) fn draw(screen: &GenerateScreen, view: &View, area: Rect, buf: &mut Buffer) {
    match &screen.mode {
        Mode::Keys => {}
        Mode::Prompt(editor) => prompt(editor, view, area, buf),
        Mode::Pick(picker) => pick(picker, view, area, buf),
        Mode::Branch(selected) => branch(screen, *selected, view, area, buf),
    }
}

/// Which turn is written, and the others around it in a line each.
fn prompt(editor: &Editor, view: &View, area: Rect, buf: &mut Buffer) {
    let ascii = view.theme.ascii;
    let turns = editor.turns();
    let title = match editor.turn().and_then(|at| Some((at, turns.get(at)?))) {
        Some((at, turn)) => format!("prompt: {} turn, {} of {}", turn.role, at + 1, turns.len()),
        None => "prompt: raw text, read as it is".to_owned(),
    };
    let others = if editor.turn().is_some() && turns.len() > 1 {
        turns.len().min(6) as u16
    } else {
        0
    };
    let inner = pen::panel(
        cells::popup(area, 78, 9 + others),
        &cells::prose(&title, ascii),
        view.theme,
        buf,
    );
    let current = editor.turn().unwrap_or(0);
    let from = current.saturating_sub(usize::from(others) / 2);
    let from = from.min(turns.len().saturating_sub(usize::from(others)));
    let list = turns.iter().enumerate().skip(from).take(others.into());
    for (row, (i, turn)) in list.enumerate() {
        let mark = if i == current {
            view.theme.pick("▸", ">")
        } else {
            " "
        };
        let words = if i == current {
            "(below)"
        } else {
            &turn.content
        };
        let text = cells::prose(&format!("{mark} {:<9} {words}", turn.role), ascii);
        let text = cells::fit(&text, inner.width.into(), ascii);
        let style = if i == current {
            view.theme.accent()
        } else {
            view.theme.dim()
        };
        pen::line(inner, row as u16, &text, style, buf);
    }
    let shown = others.min(inner.height);
    let below = Rect {
        y: inner.y + shown,
        height: inner.height.saturating_sub(shown + 1),
        ..inner
    };
    editor.field().draw(buf, below, *view.theme, true);
    let keys = "alt-enter line  tab next turn  ctrl-n new turn  ctrl-t system turn";
    pen::line(
        inner,
        inner.height.saturating_sub(1),
        &cells::fit(keys, inner.width.into(), ascii),
        view.theme.dim(),
        buf,
    );
}

fn rows(title: &str, rows: &[(String, bool)], view: &View, area: Rect, buf: &mut Buffer) {
    let at = cells::popup(area, 84, rows.len() as u16 + 2);
    let inner = pen::panel(at, title, view.theme, buf);
    for (i, (text, selected)) in rows.iter().enumerate() {
        let style = if *selected {
            view.theme.cursor()
        } else {
            view.theme.text()
        };
        let text = cells::fit(
            &cells::prose(text, view.theme.ascii),
            inner.width.into(),
            view.theme.ascii,
        );
        pen::line(inner, i as u16, &text, style, buf);
    }
}

fn pick(picker: &Picker, view: &View, area: Rect, buf: &mut Buffer) {
    if let Some(field) = &picker.file {
        let at = cells::popup(area, 78, 4);
        let inner = pen::panel(
            at,
            "FILE or FILE:TENSOR; Enter takes it, Esc goes back",
            view.theme,
            buf,
        );
        field.draw(
            buf,
            Rect {
                height: inner.height.min(1),
                ..inner
            },
            *view.theme,
            true,
        );
        if let Some(wrong) = &picker.wrong {
            let text = cells::fit(
                &cells::prose(wrong, view.theme.ascii),
                inner.width.into(),
                view.theme.ascii,
            );
            pen::line(inner, 1, &text, view.theme.error(), buf);
        }
        return;
    }
    let mut lines: Vec<(String, bool)> = ENTRIES
        .iter()
        .enumerate()
        .map(|(i, (way, what))| (format!("{way:<7} {what}"), i == picker.selected))
        .collect();
    lines.push((String::new(), false));
    let (layer, last) = (picker.layer, picker.layers.saturating_sub(1));
    let does = match picker.selected {
        0 => format!("read before layer {layer} of 0 to {last}, taken out in all layers"),
        1 => format!("read before layer {layer} of 0 to {last}, and added there"),
        2 => "taken out in all layers".to_owned(),
        _ => format!("added before layer {layer} of 0 to {last}"),
    };
    lines.push((does, false));
    rows(
        "intervention: j/k choose, h/l layer, Enter adds it, Esc leaves",
        &lines,
        view,
        area,
        buf,
    );
}

fn branch(screen: &GenerateScreen, selected: usize, view: &View, area: Rect, buf: &mut Buffer) {
    let lines: Vec<(String, bool)> = acts::others(screen)
        .iter()
        .enumerate()
        .map(|(i, (id, text, log_prob))| {
            let p = 100.0 * f64::from(*log_prob).exp();
            let text = cells::visible(text, view.theme.ascii);
            (
                format!("{}  {text}  p {p:.2} %  id {id}", i + 1),
                i == selected,
            )
        })
        .collect();
    let title = format!(
        "instead of token {}: j/k or a digit, Enter branches, Esc leaves",
        screen.cursor
    );
    rows(&title, &lines, view, area, buf);
}
