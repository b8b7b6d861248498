//! Which tokens of a conversation are the assistant's.
//!
//! A template that marks them with `{% generation %}` is believed. Any other is rendered turn by turn: the text up to a turn
//! must be the beginning of the whole text, or the mask would be a guess, and the row is refused with the turn that broke it.
//! An answer begins where the generation prompt ends, and it ends with the token that ends the turn.

use super::boundary::{after, end_of_turn, shared};
use super::error::DataError;
use super::rendering::{Chat, text_error};
use super::rows::{Row, Turn};
use crate::text::jinja::MARKS;

/// Characters shown of texts that part.
const SHOWN: usize = 24;

/// Ids of a conversation and which of them are the assistant's.
pub(super) fn mask(
    chat: &Chat,
    row: &Row,
    turns: &[Turn],
) -> Result<(Vec<u32>, Vec<bool>), DataError> {
    let text = chat.render(turns, false)?;
    let ids = chat
        .tokenizer
        .encode(&text, false)
        .map_err(text_error(row))?;
    let spans = match chat.render_marked(turns)? {
        Some(marked) => marks(chat, row, &marked, &text, &ids)?,
        None => answers(chat, row, turns, &text, &ids)?,
    };
    let mut supervised = vec![false; ids.len()];
    for (start, end) in spans {
        supervised[start.min(end)..end].fill(true);
    }
    Ok((ids, supervised))
}

/// Spans of ids between the template's own marks.
fn marks(
    chat: &Chat,
    row: &Row,
    marked: &str,
    text: &str,
    ids: &[u32],
) -> Result<Vec<(usize, usize)>, DataError> {
    let refuse = |reason| DataError::Marks {
        place: row.place.clone(),
        reason,
    };
    if text.contains(MARKS) {
        return Err(refuse("the row itself holds U+FDD0 or U+FDD1"));
    }
    let (mut plain, mut edges) = (String::with_capacity(text.len()), Vec::new());
    for c in marked.chars() {
        match MARKS.iter().position(|mark| *mark == c) {
            Some(mark) if mark == edges.len() % 2 => edges.push(plain.len()),
            Some(_) => return Err(refuse("one lies inside another")),
            None => plain.push(c),
        }
    }
    if plain != text {
        return Err(refuse(
            "the text between them depends on their being followed",
        ));
    }
    let at = |end: usize| after(chat.tokenizer, &text[..end], ids).map_err(text_error(row));
    edges
        .chunks_exact(2)
        .map(|edge| Ok((at(edge[0])?, at(edge[1])?)))
        .collect()
}

/// Spans of ids that each assistant's turn adds.
fn answers(
    chat: &Chat,
    row: &Row,
    turns: &[Turn],
    text: &str,
    ids: &[u32],
) -> Result<Vec<(usize, usize)>, DataError> {
    let mut spans = Vec::new();
    let encode = |text: &str| chat.tokenizer.encode(text, false).map_err(text_error(row));
    let spoken = |(_, turn): &(usize, &Turn)| turn.role == "assistant";
    for (i, _) in turns.iter().enumerate().filter(spoken) {
        let opened = chat.render(&turns[..i], true)?;
        if i > 0 {
            preserved(row, turns, i, &chat.render(&turns[..i], false)?, text)?;
        }
        let closed = if i + 1 == turns.len() {
            text.to_owned()
        } else {
            chat.render(&turns[..=i], false)?
        };
        preserved(row, turns, i + 1, &closed, text)?;
        let start = shared(&encode(&opened)?, ids);
        let end = shared(&encode(&closed)?, ids);
        let start = start.min(end);
        spans.push((start, start + end_of_turn(chat.tokenizer, &ids[start..end])));
    }
    Ok(spans)
}

/// The text of the first `n` turns must be the beginning of the whole text.
pub(super) fn preserved(
    row: &Row,
    turns: &[Turn],
    n: usize,
    before: &str,
    text: &str,
) -> Result<(), DataError> {
    if text.starts_with(before) {
        return Ok(());
    }
    let same = before
        .char_indices()
        .zip(text.chars())
        .find(|((_, a), b)| a != b);
    let at = same.map_or(before.len().min(text.len()), |((at, _), _)| at);
    let excerpt = |text: &str| text[at..].chars().take(SHOWN).collect();
    Err(DataError::NotPrefixPreserving {
        place: row.place.clone(),
        turn: n + 1,
        role: turns
            .get(n)
            .map_or_else(String::new, |turn| turn.role.clone()),
        before: excerpt(before),
        after: excerpt(text),
    })
}
