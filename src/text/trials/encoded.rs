//! A trial as tokens: the conversation up to the answer, and each option as the assistant's whole turn after it.
//!
//! What always holds: every option follows the same tokens, and ends with the token that ends the turn, so that an option
//! which is the beginning of another is not favoured by stopping early.

use super::Trial;
use crate::text::dataset::{end_of_turn, shared};
use crate::text::{ChatTemplate, Message, TextError, Tokenizer, Vars};

/// A trial with options, as one tokenizer and template write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTrial {
    /// What every option follows.
    pub prompt: Vec<u32>,
    /// The tokens of each option, the end of the turn included.
    pub options: Vec<Vec<u32>>,
}

impl Trial {
    /// The conversation up to the answer; bare text where there is no template.
    ///
    /// # Errors
    /// A template that refuses the conversation, a text that cannot be encoded.
    pub fn prompt_ids(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Vec<u32>, TextError> {
        written(tokenizer, template, &self.messages, None)
    }

    /// The conversation and its options as tokens.
    ///
    /// # Errors
    /// As [`Self::prompt_ids`].
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<EncodedTrial, TextError> {
        let mut prompt = self.prompt_ids(tokenizer, template)?;
        let whole = self
            .options
            .iter()
            .map(|option| written(tokenizer, template, &self.messages, Some(option)))
            .collect::<Result<Vec<_>, _>>()?;
        // A token may reach over the end of the prompt in one option and not in another.
        let start = (whole.iter().map(|ids| shared(&prompt, ids)))
            .min()
            .unwrap_or(prompt.len());
        prompt.truncate(start);
        let options = whole
            .iter()
            .map(|ids| ended(tokenizer, &ids[start..]))
            .collect();
        Ok(EncodedTrial { prompt, options })
    }
}

/// The ids of a conversation that waits for an answer, or of one that has it.
fn written(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    messages: &[Message],
    answer: Option<&str>,
) -> Result<Vec<u32>, TextError> {
    let Some(template) = template else {
        let turns: Vec<&str> = messages.iter().map(|turn| turn.content.as_str()).collect();
        let text = format!("{}\n{}", turns.join("\n\n"), answer.unwrap_or_default());
        return tokenizer.encode(&text, true);
    };
    let mut turns = messages.to_vec();
    turns.extend(answer.map(|answer| Message::new("assistant", answer)));
    let text = template.render(&turns, answer.is_none(), &Vars::default())?;
    tokenizer.encode(&text, false)
}

/// An answer up to the token that ends the turn, which is put there where the template writes none.
fn ended(tokenizer: &Tokenizer, answer: &[u32]) -> Vec<u32> {
    let mut answer = answer[..end_of_turn(tokenizer, answer)].to_vec();
    let stop = tokenizer.stop_ids();
    if !answer.last().is_some_and(|id| stop.contains(id)) {
        answer.extend(stop.first());
    }
    answer
}
