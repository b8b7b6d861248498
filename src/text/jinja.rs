//! The template environment of transformers' `apply_chat_template`, on minijinja.
//!
//! trim_blocks and lstrip_blocks are on, loop controls and Python methods exist, `{% generation %}` marks are
//! passed over, undefined variables print nothing. Work and output are bounded: a template is foreign code.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::python_json::tojson;

/// Steps a rendering may take; a conversation of ten thousand messages needs about a million.
const FUEL: u64 = 50_000_000;
/// Bytes a rendering may give.
const MAX_OUTPUT: usize = 64 << 20;

/// What `raise_exception` was called with; carried inside the error so that it can be told from other failures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

/// An environment without templates.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(python_method);
    env.add_filter("tojson", |value: &Value, kwargs: Kwargs| {
        tojson(value, &kwargs)
    });
    env.add_filter("generation_marks", |text: String| {
        format!("{}{text}{}", MARKS[0], MARKS[1])
    });
    env.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message.clone())
                .with_source(Raised(message)))
        },
    );
    // Jinja2's tests ask Python's protocols, where strings and dictionaries are sequences and iterable too.
    env.add_test("sequence", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::String
        )
    });
    env.add_test("iterable", |v: &Value| {
        v.kind() == ValueKind::String || v.try_iter().is_ok()
    });
    Ok(env)
}

/// The source as minijinja should read it: newlines as Jinja2's lexer makes them, and `{% generation %}` (a mark
/// for training on the assistant's tokens) as a block that is always taken, which keeps the whitespace rules.
pub(super) fn normalise_source(source: &str) -> String {
    with_generation(source, "if true", "endif")
}

/// What stands around the text of a `{% generation %}` block in a rendering of [`marked_source`]: characters that Unicode
/// sets aside for such use inside a program.
pub(super) const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// As [`normalise_source`], with [`MARKS`] around the text of each `{% generation %}` block.
pub(super) fn marked_source(source: &str) -> String {
    with_generation(source, "filter generation_marks", "endfilter")
}

fn with_generation(source: &str, open: &str, close: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let Some(len) = rest[at..].find("%}") else {
            break;
        };
        let tag = &rest[at..at + len + 2];
        let inner =
            tag[2..tag.len() - 2].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        out.push_str(&rest[..at]);
        match inner {
            "generation" => out.push_str(&tag.replacen("generation", open, 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", close, 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[at + len + 2..];
    }
    out.push_str(rest);
    out
}

/// Python methods beyond those of minijinja-contrib.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "title" => {
            let () = from_args(args)?;
            Ok(Value::from(title(text)))
        }
        "removeprefix" => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(affix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(affix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = match method {
                "partition" => text
                    .split_once(separator)
                    .map_or([text, "", ""], |(a, b)| [a, separator, b]),
                _ => text
                    .rsplit_once(separator)
                    .map_or(["", "", text], |(a, b)| [a, separator, b]),
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "rsplit" if !args.is_empty() => {
            let (separator, limit): (&str, Option<i64>) = from_args(args)?;
            let limit = limit
                .and_then(|n| usize::try_from(n).ok())
                .map_or(usize::MAX, |n| n.saturating_add(1));
            let mut parts: Vec<&str> = text.rsplitn(limit, separator).collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Python's `str.title`: a capital after everything that is no letter, apostrophes included.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Collects output up to the bound.
#[derive(Default)]
pub(super) struct BoundedOutput(pub Vec<u8>);

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!(
                "the template wrote more than {} MiB",
                MAX_OUTPUT >> 20
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_marks_keep_their_whitespace_control() {
        assert_eq!(
            normalise_source("a\r\n{%- generation -%} b {% endgeneration +%}{% if generation %}"),
            "a\n{%- if true -%} b {% endif +%}{% if generation %}"
        );
    }
}
