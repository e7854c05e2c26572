//! The figures of the store: as numbers; as old Plasma's debug string, in its words and order, since old programs search it; and
//! why the store is full.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::Duration;

use crate::protocol::{Refused, Stats};
use crate::store::engine::creation::out_of_memory;
use crate::store::engine::{Engine, Now};
use crate::store::eviction::LeastRecentlyUsed;
use crate::store::objects::Object;
use crate::store::peers::PeerId;
use crate::store::space::Pages;

/// The log says at most this often that the store is full: whoever is refused may try again at once.
const FULL_LOG_PAUSE: Duration = Duration::from_secs(1);
/// Looks at an object for a peer that are cheap enough to be made for every refusal: a millisecond.
const CHEAP_LOOKS: usize = 1 << 16;

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) creates: u64,
    gets: u64,
    hits: u64,
    misses: u64,
    evictions: u64,
    evicted_bytes: u64,
}

impl Counted {
    /// A get that found and missed so many objects.
    pub(super) fn get(&mut self, found: usize, missing: usize) {
        self.gets += 1;
        self.hits += found as u64;
        self.misses += missing as u64;
    }

    /// An object of so many bytes was evicted.
    pub(super) fn eviction(&mut self, bytes: u64) {
        self.evictions += 1;
        self.evicted_bytes += bytes;
    }
}

impl<P: Pages> Engine<P> {
    pub(super) fn stats(&self) -> Stats {
        let held = self.objects.values().filter(|object| object.holders > 0 || self.readers(object) > 0);
        let Counted { creates, gets, hits, misses, evictions, evicted_bytes } = self.counted;
        Stats {
            capacity: self.space.limit(),
            used_bytes: self.space.used(),
            held_bytes: held.clone().map(Object::size).sum(),
            allocated_bytes: self.space.backed(),
            largest_free_extent: self.space.largest_free(),
            objects: self.objects.len() as u64,
            sealed_objects: self.objects.values().filter(|object| object.is_sealed()).count() as u64,
            held_objects: held.count() as u64,
            clients: self.peers.len() as u64,
            subscriptions: self.subscribers.len() as u64,
            waiting_gets: self.waiters.count() + self.wants.count(),
            creates,
            gets,
            hits,
            misses,
            evictions,
            evicted_bytes,
            pinned_bytes: self.pinned_bytes,
            waiting_creates: self.queue.len() as u64,
            segments: self.space.leases().count(),
            retired_bytes: self.space.leases().retired_bytes(),
            copied_bytes: self.objects.values().map(Object::copy_size).sum(),
            pool_bytes: self.space.pooled(),
        }
    }

    pub(super) fn describe(&self) -> String {
        let with_quota = self.peers.values().filter(|peer| peer.quota.is_some());
        let owned = self.objects.values().filter(|object| object.owner.is_some());
        let held = self.objects.values().filter(|object| object.holders > 0 || self.readers(object) > 0);
        let limit = self.space.limit();
        let mut text = format!(
            "num clients with quota: {}\nquota map size: {}\npinned quota map size: {}\nallocated bytes: {}\n\
             allocation limit: {limit}\npinned bytes: {}",
            with_quota.count(),
            owned.clone().count(),
            owned.filter(|object| object.holders > 0).count(),
            self.space.used(),
            held.map(Object::size).sum::<u64>(),
        );
        self.describe_list(&mut text, "global lru", [limit, limit - self.granted()], &self.evictable);
        for peer in self.peers.values() {
            if let Some(quota) = &peer.quota {
                self.describe_list(&mut text, &peer.name, [quota.limit; 2], &quota.objects);
            }
        }
        text
    }

