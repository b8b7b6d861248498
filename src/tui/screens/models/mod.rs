//! Models: what there is to open, what is open, and how another one differs from it.
//!
//! Always: named models are shown before anything was looked at; disk and network are the worker's. State and keys here,
//! rows in `rows.rs`, what the worker does in `work.rs`, drawing in `view.rs`.

mod rows;
mod view;
mod work;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Weak;

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::config::Difference;
use crate::model::Checkpoint;
use crate::model::describe::Description;
use crate::model::listing::{Listing, Local};
use crate::model::self_check::Finding;
use crate::tui::field::{Field, Outcome};
use crate::tui::filter::{Filter, Listed};
use crate::tui::keys::{Binding, bind};
use crate::tui::screen::{Command, Context, Data, Hits, Reply, Screen, View};
use crate::tui::shared::{ModelState, Shared, quoted};
use rows::{Row, Standing};
use work::Answer;

const KEYS: &[Binding] = &[
    bind("j down", "down", "model", "The next model"),
    bind("k up", "up", "model", "The model before"),
    bind("g home", "first", "", "The first model"),
    bind("G end", "last", "", "The last model"),
    bind(
        "enter",
        "open",
        "open",
        "Open this model; one that is not here is fetched first",
    ),
    bind(
        "c",
        "compare",
        "compare",
        "Compare its config with the open model's: the fields that differ",
    ),
    bind(
        "n",
        "name",
        "by name",
        "Fetch a model by name: a known one, or ORG/NAME on the Hugging Face hub",
    ),
    bind(
        "v",
        "check",
        "check",
        "Hold the open model against itself: sound numbers, parts that fit, identities that hold",
    ),
    bind("r", "list", "", "Look again what is here"),
    bind(
        "ctrl-d pagedown",
        "page_down",
        "",
        "Further down in the facts",
    ),
    bind("ctrl-u pageup", "page_up", "", "Further up in the facts"),
];

/// What the lower or right part shows.
#[derive(Debug, Default)]
enum Side {
    /// The open model.
    #[default]
    Facts,
    /// Another config beside it.
    Compared {
        with: String,
        result: Result<Vec<Difference>, String>,
    },
    /// It, held against itself.
    Checked(Result<Vec<Finding>, String>),
}

/// The screen.
#[derive(Default)]
pub struct ModelsScreen {
    selected: usize,
    listed: Option<Listing>,
    local: Vec<Local>,
    folder: Option<PathBuf>,
    /// What went wrong last, with what to try.
    trouble: Option<String>,
    asked: bool,
    described: Option<Result<Box<Description>, String>>,
    /// The model that was described, or is being.
    about: Weak<Checkpoint>,
    side: Side,
    field: Field,
    typing: bool,
    fetching: Option<String>,
    scroll: usize,
    filter: Filter,
    /// How far the last frame could scroll: the layout is known to the drawing alone.
    most: Cell<usize>,
}

impl ModelsScreen {
    fn all(&self, shared: &Shared) -> Vec<Row> {
        rows::rows(self.listed.as_ref(), &self.local, shared)
    }

    /// The rows that the filter leaves.
    fn rows(&self, shared: &Shared) -> Vec<Row> {
        let mut rows = self.all(shared);
        rows.retain(|row| self.filter.matches(&row.text()));
        rows
    }

    fn row(&self, shared: &Shared) -> Option<Row> {
        let mut rows = self.rows(shared);
        let last = rows.len().checked_sub(1)?;
        Some(rows.swap_remove(self.selected.min(last)))
    }

    fn list(&mut self, cx: &mut Context) {
        self.asked = true;
        let folder = self.folder.clone();
        cx.ask("listing models", move |_, _| {
            Ok(work::list(folder.as_deref()))
        });
    }

    fn open(&mut self, cx: &mut Context) {
        let Some(row) = self.row(cx.shared) else {
            return;
        };
        self.trouble = None;
        self.side = Side::Facts;
        if row.standing == Standing::Away && cx.shared.model.facts().is_some() {
            self.fetch(row.spec, cx);
        } else {
            cx.commands.push(Command::Open(row.spec));
        }
    }

    fn fetch(&mut self, name: String, cx: &mut Context) {
        self.trouble = None;
        self.fetching = Some(name.clone());
        cx.job(&format!("fetching {name}"), move |_, ticket| {
            Ok(work::get(&name, ticket))
        });
    }

