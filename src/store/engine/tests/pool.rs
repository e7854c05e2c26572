//! Memory that is ready before anybody needs it, and memory that is given back when nobody does.

use super::*;

const MEBIBYTE: u64 = 1 << 20;
const LIMIT: u64 = 1 << 30;

fn lab_with_pool(limit: u64) -> Lab {
    let pages = FakePages::default();
    {
        let mut ledger = pages.0.borrow_mut();
        (ledger.can_lease, ledger.is_ready) = (true, true);
        ledger.pool_bytes = crate::store::stock::default_pool(limit);
    }
    Lab::new(Engine::new(limit, pages.clone()).unwrap(), pages)
}

impl Lab {
    /// Calls for pages so far.
    fn calls(&self) -> u64 {
        self.pages.0.borrow().calls
    }

    fn mebibytes_pooled(&self) -> u64 {
        self.engine.stats().pool_bytes / MEBIBYTE
    }

    /// Does work also where nobody waits for any, as the loop does in each of its turns.
    fn turn(&mut self) {
        self.engine.work(self.now);
        self.work();
    }

    fn segment_length(&self, name: u8) -> u64 {
        let place = self.engine.objects[&id(name)].place.unwrap();
        self.engine.space.leases().region(place.segment).unwrap().backing.bytes()
    }
}

#[test]
fn small_stores_have_no_pool() {
    for limit in [10_000, MEBIBYTE, 64 * MEBIBYTE - 1] {
        let lab = lab_with_pool(limit);
        assert_eq!((lab.mebibytes_pooled(), lab.pages.0.borrow().backed), (0, 0));
    }
    assert_eq!(lab_with_pool(64 * MEBIBYTE).mebibytes_pooled(), 8);
    assert_eq!(lab_with_pool(LIMIT).mebibytes_pooled(), 80);
    assert!(lab_with_pool(1 << 40).mebibytes_pooled() <= 256);
}

#[test]
fn a_first_large_object_and_a_first_small_one_find_their_memory_there() {
    let mut lab = lab_with_pool(LIMIT);
    let (one, two) = (lab.native(), lab.native());
    let size = 64 * MEBIBYTE as i64;
    assert_eq!(lab.create(one, 1, size).unwrap().offset, 0);
    lab.create(two, 2, 100).unwrap();
    assert_eq!((lab.calls(), lab.segment_length(1), lab.segment_length(2)), (0, 64 * MEBIBYTE, 2 * MEBIBYTE));
    assert_eq!(lab.mebibytes_pooled(), 14);
    lab.turn();
    assert_eq!(lab.mebibytes_pooled(), 80, "others are made");
    let location = lab.create_with(two, create_of(3, size, 1000)).unwrap();
    assert_eq!((lab.calls(), location.data_size), (1, size as u64), "a header lies behind what is ready");
}

#[test]
fn nobody_waits_for_what_is_not_ready_and_nobody_gets_more_than_twice_what_he_needs() {
    let mut lab = lab_with_pool(LIMIT);
    lab.pages.0.borrow_mut().is_ready = false;
    let peer = lab.native();
    lab.create(peer, 1, 64 * MEBIBYTE as i64).unwrap();
    assert_eq!((lab.calls(), lab.mebibytes_pooled()), (8, 80));
    lab.pages.0.borrow_mut().is_ready = true;
    let peer = lab.native();
    lab.create(peer, 2, 20 * MEBIBYTE as i64).unwrap();
    assert_eq!(lab.segment_length(2), 20 * MEBIBYTE);
}

#[test]
fn the_pool_is_the_first_to_go_and_no_create_fails_for_it() {
    let limit = 256 * MEBIBYTE;
    let mut lab = lab_with_pool(limit);
    let (old, reader) = (lab.old(), lab.native());
    assert_eq!(lab.mebibytes_pooled(), 32);
    // Warm pages that nobody uses, and all else in use.
    lab.put(old, 1, 60 * MEBIBYTE as i64);
    lab.delete(old, &[1]);
    for name in 2..=8 {
        lab.create(old, name, 30 * MEBIBYTE as i64).unwrap();
    }
    let producer = lab.native();
    lab.create(producer, 9, 46 * MEBIBYTE as i64).unwrap();
    assert_eq!((lab.used(), lab.engine.stats().evictions), (limit, 0));
    assert!(lab.engine.space.backed() <= limit + limit / 8 + MEBIBYTE);
    lab.delete(old, &[2]);
    lab.engine.disconnect(producer);
    // All that there is, for somebody else.
    lab.engine.disconnect(old);
    lab.create(reader, 10, limit as i64).unwrap();
    assert_eq!(lab.used(), limit);
}

