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

pub(super) fn draw(screen: &GenerateScreen, view: &View, area: Rect, buf: &mut Buffer) {
    match &screen.mode {
        Mode::Keys => {}
        Mode::Prompt(field) => {
            let title = "prompt: Enter takes it, Alt-Enter begins a line, Esc leaves it";
            let inner = pen::panel(cells::popup(area, 78, 8), title, view.theme, buf);
            field.draw(buf, inner, *view.theme, true);
        }
        Mode::Pick(picker) => pick(picker, view, area, buf),
        Mode::Branch(selected) => branch(screen, *selected, view, area, buf),
    }
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
    let layer = format!(
        "layer {} of 0 to {}: a contrast is read and an addition made there; ablation acts in all",
        picker.layer,
        picker.layers.saturating_sub(1)
    );
    lines.push((layer, false));
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
