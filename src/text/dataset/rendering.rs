//! Conversations through the chat template, with what their row brings for it, and with the place of the row in every error.

use jiff::civil::DateTime;
use minijinja::Value;

use super::error::DataError;
use super::rows::{Row, Turn};
use crate::text::{ChatTemplate, TextError, Tokenizer, Vars};

/// The template with what one row brings for it.
pub(super) struct Chat<'a> {
    pub tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    marked: Option<&'a ChatTemplate>,
    vars: Vars,
    row: &'a Row,
}

impl<'a> Chat<'a> {
    /// `template` beside the same with its own marks, where it has some.
    pub fn new(
        tokenizer: &'a Tokenizer,
        (template, marked): (&'a ChatTemplate, Option<&'a ChatTemplate>),
        now: Option<DateTime>,
        row: &'a Row,
    ) -> Self {
        let mut vars = now.map_or_else(Vars::default, Vars::at);
        if let Some(tools) = &row.tools {
            vars.set("tools", tools);
        }
        for (name, value) in &row.kwargs {
            vars.set(name, value);
        }
        Self {
            tokenizer,
            template,
            marked,
            vars,
            row,
        }
    }

    pub fn render(&self, turns: &[Turn], add_generation_prompt: bool) -> Result<String, DataError> {
        self.with(self.template, turns, add_generation_prompt)
    }

    /// With the template's own marks around the assistant's words, where it has some.
    pub fn render_marked(&self, turns: &[Turn]) -> Result<Option<String>, DataError> {
        self.marked
            .map(|template| self.with(template, turns, false))
            .transpose()
    }

    fn with(
        &self,
        template: &ChatTemplate,
        turns: &[Turn],
        open: bool,
    ) -> Result<String, DataError> {
        let turns: Value = turns.iter().map(|turn| turn.value.clone()).collect();
        template
            .render_value(turns, open, &self.vars)
            .map_err(text_error(self.row))
    }

    pub fn ids(&self, text: &str) -> Result<Vec<u32>, DataError> {
        self.tokenizer
            .encode(text, false)
            .map_err(text_error(self.row))
    }
}

pub(super) fn text_error(row: &Row) -> impl Fn(TextError) -> DataError {
    let place = row.place.clone();
    move |source| DataError::Text {
        place: place.clone(),
        source,
    }
}
