//! What a screen waits for: one job of its own, and the answer to a small question that it asks anew whenever what it is
//! about has changed.
//!
//! Always: a newer question replaces an older one, whose answer may still come; a job that was taken back is told from a
//! question that was replaced; after a failure the same question is not asked again.

use crate::tui::screen::{Command, Context, Reply};

/// `J` names a job, `Q` what a question is about.
pub(super) struct Pending<J, Q> {
    /// The job that runs or waits.
    pub job: Option<J>,
    /// Jobs so far.
    pub jobs: u64,
    /// Why the last job or question failed.
    pub failed: Option<String>,
    /// A question that has no answer, and why.
    pub unanswered: Option<(Q, String)>,
    /// The job was taken back.
    pub withdrawn: bool,
    asked: Option<Q>,
    /// Questions that have not ended; all but the newest are on their way out.
    open: usize,
}

impl<J, Q> Default for Pending<J, Q> {
    fn default() -> Self {
        Self {
            job: None,
            jobs: 0,
            failed: None,
            unanswered: None,
            withdrawn: false,
            asked: None,
            open: 0,
        }
    }
}

impl<J, Q: Copy + PartialEq> Pending<J, Q> {
    /// Of a screen that forgets: numbers go on, and what is on its way will still come.
    pub fn forgotten(&self) -> Self {
        Self {
            jobs: self.jobs,
            open: self.open,
            ..Self::default()
        }
    }

    /// A job begins; its number.
    pub fn begin(&mut self, job: impl FnOnce(u64) -> J) -> u64 {
        (self.failed, self.withdrawn) = (None, false);
        self.jobs += 1;
        self.job = Some(job(self.jobs));
        self.jobs
    }

    /// Whether a question need not be asked: it was, its answer is known, or there is none.
    pub fn settled(&self, question: Q, known: Option<Q>) -> bool {
        let refused = self.unanswered.as_ref().map(|(of, _)| *of);
        [self.asked, known, refused].contains(&Some(question))
    }

    /// A question is asked.
    pub fn ask(&mut self, question: Q) {
        self.asked = Some(question);
        self.open += 1;
    }

    /// Whether anything asked for has not ended.
    pub fn waits(&self) -> bool {
        self.open > 0 || self.job.is_some()
    }

    /// A question has ended: its answer, if there is one and it is about what is `ours`.
    pub fn answered<T>(&mut self, of: Q, result: Result<T, String>, ours: bool) -> Option<T> {
        self.closed();
        match result {
            Ok(answer) if ours => return Some(answer),
            Err(why) if ours && self.open == 0 => self.unanswered = Some((of, why)),
            _ => {}
        }
        None
    }

    fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.asked = None;
        }
    }

    /// What a reply holds for the screen to take in; what it says of job and questions is noted.
    pub fn reply<T: 'static>(&mut self, reply: Reply) -> Option<T> {
        match reply {
            Reply::Part(value) | Reply::Done(value) => value.downcast().ok().map(|value| *value),
            Reply::Failed(why) => {
                (self.job, self.open, self.asked) = (None, 0, None);
                self.failed = Some(why);
                None
            }
            // A job that waited and was taken back; else a question that was replaced.
            Reply::Cancelled if self.withdrawn => {
                (self.job, self.withdrawn) = (None, false);
                None
            }
            Reply::Cancelled => {
                self.closed();
                None
            }
        }
    }

    /// After a reply was taken in: a job that has ended cannot be taken back any more.
    pub fn settle(&mut self) {
        if self.job.is_none() {
            self.withdrawn = false;
        }
    }

    /// Stops the job (`stopped` says what stays of it), else takes away a failure, else stops the question.
    pub fn cancel(&mut self, stopped: &str, cx: &mut Context) -> bool {
        if self.job.is_some() {
            self.withdrawn = true;
            cx.commands.push(Command::Withdraw(cx.screen));
            cx.say(stopped);
            return true;
        }
        if self.failed.take().is_some() {
            return true;
        }
        let Some(of) = self.asked else {
            return false;
        };
        self.unanswered = Some((of, "it was stopped".into()));
        cx.commands.push(Command::Stop);
        true
    }
}
