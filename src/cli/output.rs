//! What commands print with: results to stdout, notes to stderr, tables that fit the terminal, JSON with a schema.
//!
//! Always: a reader that closes stdout ends the printing, never the work; foreign text cannot act on the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde::Serialize;

use super::args::When;
use crate::audit::report::{terminal::Style, text::visible};
pub use crate::text::amount::bytes;

/// Where a command's results and notes go.
#[derive(Debug)]
pub struct Out {
    /// Tables as JSON.
    pub json: bool,
    /// No progress, no notes.
    pub quiet: bool,
    colour: bool,
    colour_errors: bool,
    closed: AtomicBool,
}

impl Out {
    /// Decides on colour by where the streams go.
    pub fn new(json: bool, color: When, quiet: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v: std::ffi::OsString| !v.is_empty());
        let colour = |terminal: bool| match color {
            When::Always => true,
            When::Never => false,
            When::Auto if set("NO_COLOR") => false,
            When::Auto => terminal || set("FORCE_COLOR"),
        };
        Self {
            json,
            quiet,
            colour: colour(io::stdout().is_terminal()),
            colour_errors: colour(io::stderr().is_terminal()),
            closed: AtomicBool::new(false),
        }
    }

    /// How reports are to be shown on stdout.
    pub fn style(&self) -> Style {
        Style {
            colour: self.colour,
            width: width(),
            unicode: unicode(),
        }
    }

    /// True when a person sees stdout directly.
    pub fn on_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// True once nobody reads stdout any more.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Text to stdout as it is, at once. Nothing happens once nobody reads it.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        if self.closed() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.context("cannot write to stdout"),
        }
    }

    /// A line to stdout.
    pub fn line(&self, line: &str) -> anyhow::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// One JSON object to stdout: the fields of `value` after a `schema` field, such as `candlescope.hooks/1`.
    pub fn json(&self, schema: &str, value: &impl Serialize) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct WithSchema<'a, T> {
            schema: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        let text = serde_json::to_string_pretty(&WithSchema { schema, value })
            .context("cannot write the result as JSON")?;
        self.line(&text)
    }

    /// A note to stderr, unless `--quiet`.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            to_stderr(&format!("{}\n", visible(line)));
        }
    }

    /// `text` in an ANSI style on stderr, where colours are wanted there.
    pub(super) fn paint_error(&self, code: &str, text: &str) -> String {
        if self.colour_errors {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// `text` in an ANSI style on stdout, where colours are wanted there.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Text to stderr. There is nobody to tell if that fails.
pub(super) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Columns of the terminal: `COLUMNS`, what the terminal says, or 100.
pub fn width() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col))
    };
    set.or_else(asked)
        .filter(|&columns| columns > 0)
        .unwrap_or(100)
}

/// Whether the locale can show more than ASCII; an unset one is taken to.
pub fn unicode() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .is_none_or(|value| {
            let value = value.to_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}

/// Room the last column needs to stand beside the others.
const NARROWEST: usize = 40;

/// A table of text: columns as wide as their widest cell, the last one wrapped to what is left of the terminal.
#[derive(Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    grid: bool,
}

