//! Rows to token ids and masks.
//!
//! - Strings are encoded as they are: the tokens that begin a text in front, the end token behind where none stands there.
//! - Conversations go through the chat template, which writes its own special tokens.
//! - A prompt is encoded by itself, with the generation prompt, and the ids that it shares with prompt and answer together are
//!   the prompt; all after them is the answer. An answer of a conversation ends with the token that ends the turn.
//! - [`Truncation`] says what becomes of rows over the limit. Rows of two answers, labelled ones and prompts are never cut:
//!   over the limit they are dropped, and counted.
//!
//! Which tokens of a conversation are the assistant's is in `assistant.rs`; what was dropped is told by
//! [`super::Encoded`].

use super::boundary::{end_of_turn, shared};
use super::error::DataError;
use super::options::{EncodeOptions, Supervise, Truncation};
use super::rendering::{Chat, text_error};
use super::rows::{Body, Row, Turn, Words};
use super::{Example, Labelled, Pair, PromptOnly, assistant};
use crate::text::{ChatTemplate, TextError, Tokenizer};

/// A row encoded, and whether it was shortened to the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut<T> {
    /// The row.
    pub item: T,
    /// Something was cut off.
    pub cut: bool,
}

/// Turns rows into token ids with a model's words.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    marked: Option<ChatTemplate>,
    pub(super) options: EncodeOptions,
    /// What begins a text.
    begin: Vec<u32>,
}

