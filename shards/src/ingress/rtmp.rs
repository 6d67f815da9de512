//! Driving one RTMP session.

use super::seat::{self, Seat};
use crate::{
    access::{self, Deed},
    connection::{Closed, Connection, Flow},
    net::socket::READ_BUFFER,
    shard::Shard,
    stream::Wire,
};
use glommio::{timer::sleep, yield_if_needed};
use shardcast_protocols::{
    rtmp::{
        handshake::Seed,
        reply::Identity,
        server::{Server, ServerConfig, ServerError},
        url,
    },
    session::{Event, Output, Refusal, Request, Session, Verdict},
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// A peer reads its answers within this time.
const READING: Duration = Duration::from_secs(10);
/// Between two tries to send answers to a peer that reads slowly.
const RETRY: Duration = Duration::from_millis(10);

/// Serves the connection to its end.
pub async fn serve(shard: &Rc<Shard>, connection: &Rc<Connection>) {
    let identity = Identity {
        id: connection.id.clone(),
        server_ip: connection.socket.local_ip(),
        pid: std::process::id().to_string(),
    };
    let mut driver = Driver {
        seat: Seat::new(shard, connection),
        session: Box::new(Server::new(Instant::now(), identity, seed(), ServerConfig::default())),
        cue: None,
    };
    if let Err(error) = driver.run().await {
        metrics::counter!("shardcast_session_errors_total", "protocol" => "rtmp").increment(1);
        connection.close(error.to_string());
    }
}

fn seed() -> Seed {
    let mut seed = Seed::default();
    // Without the kernel's generator the handshake is guessable, which harms nobody.
    let _ = getrandom::fill(&mut seed);
    seed
}

struct Driver<'s> {
    seat: Seat<'s>,
    /// In a box, so that neither block is much larger than what is in it.
    session: Box<Server>,
    /// A play that is allowed and not yet answered.
    cue: Option<Arc<Request>>,
}

