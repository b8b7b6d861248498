//! What all screens see: the model, the prompt, the cursor, the interventions.
//!
//! Always: plain data, no tensor and no lock; only [`super::app`] and a screen's own key handling change it. A change of
//! model, prompt or interventions moves [`Shared::version`], by which a screen knows that what it shows is old.

use std::sync::Arc;

use crate::audit::result::Audit;
use crate::config::ModelConfig;
use crate::hooks::Edit;
use crate::model::{Checkpoint, Fingerprint};
use crate::pipeline::stations::Stations;
use crate::text::{ChatTemplate, Message, Tokenizer, Vars, encode_chat};

/// What is known of the model that is open.
#[derive(Clone)]
pub struct ModelFacts {
    /// What the user called it.
    pub name: String,
    /// Its config.
    pub config: ModelConfig,
    /// Hashes, once they are computed.
    pub fingerprint: Option<Fingerprint>,
    /// Whether it has a chat template.
    pub chat: bool,
    /// The checkpoint, for encoding; passes belong to the worker.
    pub checkpoint: Arc<Checkpoint>,
}

/// Whether a model is open.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum ModelState {
    /// None was asked for.
    None,
    /// Being opened.
    Loading {
        /// Its name.
        name: String,
    },
    /// Open.
    Ready(ModelFacts),
    /// It could not be opened.
    Failed {
        /// Its name.
        name: String,
        /// Why, and what to try.
        why: String,
    },
}

impl ModelState {
    /// The open model.
    pub fn facts(&self) -> Option<&ModelFacts> {
        match self {
            Self::Ready(facts) => Some(facts),
            _ => None,
        }
    }

    /// Its name, open or not.
    pub fn name(&self) -> &str {
        match self {
            Self::None => "no model",
            Self::Loading { name } | Self::Failed { name, .. } => name,
            Self::Ready(facts) => &facts.name,
        }
    }
}

/// Whether a run is open: its checkpoints are what several screens look at.
#[derive(Clone, Default)]
pub enum RunState {
    /// None was asked for.
    #[default]
    None,
    /// Being looked at.
    Looking {
        /// Its folder.
        path: String,
    },
    /// Open.
    Ready(Arc<Stations>),
    /// It is none, or cannot be read.
    Failed {
        /// Its folder.
        path: String,
        /// Why, naming the folder.
        why: String,
    },
}

impl RunState {
    /// The open run.
    pub fn stations(&self) -> Option<&Arc<Stations>> {
        match self {
            Self::Ready(stations) => Some(stations),
            _ => None,
        }
    }
}

/// An audit that another screen wants shown in the audit screen, at one of its signals.
#[derive(Clone)]
pub struct Drill {
    /// The audit.
    pub audit: Arc<Audit>,
    /// Where it lies.
    pub file: String,
    /// The signal's id.
    pub signal: String,
}

/// What the model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Chat turns; rendered with the model's template where it has one.
    pub turns: Vec<Message>,
    /// Text that is read as it is, instead of the turns.
    pub raw: Option<String>,
}

impl Prompt {
    /// One user turn.
    pub fn user(text: &str) -> Self {
        Self {
            turns: vec![Message::user(text)],
            raw: None,
        }
    }

    /// The last user turn, or the raw text: what a one-line editor edits.
    pub fn text(&self) -> &str {
        match &self.raw {
            Some(raw) => raw,
            None => self.turns.last().map_or("", |turn| &turn.content),
        }
    }

    /// Its tokens for a checkpoint.
    ///
    /// # Errors
    /// A template that raises, a text that cannot be encoded.
    pub fn encode(&self, checkpoint: &Checkpoint) -> Result<Vec<u32>, String> {
        self.encode_with(&checkpoint.tokenizer, checkpoint.template.as_ref())
    }

    /// Its tokens in these words; without a template the bare text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Vec<u32>, String> {
        let encoded = match template.filter(|_| self.raw.is_none()) {
            Some(template) => {
                let vars = Vars::default();
                encode_chat(tokenizer, template, &self.turns, true, &vars).map(|chat| chat.ids)
            }
            None => tokenizer.encode(self.text(), true),
        };
        encoded.map_err(|error| error.to_string())
    }
}

/// A token of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its text, hostile until it went through [`super::cells::visible`].
    pub text: String,
}

/// An intervention: a chip in the header.
#[derive(Clone, Debug)]
pub struct Intervention {
    /// What the chip says, such as `⊖ refusal@12`.
    pub label: String,
    /// The options that do the same on the command line, such as `["--ablate", "refusal.safetensors"]`.
    pub options: Vec<String>,
    /// What is done.
    pub edits: Vec<Edit>,
    /// Whether it is applied.
    pub on: bool,
}

