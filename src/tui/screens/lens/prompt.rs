//! Drawing the prompt: its tokens as a strip around the cursor, or its turns with one of them in a field.
//!
//! Always: token texts pass through `cells`; what is left out at either end is marked; the tokens are things to click.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::TOKEN;
use super::editor::Editor;
use crate::tui::cells;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::Shared;

/// What kind of text is read, and with which key it is read otherwise.
fn kind(shared: &Shared) -> String {
    let template = (shared.model.facts()).is_some_and(|facts| facts.checkpoint.template.is_some());
    match (&shared.prompt.raw, shared.prompt.turns.len()) {
        (Some(_), _) if template => "raw text (P: as chat)".to_owned(),
        (Some(_), _) => "raw text".to_owned(),
        (None, _) if !template => "text".to_owned(),
        (None, 1) => "chat, 1 turn (P: raw text)".to_owned(),
        (None, n) => format!("chat, {n} turns (P: raw text)"),
    }
}

/// Where the cursor is; tokens count from 0.
fn place(shared: &Shared) -> String {
    match shared.tokens.len() {
        0 => "no tokens".to_owned(),
        n if shared.position + 1 >= n => format!("at token {}, the last", n - 1),
        n => format!("at token {} of 0 to {}", shared.position, n - 1),
    }
}

/// The prompt's tokens around the cursor, in a frame where there are lines for it.
pub(super) fn strip(view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let (shared, theme) = (view.shared, *view.theme);
    let title = format!("prompt: {}, {}", kind(shared), place(shared));
    let inner = if area.height < 3 {
        let head = match &shared.prompt.raw {
            Some(_) => "raw  ",
            None => "chat (P raw)  ",
        };
        let x = cells::put(buf, area, 1, 0, head, theme.dim());
        Rect {
            x: area.x + x,
            width: area.width - x,
            ..area
        }
    } else {
        cells::panel(buf, area, &title, false, theme)
    };
    let n = shared.tokens.len();
    if inner.width < 4 || inner.height == 0 {
        return;
    }
    if n == 0 {
        // What will be read once it can be.
        let text = cells::prose(shared.prompt.text(), theme.ascii);
        let text = cells::cut(&text, inner.width.into(), theme.ascii);
        cells::put(buf, inner, 0, 0, &text, theme.dim());
        return;
    }
    let room = usize::from(inner.width) - 2;
    let label = |at: usize| cells::visible(&shared.tokens[at].text, theme.ascii);
    let cursor = shared.position.min(n - 1);
    let more = theme.pick("…", "~");
    let from = first(cursor, room * 2 / 3, |at| cells::width(&label(at)) + 1);
    let mut x = 0;
    if from > 0 {
        x = cells::put(buf, inner, 0, 0, more, theme.dim()) + 1;
    }
    for at in from..n {
        let style = if at == cursor {
            theme.cursor()
        } else {
            theme.text()
        };
        let left = usize::from((inner.width - 2).saturating_sub(x));
        let text = label(at);
        if left == 0 || (cells::width(&text) > left && at != cursor) {
            cells::put(buf, inner, inner.width - 1, 0, more, theme.dim());
            break;
        }
        let end = cells::put(
            buf,
            inner,
            x,
            0,
            &cells::cut(&text, left, theme.ascii),
            style,
        );
        let place = Rect {
            x: inner.x + x,
            width: end - x,
            height: 1,
            ..inner
        };
        hits.add(place, Target::Place(TOKEN, at, 0));
        x = end + 1;
    }
}

/// The first token of a strip: as many before the cursor as fit into `room`.
fn first(cursor: usize, room: usize, wide: impl Fn(usize) -> usize) -> usize {
    let mut used = 0;
    let before = (0..cursor).rev().take_while(|at| {
        used += wide(*at);
        used <= room
    });
    cursor - before.count()
}

/// The turns, the one that is edited as a field; text that the next key replaces is inverted.
pub(super) fn edited(editor: &Editor, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let how = if editor.fresh() {
        "typing replaces it, left edits it"
    } else {
        "enter reads it, alt-enter begins a line, ctrl-u empties it"
    };
    let title = match editor.turn() {
        None => format!("prompt, raw text: {how}"),
        Some(_) if editor.turns().len() > 1 => format!("prompt: {how}, tab the next turn"),
        Some(_) => format!("prompt: {how}"),
    };
    let inner = cells::panel(buf, area, &title, true, theme);
    let draw = |field: Rect, buf: &mut Buffer| {
        editor.field().draw(buf, field, theme, true);
        if editor.fresh() {
            invert(field, buf, view);
        }
    };
    let Some(turn) = editor.turn() else {
        return draw(inner, buf);
    };
    let others = editor.turns().len().saturating_sub(1) as u16;
    let high = inner.height.saturating_sub(others).max(1);
    let mut y = 0;
    for (i, message) in editor.turns().iter().enumerate() {
        let role = cells::fit(&cells::prose(&message.role, theme.ascii), 10, theme.ascii);
        let style = if i == turn {
            theme.accent()
        } else {
            theme.dim()
        };
        let x = cells::put(buf, inner, 0, y, &role, style);
        if i == turn {
            let field = Rect {
                x: inner.x + x,
                y: inner.y.saturating_add(y),
                width: inner.width.saturating_sub(x),
                height: high.min(inner.height.saturating_sub(y)),
            };
            draw(field, buf);
            y += high;
        } else {
            let room = usize::from(inner.width.saturating_sub(x));
            let text = cells::prose(&message.content, theme.ascii);
            let text = cells::fit(&text, room, theme.ascii);
            cells::put(buf, inner, x, y, &text, theme.text());
            y += 1;
        }
    }
}

/// Every line up to its last character, as selected text looks everywhere.
fn invert(area: Rect, buf: &mut Buffer, view: &View) {
    let area = area.intersection(buf.area);
    for y in area.top()..area.bottom() {
        let written = (area.left()..area.right())
            .rev()
            .find(|x| buf[(*x, y)].symbol() != " ");
        for x in area.left()..written.map_or(area.left(), |x| x + 1) {
            buf[(x, y)].set_style(view.theme.cursor());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_begins_where_what_is_before_the_cursor_still_fits() {
        assert_eq!(first(0, 10, |_| 4), 0);
        assert_eq!(first(2, 10, |_| 4), 0);
        assert_eq!(first(5, 10, |_| 4), 3);
        assert_eq!(first(5, 3, |_| 4), 5);
    }

    #[test]
    fn the_last_token_is_said_to_be_the_last() {
        let mut shared = Shared::default();
        assert_eq!(place(&shared), "no tokens");
        let token = |id| crate::tui::shared::Token {
            id,
            text: "x".into(),
        };
        shared.tokens = (0..5).map(token).collect();
        shared.position = 4;
        assert_eq!(place(&shared), "at token 4, the last");
        shared.position = 0;
        assert_eq!(place(&shared), "at token 0 of 0 to 4");
    }
}
