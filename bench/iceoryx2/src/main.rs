//! iceoryx2 under those measurements that it has a counterpart for: it passes messages, and keeps no objects by name.
//!
//! `put` is loan, copy and send; `get` is receive, first byte and drop of a message that another process sent; `handoff` is
//! send and notify to a listener that sleeps; `ring_spin` is a message there and one
//! back between processes that spin; `cycles` is a message sent, received and dropped in one process.

mod measure;
mod ports;
mod spin;

use std::error::Error;
use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;

use measure::{Options, Samples, measure, now_ns};
use ports::{Helper, MOST, Ports, answer, question};

type Done = Result<(), Box<dyn Error>>;

fn put(options: &Options) -> Done {
    let ports = Ports::new(options, "put")?;
    let source = vec![7u8; options.size];
    let batch = (1 << 20) / options.size;
    measure("put", options, batch.clamp(1, MOST), |times| {
        let begin = now_ns()?;
        for _ in 0..times {
            ports.send(&source)?;
        }
        let ns = now_ns()? - begin;
        for _ in 0..times {
            ports.receive()?;
        }
        Ok(ns)
    })
}

fn get(options: &Options) -> Done {
    let ports = Ports::new(options, "get")?;
    let mut producer = Helper::start("produce")?;
    producer.hear()?;
    measure("get", options, MOST, |times| {
        producer.tell(times)?;
        producer.hear()?;
        let begin = now_ns()?;
        for _ in 0..times {
            black_box(ports.receive()?);
        }
        Ok(now_ns()? - begin)
    })
}

/// The other side of `get`: sends as many messages as it is told to.
fn produce(options: &Options) -> Done {
    let ports = Ports::new(options, "get")?;
    let source = vec![7u8; options.size];
    answer(0)?;
    while let Some(times) = question()? {
        for _ in 0..times {
            ports.send(&source)?;
        }
        answer(times)?;
    }
    Ok(())
}

fn handoff(options: &Options) -> Done {
    let ports = Ports::new(options, "handoff")?;
    let notifier = ports.event()?.notifier_builder().create()?;
    let mut consumer = Helper::start("consume")?;
    let mut samples = Samples::new(1);
    for round in 0..options.count {
        let message = ports.prepare(options.size)?;
        consumer.hear()?;
        sleep(Duration::from_micros(500)); // by then the consumer sleeps
        let stamp = now_ns()?;
        message.send()?;
        notifier.notify()?;
        let first_byte = consumer.hear()?;
        if round >= options.count / 10 {
            samples.add(first_byte - stamp);
        }
    }
    samples.print("handoff");
    Ok(())
}

/// The other side of `handoff`: says that it waits, and later when it read the first byte.
fn consume(options: &Options) -> Done {
    let ports = Ports::new(options, "handoff")?;
    let listener = ports.event()?.listener_builder().create()?;
    for _ in 0..options.count {
        answer(0)?;
        let mut woken = false;
        while !woken {
            listener.blocking_wait(|_| woken = true)?;
        }
        black_box(ports.receive()?);
        answer(now_ns()?)?;
    }
    Ok(())
}

fn cycles(options: &Options) -> Done {
    let mut clients = (0..options.clients).map(|_| Helper::start("cycle")).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.hear()?;
    }
    for client in &mut clients {
        client.tell(1)?;
    }
    let mut per_second = 0;
    for client in &mut clients {
        per_second += client.hear()?;
    }
    measure::print("cycles", "/s", per_second as f64, per_second as f64, 1, 20, 0);
    Ok(())
}

/// One of the clients of `cycles`.
fn cycle(options: &Options) -> Done {
    let ports = Ports::new(options, &format!("cycle {}", std::process::id()))?;
    let source = vec![7u8; options.size];
    let twenty = || -> Done {
        for _ in 0..20 {
            ports.send(&source)?;
            black_box(ports.receive()?);
        }
        Ok(())
    };
    twenty()?;
    answer(0)?;
    question()?;
    let (begin, mut ns, mut count) = (now_ns()?, 0, 0);
    while ns < options.budget_ns {
        twenty()?;
        count += 20;
        ns = now_ns()? - begin;
    }
    answer((count as f64 * 1e9 / ns as f64) as u64)
}

fn main() -> Done {
    let options = Options::read()?;
    match options.role() {
        "put" => put(&options),
        "get" => get(&options),
        "produce" => produce(&options),
        "handoff" | "ring_handoff" => handoff(&options),
        "ring_spin" => spin::spin(&options),
        "echo" => spin::echo(&options),
        "consume" => consume(&options),
        "cycles" => cycles(&options),
        "cycle" => cycle(&options),
        other => Err(format!("no such work: {other}").into()),
    }
}