/// What all screens see.
pub struct Shared {
    /// The model.
    pub model: ModelState,
    /// What it reads.
    pub prompt: Prompt,
    /// The prompt's tokens for the open model; empty while there is none, or the prompt cannot be encoded.
    pub tokens: Vec<Token>,
    /// Why the prompt cannot be encoded.
    pub prompt_error: Option<String>,
    /// The token that is looked at in every screen.
    pub position: usize,
    /// The layer that is looked at in every screen.
    pub layer: usize,
    /// What is done to the model.
    pub interventions: Vec<Intervention>,
    /// The run whose checkpoints are looked at.
    pub run: RunState,
    /// For the audit screen, which takes it.
    pub drill: Option<Drill>,
    undone: Vec<Vec<Intervention>>,
    done: Vec<Vec<Intervention>>,
    version: u64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            model: ModelState::None,
            prompt: Prompt::user("How do I pick a lock?"),
            tokens: Vec::new(),
            prompt_error: None,
            position: 0,
            layer: 0,
            interventions: Vec::new(),
            run: RunState::None,
            drill: None,
            undone: Vec::new(),
            done: Vec::new(),
            version: 0,
        }
    }
}

impl Shared {
    /// Moves when model, prompt or interventions change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The edits of all interventions that are on.
    pub fn edits(&self) -> Vec<Edit> {
        let on = self.interventions.iter().filter(|chip| chip.on);
        on.flat_map(|chip| chip.edits.iter().cloned()).collect()
    }

    /// The options of all interventions that are on, quoted for a shell.
    pub fn options(&self) -> String {
        let on = self.interventions.iter().filter(|chip| chip.on);
        on.flat_map(|chip| &chip.options)
            .flat_map(|option| [" ".to_string(), quoted(option)])
            .collect()
    }

    /// Number of layers of the open model, at least 1.
    pub fn layers(&self) -> usize {
        self.model
            .facts()
            .map_or(1, |facts| facts.config.n_layers.max(1))
    }

    /// Another model, or another state of one.
    pub fn set_model(&mut self, model: ModelState) {
        self.model = model;
        if let Some(facts) = self.model.facts() {
            self.layer = facts.config.n_layers.saturating_sub(1);
            // Edits are made for one model's widths and layers.
            self.interventions.clear();
            self.done.clear();
            self.undone.clear();
        }
        self.read_prompt();
    }

    /// Another prompt.
    pub fn set_prompt(&mut self, prompt: Prompt) {
        self.prompt = prompt;
        self.read_prompt();
    }

    fn read_prompt(&mut self) {
        self.version += 1;
        self.prompt_error = None;
        self.tokens.clear();
        if let Some(facts) = self.model.facts() {
            match self.prompt.encode(&facts.checkpoint) {
                Ok(ids) => {
                    let words = &facts.checkpoint.tokenizer;
                    let token = |id| Token {
                        id,
                        text: words.token(id),
                    };
                    self.tokens = ids.into_iter().map(token).collect();
                }
                Err(why) => self.prompt_error = Some(why),
            }
        }
        self.position = self.tokens.len().saturating_sub(1);
    }

    /// Changes the interventions; [`Self::undo`] takes it back.
    pub fn intervene(&mut self, change: impl FnOnce(&mut Vec<Intervention>)) {
        self.done.push(self.interventions.clone());
        self.undone.clear();
        change(&mut self.interventions);
        self.version += 1;
    }

    /// Takes the last change of the interventions back; false if there is none.
    pub fn undo(&mut self) -> bool {
        let Some(before) = self.done.pop() else {
            return false;
        };
        self.undone
            .push(std::mem::replace(&mut self.interventions, before));
        self.version += 1;
        true
    }

    /// Makes a change again that was taken back.
    pub fn redo(&mut self) -> bool {
        let Some(after) = self.undone.pop() else {
            return false;
        };
        self.done
            .push(std::mem::replace(&mut self.interventions, after));
        self.version += 1;
        true
    }

    /// The prompt as the command line takes it: positional text, or `--raw`.
    pub fn prompt_argument(&self) -> String {
        let raw = if self.prompt.raw.is_some() {
            "--raw "
        } else {
            ""
        };
        format!("{raw}{}", quoted(self.prompt.text()))
    }
}

/// A word for a shell. What acts on a terminal is escaped, for which bash's and zsh's `$'…'` is needed.
pub fn quoted(word: &str) -> String {
    if word.chars().any(|c| c.is_control() && c != '\n') {
        let escaped: String = word
            .chars()
            .map(|c| match c {
                '\'' | '\\' => format!("\\{c}"),
                c if c.is_ascii_control() => format!("\\x{:02x}", c as u32),
                c if c.is_control() => format!("\\u{:04x}", c as u32),
                c => c.to_string(),
            })
            .collect();
        return format!("$'{escaped}'");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+*".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
