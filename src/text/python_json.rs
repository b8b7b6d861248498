//! `json.dumps` as Python prints it, because chat templates were tested against exactly those characters.
//!
//! Separators, indentation, escapes and the shortest form of floats follow CPython; keys keep their order.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Deeper nesting than this is refused instead of exhausting the stack.
const MAX_DEPTH: usize = 128;

/// The `tojson` filter of transformers' template environment: `tojson(value, ensure_ascii=False, indent=None,
/// separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, kwargs: &Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let indent = match indent.filter(|i| !i.is_none()) {
        None => None,
        Some(i) => Some(match i.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(
                i.as_usize()
                    .filter(|n| *n <= 64)
                    .ok_or_else(|| invalid("indent must be a string or at most 64"))?,
            ),
        }),
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("separators must be a pair")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        out: String::new(),
        indent,
        item,
        key,
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        depth: 0,
    };
    kwargs.assert_all_used()?;
    writer.value(value)?;
    Ok(writer.out)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

struct Writer {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)?),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.container('[', ']', items, |w, item| w.value(&item))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.collect::<Vec<_>>();
                if self.sorted {
                    keys.sort_by_key(ToString::to_string);
                }
                self.container('{', '}', keys, |w, key| {
                    w.string(&key_text(&key)?);
                    w.out.push_str(&w.key.clone());
                    w.value(&value.get_item(&key)?)
                })?;
            }
            other => {
                return Err(invalid(format!(
                    "a value of kind {other} is not JSON serializable"
                )));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        mut each: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let empty = items.is_empty();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(invalid("value is nested too deeply for JSON"));
        }
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line();
            each(self, item)?;
        }
        self.depth -= 1;
        if !empty {
            self.line();
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a String cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number => number(key)?,
        other => return Err(invalid(format!("keys must be strings, not {other}"))),
    })
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    f64::try_from(value.clone()).map(python_float)
}

/// `repr` of a Python float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
fn python_float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = x.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{x:?}");
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, exponent) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Right-hand sides printed by CPython 3.11: json.dumps(x) and json.dumps(x, indent=2).
    #[test]
    fn floats_as_python_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e16, "1e+16"),
            (123456789012345.6, "123456789012345.6"),
            (9007199254740992.0, "9007199254740992.0"),
            (1e100, "1e+100"),
            (-2.5, "-2.5"),
            (-0.0, "-0.0"),
        ];
        for (x, expected) in cases {
            assert_eq!(python_float(x), expected);
        }
    }

    fn dump(json: &str, kwargs: &[(&str, Value)]) -> String {
        let value: Value = serde_json::from_str(json).unwrap();
        tojson(&value, &kwargs.iter().cloned().collect()).unwrap()
    }

    #[test]
    fn separators_indent_order_and_escapes() {
        let json = r#"{"b":[1,2.0,true,null,{}],"a":"é\"\u0001\n😀","e":[]}"#;
        assert_eq!(
            dump(json, &[]),
            "{\"b\": [1, 2.0, true, null, {}], \"a\": \"é\\\"\\u0001\\n😀\", \"e\": []}"
        );
        assert_eq!(
            dump(
                json,
                &[
                    ("indent", Value::from(2)),
                    ("sort_keys", Value::from(true)),
                    ("ensure_ascii", Value::from(true))
                ]
            ),
            "{\n  \"a\": \"\\u00e9\\\"\\u0001\\n\\ud83d\\ude00\",\n  \"b\": [\n    1,\n    2.0,\n    true,\n    null,\n    {}\n  ],\n  \"e\": []\n}"
        );
        assert_eq!(
            dump(
                "[1,{\"a\":2}]",
                &[("separators", Value::from(vec![",", ":"]))]
            ),
            "[1,{\"a\":2}]"
        );
    }

    #[test]
    fn undefined_is_refused() {
        assert!(
            tojson(
                &Value::UNDEFINED,
                &Kwargs::from_iter::<[(&str, Value); 0]>([])
            )
            .is_err()
        );
    }
}
