//! Chat templates: messages in, the text the model was trained on out.
//!
//! Rendering agrees with transformers' `apply_chat_template`, character by character, for the templates under
//! `tests/fixtures/templates`. The environment is in `jinja`.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use jiff::civil::DateTime;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};

use super::error::TextError;
use super::gguf_tokenizer::GgufMetadata;
use super::jinja::{BoundedOutput, Raised, environment, marked_source, normalise_source};
use super::tokenizer::{Tokenizer, hex_digest, write};
use super::tokenizer_folder::read_json;

/// Name of the template used unless tools ask for another.
const DEFAULT: &str = "default";
/// Name of the template used with tools, where a checkpoint has one.
const TOOL_USE: &str = "tool_use";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// The words.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }
}

/// What a template may be given besides messages: tools, documents, a date, switches such as `enable_thinking`.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    values: BTreeMap<String, Value>,
    /// The time that `strftime_now` prints; the machine's local time if `None`.
    pub now: Option<DateTime>,
}

impl Vars {
    /// No variables, and a fixed time: what a reproducible run uses.
    pub fn at(now: DateTime) -> Self {
        Self {
            now: Some(now),
            ..Self::default()
        }
    }

    /// Sets a variable from JSON text, keeping the order of keys (`tools`, `documents`, `enable_thinking`, …).
    ///
    /// # Errors
    /// [`TextError::TemplateVariable`] if the text is not JSON.
    pub fn set_json(&mut self, name: &str, json: &str) -> Result<&mut Self, TextError> {
        let value: Value = serde_json::from_str(json).map_err(|e| TextError::TemplateVariable {
            name: name.to_owned(),
            message: e.to_string(),
        })?;
        self.values.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Sets a variable from anything that serialises.
    pub fn set(&mut self, name: &str, value: impl Serialize) -> &mut Self {
        self.values
            .insert(name.to_owned(), Value::from(Serde(value)));
        self
    }

    fn has_tools(&self) -> bool {
        self.values.get("tools").is_some_and(Value::is_true)
    }
}

/// The chat template of a checkpoint, compiled.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    sources: BTreeMap<String, String>,
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// A template from its source and the spellings of the beginning and end tokens.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TextError> {
        let special = [("bos_token", bos), ("eos_token", eos)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        Self::with_tokens([(DEFAULT.to_owned(), source.to_owned())].into(), special)
    }

    /// Named templates and all special tokens by their variable names, as [`Tokenizer::special_tokens`] gives them.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`] for the first one that does not parse.
    pub fn with_tokens(
        sources: BTreeMap<String, String>,
        special: BTreeMap<String, String>,
    ) -> Result<Self, TextError> {
        let mut env = environment().map_err(|e| render_error(DEFAULT, &e))?;
        for (name, source) in &sources {
            env.add_template_owned(name.clone(), normalise_source(source))
                .map_err(|e| TextError::TemplateSyntax {
                    name: name.clone(),
                    line: e.line(),
                    message: e
                        .detail()
                        .map_or_else(|| e.kind().to_string(), str::to_owned),
                })?;
        }
        Ok(Self {
            env,
            sources,
            special,
        })
    }

    /// The template of a Hugging Face folder: `chat_template.jinja`, `chat_template.json`, or `chat_template` in
    /// `tokenizer_config.json` (a string or a list of named ones). `None` if there is none: a base model.
    ///
    /// # Errors
    /// [`TextError::Read`], [`TextError::Malformed`], [`TextError::TemplateSyntax`].
    pub fn from_folder(dir: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let jinja = dir.join("chat_template.jinja");
        let sources = if jinja.is_file() {
            let source = std::fs::read_to_string(&jinja).map_err(|source| TextError::Read {
                path: jinja,
                source,
            })?;
            named_templates(&source.into())
        } else {
            let mut sources = BTreeMap::new();
            for file in ["chat_template.json", "tokenizer_config.json"] {
                let json = read_json(&dir.join(file))?.unwrap_or_default();
                sources = named_templates(&json["chat_template"]);
                if !sources.is_empty() {
                    break;
                }
            }
            sources
        };
        Self::some(sources, tokenizer)
    }

