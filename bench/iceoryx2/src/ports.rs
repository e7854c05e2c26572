//! A publisher and a subscriber of one service, and a helper process that talks over its standard input and output.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample_mut::SampleMut;
use iceoryx2::service::port_factory::{event, publish_subscribe};

use crate::measure::Options;

/// Messages that may wait at one time.
pub const MOST: usize = 64;

pub struct Ports {
    node: Node<ipc::Service>,
    name: String,
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
}

impl Ports {
    pub fn new(options: &Options, name: &str) -> Result<Self, Box<dyn Error>> {
        let node = node_of(options)?;
        let service = service_of(&node, name, options)?;
        let publisher = service.publisher_builder().initial_max_slice_len(options.size).create()?;
        let subscriber = service.subscriber_builder().create()?;
        Ok(Self { node, name: name.to_owned(), publisher, subscriber })
    }

    pub fn event(&self) -> Result<event::PortFactory<ipc::Service>, Box<dyn Error>> {
        Ok(self.node.service_builder(&self.name.as_str().try_into()?).event().open_or_create()?)
    }

    pub fn send(&self, source: &[u8]) -> Result<(), Box<dyn Error>> {
        self.publisher.loan_slice_uninit(source.len())?.write_from_slice(source).send()?;
        Ok(())
    }

    /// A message that is there but for its sending.
    pub fn prepare(&self, size: usize) -> Result<SampleMut<ipc::Service, [u8], ()>, Box<dyn Error>> {
        Ok(self.publisher.loan_slice_uninit(size)?.write_from_fn(|_| 7))
    }

    /// The first byte of the next message, which is dropped.
    pub fn receive(&self) -> Result<u8, Box<dyn Error>> {
        let sample = self.subscriber.receive()?.ok_or("no message has come")?;
        Ok(sample[0])
    }
}

/// All files of iceoryx2 are below the run's directory, all its shared memory has the run's prefix.
pub fn node_of(options: &Options) -> Result<Node<ipc::Service>, Box<dyn Error>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.set_root_path(&Path::new(options.directory.as_bytes())?);
    config.global.prefix = FileName::new(options.prefix.as_bytes())?;
    Ok(NodeBuilder::new().config(&config).create::<ipc::Service>()?)
}

type Messages = publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

pub fn service_of(node: &Node<ipc::Service>, name: &str, options: &Options) -> Result<Messages, Box<dyn Error>> {
    // A gigabyte of messages would be kept for 64 that wait, so large ones are one at a time.
    let waiting = ((256 << 20) / options.size).clamp(1, MOST);
    let builder = node.service_builder(&name.try_into()?).publish_subscribe::<[u8]>();
    Ok(builder.subscriber_max_buffer_size(waiting).enable_safe_overflow(true).open_or_create()?)
}

/// This program once more, in another role; numbers go to it and come from it, one a line.
pub struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Helper {
    pub fn start(role: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .arg(format!("role={role}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("the helper has no pipes");
        let to = child.stdin.take().ok_or_else(gone)?;
        let from = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        Ok(Self { child, to: Some(to), from })
    }

    pub fn tell(&mut self, number: usize) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), |to| writeln!(to, "{number}"))
    }

    pub fn hear(&mut self) -> Result<u64, Box<dyn Error>> {
        read_number(&mut self.from)?.ok_or_else(|| "the helper has ended".into())
    }
}

impl Drop for Helper {
    /// Its input ends, so it does; waiting for it can fail only when it was waited for.
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}

/// What a helper says to the one that started it.
pub fn answer(number: impl TryInto<u64>) -> Result<(), Box<dyn Error>> {
    println!("{}", number.try_into().map_err(|_| "not a number for a line")?);
    Ok(io::stdout().flush()?)
}

/// What a helper is told, `None` at the end.
pub fn question() -> Result<Option<u64>, Box<dyn Error>> {
    read_number(&mut io::stdin().lock())
}

fn read_number(from: &mut impl BufRead) -> Result<Option<u64>, Box<dyn Error>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim().parse()?))
}
