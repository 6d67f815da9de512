//! One thread per shard that writes its recordings: files block, executors may not.

use super::file::{Ending, File};
use crate::hooks::{Client, Event, Farewell, Herald};
use std::{
    cell::Cell,
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tracing::{error, info};

/// Bytes that may wait for the disk before recorders hold back.
const WAITING: usize = 32 << 20;
/// What an order costs beside its bytes.
const ORDER_OVERHEAD: usize = 256;

/// The way to the writing thread. Orders are never refused; callers ask [`Disk::has_room`] before they make
/// bytes, so that what waits stays within [`WAITING`] and what one tick of each recorder adds.
pub struct Disk {
    /// Files so far.
    opened: Cell<u64>,
    orders: Sender<Order>,
    waiting: Arc<AtomicUsize>,
    /// The thread has done all and is gone.
    ended: Arc<AtomicBool>,
}

enum Order {
    Open { number: u64, path: PathBuf, client: Arc<Client>, failed: Arc<AtomicBool> },
    Write { number: u64, bytes: Vec<u8> },
    Close { number: u64, ending: Ending },
    Tell(Farewell),
    End,
}

impl Disk {
    pub fn start(name: String, herald: Herald) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let (waiting, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let disk = Self { opened: Cell::new(0), orders, waiting: waiting.clone(), ended: ended.clone() };
        thread::Builder::new().name(name).spawn(move || {
            write(inbox, &waiting, &herald);
            ended.store(true, Ordering::Release);
        })?;
        Ok(disk)
    }

    /// False while the disk cannot keep up.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < WAITING
    }

    /// Opens a file and gives its number; `failed` tells when that, or a write, has gone wrong.
    pub fn open(&self, path: PathBuf, client: Arc<Client>, failed: Arc<AtomicBool>) -> u64 {
        let number = self.opened.replace(self.opened.get() + 1);
        self.order(Order::Open { number, path, client, failed });
        number
    }

    pub fn write(&self, number: u64, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.order(Order::Write { number, bytes });
        }
    }

    pub fn close(&self, number: u64, ending: Ending) {
        self.order(Order::Close { number, ending });
    }

    /// Tells it when all before it is done.
    pub fn tell(&self, farewell: Farewell) {
        self.order(Order::Tell(farewell));
    }

    /// No more orders: the thread ends when it has done all.
    pub fn end(&self) {
        self.order(Order::End);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn order(&self, order: Order) {
        self.waiting.fetch_add(order.weight(), Ordering::Relaxed);
        // Fails only after the end, when nobody waits for it.
        let _ = self.orders.send(order);
    }
}

impl Order {
    fn weight(&self) -> usize {
        ORDER_OVERHEAD + if let Self::Write { bytes, .. } = self { bytes.len() } else { 0 }
    }
}

struct Open {
    file: File,
    client: Arc<Client>,
    failed: Arc<AtomicBool>,
}

fn write(inbox: Receiver<Order>, waiting: &AtomicUsize, herald: &Herald) {
    let mut files: HashMap<u64, Open> = HashMap::new();
    for order in inbox {
        let weight = order.weight();
        match order {
            Order::Open { number, path, client, failed } => match File::create(path) {
                Ok(file) => {
                    info!(cid = %client.id, "records to {}", file.path().display());
                    metrics::counter!("shardcast_recordings_opened_total").increment(1);
                    metrics::gauge!("shardcast_recordings").increment(1);
                    files.insert(number, Open { file, client, failed });
                }
                Err(wrong) => fail(&client.id, &failed, &wrong),
            },
            Order::Write { number, bytes } => {
                if let Some(open) = files.get_mut(&number) {
                    match open.file.write(&bytes) {
                        Ok(()) => metrics::counter!("shardcast_recorded_bytes_total").increment(bytes.len() as u64),
                        Err(wrong) => {
                            fail(&open.client.id, &open.failed, &wrong);
                            files.remove(&number);
                            metrics::gauge!("shardcast_recordings").decrement(1);
                        }
                    }
                }
            }
            Order::Close { number, ending } => {
                if let Some(Open { file, client, failed }) = files.remove(&number) {
                    metrics::gauge!("shardcast_recordings").decrement(1);
                    let path = file.path().to_owned();
                    match file.close(ending) {
                        Ok(len) => {
                            info!(cid = %client.id, "recorded {}, {len} bytes", path.display());
                            metrics::counter!("shardcast_recordings_closed_total").increment(1);
                            herald.tell(Event::Dvr { file: path }, &client);
                        }
                        Err(wrong) => fail(&client.id, &failed, &wrong),
                    }
                }
            }
            Order::Tell(farewell) => drop(farewell),
            Order::End => return,
        }
        waiting.fetch_sub(weight, Ordering::Relaxed);
    }
}

fn fail(cid: &str, failed: &AtomicBool, wrong: &impl std::fmt::Display) {
    error!(cid, "recording stops: {wrong}");
    metrics::counter!("shardcast_recording_errors_total").increment(1);
    failed.store(true, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Env};
    use shardcast_engine::key::{DEFAULT_VHOST, StreamKey};
    use std::{fs, process::Command};

    #[test]
    fn so_much_waits_for_a_disk_that_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.flv");
        // Who opens a pipe to write waits for its reader.
        let pipe = folder.path().join("a.flv.tmp");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (herald, _calls) = Herald::new(Arc::new(Config::built_in(&Env::default()).unwrap()));
        let disk = Disk::start("disk".into(), herald).unwrap();
        let key = StreamKey::new(DEFAULT_VHOST, "live", "a");
        let client = Arc::new(Client::new("cid", [127, 0, 0, 1].into(), key, Arc::default()));
        let failed = Arc::<AtomicBool>::default();
        let number = disk.open(path.clone(), client, failed.clone());
        let megabytes = (0..100).take_while(|_| {
            let has_room = disk.has_room();
            if has_room {
                disk.write(number, vec![7; 1 << 20]);
            }
            has_room
        });
        assert_eq!(megabytes.count(), 32);
        let reader = thread::spawn(move || fs::read(pipe).unwrap().len());
        disk.close(number, Ending::Nothing);
        disk.end();
        assert_eq!(reader.join().unwrap(), 32 << 20);
        while !disk.has_ended() {
            thread::yield_now();
        }
        assert!(disk.has_room() && !failed.load(Ordering::Relaxed) && path.exists());
    }
}
