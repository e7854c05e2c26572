//! The daemon: arguments and signals. The work is in the library.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, Parser};
use log::LevelFilter;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use plasma_store::error::{Error, Result};
use plasma_store::store::{Capacity, MOST_INDEXED, Store, StoreOptions, default_socket_directory};
use plasma_store::transport::access::Access;
use plasma_store::transport::connect::default_socket;

/// Shared-memory object store for tensors. Serves clients of plasma_store and of Apache Arrow Plasma.
///
/// Flags may be written as Plasma's own daemon takes them: -m=100, --m=100, -m 100.
// As there, the last one counts where a flag is given twice.
#[derive(Debug, Parser)]
#[command(name = "plasma-store-server", version, disable_help_flag = true, args_override_self = true)]
struct Arguments {
    /// Socket to listen at [default: $PLASMA_STORE_SOCKET, else $XDG_RUNTIME_DIR/plasma-store.sock, else
    /// /tmp/plasma-store-<uid>/plasma.sock]
    #[arg(short = 's', long, alias = "s", value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Bytes of objects that the store holds at most, data and metadata together: 1000000, 512M, 2G, or 50% of what there
    /// is
    #[arg(short = 'm', long, alias = "m", value_name = "BYTES")]
    memory: Capacity,

    /// Keep the objects in a file in this directory; it has no name there and ends with the store [default: memory]
    #[arg(short = 'd', long, alias = "d", value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Keep the objects in huge pages, all of them taken at the start; with -d, DIR must be in a hugetlbfs
    #[arg(short = 'h', long = "hugepages", alias = "h", action = ArgAction::Set, value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
        hide_default_value = true, hide_possible_values = true)]
    huge_pages: bool,

    /// Write objects that are evicted to this external store, and read them from there when somebody gets them:
    /// hashtable://NAME is one in the daemon's own memory
    #[arg(short = 'e', long, alias = "e", value_name = "URL", default_value = "", hide_default_value = true)]
    external_store: String,

    /// Objects that clients find without a system call, 1 to 1048576; more can be stored, and are asked for [default: one for
    /// each 16 KiB of the memory, 4096 to 1048576]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_INDEXED)))]
    max_objects: Option<u32>,

    /// Memory that is made ready before anybody needs it, a part of the store's: bytes such as 64M, or 0 for none. Without -d and -h
    /// only [default: an eighth of the store's, at most 256M; none below -m 64M]
    #[arg(long, value_name = "BYTES", value_parser = pool_size)]
    pool: Option<u64>,

    /// Stay awake for so many microseconds after the last request, so that the next one needs no wake; takes a processor
    /// meanwhile, which should not be the only one
    #[arg(long, value_name = "MICROSECONDS", default_value = "0")]
    spin_us: u32,

    /// Start also with more than the memory (the machine's, or the control group's) or the free space in DIR
    #[arg(long)]
    overcommit: bool,

    /// Group of the socket, a name or a number. Without --mode its members may connect
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// Mode of the socket [default: 0600, with --group 0660]. Whoever may write to it may connect
    #[arg(long, value_name = "OCTAL")]
    mode: Option<String>,

    /// Say more: -v tells of connections, -vv of everything
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    start_log(arguments.verbose);
    match options(arguments).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The old daemon's parser took long names with one dash as well, so `-memory` is not `-m emory`.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    command.build();
    let is_long = |name: &str| command.get_arguments().any(|known| known.get_long() == Some(name));
    let with_two_dashes = |argument: OsString| match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(text) if is_long(text.split('=').next().unwrap_or_default()) => format!("--{text}").into(),
        _ => argument,
    };
    Arguments::try_parse_from(arguments.map(with_two_dashes))
}

/// A size as for the store itself, or none.
fn pool_size(text: &str) -> Result<u64> {
    match text {
        "0" => Ok(0),
        _ => match text.parse()? {
            Capacity::Bytes(bytes) => Ok(bytes),
            Capacity::Percent(_) => {
                Err(Error::InvalidArgument(format!("{text} is no number of bytes, such as 64M, or 0 for none")))
            }
        },
    }
}

/// What the store is to be.
fn options(arguments: Arguments) -> Result<StoreOptions> {
    let access = Access::new(arguments.mode.as_deref(), arguments.group.as_deref())?;
    let capacity = arguments.memory.bytes(arguments.directory.as_deref(), arguments.overcommit)?;
    let socket = match arguments.socket {
        Some(socket) => socket,
        None => default_socket_directory().map(|()| default_socket())?,
    };
    Ok(StoreOptions {
        socket: Some(socket),
        capacity,
        directory: arguments.directory,
        huge_pages: arguments.huge_pages,
        indexed_objects: arguments.max_objects,
        pool: arguments.pool,
        spin: Duration::from_micros(arguments.spin_us.into()),
        external_store: Some(arguments.external_store).filter(|url| !url.is_empty()),
        access,
    })
}

/// Runs a store until SIGTERM or SIGINT comes, or until it ends by itself.
fn serve(options: StoreOptions) -> Result<()> {
    // Blocked before any thread starts, so that only `wait` below takes them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(Error::from_errno("sigprocmask"))?;
    keep_others_out()?;
    raise_descriptor_limit();
    let store = Store::start(&options)?;
    log::info!("serving {} bytes at {}", options.capacity, store.socket().display());
    let stopper = store.stopper();
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            log::info!("ending on {signal}");
        }
        stopper.stop();
    });
    store.wait()
}

/// The kernel lets no other program of the same user look into this process, write its memory or copy its descriptors: it maps
/// memory for writing that its clients may only read. Objects and ids end up in no core file, and nothing raises its rights.
fn keep_others_out() -> Result<()> {
    set_dumpable(false).map_err(Error::from_errno("prctl(PR_SET_DUMPABLE)"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Error::from_errno("setrlimit(RLIMIT_CORE)"))?;
    set_no_new_privs().map_err(Error::from_errno("prctl(PR_SET_NO_NEW_PRIVS)"))
}

/// A connection is a descriptor; the soft limit is for programs that use `select`.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard));
    if let Err(errno) = raised {
        log::warn!("the limit of descriptors stays as it is: {errno}");
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    env_logger::Builder::new().filter_level(level).format_target(false).init();
}
