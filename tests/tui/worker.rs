//! The lanes: the newest interactive request wins, a panic is an answer, a cancelled pass stops.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use candlescope::hooks::Hooks;
use candlescope::model::{Batch, Cancel, Checkpoint, LogitsAt, ModelError};
use candlescope::tui::app::Msg;
use candlescope::tui::screen::Reply;
use candlescope::tui::work::{Lane, Worker};

fn next(from: &Receiver<Msg>) -> (u64, Reply) {
    match from.recv_timeout(Duration::from_secs(60)).unwrap() {
        Msg::Reply { id, reply, .. } => (id, reply),
        _ => panic!("not a reply"),
    }
}

#[test]
fn the_newest_interactive_request_wins_and_a_panic_is_an_answer() {
    let checkpoint = Arc::new(Checkpoint::toy(0).unwrap());
    let (to, from) = channel();
    let worker = Worker::start(to).unwrap();
    let (started, waits) = channel();
    let post = |lane, work| worker.post("test", lane, Arc::clone(&checkpoint), work);
    let first = post(
        Lane::Interactive,
        Box::new(move |checkpoint, ticket| {
            started.send(()).unwrap();
            while !ticket.cancelled() {
                std::thread::yield_now();
            }
            let batch = Batch::single(&[1, 2, 3]).unwrap();
            let pass = checkpoint
                .decoder
                .forward(&batch, &Hooks::new(), LogitsAt::Last);
            Err(pass.unwrap_err().to_string())
        }),
    );
    waits.recv().unwrap();
    let second = post(Lane::Interactive, Box::new(|_, _| Ok(Box::new(2))));
    let third = post(Lane::Interactive, Box::new(|_, _| Ok(Box::new(3))));
    let mut ends: Vec<(u64, Reply)> = (0..3).map(|_| next(&from)).collect();
    ends.sort_by_key(|(id, _)| *id);
    assert_eq!(
        ends.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [first, second, third]
    );
    assert!(matches!(ends[0].1, Reply::Cancelled));
    let Reply::Done(value) = ends.pop().unwrap().1 else {
        panic!("the newest was not done");
    };
    assert_eq!(*value.downcast::<i32>().unwrap(), 3);
    post(Lane::Job, Box::new(|_, _| panic!("on purpose")));
    let (_, Reply::Failed(why)) = next(&from) else {
        panic!("a panic is a failure");
    };
    assert!(why.contains("on purpose"), "{why}");
    post(Lane::Job, Box::new(|_, _| Ok(Box::new(()))));
    assert!(matches!(next(&from).1, Reply::Done(_)), "the lane goes on");
}

#[test]
fn a_pass_that_nobody_waits_for_stops_and_leaves_no_trace() {
    let checkpoint = Checkpoint::toy(0).unwrap();
    let pass = || {
        checkpoint.decoder.forward(
            &Batch::single(&[1, 2, 3]).unwrap(),
            &Hooks::new(),
            LogitsAt::Last,
        )
    };
    let cancel = Cancel::new();
    cancel.watch(|| assert!(pass().is_ok()));
    cancel.request();
    cancel.watch(|| assert!(matches!(pass(), Err(ModelError::Cancelled))));
    assert!(pass().is_ok(), "outside nothing is watched");
}

#[test]
fn a_screen_takes_its_waiting_jobs_back() {
    let checkpoint = Arc::new(Checkpoint::toy(0).unwrap());
    let (to, from) = channel();
    let worker = Worker::start(to).unwrap();
    let (started, waits) = channel();
    let post = |screen, work| worker.post(screen, Lane::Job, Arc::clone(&checkpoint), work);
    let first = post(
        "other",
        Box::new(move |_, ticket| {
            started.send(()).unwrap();
            while !ticket.cancelled() {
                std::thread::yield_now();
            }
            Ok(Box::new(()))
        }),
    );
    waits.recv().unwrap();
    let second = post("audit", Box::new(|_, _| panic!("it was taken back")));
    worker.withdraw("audit");
    let (id, reply) = next(&from);
    assert!(id == second && matches!(reply, Reply::Cancelled));
    worker.withdraw("other");
    let (id, reply) = next(&from);
    assert!(
        id == first && matches!(reply, Reply::Done(_)),
        "a running one is asked to stop"
    );
}