impl Driver<'_> {
    async fn run(&mut self) -> Result<(), ServerError> {
        let connection = self.seat.connection;
        // The last read left something behind.
        let mut full = false;
        loop {
            connection.deadline.set(self.session.deadline());
            if self.seat.is_publishing() && !full {
                self.seat.shard.turn_to_read().await;
            }
            let session = &mut self.session;
            let read = connection
                .socket
                .read(&self.seat.shard.buffer, |bytes| {
                    connection.received.set(connection.received.get() + bytes.len() as u64);
                    full = bytes.len() == READ_BUFFER;
                    session.input(Instant::now(), bytes)
                })
                .await;
            let Ok(Some(result)) = read else {
                if connection.closed() == Some(Closed::Expired) {
                    self.session.expire(Instant::now())?;
                }
                return Ok(());
            };
            // A refusal goes out even where the session ends with it.
            // In a box: a session that only listens, as a player does, does not hold what answers need.
            let drained = Box::pin(self.drain()).await;
            result.and(drained)?;
            // A peer that always has more to say must not keep the shard from all others.
            yield_if_needed().await;
        }
    }

    /// Acts on all that the session has to say.
    async fn drain(&mut self) -> Result<(), ServerError> {
        let mut batch = Vec::new();
        let mut said = false;
        let mut result = Ok(());
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => {
                    self.seat.connection.say(&bytes);
                    said = true;
                }
                Output::Event(Event::Media(media)) => batch.push(media),
                Output::Event(event) => {
                    self.start();
                    self.seat.bring(std::mem::take(&mut batch)).await;
                    // In a box of its own, since commands are few.
                    result = result.and(Box::pin(self.act(event)).await);
                }
            }
        }
        self.start();
        self.seat.bring(batch).await;
        if said {
            self.settle().await;
        }
        result
    }

    /// Starts the play that was allowed: what it is answered with has been said.
    fn start(&mut self) {
        let config = self.seat.shard.config();
        if let Some(request) = self.cue.take()
            && let Some(vhost) = config.vhost(&request.vhost)
        {
            self.seat.connection.finale.set(request.duration.map(|_| self.session.finale()));
            self.seat.play(vhost, &request, Wire::rtmp(request.tracks));
        }
    }

    async fn act(&mut self, event: Event) -> Result<(), ServerError> {
        let config = self.seat.shard.config();
        let verdict = match event {
            Event::Connect(request) => match config.vhost(&request.vhost) {
                Some(vhost) => {
                    if let Some(client) = self.session.proxied_for() {
                        let (id, peer) = (&self.seat.connection.id, self.seat.connection.peer.get());
                        info!(cid = %id, "{peer} is a proxy, its client is {client}");
                    }
                    self.session.set_chunk_size(vhost.chunk_size);
                    self.session.set_timeouts(vhost.first_packet_timeout, vhost.normal_timeout);
                    access::connect(vhost, &request.page_url)
                }
                None => Verdict::Refused(Refusal::NoVhost(request.vhost.clone())),
            },
            Event::Publish(request) => match config.vhost(&request.vhost) {
                Some(vhost) => self.seat.publish(vhost, request).await,
                None => Verdict::Refused(Refusal::NoVhost(request.vhost.clone())),
            },
            Event::Play(request) => match config.vhost(&request.vhost) {
                Some(vhost) => {
                    let _ = self.seat.connection.socket.set_nodelay(vhost.tcp_nodelay || vhost.min_latency);
                    let (key, peer) = (seat::key(vhost, &request), self.seat.connection.peer.get());
                    let verdict = match self.seat.shard.room("rtmp", &key, peer).await {
                        Ok(()) => self.seat.admit(vhost, Deed::Play, &request).await,
                        Err(refusal) => Verdict::Refused(match &config.circuit_breaker.redirect_rtmp {
                            Some(base) if refusal == Refusal::Full => {
                                Refusal::Elsewhere(url::elsewhere(base, &vhost.name, &request))
                            }
                            _ => refusal,
                        }),
                    };
                    if verdict == Verdict::Allowed {
                        // A reload may have changed it since the player connected, while hooks were asked, or since the
                        // tape was made.
                        let config = self.seat.shard.config();
                        let vhost = config.vhost(&request.vhost).unwrap_or(vhost);
                        self.session.set_chunk_size(self.seat.shard.chunk_size(&key, vhost));
                        self.cue = Some(request);
                    }
                    verdict
                }
                None => Verdict::Refused(Refusal::NoVhost(request.vhost.clone())),
            },
            Event::Media(_) => return Ok(()),
            Event::Note(note) => {
                warn!(cid = %self.seat.connection.id, "publisher {note}");
                return Ok(());
            }
            Event::Pause(paused) => {
                self.seat.connection.cursor.borrow_mut().park(paused);
                self.seat.hurry();
                return Ok(());
            }
            Event::Receive(tracks) => {
                self.seat.switch(Wire::rtmp(tracks));
                return Ok(());
            }
            Event::Stop => {
                self.seat.stop();
                return Ok(());
            }
        };
        let done = self.session.verdict(Instant::now(), verdict);
        let base = config.circuit_breaker.redirect_rtmp.as_ref();
        let player = self
            .cue
            .as_deref()
            .zip(base)
            .and_then(|(request, base)| Some(url::elsewhere(base, &config.vhost(&request.vhost)?.name, request)));
        self.seat.connection.parting.set(self.session.parting(player.as_ref()));
        done
    }

    /// Sends answers. A player's wait for their boundary; anyone else reads on only when they are out.
    async fn settle(&self) {
        let connection = self.seat.connection;
        if self.seat.is_playing() {
            return self.seat.hurry();
        }
        connection.deadline.set(Some(Instant::now() + READING));
        while connection.flush(None) == Flow::Blocked {
            sleep(RETRY).await;
        }
    }
}
