//! The thread, and its desk without a thread.

use nix::sys::stat::fstat;

use super::*;

const KIND: Kind = Kind { len: 6 * HUGE_PAGE, backed: 5 * HUGE_PAGE };
const OTHER: Kind = Kind { len: HUGE_PAGE, backed: HUGE_PAGE };

/// Waits for something that comes by itself; a test that waits a minute has failed.
fn eventually<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "it has not come within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn idle() -> Pool {
    Pool { desk: Arc::default(), thread: None }
}

fn choose(pool: &Pool, now: Instant) -> Result<Job, Option<Instant>> {
    pool.desk.lock().choose(now)
}

/// Does the next piece of work as the thread would.
fn work(pool: &Pool) {
    let job = pool.desk.next().unwrap();
    pool.desk.put_down(job.number, job.run(&mut Filler::default()));
}

fn all_ready(pool: &Pool) -> bool {
    pool.desk.lock().entries.iter().all(|entry| entry.backed == entry.kind.backed)
}

#[test]
fn what_is_ordered_becomes_ready_with_its_memory_and_is_given_once() {
    let pool = Pool::start().unwrap();
    assert!(pool.take(KIND).is_none());
    pool.order(KIND);
    assert!(pool.take(OTHER).is_none());
    let file = eventually(|| pool.take(KIND));
    assert_eq!((file.len(), fstat(&**file).unwrap().st_blocks as u64 * 512), (KIND.len, KIND.backed));
    assert!(pool.take(KIND).is_none());
    assert_eq!(Arc::strong_count(&file), 1, "the thread has let go of it");
}

#[test]
fn what_is_not_ready_is_made_before_the_others_are_gathered_and_these_wait_until_it_is_calm() {
    let pool = idle();
    pool.order(OTHER);
    pool.order(KIND);
    while !all_ready(&pool) {
        work(&pool);
    }
    // As where huge pages are not to be had at once.
    pool.desk.lock().entries.iter_mut().for_each(|entry| entry.gathered = 0);
    let taken = pool.take(OTHER).unwrap();
    let time = choose(&pool, Instant::now()).unwrap_err().unwrap();
    let job = choose(&pool, time).unwrap();
    assert_eq!((job.is_backed, job.range.clone()), (true, 0..HUGE_PAGE));
    pool.order(OTHER);
    assert!(!choose(&pool, time).unwrap().is_backed);
    pool.cancel(OTHER);
    pool.desk.lock().last_taken = None;
    for _ in 0..KIND.backed / HUGE_PAGE {
        work(&pool);
    }
    assert!(matches!(choose(&pool, time), Err(None)), "nothing is left to do");
    drop(taken);
}

#[test]
fn what_is_not_wanted_any_more_is_given_up_whatever_its_state() {
    let pool = idle();
    pool.order(KIND);
    pool.cancel(OTHER);
    assert_eq!(pool.desk.lock().entries.len(), 1);
    work(&pool);
    pool.cancel(KIND);
    assert!(matches!(choose(&pool, Instant::now()), Err(None)));
    pool.order(OTHER);
    work(&pool);
    let file = pool.desk.lock().entries[0].file.as_ref().map(Arc::downgrade).unwrap();
    pool.cancel(OTHER);
    assert!(file.upgrade().is_none() && pool.take(OTHER).is_none());
}

#[test]
fn whoever_cancels_waits_for_what_is_in_hand() {
    let pool = Arc::new(idle());
    pool.order(OTHER);
    let job = pool.desk.next().unwrap();
    let theirs = pool.clone();
    let cancelling = std::thread::spawn(move || theirs.cancel(OTHER));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!cancelling.is_finished());
    pool.desk.put_down(job.number, job.run(&mut Filler::default()));
    cancelling.join().unwrap();
    assert!(pool.desk.lock().entries.is_empty());
}

#[test]
fn where_there_is_no_memory_it_is_tried_again_later_and_the_end_does_not_wait_for_that() {
    let pool = idle();
    // No file has memory behind its end.
    pool.order(Kind { len: HUGE_PAGE, backed: 2 * HUGE_PAGE });
    work(&pool);
    let time = choose(&pool, Instant::now()).unwrap_err().unwrap();
    assert!(choose(&pool, time).is_ok());
    let pool = Pool::start().unwrap();
    pool.order(Kind { len: HUGE_PAGE, backed: 2 * HUGE_PAGE });
    eventually(|| pool.desk.lock().not_before);
    drop(pool); // else this hangs
}