    fn take(&mut self, answer: Answer, cx: &mut Context) {
        match answer {
            Answer::Listed { models, local } => {
                match models {
                    Ok(listed) => self.listed = Some(listed),
                    Err(why) => self.trouble = Some(why),
                }
                match local {
                    Some(Ok(local)) => self.local = local,
                    Some(Err(why)) => self.trouble = Some(why),
                    None => {}
                }
            }
            Answer::Described(described) => self.described = Some(described),
            Answer::Checked(result) => self.show(Side::Checked(result)),
            Answer::Compared { with, result } => self.show(Side::Compared { with, result }),
            Answer::Fetched { name, result } => {
                self.fetching = None;
                match result {
                    Ok(_) => {
                        cx.commands.push(Command::Open(name));
                        self.asked = false;
                    }
                    Err(why) => self.trouble = Some(format!("{name}: {why}")),
                }
            }
        }
    }

    fn show(&mut self, side: Side) {
        self.side = side;
        self.scroll = 0;
    }

    fn submit(&mut self, cx: &mut Context) {
        self.typing = false;
        let name = self.field.take().trim().to_owned();
        if name.is_empty() {
            return;
        }
        if cx.shared.model.facts().is_some() {
            self.fetch(name, cx);
        } else {
            cx.commands.push(Command::Open(name));
        }
    }
}

