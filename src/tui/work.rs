//! The threads that run the model: an interactive lane in which the newest request replaces the others, and a lane of jobs
//! that run one after the other. Both read one checkpoint, which nobody changes.
//!
//! Always: a request is answered exactly once with its end (done, failed, cancelled); a panic in it is an answer, not the
//! end of the thread; passes of a replaced request stop at the next block.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::app::Msg;
use super::log;
use super::panics::caught;
use super::screen::{Payload, Reply, Work};
use crate::model::{Cancel, Checkpoint};

/// Which way work takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What the user looks at now: the newest request wins.
    Interactive,
    /// Long work, in order, with progress.
    Job,
}

/// A request in a lane.
pub struct Request {
    /// Its number, rising.
    pub id: u64,
    /// The screen that is told.
    pub screen: &'static str,
    /// Which lane.
    pub lane: Lane,
    /// What it runs on.
    pub checkpoint: Arc<Checkpoint>,
    /// What it does.
    pub work: Work,
}

/// What work knows of its request.
pub struct Ticket {
    id: u64,
    screen: &'static str,
    lane: Lane,
    cancel: Cancel,
    to: Sender<Msg>,
}

impl Ticket {
    /// Sends part of the result.
    pub fn part<T: Send + 'static>(&self, value: T) {
        self.send(Reply::Part(Box::new(value) as Payload));
    }

    /// Says how far it is: a share from 0 to 1, and what is being done.
    pub fn progress(&self, share: f64, note: &str) {
        let progress = Msg::Progress {
            id: self.id,
            share,
            note: note.to_string(),
        };
        // Nobody listens any more when the workbench is closing.
        let _ = self.to.send(progress);
    }

    /// Whether the result is still wanted.
    pub fn cancelled(&self) -> bool {
        self.cancel.requested()
    }

    /// The request to stop.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn send(&self, reply: Reply) {
        let _ = self.to.send(Msg::Reply {
            id: self.id,
            screen: self.screen,
            lane: self.lane,
            reply,
        });
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    /// Which request runs, and whose it is.
    running: Option<(u64, &'static str, Cancel)>,
    closed: bool,
}

/// One lane: a queue and the thread that empties it.
struct Line {
    queue: Arc<(Mutex<Queue>, Condvar)>,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // The queue is consistent between any two statements, whatever panicked.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn start(name: &str, to: Sender<Msg>) -> std::io::Result<Self> {
        let queue: Arc<(Mutex<Queue>, Condvar)> = Arc::default();
        let line = Arc::clone(&queue);
        std::thread::Builder::new()
            .name(name.to_string())
            .spawn(move || {
                while let Some((request, cancel)) = next(&line) {
                    answer(request, cancel, &to);
                    lock(&line.0).running = None;
                }
            })?;
        Ok(Self { queue })
    }

    fn stop(&self) {
        if let Some((.., cancel)) = &lock(&self.queue.0).running {
            cancel.request();
        }
    }

    /// Stops one request if it runs here, or takes it out if it waits here.
    fn drop_one(&self, id: u64) -> Option<Request> {
        let mut queue = lock(&self.queue.0);
        if let Some((.., cancel)) = queue
            .running
            .as_ref()
            .filter(|(running, ..)| *running == id)
        {
            cancel.request();
        }
        let at = queue.waiting.iter().position(|request| request.id == id)?;
        queue.waiting.remove(at)
    }

    /// Takes a screen's requests out of the queue, and stops the one that runs if it is its own.
    fn withdraw(&self, screen: &str) -> Vec<Request> {
        let mut queue = lock(&self.queue.0);
        if let Some((.., cancel)) = queue
            .running
            .as_ref()
            .filter(|(_, whose, _)| *whose == screen)
        {
            cancel.request();
        }
        let all = queue.waiting.drain(..);
        let (taken, kept): (Vec<_>, Vec<_>) = all.partition(|request| request.screen == screen);
        queue.waiting = kept.into();
        taken
    }
}