impl Table {
    /// An empty table.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self {
            header: header.map(str::to_owned).to_vec(),
            ..Self::default()
        }
    }

    /// An empty table of as many columns as there are words.
    pub fn of(header: Vec<String>) -> Self {
        Self {
            header,
            ..Self::default()
        }
    }

    /// An empty table of values in every column: those for which there is no room beside the others go below, where the first
    /// column names each row again.
    pub fn grid(header: Vec<String>) -> Self {
        Self {
            grid: true,
            ..Self::of(header)
        }
    }

    /// Adds a row of a table of [`Self::of`] or [`Self::grid`], as long as its header.
    pub fn cells(&mut self, cells: &[String]) {
        self.rows
            .push(cells.iter().map(|cell| visible(cell)).collect());
    }

    /// Adds a row. Control characters are shown, not sent.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.iter().map(|cell| visible(cell)).collect());
    }

    /// Prints it.
    pub fn print(&self, out: &Out) -> anyhow::Result<()> {
        out.text(&self.render(out))
    }

    fn render(&self, out: &Out) -> String {
        let columns = self.header.len();
        let widest = |c: usize| {
            std::iter::once(&self.header)
                .chain(&self.rows)
                .map(|row| row[c].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        if self.grid {
            return self.blocks(&widths, width(), out);
        }
        let before: usize = widths[..columns - 1].iter().map(|w| w + 2).sum();
        let beside = width().saturating_sub(before);
        if beside < NARROWEST {
            return self.stacked(&widths, out);
        }
        let mut text = out.paint("1", line(&self.header, &widths, "").trim_end()) + "\n";
        for row in &self.rows {
            let wrapped = crate::audit::report::text::wrapped(&row[columns - 1], beside);
            let first = wrapped.first().map_or("", String::as_str);
            text += line(&row[..columns - 1], &widths, first).trim_end();
            text.push('\n');
            for more in wrapped.iter().skip(1) {
                text += &format!("{}{more}\n", " ".repeat(before));
            }
        }
        text
    }

    /// As many columns beside the first as there is room for, and the next of them below.
    fn blocks(&self, widths: &[usize], room: usize, out: &Out) -> String {
        let (mut text, mut from) = (String::new(), 1);
        loop {
            let taken = |to: usize| {
                let beside = widths[from..to].iter().map(|width| width + 2);
                widths[0] + beside.sum::<usize>()
            };
            let to = (from + 1..=widths.len())
                .take_while(|&to| to == from + 1 || taken(to) <= room)
                .last()
                .unwrap_or(widths.len());
            let part = |row: &[String]| {
                let cells = [&row[..1], &row[from..to]].concat();
                let widths = [&widths[..1], &widths[from..to]].concat();
                line(&cells, &widths, "").trim_end().to_owned()
            };
            text += &(out.paint("1", &part(&self.header)) + "\n");
            for row in &self.rows {
                text += &(part(row) + "\n");
            }
            if to == widths.len() {
                return text;
            }
            text.push('\n');
            from = to;
        }
    }

    /// The last column below the others, for text that would be squeezed beside them.
    fn stacked(&self, widths: &[usize], out: &Out) -> String {
        let columns = self.header.len();
        let mut text = out.paint(
            "1",
            line(&self.header, &widths[..columns - 1], "").trim_end(),
        ) + "\n";
        for row in &self.rows {
            text += line(&row[..columns - 1], widths, "").trim_end();
            text.push('\n');
            for more in
                crate::audit::report::text::wrapped(&row[columns - 1], width().saturating_sub(4))
            {
                text += &format!("    {more}\n");
            }
        }
        text
    }
}

fn line(cells: &[String], widths: &[usize], last: &str) -> String {
    let pad = |(cell, width): (&String, &usize)| {
        let room = (width + 2).saturating_sub(cell.chars().count());
        format!("{cell}{}", " ".repeat(room))
    };
    cells.iter().zip(widths).map(pad).collect::<String>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_shows_control_characters() {
        let mut table = Table::new(["name", "what"]);
        table.row(["a".into(), "first".into()]);
        table.row(["longer".into(), "se\u{1b}[31mcond".into()]);
        let text = table.render(&Out::new(false, When::Never, true));
        assert_eq!(text.lines().next(), Some("name    what"));
        assert_eq!(text.lines().nth(1), Some("a       first"));
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_grid_without_room_goes_on_below_under_its_own_header() {
        let mut grid = Table::grid(["at", "one", "two", "three"].map(str::to_owned).to_vec());
        grid.cells(&["a", "1", "22", "3.3"].map(str::to_owned));
        grid.cells(&["bb", "", "2", ""].map(str::to_owned));
        let out = Out::new(false, When::Never, true);
        let blocks = |room| grid.blocks(&[2, 3, 3, 5], room, &out);
        assert_eq!(
            blocks(19),
            "at  one  two  three\na   1    22   3.3\nbb       2\n"
        );
        let two = "at  one  two\na   1    22\nbb       2\n\nat  three\na   3.3\nbb\n";
        assert_eq!(blocks(18), two);
        // A column that fits nowhere is not left out.
        assert_eq!(blocks(1).matches("at  ").count(), 3);
    }
}