    /// The template of a GGUF file: `tokenizer.chat_template` and, where present, `tokenizer.chat_template.tool_use`.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`].
    pub fn from_gguf(
        gguf: &impl GgufMetadata,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, TextError> {
        let named = [
            (DEFAULT, "tokenizer.chat_template"),
            (TOOL_USE, "tokenizer.chat_template.tool_use"),
        ];
        let sources = named
            .into_iter()
            .filter_map(|(name, key)| Some((name.to_owned(), gguf.str(key)?.to_owned())));
        Self::some(sources.collect(), tokenizer)
    }

    fn some(
        sources: BTreeMap<String, String>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, TextError> {
        if sources.is_empty() {
            return Ok(None);
        }
        Self::with_tokens(sources, tokenizer.special_tokens()).map(Some)
    }

    /// The text of a conversation. `add_generation_prompt` ends it where the assistant's answer begins.
    ///
    /// # Errors
    /// [`TextError::TemplateRaised`] if the template refuses these messages, [`TextError::TemplateRender`] if it
    /// fails, runs too long or writes too much.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        vars: &Vars,
    ) -> Result<String, TextError> {
        self.render_value(Value::from(Serde(messages)), add_generation_prompt, vars)
    }

    /// As [`ChatTemplate::render`], for messages with more than a role and a content (tool calls, reasoning), as JSON.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; [`TextError::TemplateVariable`] if the text is not JSON.
    pub fn render_json(
        &self,
        messages: &str,
        add_generation_prompt: bool,
        vars: &Vars,
    ) -> Result<String, TextError> {
        let messages = serde_json::from_str(messages).map_err(|e| TextError::TemplateVariable {
            name: "messages".to_owned(),
            message: e.to_string(),
        })?;
        self.render_value(messages, add_generation_prompt, vars)
    }

    /// The same template with what its `{% generation %}` blocks write put between [`super::jinja::MARKS`]; `None` if it has none.
    ///
    /// # Errors
    /// As [`ChatTemplate::with_tokens`].
    pub(super) fn marked(&self) -> Result<Option<Self>, TextError> {
        let marked = |(name, source): (&String, &String)| (name.clone(), marked_source(source));
        let sources: BTreeMap<String, String> = self.sources.iter().map(marked).collect();
        let unmarked =
            |(name, source): (&String, &String)| sources[name] == normalise_source(source);
        if self.sources.iter().all(unmarked) {
            return Ok(None);
        }
        Self::with_tokens(sources, self.special.clone()).map(Some)
    }

    pub(super) fn render_value(
        &self,
        messages: Value,
        add_generation_prompt: bool,
        vars: &Vars,
    ) -> Result<String, TextError> {
        let name = self.choose(vars);
        let mut context: BTreeMap<String, Value> = self
            .special
            .iter()
            .map(|(name, token)| (name.clone(), Value::from(token.clone())))
            .collect();
        // Present though none: templates ask `tools is none`.
        context.extend(["tools", "documents"].map(|name| (name.to_owned(), Value::from(()))));
        context.extend(vars.values.clone());
        context.insert("messages".to_owned(), messages);
        context.insert(
            "add_generation_prompt".to_owned(),
            add_generation_prompt.into(),
        );
        context.insert("strftime_now".to_owned(), strftime_now(vars.now));

        let mut output = BoundedOutput::default();
        let template = self
            .env
            .get_template(name)
            .map_err(|e| render_error(name, &e))?;
        template
            .render_captured_to(context, &mut output)
            .map_err(|e| render_error(name, &e))?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }

    fn choose(&self, vars: &Vars) -> &str {
        if vars.has_tools() && self.sources.contains_key(TOOL_USE) {
            return TOOL_USE;
        }
        if self.sources.contains_key(DEFAULT) {
            return DEFAULT;
        }
        self.sources.keys().next().map_or(DEFAULT, String::as_str)
    }

    /// Source of the template used without tools.
    pub fn source(&self) -> &str {
        self.sources
            .get(self.choose(&Vars::default()))
            .map_or("", String::as_str)
    }

    /// SHA-256, in hex, of all named sources and the special tokens they are given.
    pub fn hash(&self) -> String {
        let canonical = serde_json::json!({ "sources": self.sources, "special": self.special });
        hex_digest(canonical.to_string().as_bytes())
    }

    /// Writes the template where transformers looks for it: `chat_template.jinja`, or, if there are several, into
    /// `tokenizer_config.json`, which must have been written before.
    ///
    /// # Errors
    /// [`TextError::Write`], [`TextError::Read`], [`TextError::Malformed`].
    pub fn save(&self, dir: &Path) -> Result<(), TextError> {
        if self.sources.len() == 1 {
            return write(&dir.join("chat_template.jinja"), self.source());
        }
        let path = dir.join("tokenizer_config.json");
        let mut config = read_json(&path)?.unwrap_or_else(|| serde_json::json!({}));
        let list: Vec<_> = self
            .sources
            .iter()
            .map(|(name, source)| serde_json::json!({"name": name, "template": source}))
            .collect();
        config["chat_template"] = list.into();
        write(&path, &format!("{config:#}\n"))
    }
}

/// A `chat_template` value: a string, or a list of `{name, template}`.
fn named_templates(value: &serde_json::Value) -> BTreeMap<String, String> {
    if let Some(source) = value.as_str() {
        return [(DEFAULT.to_owned(), source.to_owned())].into();
    }
    let named = |entry: &serde_json::Value| {
        Some((
            entry["name"].as_str()?.to_owned(),
            entry["template"].as_str()?.to_owned(),
        ))
    };
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(named)
        .collect()
}

/// `strftime_now(format)`: the given time, or the machine's.
fn strftime_now(now: Option<DateTime>) -> Value {
    Value::from_function(move |format: String| -> Result<String, Error> {
        let failed =
            |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}"));
        match now {
            Some(now) => jiff::fmt::strtime::format(&format, now).map_err(failed),
            None => jiff::fmt::strtime::format(&format, &jiff::Zoned::now()).map_err(failed),
        }
    })
}

fn render_error(name: &str, error: &Error) -> TextError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TextError::TemplateRaised {
                name: name.to_owned(),
                message: message.clone(),
            };
        }
        source = inner.source();
    }
    let cause = error.source().map_or(String::new(), |s| format!(": {s}"));
    let message = match error.detail() {
        Some(detail) => format!("{}: {detail}{cause}", error.kind()),
        None => format!("{}{cause}", error.kind()),
    };
    TextError::TemplateRender {
        name: name.to_owned(),
        line: error.line(),
        message,
    }
}