impl<'a> Encoder<'a> {
    /// # Errors
    /// [`TextError`], where the tokenizer refuses a probe or the template cannot be read with its marks.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        options: EncodeOptions,
    ) -> Result<Self, TextError> {
        let (with, bare) = (tokenizer.encode("a", true)?, tokenizer.encode("a", false)?);
        let begins = (0..with.len()).find(|&at| with[at..].starts_with(&bare));
        Ok(Self {
            tokenizer,
            template,
            marked: template.map(ChatTemplate::marked).transpose()?.flatten(),
            options,
            begin: with[..begins.unwrap_or(0)].to_vec(),
        })
    }

    /// A row for the language-model loss: of texts, messages, or prompt and completion.
    ///
    /// # Errors
    /// A [`DataError`] about the row.
    pub fn example(&self, row: &Row) -> Result<Cut<Example>, DataError> {
        self.supervisable(row)?;
        let (ids, mut supervised) = match &row.body {
            Body::Text(text) => {
                let ids = self.ended(self.plain(row, text)?);
                let all = vec![true; ids.len()];
                (ids, all)
            }
            Body::Messages(turns) => self.conversation(row, turns)?,
            Body::PromptCompletion(prompt, completion) => {
                let (ids, start, end) = self.halves(row, prompt, completion, "completion")?;
                let all = self.options.supervise == Supervise::All;
                let mask = (0..ids.len())
                    .map(|i| all || (start..end).contains(&i))
                    .collect();
                (ids, mask)
            }
            _ => {
                return Err(wrong_kind(
                    row,
                    "this loss",
                    "text, messages or prompt-completion",
                ));
            }
        };
        if let Some(first) = supervised.first_mut() {
            *first = false;
        }
        self.fitted(row, Example { ids, supervised })
    }

    /// A row of two answers.
    ///
    /// # Errors
    /// A [`DataError`] about the row.
    pub fn pair(&self, row: &Row) -> Result<Pair, DataError> {
        let Body::Preference(prompt, chosen, rejected, margin) = &row.body else {
            return Err(wrong_kind(row, "a preference loss", "preference"));
        };
        let same = || DataError::SameAnswers {
            place: row.place.clone(),
        };
        if chosen == rejected {
            return Err(same());
        }
        let (mut one, start_one, end_one) = self.halves(row, prompt, chosen, "chosen")?;
        let (mut two, start_two, end_two) = self.halves(row, prompt, rejected, "rejected")?;
        one.truncate(end_one);
        two.truncate(end_two);
        if one == two {
            return Err(same());
        }
        let start = start_one.min(start_two);
        self.within(row, one.len().max(two.len()))?;
        Ok(Pair {
            chosen: one.split_off(start),
            rejected: two.split_off(start),
            prompt: one,
            margin: *margin,
        })
    }

    /// Rows of an answer with its label; a row of two answers gives both, the chosen one first.
    ///
    /// # Errors
    /// A [`DataError`] about the row.
    pub fn labelled(&self, row: &Row) -> Result<Vec<Labelled>, DataError> {
        if let Body::Preference(..) = &row.body {
            let Pair {
                prompt,
                chosen,
                rejected,
                ..
            } = self.pair(row)?;
            let answers = [(chosen, true), (rejected, false)];
            let labelled = answers.map(|(completion, label)| Labelled {
                prompt: prompt.clone(),
                completion,
                label,
            });
            return Ok(labelled.into());
        }
        let Body::Unpaired(prompt, completion, label) = &row.body else {
            return Err(wrong_kind(
                row,
                "an unpaired loss",
                "unpaired or preference",
            ));
        };
        let (mut ids, start, end) = self.halves(row, prompt, completion, "completion")?;
        ids.truncate(end);
        self.within(row, ids.len())?;
        let completion = ids.split_off(start);
        Ok(vec![Labelled {
            prompt: ids,
            completion,
            label: *label,
        }])
    }

    /// The prompt of a row, whatever follows it there; of messages, what stands before a last turn of the assistant.
    ///
    /// # Errors
    /// A [`DataError`] about the row.
    pub fn prompt(&self, row: &Row) -> Result<PromptOnly, DataError> {
        let Some(prompt) = row.body.prompt() else {
            return Err(wrong_kind(row, "sampling", "rows with a prompt"));
        };
        let prompt = match self.spoken(&prompt, "user") {
            Words::Plain(text) => self.plain(row, &text)?,
            Words::Chat(turns) => {
                let chat = self.chat(row)?;
                chat.ids(&chat.render(&turns, true)?)?
            }
        };
        self.within(row, prompt.len())?;
        if prompt.is_empty() {
            return Err(DataError::EmptyAnswer {
                place: row.place.clone(),
                column: "prompt",
            });
        }
        Ok(PromptOnly { prompt })
    }

    /// A prompt in plain words, though the model has a template for turns.
    pub(super) fn bypasses_template(&self, row: &Row) -> bool {
        let plain = match &row.body {
            Body::Text(_) | Body::Messages(_) => false,
            Body::Prompt(prompt)
            | Body::PromptCompletion(prompt, _)
            | Body::Preference(prompt, ..)
            | Body::Unpaired(prompt, ..) => matches!(prompt, Words::Plain(_)),
        };
        plain && self.template.is_some() && !self.options.chat
    }

    /// Refuses a choice of targets that the row has no place for.
    fn supervisable(&self, row: &Row) -> Result<(), DataError> {
        let (method, expected) = match (self.options.supervise, &row.body) {
            (Supervise::Assistant, Body::Text(_) | Body::PromptCompletion(..)) => {
                ("supervise = assistant", "messages")
            }
            (Supervise::Completion, Body::Text(_)) => {
                ("supervise = completion", "prompt-completion or messages")
            }
            _ => return Ok(()),
        };
        Err(wrong_kind(row, method, expected))
    }

    fn conversation(&self, row: &Row, turns: &[Turn]) -> Result<(Vec<u32>, Vec<bool>), DataError> {
        match self.options.supervise {
            Supervise::Auto | Supervise::Assistant => assistant::mask(&self.chat(row)?, row, turns),
            Supervise::All => {
                let chat = self.chat(row)?;
                let ids = chat.ids(&chat.render(turns, false)?)?;
                let all = vec![true; ids.len()];
                Ok((ids, all))
            }
            Supervise::Completion => {
                let (prompt, answer) = turns.split_at(turns.len() - 1);
                if answer[0].role != "assistant" || prompt.is_empty() {
                    let chat = self.chat(row)?;
                    return Err(DataError::NothingSupervised {
                        place: row.place.clone(),
                        tokens: chat.ids(&chat.render(turns, false)?)?.len(),
                        why: "the conversation does not end with an assistant's turn after another",
                    });
                }
                let (ids, start, end) = self.halves(
                    row,
                    &Words::Chat(prompt.into()),
                    &Words::Chat(answer.into()),
                    "messages",
                )?;
                let mask = (0..ids.len()).map(|i| (start..end).contains(&i)).collect();
                Ok((ids, mask))
            }
        }
    }

    /// Ids of prompt and answer together, and where among them the answer lies.
    fn halves(
        &self,
        row: &Row,
        prompt: &Words,
        answer: &Words,
        column: &'static str,
    ) -> Result<(Vec<u32>, usize, usize), DataError> {
        let empty = match answer {
            Words::Plain(text) => text.trim().is_empty(),
            Words::Chat(turns) => turns.is_empty(),
        };
        if empty {
            return Err(DataError::EmptyAnswer {
                place: row.place.clone(),
                column,
            });
        }
        match (
            self.spoken(prompt, "user"),
            self.spoken(answer, "assistant"),
        ) {
            (Words::Plain(prompt), Words::Plain(answer)) => {
                let ids = self.ended(self.plain(row, &format!("{prompt}{answer}"))?);
                let start = shared(&self.plain(row, &prompt)?, &ids);
                let end = ids.len();
                Ok((ids, start, end))
            }
            (Words::Chat(mut turns), Words::Chat(answer)) => {
                let chat = self.chat(row)?;
                let before = turns.len();
                let opened = chat.ids(&chat.render(&turns, true)?)?;
                let prompt = if before == 0 {
                    String::new()
                } else {
                    chat.render(&turns, false)?
                };
                turns.extend(answer);
                let text = chat.render(&turns, false)?;
                assistant::preserved(row, &turns, before, &prompt, &text)?;
                let ids = chat.ids(&text)?;
                let start = shared(&opened, &ids);
                let end = start + end_of_turn(self.tokenizer, &ids[start..]);
                Ok((ids, start, end))
            }
            // `columns.rs` refuses such rows.
            _ => Err(wrong_kind(
                row,
                "a prompt with an answer",
                "both strings or both messages",
            )),
        }
    }

    /// Plain words as a turn, where that is wanted.
    fn spoken(&self, words: &Words, role: &str) -> Words {
        match words {
            Words::Plain(text) if self.options.chat => Words::Chat(vec![Turn::new(role, text)]),
            words => words.clone(),
        }
    }

    fn plain(&self, row: &Row, text: &str) -> Result<Vec<u32>, DataError> {
        let ids = self
            .tokenizer
            .encode(text, false)
            .map_err(text_error(row))?;
        // A text may spell its beginning token out.
        if ids.starts_with(&self.begin) {
            return Ok(ids);
        }
        Ok([self.begin.as_slice(), &ids].concat())
    }

    /// With an end token, unless one that ends a generation stands there.
    fn ended(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let stop = self.tokenizer.stop_ids();
        if ids.last().is_none_or(|last| !stop.contains(last)) {
            ids.extend(self.tokenizer.eos().or_else(|| stop.first().copied()));
        }
        ids
    }

    fn chat<'r>(&'r self, row: &'r Row) -> Result<Chat<'r>, DataError> {
        let template = self.template.ok_or_else(|| DataError::NoTemplate {
            place: row.place.clone(),
        })?;
        Ok(Chat::new(
            self.tokenizer,
            (template, self.marked.as_ref()),
            self.options.now,
            row,
        ))
    }

    /// To the limit, as the policy says, with something left to learn.
    fn fitted(&self, row: &Row, example: Example) -> Result<Cut<Example>, DataError> {
        let Example {
            mut ids,
            mut supervised,
        } = example;
        let (tokens, limit) = (ids.len(), self.options.max_length);
        if !supervised.contains(&true) {
            return Err(DataError::NothingSupervised {
                place: row.place.clone(),
                tokens,
                why: match row.body {
                    Body::Messages(_) => {
                        "it has no turn of the assistant (or the template leaves it out)"
                    }
                    _ => "it has no words after its first token",
                },
            });
        }
        if tokens <= limit {
            return Ok(Cut {
                item: Example { ids, supervised },
                cut: false,
            });
        }
        let before = supervised.iter().position(|s| *s).unwrap_or(tokens);
        match self.options.truncation {
            Truncation::Drop => {
                return Err(DataError::OverLimit {
                    place: row.place.clone(),
                    tokens,
                    limit,
                });
            }
            Truncation::KeepStart => {
                ids.truncate(limit);
                supervised.truncate(limit);
            }
            Truncation::KeepEnd => {
                ids.drain(..tokens - limit);
                supervised.drain(..tokens - limit);
                if let Some(first) = supervised.first_mut() {
                    *first = false;
                }
            }
        }
        if !supervised.contains(&true) {
            return Err(DataError::PromptTooLong {
                place: row.place.clone(),
                prompt: before,
                tokens,
                limit,
            });
        }
        Ok(Cut {
            item: Example { ids, supervised },
            cut: true,
        })
    }

    fn within(&self, row: &Row, tokens: usize) -> Result<(), DataError> {
        let limit = self.options.max_length;
        if tokens <= limit {
            return Ok(());
        }
        Err(DataError::OverLimit {
            place: row.place.clone(),
            tokens,
            limit,
        })
    }
}

fn wrong_kind(row: &Row, method: &'static str, expected: &'static str) -> DataError {
    DataError::Kind {
        file: row.place.file.to_string(),
        method,
        expected,
        found: row.body.kind().name(),
    }
}
