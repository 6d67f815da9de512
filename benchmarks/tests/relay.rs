//! The relay, with sockets of our own at both ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);
const PACKETS: u32 = 1000;

struct Relay {
    process: Child,
    /// Where clients come.
    address: String,
}

impl Relay {
    fn start(scheme: &str, target: &str, more: &[&str]) -> Self {
        let listen = format!("{scheme}://127.0.0.1:0");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardbench"));
        command.args(["relay", &listen, target]).args(more).stdout(Stdio::piped());
        let mut process = command.spawn().expect("start shardbench");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its first line");
        let address = line.split("://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, address }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The numbers of the packets that a relay lets through to the server and back again.
fn numbers_through(seed: &str) -> Vec<u32> {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let target = server.local_addr().expect("its address").to_string();
    let relay = Relay::start("udp", &target, &["--loss", "10", "--delay", "50", "--seed", seed]);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.connect(&relay.address).expect("connect");
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    }
    let begin = Instant::now();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let (len, from) = server.recv_from(&mut buffer).expect("a packet");
            server.send_to(&buffer[..len], from).expect("send");
            if buffer[..len] == PACKETS.to_be_bytes() {
                return;
            }
        }
    });
    let sender = client.try_clone().expect("a second handle");
    let send = thread::spawn(move || {
        for number in 0..PACKETS {
            sender.send(&number.to_be_bytes()).expect("send");
            if number % 16 == 0 {
                // Socket buffers hold no more at once.
                thread::sleep(Duration::from_millis(1));
            }
        }
        // The last one comes again and again, as it may get lost like others.
        loop {
            if sender.send(&PACKETS.to_be_bytes()).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut buffer = [0; 64];
    let mut numbers = Vec::new();
    loop {
        let len = client.recv(&mut buffer).expect("a packet");
        if numbers.is_empty() {
            assert!(begin.elapsed() >= Duration::from_millis(100), "there and back in {:?}", begin.elapsed());
        }
        let number = u32::from_be_bytes(buffer[..len].try_into().expect("four bytes"));
        if number == PACKETS {
            break;
        }
        numbers.push(number);
    }
    echo.join().expect("an echo");
    drop(relay);
    // The relay's port is closed: the next send fails.
    send.join().expect("a sender");
    numbers
}

#[test]
fn packets_get_lost_by_the_seed() {
    let numbers = numbers_through("3");
    // 90 % of 90 %.
    assert!((740..880).contains(&numbers.len()), "{} of {PACKETS} came back", numbers.len());
    assert!(numbers.is_sorted());
    assert_eq!(numbers, numbers_through("3"));
    assert_ne!(numbers, numbers_through("4"));
}

#[test]
fn tcp_comes_whole_late_and_at_its_rate() {
    const BYTES: usize = 750_000;
    let server = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let target = server.local_addr().expect("its address").to_string();
    // 6 Mbit/s are a second.
    let relay = Relay::start("tcp", &target, &["--delay", "150", "--rate", "6000"]);
    let sent: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let mut client = TcpStream::connect(&relay.address).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let begin = Instant::now();
    let (out, mut back) = (sent.clone(), client.try_clone().expect("a second handle"));
    let writer = thread::spawn(move || {
        client.write_all(&out).expect("write");
        client.shutdown(std::net::Shutdown::Write).expect("shut down");
    });
    let mut far = server.accept().expect("a connection").0;
    let mut got = Vec::new();
    far.read_to_end(&mut got).expect("read");
    let took = begin.elapsed();
    assert!(got == sent, "{} bytes came, or others than sent", got.len());
    assert!((Duration::from_millis(1_000)..Duration::from_secs(10)).contains(&took), "{took:?}");
    writer.join().expect("a writer");
    far.write_all(b"bye").expect("write");
    drop(far);
    let mut answer = String::new();
    back.read_to_string(&mut answer).expect("read");
    assert_eq!(answer, "bye");
}

#[test]
fn says_what_it_cannot_do() {
    let fails = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_shardbench")).arg("relay").args(arguments).output();
        let output = output.expect("start shardbench");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(
        fails(&["tcp://127.0.0.1:0", "127.0.0.1:9", "--loss", "1"]).contains("loss and reordering are for packets")
    );
    assert!(fails(&["127.0.0.1:0", "127.0.0.1:9"]).contains("neither with udp:// nor with tcp://"));
    assert!(fails(&["udp://127.0.0.1:0", "127.0.0.1:9", "--loss", "101"]).contains("not within 0 to 100"));
}