#[test]
fn the_pool_goes_before_warm_pages_do() {
    let limit = 256 * MEBIBYTE;
    let mut lab = lab_with_pool(limit);
    let (old, producer) = (lab.old(), lab.native());
    lab.put(old, 1, 100 * MEBIBYTE as i64);
    lab.delete(old, &[1]);
    let warm = 100 * MEBIBYTE;
    lab.create(producer, 2, 150 * MEBIBYTE as i64).unwrap();
    lab.create(producer, 3, 32 * MEBIBYTE as i64).unwrap();
    assert_eq!(lab.engine.space.backed() - lab.engine.space.pooled(), warm + 182 * MEBIBYTE);
    assert!(lab.mebibytes_pooled() < 8, "a part of it is left: {}", lab.mebibytes_pooled());
    lab.turn();
    assert!(lab.mebibytes_pooled() < 8, "what objects may need is not taken for the pool");
}

#[test]
fn a_machine_without_memory_gets_the_pool_back_and_keeps_it_until_things_are_calm() {
    let mut lab = lab_with_pool(LIMIT);
    let peer = lab.native();
    let next = lab.calls() + 1;
    lab.pages.0.borrow_mut().failures = next..next + 1;
    lab.create(peer, 1, 20 * MEBIBYTE as i64).unwrap();
    lab.turn();
    assert_eq!(lab.mebibytes_pooled(), 0);
    lab.pass(0);
    lab.pass(4999);
    assert_eq!(lab.mebibytes_pooled(), 0);
    lab.pass(1);
    assert_eq!(lab.mebibytes_pooled(), 80);
}

#[test]
fn many_producers_with_little_in_their_segments_take_little_from_others() {
    let limit = 256 * MEBIBYTE;
    let mut lab = lab_with_pool(limit);
    for name in 0..100 {
        let producer = lab.native();
        lab.create(producer, name, 10).unwrap();
        lab.turn();
    }
    let peer = lab.native();
    lab.create(peer, 200, 230 * MEBIBYTE as i64).unwrap();
    assert!(lab.engine.space.backed() - lab.engine.space.pooled() <= limit + limit / 8);
}

#[test]
fn what_lies_free_is_given_back_when_nobody_needs_it_and_the_pool_stays() {
    let mut lab = lab_with_pool(LIMIT);
    let (old, native, other) = (lab.old(), lab.native(), lab.native());
    lab.put(old, 1, 200 * MEBIBYTE as i64);
    lab.put(native, 2, 64 * MEBIBYTE as i64);
    lab.put(other, 3, 1000);
    lab.delete(native, &[1, 2]);
    lab.turn();
    lab.pass(0);
    let warm = lab.pages.0.borrow().backed;
    lab.pass(4999);
    assert_eq!(lab.pages.0.borrow().backed, warm, "somebody may come");
    lab.pass(1);
    let first = lab.pages.0.borrow().backed;
    assert!(first < warm && warm - first <= 64 * MEBIBYTE, "not all at once: the loop has others to serve");
    lab.calm_down();
    lab.check();
    assert_eq!(lab.names(), [3]);
    assert_eq!(lab.pages.0.borrow().backed, 82 * MEBIBYTE, "the pool, and the segment of what is left");
    assert_eq!(lab.mebibytes_pooled(), 80);
}

#[test]
fn whoever_comes_or_goes_moves_the_time_to_give_back() {
    let mut lab = lab_with_pool(LIMIT);
    let old = lab.old();
    lab.put(old, 1, 1000);
    lab.put(old, 2, 1000);
    lab.pass(0);
    for name in [1, 2] {
        lab.pass(4000);
        lab.delete(old, &[name]);
        lab.pass(0);
    }
    assert_eq!(lab.engine.next_deadline(), Some(lab.now.instant + Duration::from_secs(5)));
}

#[test]
fn memory_stays_below_its_bound_whatever_comes_and_goes() {
    let limit = 128 * MEBIBYTE;
    let mut lab = lab_with_pool(limit);
    let mut peers: Vec<_> = (0..4).map(|n| if n % 2 == 0 { lab.native() } else { lab.old() }).collect();
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut pooled = BTreeSet::new();
    for _ in 0..3000 {
        let (peer, name) = (peers[random(4) as usize], random(40) as u8);
        lab.pages.0.borrow_mut().is_ready = random(4) > 0;
        match random(8) {
            0..4 => {
                let size = [100, 100_000, 3 * MEBIBYTE, 9 * MEBIBYTE, 20 * MEBIBYTE][random(5) as usize];
                if lab.create(peer, name, size as i64).is_ok() {
                    lab.seal(peer, name).unwrap();
                    lab.release(peer, name);
                }
            }
            4 | 5 => drop(lab.delete(peer, &[name])),
            6 if random(8) == 0 => {
                let index = random(4) as usize;
                lab.engine.disconnect(peers[index]);
                peers[index] = if index.is_multiple_of(2) { lab.native() } else { lab.old() };
            }
            6 => lab.turn(),
            _ => lab.pass(random(8000)),
        }
        lab.effects();
        assert!(lab.engine.space.backed() <= limit + limit / 8 + MEBIBYTE);
        pooled.insert(lab.mebibytes_pooled());
    }
    assert!(pooled.contains(&0) && pooled.contains(&16) && pooled.len() > 3, "{pooled:?}");
}
