//! Messages there and back between two processes that both spin, each on a core of its own.

use std::error::Error;
use std::hint::{black_box, spin_loop};

use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::ipc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::measure::{Options, measure, now_ns};
use crate::ports::{Helper, answer, node_of, question, service_of};

type Done = Result<(), Box<dyn Error>>;

const MOST_IN_BATCH: usize = 1000;
/// A message that is this ends the echo.
const LAST: u8 = 0;

/// Runs on the core with this number among those that the process may use.
fn pin(index: usize) -> Done {
    let allowed = sched_getaffinity(Pid::this())?;
    let core = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).nth(index);
    let mut one = CpuSet::new();
    one.set(core.ok_or("there is only one core")?)?;
    Ok(sched_setaffinity(Pid::this(), &one)?)
}

/// One process's ends: it publishes in one service and hears what comes in another.
struct Ends {
    _node: Node<ipc::Service>,
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    size: usize,
}

impl Ends {
    fn new(options: &Options, speaks: &str, hears: &str) -> Result<Self, Box<dyn Error>> {
        let node = node_of(options)?;
        let publisher =
            service_of(&node, speaks, options)?.publisher_builder().initial_max_slice_len(options.size).create()?;
        let subscriber = service_of(&node, hears, options)?.subscriber_builder().create()?;
        Ok(Self { _node: node, publisher, subscriber, size: options.size })
    }

    fn send(&self, byte: u8) -> Done {
        self.publisher.loan_slice_uninit(self.size)?.write_from_fn(|_| byte).send()?;
        Ok(())
    }

    fn hear(&self) -> Result<u8, Box<dyn Error>> {
        loop {
            if let Some(message) = self.subscriber.receive()? {
                return Ok(black_box(message[0]));
            }
            spin_loop();
        }
    }
}

/// Half of the time there and back.
pub fn spin(options: &Options) -> Done {
    let mut other = Helper::start("echo")?;
    pin(0)?;
    let ends = Ends::new(options, "there", "back")?;
    other.tell(0)?;
    other.hear()?;
    measure("handoff", options, MOST_IN_BATCH, |times| {
        let begin = now_ns()?;
        for _ in 0..times {
            ends.send(7)?;
            ends.hear()?;
        }
        Ok((now_ns()? - begin) / 2)
    })?;
    ends.send(LAST)
}

/// The other side: sends back what it hears, until the last message.
pub fn echo(options: &Options) -> Done {
    pin(1)?;
    question()?;
    let ends = Ends::new(options, "back", "there")?;
    answer(0)?;
    loop {
        match ends.hear()? {
            LAST => return Ok(()),
            byte => ends.send(byte)?,
        }
    }
}
