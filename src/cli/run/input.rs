//! What `run` is asked: a prompt, a file of messages, standard input, or line after line from a terminal.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::Context;
use serde::Serialize;

use super::Args;
use crate::{
    cli::{failure::Usage, interrupt},
    model::Checkpoint,
    text::{Message, Vars},
};

/// More than any context holds; what comes from a pipe may have no end.
const LONGEST: u64 = 16 << 20;

/// What is to be answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input {
    /// A user's prompt under a system message.
    Prompt {
        /// The prompt.
        prompt: String,
        /// The system message.
        system: Option<String>,
    },
    /// Text to continue.
    Raw(String),
    /// A conversation.
    Messages(Vec<Message>),
}

/// What the arguments ask for; `None` for a conversation on the terminal.
pub(super) fn read(args: &Args) -> anyhow::Result<Option<Input>> {
    if let Some(path) = &args.messages {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read messages from `{}`", path.display()))?;
        let messages: Vec<Message> = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not a list of messages", path.display()))?;
        if messages.is_empty() {
            anyhow::bail!("`{}` holds no messages", path.display());
        }
        return Ok(Some(Input::Messages(messages)));
    }
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None if io::stdin().is_terminal() && !args.raw => return Ok(None),
        None => standard_input()?,
    };
    if prompt.trim().is_empty() {
        return Err(Usage::new(
            "the prompt is empty",
            "give it as an argument or through a pipe; without a pipe, `candlescope run MODEL` starts a conversation",
        )
        .into());
    }
    Ok(Some(if args.raw {
        Input::Raw(prompt)
    } else {
        Input::Prompt {
            prompt,
            system: args.system.clone(),
        }
    }))
}

fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(LONGEST + 1)
        .read_to_string(&mut text);
    let read = read.context("cannot read the prompt from standard input")?;
    anyhow::ensure!(
        read as u64 <= LONGEST,
        "the prompt on standard input is longer than {LONGEST} bytes"
    );
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// The next line from the terminal; `None` at its end.
pub(super) fn line() -> anyhow::Result<Option<String>> {
    // Nobody to tell if the prompt sign cannot be shown.
    let _ = io::stderr().write_all(b"> ");
    let mut line = String::new();
    let read = interrupt::while_waiting(|| io::stdin().read_line(&mut line));
    match read.context("cannot read from the terminal")? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
    }
}

impl Input {
    /// An empty conversation, under a system message if there is one.
    pub(super) fn conversation(system: Option<&str>) -> Self {
        Self::Messages(
            system
                .map(|s| Message::new("system", s))
                .into_iter()
                .collect(),
        )
    }

    /// Adds a turn.
    pub(super) fn say(&mut self, role: &str, content: &str) {
        if let Self::Messages(messages) = self {
            messages.push(Message::new(role, content));
        }
    }

    /// Its tokens.
    pub(super) fn encode(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<u32>> {
        Ok(match self {
            Self::Prompt { prompt, system } => {
                checkpoint.encode_prompt(prompt, system.as_deref())?.ids
            }
            Self::Raw(text) => checkpoint
                .tokenizer
                .encode(text, true)
                .map_err(crate::model::ModelError::from)?,
            Self::Messages(messages) => checkpoint.encode_chat(messages, &Vars::default())?.ids,
        })
    }
}
