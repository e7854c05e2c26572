//! Unix sockets: what travels between a store and its peers, whole frames and descriptors, and nothing of what they mean.

pub mod access;
pub mod connect;
pub mod fd_passing;
pub mod fork_guard;
pub mod knock;
pub mod listener;
pub mod stream;
pub mod threads;
pub mod wait;
