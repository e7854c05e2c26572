//! Options, the clock, samples and the lines that are printed, as in native/measure.h.

use std::error::Error;
use std::str::FromStr;

use nix::time::{ClockId, clock_gettime};

/// A shorter sample is made of several operations, so that the clock hardly counts.
const SAMPLE_NS: u64 = 10_000;
const MAX_SAMPLES: usize = 100_000;

/// The words `name=value` of the command line.
pub struct Options {
    pub work: String,
    pub size: usize,
    pub count: u64,
    pub clients: u64,
    pub budget_ns: u64,
    /// A directory of the run, on tmpfs, and the beginning of its names in /dev/shm.
    pub directory: String,
    pub prefix: String,
    role: Option<String>,
}

impl Options {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let text = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str, otherwise: u64| text(name).map_or(Ok(otherwise), u64::from_str);
        Ok(Self {
            work: words.first().ok_or("no work was named")?.clone(),
            size: usize::try_from(number("size", 64)?)?,
            count: number("count", 1000)?,
            clients: number("clients", 1)?,
            budget_ns: number("budget_ms", 200)? * 1_000_000,
            directory: format!("{}-iceoryx2", text("where").ok_or("no where=PATH")?),
            prefix: text("scratch").unwrap_or("bench-").to_owned(),
            role: text("role").map(str::to_owned),
        })
    }

    /// What this process is to do: the work, or a helper's part of it.
    pub fn role(&self) -> &str {
        self.role.as_deref().unwrap_or(&self.work)
    }
}

pub fn now_ns() -> nix::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

pub struct Samples {
    ns: Vec<f64>,
    batch: usize,
    cores: u64,
}

impl Samples {
    pub fn new(batch: usize) -> Self {
        Self { ns: Vec::with_capacity(MAX_SAMPLES), batch, cores: 0 }
    }

    pub fn add(&mut self, elapsed_ns: u64) {
        self.ns.push(elapsed_ns as f64 / self.batch as f64);
        self.cores |= 1 << (nix::sched::sched_getcpu().unwrap_or(0) & 63);
    }

    pub fn print(mut self, metric: &str) {
        self.ns.sort_by(f64::total_cmp);
        let last = self.ns.len() - 1;
        let (p50, p99) = (self.ns[last / 2], self.ns[(last * 99).div_ceil(100)]);
        print(metric, "ns", p50, p99, self.ns.len(), self.batch, self.cores);
    }
}

pub fn print(metric: &str, unit: &str, p50: f64, p99: f64, samples: usize, batch: usize, cores: u64) {
    println!(
        "{{\"metric\": \"{metric}\", \"unit\": \"{unit}\", \"p50\": {p50:.3}, \"p99\": {p99:.3}, \
         \"samples\": {samples}, \"batch\": {batch}, \"cores\": {cores}}}"
    );
}

/// Warms up, chooses how many operations make one sample, measures for the budget, and prints. `timed` does so many
/// operations and says how many nanoseconds they took.
pub fn measure(
    metric: &str,
    options: &Options,
    most_in_batch: usize,
    mut timed: impl FnMut(usize) -> Result<u64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (begin, mut shortest, mut warm) = (now_ns()?, u64::MAX, 0);
    while warm < 3 || (now_ns()? - begin < options.budget_ns / 5 && warm < 10_000) {
        shortest = shortest.min(timed(1)?);
        warm += 1;
    }
    let batch = usize::try_from(SAMPLE_NS / shortest.max(1) + 1)?.min(most_in_batch);
    let mut samples = Samples::new(batch);
    let end = now_ns()? + options.budget_ns;
    while samples.ns.len() < 5 || (now_ns()? < end && samples.ns.len() < MAX_SAMPLES) {
        samples.add(timed(batch)?);
    }
    samples.print(metric);
    Ok(())
}
