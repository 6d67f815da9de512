//! How the server says no to an RTMP client.

use super::{PATIENCE, server::Server, server::local};
use shardcast_protocols::rtmp::client::{Client, ClientError, ClientEvent, ClientOutput};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// What its answer makes of the client.
pub fn of(server: &Server, mut client: Client) -> ClientError {
    let mut socket = TcpStream::connect(local(server.ports.rtmp)).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut buffer = [0; 4096];
    loop {
        while let Some(output) = client.poll() {
            match output {
                ClientOutput::Send(bytes) => socket.write_all(&bytes).expect("send"),
                ClientOutput::Event(ClientEvent::Ready) => panic!("the client is let in"),
                ClientOutput::Event(_) => {}
            }
        }
        let count = socket.read(&mut buffer).expect("an answer");
        assert_ne!(count, 0, "the connection ended without an answer");
        if let Err(refused) = client.input(&buffer[..count]) {
            return refused;
        }
    }
}
