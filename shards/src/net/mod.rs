//! The kernel's network as the shards use it: descriptors, listening sockets, ports. No protocol, no task.

pub mod certificates;
pub mod datagram;
pub mod doors;
pub mod inbox;
pub mod link;
pub mod listener;
pub mod outlet;
pub mod peer;
pub mod port;
pub mod socket;
#[allow(unsafe_code)] // the only module that may
pub mod sys;
pub mod tls;
pub mod trust;