    /// What a create that finds no room is told, and the log with it.
    pub(super) fn full(&mut self, peer: PeerId, size: u64, now: Now) -> Refused {
        self.see_who_holds_most(now);
        let text = self.describe_full(size);
        if self.full_logged.is_none_or(|last| now.instant.saturating_duration_since(last) >= FULL_LOG_PAUSE) {
            self.full_logged = Some(now.instant);
            log::warn!("store full for {}: {text}", self.describe_peer(peer));
        }
        out_of_memory(text)
    }

    pub(super) fn describe_full(&self, size: u64) -> String {
        let mut text = format!(
            "an object of {size} bytes does not fit: capacity {}, used {}, of which {} cannot be evicted ({} are pinned), \
             largest free extent {}",
            self.space.limit(),
            self.space.used(),
            self.space.used() - self.evictable_bytes(),
            self.pinned_bytes,
            self.space.largest_free(),
        );
        if let Some((bytes, peer)) = self.holds_most.1.filter(|(bytes, _)| *bytes > 0) {
            text += &format!(", {} holds most: {bytes} bytes", self.describe_peer(peer));
        }
        if !self.queue.is_empty() {
            text += &format!(", creates that wait for room: {}", self.queue.len());
        }
        text + &self.why_no_room()
    }

    /// Finds out which peer holds most. That looks at every object for every peer, so where there are many of both it is done once a
    /// second at most: clients that try again and again in a full store must not keep the others waiting.
    pub(super) fn see_who_holds_most(&mut self, now: Now) {
        let (seen, _) = self.holds_most;
        let is_cheap = self.objects.len() * self.peers.len() <= CHEAP_LOOKS;
        if !is_cheap && seen.is_some_and(|seen| now.instant.saturating_duration_since(seen) < FULL_LOG_PAUSE) {
            return;
        }
        let held = self.peers.iter().map(|(peer, state)| (state.held_bytes + self.read_bytes(*peer), Reverse(*peer)));
        self.holds_most = (Some(now.instant), held.max().map(|(bytes, Reverse(peer))| (bytes, peer)));
    }

    fn describe_peer(&self, peer: PeerId) -> String {
        let process = self.peers.get(&peer).map_or("", |state| &state.process);
        if process.is_empty() { format!("client {peer}") } else { process.to_owned() }
    }

    /// `capacity` is what the list began with, and what is left of that after quotas were granted.
    fn describe_list(&self, text: &mut String, name: &str, capacity: [u64; 2], list: &LeastRecentlyUsed) {
        let sizes = list.oldest_first().map(|id| self.objects.get(&id).map_or(0, Object::size));
        let (count, bytes) = sizes.fold((0_u64, 0_u64), |(count, bytes), size| (count + 1, bytes + size));
        let [original, left] = capacity;
        let used = 100.0 * (1.0 - (left as f64 - bytes as f64) / original.max(1) as f64);
        let figures = [
            ("capacity", left.to_string()),
            ("used", format!("{}%", six_digits(used))),
            ("num objects", count.to_string()),
            ("num evictions", list.evictions.to_string()),
            ("bytes evicted", list.bytes_evicted.to_string()),
        ];
        for (key, value) in figures {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n({name}) {key}: {value}");
        }
    }
}

/// A number with six significant digits and no zeros at its end, as a C++ stream shows it.
fn six_digits(number: f64) -> String {
    let scientific = format!("{number:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ -4..=5 => without_end_zeros(&format!("{number:.*}", (5 - exponent) as usize)).to_owned(),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", without_end_zeros(mantissa), exponent.abs())
        }
    }
}

fn without_end_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::six_digits;

    #[test]
    fn numbers_look_as_a_cpp_stream_shows_them() {
        let shown = [
            (0.0, "0"),
            (80.0, "80"),
            (100.0, "100"),
            (62.91456, "62.9146"),
            (0.142_857_142, "0.142857"),
            (0.000_325, "0.000325"),
            (0.000_032_5, "3.25e-05"),
            (1_234_567.0, "1.23457e+06"),
        ];
        for (number, text) in shown {
            assert_eq!(six_digits(number), text);
        }
    }
}
