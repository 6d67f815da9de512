//! Acknowledgement of received bytes (RTMP 1.0 §5.4.3, §5.4.4).

#[derive(Clone, Copy, Debug, Default)]
pub struct Acks {
    /// The peer's Window Ack Size; 0 while it has not set one.
    pub window: u32,
    received: u64,
    acked: u64,
}

impl Acks {
    pub fn receive(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// The sequence number to send, if a window's worth of bytes came since the last.
    pub fn due(&mut self) -> Option<u32> {
        let due = self.window > 0 && self.received - self.acked >= u64::from(self.window);
        due.then(|| {
            self.acked = self.received;
            // Sequence numbers wrap at 32 bits.
            self.received as u32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_bytes_is_acknowledged_once() {
        let mut acks = Acks::default();
        acks.receive(5000);
        assert_eq!(acks.due(), None);
        acks.window = 1000;
        assert_eq!(acks.due(), Some(5000));
        acks.receive(999);
        assert_eq!(acks.due(), None);
        acks.receive(1);
        assert_eq!(acks.due(), Some(6000));
        acks.receive(u32::MAX as usize);
        assert_eq!(acks.due(), Some(5999));
    }
}
