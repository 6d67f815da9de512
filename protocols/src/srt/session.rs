//! One SRT connection after its handshake: packets and time in, packets and payload out.

use super::{listener::serialize, packet};
use bytes::Bytes;
use srt_protocol::connection::{Action, Connection, DuplexConnection, Input};
use std::{collections::VecDeque, time::Instant};

pub struct Session {
    connection: DuplexConnection,
    packets: VecDeque<Vec<u8>>,
    payloads: VecDeque<Bytes>,
    deadline: Option<Instant>,
    is_over: bool,
}

impl Session {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection: DuplexConnection::new(connection),
            packets: VecDeque::new(),
            payloads: VecDeque::new(),
            deadline: None,
            is_over: false,
        }
    }

    /// A packet from the peer.
    pub fn input(&mut self, now: Instant, bytes: &[u8]) {
        let from = self.connection.settings().remote;
        if let Some(packet) = packet::parse(bytes, from) {
            self.drive(now, Input::Packet(Ok((packet, from))));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.drive(now, Input::Timer);
    }

    /// False where there is no room for more payload now.
    pub fn has_room(&mut self, now: Instant) -> bool {
        self.connection.update_statistics(now);
        // The crate takes all, and drops from a full buffer: what one payload and its like bring must fit.
        let size = self.connection.settings().send_buffer_size.0;
        self.connection.statistics().tx_buffered_data < size - size / 32
    }

    pub fn send(&mut self, now: Instant, payload: Bytes) {
        self.drive(now, Input::Data(Some((now, payload))));
    }

    /// Ends it once the peer has what was sent.
    pub fn close(&mut self, now: Instant) {
        self.drive(now, Input::Data(None));
    }

    /// The next packet for the peer.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    /// The next payload from the peer, in order.
    pub fn payload(&mut self) -> Option<Bytes> {
        self.payloads.pop_front()
    }

    /// Packets that the peer asked for again when they were gone, most of them too late to be of use.
    pub fn late(&self) -> u64 {
        self.connection.statistics().tx_dropped_data
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn drive(&mut self, now: Instant, first: Input) {
        let mut input = first;
        while !self.is_over {
            input = match self.connection.handle_input(now, input) {
                Action::SendPacket((packet, _)) => {
                    self.packets.push_back(serialize(&packet));
                    Input::PacketSent
                }
                Action::ReleaseData((_, payload)) => {
                    self.payloads.push_back(payload);
                    Input::DataReleased
                }
                Action::UpdateStatistics(_) => Input::StatisticsUpdated,
                Action::WaitForData(wait) => {
                    self.deadline = Some(now + wait);
                    return;
                }
                Action::Close => {
                    self.is_over = true;
                    return;
                }
            };
        }
    }
}