/// Waits for a request; nothing when the lane is closed.
fn next(line: &(Mutex<Queue>, Condvar)) -> Option<(Request, Cancel)> {
    let mut queue = lock(&line.0);
    loop {
        if queue.closed {
            return None;
        }
        if let Some(request) = queue.waiting.pop_front() {
            let cancel = Cancel::new();
            queue.running = Some((request.id, request.screen, cancel.clone()));
            return Some((request, cancel));
        }
        queue = line.1.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Runs a request and sends its end.
pub(super) fn answer(request: Request, cancel: Cancel, to: &Sender<Msg>) {
    let ticket = Ticket {
        id: request.id,
        screen: request.screen,
        lane: request.lane,
        cancel: cancel.clone(),
        to: to.clone(),
    };
    let Request {
        work, checkpoint, ..
    } = request;
    let run = || cancel.watch(|| work(&checkpoint, &ticket));
    let reply = match caught(run) {
        // What was cancelled on the way may have ended as an error, or just in time.
        Ok(Err(_)) if cancel.requested() => Reply::Cancelled,
        Ok(Ok(value)) => Reply::Done(value),
        Ok(Err(why)) => Reply::Failed(why),
        Err(panic) => Reply::Failed(format!(
            "this is a defect of candlescope: {panic}. The workbench goes on; see the log{}",
            log::file().map_or_else(String::new, |file| format!(", {}", file.display()))
        )),
    };
    ticket.send(reply);
}

/// Both lanes.
pub struct Worker {
    interactive: Line,
    jobs: Line,
    to: Sender<Msg>,
    ids: AtomicU64,
}

impl Worker {
    /// Starts the threads; replies go to `to`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(to: Sender<Msg>) -> std::io::Result<Self> {
        Ok(Self {
            interactive: Line::start("interactive", to.clone())?,
            jobs: Line::start("jobs", to.clone())?,
            to,
            ids: AtomicU64::new(1),
        })
    }

    /// A number that no request has.
    pub fn number(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a request into its lane and gives its number.
    pub fn post(
        &self,
        screen: &'static str,
        lane: Lane,
        checkpoint: Arc<Checkpoint>,
        work: Work,
    ) -> u64 {
        let id = self.number();
        let request = Request {
            id,
            screen,
            lane,
            checkpoint,
            work,
        };
        let line = match lane {
            Lane::Interactive => &self.interactive,
            Lane::Job => &self.jobs,
        };
        let mut queue = lock(&line.queue.0);
        if lane == Lane::Interactive {
            for replaced in queue.waiting.drain(..) {
                self.cancelled(&replaced);
            }
            if let Some((.., cancel)) = &queue.running {
                cancel.request();
            }
        }
        queue.waiting.push_back(request);
        line.queue.1.notify_one();
        id
    }

    /// Ends one request, waiting or running, with [`Reply::Cancelled`] or what it comes to before it hears of it.
    pub fn abandon(&self, id: u64) {
        for line in [&self.interactive, &self.jobs] {
            if let Some(request) = line.drop_one(id) {
                self.cancelled(&request);
            }
        }
    }

    /// Takes a screen's jobs back: those that wait are cancelled at once, one that runs is asked to stop.
    pub fn withdraw(&self, screen: &str) {
        for request in self.jobs.withdraw(screen) {
            self.cancelled(&request);
        }
    }

    fn cancelled(&self, request: &Request) {
        // Nobody listens any more when the workbench is closing.
        let _ = self.to.send(Msg::Reply {
            id: request.id,
            screen: request.screen,
            lane: request.lane,
            reply: Reply::Cancelled,
        });
    }

    /// Asks what runs in a lane to stop.
    pub fn stop(&self, lane: Lane) {
        match lane {
            Lane::Interactive => self.interactive.stop(),
            Lane::Job => self.jobs.stop(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for line in [&self.interactive, &self.jobs] {
            let mut queue = lock(&line.queue.0);
            queue.closed = true;
            if let Some((.., cancel)) = &queue.running {
                cancel.request();
            }
            line.queue.1.notify_one();
        }
    }
}

/// Work that is waiting or running, as the workbench counts it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its number.
    pub id: u64,
    /// The screen that asked.
    pub screen: &'static str,
    /// Which lane.
    pub lane: Lane,
    /// What it does.
    pub what: String,
    /// When it was asked for.
    pub since: Instant,
    /// How far it is, 0 to 1, where it says so.
    pub share: Option<f64>,
    /// What it is doing, where it says so.
    pub note: String,
    /// The screen that asked is no more; what comes is dropped.
    pub abandoned: bool,
}