impl Screen for ModelsScreen {
    fn id(&self) -> &'static str {
        "models"
    }

    fn about(&self) -> &'static str {
        "Models by name, in the cache and in a folder; what is open, and how another one differs from it"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        let open = || match &shared.model {
            ModelState::Ready(_) => Ok(()),
            ModelState::Loading { name } => Err(format!("{name} is being opened")),
            _ => Err("no model is open; enter opens the selected one".to_owned()),
        };
        let standing = self.row(shared).map(|row| row.standing);
        match action {
            "open" => match standing {
                Some(Standing::Open) => Err("it is open".into()),
                Some(Standing::Opening) => Err("it is being opened".into()),
                Some(Standing::Away) if self.fetching.is_some() => {
                    Err("another model is being fetched".into())
                }
                _ => Ok(()),
            },
            "compare" => match standing {
                Some(Standing::Open) => Err("this is the open model; select another".into()),
                Some(Standing::Away) => {
                    Err("it is not here yet; enter fetches and opens it".into())
                }
                _ => open(),
            },
            "name" if self.fetching.is_some() => Err("another model is being fetched".into()),
            "check" | "list" => open(),
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        let last = self.rows(cx.shared).len().saturating_sub(1);
        let at = self.selected.min(last);
        match action {
            "down" => self.selected = (at + 1).min(last),
            "up" => self.selected = at.saturating_sub(1),
            "first" => self.selected = 0,
            "last" => self.selected = last,
            "page_down" => self.scroll = (self.scroll + 5).min(self.most.get()),
            "page_up" => self.scroll = self.scroll.min(self.most.get()).saturating_sub(5),
            "open" => self.open(cx),
            "compare" => {
                if let Some(row) = self.row(cx.shared) {
                    cx.ask(
                        &format!("comparing with {}", row.name),
                        move |checkpoint, _| Ok(work::compare(checkpoint, &row.spec)),
                    );
                }
            }
            "name" => self.typing = true,
            "check" => cx.job("checking the model", |checkpoint, _| {
                Ok(work::check(checkpoint))
            }),
            "list" => self.list(cx),
            _ => {}
        }
    }

    fn takes_text(&self) -> bool {
        self.typing
    }

    fn text_key(&mut self, key: KeyEvent, cx: &mut Context) {
        match self.field.key(key) {
            Outcome::Submitted => self.submit(cx),
            Outcome::Cancelled => self.typing = false,
            Outcome::Refused(why) => cx.say(why.to_string()),
            Outcome::Changed | Outcome::Moved | Outcome::Ignored => {}
        }
    }

    fn paste(&mut self, text: &str, cx: &mut Context) {
        if !self.typing {
            return cx.say("n opens a field for a name");
        }
        if let Outcome::Refused(why) = self.field.paste(text) {
            cx.say(why.to_string());
        }
    }

    fn click(&mut self, _what: u16, _column: usize, row: usize, cx: &mut Context) {
        self.selected = row.min(self.rows(cx.shared).len().saturating_sub(1));
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(if rows > 0 { "down" } else { "up" }, cx);
    }

    fn refresh(&mut self, cx: &mut Context) {
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let open = std::sync::Arc::downgrade(&facts.checkpoint);
        if !Weak::ptr_eq(&open, &self.about) {
            self.about = open;
            self.described = None;
            self.side = Side::Facts;
            cx.job("fingerprint", |checkpoint, _| {
                Ok(work::describe(checkpoint))
            });
        }
        if !self.asked {
            self.list(cx);
        }
    }

    fn reply(&mut self, reply: Reply, cx: &mut Context) {
        match reply {
            Reply::Done(value) => {
                if let Ok(answer) = value.downcast::<Answer>() {
                    self.take(*answer, cx);
                }
            }
            Reply::Failed(why) => {
                self.fetching = None;
                self.trouble = Some(why);
            }
            // What was replaced before it ran is asked for again when this screen is shown.
            Reply::Cancelled => self.asked = self.listed.is_some(),
            Reply::Part(_) => {}
        }
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        Some(Listed {
            name: "models",
            rows: self.all(shared).iter().map(Row::text).collect(),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        let spec = self.row(cx.shared).map(|row| row.spec);
        self.filter = filter.clone();
        let mut rows = self.rows(cx.shared).into_iter();
        self.selected = rows.position(|row| Some(row.spec) == spec).unwrap_or(0);
    }

    fn cancel(&mut self, cx: &mut Context) -> bool {
        if self.typing {
            self.typing = false;
        } else if !matches!(self.side, Side::Facts) {
            self.show(Side::Facts);
        } else if self.trouble.take().is_some() {
        } else if self.fetching.is_some() {
            cx.commands.push(Command::StopJob);
            cx.say("stopping the fetch; what has arrived is kept");
        } else {
            return false;
        }
        true
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        let (&first, rest) = words.split_first()?;
        let what = rest.join(" ");
        Some(match (first, what.is_empty()) {
            ("folder", true) => {
                Err("folder: expected a path, as in `:folder ./checkpoints`".into())
            }
            ("fetch", true) => Err("fetch: expected a name, as in `:fetch ORG/NAME`".into()),
            ("folder", false) => {
                self.folder = Some(PathBuf::from(what));
                self.trouble = None;
                match cx.shared.model.facts() {
                    Some(_) => self.list(cx),
                    // Looked at as soon as a model is open: the worker has nothing to run on before.
                    None => self.asked = false,
                }
                Ok(())
            }
            ("fetch", false) => match self.enabled("name", cx.shared) {
                Ok(()) => {
                    self.fetch(what, cx);
                    Ok(())
                }
                refused => refused,
            },
            _ => return None,
        })
    }

    fn commands(&self) -> &'static [&'static str] {
        &["folder DIR", "fetch NAME"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        let mut lines: Vec<String> = self.row(shared).map_or_else(Vec::new, |row| {
            vec![format!("selected: {}, {}", row.name, row.standing.word())]
        });
        lines.extend(self.trouble.iter().map(|why| format!("failed: {why}")));
        lines.extend(view::told(self, shared));
        lines
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        let name = || shared.model.facts().map(|facts| quoted(&facts.name));
        Some(match &self.side {
            Side::Checked(_) => format!("candlescope model check {}", name()?),
            Side::Compared { with, .. } => format!("candlescope model info {}", quoted(with)),
            Side::Facts => "candlescope model list".to_owned(),
        })
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        let rows = self.rows(shared);
        let cells = rows.iter().map(|row| {
            let bytes = row.bytes.map_or(String::new(), |n| n.to_string());
            let standing = row.standing.word().to_owned();
            vec![
                row.name.clone(),
                bytes,
                row.licence.clone(),
                standing,
                row.spec.clone(),
                row.about.clone(),
            ]
        });
        let mut json = serde_json::json!({
            "schema": "candlescope.model.list/1", "known": self.listed.as_ref().map(|l| &l.known),
            "cached": self.listed.as_ref().map(|l| &l.cached), "local": self.local,
        });
        if let Some(listed) = &self.listed {
            json["cache"] = serde_json::json!(listed.cache);
        }
        Some(Data {
            headers: ["name", "bytes", "licence", "state", "opens_as", "about"]
                .map(String::from)
                .into(),
            rows: cells.collect(),
            json,
        })
    }
}

#[cfg(test)]
mod tests;
