//! Where a conversation's parts lie among its tokens.
//!
//! Directions are read at the last token of the user's instruction or at the template's tokens after it. That place
//! is found from byte offsets of the rendered text, never by searching for tokens, so it is exact or not given.

use std::ops::Range;

use super::chat::{ChatTemplate, Message, Vars};
use super::error::TextError;
use super::tokenizer::Tokenizer;

/// A rendered conversation as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatEncoding {
    /// The ids.
    pub ids: Vec<u32>,
    /// Index of the last token that holds something of the last user message; `None` if there is no user message,
    /// it is empty, or the template does not reproduce it.
    pub instruction_end: Option<usize>,
}

impl ChatEncoding {
    /// Indices of the template's tokens after the instruction; `None` where the instruction's end is not known.
    pub fn template_tail(&self) -> Option<Range<usize>> {
        self.instruction_end.map(|end| end + 1..self.ids.len())
    }
}

/// Renders and encodes a conversation. The template writes the special tokens, so none are added.
///
/// # Errors
/// Those of [`ChatTemplate::render`] and [`Tokenizer::encode`].
pub fn encode_chat(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    add_generation_prompt: bool,
    vars: &Vars,
) -> Result<ChatEncoding, TextError> {
    let text = template.render(messages, add_generation_prompt, vars)?;
    let end = instruction_end_byte(template, messages, add_generation_prompt, vars, &text);
    let tokens = tokenizer.encode_with_offsets(&text)?;
    let instruction_end = end.and_then(|end| {
        tokens
            .iter()
            .rposition(|(_, bytes)| bytes.start < end && bytes.start < bytes.end)
    });
    Ok(ChatEncoding {
        ids: tokens.into_iter().map(|(id, _)| id).collect(),
        instruction_end,
    })
}

/// The byte after the last user message's content in the rendered `text`.
///
/// The conversation is rendered again with a mark after the content. The mark's place counts only if the text around
/// it is the text without it; a template that trims its messages is met by marking before the trailing whitespace.
fn instruction_end_byte(
    template: &ChatTemplate,
    messages: &[Message],
    add_generation_prompt: bool,
    vars: &Vars,
    text: &str,
) -> Option<usize> {
    let user = messages.iter().rposition(|m| m.role == "user")?;
    let content = &messages[user].content;
    let trimmed = content.trim_end();
    if trimmed.is_empty() {
        return None;
    }
    // A private-use character that occurs nowhere else.
    let mark = ('\u{E000}'..='\u{F8FF}').find(|c| !text.contains(*c) && !content.contains(*c))?;
    let mut marked = messages.to_vec();
    [content.len(), trimmed.len()].into_iter().find_map(|at| {
        marked[user].content = format!("{}{mark}{}", &content[..at], &content[at..]);
        let rendered = template.render(&marked, add_generation_prompt, vars).ok()?;
        let end = rendered.find(mark)?;
        let unmarked = [&rendered[..end], &rendered[end + mark.len_utf8()..]];
        let same = text.len() == unmarked[0].len() + unmarked[1].len()
            && text.starts_with(unmarked[0])
            && text.ends_with(unmarked[1]);
        same.then_some(end)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn end_of<'a>(text: &'a str, source: &str, messages: &[Message]) -> Option<&'a str> {
        let template = ChatTemplate::new(source, "", "").unwrap();
        assert_eq!(
            template.render(messages, true, &Vars::default()).unwrap(),
            text
        );
        instruction_end_byte(&template, messages, true, &Vars::default(), text)
            .map(|end| &text[..end])
    }

    #[test]
    fn the_end_of_the_content_is_found_with_and_without_trimming() {
        let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}A:";
        let trimming =
            "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}A:";
        let messages = [
            Message::user("hi"),
            Message::new("assistant", "hi"),
            Message::user(" hi ? \n"),
        ];
        assert_eq!(
            end_of(
                "<user>hi</><assistant>hi</><user> hi ? \n</>A:",
                plain,
                &messages
            ),
            Some("<user>hi</><assistant>hi</><user> hi ? \n")
        );
        assert_eq!(
            end_of(
                "<user>hi</><assistant>hi</><user>hi ?</>A:",
                trimming,
                &messages
            ),
            Some("<user>hi</><assistant>hi</><user>hi ?")
        );
    }

    #[test]
    fn a_template_that_rewrites_the_content_gives_no_position() {
        assert_eq!(
            end_of(
                "2",
                "{{ messages[0].content | length }}",
                &[Message::user("hi")]
            ),
            None
        );
        assert_eq!(
            end_of(
                "hihi",
                "{{ messages[0].content * 2 }}",
                &[Message::user("hi")]
            ),
            None
        );
        assert_eq!(
            end_of("", "{{ messages[0].content }}", &[Message::user("")]),
            None
        );
        assert_eq!(
            end_of(
                "x",
                "{{ messages[0].content }}",
                &[Message::new("system", "x")]
            ),
            None
        );
    }
}
