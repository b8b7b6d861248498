//! The worker's side: keeps a session for each answer and takes them on, token by token.
//!
//! Always: an answer is found again by its tokens, so that it does not matter where it was stopped; what an answer has
//! computed is kept when it is stopped; nothing of it crosses to another prompt, model or set of edits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stream::{Alternative, End, Task, Token};
use crate::hooks::Hooks;
use crate::model::sample::SampleOptions;
use crate::model::{Decoder, ModelError, Session, Step};

/// The sessions, by side and branch.
#[derive(Debug, Default)]
pub struct Store(BTreeMap<(usize, usize), Session>);

/// What is to be generated, in this order.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which change of the screen asked for it.
    pub generation: u64,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The answers.
    pub tasks: Vec<Task>,
    /// How tokens are drawn.
    pub sample: SampleOptions,
    /// Most tokens of an answer.
    pub max_new: usize,
    /// Tokens that end one.
    pub stop: Vec<u32>,
}

/// What happened to an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The order's.
    pub generation: u64,
    /// Whose side.
    pub side: usize,
    /// Which branch.
    pub branch: usize,
    /// What.
    pub what: Happened,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// A token came, the `.0`-th of the answer.
    Token(usize, Token),
    /// The answer is over.
    Ended(End),
}

/// Waits, unless somebody else is waited for by then.
pub fn pause(time: Duration, cancelled: &dyn Fn() -> bool) {
    let until = Instant::now() + time;
    while !cancelled() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Runs an order; `tell` gets what happens as it does.
///
/// # Errors
/// Anything a pass can fail with; a cancellation, after which all answers can go on.
pub fn run(
    order: &Order,
    model: &Decoder,
    store: &mut Store,
    words: &dyn Fn(u32) -> String,
    tell: &mut dyn FnMut(Event),
) -> Result<(), ModelError> {
    for task in &order.tasks {
        let mut session = store.session(order, task, model)?;
        let mut say = |what| {
            tell(Event {
                generation: order.generation,
                side: task.side,
                branch: task.branch,
                what,
            });
        };
        let outcome = answer(order, task, model, &mut session, words, &mut say);
        store.0.insert((task.side, task.branch), session);
        outcome?;
    }
    Ok(())
}

/// Takes one answer to its end.
fn answer(
    order: &Order,
    task: &Task,
    model: &Decoder,
    session: &mut Session,
    words: &dyn Fn(u32) -> String,
    say: &mut dyn FnMut(Happened),
) -> Result<(), ModelError> {
    let same = session
        .answer()
        .iter()
        .zip(&task.tokens)
        .take_while(|(a, b)| a == b);
    let same = same.count();
    session.rewind_to(same)?;
    if *session.sample() != order.sample {
        session.set_sample(&order.sample)?;
    }
    for (index, &id) in task.tokens.iter().enumerate().skip(same) {
        let step = session.push(model, id)?;
        if index >= task.known {
            say(Happened::Token(index, token(step, words)));
        }
    }
    loop {
        let index = session.steps().len();
        if session
            .answer()
            .last()
            .is_some_and(|id| order.stop.contains(id))
        {
            say(Happened::Ended(End::Stop));
            return Ok(());
        }
        if index >= order.max_new {
            say(Happened::Ended(End::Length));
            return Ok(());
        }
        let step = session.step(model)?;
        say(Happened::Token(index, token(step, words)));
    }
}

impl Store {
    /// The task's session; one that shares what can be shared with another if there is none.
    fn session(
        &mut self,
        order: &Order,
        task: &Task,
        model: &Decoder,
    ) -> Result<Session, ModelError> {
        let hooks = Hooks::new().edits(task.edits.iter().cloned());
        let fresh = Session::new(model, &order.prompt, &order.sample, &hooks)?;
        // Answers to other prompts are not asked for again.
        self.0.retain(|_, other| other.prompt() == order.prompt);
        let fits = |other: &Session| other.edits_id() == fresh.edits_id();
        let key = (task.side, task.branch);
        let own = self.0.remove(&key);
        let before = match own {
            Some(own) if fits(&own) => return Ok(own),
            other => other,
        };
        let shared = |other: &Session| {
            let pairs = other.answer().iter().zip(&task.tokens);
            pairs.take_while(|(a, b)| a == b).count()
        };
        if let Some(other) = self
            .0
            .values()
            .filter(|o| fits(o))
            .max_by_key(|o| shared(o))
        {
            return other.fork();
        }
        // A dose was turned: what lies below its layer was computed a step ago.
        if let Some(before) = before.filter(|before| before.edits_id().is_some()) {
            let new = Session::after(model, &before, &order.prompt, &order.sample, &hooks)?;
            if new.saves() {
                return Ok(new);
            }
        }
        match self.0.values().find(|other| other.edits_id().is_none()) {
            Some(plain) => Session::after(model, plain, &order.prompt, &order.sample, &hooks),
            None => Ok(fresh),
        }
    }

    /// Drops branches that are no longer shown.
    pub fn keep(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        self.0.retain(|&(side, branch), _| wanted(side, branch));
    }
}

fn token(step: &Step, words: &dyn Fn(u32) -> String) -> Token {
    let alternative = |&(id, log_prob): &(u32, f32)| Alternative {
        id,
        text: words(id),
        log_prob,
    };
    Token {
        id: step.id,
        text: words(step.id),
        log_prob: step.log_prob,
        top: step.top.iter().map(alternative).collect(),
        forced: step.forced,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hooks::{Edit, EditOp, HookPoint, Point};
    use crate::model::{Cancel, LoadOptions, Opened};
    use crate::tui::screens::generate::stream::{EDITED, PLAIN};
    use std::path::Path;

    fn open() -> Decoder {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
        let options = LoadOptions::default();
        Opened::at(&path, &options)
            .unwrap()
            .decoder(&options)
            .unwrap()
    }

    fn task(side: usize, branch: usize, tokens: &[u32]) -> Task {
        let at = HookPoint::new(Point::MlpOut, 0);
        let edit = Edit::new(at, EditOp::Scale { factor: -2.0 });
        Task {
            side,
            branch,
            edits: if side == EDITED {
                vec![edit]
            } else {
                Vec::new()
            },
            tokens: tokens.to_vec(),
            known: tokens.len(),
        }
    }

    fn order(tasks: Vec<Task>) -> Order {
        Order {
            generation: 1,
            prompt: vec![3, 1, 4, 1, 5],
            tasks,
            sample: SampleOptions {
                temperature: 1.0,
                seed: 7,
                ..SampleOptions::default()
            },
            max_new: 8,
            stop: Vec::new(),
        }
    }

    /// Ids by side and branch, as a screen would have them.
    fn go(order: &Order, model: &Decoder, store: &mut Store) -> BTreeMap<(usize, usize), Vec<u32>> {
        let mut seen: BTreeMap<(usize, usize), Vec<u32>> = BTreeMap::new();
        for task in &order.tasks {
            seen.insert((task.side, task.branch), task.tokens[..task.known].to_vec());
        }
        run(order, model, store, &|id| id.to_string(), &mut |event| {
            let ids = seen.entry((event.side, event.branch)).or_default();
            if let Happened::Token(index, token) = event.what {
                assert_eq!(index, ids.len());
                ids.push(token.id);
            }
        })
        .unwrap();
        seen
    }

    #[test]
    fn stopped_and_gone_on_with_is_as_never_stopped() {
        let model = open();
        let both = vec![task(EDITED, 0, &[]), task(PLAIN, 0, &[])];
        let whole = go(&order(both.clone()), &model, &mut Store::default());
        assert_ne!(whole[&(EDITED, 0)], whole[&(PLAIN, 0)]);
        let mut store = Store::default();
        let cancel = Cancel::new();
        let mut some = Vec::new();
        let stopped = cancel.watch(|| {
            run(
                &order(both),
                &model,
                &mut store,
                &|id| id.to_string(),
                &mut |event| {
                    if let Happened::Token(index, token) = event.what {
                        some.push(token.id);
                        if index == 2 {
                            cancel.request();
                        }
                    }
                },
            )
        });
        assert!(matches!(stopped, Err(ModelError::Cancelled)));
        assert_eq!(some, whole[&(EDITED, 0)][..3]);
        let rest = order(vec![task(EDITED, 0, &some), task(PLAIN, 0, &[])]);
        assert_eq!(go(&rest, &model, &mut store), whole);
        // And with the sessions lost.
        assert_eq!(go(&rest, &model, &mut Store::default()), whole);
    }

    #[test]
    fn a_branch_keeps_the_trunk_and_takes_the_wanted_token() {
        let model = open();
        let mut store = Store::default();
        let trunk = go(&order(vec![task(PLAIN, 0, &[])]), &model, &mut store)[&(PLAIN, 0)].clone();
        let wanted = (trunk[3] + 1) % model.config().vocab_size as u32;
        let mut branch = task(PLAIN, 1, &[&trunk[..3], &[wanted]].concat());
        branch.known = 3;
        let branched = go(&order(vec![branch.clone()]), &model, &mut store);
        let ids = &branched[&(PLAIN, 1)];
        assert_eq!((&ids[..3], ids[3], ids.len()), (&trunk[..3], wanted, 8));
        assert_eq!(
            go(&order(vec![branch]), &model, &mut Store::default()),
            branched
        );
        let again = go(
            &order(vec![task(PLAIN, 0, &trunk[..5])]),
            &model,
            &mut store,
        );
        assert_eq!(again[&(PLAIN, 0)], trunk);
    }

    #[test]
    fn a_stop_token_and_the_length_end_an_answer() {
        let model = open();
        let trunk = go(
            &order(vec![task(PLAIN, 0, &[])]),
            &model,
            &mut Store::default(),
        );
        let mut order = order(vec![task(PLAIN, 0, &[])]);
        order.stop = vec![trunk[&(PLAIN, 0)][2]];
        let mut ends = Vec::new();
        let mut store = Store::default();
        let words = |id: u32| id.to_string();
        run(&order, &model, &mut store, &words, &mut |event| {
            ends.push(event.what);
        })
        .unwrap();
        assert_eq!(ends.last(), Some(&Happened::Ended(End::Stop)));
        order.stop.clear();
        order.max_new = 2;
        run(&order, &model, &mut store, &words, &mut |event| {
            ends.push(event.what);
        })
        .unwrap();
        assert_eq!(ends.last(), Some(&Happened::Ended(End::Length)));
    }
}
